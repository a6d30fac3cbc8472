"""Updates of weights from one state to the next, as reinforcement learning sends them: small, and exact.

An update is the `.wz` of the safetensors file of the new tensors, coded next to the old ones. States are dicts of tensors by
name, of PyTorch or NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import weightzip
from weightzip import _safetensors
from weightzip._safetensors import Part, check_names, groups, open_safetensors, read_metadata
from weightzip.archive import Archive, TensorInfo
from weightzip.errors import InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import Buffer
    from weightzip._weightzip import _Readable, _Writable

__all__ = ["apply", "apply_in_place", "diff", "write_diff"]

State: TypeAlias = Mapping[str, Any]
Update: TypeAlias = "str | os.PathLike[str] | _Readable | Buffer"

# Decoders find a base's tensors without hashing them if their file has the name that the encoder saw.
_OLD = "old.safetensors"
# As much is decoded at once, or one tensor, if that is larger.
_AT_ONCE = 64 << 20


class Place(NamedTuple):
    """Where a tensor's memory is, and how the tensor lies in it."""

    device: str
    start: int
    end: int
    layout: object


class Framework(Protocol):
    """What is done with the tensors of one framework."""

    format: str

    def part(self, name: str, tensor: Any) -> Part:
        """A tensor to be coded; raises if it can't be."""

    def tensor(self, memory: memoryview, info: TensorInfo, old: Any | None) -> Any:
        """A tensor over `memory`; on the device of `old`, if there is one."""

    def refusal(self, tensor: Any) -> str | None:
        """Why a tensor can't be written into."""

    def put(self, tensor: Any, new: Any) -> None:
        """Writes the values of `new` into a tensor of the same dtype and shape."""

    def place(self, tensor: Any) -> Place | None:
        """Where a tensor is; none if it has no bytes."""


def diff(old: State, new: State, *, level: str = "default") -> bytes:
    """The update that makes `new` of `old`, in memory. Takes what `write_diff` takes, and as long."""
    with _coded(old, new) as (parts, metadata, base):
        return _safetensors.write_bytes(parts, metadata, level, base, None, None)


def write_diff(old: State, new: State, file: str | os.PathLike[str] | _Writable, *, level: str = "default") -> None:
    """Writes the update that makes `new` of `old` into a file: a path, or an object with `write`.

    Tensors of the same name, dtype and shape are coded by how they differ, all others alone. A path is written under a
    temporary name and has the update only when that is complete. `level` is that of `weightzip.write`.

    The bytes of `old` are in a temporary file meanwhile (`TMPDIR` says where). Tensors on a GPU, and those that aren't
    contiguous, are copied one by one. What safetensors files can't hold raises `InvalidArgumentError` with the tensor's name.
    """
    with _coded(old, new) as (parts, metadata, base):
        _safetensors.write(parts, metadata, file, level, base, None, None)


