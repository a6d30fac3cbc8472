//! Floats as differences from a base (spec: "Differences"). A difference is a rank, which says its
//! sign and its three highest bits, and raw bits: the others. Elements are worked on as byte planes,
//! 64 at a time.

mod merge;
mod split;
pub mod steps;

pub use merge::merge;
pub use split::{pack, split};

use crate::field::Float;
use crate::simd::{GROUP, Simd, deinterleave, kernel};
use crate::strip::{array, array_mut};

/// Bytes behind raw bits that [`merge()`] may read, and [`pack`] may write: those of a group of the
/// largest differences, and a word.
pub const SLACK: usize = GROUP * 4 + 16;

/// What ranks say of differences.
struct Ranks<const N: usize> {
    /// How many raw bits follow.
    raw: [u8; 256],
    /// The magnitude without them, byte by byte.
    known: [[u8; 256]; N],
    /// Ranks that say something.
    used: usize,
}

impl<const N: usize> Ranks<N> {
    const ALL: Self = {
        let mut ranks = Self { raw: [0; 256], known: [[0; 256]; N], used: 0 };
        let mut rank = 0;
        while rank < 256 {
            let class = rank as u64 / 2;
            let raw = if class < 8 { 0 } else { class / 4 - 1 };
            let magnitude = if class < 8 { class } else { (4 + class % 4) << raw };
            if magnitude >> (8 * N) == 0 {
                #[allow(clippy::cast_possible_truncation, reason = "less than 32")]
                {
                    ranks.raw[rank] = raw as u8;
                }
                let bytes = magnitude.to_le_bytes();
                let mut k = 0;
                while k < N {
                    ranks.known[k][rank] = bytes[k];
                    k += 1;
                }
                ranks.used = rank + 1;
            }
            rank += 1;
        }
        ranks
    };
}

/// The elements' byte planes, lowest first.
#[inline(always)]
fn planes<S: Simd, const N: usize>(simd: S, float: Float, elements: &[u8]) -> [S::Bytes; N] {
    let mut loaded = [simd.splat(0); N];
    for (k, loaded) in loaded.iter_mut().enumerate() {
        *loaded = simd.load(array(elements, k * GROUP));
    }
    let mut planes = deinterleave::<S, N>(simd, loaded);
    if float.big_endian {
        planes.reverse();
    }
    planes
}

/// The last group of elements, which is not full, with zeros behind.
#[inline(always)]
fn filled<const N: usize>(rest: &[u8]) -> [[u8; GROUP]; N] {
    let mut group = [[0; GROUP]; N];
    group.as_flattened_mut()[..rest.len()].copy_from_slice(rest);
    group
}

kernel! {
    /// Looks up each element's exponent, which has at most eight bits, in `table`. What fills
    /// the last group of `out` is that of zeros.
    ///
    /// # Panics
    /// If `out` is not as many whole groups as the elements take.
    pub fn by_exponent(float: Float, elements: &[u8], table: &[u8; 256], out: &mut [u8]) = by_exponent_at
}

#[inline(always)]
fn by_exponent_at<S: Simd>(
    simd: S,
    float: Float,
    elements: &[u8],
    table: &[u8; 256],
    out: &mut [u8],
) {
    match float.bytes {
        1 => by_exponent_groups::<S, 1>(simd, float, elements, table, out),
        2 => by_exponent_groups::<S, 2>(simd, float, elements, table, out),
        _ => by_exponent_groups::<S, 4>(simd, float, elements, table, out),
    }
}

#[inline(always)]
fn by_exponent_groups<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    elements: &[u8],
    table: &[u8; 256],
    out: &mut [u8],
) {
    let table = simd.table(table, 256);
    let whole = elements.len() / (N * GROUP);
    assert_eq!(out.len(), elements.len().div_ceil(N * GROUP) * GROUP);
    for i in 0..whole {
        let exponents = exponents::<S, N>(simd, float, &elements[i * N * GROUP..]);
        simd.store(simd.lookup(table, exponents), array_mut(out, i * GROUP));
    }
    let rest = &elements[whole * N * GROUP..];
    if !rest.is_empty() {
        let exponents = exponents::<S, N>(simd, float, filled::<N>(rest).as_flattened());
        simd.store(simd.lookup(table, exponents), array_mut(out, whole * GROUP));
    }
}

/// The exponents of a group.
#[inline(always)]
fn exponents<S: Simd, const N: usize>(simd: S, float: Float, elements: &[u8]) -> S::Bytes {
    let (low, shift) = ((float.mantissa_bits() / 8) as usize, float.mantissa_bits() % 8);
    let planes = planes::<S, N>(simd, float, elements);
    let mut exponents = simd.shr(planes[low], shift);
    if low + 1 < N {
        let high = simd.shl(planes[low + 1], 8 - shift);
        exponents = simd.select(simd.splat(ones(8 - shift)), exponents, high);
    }
    simd.and(exponents, simd.splat(ones(float.exponent_bits)))
}

/// A byte with the low `bits` bits set.
#[inline(always)]
fn ones(bits: u32) -> u8 {
    ((1u16 << bits) - 1).to_le_bytes()[0]
}

