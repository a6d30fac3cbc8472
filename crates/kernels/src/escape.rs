//! Escape planes (spec: "Planes"): a plane has a code per rank that no earlier plane decided;
//! its largest code sends the rank on to the next plane.

use crate::simd::{GROUP, Simd, kernel};
use crate::strip::{Strips, array, array_mut};

/// Codes that decide, in a plane of `width` bits: all but the escape.
pub const fn decided(width: u32) -> u8 {
    (1 << width) - 1
}

/// Bytes behind a buffer's ranks that a kernel may read and write: it does whole groups.
pub const SLACK: usize = 2 * GROUP;

/// A plane's packed codes.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// Its strips, [`packed_len`](crate::strip::packed_len) bytes.
    pub packed: &'a [u8],
    /// How many codes.
    pub count: usize,
    /// Bits per code, 1 to 3.
    pub width: u32,
    /// The rank of code 0.
    pub base: u8,
}

/// The codes of a group, zero behind the last one of `count`.
#[inline(always)]
fn present<S: Simd>(simd: S, codes: S::Bytes, group: usize, count: usize) -> S::Bytes {
    match count - group * GROUP {
        left @ 0..GROUP => simd.keep(codes, (1 << left) - 1),
        _ => codes,
    }
}

kernel! {
    /// Packs the first `count` of `ranks`, all at least `base`, as a plane of `width` bits, and
    /// collects those that escape in `next`. Returns how many that are. `packed` has
    /// [`packed_len`](crate::strip::packed_len) bytes, `ranks` and `next` have [`SLACK`] bytes more
    /// than ranks.
    ///
    /// # Panics
    /// If one is shorter.
    pub fn peel(
        ranks: &[u8],
        count: usize,
        base: u8,
        width: u32,
        packed: &mut [u8],
        next: &mut [u8],
    ) -> usize = peel_at
}

#[inline(always)]
fn peel_at<S: Simd>(
    simd: S,
    ranks: &[u8],
    count: usize,
    base: u8,
    width: u32,
    packed: &mut [u8],
    next: &mut [u8],
) -> usize {
    match width {
        1 => peel_width::<S, 1>(simd, ranks, count, base, packed, next),
        2 => peel_width::<S, 2>(simd, ranks, count, base, packed, next),
        _ => peel_width::<S, 3>(simd, ranks, count, base, packed, next),
    }
}

#[inline(always)]
fn peel_width<S: Simd, const WIDTH: u32>(
    simd: S,
    ranks: &[u8],
    count: usize,
    base: u8,
    packed: &mut [u8],
    next: &mut [u8],
) -> usize {
    let (strips, mut escaped) = (Strips::of(count, WIDTH), 0);
    let (base, escape) = (simd.splat(base), simd.splat(decided(WIDTH)));
    for group in 0..count.div_ceil(GROUP) {
        let here = simd.load(array(ranks, group * GROUP));
        let codes = present(simd, simd.min(simd.sub(here, base), escape), group, count);
        strips.put_rest(simd, codes, group, packed);
        escaped += simd.compress(here, simd.eq(codes, escape), array_mut(next, escaped));
    }
    if WIDTH & 1 != 0 {
        let len = packed.len();
        let used = crate::strip::packed_len(count, WIDTH & 2) + count.div_ceil(GROUP) * 8;
        packed[used.min(len)..].fill(0);
    }
    escaped
}

