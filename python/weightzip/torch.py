"""PyTorch tensors in compressed files: the calls of `safetensors.torch`, and `torch.save` and `torch.load`.

A file whose name ends in `.wz` is written compressed, any other one as plain safetensors. Both are
read; if there is no `X`, then `X.wz` is read for it.
"""

from __future__ import annotations

import inspect
import os
import pickle
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np
import safetensors.torch as plain
import torch

from weightzip import _checkpoint, _safetensors
from weightzip._safe_open import SafeOpen
from weightzip._safe_open import safe_open as _safe_open
from weightzip._safetensors import (
    Part,
    check_names,
    groups,
    is_compressed,
    is_wz,
    is_wz_data,
    locate,
    open_safetensors,
    refuse_lossy,
    within,
)
from weightzip._tied import copies_of_kept, shared_names, without_memory
from weightzip.archive import Archive, Base, Lossy, Progress, TensorInfo
from weightzip.errors import CompatibilityError, InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import Buffer
    from weightzip._weightzip import _Readable, _Writable

__all__ = ["load", "load_file", "load_model", "safe_open", "save", "save_file", "save_model"]

Tensors: TypeAlias = dict[str, torch.Tensor]
Device: TypeAlias = str | int | torch.device
T = TypeVar("T")

# By safetensors' name; a torch that is older than a dtype lacks it.
_DTYPES = {
    name: getattr(torch, attribute)
    for name, attribute in {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "U16": "uint16",
        "I16": "int16",
        "U32": "uint32",
        "I32": "int32",
        "U64": "uint64",
        "I64": "int64",
        "F16": "float16",
        "BF16": "bfloat16",
        "F32": "float32",
        "F64": "float64",
        "C64": "complex64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2": "float8_e5m2",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F8_E8M0": "float8_e8m0fnu",
        "F4": "float4_e2m1fn_x2",
    }.items()
    if hasattr(torch, attribute)
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

# As much is in ordinary memory at once, on its way to a device; and in one block, if that is pinned.
_ON_THE_WAY = 256 << 20
_ALIGNMENT = 64


def save_file(
    tensors: Tensors,
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    *,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    progress: Progress | None = None,
) -> None:
    """Saves tensors into a file; compressed, if its name ends in `.wz`.

    What decompresses from there is the file that safetensors would have written. Tensors must be
    dense, contiguous and share no memory; see `save_model` for those of a model. `level`,
    `base`, `lossy` and `progress` (see `weightzip.write`) are for compressed files.
    """
    if is_wz(filename):
        _safetensors.write(_parts(tensors), metadata, filename, level, base, lossy, progress)
    else:
        refuse_lossy(lossy)
        plain.save_file(tensors, filename, metadata)


@overload
def save(
    tensors: Tensors,
    metadata: dict[str, str] | None = None,
    *,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    progress: Progress | None = None,
) -> bytes: ...


@overload
def save(
    obj: object,
    f: str | os.PathLike[str] | _Writable,
    pickle_module: Any = pickle,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
    _disable_byteorder_record: bool = False,
    *,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    progress: Progress | None = None,
) -> None: ...


def save(
    *arguments: Any,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    progress: Progress | None = None,
    **options: Any,
) -> bytes | None:
    """The bytes of a `.wz` of tensors; with a file as second argument, what `torch.save` does.

    `save(obj, file)` takes any object, a path or a file-like object with `write`, and the arguments of `torch.save`.
    What decompresses from a path that ends in `.wz`, or from what a file-like object gets, is the file that
    `torch.save` would have written; under another name it is written plain. That file takes room for a while, beside the
    `.wz`; for a file-like object it does where `TMPDIR` says.
    """
    ours = (level, base, lossy, progress)
    second = arguments[1] if len(arguments) > 1 else None
    if "f" in options or not (second is None or isinstance(second, dict)):
        _checkpoint.save(arguments, options, *ours)
        return None
    if not {"tensors", "metadata"}.issuperset(options) or len(arguments) > 2:
        raise TypeError("arguments of torch.save need a file to save to: save(obj, file)")
    tensors, metadata = _bound(plain.save, arguments, options)
    return _safetensors.write_bytes(_parts(tensors), metadata, *ours)


def load_file(
    filename: str | os.PathLike[str],
    device: Device = "cpu",
    *,
    backend: str = "mmap",
    pin_memory: bool = False,
    base: Base = None,
    progress: Progress | None = None,
) -> Tensors:
    """Loads all tensors of a file, plain or compressed.

    Those of a compressed file are decoded straight into their own memory: page-locked memory if
    `pin_memory`, which also makes the way to a GPU faster. `backend` is how safetensors reads a
    plain file; `base` is where a compressed one finds what it is coded against (see `weightzip.open`), and
    `progress` is told of that one.
    """
    path = locate(filename)
    if is_compressed(path):
        with SafeOpen(path, Torch(device, pin_memory), base) as file:
            return file.get_tensors(progress=progress)
    device = torch.device(device)
    tensors: Tensors = plain.load_file(path, str(device), backend=backend)
    if pin_memory and device.type == "cpu":
        return {name: tensor.pin_memory() for name, tensor in tensors.items()}
    return tensors


@overload
def load(data: Buffer, *, base: Base = None) -> Tensors: ...


@overload
def load(
    f: str | os.PathLike[str] | _Readable,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    base: Base = None,
    **pickle_load_args: Any,
) -> Any: ...


def load(*arguments: Any, base: Base = None, **options: Any) -> Any:
    """Loads all tensors from the bytes of a file, plain or compressed; of a file, what `torch.load` does.

    `load(file)` takes a path or a file-like object with `read` and `seek`, of a checkpoint that is plain or compressed,
    and the arguments of `torch.load`: with `weights_only`, which is the default, no code of the file is run. A file-like
    object is read from where it is. Only what `torch.load` reads is decoded. `base` is where a compressed file finds what
    it is coded against (see `weightzip.open`).
    """
    first = arguments[0] if arguments else options.get("f")
    if "f" in options or isinstance(first, (str, os.PathLike)) or hasattr(first, "read"):
        return _checkpoint.load(arguments, options, base)
    if not {"data"}.issuperset(options) or len(arguments) > 1:
        raise TypeError("arguments of torch.load need a file to load: load(file)")
    (data,) = _bound(plain.load, arguments, options)
    if not is_wz_data(data):
        with torch.device("cpu"):  # where safetensors would ask what the default is
            return plain.load(data if isinstance(data, bytes) else bytes(data))
    with open_safetensors(data, base) as archive:
        return Torch().tensors(archive, None)


def _bound(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments that a function would take of these, in its order."""
    bound = inspect.signature(function).bind(*arguments, **options)
    bound.apply_defaults()
    return bound.args


def safe_open(
    filename: str | os.PathLike[str],
    framework: str = "pt",
    device: str | int = "cpu",
    *,
    backend: str = "mmap",
    base: Base = None,
) -> Any:
    """`weightzip.safe_open`, for PyTorch unless another framework is named."""
    return _safe_open(filename, framework, device, backend=backend, base=base)


def save_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    force_contiguous: bool = True,
    *,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    progress: Progress | None = None,
) -> None:
    """Saves a model. Of tensors that share memory, one is saved; the metadata say for which others.

    With `force_contiguous`, tensors of another memory layout are saved as contiguous copies. `level`, `base`, `lossy` and
    `progress` (see `weightzip.write`) are for compressed files.
    """
    tensors = dict(model.state_dict())
    _check_each(tensors)
    metadata = dict(metadata) if metadata else metadata
    for kept, copies in copies_of_kept(tensors).items():
        for name in copies:
            metadata = metadata or {}
            metadata.setdefault(name, kept)
            del tensors[name]
    if force_contiguous:
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, filename, metadata, level=level, base=base, lossy=lossy, progress=progress)


def load_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    strict: bool = True,
    device: Device = "cpu",
    *,
    backend: str = "mmap",
    base: Base = None,
) -> tuple[set[str], list[str]]:
    """Loads a file into a model and returns the names that were missing, and those not expected.

    With `strict`, raises if there are any. Tensors that share the memory of a loaded one are not missing.
    `base` is where a compressed file finds what it is coded against (see `weightzip.open`).
    """
    tensors = load_file(filename, device, backend=backend, base=base)
    copies = copies_of_kept(model.state_dict(), preferred=tensors.keys())
    absent, unexpected = model.load_state_dict(tensors, strict=False)
    missing = set(absent)
    for name in (name for names in copies.values() for name in names):
        if name in missing:
            missing.remove(name)
        else:
            unexpected.append(name)
    if strict and (missing or unexpected):
        lines = [f"{os.fsdecode(filename)} doesn't fit {type(model).__name__}:"]
        for what, names in (("Missing", missing), ("Unexpected", unexpected)):
            if names:
                lines.append(f"    {what} key(s) in state_dict: {', '.join(map(repr, sorted(names)))}")
        raise RuntimeError("\n".join(lines))
    return missing, unexpected


class Torch:
    """Makes tensors of memory, on one device."""

    def __init__(self, device: Device = "cpu", pin_memory: bool = False):
        self.device = torch.device(device)
        self.pin_memory = pin_memory

    def shape(self, info: TensorInfo) -> tuple[int, ...]:
        if info.dtype == "F4" and info.shape:  # torch counts pairs
            return (*info.shape[:-1], info.shape[-1] // 2)
        return info.shape

    def tensor(self, memory: memoryview, info: TensorInfo, shape: tuple[int, ...]) -> torch.Tensor:
        tensor = _over(memory, info, shape)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def part(self, tensor: torch.Tensor, index: Any) -> torch.Tensor:
        part = tensor[index]
        return part.clone() if 2 * part.nbytes < tensor.nbytes else part

    def tensors(self, archive: Archive, progress: Progress | None, names: Iterable[str] | None = None) -> Tensors:
        wanted = list(archive.tensors if names is None else names)
        if self.device.type == "cpu" and not self.pin_memory:
            return self._read(archive, wanted, progress)
        tensors, done = {}, 0
        infos = [archive.tensors[name] for name in wanted]
        total = sum(info.nbytes for info in infos)
        read = self._read_pinned if self.pin_memory else self._read
        # From pinned memory, one group is on its way to a GPU while the next one is decoded.
        in_background = self.pin_memory and self.device.type == "cuda"
        for group in _groups((info.name, info.nbytes) for info in infos):
            for name, tensor in read(archive, group, within(progress, done, total)).items():
                tensors[name] = tensor.to(self.device, non_blocking=in_background)
                done += tensor.nbytes
        if in_background:
            torch.cuda.current_stream(self.device).synchronize()
        return tensors

    def _read(self, archive: Archive, names: list[str], progress: Progress | None) -> Tensors:
        memory, infos = archive.read_many(names, progress=progress), archive.tensors
        return {name: _over(memory[name], infos[name], self.shape(infos[name])) for name in names}

    def _read_pinned(self, archive: Archive, names: list[str], progress: Progress | None) -> Tensors:
        """Tensors that share a block of memory: to lock pages takes long, whatever their number."""
        infos = [archive.tensors[name] for name in names]
        ends = list(accumulate(-(-info.nbytes // _ALIGNMENT) * _ALIGNMENT for info in infos))
        block = torch.empty(ends[-1], dtype=torch.uint8, device="cpu", pin_memory=True)
        parts = [block[start:][: info.nbytes] for start, info in zip([0, *ends], infos)]
        archive.read_many_into(zip(names, map(_bytes, parts)), progress=progress)
        return {info.name: part.view(_dtype(info)).view(self.shape(info)) for info, part in zip(infos, parts)}


def _over(memory: memoryview, info: TensorInfo, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor in this memory."""
    if not memory.nbytes:  # frombuffer refuses that
        return torch.empty(shape, dtype=_dtype(info), device="cpu")
    return torch.frombuffer(memory, dtype=_dtype(info)).view(shape)


def _dtype(info: TensorInfo) -> torch.dtype:
    dtype: torch.dtype | None = _DTYPES.get(info.dtype)
    if dtype is None:
        raise CompatibilityError(f"this torch has no dtype for {info.dtype}", tensor=info.name)
    return dtype


def _groups(sized: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """What has these bytes, in groups that fit the memory they may take on the way."""
    return groups(sized, _ON_THE_WAY)


def _parts(tensors: Tensors) -> Iterator[Part]:
    _check(tensors)
    for name, tensor in tensors.items():
        yield Part(name, *_layout(tensor), tensor.nbytes, partial(_memory, tensor))


def _layout(tensor: torch.Tensor) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape in a file."""
    dtype, shape = _NAMES[tensor.dtype], tuple(tensor.shape)
    if dtype == "F4" and shape:  # torch counts pairs
        shape = (*shape[:-1], shape[-1] * 2)
    return dtype, shape


def _memory(tensor: torch.Tensor) -> memoryview:
    # What a tensor stands for may differ from its memory by a sign.
    values = tensor.detach().resolve_conj().resolve_neg().to("cpu")
    # A single value may have any stride, which `view` would refuse.
    return _bytes(values.as_strided((values.numel(),), (1,)).view(torch.uint8))


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a tensor of bytes, which numpy can lend."""
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array.data


def _check(tensors: Tensors) -> None:
    if not isinstance(tensors, dict):
        raise InvalidArgumentError(f"expected a dict of str to torch.Tensor, not {type(tensors).__name__}")
    check_names(tensors)
    _check_each(tensors)
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            why = "is not contiguous: save its `.contiguous()`, or the whole tensor that it is a part of"
            raise InvalidArgumentError(f"this tensor {why}", tensor=name)
    if shared := shared_names(tensors):
        listed = "; ".join(", ".join(f"`{name}`" for name in names) for names in shared)
        raise RuntimeError(
            f"tensors share memory, and would come back as separate copies: {listed}. Save a model with "
            "`save_model`, which keeps one of each, or leave out the others"
        )


def _check_each(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if (why := _refusal(tensor)) is not None:
            raise InvalidArgumentError(f"this tensor {why}", tensor=name)


def _refusal(tensor: object) -> str | None:
    """Why a tensor can't be saved."""
    if not isinstance(tensor, torch.Tensor):
        return f"must be a torch.Tensor, not {type(tensor).__name__}"
    if tensor.layout not in (torch.strided, torch.jagged):
        return "is sparse, which safetensors files can't hold: save its `.to_dense()`"
    if tensor.dtype not in _NAMES:
        return f"has dtype {tensor.dtype}, which safetensors files can't hold"
    return without_memory(tensor)
