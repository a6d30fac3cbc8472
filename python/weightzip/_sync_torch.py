"""What weightzip.sync does with tensors of PyTorch."""

from functools import partial
from typing import Any

import torch

from weightzip._safetensors import Part
from weightzip._tied import memory_range
from weightzip.archive import TensorInfo
from weightzip.errors import InvalidArgumentError
from weightzip.sync import Place
from weightzip.torch import Torch as _Torch
from weightzip.torch import _layout, _memory, _refusal


class Torch:
    """Tensors of PyTorch, on any device and of any strides."""

    format = "pt"

    def part(self, name: str, tensor: Any) -> Part:
        why = _refusal(tensor)
        if why is not None:
            raise InvalidArgumentError(f"this tensor {why}", tensor=name)
        return Part(name, *_layout(tensor), tensor.nbytes, partial(_contiguous_memory, tensor))

    def tensor(self, memory: memoryview, info: TensorInfo, old: torch.Tensor | None) -> torch.Tensor:
        framework = _Torch("cpu" if old is None else old.device)
        return framework.tensor(memory, info, framework.shape(info))

    def refusal(self, tensor: torch.Tensor) -> str | None:
        if any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride())):
            return "is expanded, several of its values are one in memory"
        if tensor.is_inference() and not torch.is_inference_mode_enabled():
            return "was made in inference mode, which has ended"
        return None

    def put(self, tensor: torch.Tensor, new: torch.Tensor) -> None:
        tensor.detach().copy_(new)

    def place(self, tensor: torch.Tensor) -> Place | None:
        if not tensor.nbytes:
            return None
        layout = tensor.dtype, tensor.shape, tensor.stride()
        return Place(str(tensor.device), *memory_range(tensor), layout)


def _contiguous_memory(tensor: torch.Tensor) -> memoryview:
    return _memory(tensor.detach().to("cpu").contiguous())
