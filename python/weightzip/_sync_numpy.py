"""What weightzip.sync does with arrays of NumPy."""

from functools import partial
from typing import Any

from weightzip._safetensors import Part
from weightzip.archive import TensorInfo
from weightzip.numpy import _NAMES, Array, _check, _memory, _plain
from weightzip.numpy import NumPy as _NumPy
from weightzip.sync import Place


class NumPy:
    """Arrays of NumPy, of any strides and byte order."""

    format = "np"

    def part(self, name: str, tensor: Any) -> Part:
        _check(name, tensor)
        return Part(name, _NAMES[tensor.dtype.name], tensor.shape, tensor.nbytes, partial(_plain_memory, tensor))

    def tensor(self, memory: memoryview, info: TensorInfo, old: Array | None) -> Array:
        return _NumPy().tensor(memory, info, info.shape)

    def refusal(self, tensor: Array) -> str | None:
        return None if tensor.flags.writeable else "is read-only"

    def put(self, tensor: Array, new: Array) -> None:
        tensor[...] = new

    def place(self, tensor: Array) -> Place | None:
        if not tensor.nbytes:
            return None
        start = end = tensor.__array_interface__["data"][0]
        for size, stride in zip(tensor.shape, tensor.strides):
            start += min(0, (size - 1) * stride)
            end += max(0, (size - 1) * stride)
        return Place("cpu", start, end + tensor.itemsize, (tensor.dtype, tensor.shape, tensor.strides))


def _plain_memory(array: Array) -> memoryview:
    return _memory(_plain(array))
