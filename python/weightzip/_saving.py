"""Saves what a library writes, with its safetensors files compressed."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import weightzip
from weightzip._repository import weights_of
from weightzip._safetensors import LOSSY_SUFFIX, SUFFIX
from weightzip._weightzip import base_files
from weightzip.archive import Base, Lossy
from weightzip.errors import InvalidArgumentError

NO_PUSH = (
    "push_to_hub isn't taken here; save without it, then upload the folder: hf upload OWNER/NAME {}"
)

_WORK = ".wz-saving-"
# A save takes its lock within this time after it made its folder.
_STARTING_SECONDS = 60


def save_compressed(
    save: Callable[[Path], object], folder: str | os.PathLike[str], level: str, base: Base, lossy: Lossy
) -> None:
    """Lets `save` write into a new folder inside the target, compresses that, and moves its files to the target.

    So the files are exactly those that the library writes, and a save that fails changes nothing of an
    earlier one. Weights of an earlier save under the same name, plain or compressed, in one file or in shards, go: so
    none of them may be the base.
    """
    target = Path(folder).absolute()
    target.mkdir(parents=True, exist_ok=True)
    with _work_folder(target) as made:
        save(made)
        for plain in sorted(made.rglob("*.safetensors")):
            _compress(plain, level, base, lossy)
        _move(made, target, base)


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """A private folder inside another one, so that files are moved within one file system. Removes it at the end."""
    for left in target.glob(f"{_WORK}*"):
        with suppress(OSError):
            _remove_if_left(left)
    made = Path(tempfile.mkdtemp(prefix=_WORK, dir=target))
    lock = _lock(made)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _remove_if_left(folder: Path) -> None:
    """Removes the folder of a save that was killed: one that is still at work holds its lock, or is about to."""
    if time.time() - folder.stat().st_mtime < _STARTING_SECONDS:
        return
    lock = _lock(folder)
    if lock is not None:
        shutil.rmtree(folder)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Holds a folder's lock until this descriptor is closed; None if another process has it, or there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        return None
    return opened


def _compress(plain: Path, level: str, base: Base, lossy: Lossy) -> None:
    with (
        plain.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        target = plain.with_name(plain.name + (SUFFIX if lossy is None else LOSSY_SUFFIX))
        weightzip.write([content], target, level, base=base, lossy=lossy)
    plain.unlink()


def _move(made: Path, target: Path, base: Base) -> None:
    files = sorted(path for path in made.rglob("*") if path.is_file())
    places = {path: target / path.relative_to(made) for path in files}
    weights = {path: place for path, place in places.items() if place.name.endswith(SUFFIX)}
    outdated = _outdated(weights.values(), set(places.values()))
    _spare(base, [*places.values(), *outdated])
    # What says which shards there are comes last: a save that is interrupted is no complete one.
    _move_all(weights)
    for path in outdated:
        path.unlink()
    _move_all({path: place for path, place in places.items() if path not in weights})


def _move_all(places: dict[Path, Path]) -> None:
    for path, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)


def _outdated(weights: Iterable[Path], kept: set[Path]) -> list[Path]:
    """What an earlier save left of the same weights: a loader might take it for them."""
    saved = {(place.parent, weights_of(place.name)) for place in weights}
    folders = {folder for folder, _ in saved if folder.is_dir()}
    there = [path for folder in sorted(folders) for path in sorted(folder.iterdir())]
    return [path for path in there if (path.parent, weights_of(path.name)) in saved and path not in kept]


def _spare(base: Base, lost: Iterable[Path]) -> None:
    """Raises if a base would be lost: then nothing could be restored."""
    files = set() if base is None else set(base_files(base))
    for path in lost:
        if path.resolve() in files:
            raise InvalidArgumentError(
                "this file is the base, or the base needs it: save into another folder", file=str(path)
            )
