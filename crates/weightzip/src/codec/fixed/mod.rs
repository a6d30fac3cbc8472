//! Codings `fixed` and `fixed-delta` (spec: "Fixed"): floats that are multiples of a power of two, as integers,
//! counted from zero or from a base. So the fixed point of the seed paper (arXiv 2404.15198, "tunable
//! lossy") gets smaller with its precision, whatever the floats that it comes back as.
//!
//! What an integer's low bits are worth is noise; what is above them is a symbol of one byte.

mod choice;
#[cfg(test)]
mod tests;

pub(super) use choice::Choice;

use super::escapes::{self, Ranks};
use super::nested::Part;
use super::residuals::Output;
use super::{Coding, PREAMBLE, begin, ranges, ranked, records_of, take};
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::RecordLayout;
use crate::scratch::{self, Kept};
use weightzip_kernels::field::{CHUNK, Float};
use weightzip_kernels::grid::{self, FAR, Grid};
use weightzip_kernels::round;
use weightzip_kernels::strip::{ALIGN, packed_len, plane_len};

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    /// Symbols are ranks there.
    escapes: ranked::Scratch,
    /// Symbols that another coding gave.
    symbols: Vec<u8>,
    far: Vec<u8>,
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
}

/// Appends the coded floats to a payload that has its preamble, and the hash of a base, if there is one; `base` is
/// empty if not. `None` if they wouldn't get smaller, or are not what a sample said.
pub(super) fn encode(
    float: Float,
    choice: &Choice,
    level: Level,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<()> {
    scratch::with(&SCRATCH, |scratch| {
        let (mut grid, start) = (choice.grid, payload.len());
        split(scratch, float, grid, base, data, payload);
        if let Some(finer) = choice.finer(float, data, scratch.far.len()) {
            grid = finer;
            payload.truncate(start);
            split(scratch, float, grid, base, data, payload);
        }
        let far = scratch.far.len() / float.bytes;
        payload.extend(&scratch.far);
        payload.resize(payload.len().next_multiple_of(ALIGN), 0);
        let coding = code_symbols(scratch, level, data.len() / float.bytes, payload)?;
        payload[4] = coding.wire_id();
        payload[5] = grid.low.to_le_bytes()[0];
        payload[6..8].copy_from_slice(&i16::try_from(grid.power).ok()?.to_le_bytes());
        payload[8..12].copy_from_slice(&u32::try_from(far).ok()?.to_le_bytes());
        (payload.len() < PREAMBLE + choice.otherwise.min(data.len())).then_some(())
    })
}

/// Packs the low bits, and leaves symbols and what is far in the scratch memory.
fn split(
    scratch: &mut Scratch,
    float: Float,
    grid: Grid,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) {
    let Scratch { escapes, far, .. } = scratch;
    let (level, elements) = (weightzip_kernels::level(), data.len() / float.bytes);
    far.clear();
    let mut out = Output { end: payload.len(), payload };
    let (size, symbols) = (CHUNK * float.bytes, escapes.ranks.room_for(elements));
    for (i, (data, symbols)) in data.chunks(size).zip(symbols.chunks_mut(CHUNK)).enumerate() {
        let count = data.len() / float.bytes;
        let base = base_of(base, i * size, data.len());
        let packed = out.take(packed_len(count, grid.low));
        let symbols = &mut symbols[..plane_len(count)];
        let some_far = grid::split(level, float, grid, base, data, symbols, packed) > 0;
        if some_far {
            let whole = data.chunks_exact(float.bytes).zip(symbols.iter());
            whole.filter(|(_, s)| **s == FAR).for_each(|(whole, _)| far.extend(whole));
        }
    }
    let end = out.end;
    payload.truncate(end);
}

/// What a chunk of `len` bytes is counted from: nothing if there is no base.
fn base_of(base: &[u8], at: usize, len: usize) -> &[u8] {
    base.get(at..at + len).unwrap_or(&[])
}

/// Appends a block of the symbols, which are in the scratch memory.
fn code_symbols(
    scratch: &mut Scratch,
    level: Level,
    elements: usize,
    payload: &mut Vec<u8>,
) -> Option<Coding> {
    let records = u32::try_from(elements).ok()?;
    let mut coded = Vec::new();
    if level == Level::Max {
        let symbols = &scratch.escapes.ranks.room_for(elements)[..elements];
        begin(records, &mut coded);
        if ranges::bytes::encode(symbols, ranges::bytes::Keys::default(), &mut coded).is_some() {
            payload.extend(coded);
            return Some(Coding::Bytes);
        }
    }
    begin(records, &mut coded);
    payload.extend(coded);
    ranked::encode(&mut scratch.escapes, elements, payload);
    Some(Coding::Ranks)
}

/// `body` is what follows the base's hash, if there is a base; `base` is empty if not.
pub(super) fn decode(
    float: Float,
    base: &[u8],
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let [_, _, _, _, coding, low, p0, p1, f0, f1, f2, f3, 0, 0, 0, 0] = *preamble else {
        return Err(bad("has unknown bits in its preamble"));
    };
    let coding = Part::Plain.coding(coding)?;
    let grid = Grid { power: i16::from_le_bytes([p0, p1]).into(), low: low.into() };
    let elements = out.len() / float.bytes;
    let far = u32::from_le_bytes([f0, f1, f2, f3]) as usize;
    if !round::takes(float) || !grid::powers(float).contains(&grid.power) {
        return Err(bad("has floats or a grid that can't be"));
    }
    if grid.low > grid::most_low(float) || far > elements {
        return Err(bad("has more than its elements"));
    }
    let chunk_len = |count| packed_len(count, grid.low);
    let whole = elements / CHUNK;
    let low_len = whole * chunk_len(CHUNK) + chunk_len(elements - whole * CHUNK);
    let (mut low, far) = (take(&mut body, low_len)?, take(&mut body, far * float.bytes)?);
    let padding = take(&mut body, far.len().next_multiple_of(ALIGN) - far.len())?;
    if padding.iter().any(|&b| b != 0) || records_of(body)? as usize != elements {
        return Err(bad("has another number of symbols than of elements"));
    }
    let level = weightzip_kernels::level();
    scratch::with(&SCRATCH, |scratch| {
        let mut symbols = symbols_of(scratch, coding, body, elements)?;
        let (size, mut far) = (CHUNK * float.bytes, far.chunks_exact(float.bytes));
        for (i, out) in out.chunks_mut(size).enumerate() {
            let count = out.len() / float.bytes;
            let symbols = symbols.chunk(i * CHUNK, count)?;
            let packed = take(&mut low, chunk_len(count))?;
            let base = base_of(base, i * size, out.len());
            grid::merge(level, float, grid, base, symbols, packed, out);
            escapes::put_far(&symbols[..count], &mut far, out)
                .ok_or_else(|| bad("has too few far elements"))?;
        }
        symbols.finish()?;
        match far.next() {
            None => Ok(()),
            Some(_) => Err(bad("has too many far elements")),
        }
    })
}

/// The symbols of a block. Ranks are decoded as they are needed, for then they are in cache.
fn symbols_of<'a>(
    scratch: &'a mut Scratch,
    coding: Coding,
    payload: &'a [u8],
    elements: usize,
) -> Result<Ranks<'a>> {
    let Scratch { escapes, symbols, .. } = scratch;
    if let (Coding::Ranks, Some((preamble, body))) = (coding, payload.split_first_chunk()) {
        return ranked::open(escapes, preamble, body, elements);
    }
    symbols.resize(plane_len(elements), 0);
    let (id, layout) = (coding.wire_id(), RecordLayout::opaque());
    Part::Plain.decode(id, &layout, None, payload, &mut symbols[..elements])?;
    Ok(Ranks::all(symbols))
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a fixed block {why}"))
}
