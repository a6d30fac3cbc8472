//! Coding `guess` (spec: "Guess"): opaque bytes that turn out to be floats, such as a raw dump, or the
//! data of a format that nothing is known of. How often exponents occur says which floats, and where
//! they start.

use super::log2::entropy;
use super::nested::Part;
use super::{Hints, PREAMBLE, take};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use weightzip_kernels::strip::ALIGN;

/// What bytes may be.
const FLOATS: [Dtype; 4] = [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64];

/// Fewer bytes tell too little.
const FEWEST: usize = 4096;

/// Bytes that are looked at, in as many places of a block.
const SAMPLE: usize = 4096;
const SAMPLES: usize = 16;

/// What floats must save per byte, where a bit counts 256.
const LEAST: u64 = 64;

/// The same, by which others must be better than F16: its exponents with three mantissa bits look like
/// those of BF16.
const NEAR: u64 = 26;

/// Which floats bytes are, and how many bytes are before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guess {
    dtype: Dtype,
    head: usize,
}

impl Guess {
    /// What a block looks like; `None` if it doesn't look like floats.
    pub(super) fn of(data: &[u8]) -> Option<Self> {
        if data.len() < FEWEST {
            return None;
        }
        // Samples start at multiples of the largest float.
        let step = (data.len() / SAMPLES).next_multiple_of(8).max(SAMPLE);
        let samples = || data.chunks(step).map(|part| &part[..part.len().min(SAMPLE)]);
        let mut best: Option<(u64, Self)> = None;
        for dtype in FLOATS {
            for head in 0..dtype.bytes() {
                let saved = saved(dtype, samples().filter_map(|sample| sample.get(head..)));
                if best.is_none_or(|(most, _)| saved > most + NEAR) && saved >= LEAST {
                    best = Some((saved, Self { dtype, head }));
                }
            }
        }
        best.map(|(_, guess)| guess)
    }

    /// The bytes before the floats, the floats, and the bytes behind them.
    fn cut(self, len: usize) -> (usize, usize) {
        let floats = (len - self.head) / self.dtype.bytes() * self.dtype.bytes();
        (self.head, self.head + floats)
    }
}

/// How much less than all their bits exponents take, per byte, where a bit counts 256.
fn saved<'a>(dtype: Dtype, samples: impl Iterator<Item = &'a [u8]>) -> u64 {
    let Some(float) = dtype.record_layout().floats() else { return 0 };
    let mut counts = vec![0u32; 1 << float.exponent_bits];
    let mut all = 0u64;
    for sample in samples {
        for number in sample.chunks_exact(float.bytes) {
            // Sign and exponent are in the last two bytes.
            let top = u16::from_le_bytes([number[float.bytes - 2], number[float.bytes - 1]]);
            let exponent = (top & 0x7FFF) >> (15 - float.exponent_bits);
            counts[usize::from(exponent)] += 1;
            all += 1;
        }
    }
    let bits = (u64::from(float.exponent_bits) * all) << 8;
    bits.saturating_sub(entropy(&counts)) / (all * float.bytes as u64).max(1)
}

/// Appends a block of opaque bytes to a payload that has its preamble.
pub(super) fn encode(guess: Guess, hints: Hints, data: &[u8], payload: &mut Vec<u8>) -> Result<()> {
    let (start, end) = guess.cut(data.len());
    let layout = guess.dtype.record_layout();
    let (hints, mut nested) = (Hints { row: 0, ..hints }, Vec::new());
    let floats = &data[start..end];
    let (coding, from) = Part::Floats.encode(&layout, None, hints, floats, &mut nested)?;
    let preamble = payload.len() - PREAMBLE;
    let head = u8::try_from(guess.head).unwrap_or(0);
    payload[preamble + 4..][..3].copy_from_slice(&[coding.wire_id(), guess.dtype.wire_id(), head]);
    let body = payload.len();
    payload.extend(&data[..start]);
    payload.extend(&data[end..]);
    payload.resize(body + (payload.len() - body).next_multiple_of(ALIGN), 0);
    payload.extend(&nested[from..]);
    Ok(())
}

pub(super) fn decode(preamble: &[u8; PREAMBLE], mut body: &[u8], out: &mut [u8]) -> Result<()> {
    let [_, _, _, _, coding, dtype, head, more @ ..] = *preamble;
    let dtype = Dtype::from_wire_id(dtype).filter(|dtype| FLOATS.contains(dtype));
    let Some(dtype) = dtype.filter(|_| more == [0; 9]) else {
        return Err(bad("has unknown bits in its preamble"));
    };
    let guess = Guess { dtype, head: head.into() };
    if guess.head >= dtype.bytes() || out.len() < guess.head + dtype.bytes() {
        return Err(bad("has no floats"));
    }
    let (start, end) = guess.cut(out.len());
    let around = start + out.len() - end;
    out[..start].copy_from_slice(take(&mut body, start)?);
    out[end..].copy_from_slice(take(&mut body, around - start)?);
    if take(&mut body, around.next_multiple_of(ALIGN) - around)?.iter().any(|&b| b != 0) {
        return Err(bad("has unknown bits before its floats"));
    }
    Part::Floats.decode(coding, &dtype.record_layout(), None, body, &mut out[start..end])
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a guess block {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    /// Random integers.
    fn random() -> impl FnMut() -> u64 {
        let mut seed = 1u64;
        move || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            seed ^ seed >> 31
        }
    }

    /// Numbers of a bell's shape, as floats of a dtype.
    fn floats(dtype: Dtype, count: usize) -> Vec<u8> {
        let mut random = random();
        let mut uniform = || (random() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        let mut number = || (uniform() + uniform() + uniform()) * 0.05;
        let bytes = |n: f64| match dtype {
            Dtype::F16 => half::f16::from_f64(n).to_le_bytes().to_vec(),
            Dtype::Bf16 => half::bf16::from_f64(n).to_le_bytes().to_vec(),
            Dtype::F32 => (n as f32).to_le_bytes().to_vec(),
            _ => n.to_le_bytes().to_vec(),
        };
        (0..count).flat_map(|_| bytes(number())).collect()
    }

    #[test]
    fn floats_are_found_wherever_they_start() {
        for dtype in FLOATS {
            for head in 0..dtype.bytes() {
                let data = [&vec![9; head][..], &floats(dtype, 40_000), &[7; 3]].concat();
                let guess = Guess::of(&data);
                assert_eq!(guess, Some(Guess { dtype, head }));
                for &level in Level::ALL {
                    let (mut payload, hints) = (vec![0; PREAMBLE], Hints { level, row: 0 });
                    encode(guess.unwrap(), hints, &data, &mut payload).unwrap();
                    assert!(payload.len() < data.len() * 24 / 25);
                    let (preamble, body) = payload.split_first_chunk().unwrap();
                    let mut out = vec![0x55; data.len()];
                    decode(preamble, body, &mut out).unwrap();
                    assert!(out == data, "{dtype:?} {head}");
                }
            }
        }
    }

    #[test]
    fn noise_and_few_bytes_are_no_floats() {
        let mut random = random();
        let noise: Vec<u8> = (0..20_000).flat_map(|_| random().to_le_bytes()).collect();
        assert_eq!(Guess::of(&noise), None);
        assert_eq!(Guess::of(&floats(Dtype::F32, FEWEST / 4 - 1)), None);
    }
}
