//! Ranks and raw bits to elements.

use super::{Ranks, SLACK, filled, longer, planes};
use crate::field::Float;
use crate::simd::{GROUP, Simd, interleave, kernel};
use crate::strip::{array, array_mut};

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
        let negative = simd.and(ranks, simd.splat(1));
        let inverted = filling(simd, negative);
        for plane in &mut difference {
            *plane = simd.xor(*plane, inverted);
        }
        let (planes, sign) = unsigned::<S, N>(simd, planes::<S, N>(simd, float, base));
        // Two's complement.
        let (mut planes, _) = sum::<S, N>(simd, planes, difference, negative);
        // Below zero is a float of the other sign.
        let crossed = filling(simd, highest(simd, planes[N - 1]));
        for plane in &mut planes {
            *plane = simd.xor(*plane, crossed);
        }
        let crossed = simd.and(crossed, simd.splat(0x80));
        planes[N - 1] = simd.xor(planes[N - 1], simd.xor(crossed, sign));
        if float.big_endian {
            planes.reverse();
        }
        interleave::<S, N>(simd, planes)
    }
}

/// The sum of two integers as byte planes, and `carry`, which is 0 or 1; and what is carried out.
#[inline(always)]
fn sum<S: Simd, const N: usize>(
    simd: S,
    mut a: [S::Bytes; N],
    b: [S::Bytes; N],
    mut carry: S::Bytes,
) -> ([S::Bytes; N], S::Bytes) {
    for (a, b) in a.iter_mut().zip(b) {
        let sum = simd.add(simd.add(*a, b), carry);
        // Of three high bits, the sum's inverted, two or more are set.
        let over = simd.select(sum, simd.and(*a, b), simd.or(*a, b));
        carry = highest(simd, over);
        *a = sum;
    }
    (a, carry)
}

/// The highest bit of each byte, as 0 or 1.
#[inline(always)]
fn highest<S: Simd>(simd: S, v: S::Bytes) -> S::Bytes {
    simd.and(simd.shr(v, 7), simd.splat(1))
}

/// 0xFF where there is a 1, 0 where there is a 0.
#[inline(always)]
fn filling<S: Simd>(simd: S, v: S::Bytes) -> S::Bytes {
    simd.sub(simd.splat(0), v)
}

/// Takes the signs off elements as byte planes.
#[inline(always)]
fn unsigned<S: Simd, const N: usize>(
    simd: S,
    mut planes: [S::Bytes; N],
) -> ([S::Bytes; N], S::Bytes) {
    let sign = simd.and(planes[N - 1], simd.splat(0x80));
    planes[N - 1] = simd.and(planes[N - 1], simd.splat(0x7F));
    (planes, sign)
}
