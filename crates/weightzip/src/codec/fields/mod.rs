//! Coding `fields` (spec: "Fields"): records of several fields, such as the blocks of quantised weights
//! in GGUF files. Each field of all records is a column, coded as records of one number are; small
//! numbers are symbols at level max, whose tables the scales beside them choose.

mod beside;
mod numbers;

use super::base::{self, TOO_SHORT};
use super::ranges::{bytes, difference};
use super::{
    Block, Coding, Given, Hints, PREAMBLE, begin, decode_unchecked, records_of, smallest, take,
};
use crate::error::{Error, Kind, Result};
use crate::options::Level;
use crate::record::{ByteOrder, Field, RecordLayout, Role};
use beside::Beside;
use numbers::Numbers;
use weightzip_kernels::strip::ALIGN;

/// Bytes that say what a column's coding and length are.
const ENTRY: usize = 8;

/// Flag: small numbers are symbols, not columns.
const SYMBOLS: u8 = 1;

/// A record's fields, as columns.
pub(super) struct Columns {
    fields: Vec<Column>,
    /// Which of them are small numbers.
    numbers: Option<Numbers>,
}

/// A column as it is in a payload.
#[derive(Default)]
struct Coded {
    /// None if its numbers are symbols of another one.
    coding: Option<Coding>,
    beside: Option<Beside>,
    payload: Vec<u8>,
}

impl Coded {
    fn entry(&self) -> [u8; ENTRY] {
        let [l0, l1, l2, l3] = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let [how, o0, o1] = self.beside.map_or([0; 3], Beside::to_wire);
        [l0, l1, l2, l3, self.coding.map_or(0, Coding::wire_id), how, o0, o1]
    }
}

/// A field of all records.
struct Column {
    /// Where it is in a record.
    start: usize,
    /// Its bytes in a record.
    bytes: usize,
    /// How its bytes are coded.
    layout: RecordLayout,
}

impl Column {
    fn new(field: &Field, records: &RecordLayout) -> Self {
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

    /// Codes its bytes of all records; `like` is the first column of such floats, if that is another.
    fn encode(
        &self,
        hints: Hints,
        records: usize,
        column: &[u8],
        like: Option<&Vec<u8>>,
    ) -> Result<Coded> {
        let numbers = column.len() / usize::from(self.layout.bytes());
        // Scales are few, so they can take their time.
        let level = if self.layout.floats().is_some() { Level::Max } else { hints.level };
        let hints = Hints { level, row: hints.row.saturating_mul(numbers / records) };
        let (count, mut payload) = (u32::try_from(numbers).unwrap_or(u32::MAX), Vec::new());
        let (coding, start) = smallest(&self.layout, None, hints, count, column, &mut payload)?;
        payload.drain(..start);
        let alone = Coded { coding: Some(coding), beside: None, payload };
        let beside = like.and_then(|like| self.encode_beside(count, column, like));
        Ok(beside.filter(|b| b.payload.len() < alone.payload.len()).unwrap_or(alone))
    }

    /// As differences from another column.
    fn encode_beside(&self, count: u32, column: &[u8], like: &[u8]) -> Option<Coded> {
        let floats = self.layout.floats().filter(|floats| base::takes(*floats))?;
        let beside = Beside::of(floats, column, like).filter(|_| column.len() > TOO_SHORT)?;
        let (base, mut payload) = (beside.base(floats, like), Vec::new());
        begin(count, &mut payload);
        difference::encode(floats, &base, column, &mut payload)?;
        Some(Coded { coding: Some(Coding::Difference), beside: Some(beside), payload })
    }

    fn decode(
        &self,
        coding: Coding,
        beside: Option<Beside>,
        like: Option<&Vec<u8>>,
        payload: &[u8],
        records: usize,
    ) -> Result<Vec<u8>> {
        if coding == Coding::Fields || coding.needs_base() != beside.is_some() {
            return Err(bad("has a column of a coding that it can't have"));
        }
        let base = match beside {
            None => None,
            Some(beside) => {
                let floats = self.layout.floats().zip(like);
                let (floats, like) = floats.ok_or_else(|| bad("has a column beside none"))?;
                Some(beside.base(floats, like))
            }
        };
        let mut column = vec![0; records * self.bytes];
        let numbers = column.len() / usize::from(self.layout.bytes());
        let records = u32::try_from(numbers).unwrap_or(u32::MAX);
        let block = Block { coding, records, check: 0, payload };
        let given = Given { context: None, base: base.as_deref() };
        match decode_unchecked(&self.layout, given, &block, &mut column) {
            // Its base is in the block, too.
            Err(e) if e.kind() == Kind::InvalidArgument => Err(bad("has a column of another base")),
            done => done.map(|()| column),
        }
    }

    /// Its bytes of all records, in order.
    fn gather(&self, record: usize, data: &[u8]) -> Vec<u8> {
        let mut column = Vec::with_capacity(data.len() / record * self.bytes);
        let parts = data.chunks_exact(record).map(|record| &record[self.start..][..self.bytes]);
        parts.for_each(|part| column.extend_from_slice(part));
        column
    }

    /// Undoes [`gather`](Self::gather).
    fn scatter(&self, record: usize, column: &[u8], out: &mut [u8]) {
        let parts = column.chunks_exact(self.bytes);
        for (record, part) in out.chunks_exact_mut(record).zip(parts) {
            record[self.start..][..self.bytes].copy_from_slice(part);
        }
    }
}

impl Columns {
    /// The columns of records that have several fields of whole bytes, and nothing else.
    pub(super) fn of(layout: &RecordLayout) -> Option<Self> {
        let mut end = 0;
        for field in layout.fields() {
            if u32::from(field.bit_offset) != end || !field.bits().is_multiple_of(8) {
                return None;
            }
            end += field.bits();
        }
        let several = layout.fields().len() > 1 && end == u32::from(layout.bytes()) * 8;
        several.then(|| Self {
            fields: layout.fields().iter().map(|f| Column::new(f, layout)).collect(),
            numbers: Numbers::of(layout),
        })
    }

