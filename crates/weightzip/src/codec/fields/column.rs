//! A field of all records, coded as a block of its own.

use super::super::base::{self, TOO_SHORT};
use super::super::cost::{WAYS, Ways};
use super::super::nested::Part;
use super::super::{Coding, Hints, begin, constant, octets, ranges};
use super::bad;
use super::beside::Beside;
use crate::error::Result;
use crate::options::Level;
use crate::record::{Field, RecordLayout, Role};

/// A field of all records.
pub(super) struct Column {
    /// Where it is in a record.
    start: usize,
    /// Its bytes in a record.
    pub(super) bytes: usize,
    /// How its bytes are coded.
    pub(super) layout: RecordLayout,
}

/// Memory that columns use one after another.
#[derive(Default)]
pub(super) struct Scratch {
    payload: Vec<u8>,
    /// The payload of the column as differences from another one.
    beside: Vec<u8>,
    base: Vec<u8>,
}

/// A column as it is in a payload.
pub(super) struct Coded<'a> {
    pub(super) coding: Coding,
    pub(super) beside: Option<Beside>,
    pub(super) payload: &'a [u8],
}

impl Column {
    pub(super) fn new(field: &Field, records: &RecordLayout) -> Self {
        let one = Field { bit_offset: 0, count: 1, run: 0, ..*field };
        let layout = match field.role {
            Role::Float { .. } | Role::Unsigned | Role::Signed if field.width.is_multiple_of(8) => {
                RecordLayout::of(one).ordered(records.order())
            }
            _ => RecordLayout::opaque(),
        };
        let bytes = field.bits() as usize / 8;
        Self { start: usize::from(field.bit_offset / 8), bytes, layout }
    }

    /// Bytes that are no field of the records.
    pub(super) fn of_bytes() -> Self {
        Self { start: 0, bytes: 1, layout: RecordLayout::opaque() }
    }

    /// Codes its bytes of all records; `like` is the first column of such floats, if that is another.
    pub(super) fn encode<'a>(
        &self,
        hints: Hints,
        column: &[u8],
        like: Option<&[u8]>,
        scratch: &'a mut Scratch,
    ) -> Result<Coded<'a>> {
        let numbers = column.len() / usize::from(self.layout.bytes());
        let count = u32::try_from(numbers).unwrap_or(u32::MAX);
        let floats = self.layout.floats().is_some();
        let Scratch { payload, beside: as_beside, base } = scratch;
        let (coding, start) = if floats || self.layout.bytes() > 1 {
            // Scales are few, so they can take their time.
            let level = if floats { Level::Max } else { hints.level };
            let each = self.bytes / usize::from(self.layout.bytes());
            let hints = Hints { level, row: hints.row.saturating_mul(each) };
            Part::Column.encode(&self.layout, None, hints, column, payload)?
        } else {
            (octets::column(&self.layout, count, column, payload)?, 0)
        };
        let alone = &payload[start..];
        begin(count, as_beside);
        if let Some(beside) =
            like.and_then(|like| self.encode_beside(column, like, base, as_beside))
            && as_beside.len() < alone.len()
        {
            return Ok(Coded {
                coding: Coding::Difference,
                beside: Some(beside),
                payload: as_beside,
            });
        }
        Ok(Coded { coding, beside: None, payload: alone })
    }

    /// Bytes that it takes, nearly, if it were part of a larger block.
    pub(super) fn cost(
        &self,
        hints: Hints,
        column: &[u8],
        like: Option<&[u8]>,
        scratch: &mut Scratch,
    ) -> Result<Ways> {
        if self.layout.bytes() == 1 && self.layout.floats().is_none() {
            return octets::cost(&self.layout, column, &mut scratch.payload);
        }
        let Scratch { payload, beside, base } = scratch;
        let floats = self.layout.floats();
        let floats = floats.filter(|_| !constant::is_constant(&self.layout, column));
        if let Some(alone) = floats.and_then(|floats| ranges::cost(floats, column, payload)) {
            begin(0, beside);
            let as_beside = like.and_then(|like| self.encode_beside(column, like, base, beside));
            return Ok([alone, as_beside.map_or(alone, |_| beside.len()), alone, alone]);
        }
        Ok([self.encode(hints, column, like, scratch)?.payload.len(); WAYS])
    }

    /// Appends it to a payload that has its preamble, as differences from another column.
    fn encode_beside(
        &self,
        column: &[u8],
        like: &[u8],
        base: &mut Vec<u8>,
        payload: &mut Vec<u8>,
    ) -> Option<Beside> {
        let floats = self.layout.floats().filter(|floats| base::takes(*floats))?;
        let beside = Beside::of(floats, column, like).filter(|_| column.len() > TOO_SHORT)?;
        beside.base(floats, like, base);
        ranges::difference::encode(floats, base, column, payload)?;
        Some(beside)
    }

    /// Decodes its bytes of all records into `column`.
    pub(super) fn decode(
        &self,
        coded: &Coded<'_>,
        like: Option<&[u8]>,
        column: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let base = &mut scratch.base;
        let Coded { coding, beside, payload } = *coded;
        if let Some(beside) = beside {
            let floats = self.layout.floats().zip(like);
            let (floats, like) = floats.ok_or_else(|| bad("has a column beside none"))?;
            beside.base(floats, like, base);
        }
        let base = beside.map(|_| base.as_slice());
        let part = if base.is_some() { Part::Beside } else { Part::Column };
        part.decode(coding.wire_id(), &self.layout, base, payload, column)
    }

    /// Its bytes of all records, in order.
    pub(super) fn gather(&self, record: usize, data: &[u8], column: &mut [u8]) {
        match self.bytes {
            2 => gather::<2>(self.start, record, data, column),
            4 => gather::<4>(self.start, record, data, column),
            16 => gather::<16>(self.start, record, data, column),
            32 => gather::<32>(self.start, record, data, column),
            bytes => {
                for (record, part) in data.chunks_exact(record).zip(column.chunks_exact_mut(bytes))
                {
                    part.copy_from_slice(&record[self.start..][..bytes]);
                }
            }
        }
    }

    /// Undoes [`gather`](Self::gather).
    pub(super) fn scatter(&self, record: usize, column: &[u8], out: &mut [u8]) {
        match self.bytes {
            2 => scatter::<2>(self.start, record, column, out),
            4 => scatter::<4>(self.start, record, column, out),
            16 => scatter::<16>(self.start, record, column, out),
            32 => scatter::<32>(self.start, record, column, out),
            bytes => {
                for (record, part) in out.chunks_exact_mut(record).zip(column.chunks_exact(bytes)) {
                    record[self.start..][..bytes].copy_from_slice(part);
                }
            }
        }
    }
}

/// [`Column::gather`] of so many bytes of each record: a call for every few would take longer than copying them.
fn gather<const N: usize>(start: usize, record: usize, data: &[u8], column: &mut [u8]) {
    for (record, part) in data.chunks_exact(record).zip(column.as_chunks_mut::<N>().0) {
        part.copy_from_slice(&record[start..][..N]);
    }
}

/// Undoes [`gather`].
fn scatter<const N: usize>(start: usize, record: usize, column: &[u8], out: &mut [u8]) {
    for (record, part) in out.chunks_exact_mut(record).zip(column.as_chunks::<N>().0) {
        record[start..][..N].copy_from_slice(part);
    }
}
