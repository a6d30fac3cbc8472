"""Saves what a library writes, with its safetensors files compressed."""

import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import weightzip
from weightzip._weightzip import base_files
from weightzip.archive import Base, Lossy
from weightzip.errors import InvalidArgumentError

NO_PUSH = (
    "push_to_hub isn't taken here; save without it, then upload the folder: hf upload OWNER/NAME {}"
)

SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def save_compressed(
    save: Callable[[Path], object], folder: str | os.PathLike[str], level: str, base: Base, lossy: Lossy
) -> None:
    """Lets `save` write into a folder beside the target, compresses that, and moves it to the target.

    So the files are exactly those that the library writes, and a save that fails changes nothing of an
    earlier one. Weights of an earlier save under the same name, plain or compressed, go: so none of them
    may be the base.
    """
    target = Path(folder).absolute()
    target.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.saving-", dir=target.parent))
    try:
        save(made)
        for plain in sorted(made.rglob("*.safetensors")):
            _compress(plain, level, base, lossy)
        _move(made, target, base)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _compress(plain: Path, level: str, base: Base, lossy: Lossy) -> None:
    with (
        plain.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        target = plain.with_name(f"{plain.name}.wz")
        weightzip.write([content], target, level, base=base, lossy=lossy)
    plain.unlink()


def _move(made: Path, target: Path, base: Base) -> None:
    files = sorted(path for path in made.rglob("*") if path.is_file())
    places = {path: target / path.relative_to(made) for path in files}
    names = {path.name for path in files}
    weights = [place for place in places.values() if place.name.endswith(".safetensors.wz")]
    outdated = {path for place in weights for path in _others(place, names)}
    _spare(base, [*places.values(), *outdated])
    for path, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
    for path in outdated:
        path.unlink()


def _others(weights: Path, kept: set[str]) -> list[Path]:
    """What an earlier save left of the same weights: a loader might take it for them."""
    if not weights.parent.is_dir():
        return []
    stem = SHARD.sub("", weights.name.removesuffix(".safetensors.wz"))
    same = re.compile(re.escape(stem) + r"(-\d{5}-of-\d{5})?\.safetensors(\.wz|\.index\.json)?")
    there = weights.parent.iterdir()
    return [path for path in there if same.fullmatch(path.name) and path.name not in kept]


def _spare(base: Base, lost: Iterable[Path]) -> None:
    """Raises if a base would be lost: then nothing could be restored."""
    files = set() if base is None else set(base_files(base))
    for path in lost:
        if path.resolve() in files:
            raise InvalidArgumentError(
                "this file is the base, or the base needs it: save into another folder", file=str(path)
            )
