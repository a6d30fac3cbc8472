"""Tensors of PyTorch as what safetensors has, whatever their dtype; and as leaves of a state (`_state.Kind`)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

import torch

from weightzip._tied import without_memory
from weightzip.archive import Archive
from weightzip.torch import _NAMES, Torch


@cache
def more_than_bytes(layout: torch.layout, dtype: torch.dtype) -> str | None:
    """Why a tensor has more than its bytes."""
    if layout != torch.strided:
        return "is sparse, which safetensors files can't hold: save its `.to_dense()`"
    if dtype not in _NAMES and str(dtype).startswith("torch.q"):
        return f"has dtype {dtype}, whose scales would be lost: save its `.dequantize()`"
    return None


def layout(shape: Sequence[int], dtype: torch.dtype) -> tuple[str, tuple[int, ...]]:
    """A dtype and shape that safetensors has. What it lacks is bytes: of what, must be said elsewhere."""
    name = _NAMES.get(dtype)
    if name is None or (name == "F4" and not shape):
        return "U8", (*shape, dtype.itemsize)
    if name == "F4":  # torch counts pairs
        return name, (*shape[:-1], 2 * shape[-1])
    return name, tuple(shape)


def describe(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], str | None]:
    own = tensor.dtype
    why = more_than_bytes(tensor.layout, own) or without_memory(tensor)
    if why is not None:
        raise ValueError(why)
    dtype, shape = layout(tensor.shape, own)
    return dtype, shape, None if dtype == _NAMES.get(own) else str(own).removeprefix("torch.")


def identity(tensor: torch.Tensor) -> Hashable:
    if not tensor.nelement():
        return None
    signs = (tensor.is_conj(), tensor.is_neg())
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), *signs)


def address(tensor: torch.Tensor) -> int | None:
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
        return None
    found: int = tensor.data_ptr()
    return found


def copy(tensor: torch.Tensor, room: memoryview) -> None:
    torch.frombuffer(room, dtype=tensor.dtype).view(tensor.shape).copy_(tensor.detach())


def load(archive: Archive, names: list[str], device: Any) -> dict[str, torch.Tensor]:
    return Torch(device).tensors(archive, None, names)


def noted(tensor: torch.Tensor, note: str) -> torch.Tensor:
    dtype, shape = getattr(torch, note), tensor.shape[:-1]
    # Bytes of nothing have a last dimension that can't be viewed as another dtype.
    return tensor.view(dtype).view(shape) if tensor.nelement() else tensor.new_empty(shape, dtype=dtype)
