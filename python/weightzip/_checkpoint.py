"""What `torch.save` writes, compressed: a `.wz` of the very file, read through it without unpacking it first."""

from __future__ import annotations

import io
import mmap
import tempfile
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

import weightzip
from weightzip._original import Original
from weightzip._safetensors import is_wz, is_wz_data, locate, refuse_lossy
from weightzip.archive import Base, Lossy, Progress
from weightzip.errors import InvalidArgumentError

# Bytes that are decoded at a time for small reads.
_READ = 1 << 20


def save(
    obj: object,
    file: Any,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    level: str,
    base: Base,
    lossy: Lossy,
    progress: Progress | None,
) -> None:
    """Writes an object with `torch.save`: plain under a name that doesn't end in `.wz`."""
    if not hasattr(file, "write") and not is_wz(file):
        refuse_lossy(lossy)
        torch.save(obj, file, *arguments, **options)
        return
    compress(obj, file, arguments, options, level, base, lossy, progress)


def compress(
    obj: object,
    file: Any,
    arguments: tuple[Any, ...] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    progress: Progress | None = None,
) -> None:
    """Writes what `torch.save` does, compressed, whatever the file is called."""
    with tempfile.TemporaryFile() as plain:
        torch.save(obj, plain, *arguments, **options)
        plain.flush()
        with mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as content:
            weightzip.write([content], file, level, base=base, lossy=lossy, progress=progress)


def load(file: Any, base: Base, options: dict[str, Any]) -> Any:
    """Reads a file, plain or compressed, with `torch.load`."""
    if not hasattr(file, "read"):
        file = locate(file)
        with open(file, "rb") as start:
            compressed = is_wz_data(start.read(8))
    else:
        at = file.tell()
        compressed = is_wz_data(file.read(8))
        file.seek(at)
    if not compressed:
        return torch.load(file, **options)
    if options.get("mmap"):
        raise InvalidArgumentError(
            "a compressed file can't be mapped into memory: load it without mmap",
            file=file if isinstance(file, str) else None,
        )
    with weightzip.open(file, base=base) as archive:
        return torch.load(io.BufferedReader(Original(archive), _READ), **options)
