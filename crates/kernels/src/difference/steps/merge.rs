//! Ranks, extra bits and the bits that all have to elements.

use super::{FAR, SLACK, Shifts, Tables};
use crate::field::{CHUNK, Float};
use crate::simd::{GROUP, Simd, kernel};
use crate::strip::{Strips, array};

/// Groups that get their extra bits before elements are put together: what is written a word at a
/// time is slow to read as a group at once.
const BATCH: usize = 4;

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
    /// [`FAR`] gives one that means nothing, and a bit in `far`. Returns how many of the extra bits are used
    /// then; if these are more than there are but for the slack, the elements mean nothing.
    ///
    /// # Panics
    /// If `base` has another length than `out`, that is more than a chunk, or something else is too short.
    pub fn merge(
        float: Float,
        base: &[u8],
        parts: Parts<'_>,
        out: &mut [u8],
        far: &mut [u64; CHUNK / GROUP],
    ) -> usize = merge_at
}

#[inline(always)]
fn merge_at<S: Simd>(
    simd: S,
    float: Float,
    base: &[u8],
    parts: Parts<'_>,
    out: &mut [u8],
    far: &mut [u64; CHUNK / GROUP],
) -> usize {
    match float {
        // What is written as a constant is compiled for that format.
        Float::BF16 => merge_groups::<S, 2>(simd, Float::BF16, base, parts, out, far),
        Float::F32 => merge_groups::<S, 4>(simd, Float::F32, base, parts, out, far),
        Float { bytes: 1, .. } => merge_groups::<S, 1>(simd, float, base, parts, out, far),
        Float { bytes: 2, .. } => merge_groups::<S, 2>(simd, float, base, parts, out, far),
        _ => merge_groups::<S, 4>(simd, float, base, parts, out, far),
    }
}

#[inline(always)]
fn merge_groups<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    base: &[u8],
    parts: Parts<'_>,
    out: &mut [u8],
    far: &mut [u64; CHUNK / GROUP],
) -> usize {
    let Parts { shifts, ranks, fixed, extra, mut at } = parts;
    let (base, out) = (base.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
    assert!(base.len() == out.len() && out.len() <= CHUNK);
    let strips = Strips::of(out.len(), shifts.fixed);
    let words = Words { float, floor: shifts.floor(float), fixed: shifts.fixed };
    let (tables, end) = (Tables::of(shifts), 8 * (extra.len() - SLACK));
    let mut batch = [Group::ZERO; BATCH];
    let batches = base.chunks(BATCH * GROUP).zip(out.chunks_mut(BATCH * GROUP));
    for (first, (base, out)) in (0..).step_by(BATCH).zip(batches) {
        if at > end {
            return at;
        }
        for (base, group) in base.chunks(GROUP).zip(&mut batch) {
            at = group.put_extra::<S, N>(simd, float, &tables, base, extra, at);
        }
        let groups = base.chunks(GROUP).zip(out.chunks_mut(GROUP)).zip(&mut batch);
        for (i, ((base, out), group)) in (first..).zip(groups) {
            group.put_low(simd, strips, fixed, i);
            let ranks = array(ranks, i * GROUP);
            far[i] = simd.bits(simd.eq(simd.load(ranks), simd.splat(FAR)));
            if let (Some(base), Some(out)) = (base.first_chunk(), out.first_chunk_mut()) {
                words.merge::<N>(base, ranks, group, out);
            } else {
                far[i] &= (1 << base.len()) - 1;
                let mut whole = ([[0; N]; GROUP], [[0; N]; GROUP]);
                whole.0[..base.len()].copy_from_slice(base);
                words.merge::<N>(&whole.0, ranks, group, &mut whole.1);
                out.copy_from_slice(&whole.1[..out.len()]);
            }
        }
    }
    at
}

/// What the elements of a group have below their ranks.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Group {
    /// Two to the number of extra bits.
    powers: [u8; GROUP],
    extra: [u8; GROUP],
    /// Byte planes of what all elements have.
    low: [[u8; GROUP]; 3],
}

