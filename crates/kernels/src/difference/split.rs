//! Elements to ranks and raw bits.

use super::{Ranks, filled, longer, planes};
use crate::field::Float;
use crate::simd::{GROUP, Simd, kernel};
use crate::strip::array_mut;

/// The rank of a difference.
#[inline(always)]
fn rank_of(magnitude: u32, negative: bool) -> u8 {
    (2 * class_of(magnitude) + u32::from(negative)).max(1).to_le_bytes()[0]
}

/// Four to the octave.
#[inline(always)]
pub(super) fn class_of(magnitude: u32) -> u32 {
    let raw = (magnitude | 4).ilog2() - 2;
    (raw << 2) + (magnitude >> raw)
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
    let words = Words::<N>::of(float);
    let (base, elements) = (base.as_chunks::<N>().0, elements.as_chunks::<N>().0);
    let magnitudes = magnitudes.as_chunks_mut::<N>().0;
    assert!(base.len() == elements.len() && elements.len() == ranks.len());
    assert_eq!(magnitudes.len(), ranks.len());
    for (((x, y), rank), to) in base.iter().zip(elements).zip(ranks).zip(magnitudes) {
        let difference = words.difference(words.word(x), words.word(y));
        let magnitude = difference.unsigned_abs() & (u32::MAX >> words.unused);
        *rank = rank_of(magnitude, difference < 0);
        to.copy_from_slice(&magnitude.to_le_bytes()[..N]);
    }
}

/// Elements of `N` bytes as integers.
#[derive(Clone, Copy)]
pub(super) struct Words<const N: usize> {
    big_endian: bool,
    /// Bits of an integer above an element's.
    unused: u32,
    /// The sign bit.
    sign: u32,
}

impl<const N: usize> Words<N> {
    #[inline(always)]
    pub(super) fn of(float: Float) -> Self {
        let unused = u32::BITS - float.mantissa_bits() - float.exponent_bits - 1;
        Self { big_endian: float.big_endian, unused, sign: 1 << 31 >> unused }
    }

    #[inline(always)]
    pub(super) fn word(self, bytes: &[u8; N]) -> u32 {
        let mut word = [0; 4];
        word[..N].copy_from_slice(bytes);
        if self.big_endian {
            word[..N].reverse();
        }
        u32::from_le_bytes(word)
    }

    /// How far `y` is from `x`, away from zero.
    #[inline(always)]
    fn difference(self, x: u32, y: u32) -> i32 {
        self.between(x & !self.sign, y & !self.sign, (x ^ y) & self.sign != 0)
    }

    /// The difference of floats without signs.
    #[inline(always)]
    fn between(self, x: u32, y: u32, crossed: bool) -> i32 {
        let target = if crossed { !y } else { y };
        // With the sign in the highest bit, whatever the elements' size.
        (target.wrapping_sub(x) << self.unused).cast_signed() >> self.unused
    }

    /// The difference as an integer without sign, 0, -1, 1, -2, ..., where floats are as far from zero
    /// as they are from `floor`. None for a `y` that is nearer to zero.
    #[inline(always)]
    pub(super) fn step(self, x: u32, y: u32, floor: u32) -> (u32, bool) {
        let crossed = (x ^ y) & self.sign != 0;
        let (x, y) = (x & !self.sign, y & !self.sign);
        let difference = self.between(x.max(floor) - floor, y.wrapping_sub(floor), crossed);
        let step = (difference << 1 ^ difference >> 31).cast_unsigned();
        (step & (u32::MAX >> self.unused), y >= floor)
    }
}

kernel! {
    /// Writes the raw bits of differences to `out` and returns how many these are; `out` has room
    /// for as many as the ranks say, and [`SLACK`](super::SLACK), in which zeros may be written. In each group bit
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
