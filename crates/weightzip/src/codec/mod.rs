//! Block codec (spec: "Blocks" and "Codings"): a block of records in, coded bytes out.
//!
//! Knows record layouts, never file formats or tensor names. Each coding has its own file, with
//! `encode` and `decode` side by side; this one names them and picks the smallest.

mod base;
mod constant;
mod context;
mod cost;
mod escapes;
mod fields;
mod fixed;
mod guess;
mod log2;
mod lower;
mod narrow;
mod nested;
mod octets;
mod palette;
mod planes;
mod ranges;
mod ranked;
mod ranks;
mod raw;
mod residuals;
mod scaled;
mod sizes;
mod sparse;
mod steps;
#[cfg(test)]
mod tests;
mod widths;
mod xor;
mod zstd;

pub use base::Given;
#[cfg(test)]
pub(crate) use base::encode_as;
pub(crate) use base::encode_scaled;
pub use context::Context;
pub(crate) use cost::{Looks, WAYS, cost, looks, may_be_packed, packed_cost};
pub(crate) use lower::may_be_lower;
pub(crate) use scaled::{RUNS, cost as scaled_cost};

use crate::container::MAX_BLOCK_BYTES;
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::RecordLayout;
use guess::Guess;
use ranges::bytes::Keys;
use ranges::packed;
use weightzip_kernels::field::Float;
use weightzip_kernels::level::level;
use weightzip_kernels::xxh3::{Running, xxh3_64};

/// How a block is coded; ids have the critical bit, for a block can't be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Coding {
    /// The records as they are.
    Raw,
    /// One record, many times.
    Constant,
    /// Byte groups through zstd.
    Zstd,
    /// Floats: escape planes for exponents, strips for what is left of sign and mantissa.
    Planes,
    /// Floats: range-coded symbols, given the scales of rows and columns, and strips.
    Ranges,
    /// Records of one byte: range-coded symbols.
    Bytes,
    /// The bits in which records differ from a base.
    Xor,
    /// Floats: range-coded differences from a base.
    Difference,
    /// Floats: escape planes for the size of steps from a base, and strips for their low bits.
    Steps,
    /// The places of records that differ from a base, and a block of them alone.
    Sparse,
    /// Records of one byte: escape planes.
    Ranks,
    /// Floats that are multiples of a power of two: how many steps they are from zero.
    Fixed,
    /// The same, from a base.
    FixedDelta,
    /// Records of several fields: each field of all records on its own.
    Fields,
    /// Opaque bytes that look like floats: these, and what is before and behind them.
    Guess,
    /// The places of records that are not zero, and a block of them alone.
    Zeros,
    /// Floats of few values: codes of a byte, and what these stand for.
    Palette,
    /// Integers of four bits, eight to a word: range-coded symbols, given what is known of their group and channel.
    Packed,
    /// Small numbers: range-coded symbols, given the scales that a base has.
    Scaled,
}

impl Coding {
    /// Every coding.
    pub const ALL: &'static [Self] = &[
        Self::Raw,
        Self::Constant,
        Self::Zstd,
        Self::Planes,
        Self::Ranges,
        Self::Bytes,
        Self::Xor,
        Self::Difference,
        Self::Steps,
        Self::Sparse,
        Self::Ranks,
        Self::Fixed,
        Self::FixedDelta,
        Self::Fields,
        Self::Guess,
        Self::Zeros,
        Self::Palette,
        Self::Packed,
        Self::Scaled,
    ];

    /// The name that `wz inspect` shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Constant => "constant",
            Self::Zstd => "zstd",
            Self::Planes => "planes",
            Self::Ranges => "ranges",
            Self::Bytes => "bytes",
            Self::Xor => "xor",
            Self::Difference => "difference",
            Self::Steps => "steps",
            Self::Sparse => "sparse",
            Self::Ranks => "ranks",
            Self::Fixed => "fixed",
            Self::FixedDelta => "fixed-delta",
            Self::Fields => "fields",
            Self::Guess => "guess",
            Self::Zeros => "zeros",
            Self::Palette => "palette",
            Self::Packed => "packed",
            Self::Scaled => "scaled",
        }
    }

    /// Whether its blocks are coded against a base.
    pub fn needs_base(self) -> bool {
        matches!(
            self,
            Self::Xor
                | Self::Difference
                | Self::Steps
                | Self::Sparse
                | Self::FixedDelta
                | Self::Scaled
        )
    }

    pub(crate) fn wire_id(self) -> u8 {
        match self {
            Self::Raw => 0x80,
            Self::Constant => 0x81,
            Self::Zstd => 0x82,
            Self::Planes => 0x83,
            Self::Ranges => 0x84,
            Self::Bytes => 0x85,
            Self::Xor => 0x86,
            Self::Difference => 0x87,
            Self::Steps => 0x88,
            Self::Sparse => 0x89,
            Self::Ranks => 0x8A,
            Self::Fixed => 0x8B,
            Self::FixedDelta => 0x8C,
            Self::Fields => 0x8D,
            Self::Guess => 0x8E,
            Self::Zeros => 0x8F,
            Self::Palette => 0x90,
            Self::Packed => 0x91,
            Self::Scaled => 0x92,
        }
    }

    pub(crate) fn from_wire_id(id: u8) -> Result<Self> {
        let known = Self::ALL.iter().find(|c| c.wire_id() == id).copied();
        known.ok_or_else(|| {
            Error::incompatible(format!(
                "block coding {id:#04x} is unknown; a newer weightzip may know it"
            ))
        })
    }
}