impl Group {
    const ZERO: Self = Self { powers: [0; GROUP], extra: [0; GROUP], low: [[0; GROUP]; 3] };

    /// Takes the extra bits that elements next to `base` have, from bit `at` on; returns where they end.
    #[inline(always)]
    fn put_extra<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        float: Float,
        tables: &Tables,
        base: &[[u8; N]],
        bits: &[u8],
        mut at: usize,
    ) -> usize {
        let places = tables.places::<S, N>(simd, float, base.as_flattened());
        simd.store(simd.lookup16(&tables.powers, places), &mut self.powers);
        let (mut masks, there) = ([0; GROUP], simd.lookup16(&tables.masks, places));
        let there =
            if base.len() < GROUP { simd.keep(there, (1 << base.len()) - 1) } else { there };
        simd.store(there, &mut masks);
        // A group has 7 bits per element at most.
        let bits: &[u8; GROUP + 8] = array(bits, at / 8);
        let start = at - at % 8;
        for (mask, extra) in masks.as_chunks::<8>().0.iter().zip(self.extra.as_chunks_mut::<8>().0)
        {
            let mask = u64::from_le_bytes(*mask);
            let word = array(bits, (at - start) / 8 % GROUP);
            let bits = u64::from_le_bytes(*word) >> (at % 8);
            *extra = simd.deposit(bits, mask).to_le_bytes();
            at += mask.count_ones() as usize;
        }
        at
    }

    /// Unpacks the bits that all elements of group `i` have.
    #[inline(always)]
    fn put_low<S: Simd>(&mut self, simd: S, strips: Strips, packed: &[u8], i: usize) {
        for (k, low) in self.low.iter_mut().enumerate().take(strips.whole() + 1) {
            let bytes = match k < strips.whole() {
                true => strips.byte(simd, packed, k, i),
                false => strips.rest(simd, packed, i),
            };
            simd.store(bytes, low);
        }
    }
}

/// Steps as integers of an element's size.
struct Words {
    float: Float,
    floor: u32,
    fixed: u32,
}

impl Words {
    #[inline(always)]
    fn merge<const N: usize>(
        &self,
        base: &[[u8; N]; GROUP],
        ranks: &[u8; GROUP],
        group: &Group,
        out: &mut [[u8; N]; GROUP],
    ) {
        let (base, out) = (base.as_flattened(), out.as_flattened_mut());
        match N {
            1 => merge_u8(self, base, ranks, group, out),
            2 => merge_u16(self, base, ranks, group, out),
            _ => merge_u32(self, base, ranks, group, out),
        }
    }
}

/// Takes a group's steps from elements of `base`. Plain integers: what they need is in
/// every instruction set, and is found by the compiler.
macro_rules! merge_words {
    ($name:ident, $word:ty) => {
        #[inline(always)]
        pub(super) fn $name(
            words: &Words,
            base: &[u8],
            ranks: &[u8; GROUP],
            group: &Group,
            out: &mut [u8],
        ) {
            const N: usize = size_of::<$word>();
            let &Words { float, floor, fixed } = words;
            let (floor, sign) = (floor as $word, 1 << (8 * N - 1));
            let Group { powers, extra, low } = group;
            let elements = base.as_chunks::<N>().0.iter().zip(out.as_chunks_mut::<N>().0);
            for (i, (base, out)) in elements.enumerate().take(GROUP) {
                let x = <$word>::from_le_bytes(*base);
                let x = if float.big_endian { x.swap_bytes() } else { x };
                let above = u16::from(ranks[i]) * u16::from(powers[i]) | u16::from(extra[i]);
                let mut step = (above as $word) << fixed;
                for (k, low) in low.iter().enumerate().take(N - 1) {
                    step |= <$word>::from(low[i]) << (8 * k);
                }
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
#[allow(clippy::cast_possible_truncation, reason = "what is behind an element's bits is left out")]
mod merge_words {
    use super::{Group, Words};
    use crate::simd::GROUP;

    merge_words!(merge_u8, u8);
    merge_words!(merge_u16, u16);
    merge_words!(merge_u32, u32);
}
use merge_words::{merge_u8, merge_u16, merge_u32};
