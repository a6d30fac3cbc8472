//! Steps: a difference as an integer without sign, whose low bits are stored as they are. How many
//! these are, the exponent of the base's element says: a number that all have, and up to 7 more.
//! Floats below a floor count as zero, so that what crosses zero has not all tiny floats to cross.

mod merge;
mod split;

pub use merge::{Parts, merge};
pub use split::{classes, pack_extra, split};

use super::{exponents, filled};
use crate::field::{CHUNK, Float};
use crate::simd::{GROUP, Simd, kernel};

/// Most low bits of an element beyond those that all have.
pub const MAX_EXTRA: u8 = 7;

/// Most exponents that have a number of extra bits of their own.
pub const MAX_EXPONENTS: usize = 16;

/// Most low bits that all elements may have: a rank is above them.
#[inline(always)]
pub fn max_fixed(float: Float) -> u32 {
    float.mantissa_bits() + float.exponent_bits + 1 - u8::BITS
}

/// The rank of steps that have no other.
pub const FAR: u8 = u8::MAX;

/// Bytes behind packed extra bits that [`merge()`] may read, and [`pack_extra`] may write.
pub const SLACK: usize = CHUNK + 8;

/// Which steps there are, and how many low bits they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shifts {
    /// The exponent of the least float that is not below the floor.
    pub floor: u8,
    /// Those that all have.
    pub fixed: u32,
    /// The exponent of the first of `extra`.
    pub first: u8,
    /// How many more elements have, by the base's exponent from `first` on; zeros behind `used`.
    pub extra: [u8; MAX_EXPONENTS],
    /// Exponents from `first` on that have one of their own, at least 1. Lower ones have the first
    /// one's, higher ones the last one's.
    pub used: usize,
}

impl Shifts {
    /// The floor as an integer in the order of floats.
    #[inline(always)]
    fn floor(&self, float: Float) -> u32 {
        u32::from(self.floor) << float.mantissa_bits()
    }
}

/// What the numbers of extra bits mean, by the place of a base's exponent among those that have one.
struct Tables {
    first: u8,
    last: u8,
    counts: [u8; MAX_EXPONENTS],
    /// The low bits that an element has.
    masks: [u8; MAX_EXPONENTS],
    /// Two to the number of bits.
    powers: [u8; MAX_EXPONENTS],
}

impl Tables {
    #[inline(always)]
    fn of(shifts: &Shifts) -> Self {
        let powers = shifts.extra.map(|bits| 1u8 << (bits & MAX_EXTRA));
        let last = (shifts.used.min(MAX_EXPONENTS) - 1).to_le_bytes()[0];
        let masks = powers.map(|power| power - 1);
        Self { first: shifts.first, last, counts: shifts.extra, masks, powers }
    }

    /// The places of a group's exponents; what fills the group has zeros' place.
    #[inline(always)]
    fn places<S: Simd, const N: usize>(&self, simd: S, float: Float, base: &[u8]) -> S::Bytes {
        let exponents = match base.len() < N * GROUP {
            true => exponents::<S, N>(simd, float, filled::<N>(base).as_flattened()),
            false => exponents::<S, N>(simd, float, base),
        };
        let above = simd.sub(exponents, simd.min(exponents, simd.splat(self.first)));
        simd.min(above, simd.splat(self.last))
    }
}

kernel! {
    /// How many extra bits each element has; what fills the last group of `out` has none.
    ///
    /// # Panics
    /// If `out` is not as many whole groups as the elements take.
    pub fn extra_bits(float: Float, shifts: &Shifts, base: &[u8], out: &mut [u8]) = extra_bits_at
}

#[inline(always)]
fn extra_bits_at<S: Simd>(simd: S, float: Float, shifts: &Shifts, base: &[u8], out: &mut [u8]) {
    match float.bytes {
        1 => extra_groups::<S, 1>(simd, float, shifts, base, out),
        2 => extra_groups::<S, 2>(simd, float, shifts, base, out),
        _ => extra_groups::<S, 4>(simd, float, shifts, base, out),
    }
}

