"""What `torch.save` writes, compressed: a `.wz` of the very file, read through it without unpacking it first."""

from __future__ import annotations

import io
import mmap
import os
import tempfile
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

import weightzip
from weightzip._safetensors import is_wz, is_wz_data, locate, refuse_lossy
from weightzip.archive import Archive, Base, Lossy, Progress
from weightzip.errors import InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import Buffer

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


class Original(io.RawIOBase):
    """The original of a `.wz` as a file: what is read is decoded then."""

    def __init__(self, archive: Archive):
        self._archive = archive
        self._size = archive.info.original_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"can't seek to {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, out: Buffer) -> int:
        into = memoryview(out).cast("B")
        stop = min(self._at + into.nbytes, self._size)
        if stop <= self._at:
            return 0
        part = self._archive.original(self._at, stop)
        into[: part.nbytes] = part
        self._at = stop
        return part.nbytes
