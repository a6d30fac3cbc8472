"""Open `.wz` files, and writing them."""

import html
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from weightzip import _kinds, _weightzip
from weightzip.errors import InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import Buffer
    from weightzip._weightzip import _Losses, _Readable, _Writable

Progress: TypeAlias = Callable[[int, int], object]
# Models that a file is coded against: files, or folders of them.
Base: TypeAlias = "str | PathLike[str] | Iterable[str | PathLike[str]] | None"

# Rows of the table that `repr` shows.
SHOWN = 20
HEAD = ("name", "dtype", "shape", "size", "stored")


# How tensors may be rounded: a rule as on the command line of `wz`, or several.
Lossy: TypeAlias = "str | Iterable[str] | None"


class LossyWarning(UserWarning):
    """A file is near-lossless: its tensors were rounded."""


class Loss(NamedTuple):
    """What rounding did to a tensor. Numbers that are not finite stay, and don't count."""

    # Which one of the file's tensors, from 0.
    tensor: int
    # What its numbers were rounded to, such as "abs=2^-14".
    bound: str
    # The largest difference, and as a part of the number.
    max_abs: float
    max_rel: float
    # The roots of the mean squares of differences and of numbers.
    rmse: float
    rms: float

    @property
    def snr(self) -> float:
        """How far the tensor is above its noise, in decibels."""
        return 20 * math.log10(self.rms / self.rmse) if self.rms and self.rmse else math.inf


@dataclass(frozen=True)
class Losses:
    """What rounding did to a file, of which a `.wz` holds what came out."""

    rules: str
    # BLAKE3 of the file before, in hex.
    source_blake3: str
    # Of the tensors that were rounded.
    tensors: tuple[Loss, ...]


class TensorInfo(NamedTuple):
    """A tensor of a file: its dtype as safetensors names it, its bytes and where they start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    # In the original file.
    offset: int


@dataclass(frozen=True)
class Info:
    """What a `.wz` says of itself. Hashes are of the original file, in hex."""

    format: str
    original_bytes: int
    compressed_bytes: int
    tensors: int
    blake3: str
    sha256: str | None
    level: str
    writer: str
    # Names of the files that it is coded against, and can't be read without.
    bases: tuple[str, ...]
    # None if the original is what was compressed; else what was lost before.
    losses: Losses | None


@dataclass(frozen=True)
class Summary:
    """What was written."""

    format: str
    original_bytes: int
    compressed_bytes: int
    tensors: int
    blake3: str
    # Names of the files that it is coded against, and can't be read without.
    bases: tuple[str, ...]
    # What was lost, if it was rounded.
    losses: Losses | None


class Archive:
    """An open `.wz`. Several threads may read from it at once."""

    def __init__(
        self,
        file: "str | PathLike[str] | _Readable | Buffer",
        *,
        base: Base = None,
        require_lossless: bool = False,
    ) -> None:
        try:
            self._core = _weightzip.open(file, base=base, require_lossless=require_lossless)
        except InvalidArgumentError as error:
            why = _kinds.why_no_wz(_start(file))
            if why is None:
                raise
            raise InvalidArgumentError(why, file=error.file) from None
        losses = self.info.losses
        if losses is not None:
            # Python shows a text once, and this one names the file.
            count = len(losses.tensors)
            rounded = "1 tensor was" if count == 1 else f"{count} tensors were"
            text = f"{self._title()} is near-lossless: {rounded} rounded ({losses.rules})"
            warnings.warn(text, LossyWarning, stacklevel=3)

    @classmethod
    def over(cls, core: _weightzip.Archive) -> Self:
        """One that is open already."""
        archive = cls.__new__(cls)
        archive._core = core
        return archive

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors by name, in file order."""
        return MappingProxyType({row[0]: TensorInfo._make(row) for row in self._core.tensors()})

    @cached_property
    def info(self) -> Info:
        """What the file says of itself."""
        format, sizes, blake3, sha256, level, writer, bases, losses = self._core.info()
        sha256_hex = None if sha256 is None else sha256.hex()
        return Info(
            format, *sizes, blake3.hex(), sha256_hex, level, writer, bases, _losses(losses)
        )

    @cached_property
    def losses(self) -> Mapping[str, Loss]:
        """What rounding did, by the names of the tensors that were rounded."""
        names = list(self.tensors)
        losses = self.info.losses
        found = () if losses is None else losses.tensors
        return MappingProxyType({names[loss.tensor]: loss for loss in found})

    def read(self, name: str) -> memoryview:
        """A tensor's bytes, in writable memory of their own."""
        return self._core.read(name)

    def read_into(self, name: str, out: "Buffer") -> None:
        """A tensor's bytes, into a writable buffer of exactly their length."""
        self._core.read_into(name, out)

    def rows(self, name: str, start: int, stop: int) -> memoryview:
        """The bytes of rows of the first dimension, in writable memory of their own."""
        return self._core.rows(name, start, stop)

    def rows_into(self, name: str, start: int, stop: int, out: "Buffer") -> None:
        """The bytes of rows of the first dimension, into a buffer of exactly their length."""
        self._core.rows_into(name, start, stop, out)

    def read_many(
        self, names: Iterable[str] | None = None, *, progress: Progress | None = None
    ) -> dict[str, memoryview]:
        """The bytes of many tensors, each in writable memory of its own; of all without names.

        Decodes with all threads across all tensors: one call takes less than a call for each.
        """
        wanted = None if names is None else list(names)
        return self._core.read_many(wanted, progress=progress)

    def read_many_into(
        self,
        outs: "Mapping[str, Buffer] | Iterable[tuple[str, Buffer]]",
        *,
        progress: Progress | None = None,
    ) -> None:
        """The bytes of many tensors, each into a writable buffer of exactly their length."""
        pairs = outs.items() if isinstance(outs, Mapping) else outs
        self._core.read_many_into(list(pairs), progress=progress)

    def original(self, start: int = 0, stop: int | None = None) -> memoryview:
        """Bytes of the original file, in writable memory of their own."""
        return self._core.original(start, stop)

    def close(self) -> None:
        """Lets go of the file. What was read stays."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __repr__(self) -> str:
        if self._core.closed:
            return f"<{self._title()}, closed>"
        table = [HEAD, *self._rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
        lines = [self._summary()]
        for row in table:
            cells = (cell.ljust(width) for cell, width in zip(row[:3], widths))
            sizes = (cell.rjust(width) for cell, width in zip(row[3:], widths[3:]))
            lines.append("  ".join([*cells, *sizes]).rstrip())
        return "\n".join([*lines, *self._more()])

    def _repr_html_(self) -> str:
        if self._core.closed:
            return f"<p>{html.escape(self._title())}, closed</p>"

        def line(cells: Iterable[str], kind: str) -> str:
            return f"<tr>{''.join(f'<{kind}>{html.escape(cell)}</{kind}>' for cell in cells)}</tr>"

        rows = [line(row, "td") for row in self._rows()]
        more = "".join(f"<p>{html.escape(text)}</p>" for text in self._more())
        table = f"<table>{line(HEAD, 'th')}{''.join(rows)}</table>"
        return f"<p>{html.escape(self._summary())}</p>{table}{more}"

    def _title(self) -> str:
        name = self._core.name
        return "weightzip archive" if name is None else f"weightzip archive {name!r}"

    def _summary(self) -> str:
        info = self.info
        count = f"{info.tensors} tensor" + ("" if info.tensors == 1 else "s")
        stored = percent(info.compressed_bytes, info.original_bytes)
        return f"{self._title()}: {info.format}, {count}, {size(info.original_bytes)}, stored {stored}"

    def _rows(self) -> list[tuple[str, ...]]:
        shown = list(self.tensors.values())[:SHOWN]
        stored = self._core.stored([tensor.name for tensor in shown])
        return [
            (
                printable(tensor.name),
                tensor.dtype,
                str(list(tensor.shape)),
                size(tensor.nbytes),
                percent(taken, tensor.nbytes),
            )
            for tensor, taken in zip(shown, stored)
        ]

    def _more(self) -> list[str]:
        more = len(self) - SHOWN
        lines = [f"… and {more} more"] if more > 0 else []
        return lines + [f"needs base {printable(name)}" for name in self.info.bases]


def _start(file: Any) -> bytes:
    """What a file begins with that was to be opened."""
    if isinstance(file, (str, PathLike)):
        return _kinds.start_of(file)
    if hasattr(file, "read"):
        file.seek(0)
        return bytes(file.read(_kinds.START))
    return bytes(memoryview(file).cast("B")[: _kinds.START])


def _losses(told: "_Losses") -> Losses | None:
    if told is None:
        return None
    rules, source_blake3, tensors = told
    return Losses(rules, source_blake3.hex(), tuple(Loss._make(loss) for loss in tensors))


def printable(name: str) -> str:
    """A name from a file, which may hold anything."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in name)


