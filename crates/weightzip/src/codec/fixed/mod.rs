//! Codings `fixed` and `fixed-delta` (spec: "Fixed"): floats that are multiples of a power of two, as integers,
//! counted from zero or from a base. So the fixed point of the seed paper (arXiv 2404.15198, "tunable
//! lossy") gets smaller with its precision, whatever the floats that it comes back as.
//!
//! What an integer's low bits are worth is noise; what is above them is a symbol of one byte.

mod choice;
#[cfg(test)]
mod tests;

pub(super) use choice::Choice;

use super::residuals::Output;
use super::{Coding, PREAMBLE, begin, decode_unchecked, escapes, ranges, ranked, records_of, take};
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::RecordLayout;
use std::cell::RefCell;
use weightzip_kernels::field::{CHUNK, Float};
use weightzip_kernels::grid::{self, FAR, Grid};
use weightzip_kernels::round;
use weightzip_kernels::strip::{self, ALIGN, Planes, packed_len, plane_len};

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    symbols: Vec<u8>,
    /// Byte planes of the low bits of a chunk.
    planes: Vec<u8>,
    far: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Most bytes that an element's low bits take.
const MOST_PLANES: usize = 8;

/// Appends the coded floats to a payload that has its preamble, and the hash of a base, if there is one; `base` is
/// empty if not. `None` if they wouldn't get smaller.
pub(super) fn encode(
    float: Float,
    choice: &Choice,
    level: Level,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<()> {
    SCRATCH.with_borrow_mut(|scratch| {
        let (grid, elements) = (choice.grid, data.len() / float.bytes);
        split(scratch, float, grid, base, data, payload);
        let far = scratch.far.len() / float.bytes;
        payload.extend(&scratch.far);
        payload.resize(payload.len().next_multiple_of(ALIGN), 0);
        let mut symbols = Vec::new();
        let records = u32::try_from(elements).ok()?;
        let coding = code_symbols(level, records, &scratch.symbols[..elements], &mut symbols);
        payload.extend(symbols);
        payload[4] = coding.wire_id();
        payload[5] = grid.low.to_le_bytes()[0];
        payload[6..8].copy_from_slice(&i16::try_from(grid.power).ok()?.to_le_bytes());
        payload[8..12].copy_from_slice(&u32::try_from(far).ok()?.to_le_bytes());
        (payload.len() < PREAMBLE + data.len()).then_some(())
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
    let Scratch { symbols, planes, far } = scratch;
    let (level, elements) = (weightzip_kernels::level(), data.len() / float.bytes);
    symbols.resize(plane_len(elements), 0);
    planes.resize(MOST_PLANES * CHUNK, 0);
    far.clear();
    let mut out = Output { end: payload.len(), payload };
    let size = CHUNK * float.bytes;
    for (i, (data, symbols)) in data.chunks(size).zip(symbols.chunks_mut(CHUNK)).enumerate() {
        let count = data.len() / float.bytes;
        if count < CHUNK {
            // What fills the last group has no bits.
            planes.fill(0);
        }
        let base = base.get(i * size..).map_or(&[][..], |base| &base[..data.len().min(base.len())]);
        let some_far = grid::split(level, float, grid, base, data, symbols, planes, CHUNK) > 0;
        let packed = out.take(packed_len(count, grid.low));
        strip::pack(level, Planes { bytes: planes, len: CHUNK }, count, 0, grid.low, packed);
        if some_far {
            let whole = data.chunks_exact(float.bytes).zip(symbols.iter());
            whole.filter(|(_, s)| **s == FAR).for_each(|(whole, _)| far.extend(whole));
        }
    }
    let end = out.end;
    payload.truncate(end);
}

/// A block of the symbols.
fn code_symbols(level: Level, records: u32, symbols: &[u8], payload: &mut Vec<u8>) -> Coding {
    begin(records, payload);
    if level == Level::Max {
        if ranges::bytes::encode(symbols, payload).is_some() {
            return Coding::Bytes;
        }
        begin(records, payload);
    }
    ranked::encode(symbols, payload);
    Coding::Ranks
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
    let coding = Coding::from_wire_id(coding)?;
    let grid = Grid { power: i16::from_le_bytes([p0, p1]).into(), low: low.into() };
    let elements = out.len() / float.bytes;
    let far = u32::from_le_bytes([f0, f1, f2, f3]) as usize;
    if !round::takes(float) || !grid::powers(float).contains(&grid.power) {
        return Err(bad("has floats or a grid that can't be"));
    }
    if grid.low > grid::most_low(float) || far > elements || coding.needs_base() {
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
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { symbols, planes, .. } = scratch;
        symbols.resize(plane_len(elements), 0);
        planes.resize(MOST_PLANES * CHUNK, 0);
        let block = super::Block { coding, records: records_of(body)?, check: 0, payload: body };
        decode_unchecked(&RecordLayout::opaque(), None, &block, &mut symbols[..elements])?;
        let (size, mut far) = (CHUNK * float.bytes, far.chunks_exact(float.bytes));
        for (i, (out, symbols)) in out.chunks_mut(size).zip(symbols.chunks(CHUNK)).enumerate() {
            let count = out.len() / float.bytes;
            let packed = take(&mut low, chunk_len(count))?;
            strip::unpack(level, packed, count, grid.low, planes);
            let base =
                base.get(i * size..).map_or(&[][..], |base| &base[..out.len().min(base.len())]);
            grid::merge(level, float, grid, base, symbols, planes, plane_len(count), out);
            escapes::put_far(&symbols[..count], &mut far, out)
                .ok_or_else(|| bad("has too few far elements"))?;
        }
        match far.next() {
            None => Ok(()),
            Some(_) => Err(bad("has too many far elements")),
        }
    })
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a fixed block {why}"))
}
