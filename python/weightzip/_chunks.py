"""Tensors of a distributed checkpoint, and chunks of those that ranks share, in the safetensors file of a rank."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch.distributed.checkpoint.planner import LoadPlanner, ReadItem, SavePlanner, WriteItem

from weightzip._leaves_torch import layout, more_than_bytes
from weightzip._safe_open import SafeSlice
from weightzip._safetensors import Part
from weightzip._tied import without_memory
from weightzip.archive import Archive
from weightzip.errors import InvalidArgumentError
from weightzip.torch import Torch, _groups, _memory


def check(item: WriteItem) -> None:
    """Raises if a tensor has more than its bytes."""
    properties = item.tensor_data.properties
    why = more_than_bytes(properties.layout, properties.dtype)
    if why is not None:
        raise InvalidArgumentError(f"this tensor {why}", tensor=item.index.fqn)


def parts(items: Iterable[WriteItem], planner: SavePlanner) -> list[Part]:
    """What to write for each item. Its memory is asked for when its turn has come."""
    found: dict[str, Part] = {}
    for item in items:
        name = _name(item)
        while name in found or name == "__metadata__":  # which safetensors keeps for itself
            name += "'"
        shape, dtype = item.tensor_data.chunk.sizes, item.tensor_data.properties.dtype
        nbytes = math.prod(shape) * dtype.itemsize
        found[name] = Part(name, *layout(shape, dtype), nbytes, partial(_data, item, planner))
    return list(found.values())


def _name(item: WriteItem) -> str:
    """The same in every checkpoint of as many ranks, so that a base has a tensor of this name."""
    chunk = item.tensor_data.chunk
    if chunk.sizes == item.tensor_data.size:
        return str(item.index.fqn)
    return f"{item.index.fqn}@{','.join(map(str, chunk.offsets))}"


def _data(item: WriteItem, planner: SavePlanner) -> memoryview:
    tensor = planner.resolve_data(item).detach()
    shape, dtype = item.tensor_data.chunk.sizes, item.tensor_data.properties.dtype
    why = without_memory(tensor)
    if why is None and (tensor.shape, tensor.dtype) != (shape, dtype):
        got, planned = (f"{list(s)} of {d}" for s, d in [(tensor.shape, tensor.dtype), (shape, dtype)])
        why = f"is {got} and was planned as {planned}: a planner must plan what it resolves to"
    if why is not None:
        raise InvalidArgumentError(f"this tensor {why}", tensor=item.index.fqn)
    return _memory(tensor.to("cpu").contiguous())


class Chunk(NamedTuple):
    """A chunk in a file, and the part of it that is wanted."""

    name: str
    dtype: torch.dtype
    item: ReadItem

    @property
    def nbytes(self) -> int:
        return int(math.prod(self.item.lengths) * self.dtype.itemsize)


def read(archive: Archive, chunks: Iterable[Chunk], planner: LoadPlanner) -> None:
    """Reads chunks to where the planner wants them: whole ones many at once, of others the rows that are needed."""
    whole = []
    for chunk in chunks:
        if chunk.name in archive and archive.tensors[chunk.name].nbytes == chunk.nbytes:
            whole.append(chunk)
        else:
            _put(chunk, _target(chunk, planner), _part(archive, chunk), planner)
    for group in _groups((chunk, chunk.nbytes) for chunk in whole):
        _read_whole(archive, group, planner)


def _read_whole(archive: Archive, chunks: list[Chunk], planner: LoadPlanner) -> None:
    targets = [_target(chunk, planner) for chunk in chunks]
    tensors = [_decodable(chunk, target) for chunk, target in zip(chunks, targets)]
    archive.read_many_into((chunk.name, _memory(tensor)) for chunk, tensor in zip(chunks, tensors))
    for chunk, target, tensor in zip(chunks, targets, tensors):
        _put(chunk, target, tensor, planner)


def _part(archive: Archive, chunk: Chunk) -> torch.Tensor:
    index = tuple(
        slice(start, start + length) for start, length in zip(chunk.item.storage_offsets, chunk.item.lengths)
    )
    part: torch.Tensor = SafeSlice(archive, chunk.name, Torch())[index]
    return part if part.dtype == chunk.dtype else part.contiguous().view(chunk.dtype).squeeze(-1)


def _target(chunk: Chunk, planner: LoadPlanner) -> torch.Tensor:
    target: torch.Tensor = planner.resolve_tensor(chunk.item).detach()
    if target.shape != chunk.item.lengths:  # which `copy_` would spread over it
        raise InvalidArgumentError(
            f"the planner gives {list(target.shape)} to load {list(chunk.item.lengths)} into: let it plan the same shape",
            tensor=chunk.item.dest_index.fqn,
        )
    why = without_memory(target) if type(target) is torch.Tensor else None
    if why is not None:
        raise InvalidArgumentError(f"the tensor to load into {why}", tensor=chunk.item.dest_index.fqn)
    return target


def _decodable(chunk: Chunk, target: torch.Tensor) -> torch.Tensor:
    """Memory that can be decoded into: where the tensor goes, if that has the same bytes."""
    plain = type(target) is torch.Tensor and not (target.is_conj() or target.is_neg())
    if plain and target.device.type == "cpu" and target.dtype == chunk.dtype and target.is_contiguous():
        return target
    return torch.empty(chunk.item.lengths, dtype=chunk.dtype, device="cpu")


def _put(chunk: Chunk, target: torch.Tensor, tensor: torch.Tensor, planner: LoadPlanner) -> None:
    if tensor is not target:
        target.copy_(tensor)
    planner.commit_tensor(chunk.item, target)
