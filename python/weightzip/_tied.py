"""The memory of tensors: whether they have their own, which share it, and which one of these stands for all."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import torch
from torch.nn.parameter import UninitializedTensorMixin


def without_memory(tensor: torch.Tensor) -> str | None:
    """Why a tensor's values aren't in memory of its own; None if they are, all that its strides lead to."""
    if isinstance(tensor, UninitializedTensorMixin):
        return "has no shape yet: let the model see its first batch before"
    if tensor.device.type == "meta":
        return "is on device meta, it has no values: load or initialise it first"
    kind = type(tensor).__name__
    if tensor.is_nested or hasattr(tensor, "__tensor_flatten__"):
        return f"is a {kind}, made of other tensors: save these"
    if tensor.device.type not in ("cpu", "cuda") or not tensor.nelement():
        return None
    storage, needed = tensor.untyped_storage(), memory_bytes(tensor)
    if storage.nbytes() < needed:
        return (
            f"takes {needed} bytes, and its storage has {storage.nbytes()}: it was freed or cut, as FSDP and "
            "offloading do; bring it back first"
        )
    try:
        has_values = storage.device == tensor.device and storage.data_ptr() != 0
    except RuntimeError:  # of what has no memory
        has_values = False
    return None if has_values else f"is a {kind}, whose values are elsewhere: save the tensors that it is made of"


def memory_bytes(tensor: torch.Tensor) -> int:
    """From the start of its storage to behind its last byte."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return (tensor.storage_offset() + last + 1) * tensor.itemsize


def shared_names(tensors: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """The names of tensors that overlap in memory, in groups of two or more."""
    by_storage = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.device.type != "meta" and tensor.nelement():
            key = (tensor.device, tensor.untyped_storage().data_ptr())
            by_storage[key].append(name)
    several = (names for names in by_storage.values() if len(names) > 1)
    return [group for names in several for group in _overlapping(names, tensors) if len(group) > 1]


def _overlapping(names: list[str], tensors: Mapping[str, torch.Tensor]) -> Iterator[list[str]]:
    """Tensors of one storage in groups that overlap each other."""
    group: list[str] = []
    group_end = 0
    for start, end, name in sorted((*memory_range(tensors[name]), name) for name in names):
        if group and start >= group_end:
            yield group
            group = []
        group.append(name)
        group_end = max(group_end, end)
    yield group


def memory_range(tensor: torch.Tensor) -> tuple[int, int]:
    """From its first byte to behind its last."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    start = tensor.data_ptr()
    return start, start + (last + 1) * tensor.itemsize


def copies_of_kept(tensors: Mapping[str, torch.Tensor], preferred: Collection[str] = ()) -> dict[str, list[str]]:
    """Of tensors that share memory, the name to keep, and those that it stands for.

    Kept is the first in the alphabet that covers all of the memory; one of `preferred`, if it can be.
    """
    kept = {}
    for names in shared_names(tensors):
        complete = sorted(name for name in names if _covers_all(tensors[name]))
        if not complete:
            raise RuntimeError(
                f"tensors share memory and none covers all of it: {', '.join(sorted(names))}. "
                "Saving one would lose the others: make copies of them, with `.clone()`, first"
            )
        keep = next((name for name in complete if name in preferred), complete[0])
        kept[keep] = sorted(set(names) - {keep})
    return kept


def _covers_all(tensor: torch.Tensor) -> bool:
    storage = tensor.untyped_storage()
    return tensor.data_ptr() == storage.data_ptr() and tensor.nbytes == storage.nbytes()
