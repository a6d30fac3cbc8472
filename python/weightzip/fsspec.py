"""The original files of `.wz` for all that reads through fsspec: `wz::s3://bucket/model.safetensors.wz`.

Importing this registers the protocol `wz`, which an installed package does by itself, and `.wz` for `compression="infer"`.
"""

import io
from collections.abc import Callable
from typing import Any, NoReturn

import fsspec
from fsspec.compression import register_compression
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.implementations.local import LocalFileSystem

import weightzip
from weightzip._original import Original
from weightzip._safetensors import SUFFIX, SUFFIXES, original_name
from weightzip.archive import Archive, Base
from weightzip.errors import WeightzipError

__all__ = ["OriginalFile", "WeightzipFileSystem"]

# Small reads take as much at once, which is about a block; large ones are decoded in pieces.
_BUFFER = 128 << 10
_PIECE = 32 << 20


class WeightzipFileSystem(ChainedFileSystem):
    """Another filesystem, read-only, in which each `X.wz` is the file `X` that was compressed.

    `X` is that file, or if there is none, the original of `X.wz` or of `X.lossy.wz`, which was rounded; `X.wz` is always the original. Other files are as they are. Any
    filesystem will do that reads at random; of a remote one only the blocks that are needed are read.
    """

    protocol = "wz"

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        fs: Any = None,
        base: Base = None,
        **storage_options: Any,
    ) -> None:
        """Wraps `fs`, or the filesystem of a protocol: local files, if neither is given.

        `base` is where files find what they are coded against (see `weightzip.open`).
        """
        super().__init__(**storage_options)
        self.fs = fs or fsspec.filesystem(target_protocol or "file", **(target_options or {}))
        self.base = base
        stripped = super()._strip_protocol
        # A path is one of the filesystem below, which has its own way to write it.
        self._strip_protocol: Callable[[str], str] = lambda path: self.fs._strip_protocol(stripped(path))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """What is known of a file or folder; of an original its own size. Opens a `.wz` to know that."""
        below, compressed = self._below(path)
        info = self.fs.info(below, **kwargs)
        return self._original_info(info) if compressed and info["type"] == "file" else info

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """The files of a folder, by the names of the originals. With `detail`, opens each `.wz` for its size."""
        path = self._strip_protocol(path)
        try:
            entries = self.fs.ls(path, detail=True, **kwargs)
        except FileNotFoundError:
            entries = []
        if not entries and not self.fs.isdir(path):
            info = self.info(path)
            return [info] if detail else [info["name"]]
        names = {entry["name"] for entry in entries}
        shown = []
        for entry in entries:
            original = original_name(entry["name"])
            if entry["type"] != "file" or original == entry["name"]:
                shown.append(entry)
            elif names.isdisjoint(_before(entry["name"], original)):
                shown.append(self._entry(entry) if detail else {"name": original})
        return shown if detail else sorted(entry["name"] for entry in shown)

    def created(self, path: str) -> Any:
        """When the file below was made, if that filesystem knows."""
        return self.fs.created(self._below(path)[0])

    def modified(self, path: str) -> Any:
        """When the file below was changed, if that filesystem knows."""
        return self.fs.modified(self._below(path)[0])

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path."""
        return f"wz::{self.fs.unstrip_protocol(self._strip_protocol(name))}"

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode != "rb":
            self._refuse()
        below, compressed = self._below(path)
        if not compressed:
            return self.fs.open(below, mode, **kwargs)
        return self._open_original(below, **kwargs)

    def _below(self, path: str) -> tuple[str, bool]:
        """The file that has what a path stands for, and whether that is its original."""
        path = self._strip_protocol(path)
        if path.endswith(SUFFIX):
            return path, True
        if not self.fs.exists(path):
            for suffix in SUFFIXES:
                if self.fs.exists(path + suffix):
                    return path + suffix, True
        return path, False

    def _open_original(self, below: str, **kwargs: Any) -> "OriginalFile":
        if isinstance(self.fs, LocalFileSystem):  # read by its name, beside which its bases are
            return OriginalFile(weightzip.open(below, base=self.base), below)
        file = self.fs.open(below, "rb", **kwargs)
        try:
            return OriginalFile(weightzip.open(file, base=self.base), below, file)
        except BaseException:
            file.close()
            raise

    def _original_info(self, info: dict[str, Any]) -> dict[str, Any]:
        with self._open_original(info["name"], cache_type="none") as file:
            name = original_name(info["name"])
            return info | {"name": name, "size": file.size, "blake3": file.archive.info.blake3}

    def _entry(self, info: dict[str, Any]) -> dict[str, Any]:
        """An original in a list; what only has the name of a `.wz` doesn't keep others from being listed."""
        try:
            return self._original_info(info)
        except WeightzipError:
            return info

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise io.UnsupportedOperation("wz is for reading: write a .wz with `weightzip.write`")

    mkdir = makedirs = rmdir = _rm = cp_file = mv = _refuse


def _before(name: str, original: str) -> list[str]:
    """The files that are shown for an original before this one, if they are there."""
    order = [original, *(original + suffix for suffix in SUFFIXES)]
    return order[: order.index(name)]


class OriginalFile(io.BufferedReader):
    """The original of an open `.wz`, as a file. Decodes what is read, and closes the archive with itself."""

    def __init__(self, archive: Archive, name: str | None = None, below: Any = None) -> None:
        """`below` is what the archive reads from, if that is to be closed, too."""
        self.archive = archive
        self.size = archive.info.original_bytes
        super().__init__(_Raw(archive, name, below), _BUFFER)


class _Raw(Original):
    most = _PIECE

    def __init__(self, archive: Archive, name: str | None, below: Any) -> None:
        super().__init__(archive)
        self.name = name
        self._below = below

    def close(self) -> None:
        if not self.closed:
            self.archive.close()
            if self._below is not None:
                self._below.close()
        super().close()


def _decompressed(file: Any, mode: str = "rb", **_: Any) -> OriginalFile:
    """What `fsspec.open(..., compression="infer")` gives for a `.wz`."""
    if "r" not in mode:
        raise io.UnsupportedOperation("a .wz is written by `weightzip.write`, not through fsspec")
    return OriginalFile(weightzip.open(file), getattr(file, "name", None))


fsspec.register_implementation("wz", WeightzipFileSystem, clobber=True)
register_compression("wz", _decompressed, "wz", force=True)
