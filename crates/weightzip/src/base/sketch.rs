//! Some hundreds of a tensor's numbers: enough to tell whether another one holds about the same.

use super::cast::convert;
use crate::dtype::Dtype;
use crate::record::Role;
use crate::source::Source;
use crate::span::TensorInfo;
use std::io;

/// Numbers in a row that are looked at, from 0 on, from `SECOND` on, and from where that goes
/// times four, again and again: more rows mean more of them, and leave the others where they are.
const PIECE: usize = 64;
const SECOND: u64 = 256;

/// Of fewer numbers nothing is said: chance is too likely.
pub(super) const FEWEST: usize = 64;

/// Numbers that have a bit in a signature.
const BITS: usize = 256;

/// How often numbers are compared with those at other places.
const TURNS: usize = 4;

/// What is known of a tensor's contents.
pub(super) struct Sketch {
    is_float: bool,
    /// BF16 if they are floats, else bits to be compared.
    numbers: Vec<u16>,
    signature: [u64; BITS / 64],
}

impl Sketch {
    /// Looks at a tensor that starts at `at`.
    pub(super) fn read<S>(source: &S, at: u64, info: &TensorInfo) -> io::Result<Self>
    where
        S: Source + ?Sized,
    {
        let (is_float, size) = kind(info.dtype);
        let count = info.dtype.bytes_of(&info.shape).unwrap_or(0) / size as u64;
        let (mut numbers, mut buffer) = (Vec::new(), [0; 8 * PIECE]);
        let mut start = 0;
        while start < count {
            let len = usize::try_from(count - start).map_or(PIECE, |left| left.min(PIECE));
            let bytes = &mut buffer[..len * size];
            source.read_at(at + start * size as u64, bytes)?;
            put_numbers(info.dtype, bytes, &mut numbers);
            start = start.saturating_mul(4).max(SECOND);
        }
        let signature = signature(is_float, &numbers);
        Ok(Self { is_float, numbers, signature })
    }

    /// How many numbers were looked at.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// How far numbers are from the other tensor's at the same places, in terms of how far they are from those at
    /// other places: 0 if they are equal, about 1 if the tensors have nothing to do with one another, whatever their scale and mean.
    /// `None` if that can't be told.
    pub(super) fn distance(&self, other: &Self) -> Option<f64> {
        let count = self.numbers.len().min(other.numbers.len());
        if count < FEWEST || self.is_float != other.is_float {
            return None;
        }
        let (ours, theirs) = (&self.numbers[..count], &other.numbers[..count]);
        // Odd, for rows and pieces are often of an even number.
        let turned = |turn: usize| {
            let (first, last) = theirs.split_at((count * (turn + 1) / (TURNS + 1)) | 1);
            last.iter().chain(first)
        };
        let sum = |theirs: &mut dyn Iterator<Item = &u16>| -> f64 {
            ours.iter().zip(theirs).map(|(a, b)| self.between(*a, *b)).sum()
        };
        let elsewhere: f64 = (0..TURNS).map(|turn| sum(&mut turned(turn))).sum();
        (elsewhere > 0.0).then(|| sum(&mut theirs.iter()) * TURNS as f64 / elsewhere)
    }

    fn between(&self, a: u16, b: u16) -> f64 {
        match self.is_float {
            true => (f64::from(float(a)) - f64::from(float(b))).abs(),
            false => f64::from(u8::from(a != b)),
        }
    }

    /// In how many bits signatures differ: much quicker than [`distance`](Self::distance), and
    /// smaller where that is.
    pub(super) fn differing_bits(&self, other: &Self) -> u32 {
        let count = self.numbers.len().min(other.numbers.len());
        let pairs = self.signature.iter().zip(&other.signature).enumerate();
        let bits = pairs.map(|(word, (a, b))| {
            let left = count.saturating_sub(64 * word);
            let known = if left < 64 { (1 << left) - 1 } else { u64::MAX };
            ((a ^ b) & known).count_ones()
        });
        bits.sum()
    }
}

/// Whether numbers are compared as floats, and their bytes.
fn kind(dtype: Dtype) -> (bool, usize) {
    let is_float = |role| matches!(role, Role::Float { .. });
    match dtype.record_layout().fields() {
        [field] if is_float(field.role) => (true, usize::from(field.width / 8)),
        _ => (false, dtype.bytes().max(1)),
    }
}

/// Appends numbers as they are compared.
fn put_numbers(dtype: Dtype, bytes: &[u8], numbers: &mut Vec<u16>) {
    let (is_float, size) = kind(dtype);
    let upper = |[_, _, a, b]: [u8; 4]| u16::from_le_bytes([a, b]);
    let number = |number: &[u8]| match (is_float, number) {
        // Their order is enough.
        (true, [byte]) => {
            let value = f32::from(byte & 0x7F);
            upper(if *byte < 0x80 { value } else { -value }.to_le_bytes())
        }
        (true, [.., a, b, c, d, e, f, g, h]) => {
            let value = f64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            #[allow(clippy::cast_possible_truncation, reason = "what is too large is infinite")]
            upper((value as f32).to_le_bytes())
        }
        (true, _) => {
            let mut bf16 = [0; 2];
            match dtype {
                Dtype::Bf16 => bf16.copy_from_slice(number),
                Dtype::F16 => convert(dtype, number, Dtype::Bf16, &mut bf16),
                _ => convert(Dtype::F32, number, Dtype::Bf16, &mut bf16),
            }
            u16::from_le_bytes(bf16)
        }
        (false, _) => {
            let hash = number.iter().fold(0u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x9E37_79B1).rotate_left(15)
            });
            upper(hash.to_le_bytes())
        }
    };
    let known = |bits: &u16| !is_float || float(*bits).is_finite();
    let each = bytes.chunks_exact(size).map(number);
    numbers.extend(each.map(|bits| if known(&bits) { bits } else { 0 }));
}