/// Where there are more raw bits than `bit`.
#[inline(always)]
fn longer<S: Simd>(simd: S, raw: S::Bytes, bit: usize) -> u64 {
    let bit = simd.splat(bit.to_le_bytes()[0]);
    !simd.bits(simd.eq(simd.min(raw, bit), raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};
    use arbtest::arbitrary::{Result, Unstructured};

    pub(super) fn any_float(u: &mut Unstructured) -> Result<Float> {
        let bytes = *u.choose(&[1, 2, 4])?;
        let exponent_bits = u.int_in_range(1..=8.min(8 * bytes as u32 - 1))?;
        Ok(Float { bytes, exponent_bits, top_bits: 0, big_endian: u.arbitrary()? })
    }

    /// A base, and elements that are near to it, or not.
    pub(super) fn any_pair(u: &mut Unstructured, float: Float) -> Result<(Vec<u8>, Vec<u8>)> {
        let count = u.int_in_range(0..=300)?;
        let mut base = vec![0; count * float.bytes];
        u.fill_buffer(&mut base)?;
        let (mut elements, keep) = (base.clone(), u.int_in_range(0..=float.bytes)?);
        let mut seed = u.arbitrary::<u32>()?;
        for element in elements.chunks_exact_mut(float.bytes) {
            for k in 0..keep {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let k = if float.big_endian { float.bytes - 1 - k } else { k };
                element[k] ^= seed.to_le_bytes()[3];
            }
        }
        Ok((base, elements))
    }

    fn merge_undoes_split(level: Level) {
        arbtest::arbtest(|u| {
            let float = any_float(u)?;
            let (base, elements) = any_pair(u, float)?;
            let count = elements.len() / float.bytes;
            let split_at = |level| {
                let mut ranks = vec![0; count];
                let mut magnitudes = vec![0; elements.len()];
                split(level, float, &base, &elements, &mut ranks, &mut magnitudes);
                let mut bits = vec![0xAA; elements.len() + SLACK];
                let end = pack(level, float.bytes, &ranks, &magnitudes, &mut bits);
                bits.truncate(end.div_ceil(8));
                (ranks, bits, end)
            };
            let (mut ranks, mut bits, end) = split_at(level);
            assert!((ranks.clone(), bits.clone(), end) == split_at(Level::Scalar));
            assert!(!ranks.contains(&0));
            bits.resize(bits.len() + SLACK, 0xFF);
            // What fills the last group has no raw bits, whatever its ranks are.
            ranks.resize(count.next_multiple_of(GROUP), 77);
            let mut out = vec![0xAA; elements.len()];
            assert_eq!(merge(level, float, &base, &ranks, &bits, 0, &mut out), end);
            assert!(out == elements);
            Ok(())
        });
    }

    fn any_ranks_give_the_same_elements(level: Level) {
        arbtest::arbtest(|u| {
            let float = any_float(u)?;
            let (base, _) = any_pair(u, float)?;
            let count = base.len() / float.bytes;
            let mut ranks = vec![0; count.next_multiple_of(GROUP)];
            u.fill_buffer(&mut ranks)?;
            let (has, at) = (u.int_in_range(0..=count)?, u.int_in_range(0..=9)?);
            let mut bits = vec![0; has + SLACK];
            u.fill_buffer(&mut bits)?;
            let merge_at = |level| {
                let mut out = vec![0; base.len()];
                let end = merge(level, float, &base, &ranks, &bits, at, &mut out);
                (end, (end <= 8 * has).then_some(out))
            };
            assert!(merge_at(level) == merge_at(Level::Scalar));
            Ok(())
        });
    }

    fn exponents_are_looked_up(level: Level) {
        arbtest::arbtest(|u| {
            let float = any_float(u)?;
            let (elements, _) = any_pair(u, float)?;
            let count = elements.len() / float.bytes;
            let mut table = [0; 256];
            u.fill_buffer(&mut table)?;
            let mut out = vec![0xAA; count.next_multiple_of(GROUP)];
            by_exponent(level, float, &elements, &table, &mut out);
            for (i, &found) in out.iter().enumerate() {
                let exponent = if i < count { float.exponent(&elements, i) } else { 0 };
                assert_eq!(found, table[usize::from(exponent)]);
            }
            Ok(())
        });
    }

    fn ranks_say_what_differences_are(level: Level) {
        let float = Float { bytes: 2, exponent_bits: 8, top_bits: 0, big_endian: false };
        // One up, one down, the same; across zero, from the least of one sign to that of the other.
        let cases =
            [(5u16, 6u16, 2), (5, 4, 3), (9, 9, 1), (0, 0x8000, 3), (0x8000, 0, 3), (0, 8, 16)];
        for (base, element, rank) in cases {
            let (mut ranks, mut magnitudes) = ([0], [0; 2]);
            let (base, element) = (base.to_le_bytes(), element.to_le_bytes());
            split(level, float, &base, &element, &mut ranks, &mut magnitudes);
            assert_eq!(ranks, [rank]);
        }
    }

    at_each_level!(
        merge_undoes_split,
        any_ranks_give_the_same_elements,
        exponents_are_looked_up,
        ranks_say_what_differences_are,
    );
}
