"""What `torch.save` writes, compressed: a `.wz` of the very file, read through it without unpacking it first."""

from __future__ import annotations

import io
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

import weightzip
from weightzip import _kinds
from weightzip._original import Original
from weightzip._safetensors import is_wz, locate, refuse_lossy
from weightzip.archive import Archive, Base, Lossy, Progress
from weightzip.errors import InvalidArgumentError, ReadWriteError

# Bytes that are decoded at a time for small reads.
_READ = 1 << 20


def save(
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    level: str,
    base: Base,
    lossy: Lossy,
    progress: Progress | None,
) -> None:
    """Writes an object with `torch.save`, whose arguments these are: plain under a name that doesn't end in `.wz`."""
    obj, file, arguments, options = _taken(arguments, options, ["obj", "f"])
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
    """Writes what `torch.save` does, compressed, whatever the file is called.

    Its directory is at its end, and is needed first: so the plain file is written for a while, without a name, beside the
    target.
    """
    folder = _folder(file)
    with tempfile.TemporaryFile(dir=folder) as plain:
        _write_plain(obj, plain, folder or tempfile.gettempdir(), arguments, options)
        with mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as content:
            weightzip.write([content], file, level, base=base, lossy=lossy, progress=progress)


def _folder(file: Any) -> str | None:
    """Where a file will be; None if that is no place for another one."""
    if hasattr(file, "write"):
        return None
    path = os.path.realpath(os.fsdecode(file))
    if os.path.exists(path) and not os.path.isfile(path):  # such as a pipe
        return None
    folder = os.path.dirname(path)
    os.stat(folder)  # raises if there is none
    return folder


def _write_plain(
    obj: object, plain: Any, folder: str, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> None:
    """Has torch write a file. If there is no room, says so: torch's error is about positions in the file."""
    sink = _Sink(plain)
    try:
        torch.save(obj, sink, *arguments, **options)
        sink.flush()
    except Exception:
        if sink.failed is None:
            raise
        why = sink.failed.strerror or sink.failed
        raise ReadWriteError(
            f"can't write the plain checkpoint, which takes room until it is compressed: {why}", file=folder
        ) from sink.failed


class _Sink(io.RawIOBase):
    """Writes to a file, and keeps what went wrong."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self.failed: OSError | None = None

    def write(self, data: Any) -> int:
        return int(self._note(self._file.write, data))

    def flush(self) -> None:
        if not self._file.closed:
            self._note(self._file.flush)

    def _note(self, do: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return do(*arguments)
        except OSError as error:
            self.failed = error
            raise


def _taken(arguments: tuple[Any, ...], options: dict[str, Any], names: list[str]) -> tuple[Any, ...]:
    """The arguments of these names, the first ones of a function; and what else it was given."""
    options = dict(options)
    given = list(arguments[: len(names)])
    for name in names[len(given) :]:
        if name not in options:
            raise TypeError(f"missing argument: {name!r}")
        given.append(options.pop(name))
    return (*given, arguments[len(names) :], options)


def load(arguments: tuple[Any, ...], options: dict[str, Any], base: Base) -> Any:
    """Reads a file, plain or compressed, with `torch.load`, whose arguments these are."""
    file, arguments, options = _taken(arguments, options, ["f"])
    if hasattr(file, "read"):
        at = file.tell()
        start = file.read(_kinds.START)
        file.seek(at)
        compressed = _kinds.is_wz(start)
    else:
        file = locate(file)
        start = _kinds.start_of(file)
        # A name is asked where the bytes say nothing: then the error is that of a `.wz`.
        compressed = _kinds.is_wz(start) or (is_wz(file) and not _kinds.is_checkpoint(start))
    if not compressed:
        return torch.load(file, *arguments, **options)
    if options.get("mmap"):
        raise InvalidArgumentError(
            "a compressed file can't be mapped into memory: load it without mmap",
            file=file if isinstance(file, str) else None,
        )
    with weightzip.open(_Rest(file) if hasattr(file, "read") and at else file, base=base) as archive:
        _refuse_other(archive, file if isinstance(file, str) else None)
        return _load_original(archive, arguments, options)


def _load_original(archive: Archive, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    original = _Noting(archive)
    try:
        return torch.load(io.BufferedReader(original, _READ), *arguments, **options)
    except Exception:
        if original.failed is not None:
            # torch would say that the pickle is not to be trusted.
            raise original.failed from None
        raise


class _Noting(Original):
    """An original that keeps what went wrong: torch has errors of its own for that."""

    failed: Exception | None = None

    def readinto(self, out: Any) -> int:
        try:
            return super().readinto(out)
        except Exception as error:
            self.failed = error
            raise


class _Rest:
    """What a file-like object has from where it is on, as a file."""

    def __init__(self, file: Any) -> None:
        self._file, self._start = file, file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = self._file.seek(offset + (self._start if whence == os.SEEK_SET else 0), whence)
        return int(at) - self._start

    def read(self, count: int) -> bytes:
        return bytes(self._file.read(count))


def _refuse_other(archive: Archive, file: str | None) -> None:
    """Raises for a file that torch knows nothing of: its own error would be about trust."""
    # What is "opaque" here may be a pickle.
    if archive.info.format not in ("pytorch", "opaque"):
        raise InvalidArgumentError(
            f"this .wz holds no checkpoint of torch.save, its format is {archive.info.format}: "
            "read it with `weightzip.open`, or safetensors files with `load_file`",
            file=file,
        )
