//! Segments (spec: "Segments"): bytes that are coded with one record layout, in blocks.

use super::bases::BaseTensor;
use super::directory::Entry;
use super::wire::{Fields, put_varint};
use crate::codec::Coding;
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
    /// The number of the base tensor, and where in it these bytes start.
    pub(crate) from: Option<(usize, u64)>,
}

impl BasePart {
    fn write_to(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bytes);
        put_varint(out, self.from.map_or(0, |(tensor, _)| tensor as u64 + 1));
        self.from.iter().for_each(|&(_, offset)| put_varint(out, offset));
    }

    fn read_from(from: &mut Fields<'_>) -> Result<Self> {
        let bytes = from.varint()?;
        let tensor = match from.varint()?.checked_sub(1) {
            Some(tensor) => Some((usize::try_from(tensor).unwrap_or(usize::MAX), from.varint()?)),
            None => None,
        };
        if bytes == 0 {
            return Err(from.bad("has a base part of no bytes"));
        }
        Ok(Self { bytes, from: tensor })
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
            };
            out.extend(field.bit_offset.to_le_bytes());
            out.extend(field.count.to_le_bytes());
            out.extend([field.width, role, exponent_bits, 0]);
        }
        put_varint(out, self.spans.len() as u64);
        self.spans.iter().for_each(|&len| put_varint(out, len));
        self.base.iter().for_each(|part| part.write_to(out));
    }

    /// Refuses base parts that are not of `bases`.
    pub(crate) fn check_base(&self, bases: &[BaseTensor]) -> Result<()> {
        let bad = |why: &str| Err(Error::corrupt(format!("a segment {why}")));
        let end = |sum: Option<u64>, bytes: u64| sum?.checked_add(bytes);
        let spans = self.spans.iter().copied().fold(Some(0), end);
        let parts = self.base.iter().map(|part| part.bytes).fold(Some(0), end);
        if !self.base.is_empty() && (parts.is_none() || parts > spans) {
            return bad("has a base of more bytes than its own");
        }
        for part in &self.base {
            let Some((tensor, offset)) = part.from else { continue };
            let Some(tensor) = bases.get(tensor) else {
                return bad("has a base that the file doesn't have");
            };
            if offset.checked_add(part.bytes).is_none_or(|end| end > tensor.bytes) {
                return bad("leaves its base");
            }
        }
        match self.base.is_empty() || self.base.iter().any(|part| part.from.is_some()) {
            true => Ok(()),
            false => bad("has base parts and no base"),
        }
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
        let nameless = !cut || entries.last().is_some_and(|e| e.tensor.is_none());
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
    let (bit_offset, count, [width, role, exponent_bits, zero]) =
        (from.u16()?, from.u16()?, from.array()?);
    let role = match role {
        0 => Role::Opaque,
        1 => Role::Unsigned,
        2 => Role::Signed,
        3 => Role::Float { exponent_bits },
        role => {
            return Err(Error::incompatible(format!(
                "field role {role} is unknown; a newer weightzip may know it"
            )));
        }
    };
    if role != (Role::Float { exponent_bits }) && exponent_bits != 0 {
        return Err(from.bad("has exponent bits in a field that is no float"));
    }
    if zero != 0 {
        return Err(from.bad("has a field with unknown bits"));
    }
    Ok(Field { bit_offset, count, width, role })
}
