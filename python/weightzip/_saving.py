"""Saves what a library writes, with its safetensors files compressed."""

import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import weightzip

NO_PUSH = (
    "push_to_hub isn't taken here; save without it, then upload the folder: hf upload OWNER/NAME {}"
)

SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def save_compressed(
    save: Callable[[Path], object], folder: str | os.PathLike[str], level: str
) -> None:
    """Lets `save` write into a folder beside the target, compresses that, and moves it to the target.

    So the files are exactly those that the library writes, and a save that fails changes nothing of an
    earlier one. Weights of an earlier save under the same name, plain or compressed, go.
    """
    target = Path(folder).absolute()
    target.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.saving-", dir=target.parent))
    try:
        save(made)
        for plain in sorted(made.rglob("*.safetensors")):
            _compress(plain, level)
        _move(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _compress(plain: Path, level: str) -> None:
    with (
        plain.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        weightzip.write([content], plain.with_name(f"{plain.name}.wz"), level)
    plain.unlink()


def _move(made: Path, target: Path) -> None:
    files = sorted(path for path in made.rglob("*") if path.is_file())
    for path in files:
        place = target / path.relative_to(made)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
    for path in files:
        if path.name.endswith(".safetensors.wz"):
            _remove_others(target / path.relative_to(made), {f.name for f in files})


def _remove_others(weights: Path, kept: set[str]) -> None:
    """Removes what an earlier save left of the same weights: a loader might take it for them."""
    stem = SHARD.sub("", weights.name.removesuffix(".safetensors.wz"))
    same = re.compile(re.escape(stem) + r"(-\d{5}-of-\d{5})?\.safetensors(\.wz|\.index\.json)?")
    for path in weights.parent.iterdir():
        if same.fullmatch(path.name) and path.name not in kept:
            path.unlink()