def size(nbytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            break
        nbytes /= 1000
    else:
        unit = "TB"
    return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.2f} {unit}"


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def open(
    file: "str | PathLike[str] | _Readable | Buffer",
    *,
    base: Base = None,
    require_lossless: bool = False,
) -> Archive:
    """Opens a `.wz`: a path, a seekable binary file-like object, or a buffer that holds one.

    A file-like object is read on the thread that calls, and its position changes. What a file is coded
    against is looked for in `base` (a model's path, that of a folder of them, or several; plain or
    `.wz`); then, if a path was opened, under its name: beside the file, in the folders of the environment
    variable WEIGHTZIP_BASE_PATH, and in the cache of the hub. What is missing or has changed raises
    `InvalidArgumentError`, once something that needs it is read.

    A file that is near-lossless, whose tensors were rounded, is told of by a `LossyWarning`; with
    `require_lossless` it raises `InvalidArgumentError`.
    """
    return Archive(file, base=base, require_lossless=require_lossless)


def write(
    parts: "Iterable[Buffer]",
    file: "str | PathLike[str] | _Writable",
    level: str = "default",
    *,
    base: Base = None,
    lossy: Lossy = None,
    dtype: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Compresses an original file, given in pieces that follow one another, into a `.wz`.

    `parts` may be a generator: no more of them are held than are worked on. A path is written under
    a temporary name in the same folder, and has the `.wz` only when that is complete. `level` is
    "default", or "max": smaller, slower to make and to read.

    `base` names models, as for `open`: tensors that they have, too, are coded by how they differ, and
    the `.wz` can't be read without those that `Summary.bases` lists.

    `lossy` lets tensors be rounded: a rule as `wz compress --lossy` takes it ("abs=2^-14", "rel=2^-7",
    "lm_head*:none", "@rules.toml"), or several, the last that fits counts. What comes back is then the
    rounded file; `Summary.losses` says how far it is from this one. Signal-to-noise ratios ("snr=60dB")
    take two looks, so only the command has them.

    `dtype` says what the numbers of an original without a known format are, from its first byte on, by
    their names in safetensors, in any case ("bf16", "F8_E4M3").
    """
    format, sizes, blake3, bases, losses = _weightzip.write(
        parts, file, level, base=base, lossy=lossy, dtype=dtype, progress=progress
    )
    return Summary(format, *sizes, blake3.hex(), bases, _losses(losses))