#[inline(always)]
fn extra_groups<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    shifts: &Shifts,
    base: &[u8],
    out: &mut [u8],
) {
    let tables = Tables::of(shifts);
    assert_eq!(out.len(), base.len().div_ceil(N * GROUP) * GROUP);
    for (base, out) in base.chunks(N * GROUP).zip(out.as_chunks_mut::<GROUP>().0) {
        let counts = simd.lookup16(&tables.counts, tables.places::<S, N>(simd, float, base));
        let left = base.len() / N;
        let counts = if left < GROUP { simd.keep(counts, (1 << left) - 1) } else { counts };
        simd.store(counts, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::split::{Words, class_of};
    use crate::difference::tests::{any_float, any_pair};
    use crate::level::{Level, at_each_level};
    use crate::strip::{Planes, pack, packed_len, plane_len};
    use arbtest::arbitrary::{Result, Unstructured};

    fn any_shifts(u: &mut Unstructured, float: Float) -> Result<Shifts> {
        let fixed = u.int_in_range(0..=max_fixed(float))?;
        let (first, used) = (u.arbitrary()?, u.int_in_range(1..=MAX_EXPONENTS)?);
        let mut extra = [0; MAX_EXPONENTS];
        for extra in &mut extra[..used] {
            *extra = u.int_in_range(0..=MAX_EXTRA)?;
        }
        let floor = u.int_in_range(0..=(1u32 << float.exponent_bits) as u16 - 1)? as u8;
        Ok(Shifts { floor, fixed, first, extra, used })
    }

    fn merge_undoes_split(level: Level) {
        arbtest::arbtest(|u| {
            let float = any_float(u)?;
            let shifts = any_shifts(u, float)?;
            let (base, elements) = any_pair(u, float)?;
            let (count, len) =
                (elements.len() / float.bytes, plane_len(elements.len() / float.bytes));
            let split_at = |level| {
                let (mut counts, mut ranks) = (vec![0xAA; len], vec![0; len]);
                extra_bits(level, float, &shifts, &base, &mut counts);
                let (mut extra, planes) = (counts.clone(), &mut vec![0; 4 * len]);
                let there = &mut ranks[..count];
                let far =
                    split(level, float, &shifts, &base, &elements, &mut extra, there, planes, len);
                let mut bits = vec![0; len + SLACK];
                let end = pack_extra(level, &counts, &extra, 0, &mut bits);
                bits.truncate(end.div_ceil(8));
                let mut found = vec![0; count];
                classes(level, float, shifts.floor, &base, &elements, &mut found);
                (ranks, planes.clone(), bits, far, found)
            };
            let all = split_at(level);
            assert!(all == split_at(Level::Scalar));
            let (ranks, planes, mut bits, far, _) = all;
            assert_eq!(far, ranks.iter().filter(|rank| **rank == FAR).count());
            let mut fixed = vec![0; packed_len(count, shifts.fixed)];
            let planes = Planes { bytes: &planes, len: len.max(1) };
            pack(level, planes, count, 0, shifts.fixed, &mut fixed);
            let used = bits.len();
            bits.resize(used + SLACK, 0xFF);
            let parts =
                Parts { shifts: &shifts, ranks: &ranks, fixed: &fixed, extra: &bits, at: 0 };
            let mut out = vec![0xAA; elements.len()];
            let mut places = [0; CHUNK / GROUP];
            let end = merge(level, float, &base, parts, &mut out, &mut places);
            assert_eq!(end.div_ceil(8), used);
            for i in (0..CHUNK).filter(|i| places[i / GROUP] >> (i % GROUP) & 1 == 1) {
                assert_eq!(ranks[i], FAR);
                let at = i * float.bytes..(i + 1) * float.bytes;
                out[at.clone()].copy_from_slice(&elements[at]);
            }
            assert!(out == elements);
            Ok(())
        });
    }

    fn any_parts_give_the_same_elements(level: Level) {
        arbtest::arbtest(|u| {
            let float = any_float(u)?;
            let shifts = any_shifts(u, float)?;
            let (base, _) = any_pair(u, float)?;
            let count = base.len() / float.bytes;
            let mut ranks = vec![0; plane_len(count)];
            u.fill_buffer(&mut ranks)?;
            let mut fixed = vec![0; packed_len(count, shifts.fixed)];
            u.fill_buffer(&mut fixed)?;
            let (has, at) = (u.int_in_range(0..=count)?, u.int_in_range(0..=9)?);
            let mut extra = vec![0; has + SLACK];
            u.fill_buffer(&mut extra)?;
            let parts = Parts { shifts: &shifts, ranks: &ranks, fixed: &fixed, extra: &extra, at };
            let merge_at = |level| {
                let (mut out, mut far) = (vec![0; base.len()], [0; CHUNK / GROUP]);
                let end = merge(level, float, &base, parts, &mut out, &mut far);
                (end, (end <= 8 * has).then_some((out, far)))
            };
            assert!(merge_at(level) == merge_at(Level::Scalar));
            Ok(())
        });
    }

    const BF16: Float = Float { bytes: 2, exponent_bits: 8, top_bits: 0, big_endian: false };

    fn steps_are_as_the_spec_says(level: Level) {
        // Floor, base and element, step.
        let cases = [
            (0, 0x3F80u16, 0x3F8Bu16, Some(22)),
            (0, 0x3F80, 0x3F7F, Some(1)),
            (0, 0, 0x8000, Some(1)),
            (0x70, 0x3880, 0xB880, Some(2 * 0x100 + 1)),
            (0x70, 0x0123, 0x3805, Some(10)),
            (0x70, 0x0123, 0x37FF, None),
        ];
        for (floor, base, element, step) in cases {
            let mut class = [0];
            let bytes = |n: u16| n.to_le_bytes();
            classes(level, BF16, floor, &bytes(base), &bytes(element), &mut class);
            assert_eq!(class[0], step.map_or(FAR, |step| class_of(step) as u8), "{base:x}");
        }
        // Step 22 as rank 2, extra bits 1 and 1, and a fixed bit 0.
        let shifts = Shifts { floor: 0, fixed: 1, first: 100, extra: [2; MAX_EXPONENTS], used: 1 };
        let (base, element) = (0x3F80u16.to_le_bytes(), 0x3F8Bu16.to_le_bytes());
        let (mut extra, mut ranks, mut planes) = ([2], [0], [0; 64]);
        split(level, BF16, &shifts, &base, &element, &mut extra, &mut ranks, &mut planes, 64);
        assert_eq!((ranks, extra, planes[0]), ([2], [3], 0));
        let mut counts = [9; GROUP];
        extra_bits(level, BF16, &shifts, &base, &mut counts);
        assert!(counts[0] == 2 && counts[1..] == [0; 63]);
    }

    fn bytes_are_shifted_each_by_its_own(level: Level) {
        for rank in 0..FAR {
            // As many extra bits as the exponent says, all of them zero.
            let mut shifts =
                Shifts { floor: 0, fixed: 0, first: 0, extra: [0; MAX_EXPONENTS], used: 8 };
            shifts.extra[..8].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]);
            let bytes: Vec<u8> =
                (0..GROUP as u16).flat_map(|i| ((i % 9) << 7).to_le_bytes()).collect();
            let (ranks, mut out) = ([rank; GROUP], vec![0; bytes.len()]);
            let extra = &[0; CHUNK + SLACK];
            let parts = Parts { shifts: &shifts, ranks: &ranks, fixed: &[], extra, at: 0 };
            merge(level, BF16, &bytes, parts, &mut out, &mut [0; CHUNK / GROUP]);
            for (x, y) in bytes.as_chunks::<2>().0.iter().zip(out.as_chunks::<2>().0) {
                let (x, y) = (u32::from(u16::from_le_bytes(*x)), u16::from_le_bytes(*y).into());
                let step = u32::from(rank) << (x >> 7).min(7);
                assert_eq!(Words::<2>::of(BF16).step(x, y, 0), (step, true));
            }
        }
    }

    at_each_level!(
        merge_undoes_split,
        any_parts_give_the_same_elements,
        steps_are_as_the_spec_says,
        bytes_are_shifted_each_by_its_own,
    );
}
