"""The reference decoder of the weightzip format, version 0.1.

It follows ../format.md from front to back, under the same headings and in the same terms; clarity
comes before speed. Only the zstd coding needs a package (zstandard).

    python decode.py [--base BASE.wz] FILE.wz [OUT]

restores FILE.wz to OUT, or to FILE. Bases must be .wz files too, each behind those that it needs itself. `decode`, `read_at` and `decode_frame` are for importing.
"""

import hashlib
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import cycle, pairwise
from math import copysign, prod
from pathlib import Path
from struct import unpack

from hashes import blake3, xxh3, xxh3_128

# --- Conformance ---

INCOMPATIBLE = "incompatible"
CORRUPT = "corrupt"
INSUFFICIENT = "insufficient data"
BASE_NOT_FOUND = "base not found"


class FormatError(Exception):
    """Why a file can't be decoded, and where in the file."""

    def __init__(self, kind: str, offset: int, reason: str):
        super().__init__(f"{kind}, at offset {offset}: {reason}")
        self.kind = kind
        self.offset = offset


def require(condition: bool, offset: int, reason: str) -> None:
    """Refuses a file that contradicts itself."""
    if not condition:
        raise FormatError(CORRUPT, offset, reason)


# --- Conventions ---

ALIGNMENT = 16


