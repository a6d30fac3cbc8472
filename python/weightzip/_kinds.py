"""What a file is, by its first bytes, whatever it is called."""

from __future__ import annotations

import os

MAGIC = b"\x89WZ\r\n\x1a\n\x00"
# Enough to tell all kinds.
START = 40

_SAFETENSORS = "a plain safetensors file"
# How torch.save begins a file: as a zip archive, and as it did before PyTorch 1.6.
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_NO_WZ = {
    _ZIP: "a zip archive, as torch.save and numpy.savez write",
    _PICKLE: "a pickle",
    b"GGUF": "a plain GGUF file",
    b"\x93NUMPY": "a plain NumPy array",
    b"\x89HDF\r\n\x1a\n": "a plain HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
}
_POINTER = b"version https://git-lfs.github.com/spec/"


def is_wz(start: bytes) -> bool:
    """Whether a file that begins with this is a `.wz`."""
    return start.startswith(MAGIC)


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins with this may be a plain safetensors file."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32


def is_checkpoint(start: bytes) -> bool:
    """Whether a file that begins with this may be what torch.save wrote."""
    return start.startswith((_ZIP, _PICKLE))


def why_no_wz(start: bytes) -> str | None:
    """What a file is that was taken for a `.wz`, and what to do; None if that can't be told."""
    if start.startswith(_POINTER):
        return "this is a pointer of Git LFS, whose file was not downloaded: get it with git lfs pull"
    kind = next((kind for magic, kind in _NO_WZ.items() if start.startswith(magic)), None)
    if is_safetensors(start):
        kind = f"{_SAFETENSORS}; weightzip.safe_open and load_file read it"
    return None if kind is None else f"this is not a .wz file, but {kind}: compress it with `wz compress` first"


def start_of(path: str | os.PathLike[str]) -> bytes:
    """What a file begins with."""
    with open(path, "rb") as file:
        return file.read(START)