/// A coded block, usable without the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// How it is coded.
    pub coding: Coding,
    /// Records in it.
    pub records: u32,
    /// XXH3-64 of the decoded bytes.
    pub check: u64,
    /// The coded bytes; at most 16 and their padding more than the decoded ones.
    pub payload: &'a [u8],
}

/// What an encoder is told about a block besides its records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints {
    /// How hard to try.
    pub level: Level,
    /// Records in a row of the matrix whose whole rows the block is; 0 if it is none.
    pub row: usize,
}

impl Hints {
    /// Floats in a row.
    fn elements(self, layout: &RecordLayout, floats: Float) -> usize {
        self.row * (usize::from(layout.bytes()) / floats.bytes)
    }
}

/// Bytes at the start of every payload: the record count, then twelve that the coding owns.
pub(crate) const PREAMBLE: usize = 16;

/// Codes a block of whole records into `payload`, in place of what is there; the same records,
/// layout and context give the same bytes.
///
/// Linear in `data`, which may have up to 8 MiB. A higher level is never larger.
///
/// # Errors
/// [`InvalidArgument`](crate::Kind::InvalidArgument) if `data` is empty, too large or not whole
/// records, or the base has another length.
///
/// ```
/// use weightzip::{decode_block_into, encode_block, Dtype, Hints};
/// let layout = Dtype::Bf16.record_layout();
/// let weights: Vec<u8> = (0..1024u16).flat_map(|i| (0x3D00 + i % 700).to_le_bytes()).collect();
/// let mut payload = Vec::new();
/// let block = encode_block(&layout, None, Hints::default(), &weights, &mut payload)?;
/// assert!(block.payload.len() < weights.len() * 2 / 3);
///
/// let mut out = vec![0; weights.len()];
/// decode_block_into(&layout, None, &block, &mut out)?;
/// assert_eq!(out, weights);
/// # Ok::<(), weightzip::Error>(())
/// ```
pub fn encode_block<'a, 'g>(
    layout: &RecordLayout,
    given: impl Into<Given<'g>>,
    hints: Hints,
    data: &[u8],
    payload: &'a mut Vec<u8>,
) -> Result<Block<'a>> {
    let given = given.into();
    let Block { mut coding, records, check, payload: coded } =
        encode_once(layout, given, hints, data, payload)?;
    let len = coded.len();
    let mut start = payload.len() - len;
    let may_be_lower = || {
        given.base.is_some()
            || lower::may_be_lower(layout, coding, &payload[start..], data, data.len())
    };
    if hints.level == Level::Max && may_be_lower() {
        let mut other = Vec::new();
        let hints = Hints { level: Level::Default, ..hints };
        let (default, at) = base::encode(layout, given, hints, records, data, &mut other)?;
        if other.len() - at < payload.len() - start {
            *payload = other;
            (coding, start) = (default, at);
        }
    }
    Ok(Block { coding, records, check, payload: &payload[start..] })
}

/// [`encode_block`] at this level alone: at level max it may be larger than at level default.
pub(crate) fn encode_once<'a>(
    layout: &RecordLayout,
    given: Given<'_>,
    hints: Hints,
    data: &[u8],
    payload: &'a mut Vec<u8>,
) -> Result<Block<'a>> {
    let records = data.len() / usize::from(layout.bytes());
    let whole = records * usize::from(layout.bytes()) == data.len();
    let (true, true, Ok(records)) = (whole, data.len() <= MAX_BLOCK_BYTES, u32::try_from(records))
    else {
        return Err(Error::argument(format!(
            "a block of {} bytes is too large or not whole records",
            data.len()
        )));
    };
    if records == 0 {
        return Err(Error::argument("a block has at least one record"));
    }
    // First, for it reads from front to back: what follows finds the data in cache.
    let check = xxh3_64(data);
    let (coding, start) = base::encode(layout, given, hints, records, data, payload)?;
    Ok(Block { coding, records, check, payload: &payload[start..] })
}