kernel! {
    /// Ranks of a plane's codes from code `first` on, a multiple of 64, as many as `ranks` has: a
    /// code that escapes takes the next of `next` from `used` on. Returns how many of `next` are
    /// used then; if that is more than `next` has but for its [`SLACK`], the ranks mean nothing.
    ///
    /// # Panics
    /// If `ranks` is not whole groups, or the plane is shorter than it says.
    pub fn fill(plane: Plane<'_>, first: usize, next: &[u8], used: usize, ranks: &mut [u8]) -> usize =
        fill_at
}

#[inline(always)]
fn fill_at<S: Simd>(
    simd: S,
    plane: Plane<'_>,
    first: usize,
    next: &[u8],
    used: usize,
    ranks: &mut [u8],
) -> usize {
    match plane.width {
        1 => fill_width::<S, 1>(simd, plane, first, next, used, ranks),
        2 => fill_width::<S, 2>(simd, plane, first, next, used, ranks),
        _ => fill_width::<S, 3>(simd, plane, first, next, used, ranks),
    }
}

#[inline(always)]
fn fill_width<S: Simd, const WIDTH: u32>(
    simd: S,
    plane: Plane<'_>,
    first: usize,
    next: &[u8],
    mut used: usize,
    ranks: &mut [u8],
) -> usize {
    let strips = Strips::of(plane.count, WIDTH);
    let (base, escape) = (simd.splat(plane.base), simd.splat(decided(WIDTH)));
    let start = first / GROUP;
    for (i, to) in ranks.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let codes = strips.rest(simd, plane.packed, start + i);
        let codes = present(simd, codes, start + i, plane.count);
        let Some(from) = next.get(used..).and_then(<[u8]>::first_chunk) else {
            return next.len();
        };
        used += simd.expand(simd.add(codes, base), simd.eq(codes, escape), from, to);
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};
    use crate::strip::{packed_len, plane_len};

    fn peel_to(level: Level, ranks: &[u8], base: u8, width: u32) -> (Vec<u8>, Vec<u8>) {
        let padded = [ranks, &[0; SLACK]].concat();
        let mut packed = vec![0xAA; packed_len(ranks.len(), width)];
        let mut next = vec![0; ranks.len() + SLACK];
        let count = peel(level, &padded, ranks.len(), base, width, &mut packed, &mut next);
        next.truncate(count);
        (packed, next)
    }

    fn fill_undoes_peel(level: Level) {
        arbtest::arbtest(|u| {
            let (base, width) = (u.int_in_range(0..=200)?, u.int_in_range(1..=3)?);
            let ranks: Vec<u8> = u.arbitrary()?;
            let ranks: Vec<u8> = ranks.into_iter().map(|r| r.max(base)).collect();
            let (packed, mut next) = peel_to(level, &ranks, base, width);
            assert_eq!((packed.clone(), next.clone()), peel_to(Level::Scalar, &ranks, base, width));
            let escapes = next.len();
            next.resize(escapes + SLACK, 0);
            let plane = Plane { packed: &packed, count: ranks.len(), width, base };
            // In two parts, as a decoder does.
            let mut back = vec![0; plane_len(ranks.len())];
            let middle = plane_len(ranks.len() / 2).min(back.len());
            let (first, second) = back.split_at_mut(middle);
            let used = fill(level, plane, 0, &next, 0, first);
            assert_eq!(fill(level, plane, middle, &next, used, second), escapes);
            assert_eq!(back[..ranks.len()], ranks);
            Ok(())
        });
    }

    fn any_codes_give_the_same_ranks_or_are_found_to_want_more(level: Level) {
        arbtest::arbtest(|u| {
            let (base, width) = (u.arbitrary()?, u.int_in_range(1..=3)?);
            let count = u.int_in_range(1..=300)?;
            let mut packed = vec![0; packed_len(count, width)];
            u.fill_buffer(&mut packed)?;
            let has = u.int_in_range(0..=count)?;
            let next: Vec<u8> = (0..has + SLACK).map(|i| i.to_le_bytes()[0] | 1).collect();
            let plane = Plane { packed: &packed, count, width, base };
            let fill_at = |level| {
                let mut ranks = vec![0; plane_len(count)];
                let used = fill(level, plane, 0, &next, 0, &mut ranks);
                ranks.truncate(count);
                (used, (used <= has).then_some(ranks))
            };
            assert_eq!(fill_at(level), fill_at(Level::Scalar));
            Ok(())
        });
    }

    at_each_level!(fill_undoes_peel, any_codes_give_the_same_ranks_or_are_found_to_want_more);
}