    /// The first of the columns before a column of floats that have such floats, too, and as many.
    fn like(&self, field: usize) -> Option<usize> {
        let column = self.fields.get(field).filter(|column| column.layout.floats().is_some())?;
        let like = |other: &Column| (other.bytes, &other.layout) == (column.bytes, &column.layout);
        self.fields.iter().position(like).filter(|first| *first < field)
    }

    /// Appends the coded records to a payload that has its preamble.
    pub(super) fn encode(
        &self,
        hints: Hints,
        record: usize,
        data: &[u8],
        payload: &mut Vec<u8>,
    ) -> Result<()> {
        let records = data.len() / record;
        let columns: Vec<Vec<u8>> = self.fields.iter().map(|c| c.gather(record, data)).collect();
        let mut coded = Vec::with_capacity(columns.len());
        for (field, (column, bytes)) in self.fields.iter().zip(&columns).enumerate() {
            let like = self.like(field).map(|field| &columns[field]);
            coded.push(column.encode(hints, records, bytes, like)?);
        }
        let mut flags = 0;
        if let Some(numbers) = self.numbers.as_ref().filter(|_| hints.level == Level::Max)
            && let Some(symbols) = symbols(numbers, hints.row, &columns)
        {
            let apart = coded.iter().enumerate().filter(|(field, _)| numbers.has(*field));
            if symbols.len() < apart.map(|(_, coded)| coded.payload.len()).sum() {
                flags = SYMBOLS;
                let parts = coded.iter_mut().enumerate().filter(|(field, _)| numbers.has(*field));
                parts.for_each(|(_, coded)| *coded = Coded::default());
                let coding = Some(Coding::Bytes);
                coded[numbers.place()] = Coded { coding, beside: None, payload: symbols };
            }
        }
        let preamble = payload.len() - PREAMBLE;
        payload[preamble + 4] = flags;
        let row = u32::try_from(hints.row).unwrap_or(0);
        payload[preamble + 8..][..4].copy_from_slice(&row.to_le_bytes());
        coded.iter().for_each(|coded| payload.extend(coded.entry()));
        for coded in coded.iter().filter(|coded| coded.coding.is_some()) {
            payload.resize(payload.len().next_multiple_of(ALIGN), 0);
            payload.extend(&coded.payload);
        }
        Ok(())
    }

