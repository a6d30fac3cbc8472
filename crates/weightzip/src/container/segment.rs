//! Segments (spec: "Segments"): bytes that are coded with one record layout, in blocks.

use super::bases::Bases;
use super::directory::Entry;
use super::wire::{Fields, put_varint};
use crate::codec::Coding;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::record::{ByteOrder, Field, RecordLayout, Role};

/// What a segment says before its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) layout: RecordLayout,
    /// Records per row; 0 if there are no rows.
    pub(crate) row: u64,
    /// Bytes of each span that starts here, in order; empty for a single opaque span.
    pub(crate) spans: Vec<u64>,
    /// What its bytes are coded against, from the first one on; empty if it has no base.
    pub(crate) base: Vec<BasePart>,
}

/// Most base parts of a segment: each of its blocks goes through them.
const MAX_PARTS: usize = 4096;

/// Some bytes of a segment, and their base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BasePart {
    pub(crate) bytes: u64,
    pub(crate) from: Option<PartBase>,
}

/// Where a base part's base is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartBase {
    /// The number of the base.
    pub(crate) number: usize,
    /// Where in it the bytes start.
    pub(crate) offset: u64,
    /// What is made of them.
    pub(crate) how: How,
}

/// What a base's bytes are to a segment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// As many of them.
    Same,
    /// Elements of this dtype, which must be converted to the segment's records.
    Converted(Dtype),
    /// Scales, each of as many bytes of the segment.
    Scales(u8),
}

/// What the wire says of scales in place of a dtype.
const SCALES: u64 = 1;

/// Most bytes of a segment that one of its base's may be a scale of.
const MAX_SCALED: u8 = 64;

impl BasePart {
    fn write_to(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bytes);
        put_varint(out, self.from.map_or(0, |from| from.number as u64 + 1));
        if let Some(PartBase { offset, how, .. }) = self.from {
            put_varint(out, offset);
            match how {
                How::Same => put_varint(out, 0),
                How::Converted(dtype) => put_varint(out, dtype.wire_id().into()),
                How::Scales(each) => {
                    [SCALES, each.into()].into_iter().for_each(|n| put_varint(out, n))
                }
            }
        }
    }

    fn read_from(payload: &mut Fields<'_>) -> Result<Self> {
        let (bytes, mut from) = (payload.varint()?, None);
        if let Some(number) = payload.varint()?.checked_sub(1) {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            let (offset, how) = (payload.varint()?, How::read_from(payload)?);
            from = Some(PartBase { number, offset, how });
        }
        if bytes == 0 {
            return Err(payload.bad("has a base part of no bytes"));
        }
        Ok(Self { bytes, from })
    }
}

impl How {
    fn read_from(payload: &mut Fields<'_>) -> Result<Self> {
        let id = match payload.varint()? {
            0 => return Ok(Self::Same),
            SCALES => {
                let each = u8::try_from(payload.varint()?).ok();
                let each = each.filter(|each| (1..=MAX_SCALED).contains(each));
                return each.map(Self::Scales).ok_or_else(|| payload.bad("has impossible scales"));
            }
            id => id,
        };
        let dtype = u8::try_from(id).ok().and_then(Dtype::from_wire_id);
        match dtype.filter(|dtype| Dtype::CONVERTIBLE.contains(dtype)) {
            Some(dtype) => Ok(Self::Converted(dtype)),
            None => Err(Error::incompatible(format!(
                "a base of dtype {id} can't be converted; a newer weightzip may know how"
            ))),
        }
    }
}

impl PartBase {
    /// Bytes of the base that `bytes` of the segment's records are coded against. Whole
    /// elements only; `None` if there are too many.
    pub(crate) fn bytes_of(&self, bytes: u64, layout: &RecordLayout) -> Option<u64> {
        match self.how {
            How::Same => Some(bytes),
            How::Converted(dtype) => {
                (bytes / u64::from(layout.bytes())).checked_mul(dtype.bytes() as u64)
            }
            How::Scales(each) => Some(bytes / u64::from(each)),
        }
    }
}

