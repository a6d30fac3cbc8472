//! Floats as differences from a base (spec: "Differences"). A difference is a rank, which says its
//! sign and its three highest bits, and raw bits: the others. Elements are worked on as byte planes,
//! 64 at a time.

use crate::field::Float;
use crate::simd::{GROUP, Simd, deinterleave, interleave, kernel};
use crate::strip::{array, array_mut};

/// Bytes behind raw bits that [`merge`] may read, and [`pack`] may write: those of a group of the
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

/// The rank of a difference.
#[inline(always)]
fn rank_of(magnitude: u32, negative: bool) -> u8 {
    let raw = (magnitude | 4).ilog2() - 2;
    let class = (raw << 2) + (magnitude >> raw);
    (2 * class + u32::from(negative)).max(1).to_le_bytes()[0]
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

kernel! {
    /// Takes elements apart: ranks, and the magnitudes of differences as little-endian integers as
    /// large as elements.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn split(float: Float, base: &[u8], elements: &[u8], ranks: &mut [u8], magnitudes: &mut [u8]) = split_at
}

#[inline(always)]
fn split_at<S: Simd>(
    _: S,
    float: Float,
    base: &[u8],
    elements: &[u8],
    ranks: &mut [u8],
    magnitudes: &mut [u8],
) {
    match float.bytes {
        1 => split_words::<1>(float, base, elements, ranks, magnitudes),
        2 => split_words::<2>(float, base, elements, ranks, magnitudes),
        _ => split_words::<4>(float, base, elements, ranks, magnitudes),
    }
}

#[inline(always)]
fn split_words<const N: usize>(
    float: Float,
    base: &[u8],
    elements: &[u8],
    ranks: &mut [u8],
    magnitudes: &mut [u8],
) {
    let unused = u32::BITS - float.mantissa_bits() - float.exponent_bits - 1;
    let word = |bytes: &[u8; N]| {
        let mut word = [0; 4];
        word[..N].copy_from_slice(bytes);
        if float.big_endian {
            word[..N].reverse();
        }
        u32::from_le_bytes(word)
    };
    let sign = 1u32 << 31 >> unused;
    let (base, elements) = (base.as_chunks::<N>().0, elements.as_chunks::<N>().0);
    let magnitudes = magnitudes.as_chunks_mut::<N>().0;
    assert!(base.len() == elements.len() && elements.len() == ranks.len());
    assert_eq!(magnitudes.len(), ranks.len());
    for (((x, y), rank), to) in base.iter().zip(elements).zip(ranks).zip(magnitudes) {
        let (x, y) = (word(x), word(y));
        let crossed = (x ^ y) & sign != 0;
        let target = if crossed { y | sign } else { y & !sign };
        let target = if crossed { target ^ (sign - 1) } else { target };
        // With the sign in the highest bit, whatever the elements' size.
        let difference = (target.wrapping_sub(x & !sign) << unused).cast_signed() >> unused;
        let mut magnitude = difference.unsigned_abs();
        magnitude &= u32::MAX >> unused;
        *rank = rank_of(magnitude, difference < 0);
        to.copy_from_slice(&magnitude.to_le_bytes()[..N]);
    }
}

kernel! {
    /// Writes the raw bits of differences to `out` and returns how many these are; `out` has room
    /// for as many as the ranks say, and [`SLACK`], in which zeros may be written. In each group bit
    /// 0 of all that have one, in order, then bit 1, and so on.
    ///
    /// # Panics
    /// If there are not as many magnitudes as ranks, or `out` is too short.
    pub fn pack(bytes: usize, ranks: &[u8], magnitudes: &[u8], out: &mut [u8]) -> usize = pack_at
}

#[inline(always)]
fn pack_at<S: Simd>(
    simd: S,
    bytes: usize,
    ranks: &[u8],
    magnitudes: &[u8],
    out: &mut [u8],
) -> usize {
    match bytes {
        1 => pack_groups::<S, 1>(simd, ranks, magnitudes, out),
        2 => pack_groups::<S, 2>(simd, ranks, magnitudes, out),
        _ => pack_groups::<S, 4>(simd, ranks, magnitudes, out),
    }
}

#[inline(always)]
fn pack_groups<S: Simd, const N: usize>(
    simd: S,
    ranks: &[u8],
    magnitudes: &[u8],
    out: &mut [u8],
) -> usize {
    let mut bits = Writer { out, at: 0 };
    let (whole, rest) = ranks.as_chunks::<GROUP>();
    for (i, ranks) in whole.iter().enumerate() {
        pack_group::<S, N>(simd, ranks, &magnitudes[i * N * GROUP..], &mut bits);
    }
    if !rest.is_empty() {
        let ([ranks], magnitudes) =
            (filled(rest), filled::<N>(&magnitudes[whole.len() * N * GROUP..]));
        pack_group::<S, N>(simd, &ranks, magnitudes.as_flattened(), &mut bits);
    }
    bits.at
}

#[inline(always)]
fn pack_group<S: Simd, const N: usize>(
    simd: S,
    ranks: &[u8; GROUP],
    magnitudes: &[u8],
    to: &mut Writer<'_>,
) {
    let Ranks { raw, used, .. } = const { &Ranks::<N>::ALL };
    let little = Float { bytes: N, exponent_bits: 1, top_bits: 0, big_endian: false };
    let planes = planes::<S, N>(simd, little, magnitudes);
    let raw = simd.lookup(simd.table(raw, *used), simd.load(ranks));
    for (k, plane) in planes.into_iter().enumerate() {
        for bit in 0..8 {
            let mask = longer(simd, raw, 8 * k + bit);
            if mask == 0 {
                return;
            }
            let one = simd.splat(1 << bit);
            let bits = simd.bits(simd.eq(simd.and(plane, one), one));
            to.put(simd.extract(bits, mask), mask.count_ones() as usize);
        }
    }
}

/// Where there are more raw bits than `bit`.
#[inline(always)]
fn longer<S: Simd>(simd: S, raw: S::Bytes, bit: usize) -> u64 {
    let bit = simd.splat(bit.to_le_bytes()[0]);
    !simd.bits(simd.eq(simd.min(raw, bit), raw))
}

/// Bits behind bits; behind them there are zeros.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline(always)]
    fn put(&mut self, bits: u64, count: usize) {
        let to: &mut [u8; 16] = array_mut(self.out, self.at / 8);
        let before = to[0] & !(u8::MAX << (self.at % 8));
        let word = u128::from(before) | u128::from(bits) << (self.at % 8);
        *to = word.to_le_bytes();
        self.at += count;
    }
}