def padded(length: int) -> int:
    """The next multiple of 16."""
    return -(-length // ALIGNMENT) * ALIGNMENT


class Reader:
    """Reads data in order; `start` is where in the file the data begin.

    `at_end` is what it means if they end too early: a file may be cut short, but a payload that
    does not have what it should is corrupt.
    """

    def __init__(self, data: bytes, start: int = 0, at_end: str = CORRUPT, position: int = 0):
        self.data = data
        self.start = start
        self.at_end = at_end
        self.position = position

    @property
    def offset(self) -> int:
        """Where in the file the next byte is."""
        return self.start + self.position

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise FormatError(self.at_end, self.start + len(self.data), "ends too early")
        self.position += length
        return self.data[self.position - length : self.position]

    def zeros(self, length: int) -> None:
        require(not any(self.take(length)), self.offset - length, "not zero")

    def uint(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        start = self.offset
        value = 0
        for group in range(10):
            byte = self.uint(1)
            value |= (byte & 0x7F) << 7 * group
            if byte < 0x80:
                require(value < 2**64, start, "a varint of more than 64 bits")
                return value
        raise FormatError(CORRUPT, start, "a varint of more than ten bytes")

    def string(self) -> str:
        start = self.offset
        return as_text(self.take(self.varint()), start)

    def finish(self) -> None:
        require(self.left == 0, self.offset, "more than there should be")


def as_text(utf8: bytes, offset: int) -> str:
    try:
        return utf8.decode()
    except UnicodeDecodeError:
        raise FormatError(CORRUPT, offset, "a string that is not UTF-8") from None


# --- Container: File header ---

MAGIC = bytes.fromhex("89 57 5A 0D 0A 1A 0A 00")
VERSION = (0, 1)
FILE_HEADER_LENGTH = 16


FRAME, ROUNDED, REPEATS = 1, 2, 4


def read_file_header(file: Reader, is_frame: bool = False) -> int:
    """The flags."""
    header = file.take(FILE_HEADER_LENGTH)
    require(header[:8] == MAGIC, 0, "not a weightzip file")
    checksum = xxh3(header[:12]).to_bytes(8, "little")[:4]
    require(header[12:] == checksum, 12, "the file header's checksum differs")
    major, minor = header[8], header[9]
    if (major, minor) != VERSION:
        raise FormatError(INCOMPATIBLE, 8, f"the file needs version {major}.{minor}")
    found = int.from_bytes(header[10:12], "little")
    if found != FRAME and found & ~(ROUNDED | REPEATS):
        raise FormatError(INCOMPATIBLE, 10, "unknown flags")
    if (found == FRAME) != is_frame:
        what = "a file, not a frame" if is_frame else "a frame, not a file"
        raise FormatError(INCOMPATIBLE, 10, what)
    return found


# --- Container: Sections ---

SECTION_HEADER_LENGTH = 16
CRITICAL = 0x80
SEGMENT, CONTEXT, BLOCK, BLOCK_TABLE, DIRECTORY_PAGE, FOOTER, BASES, LOSSES = range(0x81, 0x89)
KINDS = {
    SEGMENT: "segment",
    CONTEXT: "context",
    BLOCK: "block",
    BLOCK_TABLE: "block table",
    DIRECTORY_PAGE: "directory page",
    FOOTER: "footer",
    BASES: "list of bases",
    LOSSES: "list of losses",
}


@dataclass
class Section:
    """A section header, and its place in the file."""

    at: int
    header: bytes

    @property
    def kind(self) -> int:
        return self.header[0]

    @property
    def sub(self) -> int:
        return self.header[1]

    @property
    def length(self) -> int:
        return int.from_bytes(self.header[4:8], "little")

    @property
    def checksum(self) -> int:
        return int.from_bytes(self.header[8:], "little")

    @property
    def payload_at(self) -> int:
        return self.at + SECTION_HEADER_LENGTH

    @property
    def end(self) -> int:
        return self.payload_at + padded(self.length)


def read_section_header(file: Reader) -> Section:
    """The next section's header. Unknown kinds come through if they may be skipped."""
    section = Section(file.offset, file.take(SECTION_HEADER_LENGTH))
    if section.kind not in KINDS and section.kind & CRITICAL:
        raise FormatError(INCOMPATIBLE, section.at, f"unknown section {section.kind:02X}")
    if section.kind in KINDS and section.kind not in (CONTEXT, BLOCK):
        require(section.sub == 0, section.at + 1, "the section's sub is not 0")
    require(not any(section.header[2:4]), section.at + 2, "not zero")
    return section


def read_payload(file: Reader, section: Section) -> bytes:
    """A section's payload. Its checksum is compared, but a block's is that of its decoded bytes."""
    payload = file.take(section.length)
    file.zeros(section.end - file.offset)
    if section.kind != BLOCK:
        found = xxh3(section.header[:8] + payload)
        require(found == section.checksum, section.at, "a section's checksum differs")
    return payload


def require_kind(section: Section, kind: int) -> None:
    require(section.kind == kind, section.at, f"no {KINDS[kind]} where there should be one")


def next_known_section(file: Reader) -> Section:
    """The header of the next section; unknown ones before it are skipped."""
    section = read_section_header(file)
    while section.kind not in KINDS:
        read_payload(file, section)
        section = read_section_header(file)
    return section


# --- Container: Bases ---


@dataclass
class RepeatedRange:
    """A range of the original itself."""

    begin: int
    length: int


@dataclass
class BaseTensor:
    """A tensor of another file, known by its BLAKE3."""

    file: str
    name: str
    length: int
    blake3: bytes


Base = BaseTensor | RepeatedRange
Repeated = Callable[[int, int], bytes]  # the original's bytes, by where they begin and their length


def parse_bases(payload: Reader, flags: int) -> list[Base]:
    files = [payload.string() for _ in range(payload.varint())]
    bases: list[Base] = []
    for _ in range(payload.varint()):
        file = payload.varint()
        require(file < len(files), payload.offset, "a base tensor of no file")
        name, length = payload.string(), payload.varint()
        bases.append(BaseTensor(files[file], name, length, payload.take(32)))
    count = payload.varint()
    bases += [RepeatedRange(payload.varint(), payload.varint()) for _ in range(count)]
    require(len(bases) >= 1, payload.offset, "a list of no bases")
    require((count > 0) == bool(flags & REPEATS), payload.offset, "not what the header says")
    payload.finish()
    return bases


def find_base(tensor: BaseTensor, bases: Sequence[bytes]) -> bytes:
    """The bytes of a base tensor. A base's own bases are before it."""
    for number, data in enumerate(bases):
        at = 0
        for span in spans_of(data):
            if span.tensor and (span.tensor.blake3, span.length) == (tensor.blake3, tensor.length):
                return read_at(data, at, span.length, bases[:number])
            at += span.length
    raise FormatError(BASE_NOT_FOUND, FILE_HEADER_LENGTH, f"{tensor.file}: {tensor.name}")


def spans_of(data: bytes) -> list["Span"]:
    """All spans of a .wz, from its directory."""
    segments = find_directory(data, find_footer(data))
    return [span for segment in segments for span in segment.spans]


# --- Container: Segments ---


MAX_BASE_PARTS = 4096
SCALES = 1  # in place of a dtype
MOST_SCALED = 64


@dataclass
class BasePart:
    """Some bytes of a segment, and where their base begins in which base, if they have one."""

    length: int
    base: int | None = None
    offset: int = 0
    dtype: int = 0  # of the base's elements, if they must be converted
    scaled: int = 0  # bytes of which each of the base's is the scale, if it is one


@dataclass
class SegmentHead:
    """What a segment section says."""

    layout: "RecordLayout"
    spans: list[int]
    parts: list[BasePart]


def parse_segment(payload: Reader) -> SegmentHead:
    payload.uint(8)  # the row length doesn't affect decoding
    layout = parse_record_layout(payload)
    spans = [payload.varint() for _ in range(payload.varint())]
    parts = []
    while payload.left:
        require(len(parts) < MAX_BASE_PARTS, payload.offset, "too many base parts")
        parts.append(parse_base_part(payload))
    return SegmentHead(layout, spans, parts)


def parse_base_part(payload: Reader) -> BasePart:
    length, tensor = payload.varint(), payload.varint()
    require(length >= 1, payload.offset, "a base part of no bytes")
    if tensor == 0:
        return BasePart(length)
    part = BasePart(length, tensor - 1, payload.varint(), payload.varint())
    if part.dtype == SCALES:
        part = BasePart(length, tensor - 1, part.offset, scaled=payload.varint())
        require(1 <= part.scaled <= MOST_SCALED, payload.offset, "impossible scales")
    if part.dtype != 0 and part.dtype not in CONVERTIBLE:
        raise FormatError(INCOMPATIBLE, payload.offset, f"a base of dtype {part.dtype}")
    return part


def check_parts(head: SegmentHead, bases: Sequence[Base], first_byte: int, at: int) -> None:
    if not head.parts:
        return
    require(sum(part.length for part in head.parts) <= sum(head.spans), at, "base parts too long")
    begin = 0
    for part in head.parts:
        if part.base is not None:
            require(part.base < len(bases), at, "a base part of no base tensor")
            if part.dtype:
                check_conversion(part, begin, head.layout, at)
            if part.scaled:
                require(part.length % part.scaled == 0, at, "a part of a scale")
            end = part.offset + length_in_base(part, head.layout)
            base = bases[part.base]
            require(end <= base.length, at, "a base part that leaves its base")
            if isinstance(base, RepeatedRange):
                earlier = base.begin + base.length <= first_byte
                require(earlier or part.scaled, at, "a range that is not before what repeats it")
                require(len(head.parts) == 1, at, "other parts beside a repeated range")
        begin += part.length
    require(any(part.base is not None for part in head.parts), at, "base parts without a base")


def check_conversion(part: BasePart, begin: int, layout: "RecordLayout", at: int) -> None:
    """Refuses what is not whole floats, converted to whole floats of another dtype."""
    dtype = convertible_dtype(layout)
    require(dtype is not None, at, "a conversion to what is not a float")
    require(dtype != part.dtype, at, "a conversion to the same dtype")
    records = begin % layout.length == 0 and part.length % layout.length == 0
    elements = part.offset % CONVERTIBLE[part.dtype].length == 0
    require(records and elements, at, "a conversion that starts or ends within a float")


def length_in_base(part: BasePart, layout: "RecordLayout") -> int:
    if part.scaled:
        return part.length // part.scaled
    if part.dtype == 0:
        return part.length
    return part.length // layout.length * CONVERTIBLE[part.dtype].length


class SegmentBase:
    """What the blocks of a segment are coded against."""

    def __init__(
        self,
        head: SegmentHead,
        listed: Sequence[Base],
        bases: Sequence[bytes],
        repeated: Repeated,
    ):
        self.bytes = b""
        found: dict[int, bytes] = {}
        for part in head.parts:
            if part.base is None:
                self.bytes += bytes(part.length)
            else:
                base = listed[part.base]
                if part.base not in found:
                    if isinstance(base, RepeatedRange):
                        found[part.base] = repeated(base.begin, base.length)
                    else:
                        found[part.base] = find_base(base, bases)
                end = part.offset + length_in_base(part, head.layout)
                data = found[part.base][part.offset : end]
                if part.dtype:
                    data = convert_all(data, part.dtype, convertible_dtype(head.layout))
                if part.scaled:
                    data = b"".join(bytes([scale]) * part.scaled for scale in data)
                self.bytes += data

    def of_block(self, begin: int, length: int) -> bytes | None:
        """The range of it that a block has; None if the segment has no base."""
        return self.bytes[begin : begin + length].ljust(length, b"\0") if self.bytes else None


# --- Container: Segments: Conversion ---


@dataclass
class FloatFormat:
    length: int
    exponent_bits: int

    @property
    def mantissa_bits(self) -> int:
        return 8 * self.length - 1 - self.exponent_bits

    @property
    def bias(self) -> int:
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def infinity(self) -> int:
        return 2**self.exponent_bits - 1 << self.mantissa_bits


# By dtype: F16, BF16 and F32.
CONVERTIBLE = {16: FloatFormat(2, 5), 17: FloatFormat(2, 8), 18: FloatFormat(4, 8)}


def convertible_dtype(layout: "RecordLayout") -> int | None:
    """The dtype whose elements records are, if bases can be converted to it."""
    for dtype, floats in CONVERTIBLE.items():
        field = Field(0, 1, 8 * floats.length, FLOAT, floats.exponent_bits, 0)
        if layout == RecordLayout(floats.length, "little", [field]):
            return dtype
    return None


def convert_all(data: bytes, old: int, new: int) -> bytes:
    """Floats of one dtype as floats of another."""
    length, new_length = CONVERTIBLE[old].length, CONVERTIBLE[new].length
    converted = bytearray()
    for at in range(0, len(data), length):
        bits = int.from_bytes(data[at : at + length], "little")
        converted += convert(bits, CONVERTIBLE[old], CONVERTIBLE[new]).to_bytes(new_length, "little")
    return bytes(converted)


def convert(bits: int, old: FloatFormat, new: FloatFormat) -> int:
    sign, without_sign = divmod(bits, 2 ** (8 * old.length - 1))
    if without_sign > old.infinity:
        payload = (without_sign - old.infinity) << new.mantissa_bits >> old.mantissa_bits
        converted = new.infinity | 2 ** (new.mantissa_bits - 1) | payload
    elif without_sign == old.infinity:
        converted = new.infinity
    else:
        converted = min(nearest(without_sign, old, new), new.infinity)
    return sign << 8 * new.length - 1 | converted


def nearest(bits: int, old: FloatFormat, new: FloatFormat) -> int:
    """The float nearest to one that is finite and not negative; beyond infinity if it is too large."""
    exponent, mantissa = divmod(bits, 2**old.mantissa_bits)
    if exponent > 0:
        mantissa += 2**old.mantissa_bits
    if mantissa == 0:
        return 0
    # The value is the mantissa times 2 to the power of this; then that of the new last bit.
    power = max(exponent, 1) - old.bias - old.mantissa_bits
    new_exponent = max(power + mantissa.bit_length() - 1 + new.bias, 1)
    new_power = new_exponent - new.bias - new.mantissa_bits
    # Python rounds to the nearest, too, and to even if two are as near.
    new_mantissa = round(Fraction(mantissa) * Fraction(2) ** (power - new_power))
    return (new_exponent - 1 << new.mantissa_bits) + new_mantissa


def check_segment_length(head: SegmentHead, length: int, at: int) -> None:
    if head.spans:
        require(length <= sum(head.spans), at, "a segment of more bytes than its spans")


# --- Container: Record layout ---

OPAQUE_ROLE, UNSIGNED, SIGNED, FLOAT, UPPER, EXPONENT = range(6)
BYTE_ORDERS = ("little", "big")
MAX_RECORD_LENGTH = 4096
MAX_EXPONENT_BITS = 11


@dataclass
class Field:
    first_bit: int
    count: int
    bits: int
    role: int
    exponent_bits: int
    run: int

    @property
    def end_bit(self) -> int:
        return self.first_bit + self.count * self.bits

    @property
    def length(self) -> int:
        """Bytes that its numbers take in a record."""
        return self.count * self.bits // 8


@dataclass
class RecordLayout:
    length: int
    byte_order: str
    fields: list[Field]


def parse_record_layout(payload: Reader) -> RecordLayout:
    start = payload.offset
    length, order, fields = payload.uint(2), payload.uint(1), payload.uint(1)
    require(1 <= length <= MAX_RECORD_LENGTH, start, f"records of {length} bytes")
    require(order < len(BYTE_ORDERS), start + 2, f"unknown byte order {order}")
    require(fields >= 1, start + 3, "a record without fields")
    layout = RecordLayout(length, BYTE_ORDERS[order], [parse_field(payload) for _ in range(fields)])
    for field, behind in pairwise(layout.fields):
        require(field.end_bit <= behind.first_bit, start, "fields overlap or are out of order")
    require(layout.fields[-1].end_bit <= 8 * length, start, "a field leaves the record")
    return layout


def parse_field(payload: Reader) -> Field:
    start = payload.offset
    field = Field(*(payload.uint(size) for size in (2, 2, 1, 1, 1, 1)))
    if field.role > EXPONENT:
        raise FormatError(INCOMPATIBLE, start + 5, f"unknown role {field.role}")
    require(field.count >= 1, start + 2, "a field of no numbers")
    require(1 <= field.bits <= 64, start + 4, f"a number of {field.bits} bits")
    if field.role == FLOAT:
        most = min(MAX_EXPONENT_BITS, field.bits - 1)
        require(1 <= field.exponent_bits <= most, start + 6, "a float's exponent bits")
    else:
        require(field.exponent_bits == 0, start + 6, "exponent bits of what is not a float")
    if field.run:
        require(field.bits in (1, 2, 4), start + 7, "runs of numbers that are not small")
        whole = field.first_bit % 8 == 0 and field.count * field.bits % (8 * field.run) == 0
        require(whole, start + 7, "runs that are not whole")
    return field


# --- Container: Contexts ---

RANK_TABLE, COLUMN_SCALES = 0x81, 0x82
MAX_CONTEXT_LENGTH = 65536


class Contexts:
    """The contexts of one segment."""

    def __init__(self, layout: RecordLayout):
        self.layout = layout
        self.rank_table = None
        self.column_scales = None

    def read(self, file: Reader, section: Section) -> None:
        require(section.length <= MAX_CONTEXT_LENGTH, section.at, "a context too long")
        payload = Reader(read_payload(file, section), section.payload_at)
        if section.sub == RANK_TABLE:
            require(self.rank_table is None, section.at, "two rank tables")
            self.rank_table = self.parse_rank_table(payload)
        elif section.sub == COLUMN_SCALES:
            require(self.column_scales is None, section.at, "column scales that come twice")
            self.column_scales = self.parse_column_scales(payload)
        elif section.sub & CRITICAL:
            raise FormatError(INCOMPATIBLE, section.at, f"unknown context {section.sub:02X}")

    def parse_rank_table(self, payload: Reader) -> list[int]:
        floats = floats_of(self.layout)
        require(floats is not None, payload.offset, "a rank table for records that are not floats")
        entries, odd = divmod(payload.left, floats.rank_entry_length)
        require(odd == 0, payload.offset, "half an entry of a rank table")
        table = read_rank_table(payload, entries, floats)
        if floats.exponent_bits <= 8:
            listed = set(table)
            table += (e for e in range(2**floats.exponent_bits) if e not in listed)
        return table

    def parse_column_scales(self, payload: Reader) -> list[int]:
        floats = floats_of(self.layout)
        require(floats is not None, payload.offset, "column scales of records that are not floats")
        scales = list(payload.take(payload.left))
        require(max(scales, default=0) <= MAX_SCALE, payload.start, "a scale too large")
        return scales


# --- Container: Blocks ---

PREAMBLE_LENGTH = 16
MAX_RECORDS = 2**24 - 1
MAX_DECODED_LENGTH = 8 * 2**20
LONGEST_WITHOUT_BASE = 240
BYTES = 0x85
XOR, DIFFERENCE, STEPS, SPARSE, RANKS, FIXED, FIXED_DELTA, FIELDS, GUESS, ZEROS, PALETTE, PACKED, SCALED = range(
    0x86, 0x93
)
NEED_BASE = (XOR, DIFFERENCE, STEPS, SPARSE, FIXED_DELTA, SCALED)

# What parts of payloads that are payloads themselves may be coded as.
SIMPLE = (0x80, 0x81, 0x82, 0x83, 0x84, BYTES, RANKS)
VALUES_NEXT_TO_ZERO = (*SIMPLE, FIXED, PALETTE)
GUESSED_FLOATS = (*SIMPLE, FIXED, PALETTE, ZEROS)
COLUMN = (*SIMPLE, FIXED, PALETTE, ZEROS, PACKED)
COLUMN_WITH_BASE = (DIFFERENCE,)
VALUES_NEXT_TO_BASE = (*SIMPLE, FIXED, PALETTE, ZEROS, FIELDS, GUESS, XOR, DIFFERENCE, STEPS, FIXED_DELTA)


@dataclass
class Block:
    """A block before it is decoded: of how many records, and the two parts of its payload."""

    records: int
    layout: RecordLayout
    parameters: Reader  # the part of the preamble that is the coding's own
    body: Reader
    base: bytes | None = None

    @property
    def decoded_length(self) -> int:
        return self.records * self.layout.length


def read_block(file: Reader, section: Section, layout: RecordLayout) -> Block:
    at = section.payload_at
    if section.sub not in CODINGS:
        raise FormatError(INCOMPATIBLE, section.at, f"unknown coding {section.sub:02X}")
    require(section.length >= PREAMBLE_LENGTH, section.at, "a block without its preamble")
    most = PREAMBLE_LENGTH + MAX_DECODED_LENGTH
    require(section.length <= most, section.at, "a block too long")
    payload = read_payload(file, section)
    preamble, body = payload[:PREAMBLE_LENGTH], payload[PREAMBLE_LENGTH:]
    records = int.from_bytes(preamble[:4], "little")
    block = Block(records, layout, Reader(preamble[4:], at + 4), Reader(body, at + PREAMBLE_LENGTH))
    require(1 <= records <= MAX_RECORDS, at, f"a block of {records} records")
    require(block.decoded_length <= MAX_DECODED_LENGTH, at, "a block that decodes to too much")
    require(len(body) <= block.decoded_length, at, "a block longer than what it decodes to")
    return block


def decode_block(section: Section, block: Block, contexts: Contexts) -> bytes:
    if section.sub in NEED_BASE:
        check_base(block, section.at)
    decoded = CODINGS[section.sub](block, contexts)
    require(len(decoded) == block.decoded_length, section.at, "a block of another length")
    block.parameters.finish()
    block.body.finish()
    require(xxh3(decoded) == section.checksum, section.at, "a block's checksum differs")
    return decoded


def check_base(block: Block, at: int) -> None:
    """Compares the hash of a block's base, which its body begins with."""
    stated = block.body.uint(16)
    require(block.base is not None, at, "a block against a base in a segment without")
    require(block.decoded_length > LONGEST_WITHOUT_BASE, at, "a base of a short block")
    if block.base is not None and xxh3_128(block.base) != stated:
        raise FormatError(BASE_NOT_FOUND, at, "the block's base is another one")


# --- Container: Block tables ---

TABLE_ENTRY_LENGTH = 16


@dataclass
class TableEntry:
    length: int
    records: int
    coding: int
    checksum: int


def parse_block_table(payload: Reader) -> list[TableEntry]:
    require(payload.left % TABLE_ENTRY_LENGTH == 0, payload.offset, "half a block table entry")
    entries = []
    while payload.left:
        entries.append(TableEntry(*(payload.uint(size) for size in (4, 3, 1, 8))))
    return entries


def entry_of(section: Section, block: Block) -> TableEntry:
    """What the block table must say about a block."""
    return TableEntry(section.length, block.records, section.sub, section.checksum)


# --- Container: Directory ---

MAX_NAME_LENGTH = 2**20
MAX_DIMENSIONS = 64
OPAQUE_SPAN = 0


@dataclass
class Tensor:
    dtype: int
    shape: list[int]
    name: bytes
    blake3: bytes


@dataclass
class Span:
    length: int
    tensor: Tensor | None  # None if it is opaque


@dataclass
class SegmentPlace:
    """Where the sections of a segment are, and what is in them."""

    at: int
    first_block_at: int
    table_at: int
    blocks: int
    length: int

    @property
    def end(self) -> int:
        return self.table_at + SECTION_HEADER_LENGTH + self.blocks * TABLE_ENTRY_LENGTH


@dataclass
class PageSegment:
    place: SegmentPlace
    spans: list[Span]


@dataclass
class Page:
    first_byte: int
    segments: list[PageSegment]

    @property
    def length(self) -> int:
        return sum(segment.place.length for segment in self.segments)

    @property
    def tensors(self) -> list[Tensor]:
        spans = [span for segment in self.segments for span in segment.spans]
        return [span.tensor for span in spans if span.tensor]


# Most bytes of names per byte of a directory page.
NAMES_PER_BYTE = 16


def parse_page(payload: Reader) -> Page:
    page = Page(payload.uint(8), [])
    end, name = 0, b""
    start, names = payload.offset - 8, 0
    for _ in range(payload.varint()):
        at = end + payload.varint()
        first_block_at = at + payload.varint()
        table_at = first_block_at + payload.varint()
        place = SegmentPlace(at, first_block_at, table_at, payload.varint(), payload.varint())
        segment = PageSegment(place, [])
        for _ in range(payload.varint()):
            span = parse_span(payload, name)
            segment.spans.append(span)
            if span.tensor:
                name = span.tensor.name
                names += len(name)
                page_bytes = payload.offset - start
                require(names <= NAMES_PER_BYTE * page_bytes, payload.offset, "names that expand")
        lengths = sum(span.length for span in segment.spans)
        require(lengths == place.length, payload.offset, "spans that don't fill their segment")
        page.segments.append(segment)
        end = place.end
    payload.finish()
    return page


def parse_span(payload: Reader, name_before: bytes) -> Span:
    start = payload.offset
    length = payload.varint()
    dtype = payload.uint(1)
    if dtype == OPAQUE_SPAN:
        return Span(length, None)
    if dtype not in DTYPE_BLOCKS:
        raise FormatError(INCOMPATIBLE, start, f"unknown dtype {dtype}")
    dimensions = payload.varint()
    require(dimensions <= MAX_DIMENSIONS, start, "a tensor of too many dimensions")
    shape = [payload.varint() for _ in range(dimensions)]
    shared = payload.varint()
    require(shared <= len(name_before), start, "shares more than the name before has")
    name = name_before[:shared] + payload.take(payload.varint())
    as_text(name[:shared], start)
    as_text(name, start)
    require(len(name) <= MAX_NAME_LENGTH, start, "a name too long")
    elements, size = DTYPE_BLOCKS[dtype]
    fills = prod(shape) % elements == 0 and prod(shape) // elements * size == length
    require(fills, start, "a tensor whose shape doesn't fill its bytes")
    return Span(length, Tensor(dtype, shape, name, payload.take(32)))


def check_spans(segment: PageSegment, head: SegmentHead) -> None:
    """Compares the spans in the directory with those that the segment section expects."""
    at = segment.place.at
    found = [span.length for span in segment.spans]
    lengths, cut = spans_within(segment.place.length, head)
    require(found == lengths, at, "spans of other lengths than their segment states")
    require(not (cut and segment.spans[-1].tensor), at, "a tensor that was cut short")
    if not head.spans:
        require(not any(span.tensor for span in segment.spans), at, "a tensor that is not stated")


def spans_within(length: int, head: SegmentHead) -> tuple[list[int], bool]:
    """The lengths of the spans that a segment's bytes make up, and if the last one is cut short."""
    whole, left = [], length
    for span in head.spans:
        if span > left:
            break
        whole.append(span)
        left -= span
    # What is left is all of a segment that states no spans, or the beginning of a span.
    return (whole + [left], bool(head.spans)) if left else (whole, False)


# --- Container: Losses ---

TO_MULTIPLES, TO_BITS = 0, 1
POWERS, BITS = range(-1074, 1024), range(53)


@dataclass
class Losses:
    source_blake3: bytes
    tensors: list[int]


def parse_losses(payload: Reader) -> Losses:
    losses = Losses(payload.take(32), [])
    payload.string()  # the rules
    tensor = 0
    for _ in range(payload.varint()):
        start = payload.offset
        tensor += payload.varint()
        losses.tensors.append(tensor)
        tensor += 1
        kind, number = payload.uint(1), int.from_bytes(payload.take(4), "little", signed=True)
        if kind not in (TO_MULTIPLES, TO_BITS):
            raise FormatError(INCOMPATIBLE, start, f"rounded in an unknown way {kind}")
        require(number in (BITS if kind else POWERS), start, "rounded to what no number has")
        for _ in range(4):
            (error,) = unpack("<d", payload.take(8))
            require(error >= 0 and copysign(1, error) > 0, start, "an error that can't be")
    payload.finish()
    return losses


def check_losses(losses: Losses | None, is_rounded: bool, footer: "Footer") -> None:
    """Compares the losses with what the file header and the footer say."""
    require(is_rounded == (losses is not None), footer.at, "a file header that states other losses")
    tensors = losses.tensors if losses else []
    require(all(tensor < footer.tensors for tensor in tensors), footer.at, "losses of no tensor")


# --- Container: Footer ---

HAS_SHA256 = 1
HAS_BASES = 2
HAS_LOSSES = 4
PAGE_ENTRY_LENGTH = 24


@dataclass
class PageEntry:
    at: int
    first_byte: int
    length: int
    segments: int

    @property
    def end(self) -> int:
        return self.at + SECTION_HEADER_LENGTH + padded(self.length)


@dataclass
class Footer:
    at: int
    length: int
    tensors: int
    blake3: bytes
    sha256: bytes | None
    bases_length: int | None
    losses_length: int | None
    pages: list[PageEntry]


def read_footer(file: Reader, section: Section) -> Footer:
    require_kind(section, FOOTER)
    payload = Reader(read_payload(file, section), section.payload_at)
    length, tensors, flags = payload.uint(8), payload.uint(8), payload.uint(4)
    if flags & ~(HAS_SHA256 | HAS_BASES | HAS_LOSSES):
        raise FormatError(INCOMPATIBLE, section.payload_at + 16, "unknown flags")
    payload.uint(1)  # what the original was recognised as is a hint
    payload.zeros(3)
    footer = Footer(section.at, length, tensors, payload.take(32), None, None, None, [])
    if flags & HAS_SHA256:
        footer.sha256 = payload.take(32)
    if flags & HAS_BASES:
        footer.bases_length = payload.uint(4)
    if flags & HAS_LOSSES:
        footer.losses_length = payload.uint(4)
    payload.string()  # the program that wrote the file
    payload.string()  # the level
    require(payload.left % PAGE_ENTRY_LENGTH == 0, payload.offset, "half a page's entry")
    while payload.left:
        footer.pages.append(PageEntry(*(payload.uint(size) for size in (8, 8, 4, 4))))
    return footer


# --- Container: Tail ---

TAIL_LENGTH = 32
TAIL_MAGIC = bytes.fromhex("89 77 7A 65 6E 64 0A 00")


def read_tail(file: Reader) -> int:
    """The offset of the footer's section."""
    at = file.offset
    tail = file.take(TAIL_LENGTH)
    if tail[24:] != TAIL_MAGIC:
        raise FormatError(INSUFFICIENT, at + 24, "no tail")
    require(tail[16:24] == xxh3(tail[:16]).to_bytes(8, "little"), at + 16, "the tail's checksum")
    require(not any(tail[8:16]), at + 8, "not zero")
    require(file.left == 0, file.offset, "bytes behind the tail")
    return int.from_bytes(tail[:8], "little")


# --- Frames ---


def decode_frame(data: bytes) -> bytes:
    """The records of a frame."""
    file = Reader(data, at_end=INSUFFICIENT)
    records = bytearray()
    read_file_header(file, is_frame=True)
    section = read_section_header(file)
    require_kind(section, SEGMENT)
    repeated = partial(read_at, data, is_repeated=True)
    _, head = read_segment(file, section, records, (), (), repeated)
    require(head.spans == [len(records)], section.at, "other bytes than the frame states")
    file.finish()
    return bytes(records)


# --- Codings: Raw, Constant, Zstd ---


def decode_raw(block: Block, _contexts: Contexts) -> bytes:
    block.parameters.zeros(12)
    return block.body.take(block.decoded_length)


def decode_constant(block: Block, _contexts: Contexts) -> bytes:
    block.parameters.zeros(12)
    return block.body.take(block.layout.length) * block.records


def decode_zstd(block: Block, _contexts: Contexts) -> bytes:
    block.parameters.zeros(12)
    content = unpack_zstd(block)
    if block.layout.length == 1:
        return content
    decoded = bytearray(len(content))
    for group in range(block.layout.length):
        first = group * block.records
        decoded[group :: block.layout.length] = content[first : first + block.records]
    return bytes(decoded)


def unpack_zstd(block: Block) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise ImportError("the zstd coding needs the package zstandard") from None
    start, length = block.body.offset, block.decoded_length
    frame = block.body.take(block.body.left)
    try:
        parameters = zstandard.get_frame_parameters(frame)
        require(parameters.dict_id == 0, start, "a zstd frame with a dictionary")
        stated = parameters.content_size
        known = stated != zstandard.CONTENTSIZE_UNKNOWN
        require(not known or stated == length, start, "a zstd frame of another length")
        decompressor = zstandard.ZstdDecompressor()
        content = decompressor.decompress(frame, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(CORRUPT, start, f"zstd: {error}") from None
    require(len(content) == length, start, "a zstd frame of another length")
    return content


# --- Codings: Floats ---


@dataclass
class Floats:
    """Records that are floats and nothing else."""

    per_record: int
    bits: int
    exponent_bits: int

    @property
    def mantissa_bits(self) -> int:
        return self.bits - 1 - self.exponent_bits

    @property
    def rank_entry_length(self) -> int:
        return 1 if self.exponent_bits <= 8 else 2


def floats_of(layout: RecordLayout) -> Floats | None:
    first = layout.fields[0]
    only = len(layout.fields) == 1 and first.first_bit == 0 and first.end_bit == 8 * layout.length
    if only and first.role == FLOAT and first.bits in (8, 16, 32, 64):
        return Floats(first.count, first.bits, first.exponent_bits)
    return None


# --- Codings: Rank tables ---

MAX_RANKS = 256


def read_rank_table(payload: Reader, entries: int, floats: Floats) -> list[int]:
    start = payload.offset
    require(entries <= MAX_RANKS, start, f"a rank table of {entries} entries")
    table = [payload.uint(floats.rank_entry_length) for _ in range(entries)]
    require(len(set(table)) == entries, start, "an exponent that comes twice")
    require(max(table, default=0) < 2**floats.exponent_bits, start, "an exponent too large")
    return table


# --- Codings: Strips ---

GROUP = 64  # codes


def strips_of(width: int) -> list[int]:
    """Bits of the strips of codes of some width."""
    return [8] * (width // 8) + [bits for bits in (4, 2, 1) if width & bits]


def read_codes(body: Reader, count: int, width: int) -> list[int]:
    """The strips of some codes."""
    codes = [0] * count
    shift = 0
    for bits in strips_of(width):
        strip = read_strip(body, count, bits)
        codes = [code | part << shift for code, part in zip(codes, strip)]
        shift += bits
    return codes


def codes_length(count: int, width: int) -> int:
    """Bytes that the strips of some codes take."""
    groups = -(-count // GROUP)
    return sum(padded(groups * 8 * bits) for bits in strips_of(width))


def read_strip(body: Reader, count: int, bits: int) -> list[int]:
    start = body.offset
    groups = -(-count // GROUP)
    parts = []
    for _ in range(groups):
        parts += unpack_group(body.take(8 * bits), bits)
    body.zeros(padded(groups * 8 * bits) - groups * 8 * bits)
    require(not any(parts[count:]), start, "a strip that is not filled up with zeros")
    return parts[:count]


def unpack_group(group: bytes, bits: int) -> list[int]:
    if bits == 1:
        return [byte >> bit & 1 for byte in group for bit in range(8)]
    return [byte >> shift & 2**bits - 1 for shift in range(0, 8, bits) for byte in group]


# --- Codings: Residual chunks ---

CHUNK = 1024  # elements
LOW_BITS, NO_SIGN, SUBNORMALS = 0x3F, 0x40, 0x80


def read_narrowings(body: Reader, elements: int, for_all: int | None) -> list[int]:
    """The narrowings, and the zeros behind them."""
    chunks = -(-elements // CHUNK)
    narrowings = list(body.take(chunks)) if for_all is None else [for_all] * chunks
    body.zeros(padded(body.position) - body.position)
    return narrowings


def read_residuals(body: Reader, elements: int, floats: Floats, narrowings: list[int]) -> list[int]:
    """The residuals, without what only the subnormals' codes have."""
    residuals = []
    for narrowing in narrowings:
        count = min(CHUNK, elements - len(residuals))
        codes = read_codes(body, count, residual_width(narrowing, floats, body.start))
        residuals += (code << (narrowing & LOW_BITS) for code in codes)
    return residuals


def residual_width(narrowing: int, floats: Floats, offset: int) -> int:
    """Bits of a chunk's residuals that are stored."""
    low_bits = narrowing & LOW_BITS
    require(low_bits <= floats.mantissa_bits, offset, "a chunk without more bits than it has")
    return floats.mantissa_bits + 1 - low_bits - bool(narrowing & NO_SIGN)


def add_subnormals(
    residuals: list[int], exponents: list[int], narrowings: list[int], codes: list[int], offset: int
) -> None:
    """Gives the subnormals of some chunks their low bits back."""
    takers = [
        element
        for element, exponent in enumerate(exponents)
        if exponent == 0 and narrowings[element // CHUNK] & SUBNORMALS
    ]
    require(len(takers) == len(codes), offset, "other subnormals than stated")
    for element, code in zip(takers, codes):
        residuals[element] |= code


def join_floats(
    residuals: list[int], exponents: list[int], floats: Floats, byte_order: str
) -> bytes:
    mantissa_bits = floats.mantissa_bits
    decoded = bytearray()
    for residual, exponent in zip(residuals, exponents):
        sign, mantissa = residual >> mantissa_bits, residual & 2**mantissa_bits - 1
        value = sign << floats.bits - 1 | exponent << mantissa_bits | mantissa
        decoded += value.to_bytes(floats.bits // 8, byte_order)
    return bytes(decoded)


# --- Codings: Planes ---

MAX_PLANES = 6
MAX_TAIL_WIDTH = 8
SHARED_RANKS, ONE_NARROWING = 1, 2


@dataclass
class Planes:
    """The preamble of a block of planes."""

    widths: list[int]
    tail_width: int
    flags: int
    rank_entries: int
    narrowing: int
    subnormal_width: int
    subnormals: int


def parse_widths(parameters: Reader) -> tuple[list[int], int]:
    """The widths of planes and of the tail codes."""
    at, widths, slots = parameters.offset, [], parameters.uint(2)
    while slots & 3:
        widths.append(slots & 3)
        slots >>= 2
    require(slots == 0 and len(widths) <= MAX_PLANES, at, "widths behind the planes")
    tail_width = parameters.uint(1)
    require(tail_width <= MAX_TAIL_WIDTH, at + 2, "tail codes too wide")
    return widths, tail_width


def parse_planes(parameters: Reader, floats: Floats, elements: int) -> Planes:
    at = parameters.offset
    widths, tail_width = parse_widths(parameters)
    planes = Planes(widths, tail_width, *(parameters.uint(size) for size in (1, 2, 1, 1, 4)))
    require(planes.flags <= SHARED_RANKS | ONE_NARROWING, at + 3, "unknown flags")
    if planes.flags & SHARED_RANKS:
        require(planes.rank_entries == 0, at + 4, "two rank tables")
    if not planes.flags & ONE_NARROWING:
        require(planes.narrowing == 0, at + 6, "a narrowing that is not used")
    require(planes.subnormal_width <= floats.mantissa_bits, at + 7, "subnormals' codes too wide")
    require(planes.subnormals <= elements, at + 8, "more subnormals than elements")
    return planes


def decode_planes(block: Block, contexts: Contexts) -> bytes:
    floats = floats_of(block.layout)
    require(floats is not None, block.body.offset, "planes of records that are not floats")
    elements = block.records * floats.per_record
    planes = parse_planes(block.parameters, floats, elements)

    body = block.body
    escapes = [body.uint(4) for _ in planes.widths]
    table = read_rank_table(body, planes.rank_entries, floats)
    if planes.flags & SHARED_RANKS:
        require(contexts.rank_table is not None, body.offset, "the segment has no rank table")
        table = contexts.rank_table
    for_all = planes.narrowing if planes.flags & ONE_NARROWING else None
    narrowings = read_narrowings(body, elements, for_all)
    residuals = read_residuals(body, elements, floats, narrowings)
    subnormals = read_codes(body, planes.subnormals, planes.subnormal_width)
    ranks = read_ranks(body, elements, planes.widths, planes.tail_width, escapes)
    exponents = [table[rank] if rank < len(table) else 0 for rank in ranks]
    add_subnormals(residuals, exponents, narrowings, subnormals, body.offset)
    return join_floats(residuals, exponents, floats, block.layout.byte_order)


def read_ranks(
    body: Reader, elements: int, widths: list[int], tail_width: int, escapes: list[int]
) -> list[int]:
    """Each element's rank: its code in the last plane that it comes to, or its tail code."""
    ranks = [0] * elements
    undecided = list(range(elements))
    base = 0
    for width, stated in zip(widths, escapes):
        escape = 2**width - 1
        require(stated <= len(undecided), body.start, "more escapes than elements")
        codes = read_codes(body, len(undecided), width)
        for element, code in zip(undecided, codes):
            ranks[element] = base + code
        undecided = [element for element, code in zip(undecided, codes) if code == escape]
        require(len(undecided) == stated, body.start, "other escapes than stated")
        base += escape
    for element, code in zip(undecided, read_codes(body, len(undecided), tail_width)):
        ranks[element] = (base + code) % 256
    return ranks


# --- Codings: Tops ---

TOP_MANTISSA_BITS = 2
MAX_TOP_BITS = 11


def with_tops(floats: Floats) -> Floats:
    """The same floats, with tops in place of exponents."""
    return Floats(floats.per_record, floats.bits, floats.exponent_bits + TOP_MANTISSA_BITS)


def have_tops(floats: Floats) -> bool:
    top_bits = floats.exponent_bits + TOP_MANTISSA_BITS
    return floats.mantissa_bits >= TOP_MANTISSA_BITS and top_bits <= MAX_TOP_BITS


def tops_by_rank(fixed: list[int], low: int, floats: Floats) -> list[int]:
    """The tops of ranks 0 to 255; `floats` have tops."""
    moving = range(low, low + 256 - 1 - len(fixed))
    limit = 2**floats.exponent_bits
    return [0, *fixed, *(top if top < limit else 0 for top in moving)]


# --- Codings: Scales ---

MAX_SCALE = 31
MAX_SCALE_WIDTH = 5
ESCAPE = 0


def element_scales(rows: list[int], columns: list[int]) -> list[int]:
    return [row + column for row in rows for column in columns]


def rank_of_symbol(symbol: int, scale: int, fixed: int, shift: int) -> int:
    """The rank of a symbol that isn't the escape."""
    if symbol <= fixed:
        return symbol
    step = scale - scale % TABLES
    return (symbol + step + shift) % 256


# --- Codings: Shares ---

SLOTS = 1024
WEIGHT_CODE_WIDTH = 6


def weight_of(code: int) -> int:
    return (4 + (code - 1) % 4) << (code - 1) // 4 if code else 0


def shares_of(codes: list[int]) -> list[int]:
    weights = [weight_of(code) for code in codes]
    total = sum(weights)
    if total == 0:
        return [SLOTS]
    shares = [max(1, (w * SLOTS + total // 2) // total) if w else 0 for w in weights]
    order = sorted(range(len(shares)), key=lambda symbol: -shares[symbol])
    for symbol in cycle(order):
        missing = SLOTS - sum(shares)
        if missing == 0:
            return shares
        if missing > 0 and shares[symbol] > 0:
            shares[symbol] += 1
        elif missing < 0 and shares[symbol] > 1:
            shares[symbol] -= 1


def slots_of(shares: list[int]) -> list[tuple[int, int, int]]:
    """For each slot the symbol, its share, and its start."""
    slots = []
    for symbol, share in enumerate(shares):
        slots += [(symbol, share, len(slots))] * share
    return slots


# --- Codings: Ranges ---

NARROWING_FOR_ALL, SEGMENT_COLUMNS = 1, 2
MAX_ESCAPE_WIDTH = 8
TABLES = 4
LANES = 64
LOWEST_STATE = 2**16
CARRIED_PER_LANE = 2


@dataclass
class Ranges:
    """The preamble of a block of ranges."""

    row: int
    shift: int
    low: int
    fixed: int
    symbols: int
    flags: int
    escape_width: int
    row_width: int
    column_width: int
    subnormal_width: int
    narrowing: int


def parse_ranges(parameters: Reader, floats: Floats, elements: int, contexts: Contexts) -> Ranges:
    at = parameters.offset
    row, shift, low, fixed, last, flags, widths, subnormal_width, narrowing = (
        parameters.uint(size) for size in (3, 1, 2, 1, 1, 1, 1, 1, 1)
    )
    ranges = Ranges(
        *(row, shift, low, fixed, last + 1, flags & 15, flags >> 4),
        *(widths & 15, widths >> 4, subnormal_width, narrowing),
    )
    require(ranges.flags <= NARROWING_FOR_ALL | SEGMENT_COLUMNS, at + 8, "unknown flags")
    require(ranges.escape_width <= MAX_ESCAPE_WIDTH, at + 8, "escape codes too wide")
    widest = max(ranges.row_width, ranges.column_width)
    require(widest <= MAX_SCALE_WIDTH, at + 9, "scales too wide")
    require(subnormal_width <= floats.mantissa_bits, at + 10, "subnormals' codes too wide")
    if not ranges.flags & NARROWING_FOR_ALL:
        require(narrowing == 0, at + 11, "a narrowing that is not used")
    if row:
        require(elements % row == 0, at, "not whole rows")
    else:
        require(widths == 0, at + 9, "scales without rows")
        require(not ranges.flags & SEGMENT_COLUMNS, at + 8, "scales without rows")
    if ranges.flags & SEGMENT_COLUMNS:
        require(ranges.column_width == 0, at + 9, "own column scales and the segment's")
        require(contexts.column_scales is not None, at + 8, "the segment has no column scales")
        require(len(contexts.column_scales) == row, at, "column scales of other rows")
    return ranges


def decode_ranges(block: Block, contexts: Contexts) -> bytes:
    floats, body = floats_of(block.layout), block.body
    require(floats is not None, body.offset, "ranges of records that are not floats")
    require(have_tops(floats), body.offset, "ranges of floats without tops")
    floats = with_tops(floats)
    elements = block.records * floats.per_record
    ranges = parse_ranges(block.parameters, floats, elements, contexts)

    escape_count, subnormal_count = body.uint(4), body.uint(4)
    require(max(escape_count, subnormal_count) <= elements, body.start, "more codes than elements")
    fixed = [body.uint(2) for _ in range(ranges.fixed)]
    require(max(fixed, default=0) < 2**floats.exponent_bits, body.start, "a top too large")
    for_all = ranges.narrowing if ranges.flags & NARROWING_FOR_ALL else None
    narrowings = read_narrowings(body, elements, for_all)
    scales = read_scales(body, elements, ranges, contexts)
    tables = read_tables(body, ranges)
    states = [body.uint(4) for _ in range(LANES)]

    chunks = [min(CHUNK, elements - first) for first in range(0, elements, CHUNK)]
    lengths = [
        codes_length(count, residual_width(narrowing, floats, body.start))
        for count, narrowing in zip(chunks, narrowings)
    ]
    carried = min(CARRIED_PER_LANE * LANES, lengths[-1])
    residuals_at = body.offset
    strips = body.take(sum(lengths) - carried)
    subnormals = read_codes(body, subnormal_count, ranges.subnormal_width)
    escapes = read_codes(body, escape_count, ranges.escape_width)
    symbols = decode_symbols(body, scales, tables, states)
    strips += carried_bytes(states, carried, body.offset)

    residuals = read_residuals(Reader(strips, residuals_at), elements, floats, narrowings)
    ranks = ranks_of_symbols(symbols, scales, escapes, ranges, body.offset)
    by_rank = tops_by_rank(fixed, ranges.low, floats)
    tops = [by_rank[rank] for rank in ranks]
    exponents = [top >> TOP_MANTISSA_BITS for top in tops]
    add_subnormals(residuals, exponents, narrowings, subnormals, body.offset)
    return join_floats(residuals, tops, floats, block.layout.byte_order)


def read_scales(body: Reader, elements: int, ranges: Ranges, contexts: Contexts) -> list[int]:
    """Each element's scale."""
    if ranges.row == 0:
        return [0] * elements
    rows = read_codes(body, elements // ranges.row, ranges.row_width)
    if ranges.flags & SEGMENT_COLUMNS:
        return element_scales(rows, contexts.column_scales)
    return element_scales(rows, read_codes(body, ranges.row, ranges.column_width))


def read_tables(body: Reader, ranges: Ranges) -> list[list[tuple[int, int, int]]]:
    """The slots of each table."""
    count, each = TABLES if ranges.row else 1, ranges.symbols
    codes = read_codes(body, count * each, WEIGHT_CODE_WIDTH)
    tables = [codes[table * each : (table + 1) * each] for table in range(count)]
    return [slots_of(shares_of(codes)) for codes in tables]


def decode_symbols(
    body: Reader,
    scales: list[int],
    tables: list[list[tuple[int, int, int]]],
    states: list[int],
    filler: int = 0,
) -> list[int]:
    """Each element's symbol. Takes all words, and leaves the states as they are at the end."""
    symbols = decode_some(body, scales, tables, states, filler)
    body.finish()
    return symbols


def decode_some(
    body: Reader,
    scales: list[int],
    tables: list[list[tuple[int, int, int]]],
    states: list[int],
    filler: int,
) -> list[int]:
    """Each element's symbol, and those of what fills the last group, which are left out."""
    filled = scales + [filler] * (-len(scales) % LANES)
    symbols = []
    for element, scale in enumerate(filled):
        lane = element % LANES
        state = states[lane]
        symbol, share, start = tables[scale % len(tables)][state % SLOTS]
        state = share * (state // SLOTS) + state % SLOTS - start
        if state < LOWEST_STATE:
            state = state * 2**16 + body.uint(2)
        states[lane] = state
        symbols.append(symbol)
    return symbols[: len(scales)]


def carried_bytes(states: list[int], length: int, offset: int) -> bytes:
    """What the states carry at the end, and nothing else."""
    require(all(state >> 16 == 1 for state in states), offset, "a state that ends elsewhere")
    carried = b"".join(state.to_bytes(4, "little")[:CARRIED_PER_LANE] for state in states)
    require(not any(carried[length:]), offset, "a state that carries more than there is")
    return carried[:length]


def ranks_of_symbols(
    symbols: list[int], scales: list[int], escapes: list[int], ranges: Ranges, offset: int
) -> list[int]:
    escaped = symbols.count(ESCAPE)
    require(escaped == len(escapes), offset, "other escapes than stated")
    codes, fixed, shift = iter(escapes), ranges.fixed, ranges.shift
    return [
        next(codes) if symbol == ESCAPE else rank_of_symbol(symbol, scale, fixed, shift)
        for symbol, scale in zip(symbols, scales)
    ]


def decode_bytes(block: Block, _contexts: Contexts) -> bytes:
    """Records of one byte as symbols of one table."""
    require(block.layout.length == 1, block.body.offset, "bytes of larger records")
    return decode_with_keys(block, None, set())


def decode_with_keys(block: Block, keys: list[int] | None, known: set[int]) -> bytes:
    """Bytes as symbols, whose tables their keys choose; known ones are of a table of rank 1 alone."""
    parameters, body = block.parameters, block.body
    base, last, width, more = (parameters.uint(1) for _ in range(4))
    escape_count = parameters.uint(4)
    parameters.zeros(4)
    carried = min(CARRIED_PER_LANE * LANES, block.records)
    coded = block.records - carried
    require(width <= MAX_ESCAPE_WIDTH, body.offset, "escape codes too wide")
    most = (6 if known else 7) if keys else 0
    require(more <= most, body.offset, "more tables than keys can choose")
    require(escape_count <= coded, body.start, "more codes than symbols")
    bounds = [body.uint(1) for _ in range(more)]
    require(bounds == sorted(bounds), body.offset, "bounds that descend")
    require(255 not in bounds, body.offset, "a bound that no key reaches")
    body.zeros(padded(more) - more)
    each = last + 1
    codes = read_codes(body, (more + 1) * each, WEIGHT_CODE_WIDTH)
    tables = [slots_of(shares_of(codes[at : at + each])) for at in range(0, len(codes), each)]
    states = [body.uint(4) for _ in range(LANES)]
    escapes = read_codes(body, escape_count, width)
    numbers = [sum(bound <= key for bound in bounds) for key in keys or [0] * coded]
    numbers = [len(tables) if at in known else number for at, number in enumerate(numbers[:coded])]
    symbols = decode_symbols(body, numbers, [*tables, slots_of([0, SLOTS])], states)
    require(symbols.count(ESCAPE) == escape_count, body.offset, "other escapes than stated")
    codes = iter(escapes)
    ranks = (next(codes) if symbol == ESCAPE else symbol for symbol in symbols)
    decoded = bytes((base + rank) % 256 for rank in ranks)
    return decoded + carried_bytes(states, carried, body.offset)


def decode_xor(block: Block, contexts: Contexts) -> bytes:
    """The bits in which records differ from their base."""
    inner = block.parameters.uint(1)
    block.parameters.zeros(11)
    require(inner in (0x81, 0x82), block.body.offset, "an xor block of another coding")
    without = Block(block.records, block.layout, Reader(bytes(12)), block.body)
    differing = CODINGS[inner](without, contexts)
    require(len(differing) == block.decoded_length, block.body.offset, "another length")
    return bytes(a ^ b for a, b in zip(differing, block.base or b""))


def floats_with_base(block: Block) -> Floats:
    floats = floats_of(block.layout)
    require(floats is not None, block.body.offset, "differences of records that are not floats")
    fits = floats.bits <= 32 and floats.exponent_bits <= 8
    require(fits, block.body.offset, "differences of larger floats")
    return floats


def decode_difference(block: Block, _contexts: Contexts) -> bytes:
    """Floats by how far they are from those of their base."""
    parameters, body, floats = block.parameters, block.body, floats_with_base(block)
    bounds = [parameters.uint(1) for _ in range(7)]
    require(bounds == sorted(bounds), body.offset, "bounds that descend")
    bounds = [bound for bound in bounds if bound < 255]
    symbols_per_table, width = parameters.uint(1) + 1, parameters.uint(1)
    parameters.zeros(3)
    require(width <= MAX_ESCAPE_WIDTH, body.offset, "escape codes too wide")
    bases = elements_of(block.base or b"", floats, block.layout.byte_order)
    escape_count, raw_length = body.uint(4), body.uint(4)
    require(escape_count <= len(bases), body.start, "more codes than elements")
    require(raw_length <= block.decoded_length, body.start, "more raw bits than elements")
    body.zeros(8)

    codes = read_codes(body, (len(bounds) + 1) * symbols_per_table, WEIGHT_CODE_WIDTH)
    of_table = [codes[at : at + symbols_per_table] for at in range(0, len(codes), symbols_per_table)]
    tables = [slots_of(shares_of(weights)) for weights in of_table]
    states = [body.uint(4) for _ in range(LANES)]
    carried = min(CARRIED_PER_LANE * LANES, raw_length)
    raw = body.take(raw_length - carried)
    body.zeros(padded(len(raw)) - len(raw))
    escapes = iter(read_codes(body, escape_count, width))

    exponents = [base >> floats.mantissa_bits & 2**floats.exponent_bits - 1 for base in bases]
    numbers = [sum(bound <= exponent for bound in bounds) for exponent in exponents]
    filler = sum(bound == 0 for bound in bounds)
    symbols = decode_symbols(body, numbers, tables, states, filler)
    require(symbols.count(ESCAPE) == escape_count, body.offset, "other escapes than stated")
    ranks = [next(escapes) if symbol == ESCAPE else symbol for symbol in symbols]
    raw += carried_bytes(states, carried, body.offset)
    differences = join_differences(ranks, raw, floats.bits, body.offset)
    moved = [move(base, by, floats.bits) for base, by in zip(bases, differences)]
    length = floats.bits // 8
    return b"".join(y.to_bytes(length, block.layout.byte_order) for y in moved)


def elements_of(data: bytes, floats: Floats, byte_order: str) -> list[int]:
    length = floats.bits // 8
    return [
        int.from_bytes(data[at : at + length], byte_order) for at in range(0, len(data), length)
    ]


def raw_bits_of(rank: int, bits: int) -> tuple[int, int]:
    """How many raw bits a rank has, and its magnitude without them."""
    kind = rank // 2
    if kind < 8:
        return 0, kind
    count = kind // 4 - 1
    magnitude = (4 + kind % 4) << count
    return (count, magnitude) if magnitude < 2**bits else (0, 0)


def join_differences(ranks: list[int], raw: bytes, bits: int, offset: int) -> list[int]:
    stream, at = int.from_bytes(raw, "little"), 0
    differences = []
    for first in range(0, len(ranks), LANES):
        group = [raw_bits_of(rank, bits) for rank in ranks[first : first + LANES]]
        magnitudes = [magnitude for _, magnitude in group]
        for bit in range(max(count for count, _ in group)):
            for element, (count, _) in enumerate(group):
                if count > bit:
                    magnitudes[element] |= (stream >> at & 1) << bit
                    at += 1
        differences += magnitudes
    require(-(-at // 8) == len(raw) and stream >> at == 0, offset, "other raw bits than there are")
    return [-size if rank % 2 else size for rank, size in zip(ranks, differences)]


def move(base: int, by: int, bits: int) -> int:
    """The float that differs from the base's so much."""
    sign = 2 ** (bits - 1)
    target = ((base & sign - 1) + by) % 2**bits
    if target & sign:
        target ^= sign - 1
    return target ^ base & sign


# --- Codings: Steps ---

FAR = 255
CHUNK_OF_STEPS = 1024
MAX_EXTRA_BITS, MAX_EXPONENTS = 7, 16


def decode_steps(block: Block, _contexts: Contexts) -> bytes:
    """Floats by steps from those of their base, whose low bits are stored as they are."""
    parameters, body, floats = block.parameters, block.body, floats_with_base(block)
    widths, tail_width = parse_widths(parameters)
    floor, fixed_bits, first, last = (parameters.uint(1) for _ in range(4))
    parameters.zeros(1)
    far_count = parameters.uint(4)
    bases = elements_of(block.base or b"", floats, block.layout.byte_order)
    require(floor < 2**floats.exponent_bits, body.start, "an impossible floor")
    require(fixed_bits <= floats.bits - 8, body.start, "too many fixed bits")
    require(last < MAX_EXPONENTS, body.start, "too many numbers of extra bits")
    require(far_count <= len(bases), body.start, "more far elements than there are")

    start, length = body.offset, floats.bits // 8
    extra_length = body.uint(4)
    require(extra_length <= len(bases), body.start, "more extra bits than elements have")
    escapes = [body.uint(4) for _ in widths]
    extra_bits = list(body.take(last + 1))
    require(max(extra_bits) <= MAX_EXTRA_BITS, body.offset, "too many extra bits")
    far = iter([body.take(length) for _ in range(far_count)])
    body.zeros(padded(body.offset - start) - (body.offset - start))
    fixed = []
    for at in range(0, len(bases), CHUNK_OF_STEPS):
        fixed += read_codes(body, min(CHUNK_OF_STEPS, len(bases) - at), fixed_bits)
    extra = body.take(extra_length)
    body.zeros(padded(extra_length) - extra_length)
    ranks = read_ranks(body, len(bases), widths, tail_width, escapes)
    require(ranks.count(FAR) == far_count, body.offset, "other far elements than stated")

    exponents = [base >> floats.mantissa_bits & 2**floats.exponent_bits - 1 for base in bases]
    counts = [extra_bits[min(max(exponent - first, 0), last)] for exponent in exponents]
    stream, used = int.from_bytes(extra, "little"), sum(counts)
    fits = -(-used // 8) == extra_length and stream >> used == 0
    require(fits, body.offset, "other extra bits than there are")
    elements = []
    for base, rank, low, count in zip(bases, ranks, fixed, counts):
        middle, stream = stream & 2**count - 1, stream >> count
        step = ((rank << count | middle) << fixed_bits | low) % 2**floats.bits
        element = take_step(base, step, floor << floats.mantissa_bits, floats.bits)
        whole = element.to_bytes(length, block.layout.byte_order)
        elements.append(next(far) if rank == FAR else whole)
    return b"".join(elements)


def take_step(base: int, step: int, floor: int, bits: int) -> int:
    """The float that is a step from the base's."""
    sign = 2 ** (bits - 1)
    difference = -1 - step // 2 if step % 2 else step // 2
    target = (max((base & sign - 1) - floor, 0) + difference) % 2**bits
    if target & sign:
        return (floor - 1 - target) % sign | ~base & sign
    return (target + floor) % sign | base & sign


# --- Codings: Sparse ---

OPAQUE_BYTES = RecordLayout(1, "little", [Field(0, 1, 8, OPAQUE_ROLE, 0, 0)])
GOES_ON = 255


def unsigned(length: int) -> RecordLayout:
    return RecordLayout(length, "little", [Field(0, 1, 8 * length, UNSIGNED, 0, 0)])


def decode_sparse(block: Block, _contexts: Contexts) -> bytes:
    """The base's records, but for some that differ."""
    return sparse_records(block, block.base or b"")


def decode_zeros(block: Block, _contexts: Contexts) -> bytes:
    """Zeros, but for some records."""
    return sparse_records(block, None)


def sparse_records(block: Block, base: bytes | None) -> bytes:
    parameters, body = block.parameters, block.body
    require(block.layout.length in (1, 2, 4, 8), body.start, "sparse records of another length")
    of_places, of_values = parameters.uint(1), parameters.uint(1)
    parameters.zeros(2)
    length = parameters.uint(4)
    parameters.zeros(4)
    places_payload = body.take(length)
    body.zeros(padded(length) - length)
    gaps = decode_inner(SIMPLE, of_places, places_payload, unsigned(1), block)

    places, at = [], 0
    for gap in gaps:
        at += gap
        if gap != GOES_ON:
            places.append(at)
            at += 1
    ends = bool(places) and gaps[-1] != GOES_ON and places[-1] < block.records
    require(ends, body.offset, "places behind the block's end")
    size, whole = block.layout.length, base if base is not None else bytes(block.decoded_length)
    old = b"".join(whole[place * size : (place + 1) * size] for place in places)
    inner_base, allowed = (old, VALUES_NEXT_TO_BASE) if base is not None else (None, VALUES_NEXT_TO_ZERO)
    new = decode_inner(allowed, of_values, body.take(body.left), block.layout, block, inner_base)
    require(len(new) == len(old), body.offset, "another number of values than of places")
    records = bytearray(whole)
    for i, place in enumerate(places):
        records[place * size : (place + 1) * size] = new[i * size : (i + 1) * size]
    return bytes(records)


# --- Codings: Ranks ---


def decode_ranks(block: Block, _contexts: Contexts) -> bytes:
    """Bytes in escape planes."""
    require(block.layout.length == 1, block.body.start, "ranks of records of more than a byte")
    widths, tail_width = parse_widths(block.parameters)
    block.parameters.zeros(9)
    start = block.body.offset
    escapes = [block.body.uint(4) for _ in widths]
    block.body.zeros(padded(block.body.offset - start) - (block.body.offset - start))
    return bytes(read_ranks(block.body, block.records, widths, tail_width, escapes))


# --- Codings: Fixed ---

FIXED_FORMATS = ((16, 5), (16, 8), (32, 8), (64, 11))


def decode_fixed(block: Block, _contexts: Contexts) -> bytes:
    """Floats that are multiples of a power of two, as steps from zero, or from those of a base."""
    parameters, body, floats = block.parameters, block.body, floats_of(block.layout)
    known = floats and (floats.bits, floats.exponent_bits) in FIXED_FORMATS
    require(known and block.layout.byte_order == "little", body.start, "not floats that have this coding")
    coding, low_bits = parameters.uint(1), parameters.uint(1)
    grid = int.from_bytes(parameters.take(2), "little", signed=True)
    far_count = parameters.uint(4)
    parameters.zeros(4)
    elements, width = block.records * floats.per_record, max(floats.bits, 32)
    bias, length = 2 ** (floats.exponent_bits - 1) - 1, floats.bits // 8
    require(low_bits < width, body.start, "too many low bits")
    require(1 - bias - floats.mantissa_bits <= grid <= bias, body.start, "an impossible grid")
    require(far_count <= elements, body.start, "more far elements than there are")

    low = []
    for at in range(0, elements, CHUNK_OF_STEPS):
        low += read_codes(body, min(CHUNK_OF_STEPS, elements - at), low_bits)
    far = iter([body.take(length) for _ in range(far_count)])
    body.zeros(padded(far_count * length) - far_count * length)
    symbols = decode_inner(SIMPLE, coding, body.take(body.left), OPAQUE_BYTES, block, of_bytes=True)
    require(len(symbols) == elements, body.offset, "other symbols than elements")
    require(symbols.count(FAR) == far_count, body.offset, "other far elements than stated")

    bases = elements_of(block.base or bytes(elements * length), floats, "little")
    found = []
    for base, symbol, bits in zip(bases, symbols, low):
        step = (symbol << low_bits | bits) % 2**width
        by = -1 - step // 2 if step % 2 else step // 2
        place = (place_of(base, grid, floats, width) + by + 2 ** (width - 1)) % 2**width
        number = number_at(place - 2 ** (width - 1), grid, floats)
        found.append(next(far) if symbol == FAR else number.to_bytes(length, "little"))
    return b"".join(found)


def place_of(base: int, grid: int, floats: Floats, width: int) -> int:
    """The place of the multiple that is nearest to the base's element."""
    mantissa_bits, sign = floats.mantissa_bits, base >> (floats.bits - 1)
    bits = base % 2 ** (floats.bits - 1)
    exponent, mantissa = bits >> mantissa_bits, bits % 2**mantissa_bits
    bias = 2 ** (floats.exponent_bits - 1) - 1
    number = Fraction(mantissa + (2**mantissa_bits if exponent else 0))
    steps = number * Fraction(2) ** (max(exponent, 1) - bias - mantissa_bits - grid)
    is_large = exponent == 2**floats.exponent_bits - 1 or steps >= 2 ** (width - 2)
    multiple = 0 if is_large else round(steps)  # of two, the even one
    return -1 - multiple if sign else multiple


def number_at(place: int, grid: int, floats: Floats) -> int:
    """The bits of the float at a place."""
    multiple, sign = (-1 - place, 1) if place < 0 else (place, 0)
    bias, mantissa_bits = 2 ** (floats.exponent_bits - 1) - 1, floats.mantissa_bits
    highest = multiple.bit_length() - 1
    exponent = highest + grid + bias
    if multiple == 0:
        bits = 0
    elif exponent >= 1:
        below = multiple - 2**highest
        mantissa = (below << mantissa_bits) >> highest
        bits = (exponent << mantissa_bits) + mantissa
    else:
        bits = multiple << grid + bias + mantissa_bits - 1
    return bits % 2 ** (floats.bits - 1) | sign << (floats.bits - 1)


def decode_inner(
    allowed: Sequence[int],
    coding: int,
    payload: bytes,
    layout: RecordLayout,
    block: Block,
    base: bytes | None = None,
    of_bytes: bool = False,
) -> bytes:
    """A block within a block, which has no checksum of its own, in one of the codings that its place allows."""
    at = block.body.offset
    if coding not in CODINGS:
        raise FormatError(INCOMPATIBLE, at, f"unknown coding {coding:02X}")
    require(coding in allowed, at, "a block within a block of a coding that it can't have")
    require(len(payload) >= PREAMBLE_LENGTH, at, "a block without its preamble")
    preamble, body = payload[:PREAMBLE_LENGTH], payload[PREAMBLE_LENGTH:]
    records = int.from_bytes(preamble[:4], "little")
    most = block.decoded_length if of_bytes else block.records
    require(1 <= records <= most, at, "more records than the block has")
    inner = Block(records, layout, Reader(preamble[4:]), Reader(body), base)
    if coding in NEED_BASE:
        require(len(base or b"") == inner.decoded_length, at, "other values than places")
        hashed = xxh3_128(base or b"").to_bytes(16, "little")
        require(body[:16] == hashed, at, "a block within a block with another base")
        check_base(inner, at)
    decoded = CODINGS[coding](inner, Contexts(layout))
    require(len(decoded) == inner.decoded_length, at, "a block of another length")
    inner.parameters.finish()
    inner.body.finish()
    return decoded


# --- Codings: Fields ---

SYMBOLS, PEAK, SECOND_PEAK = 1, 2, 4
LARGEST_GROUP = 64
MIDDLE_KEY, LAST_KEY = 64, 254


@dataclass
class Numbers:
    """Which fields the small numbers of records are in, and their scales."""

    low: int
    upper: int | None
    scale: int | None
    factor: int | None


def numbers_of(fields: list[Field]) -> Numbers | None:
    """The field of most small numbers, and those that belong to it."""
    at = range(len(fields))
    small = [i for i in at if fields[i].role in (UNSIGNED, SIGNED) and fields[i].bits in (1, 2, 4, 8)]
    if not small:
        return None
    low = max(small, key=lambda i: (fields[i].count, -i))
    count = fields[low].count
    upper = next((i for i in at if fields[i].role == UPPER), None)
    width = fields[low].bits
    if upper is not None:
        width += fields[upper].bits
        if fields[upper].count != count or fields[upper].bits not in (1, 2, 4) or width > 8:
            return None
    is_sized = [f.role == FLOAT and f.bits % 8 == 0 or f.role == EXPONENT and f.bits == 8 for f in fields]
    is_scale = [sized and count % f.count == 0 for sized, f in zip(is_sized, fields)]
    scale = next((i for i in at if is_scale[i]), None)
    factor = None
    if scale is not None:
        of_scale = fields[scale].count
        is_factor = [
            i != low and f.role == SIGNED and f.bits == 8 and count % f.count == 0 and f.count % of_scale == 0
            for i, f in enumerate(fields)
        ]
        factor = next((i for i in at if is_factor[i]), None)
    return Numbers(low, upper, scale, factor) if width > 1 else None


def decode_fields(block: Block, _contexts: Contexts) -> bytes:
    """Records of several fields, each field of all records on its own."""
    parameters, body, fields = block.parameters, block.body, block.layout.fields
    ends = [0, *(field.end_bit for field in fields)]
    tiled = all(field.first_bit == end for field, end in zip(fields, ends)) and all(e % 8 == 0 for e in ends)
    require(len(fields) > 1 and tiled, body.start, "fields of records that have one, or not whole bytes")
    require(ends[-1] == 8 * block.layout.length, body.start, "fields that don't fill their records")
    flags, group = parameters.uint(1), parameters.uint(1)
    parameters.zeros(2)
    row = parameters.uint(4)
    peaks = [(parameters.uint(1), parameters.uint(1)) for _ in range(2)]
    count = {0: 0, SYMBOLS: 0, SYMBOLS | PEAK: 1, SYMBOLS | PEAK | SECOND_PEAK: 2}.get(flags)
    require(count is not None, body.start, "unknown flags")
    require(not any(sum(peaks[count:], ())), body.start, "symbols of no peak")
    numbers = numbers_of(fields) if flags else None
    require(not flags or numbers is not None, body.start, "symbols of fields that have none")
    fits = numbers is not None and 0 < group <= LARGEST_GROUP and fields[numbers.low].count % group == 0
    require(fits if count else group == 0, body.start, "peaks of impossible groups")
    entries = []
    for _ in range(len(fields) + count):
        entries.append(tuple(body.uint(size) for size in (4, 1, 1, 2)))
    columns, symbols, places = [b""] * len(fields), b"", []
    for at, entry in enumerate(entries):
        length, coding, how, offset = entry
        if numbers and at == numbers.upper:
            require(entry == (0, 0, 0, 0), body.start, "a column beside its symbols")
            continue
        require(how in (0, 1, 3) and (how or not offset), body.start, "unknown bits in a column")
        used = body.offset - body.start
        body.zeros(padded(used) - used)
        payload = body.take(length)
        if at >= len(fields):
            groups = block.records * fields[numbers.low].count // group
            places.append(places_of(coding, how, payload, groups, group, block))
        elif numbers and at == numbers.low:
            require((coding, how) == (BYTES, 0), body.start, "symbols of another coding")
            symbols = payload
        else:
            base = base_of_column(at, offset, how == 3, columns, block) if how else None
            columns[at] = decode_column(coding, payload, fields[at], block, base)
    if numbers:
        known = known_symbols(peaks, places, group)
        unpack_symbols(symbols, known, numbers, row, columns, block)
    records = range(block.records)
    return b"".join(
        column[record * field.length : (record + 1) * field.length]
        for record in records
        for field, column in zip(fields, columns)
    )


def base_of_column(at: int, offset: int, negative: bool, columns: list[bytes], block: Block) -> bytes:
    """What a column of floats is coded against: an earlier one, moved by an offset and with one sign."""
    fields, order = block.layout.fields, block.layout.byte_order
    kind = [(f.role, f.bits, f.exponent_bits, f.count) for f in fields]
    first = kind.index(kind[at])
    bits = fields[at].bits
    suits = fields[at].role == FLOAT and bits in (8, 16, 32, 64) and first < at
    require(suits, block.body.start, "a column beside none")
    length = bits // 8
    moved = (offset - 2**16 if offset >= 2**15 else offset) << max(bits - 16, 0)
    base = b""
    for start in range(0, len(columns[first]), length):
        number = int.from_bytes(columns[first][start : start + length], order) + moved
        base += (number % 2 ** (bits - 1) | negative << (bits - 1)).to_bytes(length, order)
    return base


def places_of(coding: int, how: int, payload: bytes, groups: int, group: int, block: Block) -> bytes:
    """Where the peak of each group is."""
    require(how == 0, block.body.start, "places with a base")
    layout = RecordLayout(1, "little", [Field(0, 1, 8, OPAQUE_ROLE, 0, 0)])
    places = decode_inner(COLUMN, coding, payload, layout, block, None, of_bytes=True)
    require(len(places) == groups, block.body.start, "another number of places")
    require(max(places, default=0) <= 2 * group, block.body.start, "a peak that is in no place")
    return places


def known_symbols(peaks: list[tuple[int, int]], places: list[bytes], group: int) -> dict[int, int]:
    """The symbols of peaks, by where they are."""
    known = {}
    for peak, of_peak in zip(peaks, places):
        for number, place in enumerate(of_peak):
            if place < 2 * group:
                known[number * group + place % group] = peak[place // group]
    return known


def decode_column(coding: int, payload: bytes, field: Field, block: Block, base: bytes | None) -> bytes:
    if field.role in (UNSIGNED, SIGNED, FLOAT) and field.bits % 8 == 0:
        one = Field(0, 1, field.bits, field.role, field.exponent_bits, 0)
    else:
        one = Field(0, 1, 8, OPAQUE_ROLE, 0, 0)
    layout = RecordLayout(one.length, block.layout.byte_order, [one])
    allowed = COLUMN if base is None else COLUMN_WITH_BASE
    column = decode_inner(allowed, coding, payload, layout, block, base, of_bytes=True)
    require(len(column) == field.length * block.records, block.body.start, "a column of another length")
    return column


def unpack_symbols(
    payload: bytes,
    known: dict[int, int],
    numbers: Numbers,
    row: int,
    columns: list[bytes],
    block: Block,
) -> None:
    """Turns symbols into the columns of the small numbers and their upper bits."""
    fields, at = block.layout.fields, block.body.start
    low = fields[numbers.low]
    count = low.count * block.records
    require(len(payload) >= PREAMBLE_LENGTH, at, "symbols without a preamble")
    require(int.from_bytes(payload[:4], "little") == count, at, "another number of symbols")
    keys = keys_of(numbers, row, columns, block.layout)
    keys_each = [key for key in keys for _ in range(count // len(keys))] if keys else None
    inner = Block(count, block.layout, Reader(payload[4:PREAMBLE_LENGTH]), Reader(payload[PREAMBLE_LENGTH:]))
    symbols = bytearray(decode_with_keys(inner, keys_each, set(known)))
    for at, symbol in known.items():
        symbols[at] = symbol
    inner.parameters.finish()
    inner.body.finish()
    width = low.bits
    columns[numbers.low] = pack_numbers([symbol % 2**width for symbol in symbols], low)
    above = [symbol >> width for symbol in symbols]
    if numbers.upper is None:
        require(not any(above), at, "a symbol too large")
    else:
        upper = fields[numbers.upper]
        require(max(above, default=0) < 2**upper.bits, at, "a symbol too large")
        columns[numbers.upper] = pack_numbers(above, upper)


def pack_numbers(values: list[int], field: Field) -> bytes:
    """Small numbers in runs: first the lowest bits of each byte of a run, then those above."""
    run, per_byte = max(field.run, 1), 8 // field.bits
    packed = bytearray(len(values) // per_byte)
    for i, value in enumerate(values):
        which, within = divmod(i, run * per_byte)
        slot, byte = divmod(within, run)
        packed[which * run + byte] |= value << slot * field.bits
    return bytes(packed)


def keys_of(numbers: Numbers, row: int, columns: list[bytes], layout: RecordLayout) -> list[int]:
    """How much larger each scale is than the mean of its row's."""
    if numbers.scale is None:
        return []
    field = layout.fields[numbers.scale]
    length, each = field.bits // 8, field.count
    column = columns[numbers.scale]
    values = [
        int.from_bytes(column[at : at + length], layout.byte_order) for at in range(0, len(column), length)
    ]
    if field.role == FLOAT:
        mantissa_bits = field.bits - 1 - field.exponent_bits
        tops = [(value % 2 ** (field.bits - 1) << 2) >> mantissa_bits for value in values]
    else:
        tops = [value << 2 for value in values]
    if numbers.factor is not None:
        factor = layout.fields[numbers.factor]
        repeat = factor.count // each
        tops = [top for top in tops for _ in range(repeat)]
        tops = [top + size_of(byte) for top, byte in zip(tops, columns[numbers.factor])]
        each *= repeat
    return keys_of_tops(tops, row * each)


def keys_of_tops(tops: list[int], row: int) -> list[int]:
    """How much larger each one is than the mean of its row; 0: all are of one."""
    row = row or len(tops)
    keys = []
    for start in range(0, len(tops), row):
        part = tops[start : start + row]
        mean = (sum(part) + len(part) // 2) // len(part)
        keys += [min(max(top - mean + MIDDLE_KEY, 0), LAST_KEY) for top in part]
    return keys


def size_of(byte: int) -> int:
    """How large a signed factor is, in quarters of an octave."""
    magnitude = 256 - byte if byte >= 128 else byte
    octave = max(magnitude.bit_length() - 1, 0)
    return 4 * octave + ((magnitude << 2) >> octave & 3)


# --- Codings: Scaled ---


def decode_scaled(block: Block, _contexts: Contexts) -> bytes:
    """Small numbers whose scales are the base."""
    parameters, body, base = block.parameters, block.body, block.base or b""
    require(block.layout.length == 1, body.start, "scaled numbers in larger records")
    bits, exponent_bits, run = (parameters.uint(1) for _ in range(3))
    parameters.zeros(1)
    row = parameters.uint(4)
    parameters.zeros(4)
    require(bits in (4, 8) and 1 <= exponent_bits <= 8, body.start, "impossible numbers or scales")
    require(run > 0 and row % run == 0, body.start, "rows of no whole scales")
    scales = [base[at] for at in range(0, len(base), run)]
    if exponent_bits == 8:
        tops = [scale << 2 for scale in scales]
    else:
        tops = [(scale % 128 << 2) >> 7 - exponent_bits for scale in scales]
    keys = keys_of_tops(tops, row // run)
    per_byte = 8 // bits
    count = per_byte * block.records
    require(body.uint(4) == count, body.start, "another number of symbols")
    keys_each = [key for key in keys for _ in range(run * per_byte)][:count]
    inner = Block(count, block.layout, Reader(body.take(12)), Reader(body.take(body.left)))
    symbols = decode_with_keys(inner, keys_each, set())
    inner.parameters.finish()
    inner.body.finish()
    require(max(symbols) < 2**bits, body.start, "a symbol too large")
    if bits == 8:
        return symbols
    return bytes(low | high << 4 for low, high in zip(symbols[::2], symbols[1::2]))


# --- Codings: Guess ---

# The bits of floats, and those of their exponents, by dtype.
GUESSED = {16: (16, 5), 17: (16, 8), 18: (32, 8), 19: (64, 11)}


def decode_guess(block: Block, _contexts: Contexts) -> bytes:
    """Opaque bytes with floats in them."""
    parameters, body, layout = block.parameters, block.body, block.layout
    opaque = layout.length == 1 and [(f.role, f.bits, f.count) for f in layout.fields] == [(OPAQUE_ROLE, 8, 1)]
    require(opaque, body.start, "a guess of records that are not opaque bytes")
    coding, dtype, before = (parameters.uint(1) for _ in range(3))
    parameters.zeros(9)
    require(dtype in GUESSED, body.start, "a guess of other numbers")
    bits, exponent_bits = GUESSED[dtype]
    length = bits // 8
    count = (block.decoded_length - before) // length
    require(before < length and count >= 1, body.start, "a guess without floats")
    behind = block.decoded_length - before - count * length
    head, tail = body.take(before), body.take(behind)
    body.zeros(padded(before + behind) - before - behind)
    floats = RecordLayout(length, "little", [Field(0, 1, bits, FLOAT, exponent_bits, 0)])
    decoded = decode_inner(GUESSED_FLOATS, coding, body.take(body.left), floats, block, of_bytes=True)
    require(len(decoded) == count * length, body.start, "another number of floats")
    return head + decoded + tail


# --- Codings: Palette ---

LISTED, INTEGERS = 2, 3
# By dtype: mantissa bits, the exponent's bias, and from which code on there are no finite numbers.
SHORT_FLOATS = {24: (3, 7, 0x7F), 25: (2, 15, 0x7C)}
CODE_FIELDS = {LISTED: (UNSIGNED, 0), INTEGERS: (SIGNED, 0), 24: (FLOAT, 4), 25: (FLOAT, 5)}
F32 = FloatFormat(4, 8)


def decode_palette(block: Block, _contexts: Contexts) -> bytes:
    """Codes, and what they stand for."""
    parameters, body, floats = block.parameters, block.body, floats_of(block.layout)
    known = floats and floats.bits in (16, 32) and floats.exponent_bits <= 8
    require(known and block.layout.byte_order == "little", body.start, "a palette of other records")
    dtype, of_tables, of_codes = (parameters.uint(1) for _ in range(3))
    parameters.zeros(1)
    run, length = parameters.uint(4), parameters.uint(4)
    size, elements = floats.bits // 8, block.decoded_length // (floats.bits // 8)
    require(dtype in CODE_FIELDS, body.start, "codes of another dtype")
    require(1 <= run <= elements, body.start, "impossible runs")
    tables_payload = body.take(length)
    body.zeros(padded(length) - length)
    entry_size = size if dtype == LISTED else 4
    whole = replace(block, records=elements)
    entries_bytes = decode_inner(SIMPLE, of_tables, tables_payload, unsigned(entry_size), whole)
    role, exponent_bits = CODE_FIELDS[dtype]
    code_layout = RecordLayout(1, "little", [Field(0, 1, 8, role, exponent_bits, 0)])
    codes = decode_inner(SIMPLE, of_codes, body.take(body.left), code_layout, whole)
    require(len(codes) == elements, body.start, "another number of codes")
    entries = [
        int.from_bytes(entries_bytes[at : at + entry_size], "little")
        for at in range(0, len(entries_bytes), entry_size)
    ]
    runs = -(-elements // run)
    per_run = len(entries) // runs if dtype == LISTED else 1
    require(1 <= per_run <= 256 and per_run * runs == len(entries), body.start, "tables of another number of entries")
    new = FloatFormat(size, floats.exponent_bits)
    decoded = bytearray()
    for i, code in enumerate(codes):
        first = i // run * per_run
        if dtype == LISTED:
            require(code < per_run, body.start, "a code that its table doesn't have")
            bits = entries[first + code]
        else:
            require(2**23 <= entries[first] < F32.infinity, body.start, "a scale that is no positive number")
            negative, number = number_of(dtype, code, body.start)
            bits = negative << floats.bits - 1 | product(entries[first], number, new)
        decoded += bits.to_bytes(size, "little")
    return bytes(decoded)


def number_of(dtype: int, code: int, at: int) -> tuple[bool, Fraction]:
    """The sign and the magnitude of a code."""
    if dtype == INTEGERS:
        return code >= 128, Fraction(256 - code if code >= 128 else code)
    mantissa_bits, bias, beyond = SHORT_FLOATS[dtype]
    negative, rest = divmod(code, 128)
    require(rest < beyond, at, "a code that is no finite number")
    exponent, mantissa = divmod(rest, 2**mantissa_bits)
    if exponent > 0:
        mantissa += 2**mantissa_bits
    return negative == 1, mantissa * Fraction(2) ** (max(exponent, 1) - bias - mantissa_bits)


def product(scale: int, number: Fraction, new: FloatFormat) -> int:
    """A scale times a number, rounded to 24 bits and then to a float."""
    exponent, mantissa = divmod(scale, 2**23)
    exact = (mantissa + 2**23) * Fraction(2) ** (exponent - F32.bias - 23) * number
    if exact == 0:
        return 0
    short = rounded_to(exact, power_of_top(exact) - 23)
    new_exponent = max(power_of_top(short) + new.bias, 1)
    last_bit = new_exponent - new.bias - new.mantissa_bits
    mantissas = rounded_to(short, last_bit) / Fraction(2) ** last_bit
    return min((new_exponent - 1 << new.mantissa_bits) + int(mantissas), new.infinity)


def power_of_top(number: Fraction) -> int:
    """The exponent of the largest power of two that is not above a number."""
    power = number.numerator.bit_length() - number.denominator.bit_length()
    return power if Fraction(2) ** power <= number else power - 1


def rounded_to(number: Fraction, power: int) -> Fraction:
    """The nearest multiple of a power of two, of two as near the even one."""
    return round(number / Fraction(2) ** power) * Fraction(2) ** power


# --- Codings: Packed ---

PLACES = 8
MIRRORED = 8
MET_BEFORE = 16
FILLER = 7


@dataclass
class Packed:
    """The preamble of a block of packed integers."""

    row: int
    across: bool
    leans: bool
    group: int
    centre: int
    prior: int
    code_width: int
    symbols: int


@dataclass
class Lane:
    distance: int = 0
    lean: int = 0


def parse_packed(parameters: Reader, words: int) -> Packed:
    at = parameters.offset
    row, flags, group, centre, prior, code_width, last = (parameters.uint(size) for size in (3, 1, 2, 1, 1, 1, 1))
    parameters.zeros(2)
    require(32 <= row <= words, at, "impossible rows")
    require(flags <= 3, at + 3, "unknown flags")
    require(1 <= group <= 1024, at + 4, "impossible groups")
    require(centre <= 30, at + 6, "an impossible centre")
    require(code_width <= 4, at + 8, "codes too wide")
    require(last <= 15, at + 9, "too many symbols")
    return Packed(row, flags & 1 == 1, flags & 2 == 2, group, centre, prior, code_width, last + 1)


def decode_packed(block: Block, _contexts: Contexts) -> bytes:
    """Words of eight integers of four bits each."""
    body, layout = block.body, block.layout
    field = layout.fields[0]
    is_word = (len(layout.fields), layout.length, field.count, field.bits) == (1, 4, 1, 32)
    is_integer = field.role in (UNSIGNED, SIGNED) and layout.byte_order == "little"
    require(is_word and is_integer, body.offset, "packed integers in other records")
    packed = parse_packed(block.parameters, block.records)
    carried = min(CARRIED_PER_LANE * LANES, block.decoded_length)
    coded = (block.decoded_length - carried) // 4
    bounds = [body.uint(1) for _ in range(6)]
    require(bounds == sorted(bounds), body.start, "bounds that descend")
    body.zeros(10)
    rows = -(-coded // packed.row)
    codes = read_codes(body, rows * (1 if packed.across else PLACES), packed.code_width)
    each = packed.symbols
    weights = read_codes(body, (1 + sum(bound < 255 for bound in bounds)) * each, WEIGHT_CODE_WIDTH)
    tables = [slots_of(shares_of(weights[at : at + each])) for at in range(0, len(weights), each)]
    tables += [slots_of([SLOTS])] * (FILLER + 1 - len(tables))
    states = [body.uint(4) for _ in range(LANES)]

    lanes = [Lane() for _ in range(packed.row * (PLACES if packed.across else 1))]
    words = [0] * coded
    for row in range(rows):
        first, end = row * packed.row, min((row + 1) * packed.row, coded)
        for place in range(PLACES):
            channel, lane = (row, place * packed.row) if packed.across else (row * PLACES + place, 0)
            of_plane = lanes[lane : lane + end - first]
            if channel % packed.group == 0:
                for lane in of_plane:
                    lane.distance = lane.lean = 0
            keys = [key_of(lane, channel, codes[channel], packed) for lane in of_plane]
            numbers = [sum(bound <= key for bound in bounds) for key in keys]
            symbols = decode_some(body, numbers, tables, states, FILLER)
            for word, (symbol, lane) in enumerate(zip(symbols, of_plane), first):
                is_mirrored = lane.lean < 0 if packed.leans else codes[channel] >= MIRRORED
                integer = (packed.centre - symbol) % 16 if is_mirrored else symbol
                lane.distance += abs(2 * integer - packed.centre)
                lane.lean += 2 * integer - packed.centre
                words[word] |= integer << 4 * place
    body.finish()
    decoded = b"".join(word.to_bytes(4, "little") for word in words)
    return decoded + carried_bytes(states, carried, body.offset)


def key_of(lane: Lane, channel: int, code: int, packed: Packed) -> int:
    """What a lane has met of its group, and how large the channel is."""
    counted = channel % packed.group + MET_BEFORE
    rate = (8 + code % MIRRORED) * 2**15 // counted
    key = min((lane.distance + packed.prior) * rate // 2**16, 126)
    return key + 128 if packed.leans and 2 * abs(lane.lean) >= 3 * counted else key


CODINGS = {
    0x80: decode_raw,
    0x81: decode_constant,
    0x82: decode_zstd,
    0x83: decode_planes,
    0x84: decode_ranges,
    BYTES: decode_bytes,
    XOR: decode_xor,
    DIFFERENCE: decode_difference,
    STEPS: decode_steps,
    SPARSE: decode_sparse,
    RANKS: decode_ranks,
    FIXED: decode_fixed,
    FIXED_DELTA: decode_fixed,
    FIELDS: decode_fields,
    GUESS: decode_guess,
    ZEROS: decode_zeros,
    PALETTE: decode_palette,
    PACKED: decode_packed,
    SCALED: decode_scaled,
}


# --- Reading from front to back ---


def decode(data: bytes, bases: Sequence[bytes] = ()) -> bytes:
    """Restores the original of a whole .wz file, and checks all that the file says about it."""
    file = Reader(data, at_end=INSUFFICIENT)
    original = bytearray()
    seen: list[tuple[SegmentPlace, SegmentHead]] = []
    pages: list[tuple[PageEntry, Page]] = []

    flags = read_file_header(file)
    section = read_section_header(file)
    listed: list[Base] = []
    bases_length = None
    if section.kind == BASES:
        listed = parse_bases(Reader(read_payload(file, section), section.payload_at), flags)
        bases_length = section.length
        section = read_section_header(file)
    while section.kind not in KINDS:
        read_payload(file, section)
        section = next_known_section(file)
    while section.kind == SEGMENT:
        repeated = partial(read_at, data, is_repeated=True)
        seen.append(read_segment(file, section, original, listed, bases, repeated))
        section = next_known_section(file)
    losses, losses_length = None, None
    if section.kind == LOSSES:
        losses = parse_losses(Reader(read_payload(file, section), section.payload_at))
        losses_length = section.length
        section = read_section_header(file)
    while section.kind == DIRECTORY_PAGE:
        page = parse_page(Reader(read_payload(file, section), section.payload_at))
        segments = len(page.segments)
        pages.append((PageEntry(section.at, page.first_byte, section.length, segments), page))
        section = read_section_header(file)
    footer = read_footer(file, section)
    tail_at = file.offset
    require(read_tail(file) == footer.at, tail_at, "a tail that states another footer")

    check_directory([page for _, page in pages], seen, footer.at)
    check_footer(footer, pages, len(original))
    uses_bases = any(head.parts for _, head in seen)
    require(footer.bases_length == bases_length, footer.at, "a footer that states other bases")
    require(uses_bases == bool(listed), footer.at, "bases that no segment has")
    require(bool(listed) or not flags & REPEATS, footer.at, "a header that states repeated ranges")
    require(footer.losses_length == losses_length, footer.at, "a footer that states other losses")
    check_losses(losses, bool(flags & ROUNDED), footer)
    check_hashes(footer, [page for _, page in pages], bytes(original))
    return bytes(original)


def read_segment(
    file: Reader,
    section: Section,
    original: bytearray,
    listed: Sequence[Base],
    bases: Sequence[bytes],
    repeated: Repeated,
) -> tuple[SegmentPlace, SegmentHead]:
    """Reads a segment's sections and adds what it decodes to to the original."""
    at, first_byte = section.at, len(original)
    head = parse_segment(Reader(read_payload(file, section), section.payload_at))
    check_parts(head, listed, first_byte, at)
    base = SegmentBase(head, listed, bases, repeated)
    contexts = Contexts(head.layout)
    section = read_section_header(file)
    while section.kind == CONTEXT:
        contexts.read(file, section)
        section = read_section_header(file)

    first_block_at = section.at
    entries = []
    while section.kind == BLOCK:
        block = read_block(file, section, head.layout)
        block.base = base.of_block(len(original) - first_byte, block.decoded_length)
        original += decode_block(section, block, contexts)
        entries.append(entry_of(section, block))
        check_segment_length(head, len(original) - first_byte, section.at)
        section = read_section_header(file)

    require_kind(section, BLOCK_TABLE)
    table = parse_block_table(Reader(read_payload(file, section), section.payload_at))
    require(table == entries, section.at, "a block table unlike the blocks before it")
    length = len(original) - first_byte
    return SegmentPlace(at, first_block_at, section.at, len(entries), length), head


def check_directory(
    pages: list[Page], seen: list[tuple[SegmentPlace, SegmentHead]], at: int
) -> None:
    """Compares the directory with the segments that were read."""
    segments = [segment for page in pages for segment in page.segments]
    places = [segment.place for segment in segments]
    require(places == [place for place, _ in seen], at, "a directory unlike the segments before it")
    for segment, (_, head) in zip(segments, seen):
        check_spans(segment, head)
    first_byte = 0
    for page in pages:
        require(bool(page.segments), at, "a directory page without segments")
        require(page.first_byte == first_byte, at, "a directory page that begins elsewhere")
        first_byte += page.length
    names = [tensor.name for page in pages for tensor in page.tensors]
    require(len(set(names)) == len(names), at, "a name that comes twice")


def check_footer(footer: Footer, pages: list[tuple[PageEntry, Page]], length: int) -> None:
    """Compares the footer with the original and the directory."""
    require(footer.length == length, footer.at, "a footer that states another length")
    tensors = sum(len(page.tensors) for _, page in pages)
    require(footer.tensors == tensors, footer.at, "a footer that states other tensors")
    entries = [entry for entry, _ in pages]
    require(footer.pages == entries, footer.at, "a footer unlike the directory before it")


def check_hashes(footer: Footer, pages: list[Page], original: bytes) -> None:
    first_byte = 0
    for span in (span for page in pages for segment in page.segments for span in segment.spans):
        if span.tensor:
            found = blake3(original[first_byte : first_byte + span.length])
            require(found == span.tensor.blake3, footer.at, "a tensor's BLAKE3 differs")
        first_byte += span.length
    require(blake3(original) == footer.blake3, footer.at, "the original's BLAKE3 differs")
    if footer.sha256 is not None:
        found = hashlib.sha256(original).digest()
        require(found == footer.sha256, footer.at, "the original's SHA-256 differs")


# --- Reading: Random access ---


def read_at(
    data: bytes,
    offset: int,
    length: int,
    bases: Sequence[bytes] = (),
    is_repeated: bool = False,
) -> bytes:
    """The original's bytes from offset on. Reads and checks only what it needs for them."""
    flags = read_file_header(Reader(data, at_end=INSUFFICIENT))
    footer = find_footer(data)
    check_losses(find_losses(data, footer), bool(flags & ROUNDED), footer)
    if not 0 <= offset <= offset + length <= footer.length:
        raise ValueError(f"the original has {footer.length} bytes")
    listed = find_bases(data, footer, flags)
    found, first_byte = bytearray(), 0
    for segment in find_directory(data, footer):
        first = max(offset - first_byte, 0)
        last = min(offset + length - first_byte, segment.place.length)
        if first < last:
            wanted = range(first, last)
            found += read_in_segment(data, segment, first_byte, wanted, listed, bases, is_repeated)
        first_byte += segment.place.length
    return bytes(found)


def reader_at(data: bytes, at: int) -> Reader:
    """Reads a part of a file whose end has been seen: what leaves it is corrupt."""
    require(at <= len(data) and at % ALIGNMENT == 0, at, "an offset where nothing can be")
    return Reader(data, position=at)


def find_footer(data: bytes) -> Footer:
    tail_at = len(data) - TAIL_LENGTH
    if tail_at < FILE_HEADER_LENGTH or data[-8:] != TAIL_MAGIC:
        raise FormatError(INSUFFICIENT, len(data), "no tail at the end of the file")
    footer_at = read_tail(Reader(data, position=tail_at))
    require(FILE_HEADER_LENGTH <= footer_at < tail_at, tail_at, "a tail without its footer")
    file = reader_at(data, footer_at)
    footer = read_footer(file, read_section_header(file))
    require(file.offset == tail_at, footer_at, "a footer that doesn't end at the tail")

    places = [page.at for page in footer.pages] + [footer_at]
    ends = [page.end for page in footer.pages]
    require(ends == places[1:], footer_at, "pages that don't follow one another")
    require(places[0] >= FILE_HEADER_LENGTH, footer_at, "a page in the file header")
    firsts = [page.first_byte for page in footer.pages] + [footer.length]
    require(firsts[0] == 0 and firsts == sorted(firsts), footer_at, "pages out of order")
    return footer


def find_bases(data: bytes, footer: Footer, flags: int) -> list[Base]:
    if footer.bases_length is None:
        require(not flags & REPEATS, 10, "a header that states repeated ranges")
        return []
    file = reader_at(data, FILE_HEADER_LENGTH)
    section = read_section_header(file)
    require_kind(section, BASES)
    require(section.length == footer.bases_length, section.at, "bases of another length")
    return parse_bases(Reader(read_payload(file, section), section.payload_at), flags)


def find_losses(data: bytes, footer: Footer) -> Losses | None:
    if footer.losses_length is None:
        return None
    length = SECTION_HEADER_LENGTH + padded(footer.losses_length)
    directory_at = footer.pages[0].at if footer.pages else footer.at
    require(directory_at - length >= FILE_HEADER_LENGTH, footer.at, "losses in the file header")
    file = reader_at(data, directory_at - length)
    section = read_section_header(file)
    require_kind(section, LOSSES)
    require(section.length == footer.losses_length, section.at, "losses of another length")
    return parse_losses(Reader(read_payload(file, section), section.payload_at))


def find_directory(data: bytes, footer: Footer) -> list[PageSegment]:
    """All segments. Checks what a reader from front to back sees of their order, names and number."""
    ends = [page.first_byte for page in footer.pages[1:]] + [footer.length]
    pages = [find_page(data, entry, end) for entry, end in zip(footer.pages, ends)]
    behind = FILE_HEADER_LENGTH
    if footer.bases_length is not None:
        behind += SECTION_HEADER_LENGTH + padded(footer.bases_length)
    segments = [segment for page in pages for segment in page.segments]
    for place in (segment.place for segment in segments):
        require(behind <= place.at < place.first_block_at, footer.at, "segments out of order")
        skip_sections(data, behind, place.at)
        behind = place.end
    end = footer.pages[0].at if footer.pages else footer.at
    if footer.losses_length is not None:
        end -= SECTION_HEADER_LENGTH + padded(footer.losses_length)
    require(behind <= end, footer.at, "a segment behind the directory")
    skip_sections(data, behind, end)
    names = [tensor.name for page in pages for tensor in page.tensors]
    require(len(set(names)) == len(names), footer.at, "a name that comes twice")
    require(len(names) == footer.tensors, footer.at, "a footer that states other tensors")
    return segments


def skip_sections(data: bytes, at: int, end: int) -> None:
    """What stands between segments: unknown sections that may be skipped."""
    file = reader_at(data, at)
    while file.offset < end:
        section = read_section_header(file)
        require(section.kind not in KINDS, section.at, "a section where none can be")
        read_payload(file, section)
    require(file.offset == end, at, "bytes between segments that are no section")


def find_page(data: bytes, entry: PageEntry, end: int) -> Page:
    file = reader_at(data, entry.at)
    section = read_section_header(file)
    require_kind(section, DIRECTORY_PAGE)
    require(section.length == entry.length, entry.at, "a page of another length")
    page = parse_page(Reader(read_payload(file, section), section.payload_at))
    require(bool(page.segments), entry.at, "a directory page without segments")
    require(len(page.segments) == entry.segments, entry.at, "a page of other segments")
    require(page.first_byte == entry.first_byte, entry.at, "a page that begins elsewhere")
    require(page.first_byte + page.length == end, entry.at, "a page that ends elsewhere")
    return page


def read_in_segment(
    data: bytes,
    segment: PageSegment,
    first_byte: int,
    wanted: range,
    listed: list[Base],
    bases: Sequence[bytes],
    is_repeated: bool,
) -> bytes:
    """The bytes `wanted` of what a segment, which begins at `first_byte` of the original, decodes to."""
    place, first, last = segment.place, wanted.start, wanted.stop
    file = reader_at(data, place.at)
    section = read_section_header(file)
    require_kind(section, SEGMENT)
    head = parse_segment(Reader(read_payload(file, section), section.payload_at))
    check_segment_length(head, place.length, place.at)
    check_spans(segment, head)
    check_parts(head, listed, first_byte, place.at)
    require(not (is_repeated and head.parts), place.at, "a range that has a base is repeated")
    base = SegmentBase(head, listed, bases, partial(read_at, data, is_repeated=True))
    contexts = Contexts(head.layout)
    while file.offset < place.first_block_at:
        section = read_section_header(file)
        require_kind(section, CONTEXT)
        contexts.read(file, section)
    require(file.offset == place.first_block_at, place.at, "contexts that don't end at the blocks")

    found = bytearray()
    begin, at = 0, place.first_block_at
    for entry in find_block_table(data, place, head.layout):
        end = begin + entry.records * head.layout.length
        if first < end and begin < last:
            decoded = read_block_at(data, at, entry, contexts, base.of_block(begin, end - begin))
            found += decoded[max(first - begin, 0) : last - begin]
        begin, at = end, at + SECTION_HEADER_LENGTH + padded(entry.length)
    return bytes(found)


def find_block_table(data: bytes, place: SegmentPlace, layout: RecordLayout) -> list[TableEntry]:
    file = reader_at(data, place.table_at)
    section = read_section_header(file)
    require_kind(section, BLOCK_TABLE)
    table = parse_block_table(Reader(read_payload(file, section), section.payload_at))
    require(len(table) == place.blocks, place.table_at, "a block table of other blocks")
    blocks = sum(SECTION_HEADER_LENGTH + padded(entry.length) for entry in table)
    table_at = place.first_block_at + blocks
    require(table_at == place.table_at, place.table_at, "blocks that don't end at their table")
    length = layout.length * sum(entry.records for entry in table)
    require(length == place.length, place.table_at, "blocks that don't fill their segment")
    return table


def read_block_at(
    data: bytes, at: int, entry: TableEntry, contexts: Contexts, base: bytes | None
) -> bytes:
    file = reader_at(data, at)
    section = read_section_header(file)
    require_kind(section, BLOCK)
    block = read_block(file, section, contexts.layout)
    block.base = base
    require(entry_of(section, block) == entry, at, "a block unlike its table entry")
    return decode_block(section, block, contexts)


# --- Appendix: Dtypes ---

# Bits of an element. What else the dtypes mean doesn't affect decoding.
# Elements that are stored together, and their bytes.
DTYPE_BLOCKS = {
    **{1: (1, 1), 2: (1, 1), 3: (1, 1), 4: (1, 2), 5: (1, 2), 6: (1, 4), 7: (1, 4), 8: (1, 8), 9: (1, 8)},
    **{16: (1, 2), 17: (1, 2), 18: (1, 4), 19: (1, 8), 20: (1, 8), 21: (1, 16)},
    **{24: (1, 1), 25: (1, 1), 26: (1, 1), 27: (1, 1), 28: (1, 1)},
    **{32: (4, 3), 33: (4, 3), 34: (2, 1)},
    **{66: (32, 18), 67: (32, 20), 70: (32, 22), 71: (32, 24), 72: (32, 34), 73: (32, 40)},
    **{74: (256, 84), 75: (256, 110), 76: (256, 144), 77: (256, 176), 78: (256, 210), 79: (256, 292)},
    **{80: (256, 66), 81: (256, 74), 82: (256, 98), 83: (256, 50), 84: (32, 18), 85: (256, 110)},
    **{86: (256, 82), 87: (256, 136), 93: (256, 56), 98: (256, 54), 99: (256, 66)},
    **{103: (32, 17), 104: (64, 36), 105: (128, 18)},
}


def main(arguments: list[str]) -> int | str:
    parser = ArgumentParser(description="Restores a .wz file.")
    parser.add_argument("--base", action="append", default=[], type=Path, metavar="BASE.wz")
    parser.add_argument("packed", type=Path, metavar="FILE.wz")
    parser.add_argument("restored", type=Path, nargs="?", metavar="OUT")
    given = parser.parse_args(arguments)
    packed = given.packed
    if given.restored is None and packed.suffix != ".wz":
        parser.error("the name doesn't end in .wz: say where to write")
    restored = given.restored or packed.with_suffix("")
    try:
        original = decode(packed.read_bytes(), [base.read_bytes() for base in given.base])
        with restored.open("xb") as out:
            out.write(original)
    except (FormatError, ImportError, OSError) as error:
        return f"{packed}: {error}"
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
