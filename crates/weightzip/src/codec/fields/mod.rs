//! Coding `fields` (spec: "Fields"): records of several fields, such as the blocks of quantised weights
//! in GGUF files. Each field of all records is a column, coded as records of one number are; small
//! numbers are symbols at level max, whose tables the scales beside them choose.

mod beside;
mod column;
mod numbers;

use super::ranges::bytes;
use super::{Coding, Hints, PREAMBLE, begin, records_of, take};
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::{ByteOrder, RecordLayout};
use beside::Beside;
use column::{Coded, Column};
use numbers::Numbers;
use std::cell::RefCell;
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

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    /// The bytes of each field of all records.
    columns: Vec<Vec<u8>>,
    of_column: column::Scratch,
    symbols: Vec<u8>,
    keys: numbers::Keys,
    /// The payload of the symbols.
    coded: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// Makes room for the columns of so many records.
    fn make_room(&mut self, fields: &[Column], records: usize) {
        self.columns.resize_with(self.columns.len().max(fields.len()), Vec::new);
        let rooms = self.columns.iter_mut().zip(fields);
        rooms.for_each(|(column, field)| column.resize(records * field.bytes, 0));
    }
}

impl Coded<'_> {
    fn entry(&self) -> [u8; ENTRY] {
        let [l0, l1, l2, l3] = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let [how, o0, o1] = self.beside.map_or([0; 3], Beside::to_wire);
        [l0, l1, l2, l3, self.coding.wire_id(), how, o0, o1]
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
        SCRATCH.with_borrow_mut(|scratch| self.encode_with(scratch, hints, record, data, payload))
    }

    fn encode_with(
        &self,
        scratch: &mut Scratch,
        hints: Hints,
        record: usize,
        data: &[u8],
        payload: &mut Vec<u8>,
    ) -> Result<()> {
        self.gather(scratch, record, data);
        let numbers = self.numbers.as_ref().filter(|_| hints.level == Level::Max);
        let symbols = match numbers {
            Some(numbers) if self.are_symbols(numbers, hints, scratch)? => Some(numbers),
            _ => None,
        };
        let start = payload.len();
        payload[start - PREAMBLE + 4] = if symbols.is_some() { SYMBOLS } else { 0 };
        let row = u32::try_from(hints.row).unwrap_or(0);
        payload[start - PREAMBLE + 8..][..4].copy_from_slice(&row.to_le_bytes());
        payload.resize(start + self.fields.len() * ENTRY, 0);
        let Scratch { columns, of_column, coded: as_symbols, .. } = scratch;
        for (field, column) in self.fields.iter().enumerate() {
            let coded = match symbols.filter(|numbers| numbers.has(field)) {
                Some(numbers) if field == numbers.place() => {
                    Coded { coding: Coding::Bytes, beside: None, payload: as_symbols }
                }
                Some(_) => continue,
                None => {
                    let like = self.like(field).map(|field| columns[field].as_slice());
                    column.encode(hints, &columns[field], like, of_column)?
                }
            };
            payload[start + field * ENTRY..][..ENTRY].copy_from_slice(&coded.entry());
            payload.resize(payload.len().next_multiple_of(ALIGN), 0);
            payload.extend(coded.payload);
        }
        Ok(())
    }

    /// Codes small numbers as symbols, and says whether they are smaller so than as columns.
    fn are_symbols(&self, numbers: &Numbers, hints: Hints, scratch: &mut Scratch) -> Result<bool> {
        let Scratch { columns, of_column, symbols, keys, coded } = scratch;
        numbers.unpack(columns, symbols);
        numbers.keys(hints.row, columns, keys);
        begin(u32::try_from(symbols.len()).unwrap_or(u32::MAX), coded);
        if bytes::encode(symbols, numbers.by(keys), coded).is_none() {
            return Ok(false);
        }
        let mut as_columns = 0;
        let columns = self.fields.iter().zip(columns.iter()).enumerate();
        for (_, (field, column)) in columns.filter(|(field, _)| numbers.has(*field)) {
            as_columns += field.cost(hints, column, None, of_column)?;
        }
        Ok(coded.len() < as_columns)
    }

    /// Bytes that records take, nearly, if they were part of a larger block of such records.
    pub(super) fn cost(&self, hints: Hints, record: usize, data: &[u8]) -> Result<usize> {
        SCRATCH.with_borrow_mut(|scratch| self.cost_with(scratch, hints, record, data))
    }

    fn cost_with(
        &self,
        scratch: &mut Scratch,
        hints: Hints,
        record: usize,
        data: &[u8],
    ) -> Result<usize> {
        self.gather(scratch, record, data);
        let numbers = self.numbers.as_ref().filter(|_| hints.level == Level::Max);
        let Scratch { columns, of_column, symbols, keys, .. } = scratch;
        let (mut cost, mut apart) = (PREAMBLE + self.fields.len() * ENTRY, 0);
        for (field, column) in self.fields.iter().enumerate() {
            let like = self.like(field).map(|field| columns[field].as_slice());
            let of_column = column.cost(hints, &columns[field], like, of_column)?;
            match numbers.is_some_and(|numbers| numbers.has(field)) {
                true => apart += of_column,
                false => cost += of_column,
            }
        }
        let Some(numbers) = numbers else { return Ok(cost) };
        numbers.unpack(columns, symbols);
        numbers.keys(hints.row, columns, keys);
        Ok(cost + apart.min(bytes::cost(symbols, numbers.by(keys))))
    }

    /// Puts the columns of records in place of what is there.
    fn gather(&self, scratch: &mut Scratch, record: usize, data: &[u8]) {
        scratch.make_room(&self.fields, data.len() / record);
        for (field, column) in self.fields.iter().zip(&mut scratch.columns) {
            field.gather(record, data, column);
        }
    }

    pub(super) fn decode(
        &self,
        record: usize,
        preamble: &[u8; PREAMBLE],
        body: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        SCRATCH.with_borrow_mut(|scratch| self.decode_with(scratch, record, preamble, body, out))
    }

    fn decode_with(
        &self,
        scratch: &mut Scratch,
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
        scratch.make_room(&self.fields, records);
        let Scratch { columns, of_column, symbols, keys, .. } = scratch;
        let mut as_symbols = None;
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
                (Some(_), Coding::Bytes) if beside.is_none() => as_symbols = Some(payload),
                (Some(_), _) => return Err(bad("has symbols of another coding")),
                (None, coding) => {
                    let (before, rest) = columns.split_at_mut(field);
                    let like = self.like(field).map(|field| before[field].as_slice());
                    let coded = Coded { coding, beside, payload };
                    self.fields[field].decode(&coded, like, &mut rest[0], of_column)?;
                }
            }
        }
        if !body.is_empty() {
            return Err(bad("goes on behind its columns"));
        }
        if let Some((numbers, payload)) = numbers.zip(as_symbols) {
            numbers.keys(u32::from_le_bytes([r0, r1, r2, r3]) as usize, columns, keys);
            symbols.resize(numbers.count() * records, 0);
            if records_of(payload)? as usize != symbols.len() {
                return Err(bad("has another number of symbols"));
            }
            let (preamble, body) =
                payload.split_first_chunk().ok_or_else(|| bad("has no symbols"))?;
            bytes::decode(preamble, numbers.by(keys), body, symbols)?;
            numbers.pack(symbols, columns)?;
        }
        for (column, bytes) in self.fields.iter().zip(columns.iter()) {
            column.scatter(record, bytes, out);
        }
        Ok(())
    }
}

/// A column's numbers of so many bytes, whatever they mean.
fn integers(bytes: usize, order: ByteOrder, column: &[u8]) -> impl Iterator<Item = u64> {
    let add = |n: u64, &byte: &u8| n << 8 | u64::from(byte);
    column.chunks_exact(bytes).map(move |number| match (number, order) {
        // Most are of two bytes.
        (&[a, b], ByteOrder::Little) => u16::from_le_bytes([a, b]).into(),
        (_, ByteOrder::Little) => number.iter().rev().fold(0, add),
        (_, ByteOrder::Big) => number.iter().fold(0, add),
    })
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a fields block {why}"))
}