#[inline(always)]
fn get(from: &[u8], at: usize) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "the first 64 of them are wanted")]
    let bits = (u128::from_le_bytes(*array(from, at / 8)) >> (at % 8)) as u64;
    bits
}

kernel! {
    /// Puts elements together again, as many as `out` has, from those of `base`, ranks (whole
    /// groups), and raw bits from bit `at` of `bits` on, behind which there is [`SLACK`]. Returns
    /// where the raw bits that were used end; if these are more than there are but for the slack,
    /// the elements mean nothing.
    ///
    /// # Panics
    /// If `base` has another length than `out`, or there are too few ranks.
    pub fn merge(
        float: Float,
        base: &[u8],
        ranks: &[u8],
        bits: &[u8],
        at: usize,
        out: &mut [u8],
    ) -> usize = merge_at
}

#[inline(always)]
fn merge_at<S: Simd>(
    simd: S,
    float: Float,
    base: &[u8],
    ranks: &[u8],
    bits: &[u8],
    at: usize,
    out: &mut [u8],
) -> usize {
    match float.bytes {
        1 => merge_groups::<S, 1>(simd, float, base, ranks, bits, at, out),
        2 => merge_groups::<S, 2>(simd, float, base, ranks, bits, at, out),
        _ => merge_groups::<S, 4>(simd, float, base, ranks, bits, at, out),
    }
}