/// What [`dense`] makes of a block, or, where that is smaller, the records that are not zero if many are, or a palette if a sample
/// has few values.
fn smallest(
    layout: &RecordLayout,
    context: Option<&Context>,
    hints: Hints,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<(Coding, usize)> {
    let (mut coding, mut start) = dense(layout, context, hints, records, data, payload)?;
    if coding == Coding::Constant {
        return Ok((coding, start));
    }
    let mut other = Vec::new();
    if sparse::has_zeros(layout, data) {
        begin(records, &mut other);
        sparse::encode(layout, hints.level, None, data, &mut other)?;
        if other.len() < payload.len() - start {
            std::mem::swap(payload, &mut other);
            (coding, start) = (Coding::Zeros, 0);
        }
    }
    // What is on a coarse grid has few values, too, and is small already.
    let is_coarse = |floats: Float| {
        coding == Coding::Fixed && 2 * (payload.len() - start) < 3 * data.len() / floats.bytes
    };
    let floats = layout.floats().filter(|floats| !is_coarse(*floats));
    if let Some(floats) = floats.filter(|floats| palette::suits(*floats, data)) {
        begin(records, &mut other);
        let hints = Hints { row: hints.elements(layout, floats), ..hints };
        if palette::encode(floats, hints, data, &mut other)? && other.len() < payload.len() - start
        {
            std::mem::swap(payload, &mut other);
            (coding, start) = (Coding::Palette, 0);
        }
    }
    Ok((coding, start))
}

/// Equal records are constant; floats that are on a grid are fixed; others try planes, records of several fields
/// are coded by field, everything else tries zstd, opaque bytes as the floats that they look like, too, and words as the small integers
/// that are packed into them; what doesn't get smaller stays raw. At level max floats try ranges first, and planes only where these are not smaller
/// than the records, or the block is small; other records of one byte try bytes too, integers at level default where
/// a sample says so. Returns where the block's payload starts in `payload`.
fn dense(
    layout: &RecordLayout,
    context: Option<&Context>,
    hints: Hints,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<(Coding, usize)> {
    if constant::is_constant(layout, data) {
        begin(records, payload);
        constant::encode(layout, data, payload);
        return Ok((Coding::Constant, 0));
    }
    if let Some(floats) = layout.floats() {
        if let Some(choice) = fixed::Choice::of(floats, hints.level, &[], data) {
            begin(records, payload);
            if fixed::encode(floats, &choice, hints.level, &[], data, payload).is_some() {
                return Ok((Coding::Fixed, 0));
            }
        }
        let as_ranges = match hints.level {
            Level::Max => {
                let (row, columns) = (hints.elements(layout, floats), columns_of(context));
                ranges::encode(floats, columns, row, records, data, payload)
            }
            Level::Default => None,
        };
        let len = as_ranges.map_or(usize::MAX, |start| payload.len() - start);
        if let Some(start) = as_ranges.filter(|_| len < data.len() && data.len() >= LARGE) {
            return Ok((Coding::Ranges, start));
        }
        let ranges = as_ranges.map(|start| payload.split_off(start));
        let start = planes::encode(floats, context, records, data, payload);
        let raw = PREAMBLE + data.len();
        let as_planes = start.map_or(raw, |start| payload.len() - start);
        if let Some(ranges) = ranges.filter(|ranges| ranges.len() < as_planes.min(raw)) {
            *payload = ranges;
            return Ok((Coding::Ranges, 0));
        }
        if let Some(start) = start.filter(|_| as_planes < raw) {
            return Ok((Coding::Planes, start));
        }
    } else if let Some(columns) = fields::Columns::of(layout) {
        begin(records, payload);
        columns.encode(hints, layout.bytes().into(), data, payload)?;
        if payload.len() < PREAMBLE + data.len() {
            return Ok((Coding::Fields, 0));
        }
    } else {
        let coding = match hints.level {
            Level::Max if layout.bytes() == 1 => octets::smaller(layout, records, data, payload)?,
            Level::Default if layout.bytes() == 1 && !layout.is_opaque() => {
                octets::likely(layout, records, data, payload)?
            }
            _ => {
                begin(records, payload);
                zstd::encode(layout, data, payload)?;
                Coding::Zstd
            }
        };
        let unknown = *layout == RecordLayout::opaque();
        if let Some(guess) = unknown.then(|| Guess::of(data)).flatten() {
            let mut as_floats = Vec::new();
            begin(records, &mut as_floats);
            guess::encode(guess, hints, data, &mut as_floats)?;
            if as_floats.len() < payload.len().min(PREAMBLE + data.len()) {
                *payload = as_floats;
                return Ok((Coding::Guess, 0));
            }
        }
        let len = payload.len().min(PREAMBLE + data.len());
        if layout.is_word() && packed::suits(hints.row, data, len) {
            let mut as_packed = Vec::new();
            begin(records, &mut as_packed);
            let is_smaller = packed::encode(hints.row, data, &mut as_packed).is_some();
            if is_smaller && as_packed.len() < len {
                *payload = as_packed;
                return Ok((Coding::Packed, 0));
            }
        }
        if payload.len() < PREAMBLE + data.len() {
            return Ok((coding, 0));
        }
    }
    begin(records, payload);
    raw::encode(data, payload);
    Ok((Coding::Raw, 0))
}

/// Bytes of a block in which what planes save in their header can't tell.
const LARGE: usize = 128 << 10;

/// Starts a payload: the preamble with its record count.
fn begin(records: u32, payload: &mut Vec<u8>) {
    payload.clear();
    payload.extend(records.to_le_bytes());
    payload.resize(PREAMBLE, 0);
}

/// Decodes `block` into `out`, which must have exactly its bytes, and compares the checksum.
///
/// Linear; takes scratch memory of at most about twelve times `out`, whatever the payload claims.
///
/// # Errors
/// [`Corruption`](crate::Kind::Corruption) if the payload contradicts itself or the checksum,
/// [`InvalidArgument`](crate::Kind::InvalidArgument) if `out` has another length, or the block
/// needs a base and is not given the one that it was made with. `out` has no meaning then.
pub fn decode_block_into<'g>(
    layout: &RecordLayout,
    given: impl Into<Given<'g>>,
    block: &Block<'_>,
    out: &mut [u8],
) -> Result<()> {
    let mut seen = Running::default();
    decode(layout, given.into(), block, out, Some(&mut seen))?;
    if seen.xxh3_64(level(), out) != block.check {
        return Err(Error::corrupt(format!(
            "a {} block's decoded bytes differ from their checksum",
            block.coding.name()
        )));
    }
    Ok(())
}

/// [`decode_block_into`] without the checksum.
pub(crate) fn decode_unchecked<'g>(
    layout: &RecordLayout,
    given: impl Into<Given<'g>>,
    block: &Block<'_>,
    out: &mut [u8],
) -> Result<()> {
    decode(layout, given.into(), block, out, None)
}

