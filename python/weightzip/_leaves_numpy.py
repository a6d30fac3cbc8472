"""Arrays of NumPy as leaves of a state (`_state.Kind`)."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from weightzip.archive import Archive
from weightzip.numpy import _NAMES, Array, NumPy


def describe(array: Array) -> tuple[str, tuple[int, ...], str | None]:
    if type(array) not in (np.ndarray, np.memmap):
        raise ValueError(f"is a {type(array).__name__}, which is more than an array: save `numpy.asarray` of it")
    kind = array.dtype
    if kind.name in _NAMES and kind == kind.newbyteorder("<"):
        return _NAMES[kind.name], array.shape, None
    if kind.kind in "OV" or not kind.itemsize:
        raise ValueError(f"has dtype {kind}, which can't be saved: make it numbers")
    return "U8", (*array.shape, kind.itemsize), kind.str


def identity(array: Array) -> Hashable:
    place: int = array.__array_interface__["data"][0]
    return (place, array.dtype.str, array.shape, array.strides) if array.size else None


def address(array: Array) -> int | None:
    return array.ctypes.data if array.flags.c_contiguous else None


def copy(array: Array, room: memoryview) -> None:
    np.copyto(np.frombuffer(room, array.dtype).reshape(array.shape), array)


def load(archive: Archive, names: list[str], device: object) -> dict[str, Array]:
    return NumPy().tensors(archive, None, names)


def noted(array: Array, note: str) -> Array:
    return np.frombuffer(array.data, np.dtype(note)).reshape(array.shape[:-1])
