"""`safe_open` for .wz files: tensors and slices by name, in memory of a framework."""

import math
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from weightzip._safetensors import is_compressed, locate, open_safetensors, read_metadata
from weightzip.archive import Archive, Base, Progress, TensorInfo
from weightzip.errors import InvalidArgumentError

T = TypeVar("T")

# Rows nearer to each other than that share a block, or nearly: they are read at once.
_BLOCK_ELEMENTS = 1 << 16


class Framework(Protocol[T]):
    """Makes tensors of one framework, on one device."""

    def shape(self, info: TensorInfo) -> tuple[int, ...]:
        """The tensor's shape in this framework."""

    def tensor(self, memory: memoryview, info: TensorInfo, shape: tuple[int, ...]) -> T:
        """A tensor over `memory`, which it keeps; copied only if the device is another one."""

    def part(self, tensor: T, index: Any) -> T:
        """What `index` picks; in memory of its own if it would keep far more of `tensor`."""

    def tensors(self, archive: Archive, progress: Progress | None) -> dict[str, T]:
        """All tensors of a file, in file order."""


def safe_open(
    filename: str | os.PathLike[str],
    framework: str,
    device: str | int = "cpu",
    *,
    backend: str = "mmap",
    base: Base = None,
) -> Any:
    """Opens a safetensors file, plain or `.wz`, to read tensors and slices of it by name.

    As `safetensors.safe_open`, which opens the plain ones. `framework` is "pt" or "np" (and what
    safetensors takes, for plain files), `backend` is how those are read, and `base` where a `.wz` finds
    what it is coded against (see `weightzip.open`). If there is no `filename`, `filename` with `.wz`
    added is opened.
    """
    path = locate(filename)
    if not is_compressed(path):
        import safetensors

        return safetensors.safe_open(path, framework, device, backend=backend)
    if framework in ("pt", "torch", "pytorch"):
        from weightzip import torch

        return SafeOpen(path, torch.Torch(device), base)
    if framework in ("np", "numpy"):
        from weightzip import numpy

        return SafeOpen(path, numpy.NumPy(device), base)
    raise InvalidArgumentError(
        f"framework {framework!r} can't read .wz files: take 'pt' or 'np', and convert the tensors"
    )


class SafeOpen(Generic[T]):
    """An open `.wz` of a safetensors file. Any thread may read."""

    def __init__(self, path: str, framework: Framework[T], base: Base):
        self._archive = open_safetensors(path, base)
        self._framework = framework

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def keys(self) -> list[str]:
        """The names of the tensors, in order of the alphabet."""
        return sorted(self._archive.tensors)

    def offset_keys(self) -> list[str]:
        """The names of the tensors, in file order."""
        return list(self._archive.tensors)

    def metadata(self) -> dict[str, str] | None:
        """The texts that were saved with the tensors, if any."""
        return read_metadata(self._archive)

    def get_tensor(self, name: str) -> T:
        """A whole tensor."""
        memory, info = self._archive.read(name), self._archive.tensors[name]
        return self._framework.tensor(memory, info, self._framework.shape(info))

    def get_tensors(self, *, progress: Progress | None = None) -> dict[str, T]:
        """All tensors, in file order."""
        return self._framework.tensors(self._archive, progress)

    def get_slice(self, name: str) -> "SafeSlice[T]":
        """A tensor that is read when it is indexed, and of which only the rows that this takes."""
        return SafeSlice(self._archive, name, self._framework)


class SafeSlice(Generic[T]):
    """A tensor of an open file, to be indexed like one of the framework."""

    def __init__(self, archive: Archive, name: str, framework: Framework[T]):
        if name not in archive.tensors:
            archive.read(name)  # raises what it raises for any unknown name
        self._archive, self._framework = archive, framework
        self._info = archive.tensors[name]

    def get_shape(self) -> list[int]:
        """Its dimensions."""
        return list(self._info.shape)

    def get_dtype(self) -> str:
        """Its number format, by the name in the file."""
        return self._info.dtype

    def __getitem__(self, index: Any) -> T:
        first, *rest = index if isinstance(index, tuple) and index else (index,)
        shape = self._framework.shape(self._info)
        picked = None
        if shape and shape[0] == self._info.shape[0]:  # its rows are those of the file
            picked = _pick(first, shape, self._info.name)
        if picked is None:
            memory = self._archive.read(self._info.name)
        else:
            first, ranges = picked
            memory, count = self._rows(ranges)
            index, shape = (first, *rest), (count, *shape[1:])
        return self._framework.part(self._framework.tensor(memory, self._info, shape), index)

    def _rows(self, ranges: list[range]) -> tuple[memoryview, int]:
        """The rows of all ranges, one after the other, and how many they are."""
        name, count = self._info.name, sum(map(len, ranges))
        if len(ranges) == 1:
            return self._archive.rows(name, ranges[0].start, ranges[0].stop), count
        row_bytes = self._info.nbytes // max(1, self._info.shape[0])
        memory, at = memoryview(bytearray(count * row_bytes)), 0
        for rows in ranges:
            end = at + len(rows) * row_bytes
            self._archive.rows_into(name, rows.start, rows.stop, memory[at:end])
            at = end
        return memory, count


def _pick(first: Any, shape: tuple[int, ...], name: str) -> tuple[Any, list[range]] | None:
    """The rows that the first part of an index needs, and what picks the same from these alone.

    None if it may need all of them.
    """
    if hasattr(first, "tolist"):  # an array or tensor
        first = first.tolist()
    if isinstance(first, slice):
        rows = range(*first.indices(shape[0]))
        if rows.step < 0:
            return None
        ranges = _ranges(rows, shape)
        return slice(None, None, rows.step if len(ranges) == 1 else None), ranges
    if _is_int(first):
        row = _row(first, shape[0], name)
        return 0, [range(row, row + 1)]
    if isinstance(first, list) and all(map(_is_int, first)):
        listed = [_row(row, shape[0], name) for row in first]
        ranges = _ranges(sorted(set(listed)), shape)
        place: dict[int, int] = {}
        at = 0
        for rows in ranges:
            place.update(zip(rows, range(at, at + len(rows))))
            at += len(rows)
        return [place[row] for row in listed], ranges
    return None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)  # which would be a mask


def _row(row: int, count: int, name: str) -> int:
    if not -count <= row < count:
        raise IndexError(f"row {row} of tensor `{name}` is out of range: it has {count}")
    return row % count


def _ranges(rows: Sequence[int], shape: tuple[int, ...]) -> list[range]:
    """Ascending rows as ranges; what lies between near ones is among them. At least one range."""
    if not rows:
        return [range(0)]
    near = max(1, _BLOCK_ELEMENTS // max(1, math.prod(shape[1:])))
    if isinstance(rows, range) and rows.step <= near:
        return [range(rows[0], rows[-1] + 1)]
    found, start, last = [], rows[0], rows[0]
    for row in rows:
        if row - last > near:
            found.append(range(start, last + 1))
            start = row
        last = row
    return [*found, range(start, last + 1)]