impl Segment {
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend(self.row.to_le_bytes());
        out.extend(self.layout.bytes().to_le_bytes());
        out.push(u8::from(self.layout.order() == ByteOrder::Big));
        out.push(self.layout.fields().len().to_le_bytes()[0]);
        for field in self.layout.fields() {
            let (role, exponent_bits) = match field.role {
                Role::Opaque => (0, 0),
                Role::Unsigned => (1, 0),
                Role::Signed => (2, 0),
                Role::Float { exponent_bits } => (3, exponent_bits),
                Role::Upper => (4, 0),
                Role::Exponent => (5, 0),
            };
            out.extend(field.bit_offset.to_le_bytes());
            out.extend(field.count.to_le_bytes());
            out.extend([field.width, role, exponent_bits, field.run]);
        }
        put_varint(out, self.spans.len() as u64);
        self.spans.iter().for_each(|&len| put_varint(out, len));
        self.base.iter().for_each(|part| part.write_to(out));
    }

    /// Refuses base parts that are not of `bases`, or not before this segment, which starts at that byte of the
    /// original.
    pub(crate) fn check_base(&self, bases: &Bases, original_at: u64) -> Result<()> {
        let bad = |why: &str| Err(Error::corrupt(format!("a segment {why}")));
        let end = |sum: Option<u64>, bytes: u64| sum?.checked_add(bytes);
        let spans = self.spans.iter().copied().fold(Some(0), end);
        let parts = self.base.iter().map(|part| part.bytes).fold(Some(0), end);
        if !self.base.is_empty() && (parts.is_none() || parts > spans) {
            return bad("has a base of more bytes than its own");
        }
        let mut start = 0;
        for part in &self.base {
            let first = start;
            start += part.bytes;
            let Some(from) = part.from else { continue };
            if !self.is_whole(first, part.bytes, &from) {
                return bad("has a base that can't be converted to its records");
            }
            let Some((has, ends_at)) = bases.extent(from.number) else {
                return bad("has a base that the file doesn't have");
            };
            let bytes = from.bytes_of(part.bytes, &self.layout);
            let end = bytes.and_then(|bytes| from.offset.checked_add(bytes));
            if end.is_none_or(|end| end > has) {
                return bad("leaves its base");
            }
            let is_before = ends_at.is_none_or(|end| end <= original_at);
            if !is_before && !matches!(from.how, How::Scales(_)) {
                return bad("repeats what is not before it");
            }
            // Each part of a block may mean to decode another one.
            if ends_at.is_some() && self.base.len() > 1 {
                return bad("repeats a range, and has other base parts");
            }
        }
        match self.base.is_empty() || self.base.iter().any(|part| part.from.is_some()) {
            true => Ok(()),
            false => bad("has base parts and no base"),
        }
    }

    /// Whether the base of `bytes` from `start` on can be converted, if it must be: whole floats to
    /// whole floats of another kind; or whole scales are there.
    fn is_whole(&self, start: u64, bytes: u64, from: &PartBase) -> bool {
        let dtype = match from.how {
            How::Same => return true,
            How::Scales(each) => return bytes.is_multiple_of(each.into()),
            How::Converted(dtype) => dtype,
        };
        let to = Dtype::convertible(&self.layout).filter(|to| *to != dtype);
        to.is_some_and(|to| {
            let record = to.bytes() as u64;
            let whole = start.is_multiple_of(record) && bytes.is_multiple_of(record);
            whole && from.offset.is_multiple_of(dtype.bytes() as u64)
        })
    }

    /// Refuses a block that needs a base in a segment that has none.
    pub(crate) fn check_coding(&self, coding: Coding) -> Result<()> {
        match coding.needs_base() && self.base.is_empty() {
            true => Err(Error::corrupt("a block needs a base, and its segment has none")),
            false => Ok(()),
        }
    }

    /// Lengths of its spans if it turns out to have `bytes`, and whether the last one is cut
    /// short, for the file may end early.
    pub(crate) fn clip(&self, bytes: u64) -> Result<(Vec<u64>, bool)> {
        if self.spans.is_empty() {
            return Ok((if bytes > 0 { vec![bytes] } else { Vec::new() }, false));
        }
        let (mut spans, mut left) = (Vec::new(), bytes);
        for &len in &self.spans {
            if len > left {
                let cut = left > 0;
                spans.extend(cut.then_some(left));
                return Ok((spans, cut));
            }
            spans.push(len);
            left -= len;
        }
        match left {
            0 => Ok((spans, false)),
            _ => Err(Error::corrupt("a segment has more bytes than its spans")),
        }
    }

    /// Whether `entries` are the spans of this segment, if it has `bytes`.
    pub(crate) fn agrees(&self, bytes: u64, entries: &[Entry]) -> Result<bool> {
        let (spans, cut) = self.clip(bytes)?;
        // What was cut short, and what no span was announced for, has no name.
        let is_named = entries.last().is_some_and(|e| e.tensor.is_some());
        let nameless = !(cut || self.spans.is_empty()) || !is_named;
        Ok(nameless && spans.iter().copied().eq(entries.iter().map(|e| e.bytes)))
    }

    pub(crate) fn read_from(payload: &[u8]) -> Result<Self> {
        let mut from = Fields::of("a segment", payload);
        let row = from.u64()?;
        let bytes = from.u16()?;
        let order = match from.u8()? {
            0 => ByteOrder::Little,
            1 => ByteOrder::Big,
            _ => return Err(from.bad("has an unknown byte order")),
        };
        let count = from.u8()?;
        let fields = (0..count).map(|_| read_field(&mut from)).collect::<Result<_>>()?;
        let layout =
            RecordLayout::new(bytes, order, fields).map_err(|e| Error::corrupt(e.message()))?;
        let spans = from.count(1)?;
        let spans = (0..spans).map(|_| from.varint()).collect::<Result<_>>()?;
        let mut base = Vec::new();
        while from.left() > 0 {
            if base.len() == MAX_PARTS {
                return Err(from.bad("has too many base parts"));
            }
            base.push(BasePart::read_from(&mut from)?);
        }
        Ok(Self { layout, row, spans, base })
    }
}

fn read_field(from: &mut Fields<'_>) -> Result<Field> {
    let (bit_offset, count, [width, role, exponent_bits, run]) =
        (from.u16()?, from.u16()?, from.array()?);
    let role = match role {
        0 => Role::Opaque,
        1 => Role::Unsigned,
        2 => Role::Signed,
        3 => Role::Float { exponent_bits },
        4 => Role::Upper,
        5 => Role::Exponent,
        role => {
            return Err(Error::incompatible(format!(
                "field role {role} is unknown; a newer weightzip may know it"
            )));
        }
    };
    if role != (Role::Float { exponent_bits }) && exponent_bits != 0 {
        return Err(from.bad("has exponent bits in a field that is no float"));
    }
    Ok(Field { bit_offset, count, width, role, run })
}