    pub(super) fn decode(
        &self,
        record: usize,
        preamble: &[u8; PREAMBLE],
        mut body: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let [_, _, _, _, flags, 0, 0, 0, r0, r1, r2, r3, 0, 0, 0, 0] = *preamble else {
            return Err(bad("has unknown bits in its preamble"));
        };
        let numbers = match flags {
            0 => None,
            SYMBOLS => {
                let none = || bad("has symbols of fields that have none");
                Some(self.numbers.as_ref().ok_or_else(none)?)
            }
            _ => return Err(bad("has unknown flags")),
        };
        let (whole, records) = (body.len(), out.len() / record);
        let entries = take(&mut body, self.fields.len() * ENTRY)?;
        let mut columns = vec![Vec::new(); self.fields.len()];
        let mut symbols = None;
        for (field, entry) in entries.chunks_exact(ENTRY).enumerate() {
            let [l0, l1, l2, l3, coding, how, o0, o1] = *entry else { continue };
            let beside = Beside::from_wire([how, o0, o1])?;
            let numbers = numbers.filter(|numbers| numbers.has(field));
            if numbers.is_some_and(|numbers| field != numbers.place()) {
                if entry != [0; ENTRY] {
                    return Err(bad("has a column beside its symbols"));
                }
                continue;
            }
            let used = whole - body.len();
            if take(&mut body, used.next_multiple_of(ALIGN) - used)?.iter().any(|&b| b != 0) {
                return Err(bad("has unknown bits between its columns"));
            }
            let payload = take(&mut body, u32::from_le_bytes([l0, l1, l2, l3]) as usize)?;
            match (numbers, Coding::from_wire_id(coding)?) {
                (Some(_), Coding::Bytes) if beside.is_none() => symbols = Some(payload),
                (Some(_), _) => return Err(bad("has symbols of another coding")),
                (None, coding) => {
                    let like = self.like(field).map(|field| &columns[field]);
                    columns[field] =
                        self.fields[field].decode(coding, beside, like, payload, records)?;
                }
            }
        }
        if !body.is_empty() {
            return Err(bad("goes on behind its columns"));
        }
        if let Some((numbers, payload)) = numbers.zip(symbols) {
            let keys = numbers.keys(u32::from_le_bytes([r0, r1, r2, r3]) as usize, &columns);
            let mut symbols = vec![0; numbers.count() * records];
            if records_of(payload)? as usize != symbols.len() {
                return Err(bad("has another number of symbols"));
            }
            let (preamble, body) =
                payload.split_first_chunk().ok_or_else(|| bad("has no symbols"))?;
            bytes::decode(preamble, numbers.by(&keys), body, &mut symbols)?;
            numbers.pack(&symbols, &mut columns)?;
        }
        for (column, bytes) in self.fields.iter().zip(&columns) {
            column.scatter(record, bytes, out);
        }
        Ok(())
    }
}

/// The payload of small numbers as symbols; `None` if they are not smaller so.
fn symbols(numbers: &Numbers, row: usize, columns: &[Vec<u8>]) -> Option<Vec<u8>> {
    let (symbols, keys) = (numbers.unpack(columns), numbers.keys(row, columns));
    let mut payload = Vec::new();
    begin(u32::try_from(symbols.len()).ok()?, &mut payload);
    bytes::encode(&symbols, numbers.by(&keys), &mut payload)?;
    Some(payload)
}

/// A column's numbers of so many bytes, whatever they mean.
fn integers(bytes: usize, order: ByteOrder, column: &[u8]) -> impl Iterator<Item = u64> {
    let add = |n: u64, &byte: &u8| n << 8 | u64::from(byte);
    column.chunks_exact(bytes).map(move |number| match order {
        ByteOrder::Little => number.iter().rev().fold(0, add),
        ByteOrder::Big => number.iter().fold(0, add),
    })
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a fields block {why}"))
}
