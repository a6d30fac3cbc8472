//! Floats in, ranges out.

use super::estimate::Matrix;
use super::header::{Header, width};
use super::scales::{Columns, MIN_LINE, Scales};
use super::symbols::{self, Choice, Symbols};
use super::tops::Tops;
use super::{CARRIED, TABLES, TOP_BITS, states_with, wide};
use crate::codec::residuals::{Floats, Found, Narrowings, Output};
use crate::codec::widths::Widths;
use crate::container::section;
use crate::scratch::{self, Kept};
use weightzip_kernels::GROUP;
use weightzip_kernels::escape::SLACK;
use weightzip_kernels::field::{self, CHUNK, EXPONENTS, Float};
use weightzip_kernels::level::Level;
use weightzip_kernels::rans::{self, Shares};
use weightzip_kernels::scale::{self, Moves};
use weightzip_kernels::strip::{self, Planes, packed_len, plane_len};

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    found: Found,
    ranks: Vec<u8>,
    scales: Vec<u8>,
    words: Vec<u8>,
    header: Vec<u8>,
    shares: Shares,
    escapes: Vec<u8>,
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
}

/// Codes a block of rows of `row` elements (0 if it has none) into `payload`, in place of what is
/// there, and returns where in it the block's payload starts; `None` if this coding can't have it.
pub(in crate::codec) fn encode(
    float: Float,
    columns: Option<&Columns>,
    row: usize,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<usize> {
    let float = wide(float)?;
    let elements = data.len() / float.bytes;
    let row = if row >= MIN_LINE && elements.is_multiple_of(row) { row } else { 0 };
    let columns = columns.map(|c| c.0.as_slice()).filter(|c| c.len() == row);
    let level = weightzip_kernels::level();
    scratch::with(&SCRATCH, |scratch| {
        Encoder { float, level, row, data, scratch }.encode(columns, records, payload)
    })
}

/// The scales of the columns of a segment that starts with the block `data`, if it has any.
pub(in crate::codec) fn columns(float: Float, row: usize, data: &[u8]) -> Option<Columns> {
    let float = wide(float)?;
    let elements = data.len() / float.bytes;
    let tops = Tops::of(&counts(float, data))?;
    let whole = row >= MIN_LINE && elements.is_multiple_of(row);
    let (mut ranks, mut payload) = (vec![0; elements.next_multiple_of(CHUNK)], Vec::new());
    let mut out = Output { payload: &mut payload, end: 0 };
    let floats = Floats { level: weightzip_kernels::level(), float, data };
    Found::default().encode(floats, &mut tops.rank_of(), &mut ranks, &mut out, |_, _| None)?;
    let matrix = Matrix { ranks: ranks.get(..elements)?, row, tops: &tops };
    let (rows, columns) = matrix.scales().filter(|_| whole)?;
    let differ = columns.iter().any(|&scale| scale > 0);
    (differ && pay(matrix, &rows, &columns)).then_some(Columns(columns))
}

/// Whether scales of columns, which all blocks of a segment share, save more than they take: four times what they do in the first
/// block, for there are four blocks at least. They must not make that larger than planes, either.
fn pay(matrix: Matrix<'_>, rows: &[u8], columns: &[u8]) -> bool {
    let cost = |rows, columns| matrix.cost(Scales { rows, columns, row: matrix.row }, false);
    let none = &[][..];
    let without = cost(none, none).min(cost(rows, none));
    let with = cost(none, columns).min(cost(rows, columns));
    let bits = 8 * (section::LEN + columns.len()) as u64;
    4 * without.saturating_sub(with) > bits && with + bits < planes(matrix)
}

/// Bits that planes take for what ranks stand for.
fn planes(Matrix { ranks, tops, .. }: Matrix<'_>) -> u64 {
    let mut of_exponents = [0u32; EXPONENTS];
    for (rank, count) in (0u16..).zip(symbols::histogram(ranks)) {
        let fixed = tops.fixed.len();
        let top = match usize::from(rank) {
            0 => 0,
            at if at <= fixed => tops.fixed[at - 1],
            at => tops.low + u16::try_from(at - fixed - 1).unwrap_or(0),
        };
        of_exponents[usize::from(top >> TOP_BITS) % EXPONENTS] += count;
    }
    of_exponents.sort_unstable_by(|a, b| b.cmp(a));
    let used = of_exponents.iter().take_while(|count| **count > 0).count();
    8 * Widths::best(&of_exponents[..used]).bytes as u64 + u64::from(TOP_BITS) * ranks.len() as u64
}

/// How often each top occurs.
pub(in crate::codec) fn counts(float: Float, data: &[u8]) -> [u32; EXPONENTS] {
    let mut counts = [0; EXPONENTS];
    // So few at a time that all are counted.
    for data in data.chunks(field::COUNTED_WHOLE * float.bytes) {
        field::count_exponents(float, data, &mut counts);
    }
    counts
}

struct Encoder<'a> {
    float: Float,
    level: Level,
    row: usize,
    data: &'a [u8],
    scratch: &'a mut Scratch,
}

