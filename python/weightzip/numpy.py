"""NumPy arrays in compressed files: the calls of `safetensors.numpy`.

A file whose name ends in `.wz` is written compressed, any other one as plain safetensors. Both are
read; if there is no `X`, then `X.wz` is read for it. Numbers that NumPy lacks (bfloat16, the 8-bit
floats) are those of the package ml_dtypes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy as plain

from weightzip import _safetensors
from weightzip._safe_open import SafeOpen
from weightzip._safe_open import safe_open as _safe_open
from weightzip._safetensors import (
    Part,
    check_names,
    is_compressed,
    is_wz,
    is_wz_data,
    locate,
    open_safetensors,
    refuse_lossy,
)
from weightzip.archive import Archive, Base, Lossy, Progress, TensorInfo
from weightzip.errors import CompatibilityError, InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["load", "load_file", "safe_open", "save", "save_file"]

Array = np.ndarray[Any, Any]

# By NumPy's or ml_dtypes' name: what safetensors calls it.
_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
_OF_ML_DTYPES = {"bfloat16"} | {name for name in _NAMES if name.startswith("float8")}


def save_file(
    tensor_dict: dict[str, Array],
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    *,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    progress: Progress | None = None,
) -> None:
    """Saves arrays into a file; compressed, if its name ends in `.wz`.

    What decompresses from there is the file that safetensors would have written. `level`,
    `base`, `lossy` and `progress` (see `weightzip.write`) are for compressed files.
    """
    arrays = _checked(tensor_dict)
    if is_wz(filename):
        _safetensors.write(_parts(arrays), metadata, filename, level, base, lossy, progress)
    else:
        refuse_lossy(lossy)
        plain.save_file(arrays, filename, metadata)


def save(
    tensor_dict: dict[str, Array],
    metadata: dict[str, str] | None = None,
    *,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    progress: Progress | None = None,
) -> bytes:
    """The bytes of a `.wz` of arrays."""
    return _safetensors.write_bytes(_parts(_checked(tensor_dict)), metadata, level, base, lossy, progress)


def load_file(
    filename: str | os.PathLike[str],
    *,
    backend: str = "mmap",
    base: Base = None,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Loads all arrays of a file, plain or compressed.

    `backend` is how safetensors reads a plain one; `base` is where a compressed one finds what it is
    coded against (see `weightzip.open`), and `progress` is told of that one.
    """
    path = locate(filename)
    if not is_compressed(path):
        return plain.load_file(path, backend=backend)
    with SafeOpen(path, NumPy(), base) as file:
        return file.get_tensors(progress=progress)


def load(data: Buffer, *, base: Base = None) -> dict[str, Array]:
    """Loads all arrays from the bytes of a file, plain or compressed.

    `base` is where a compressed one finds what it is coded against (see `weightzip.open`).
    """
    if not is_wz_data(data):
        return plain.load(data if isinstance(data, bytes) else bytes(data))
    with open_safetensors(data, base) as archive:
        return NumPy().tensors(archive, None)


def safe_open(
    filename: str | os.PathLike[str],
    framework: str = "np",
    device: str | int = "cpu",
    *,
    backend: str = "mmap",
    base: Base = None,
) -> Any:
    """`weightzip.safe_open`, for NumPy unless another framework is named."""
    return _safe_open(filename, framework, device, backend=backend, base=base)


class NumPy:
    """Makes arrays of memory."""

    def __init__(self, device: str | int = "cpu"):
        if device != "cpu":
            raise InvalidArgumentError(f"arrays of NumPy are on device 'cpu', not {device!r}")

    def shape(self, info: TensorInfo) -> tuple[int, ...]:
        return info.shape

    def tensor(self, memory: memoryview, info: TensorInfo, shape: tuple[int, ...]) -> Array:
        return np.frombuffer(memory, _dtype(info)).reshape(shape)

    def part(self, tensor: Array, index: Any) -> Array:
        part = np.asarray(tensor[index], tensor.dtype)
        return part.copy() if 2 * part.nbytes < tensor.nbytes else part

    def tensors(
        self, archive: Archive, progress: Progress | None, names: Iterable[str] | None = None
    ) -> dict[str, Array]:
        memory = archive.read_many(names, progress=progress)
        infos = archive.tensors
        return {name: self.tensor(data, infos[name], infos[name].shape) for name, data in memory.items()}


# In native byte order where that is the file's: Python's memoryview takes no other.
_DTYPES = {
    dtype: np.dtype(name) if sys.byteorder == "little" else np.dtype(name).newbyteorder("<")
    for name, dtype in _NAMES.items()
    if name not in _OF_ML_DTYPES
}


def _dtype(info: TensorInfo) -> np.dtype[Any]:
    found = _DTYPES.get(info.dtype)
    return found if found is not None else _dtype_of_ml_dtypes(info)


def _dtype_of_ml_dtypes(info: TensorInfo) -> np.dtype[Any]:
    name = next((name for name in _OF_ML_DTYPES if _NAMES[name] == info.dtype), None)
    if name is None:
        raise CompatibilityError(f"NumPy has no dtype for {info.dtype}", tensor=info.name)
    import ml_dtypes

    return _DTYPES.setdefault(info.dtype, np.dtype(getattr(ml_dtypes, name)))


def _checked(tensor_dict: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays without gaps, which safetensors would write wrong; in the byte order of files."""
    if not isinstance(tensor_dict, dict):
        raise InvalidArgumentError(f"expected a dict of str to numpy.ndarray, not {type(tensor_dict).__name__}")
    check_names(tensor_dict)
    for name, array in tensor_dict.items():
        _check(name, array)
    return {name: _plain(array) for name, array in tensor_dict.items()}


def _check(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise InvalidArgumentError(f"this tensor must be a numpy.ndarray, not {type(array).__name__}", tensor=name)
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidArgumentError(
            "this tensor is a MaskedArray, whose mask would be lost: save its `.data` or `.filled()`", tensor=name
        )
    if array.dtype.name not in _NAMES:
        raise InvalidArgumentError(
            f"this tensor has dtype {array.dtype}, which safetensors files can't hold", tensor=name
        )


def _plain(array: Array) -> Array:
    # Of a subclass, such as a matrix, the numbers are saved.
    little = np.asarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return little if little.flags.c_contiguous else little.copy("C")


def _parts(arrays: dict[str, Array]) -> Iterator[Part]:
    for name, array in arrays.items():
        yield Part(name, _NAMES[array.dtype.name], array.shape, array.nbytes, partial(_memory, array))


def _memory(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