/// Some of `out`, from its start on, may be hashed in `seen`.
fn decode(
    layout: &RecordLayout,
    given: Given<'_>,
    block: &Block<'_>,
    out: &mut [u8],
    seen: Option<&mut Running>,
) -> Result<()> {
    let Given { context, base } = given;
    if u64::from(block.records) * u64::from(layout.bytes()) != out.len() as u64 {
        return Err(Error::argument(format!(
            "a block of {} records doesn't fill {} bytes",
            block.records,
            out.len()
        )));
    }
    let Some((preamble, mut body)) = block.payload.split_first_chunk::<PREAMBLE>() else {
        return Err(Error::corrupt("a block payload is shorter than its preamble"));
    };
    if preamble[..4] != block.records.to_le_bytes() {
        return Err(Error::corrupt(
            "a block's payload states another record count than its header",
        ));
    }
    if matches!(block.coding, Coding::Raw | Coding::Constant | Coding::Zstd)
        && preamble[4..].iter().any(|&b| b != 0)
    {
        return Err(Error::corrupt("a block's preamble has unknown bits"));
    }
    match block.coding {
        Coding::Raw => raw::decode(body, out),
        Coding::Constant => constant::decode(layout, body, out),
        Coding::Zstd => zstd::decode(layout, body, out),
        Coding::Planes => match layout.floats() {
            Some(floats) => planes::decode(floats, context, preamble, body, out),
            None => Err(Error::corrupt("plane coding of records that are not floats")),
        },
        Coding::Ranges => match layout.floats() {
            Some(floats) => ranges::decode(floats, columns_of(context), preamble, body, out),
            None => Err(Error::corrupt("range coding of records that are not floats")),
        },
        Coding::Bytes if layout.bytes() == 1 => {
            ranges::bytes::decode(preamble, Keys::default(), body, out)
        }
        Coding::Bytes => Err(Error::corrupt("byte coding of records of more than a byte")),
        Coding::Ranks if layout.bytes() == 1 => ranked::decode(preamble, body, out),
        Coding::Ranks => Err(Error::corrupt("rank coding of records of more than a byte")),
        Coding::Fixed | Coding::FixedDelta => {
            let floats = layout.floats();
            let floats =
                floats.ok_or_else(|| Error::corrupt("fixed point of what has no floats"))?;
            let base = match block.coding {
                Coding::Fixed => &[],
                _ => base::checked(base, out.len(), &mut body)?,
            };
            fixed::decode(floats, base, preamble, body, out)
        }
        Coding::Fields => match fields::Columns::of(layout) {
            Some(columns) => columns.decode(layout.bytes().into(), preamble, body, out),
            None => Err(Error::corrupt("fields of records that have one, or not whole bytes")),
        },
        Coding::Guess if *layout == RecordLayout::opaque() => guess::decode(preamble, body, out),
        Coding::Guess => Err(Error::corrupt("a guess of records that are not opaque bytes")),
        Coding::Xor => {
            let base = base::checked(base, out.len(), &mut body)?;
            xor::decode(layout, base, preamble, body, out)
        }
        Coding::Sparse => {
            let base = base::checked(base, out.len(), &mut body)?;
            sparse::decode(layout, Some(base), preamble, body, out)
        }
        Coding::Zeros => sparse::decode(layout, None, preamble, body, out),
        Coding::Palette => match layout.floats() {
            Some(floats) => palette::decode(floats, preamble, body, out),
            None => Err(Error::corrupt("a palette of records that are not floats")),
        },
        Coding::Packed if layout.is_word() => packed::decode(preamble, body, out),
        Coding::Packed => Err(Error::corrupt("packed integers in records that are no words")),
        Coding::Scaled if layout.bytes() == 1 => {
            let base = base::checked(base, out.len(), &mut body)?;
            scaled::decode(base, preamble, body, out)
        }
        Coding::Scaled => Err(Error::corrupt("scaled numbers in records of more than a byte")),
        Coding::Difference | Coding::Steps => {
            let floats = layout.floats().filter(|floats| base::takes(*floats));
            let floats =
                floats.ok_or_else(|| Error::corrupt("a difference of records that have none"))?;
            if block.coding == Coding::Difference {
                let base = base::checked(base, out.len(), &mut body)?;
                return ranges::difference::decode(floats, base, preamble, body, out);
            }
            let (base, hash) = base::stated(base, out.len(), &mut body)?;
            let mut hashed = steps::Hashed { base: Running::default(), out: seen };
            let done = steps::decode(floats, base, preamble, body, out, &mut hashed);
            // Another base is the reason for whatever else is wrong.
            base::check(base, &hash, hashed.base)?;
            done
        }
    }
}