fn float(bf16: u16) -> f32 {
    f32::from_bits(u32::from(bf16) << 16)
}

/// A bit for each number: whether it is above the median, or any bit of what is no float.
fn signature(is_float: bool, numbers: &[u16]) -> [u64; BITS / 64] {
    let numbers = &numbers[..numbers.len().min(BITS)];
    let mut sorted: Vec<f32> = numbers.iter().map(|bits| float(*bits)).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let mut signature = [0; BITS / 64];
    for (i, bits) in numbers.iter().enumerate() {
        let bit = if is_float { float(*bits) > median } else { bits & 1 == 1 };
        signature[i / 64] |= u64::from(bit) << (i % 64);
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            let mut sum = 0.0;
            for _ in 0..6 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                sum += (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5;
            }
            sum
        }
    }

    fn sketch(dtype: Dtype, values: &[f64]) -> Sketch {
        let bytes: Vec<u8> = match dtype {
            Dtype::F64 | Dtype::C128 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F32 | Dtype::C64 => {
                values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()
            }
            Dtype::Bf16 => {
                values.iter().flat_map(|v| half::bf16::from_f64(*v).to_le_bytes()).collect()
            }
            Dtype::F16 => {
                values.iter().flat_map(|v| half::f16::from_f64(*v).to_le_bytes()).collect()
            }
            _ => values.iter().map(|v| (v * 30.0) as i8 as u8).collect(),
        };
        let shape = vec![bytes.len() as u64 / dtype.block().1];
        let info = TensorInfo { name: String::new(), dtype, shape };
        Sketch::read(&bytes, 0, &info).unwrap()
    }

    #[test]
    fn what_is_alike_is_far_from_what_is_not() {
        use Dtype::{Bf16, C64, C128, F8E4M3, F16, F32, F64, I8};
        let mut unrelated = Vec::new();
        for (seed, count) in (0..4000).zip([64, 128, 500, 3000, 100_000].into_iter().cycle()) {
            let mut next = noise(seed);
            // As different in scale and mean as a bias and a norm's weights.
            let mean = [0.0, 1.0, -3.0][seed as usize % 3];
            let old: Vec<f64> = (0..count).map(|_| mean + next()).collect();
            let new: Vec<f64> = old.iter().map(|v| v + 0.1 * next()).collect();
            let other: Vec<f64> = (0..count).map(|_| mean + next()).collect();
            let dtype = [F32, Bf16, F16, F64, C64, C128][seed as usize % 6];
            let [old, new, other] = [old, new, other].map(|values| sketch(dtype, &values));
            let alike = old.distance(&new).unwrap();
            assert!(alike < 0.2, "{count} of {dtype:?}: {alike}");
            assert!(old.differing_bits(&new) < old.differing_bits(&other));
            unrelated.push(old.distance(&other).unwrap());
        }
        unrelated.sort_by(f64::total_cmp);
        assert!(unrelated[0] > 0.6, "{unrelated:?}");
        // Integers and short floats.
        let mut next = noise(9);
        let old: Vec<f64> = (0..5000).map(|_| next()).collect();
        let new: Vec<f64> =
            old.iter().enumerate().map(|(i, v)| v + f64::from(i % 5 == 0)).collect();
        let other: Vec<f64> = (0..5000).map(|_| next()).collect();
        for dtype in [I8, F8E4M3] {
            let [old, new, other] = [&old, &new, &other].map(|values| sketch(dtype, values));
            assert!(old.distance(&new).unwrap() < 0.35);
            assert!(old.distance(&other).unwrap() > 0.8);
        }
    }

    #[test]
    fn a_tensor_of_more_rows_is_alike_and_nothing_is_said_of_what_is_constant_or_short() {
        let mut next = noise(1);
        let old: Vec<f64> = (0..5000).map(|_| next()).collect();
        let grown: Vec<f64> = old.iter().copied().chain((0..3000).map(|_| next())).collect();
        assert_eq!(sketch(Dtype::F32, &old).distance(&sketch(Dtype::Bf16, &grown)).unwrap(), 0.0);
        let ones = sketch(Dtype::F32, &[1.0; 500]);
        assert!(ones.distance(&ones).is_none());
        let short = sketch(Dtype::F32, &old[..63]);
        assert!(short.distance(&short).is_none());
        // Neither is finite: one is 0 then.
        let wild = sketch(Dtype::F32, &[f64::NAN, f64::INFINITY].repeat(100));
        assert!(wild.distance(&wild).is_none());
    }
}