def apply(old: State, update: Update, *, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The tensors of an update, in memory of their own; `old` stays as it is.

    `update` is a path, a seekable file-like object, or what `diff` gave. Tensors are of the framework of `old`, each on the device of
    the one of its name; if `old` is empty, of that which the update was made of, in ordinary memory. With `names` these alone are decoded.

    If `old` isn't what the update was made against, raises `InvalidArgumentError` with the name of a tensor that
    differs; if the update is damaged, `CorruptionError`. The bytes of `old` are in a temporary file meanwhile.
    """
    with _opened(old, update) as (archive, framework, read):
        tensors = {}
        for group in _groups(archive, names):
            for name, memory in read(group).items():
                tensors[name] = framework.tensor(memory, archive.tensors[name], old.get(name))
        return tensors


def apply_in_place(old: State, update: Update, *, names: Iterable[str] | None = None) -> None:
    """Writes the tensors of an update into those of `old`, or with `names` into these.

    All is decoded and verified before the first one is written, and then again: `old` stays as it was if the update is damaged or
    was made against other tensors, which raises as in `apply`, or if it has some that `old` lacks or has in another dtype or shape, or
    that can't be written into, which raises `InvalidArgumentError`. Takes up to twice the time of `apply`, and beyond `old` 64 MiB, or two
    of the largest tensor.
    """
    with _opened(old, update) as (archive, framework, read):
        wanted = [name for group in _groups(archive, names) for name in group]
        _check_targets(framework, archive, old, wanted)
        _check_shared(framework, archive, old, wanted, read)
        for group in _groups(archive, wanted):
            read(group)
        for group in _groups(archive, wanted):
            for name, memory in read(group).items():
                framework.put(old[name], framework.tensor(memory, archive.tensors[name], None))


def _framework(state: State) -> Framework | None:
    """That of a state's tensors; none if there are none."""
    if not isinstance(state, Mapping):
        raise InvalidArgumentError(f"expected a dict of tensors by name, not {type(state).__name__}")
    check_names(state)
    if not state:
        return None
    return _named("pt" if any(_is_torch(tensor) for tensor in state.values()) else "np")


def _is_torch(tensor: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(tensor).__mro__)


def _named(format: str | None) -> Framework:
    if format == "pt":
        from weightzip._sync_torch import Torch

        return Torch()
    from weightzip._sync_numpy import NumPy

    return NumPy()


@contextmanager
def _coded(old: State, new: State) -> Iterator[tuple[list[Part], dict[str, str], str | None]]:
    """What to write for an update: tensors, metadata, and the base."""
    new_framework = _framework(new) or _framework(old) or _named(None)
    parts = [new_framework.part(name, tensor) for name, tensor in new.items()]
    before = _parts(old, ((part.name, part.dtype, part.shape) for part in parts))
    metadata = {"format": new_framework.format}
    if not before:
        yield parts, metadata, None
        return
    with _stored(before) as base:
        yield parts, metadata, base


def _parts(old: State, wanted: Iterable[tuple[str, str, Iterable[int]]]) -> list[Part]:
    """The old tensors of these names that have this dtype and shape."""
    framework = _framework(old)
    found = []
    for name, dtype, shape in wanted:
        if framework is not None and name in old:
            part = framework.part(name, old[name])
            if (part.dtype, tuple(part.shape)) == (dtype, tuple(shape)):
                found.append(part)
    return found


@contextmanager
def _stored(parts: Iterable[Part]) -> Iterator[str]:
    """A safetensors file of these tensors, while it is needed. What gives less than its bytes leaves a hole there."""
    with TemporaryDirectory(prefix="weightzip-") as folder:
        path = os.path.join(folder, _OLD)
        start, ordered = _safetensors.lay_out(parts, None)
        with open(path, "wb") as file:
            at = file.write(start)
            for part in ordered:
                file.write(part.data())
                at += part.nbytes
                file.seek(at)
            file.truncate()
        yield path


Read: TypeAlias = Callable[[list[str]], Mapping[str, memoryview]]


@contextmanager
def _opened(old: State, update: Update) -> Iterator[tuple[Archive, Framework, Read]]:
    """An update next to what it was made against; its tensors' framework, and how to read some of them."""
    framework = _framework(old)
    with open_safetensors(update, None) as archive:
        framework = framework or _named((read_metadata(archive) or {}).get("format"))
        infos = archive.tensors.values()
        present = {part.name: part for part in _parts(old, ((i.name, i.dtype, i.shape) for i in infos))}
        # A base has every tensor that it could have: an update is found to need them all when one is read.
        laid_out = [present.get(i.name) or Part(i.name, i.dtype, i.shape, i.nbytes, bytes) for i in infos]
    with _stored(laid_out) as base, weightzip.open(update, base=base) as archive:

        def read(names: list[str]) -> Mapping[str, memoryview]:
            try:
                return archive.read_many(names)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(_unlike(archive, present), tensor=error.tensor) from error

        yield archive, framework, read


def _unlike(archive: Archive, present: Mapping[str, Part]) -> str:
    absent = [name for name in archive.tensors if name not in present]
    lacks = f"; it lacks {len(absent)} of the update's tensors, or has others of these names" if absent else ""
    return (
        f"`old` has not the values that this update was made against{lacks}: apply the updates before it first, "
        "or make one for this state"
    )


def _groups(archive: Archive, names: Iterable[str] | None) -> Iterator[list[str]]:
    """The tensors that are wanted, in groups that may be in memory at once."""
    wanted = list(archive.tensors if names is None else dict.fromkeys(names))
    for name in wanted:
        if name not in archive:
            raise InvalidArgumentError("the update has no tensor of this name", tensor=name)
    return groups(((name, archive.tensors[name].nbytes) for name in wanted), _AT_ONCE)


def _check_targets(framework: Framework, archive: Archive, old: State, wanted: Iterable[str]) -> None:
    """Raises if a tensor can't take what the update has for it."""
    for name in wanted:
        why = None
        if name not in old:
            why = "is not in `old`"
        else:
            part, info = framework.part(name, old[name]), archive.tensors[name]
            got, wants = (part.dtype, tuple(part.shape)), (info.dtype, info.shape)
            if got != wants:
                why = f"is {list(got[1])} of {got[0]} in `old`, and {list(wants[1])} of {wants[0]} in the update"
            else:
                why = framework.refusal(old[name])
        if why is not None:
            raise InvalidArgumentError(f"this tensor {why}: use `apply`, or choose others by `names`", tensor=name)


def _check_shared(framework: Framework, archive: Archive, old: State, wanted: Iterable[str], read: Read) -> None:
    """Raises if tensors share memory and would not be the same."""
    placed = [(place, name) for name in wanted if (place := framework.place(old[name])) is not None]
    placed.sort(key=lambda pair: pair[0][:3])
    for (before, first), (place, name) in pairwise(placed):
        if place.device != before.device or place.start >= before.end:
            continue
        if place != before or read([first])[first] != read([name])[name]:
            raise InvalidArgumentError(
                f"this tensor shares memory with {first!r} in `old`, and the update has other values for each: use `apply`",
                tensor=name,
            )