impl Encoder<'_> {
    fn encode(
        mut self,
        shared: Option<&[u8]>,
        records: u32,
        payload: &mut Vec<u8>,
    ) -> Option<usize> {
        let elements = self.data.len() / self.float.bytes;
        let tops = Tops::of(&counts(self.float, self.data))?;
        let rows = elements.checked_div(self.row).unwrap_or(0);
        // The header's size shows last: strips start behind the room that it may need.
        let room = Header::max_len(elements.div_ceil(CHUNK), rows, self.row);
        let mut out = Output { payload, end: room };
        let (mut states, subnormal_width) = self.residuals(&tops, &mut out)?;
        let matrix = Matrix { ranks: &self.scratch.ranks[..elements], row: self.row, tops: &tops };
        let own = matrix.scales().unwrap_or_default();
        let (scales, shared_columns) = best_scales(matrix, &own, shared);
        let (symbols, counts, escaped) = self.symbols(&tops, scales, &mut out)?;
        let tables = if scales.is_none() { 1 } else { TABLES };
        let weights = symbols::weights(&counts[..tables], &mut self.scratch.shares)?;
        // What fills the last group has scale 0, and any symbol of its table.
        let filler = weights.iter().take(weights.len() / tables).position(|&code| code > 0);
        self.words(u8::try_from(filler.unwrap_or(0)).ok()?, &mut states, &mut out);
        let Scratch { found, escapes, header: bytes, .. } = self.scratch;
        let header = Header {
            scales,
            shared_columns,
            symbols,
            escapes: &escapes[..escaped],
            fixed: &tops.fixed,
            weights: &weights,
            narrowings: Narrowings::new(&found.narrowings, self.float).ok()?,
            subnormals: u32::try_from(found.subnormals.len()).ok()?,
            subnormal_width,
            states: &states,
        };
        bytes.clear();
        header.write_to(self.level, records, bytes)?;
        let (start, end) = (room.checked_sub(bytes.len())?, out.end);
        payload[start..room].copy_from_slice(bytes);
        payload.truncate(end);
        Some(start)
    }

    /// Puts residuals and subnormals, and finds all ranks. Returns the states to start with, which
    /// carry the last residuals, and the subnormals' width.
    fn residuals(&mut self, tops: &Tops, out: &mut Output<'_>) -> Option<([u32; GROUP], u32)> {
        let Self { float, level, data, scratch, .. } = self;
        let floats = Floats { level: *level, float: *float, data };
        scratch.ranks.clear();
        scratch.ranks.resize((data.len() / float.bytes).next_multiple_of(CHUNK), 0);
        let mut rank_of = tops.rank_of();
        scratch.found.encode(floats, &mut rank_of, &mut scratch.ranks, out, |_, _| None)?;
        let carried = scratch.found.last.min(CARRIED);
        out.end -= carried;
        let states = states_with(&out.payload[out.end..][..carried]);
        Some((states, scratch.found.encode_subnormals(*level, out)))
    }

    /// Turns ranks into symbols and puts the escapes. Returns how often each symbol occurs with
    /// each table, and how many elements escape.
    fn symbols(
        &mut self,
        tops: &Tops,
        scales: Scales<'_>,
        out: &mut Output<'_>,
    ) -> Option<(Symbols, [[u32; 256]; TABLES], usize)> {
        let (level, elements) = (self.level, self.data.len() / self.float.bytes);
        let Scratch { ranks, scales: all_scales, escapes, .. } = &mut *self.scratch;
        ranks.truncate(plane_len(elements));
        all_scales.clear();
        all_scales.resize(ranks.len(), 0);
        scales.fill(0, &mut all_scales[..elements]);
        escapes.resize(escapes.len().max(elements + SLACK), 0);
        // Once with a symbol for every rank, to count them.
        let fixed = u8::try_from(tops.fixed.len()).ok()?;
        let steps = scales.largest() & scale::STEPS;
        let moves = Moves { fixed, shift: steps.wrapping_neg() };
        scale::lower(level, moves, fixed, u8::MAX, all_scales, elements, ranks, escapes);
        let mut counts = symbols::occurrences(&ranks[..elements], all_scales);
        scale::raise(level, moves, all_scales, escapes, 0, ranks);
        let tables = if scales.is_none() { 1 } else { TABLES };
        let Choice { symbols, kept, last } = Choice::of(&mut counts[..tables], moves, tops.low)?;
        let escaped =
            scale::lower(level, symbols.moves, kept, last, all_scales, elements, ranks, escapes);
        let (len, width) = (plane_len(escaped), width(&escapes[..escaped]));
        escapes[escaped..len].fill(0);
        let packed = out.take(packed_len(escaped, width));
        strip::pack(level, Planes { bytes: escapes, len }, escaped, 0, width, packed);
        Some((symbols, counts, escaped))
    }

    /// Puts the words; the last group is filled with `filler`.
    fn words(&mut self, filler: u8, states: &mut [u32; GROUP], out: &mut Output<'_>) {
        let Scratch { ranks: symbols, scales, shares, words, .. } = &mut *self.scratch;
        symbols[self.data.len() / self.float.bytes..].fill(filler);
        let end = 2 * symbols.len() + 2 * GROUP;
        words.resize(words.len().max(end), 0);
        let words = &mut words[..end];
        let at = rans::push(self.level, shares, scales, symbols, states, words, end);
        out.take(end - at).copy_from_slice(&words[at..]);
    }
}

/// The scales that make the block smallest, and whether its columns' are the segment's.
fn best_scales<'a>(
    matrix: Matrix<'_>,
    own: &'a (Vec<u8>, Vec<u8>),
    shared: Option<&'a [u8]>,
) -> (Scales<'a>, bool) {
    let ((rows, columns), row, none) = (own, matrix.row, &[][..]);
    let shared = shared.unwrap_or(none);
    let choices = [
        (none, none, false),
        (rows, none, false),
        (none, columns, false),
        (rows, columns, false),
        (none, shared, true),
        (rows, shared, true),
    ];
    let mut best = (u64::MAX, Scales::default(), false);
    for (i, (rows, columns, shared)) in choices.into_iter().enumerate() {
        let scales = Scales { rows, columns, row };
        let as_another =
            (i > 0 && width(rows) + width(columns) == 0) || (i > 1 && columns.is_empty());
        if !as_another {
            let cost = matrix.cost(scales, !shared);
            if cost < best.0 {
                best = (cost, scales, shared);
            }
        }
    }
    (best.1, best.2)
}
