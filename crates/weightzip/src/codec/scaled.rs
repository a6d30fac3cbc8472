//! Coding `scaled` (spec: "Scaled"): small numbers whose scales are another tensor's, such as those of MX and NVFP4 weights. That tensor is
//! the base, each of its bytes as often as it has numbers. How large a scale is for its row chooses the table of its
//! numbers' symbols.

use super::ranges::bytes::{self, Keys};
use super::{PREAMBLE, base, begin, records_of, sizes};
use crate::error::{Error, Result};
use crate::scratch::{self, Kept};
use weightzip_kernels::level::level;
use weightzip_kernels::numbers;

/// Bytes that one scale may be for: the most first.
pub(crate) const RUNS: [usize; 4] = [64, 32, 16, 8];

/// Bytes of the rows of a block that tell how it is seen.
const SAMPLE: usize = 64 << 10;

/// Bits of an exponent that is all of a scale.
const ALONE: u8 = 8;

/// How a block is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// Bits of a number: 4 or 8.
    width: u8,
    /// Those of a scale's exponent.
    exponent_bits: u8,
    /// Bytes for each of which there is a scale.
    run: u8,
    /// Bytes of a row; 0 if all are one.
    row: u32,
}

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    tops: Vec<i32>,
    keys: Vec<u8>,
    symbols: Vec<u8>,
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
}

impl Form {
    /// What takes least of a block whose rows have so many bytes.
    fn of(row: usize, base: &[u8], data: &[u8], scratch: &mut Scratch) -> Option<Self> {
        let is_run = |run: &usize| {
            let same = |run: &[u8]| run.iter().all(|byte| *byte == run[0]);
            base.len().is_multiple_of(*run)
                && row.is_multiple_of(*run)
                && base.chunks(*run).all(same)
        };
        let run = RUNS.into_iter().find(is_run)?.to_le_bytes()[0];
        let row = u32::try_from(row).ok()?;
        let forms = [4, 8]
            .map(|width| [ALONE, 4].map(|exponent_bits| Self { width, exponent_bits, run, row }));
        forms.into_iter().flatten().min_by_key(|form| form.cost(base, data, scratch))
    }

    /// Bytes that symbols take, nearly.
    fn cost(self, base: &[u8], data: &[u8], scratch: &mut Scratch) -> usize {
        self.unpack(base, data, scratch);
        bytes::cost(&scratch.symbols, self.by(&scratch.keys))
    }

    /// Finds the symbols and their keys.
    fn unpack(self, base: &[u8], data: &[u8], scratch: &mut Scratch) {
        self.find_keys(base, scratch);
        scratch.symbols.clear();
        scratch.symbols.resize(self.symbols(data.len()), 0);
        numbers::spread(level(), 1, self.width.into(), 0, data, &mut scratch.symbols);
    }

    fn find_keys(self, base: &[u8], Scratch { tops, keys, .. }: &mut Scratch) {
        let top = |run: &[u8]| match self.exponent_bits {
            ALONE => sizes::top_of_exponent(run[0].into()),
            bits => sizes::top(8, bits, run[0].into()),
        };
        tops.clear();
        tops.extend(base.chunks(self.run.into()).map(top));
        keys.clear();
        sizes::add_keys(tops, self.row as usize / usize::from(self.run), keys);
    }

    /// Symbols of so many bytes.
    fn symbols(self, bytes: usize) -> usize {
        bytes * 8 / usize::from(self.width)
    }

    fn by(self, keys: &[u8]) -> Keys<'_> {
        Keys { keys, run: self.symbols(self.run.into()), ..Keys::default() }
    }

    fn to_wire(self, own: &mut [u8]) {
        own[..3].copy_from_slice(&[self.width, self.exponent_bits, self.run]);
        own[4..8].copy_from_slice(&self.row.to_le_bytes());
    }

    fn from_wire(preamble: &[u8; PREAMBLE]) -> Result<Self> {
        let [_, _, _, _, width, exponent_bits, run, 0, r0, r1, r2, r3, 0, 0, 0, 0] = *preamble
        else {
            return Err(bad("has unknown bits in its preamble"));
        };
        let form = Self { width, exponent_bits, run, row: u32::from_le_bytes([r0, r1, r2, r3]) };
        let fits = run > 0 && form.row.is_multiple_of(run.into());
        match matches!(width, 4 | 8) && (1..=ALONE).contains(&exponent_bits) && fits {
            true => Ok(form),
            false => Err(bad("has impossible numbers, scales or rows")),
        }
    }
}

