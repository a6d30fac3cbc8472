//! Coding `fields` (spec: "Fields"): records of several fields, such as the blocks of quantised weights
//! in GGUF files. Each field of all records is a column, coded as records of one number are; small
//! numbers are symbols at level max, whose tables the scales beside them choose, and of which those that were scaled to
//! the ends of their range are told by where they are.

mod beside;
mod column;
mod numbers;
mod peaks;

use super::cost::{WAYS, Ways, least};
use super::ranges::bytes;
use super::{Coding, Hints, PREAMBLE, begin, records_of, take};
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::{ByteOrder, RecordLayout};
use crate::scratch::{self, Kept};
use beside::Beside;
use column::{Coded, Column};
use numbers::Numbers;
use peaks::{Peaks, Places};
use weightzip_kernels::strip::ALIGN;

/// Bytes that say what a column's coding and length are.
const ENTRY: usize = 8;

/// Flag: small numbers are symbols, not columns.
const SYMBOLS: u8 = 1;

/// Small numbers as symbols.
#[derive(Clone, Copy)]
struct Symbols<'a> {
    numbers: &'a Numbers,
    peaks: Option<Peaks>,
}

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
    places: Places,
    /// The payload of the symbols.
    coded: Vec<u8>,
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
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
    /// Decodes small numbers.
    fn decode_symbols(&self, keys: bytes::Keys<'_>, out: &mut [u8]) -> Result<()> {
        if self.coding != Coding::Bytes || self.beside.is_some() {
            return Err(bad("has symbols of another coding"));
        }
        if records_of(self.payload)? as usize != out.len() {
            return Err(bad("has another number of symbols"));
        }
        let parts = self.payload.split_first_chunk();
        let (preamble, body) = parts.ok_or_else(|| bad("has no symbols"))?;
        bytes::decode(preamble, keys, body, out)
    }

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
        scratch::with(&SCRATCH, |scratch| self.encode_with(scratch, hints, record, data, payload))
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
            Some(numbers) => self.as_symbols(numbers, hints, scratch)?,
            None => None,
        };
        let peaks = symbols.and_then(|symbols| symbols.peaks);
        let start = payload.len();
        let own = &mut payload[start - PREAMBLE + 4..];
        own[0] = if symbols.is_some() { SYMBOLS } else { 0 };
        own[4..8].copy_from_slice(&u32::try_from(hints.row).unwrap_or(0).to_le_bytes());
        if let Some(peaks) = peaks {
            peaks.to_wire(own);
        }
        payload.resize(start + (self.fields.len() + peaks::count(peaks)) * ENTRY, 0);
        let mut put = |entry: usize, coded: &Coded<'_>| {
            payload[start + entry * ENTRY..][..ENTRY].copy_from_slice(&coded.entry());
            payload.resize(payload.len().next_multiple_of(ALIGN), 0);
            payload.extend(coded.payload);
        };
        let Scratch { columns, of_column, coded: as_symbols, places, .. } = scratch;
        for (field, column) in self.fields.iter().enumerate() {
            match symbols.filter(|symbols| symbols.numbers.has(field)) {
                Some(symbols) if field == symbols.numbers.place() => {
                    let (coding, payload) = (Coding::Bytes, as_symbols.as_slice());
                    put(field, &Coded { coding, beside: None, payload });
                }
                Some(_) => {}
                None => {
                    let like = self.like(field).map(|field| columns[field].as_slice());
                    put(field, &column.encode(hints, &columns[field], like, of_column)?);
                }
            }
        }
        for (entry, places) in (self.fields.len()..).zip(places.of(peaks)) {
            put(entry, &Column::of_bytes().encode(hints, places, None, of_column)?);
        }
        Ok(())
    }

    /// Codes small numbers as symbols; `None` if they are smaller as columns.
    fn as_symbols<'a>(
        &self,
        numbers: &'a Numbers,
        hints: Hints,
        scratch: &mut Scratch,
    ) -> Result<Option<Symbols<'a>>> {
        let (peaks, [alone, others, of_places]) =
            Self::peaks(numbers, hints, peaks::FIXED, scratch)?;
        let Scratch { columns, of_column, symbols, keys, places, coded } = scratch;
        let peaks = peaks.filter(|_| others + of_places < alone);
        if peaks.is_none() {
            places.find(None, symbols)?;
        }
        begin(u32::try_from(symbols.len()).unwrap_or(u32::MAX), coded);
        if bytes::encode(symbols, numbers.by(keys, places), coded).is_none() {
            return Ok(None);
        }
        let mut as_columns = 0;
        let columns = self.fields.iter().zip(columns.iter()).enumerate();
        for (_, (field, column)) in columns.filter(|(field, _)| numbers.has(*field)) {
            as_columns += least(&[field.cost(hints, column, None, of_column)?]);
        }
        let of_places = if peaks.is_some() { of_places } else { 0 };
        Ok((coded.len() + of_places < as_columns).then_some(Symbols { numbers, peaks }))
    }

    /// Makes symbols of small numbers, and finds their keys, and peaks that save more than so many bits. Returns bytes that all
    /// symbols take, nearly, those that are no peaks, and the places of peaks.
    fn peaks(
        numbers: &Numbers,
        hints: Hints,
        more_than: u64,
        scratch: &mut Scratch,
    ) -> Result<(Option<Peaks>, [usize; 3])> {
        let Scratch { columns, of_column, symbols, keys, places, .. } = scratch;
        numbers.unpack(columns, symbols);
        numbers.keys(hints.row, columns, keys);
        places.find(None, symbols)?;
        let alone = bytes::cost(symbols, numbers.by(keys, places));
        let peaks = Peaks::of(numbers.count(), symbols, more_than);
        if peaks.is_none() {
            return Ok((None, [alone, alone, 0]));
        }
        places.find(peaks, symbols)?;
        let (others, mut of_places) = (bytes::cost(symbols, numbers.by(keys, places)), 0);
        for places in places.of(peaks) {
            let cost = Column::of_bytes().cost(hints, places, None, of_column)?;
            of_places += ENTRY + least(&[cost]);
        }
        Ok((peaks, [alone, others, of_places]))
    }

    /// Bytes that the columns of records take, nearly, if they were part of a larger block of such records.
    pub(super) fn cost(&self, hints: Hints, record: usize, data: &[u8]) -> Result<Vec<Ways>> {
        scratch::with(&SCRATCH, |scratch| self.cost_with(scratch, hints, record, data))
    }

    fn cost_with(
        &self,
        scratch: &mut Scratch,
        hints: Hints,
        record: usize,
        data: &[u8],
    ) -> Result<Vec<Ways>> {
        self.gather(scratch, record, data);
        let numbers = self.numbers.as_ref().filter(|_| hints.level == Level::Max);
        let Scratch { columns, of_column, .. } = scratch;
        let (mut costs, mut apart) =
            (vec![[PREAMBLE + self.fields.len() * ENTRY; WAYS]], Vec::new());
        for (field, column) in self.fields.iter().enumerate() {
            let like = self.like(field).map(|field| columns[field].as_slice());
            let of_column = column.cost(hints, &columns[field], like, of_column)?;
            match numbers.is_some_and(|numbers| numbers.has(field)) {
                true => apart.push(of_column),
                false => costs.push(of_column),
            }
        }
        if let Some(numbers) = numbers {
            let raw = apart.iter().map(|[.., raw]| raw).sum();
            let (_, [alone, others, of_places]) = Self::peaks(numbers, hints, 0, scratch)?;
            costs.push([alone, others + of_places, least(&apart), raw]);
        }
        Ok(costs)
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
        scratch::with(&SCRATCH, |scratch| self.decode_with(scratch, record, preamble, body, out))
    }

    fn decode_with(
        &self,
        scratch: &mut Scratch,
        record: usize,
        preamble: &[u8; PREAMBLE],
        mut body: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let (symbols, row) = self.head(preamble)?;
        let peaks = symbols.and_then(|symbols| symbols.peaks);
        let (whole, records) = (body.len(), out.len() / record);
        let entries = take(&mut body, (self.fields.len() + peaks::count(peaks)) * ENTRY)?;
        let (of_fields, of_places) = entries.split_at(self.fields.len() * ENTRY);
        scratch.make_room(&self.fields, records);
        let Scratch { columns, of_column, symbols: as_symbols, keys, places, .. } = scratch;
        let mut get = |entry: &[u8]| {
            let [l0, l1, l2, l3, coding, how, o0, o1] = *entry else { return Err(bad("is short")) };
            let used = whole - body.len();
            if take(&mut body, used.next_multiple_of(ALIGN) - used)?.iter().any(|&b| b != 0) {
                return Err(bad("has unknown bits between its columns"));
            }
            let payload = take(&mut body, u32::from_le_bytes([l0, l1, l2, l3]) as usize)?;
            let beside = Beside::from_wire([how, o0, o1])?;
            Ok(Coded { coding: Coding::from_wire_id(coding)?, beside, payload })
        };
        let mut of_symbols = None;
        for (field, entry) in of_fields.chunks_exact(ENTRY).enumerate() {
            match symbols.filter(|symbols| symbols.numbers.has(field)) {
                Some(symbols) if field == symbols.numbers.place() => {
                    of_symbols = Some((symbols, get(entry)?));
                }
                Some(_) if entry == [0; ENTRY] => {}
                Some(_) => return Err(bad("has a column beside its symbols")),
                None => {
                    let (before, rest) = columns.split_at_mut(field);
                    let like = self.like(field).map(|field| before[field].as_slice());
                    self.fields[field].decode(&get(entry)?, like, &mut rest[0], of_column)?;
                }
            }
        }
        let count = symbols.map_or(0, |symbols| symbols.numbers.count() * records);
        for (entry, places) in of_places.chunks_exact(ENTRY).zip(places.room(peaks, count)) {
            Column::of_bytes().decode(&get(entry)?, None, places, of_column)?;
        }
        if !body.is_empty() {
            return Err(bad("goes on behind its columns"));
        }
        if let Some((Symbols { numbers, peaks }, coded)) = of_symbols {
            numbers.keys(row, columns, keys);
            places.settle(peaks)?;
            as_symbols.resize(count, 0);
            coded.decode_symbols(numbers.by(keys, places), as_symbols)?;
            places.apply(peaks, as_symbols);
            numbers.pack(as_symbols, columns)?;
        }
        for (column, bytes) in self.fields.iter().zip(columns.iter()) {
            column.scatter(record, bytes, out);
        }
        Ok(())
    }

    /// What a preamble says: whether small numbers are symbols, and the records per row.
    fn head(&self, preamble: &[u8; PREAMBLE]) -> Result<(Option<Symbols<'_>>, usize)> {
        let [_, _, _, _, flags, group, 0, 0, r0, r1, r2, r3, peaks @ ..] = *preamble else {
            return Err(bad("has unknown bits in its preamble"));
        };
        let row = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
        if flags & SYMBOLS == 0 {
            return match (flags, group, peaks) {
                (0, 0, [0, 0, 0, 0]) => Ok((None, row)),
                _ => Err(bad("has peaks of no symbols")),
            };
        }
        let none = || bad("has symbols of fields that have none");
        let numbers = self.numbers.as_ref().ok_or_else(none)?;
        let peaks = Peaks::from_wire(flags & !SYMBOLS, group, peaks, numbers.count())?;
        Ok((Some(Symbols { numbers, peaks }), row))
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