fn columns_of(context: Option<&Context>) -> Option<&ranges::Columns> {
    context?.columns.as_ref()
}

/// Takes the first `len` bytes off a payload.
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes
        .split_at_checked(len)
        .ok_or_else(|| Error::corrupt("a block is shorter than its header says"))?;
    *bytes = rest;
    Ok(taken)
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b))
}

fn to_u32(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::argument("a block is too large"))
}

/// The record count that a payload states.
pub(crate) fn records_of(payload: &[u8]) -> Result<u32> {
    match payload.get(..PREAMBLE) {
        Some(&[a, b, c, d, ..]) => Ok(u32::from_le_bytes([a, b, c, d])),
        _ => Err(Error::corrupt("a block payload is shorter than its preamble")),
    }
}

/// Bytes that `records` decode to, if that is within `limit`.
pub(crate) fn check_size(layout: &RecordLayout, records: u32, limit: usize) -> Result<usize> {
    let bytes = u64::from(records) * u64::from(layout.bytes());
    match usize::try_from(bytes) {
        Ok(0) => Err(Error::corrupt("a block has no records")),
        Ok(bytes) if bytes <= limit.min(MAX_BLOCK_BYTES) => Ok(bytes),
        _ => Err(Error::corrupt(format!(
            "a block of {bytes} decoded bytes is beyond the limit of {limit}"
        ))),
    }
}
