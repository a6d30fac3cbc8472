//! Ranks, extra bits and the bits that all have to elements.

use super::{MASKS, SLACK, Shifts, extra_groups};
use crate::field::{CHUNK, Float};
use crate::simd::{GROUP, Simd, interleave, kernel};
use crate::strip::{Strips, array, array_mut};

/// What [`merge()`] puts together, for one chunk.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// How many low bits elements have.
    pub shifts: &'a Shifts,
    /// In whole groups.
    pub ranks: &'a [u8],
    /// Strips of the bits that all elements have.
    pub fixed: &'a [u8],
    /// The extra bits of all chunks, and [`SLACK`].
    pub extra: &'a [u8],
    /// How many of the extra bits are used.
    pub at: usize,
}

kernel! {
    /// Puts a chunk's elements together, as many as `out` has, from those of `base`; a rank that is
    /// [`FAR`](super::FAR) gives one that means nothing. Returns how many of the extra bits are used then; if
    /// these are more than there are but for the slack, the elements mean nothing.
    ///
    /// # Panics
    /// If `base` has another length than `out`, that is more than a chunk, or something else is too short.
    pub fn merge(float: Float, base: &[u8], parts: Parts<'_>, out: &mut [u8]) -> usize = merge_at
}

#[inline(always)]
fn merge_at<S: Simd>(
    simd: S,
    float: Float,
    base: &[u8],
    parts: Parts<'_>,
    out: &mut [u8],
) -> usize {
    match float.bytes {
        1 => merge_groups::<S, 1>(simd, float, base, parts, out),
        2 => merge_groups::<S, 2>(simd, float, base, parts, out),
        _ => merge_groups::<S, 4>(simd, float, base, parts, out),
    }
}

/// In three passes, for what is written a word at a time is not yet to be read as a group.
#[inline(always)]
fn merge_groups<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    base: &[u8],
    parts: Parts<'_>,
    out: &mut [u8],
) -> usize {
    let (count, groups) = (out.len() / N, out.len().div_ceil(N * GROUP));
    assert!(base.len() == out.len() && count <= CHUNK);
    let (mut counts, mut masks) = ([0; CHUNK], [0; CHUNK]);
    extra_groups::<S, N>(simd, float, parts.shifts, base, &mut counts[..groups * GROUP]);
    let table = simd.table(&MASKS, 16);
    for i in 0..groups {
        let counts = simd.load(array(&counts, i * GROUP));
        simd.store(simd.lookup(table, counts), array_mut(&mut masks, i * GROUP));
    }
    let (mut at, mut extra) = (parts.at, [0; CHUNK]);
    let end = 8 * (parts.extra.len() - SLACK);
    if at > end {
        return at;
    }
    let octets = masks.as_chunks::<8>().0.iter().zip(extra.as_chunks_mut::<8>().0);
    for (mask, extra) in octets.take(groups * GROUP / 8) {
        let mask = u64::from_le_bytes(*mask);
        let bits = u64::from_le_bytes(*array(parts.extra, at / 8)) >> (at % 8);
        *extra = simd.deposit(bits, mask).to_le_bytes();
        at += mask.count_ones() as usize;
    }
    let groups = Groups::of(simd, parts.shifts.fixed, count, parts.fixed);
    let floor = parts.shifts.floor(float);
    let mut steps = [[0; GROUP]; N];
    let size = N * GROUP;
    for (i, (base, out)) in base.chunks(size).zip(out.chunks_mut(size)).enumerate() {
        let (counts, extra) = (array(&counts, i * GROUP), array(&extra, i * GROUP));
        let group = groups.steps::<N>(i, array(parts.ranks, i * GROUP), counts, extra);
        for (to, from) in steps.iter_mut().zip(group) {
            simd.store(from, to);
        }
        let steps = steps.as_flattened();
        match N {
            1 => take_steps_u8(float, floor, base, steps, out),
            2 => take_steps_u16(float, floor, base, steps, out),
            _ => take_steps_u32(float, floor, base, steps, out),
        }
    }
    at
}

/// Takes steps, which are little-endian, from elements of `base`. Plain integers: what they need is in
/// every instruction set, and is found by the compiler.
macro_rules! take_steps {
    ($name:ident, $word:ty) => {
        #[inline(always)]
        pub(super) fn $name(float: Float, floor: u32, base: &[u8], steps: &[u8], out: &mut [u8]) {
            const N: usize = size_of::<$word>();
            let (floor, sign) = (floor as $word, 1 << (8 * N - 1));
            let places = steps.as_chunks::<N>().0.iter().zip(out.as_chunks_mut::<N>().0);
            for (base, (step, out)) in base.as_chunks::<N>().0.iter().zip(places) {
                let x = <$word>::from_le_bytes(*base);
                let x = if float.big_endian { x.swap_bytes() } else { x };
                let step = <$word>::from_le_bytes(*step);
                let difference = step >> 1 ^ (step & 1).wrapping_neg();
                let target = (x & !sign).saturating_sub(floor).wrapping_add(difference);
                // Below zero is a float of the other sign.
                let crossed = (target.cast_signed() >> (8 * N - 1)).cast_unsigned();
                let y = (target ^ crossed).wrapping_add(floor) & !sign | (x ^ crossed) & sign;
                *out = if float.big_endian { y.to_be_bytes() } else { y.to_le_bytes() };
            }
        }
    };
}
#[allow(clippy::cast_possible_truncation, reason = "a floor is less than an element")]
mod take_steps {
    use crate::field::Float;

    take_steps!(take_steps_u8, u8);
    take_steps!(take_steps_u16, u16);
    take_steps!(take_steps_u32, u32);
}
use take_steps::{take_steps_u8, take_steps_u16, take_steps_u32};

/// What the groups of a chunk share.
#[derive(Clone, Copy)]
struct Groups<'a, S: Simd> {
    simd: S,
    strips: Strips,
    fixed: u32,
    packed: &'a [u8],
}

impl<'a, S: Simd> Groups<'a, S> {
    #[inline(always)]
    fn of(simd: S, fixed: u32, count: usize, packed: &'a [u8]) -> Self {
        Self { simd, strips: Strips::of(count, fixed), fixed, packed }
    }

    /// The steps of group `i`, little-endian.
    #[inline(always)]
    fn steps<const N: usize>(
        &self,
        i: usize,
        ranks: &[u8; GROUP],
        counts: &[u8; GROUP],
        extra: &[u8; GROUP],
    ) -> [S::Bytes; N] {
        let Self { simd, strips, fixed, packed } = *self;
        let (low, high) = simd.shl_each(simd.load(ranks), simd.load(counts));
        let above = [simd.or(low, simd.load(extra)), high];
        let mut step = [simd.splat(0); N];
        for (k, step) in step.iter_mut().enumerate().take(strips.whole()) {
            *step = strips.byte(simd, packed, k, i);
        }
        let (whole, shift) = (strips.whole(), fixed % 8);
        if shift == 0 {
            step[whole] = above[0];
            if whole + 1 < N {
                step[whole + 1] = above[1];
            }
        } else {
            let low = simd.splat((1 << shift) - 1);
            step[whole] = simd.select(low, strips.rest(simd, packed, i), simd.shl(above[0], shift));
            if whole + 1 < N {
                let over = simd.shr(above[0], 8 - shift);
                step[whole + 1] = simd.select(low, over, simd.shl(above[1], shift));
            }
            if whole + 2 < N {
                step[whole + 2] = simd.and(low, simd.shr(above[1], 8 - shift));
            }
        }
        interleave::<S, N>(simd, step)
    }
}