#[inline(always)]
fn merge_groups<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    base: &[u8],
    ranks: &[u8],
    bits: &[u8],
    mut at: usize,
    out: &mut [u8],
) -> usize {
    assert_eq!(base.len(), out.len());
    let tables = Tables::<S, N>::new(simd);
    let (ranks, whole) = (ranks.as_chunks::<GROUP>().0, out.len() / (N * GROUP));
    let end = 8 * (bits.len() - SLACK);
    for (i, ranks) in ranks[..whole].iter().enumerate() {
        if at > end {
            return at;
        }
        let group = i * N * GROUP;
        let elements = tables.merge(simd, float, &base[group..], ranks, bits, &mut at);
        for (k, element) in elements.into_iter().enumerate() {
            simd.store(element, array_mut(out, group + k * GROUP));
        }
    }
    let rest = &mut out[whole * N * GROUP..];
    if !rest.is_empty() && at <= end {
        let base = filled::<N>(&base[whole * N * GROUP..]);
        let mut last = ranks[whole];
        last[rest.len() / N..].fill(0);
        let elements = tables.merge(simd, float, base.as_flattened(), &last, bits, &mut at);
        let mut group = [[0; GROUP]; N];
        for (to, from) in group.iter_mut().zip(elements) {
            simd.store(from, to);
        }
        rest.copy_from_slice(&group.as_flattened()[..rest.len()]);
    }
    at
}

/// [`Ranks`] as a level has them.
struct Tables<S: Simd, const N: usize> {
    raw: S::Table<'static>,
    known: [S::Table<'static>; N],
}

impl<S: Simd, const N: usize> Tables<S, N> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let Ranks { raw, known, used } = const { &Ranks::<N>::ALL };
        let raw = simd.table(raw, *used);
        let mut tables = [raw; N];
        for (table, known) in tables.iter_mut().zip(known) {
            *table = simd.table(known, *used);
        }
        Self { raw, known: tables }
    }

    /// The elements of a group.
    #[inline(always)]
    fn merge(
        &self,
        simd: S,
        float: Float,
        base: &[u8],
        ranks: &[u8; GROUP],
        bits: &[u8],
        at: &mut usize,
    ) -> [S::Bytes; N] {
        let ranks = simd.load(ranks);
        let raw = simd.lookup(self.raw, ranks);
        let mut difference = [ranks; N];
        let mut longer_now = longer(simd, raw, 0);
        for (k, (to, &known)) in difference.iter_mut().zip(&self.known).enumerate() {
            *to = simd.lookup(known, ranks);
            for bit in 8 * k..8 * k + 8 {
                if longer_now == 0 {
                    break;
                }
                let found = simd.deposit(get(bits, *at), longer_now);
                *at += longer_now.count_ones() as usize;
                *to = simd.or(*to, simd.keep(simd.splat(1 << (bit % 8)), found));
                longer_now = longer(simd, raw, bit + 1);
            }
        }
        let one = simd.splat(1);
        let negative = simd.bits(simd.eq(simd.and(ranks, one), one));
        let inverted = simd.keep(simd.splat(u8::MAX), negative);
        let mut planes = planes::<S, N>(simd, float, base);
        let sign = simd.and(planes[N - 1], simd.splat(0x80));
        planes[N - 1] = simd.and(planes[N - 1], simd.splat(0x7F));
        // Two's complement, with a carry from plane to plane.
        let mut carry = negative;
        for (plane, difference) in planes.iter_mut().zip(difference) {
            let sum = simd.add(*plane, simd.xor(difference, inverted));
            let over = !simd.bits(simd.eq(simd.min(sum, *plane), *plane));
            *plane = simd.add(sum, simd.keep(one, carry));
            carry = over | carry & simd.bits(simd.eq(*plane, simd.splat(0)));
        }
        // Below zero is a float of the other sign.
        let high = simd.splat(0x80);
        let crossed = simd.bits(simd.eq(simd.and(planes[N - 1], high), high));
        let flipped = simd.keep(simd.splat(u8::MAX), crossed);
        for plane in &mut planes[..N - 1] {
            *plane = simd.xor(*plane, flipped);
        }
        let flipped = simd.and(flipped, simd.splat(0x7F));
        planes[N - 1] = simd.xor(simd.xor(planes[N - 1], flipped), sign);
        if float.big_endian {
            planes.reverse();
        }
        interleave::<S, N>(simd, planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};
    use arbtest::arbitrary::{Result, Unstructured};

    fn any_float(u: &mut Unstructured) -> Result<Float> {
        let bytes = *u.choose(&[1, 2, 4])?;
        let exponent_bits = u.int_in_range(1..=8.min(8 * bytes as u32 - 1))?;
        Ok(Float { bytes, exponent_bits, top_bits: 0, big_endian: u.arbitrary()? })
    }

    /// A base, and elements that are near to it, or not.
    fn any_pair(u: &mut Unstructured, float: Float) -> Result<(Vec<u8>, Vec<u8>)> {
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