/// Bytes that some rows of a block take, nearly, and what the block does besides, however many it has.
pub(crate) fn cost(row: usize, base: &[u8], data: &[u8]) -> Option<[usize; 2]> {
    scratch::with(&SCRATCH, |scratch| {
        let form = Form::of(row, base, data, scratch)?;
        form.unpack(base, data, scratch);
        bytes::costs(&scratch.symbols, form.by(&scratch.keys))
    })
}

/// Appends the coded bytes to a payload that has its preamble; `None` if they wouldn't get smaller.
pub(super) fn encode(row: usize, base: &[u8], data: &[u8], payload: &mut Vec<u8>) -> Option<()> {
    // Some rows tell how to see all.
    let sample = match row {
        0 => data.len(),
        _ => SAMPLE.next_multiple_of(row).min(data.len()),
    };
    scratch::with(&SCRATCH, |scratch| {
        let form = Form::of(row, &base[..sample], &data[..sample], scratch)?;
        form.unpack(base, data, scratch);
        form.to_wire(&mut payload[4..PREAMBLE]);
        base::put_hash(base, payload);
        let mut coded = Vec::new();
        begin(u32::try_from(scratch.symbols.len()).ok()?, &mut coded);
        bytes::encode(&scratch.symbols, form.by(&scratch.keys), &mut coded)?;
        payload.extend(coded);
        (payload.len() < data.len()).then_some(())
    })
}

pub(super) fn decode(
    base: &[u8],
    preamble: &[u8; PREAMBLE],
    body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let form = Form::from_wire(preamble)?;
    scratch::with(&SCRATCH, |scratch| {
        form.find_keys(base, scratch);
        let Scratch { keys, symbols, .. } = scratch;
        symbols.clear();
        symbols.resize(form.symbols(out.len()), 0);
        if records_of(body)? as usize != symbols.len() {
            return Err(bad("has another number of symbols"));
        }
        let (preamble, body) = body.split_first_chunk().ok_or_else(|| bad("has no symbols"))?;
        bytes::decode(preamble, form.by(keys), body, symbols)?;
        if symbols.iter().fold(0, |all, s| all | s).checked_shr(form.width.into()).unwrap_or(0) != 0
        {
            return Err(bad("has a symbol that its numbers have no room for"));
        }
        numbers::collect(level(), 1, form.width.into(), 0, symbols, out);
        Ok(())
    })
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a scaled block {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of `row` bytes, a scale for each `run` of them, and two numbers in each, the smaller the larger that is.
    fn numbers(rows: usize, row: usize, run: usize, exponents: bool) -> (Vec<u8>, Vec<u8>) {
        let mut state = 1u64;
        let mut below = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        let (mut base, mut data) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let of_row = below(20);
            for _ in 0..row / run {
                let larger = below(3);
                let scale = 40 + if exponents { of_row + larger } else { 8 * larger };
                base.extend(std::iter::repeat_n(scale.to_le_bytes()[0], run));
                let mut number = || below(6 - 2 * larger) + below(3);
                data.extend((0..run).map(|_| (number() | number() << 4).to_le_bytes()[0]));
            }
        }
        (base, data)
    }

    #[test]
    fn scales_say_what_numbers_to_expect() {
        for (run, exponents) in [(16, true), (8, false), (32, true)] {
            let (base, data) = numbers(300, 192, run, exponents);
            let mut payload = vec![0; PREAMBLE];
            encode(192, &base, &data, &mut payload).unwrap();
            assert_eq!((payload[4], payload[6]), (4, run as u8));
            // Without the scales nearly as much as with one table for all.
            let mut alone = vec![0; PREAMBLE];
            encode(192, &vec![50; data.len()], &data, &mut alone).unwrap();
            assert!(payload.len() < alone.len() * 15 / 16, "{} {}", payload.len(), alone.len());
            let near = cost(192, &base, &data).unwrap().iter().sum::<usize>();
            assert!(near.abs_diff(payload.len()) < 200, "{near} {}", payload.len());

            let (mut out, (preamble, body)) =
                (vec![1; data.len()], payload.split_first_chunk().unwrap());
            decode(&base, preamble, &body[16..], &mut out).unwrap();
            assert!(out == data);
        }
        let (base, data) = numbers(3, 192, 4, true);
        assert_eq!(encode(192, &base, &data, &mut vec![0; PREAMBLE]), None);
    }
}
