"""What the modules for NumPy and PyTorch share: the safetensors layout, and which file a name means."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import weightzip
from weightzip import _kinds
from weightzip.archive import Archive, Base, Lossy, Progress
from weightzip.errors import InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import Buffer
    from weightzip._weightzip import _Readable, _Writable

T = TypeVar("T")

SUFFIX = ".wz"
LOSSY_SUFFIX = ".lossy.wz"
# What a compressed file has behind the name of its original, in the order in which it is looked for.
SUFFIXES = (SUFFIX, LOSSY_SUFFIX)

# The safetensors package lays tensors out by dtype, in this order, and those of one dtype by name.
_ORDER = (
    "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 "
    "I8 U8 F6_E3M2 F6_E2M3 F4 BOOL"
).split()
_RANK = {dtype: rank for rank, dtype in enumerate(_ORDER)}
# What readers of the format accept, and a directory has room for: names that are longer than their tensors could take more of
# a .wz than of the original.
_MAX_HEADER = 100_000_000
_MAX_DIMS = 64
_MAX_NAME = 1 << 10


class Part(NamedTuple):
    """A tensor to be written."""

    name: str
    dtype: str
    shape: Iterable[int]
    nbytes: int
    # Gives its memory, when its turn has come: what isn't in ordinary memory is brought there one by one.
    data: Callable[[], Buffer]


def write(
    parts: Iterable[Part],
    metadata: Mapping[str, str] | None,
    file: str | os.PathLike[str] | _Writable,
    level: str,
    base: Base,
    lossy: Lossy,
    progress: Progress | None,
) -> None:
    """Writes the `.wz` of a safetensors file."""
    pieces, total = in_pieces(parts, metadata)
    progress = within(progress, 0, total)
    weightzip.write(pieces, file, level, base=base, lossy=lossy, progress=progress)


def write_bytes(
    parts: Iterable[Part],
    metadata: Mapping[str, str] | None,
    level: str,
    base: Base,
    lossy: Lossy,
    progress: Progress | None,
) -> bytes:
    """The `.wz` of a safetensors file."""
    pieces, total = in_pieces(parts, metadata)
    progress = within(progress, 0, total)
    return weightzip.write_bytes(pieces, level, base=base, lossy=lossy, progress=progress)


def within(progress: Progress | None, before: int, total: int) -> Progress | None:
    """The progress of a part, which begins after `before` bytes, as that of the whole."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def in_pieces(parts: Iterable[Part], metadata: Mapping[str, str] | None) -> tuple[Iterator[Buffer], int]:
    """A safetensors file in pieces, its header and the tensors' own memory; and its bytes.

    Raises `InvalidArgumentError` if there can be no such file. The memory is asked for with the pieces only.
    """
    start, ordered = lay_out(parts, metadata)
    total = len(start) + sum(part.nbytes for part in ordered)
    return chain([start], (part.data() for part in ordered)), total


def lay_out(parts: Iterable[Part], metadata: Mapping[str, str] | None) -> tuple[bytes, list[Part]]:
    """What a safetensors file of these tensors begins with, and the tensors in the order that follows."""
    ordered = sorted(parts, key=lambda part: (_RANK[part.dtype], part.name))
    entries, at = [], 0
    if metadata is not None:
        entries.append(f'"__metadata__":{_text_object(metadata)}')
    for name, dtype, shape, nbytes, _ in ordered:
        if name == "__metadata__" or len(name.encode()) > _MAX_NAME:
            raise InvalidArgumentError(
                f"a tensor can't have the name `{name:.60}`: choose another one, of at most {_MAX_NAME} bytes"
            )
        sizes = [*map(str, shape)]
        if len(sizes) > _MAX_DIMS:
            raise InvalidArgumentError(
                f"tensor `{name:.60}` has {len(sizes)} dimensions, and a .wz holds at most {_MAX_DIMS}: reshape it"
            )
        dims = ",".join(sizes)
        entries.append(
            f'{encode_basestring(name)}:{{"dtype":"{dtype}","shape":[{dims}],"data_offsets":[{at},{at + nbytes}]}}'
        )
        at += nbytes
    header = f"{{{','.join(entries)}}}".encode()
    header += b" " * (-len(header) % 8)
    if len(header) > _MAX_HEADER:
        raise InvalidArgumentError(
            f"names, shapes and metadata take {len(header)} bytes, and readers accept {_MAX_HEADER}: "
            "save fewer tensors per file"
        )
    return len(header).to_bytes(8, "little") + header, ordered


def groups(sized: Iterable[tuple[T, int]], most: int) -> Iterator[list[T]]:
    """What has these bytes, in groups of at most so many, or of one."""
    group: list[T] = []
    size = 0
    for item, nbytes in sized:
        if group and size + nbytes > most:
            yield group
            group, size = [], 0
        group.append(item)
        size += nbytes
    if group:
        yield group


def _text_object(metadata: Mapping[str, str]) -> str:
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise TypeError(f"metadata must be a dict of str to str, not {metadata!r:.200}")
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))


def check_names(tensors: Mapping[str, object]) -> None:
    """Raises if a key isn't text."""
    for name in tensors:
        if not isinstance(name, str):
            raise TypeError(f"tensor names must be str, not {type(name).__name__}: {name!r:.60}")


def is_wz(filename: str | os.PathLike[str]) -> bool:
    """Whether a file of this name is written compressed."""
    return os.fsdecode(filename).endswith(SUFFIX)


def refuse_lossy(lossy: Lossy) -> None:
    """Raises if what isn't compressed is to be rounded."""
    if lossy is not None:
        raise InvalidArgumentError("lossy is for compressed files: choose a name that ends in .wz")


def locate(filename: str | os.PathLike[str]) -> str:
    """The file that is read for a name: that one, or if there is none, the one with `.wz` or `.lossy.wz` added."""
    path = os.fsdecode(filename)
    if is_wz(path) or os.path.exists(path):
        return path
    return next((path + suffix for suffix in SUFFIXES if os.path.exists(path + suffix)), path)


def original_name(filename: str) -> str:
    """What the original of a `.wz` is called."""
    suffix = LOSSY_SUFFIX if filename.endswith(LOSSY_SUFFIX) else SUFFIX
    return filename.removesuffix(suffix)


def is_compressed(path: str) -> bool:
    """Whether a safetensors file is compressed: by its first bytes, and only where these say nothing by its name."""
    start = _kinds.start_of(path)
    return _kinds.is_wz(start) or (is_wz(path) and not _kinds.is_safetensors(start))


def is_wz_data(data: Buffer) -> bool:
    """Whether these are the bytes of a `.wz`."""
    return _kinds.is_wz(bytes(memoryview(data)[: _kinds.START]))


def open_safetensors(file: str | os.PathLike[str] | _Readable | Buffer, base: Base) -> Archive:
    """Opens the `.wz` of a safetensors file."""
    archive = weightzip.open(file, base=base)
    kind = archive.info.format
    if kind == "safetensors":
        return archive
    archive.close()
    raise InvalidArgumentError(
        f"this .wz holds no safetensors file, its format is {kind}: read it with `weightzip.open`",
        file=os.fsdecode(file) if isinstance(file, (str, os.PathLike)) else None,
    )


def read_metadata(archive: Archive) -> dict[str, str] | None:
    """The header's `__metadata__`, which the archive found to be sound when it was compressed."""
    length = int.from_bytes(archive.original(0, 8), "little")
    header = json.loads(bytes(archive.original(8, 8 + length)))
    found: dict[str, str] | None = header.get("__metadata__")
    return found
