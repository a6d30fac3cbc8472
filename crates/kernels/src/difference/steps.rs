//! Steps: a difference as an integer without sign, whose low bits are stored as they are. How many
//! these are, the exponent of the base's element says: a number that all have, and up to 7 more.
//! Floats below a floor count as zero, so that what crosses zero has not all tiny floats to cross.

use super::split::{Words, class_of};
use super::{exponents, filled};
use crate::field::{CHUNK, Float};
use crate::simd::{GROUP, Simd, interleave, kernel};
use crate::strip::{Strips, array, array_mut};

/// Most low bits of an element beyond those that all have.
pub const MAX_EXTRA: u8 = 7;

/// Most low bits that all elements may have: a rank is above them.
#[inline(always)]
pub fn max_fixed(float: Float) -> u32 {
    float.mantissa_bits() + float.exponent_bits + 1 - u8::BITS
}

/// The rank of steps that have no other.
pub const FAR: u8 = u8::MAX;

/// Bytes behind packed extra bits that [`merge`] may read, and [`pack_extra`] may write.
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
    pub extra: [u8; 256],
    /// Exponents from `first` on that have one of their own, at least 1, and at most 32. Lower ones
    /// have the first one's, higher ones the last one's.
    pub used: usize,
}

impl Shifts {
    /// The floor as an integer in the order of floats.
    #[inline(always)]
    fn floor(&self, float: Float) -> u32 {
        u32::from(self.floor) << float.mantissa_bits()
    }
}

/// The low bits that [`Shifts::extra`] stands for.
const MASKS: [u8; 256] = {
    let mut masks = [0; 256];
    let mut bits = 0;
    while bits <= MAX_EXTRA {
        masks[bits as usize] = (1 << bits) - 1;
        bits += 1;
    }
    masks
};

/// How many extra bits the elements of a group have.
#[inline(always)]
fn extra<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    shifts: &Shifts,
    table: S::Table<'_>,
    base: &[u8],
) -> S::Bytes {
    let exponents = exponents::<S, N>(simd, float, base);
    let first = simd.splat(shifts.first);
    let above = simd.sub(exponents, simd.min(exponents, first));
    let last = simd.splat((shifts.used - 1).to_le_bytes()[0]);
    simd.lookup(table, simd.min(above, last))
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
    let table = simd.table(&shifts.extra, shifts.used);
    let whole = base.len() / (N * GROUP);
    assert_eq!(out.len(), base.len().div_ceil(N * GROUP) * GROUP);
    for i in 0..whole {
        let extra = extra::<S, N>(simd, float, shifts, table, &base[i * N * GROUP..]);
        simd.store(extra, array_mut(out, i * GROUP));
    }
    let rest = &base[whole * N * GROUP..];
    if !rest.is_empty() {
        let extra = extra::<S, N>(simd, float, shifts, table, filled::<N>(rest).as_flattened());
        let there = (1 << (rest.len() / N)) - 1;
        simd.store(simd.keep(extra, there), array_mut(out, whole * GROUP));
    }
}

kernel! {
    /// The class of each step, four to the octave; [`FAR`] where there is none.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn classes(float: Float, floor: u8, base: &[u8], elements: &[u8], classes: &mut [u8]) = classes_at
}

#[inline(always)]
fn classes_at<S: Simd>(
    _: S,
    float: Float,
    floor: u8,
    base: &[u8],
    elements: &[u8],
    classes: &mut [u8],
) {
    match float.bytes {
        1 => classes_words::<1>(float, floor, base, elements, classes),
        2 => classes_words::<2>(float, floor, base, elements, classes),
        _ => classes_words::<4>(float, floor, base, elements, classes),
    }
}

#[inline(always)]
fn classes_words<const N: usize>(
    float: Float,
    floor: u8,
    base: &[u8],
    elements: &[u8],
    classes: &mut [u8],
) {
    let (words, floor) = (Words::<N>::of(float), u32::from(floor) << float.mantissa_bits());
    let (base, elements) = (base.as_chunks::<N>().0, elements.as_chunks::<N>().0);
    assert!(base.len() == elements.len() && elements.len() == classes.len());
    for ((x, y), class) in base.iter().zip(elements).zip(classes) {
        let (step, near) = words.step(words.word(x), words.word(y), floor);
        *class = if near { class_of(step).to_le_bytes()[0] } else { FAR };
    }
}

kernel! {
    /// Takes elements apart: ranks, extra bits, in whose place there is how many each has, and byte
    /// planes of the bits that all have, `plane` bytes each. Returns how many ranks are [`FAR`].
    ///
    /// # Panics
    /// If something is shorter than the elements.
    pub fn split(
        float: Float,
        shifts: &Shifts,
        base: &[u8],
        elements: &[u8],
        extra: &mut [u8],
        ranks: &mut [u8],
        planes: &mut [u8],
        plane: usize,
    ) -> usize = split_at
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "as its kernel")]
fn split_at<S: Simd>(
    _: S,
    float: Float,
    shifts: &Shifts,
    base: &[u8],
    elements: &[u8],
    extra: &mut [u8],
    ranks: &mut [u8],
    planes: &mut [u8],
    plane: usize,
) -> usize {
    match float.bytes {
        1 => split_words::<1>(float, shifts, base, elements, extra, ranks, planes, plane),
        2 => split_words::<2>(float, shifts, base, elements, extra, ranks, planes, plane),
        _ => split_words::<4>(float, shifts, base, elements, extra, ranks, planes, plane),
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "as its kernel")]
fn split_words<const N: usize>(
    float: Float,
    shifts: &Shifts,
    base: &[u8],
    elements: &[u8],
    extra: &mut [u8],
    ranks: &mut [u8],
    planes: &mut [u8],
    plane: usize,
) -> usize {
    let (words, floor, fixed) = (Words::<N>::of(float), shifts.floor(float), shifts.fixed);
    let (base, elements) = (base.as_chunks::<N>().0, elements.as_chunks::<N>().0);
    let count = elements.len();
    assert!(base.len() == count && extra.len() >= count && ranks.len() >= count);
    assert!(plane >= count && planes.len() >= fixed.div_ceil(8) as usize * plane);
    assert!(fixed <= max_fixed(float));
    let (mut far, mut steps) = (0, [0u32; GROUP]);
    for start in (0..count).step_by(GROUP) {
        let here = GROUP.min(count - start);
        let at = start..start + here;
        let pairs = base[at.clone()].iter().zip(&elements[at.clone()]);
        let places = extra[at.clone()].iter_mut().zip(&mut ranks[at.clone()]);
        for (((x, y), (extra, rank)), to) in pairs.zip(places).zip(&mut steps) {
            let (step, near) = words.step(words.word(x), words.word(y), floor);
            let shift = fixed + u32::from(*extra & MAX_EXTRA);
            *extra = ((step & ((1 << shift) - 1)) >> fixed).to_le_bytes()[0];
            let above = (step >> shift).min(FAR.into()).to_le_bytes()[0];
            *rank = if near { above } else { FAR };
            *to = step & ((1 << fixed) - 1);
        }
        far += ranks[at].iter().filter(|rank| **rank == FAR).count();
        for k in 0..fixed.div_ceil(8) as usize {
            let to = &mut planes[k * plane + start..][..here];
            to.iter_mut().zip(&steps).for_each(|(to, step)| *to = step.to_le_bytes()[k]);
        }
    }
    far
}

kernel! {
    /// Packs the extra bits of elements, which have as many as `counts` say, behind `at` bits of
    /// `out`; returns how many bits it has then. Both are whole groups; `out` has [`SLACK`], in which
    /// zeros may be written.
    ///
    /// # Panics
    /// If lengths differ, or `out` is too short.
    pub fn pack_extra(counts: &[u8], extra: &[u8], at: usize, out: &mut [u8]) -> usize = pack_extra_at
}

#[inline(always)]
fn pack_extra_at<S: Simd>(
    simd: S,
    counts: &[u8],
    extra: &[u8],
    mut at: usize,
    out: &mut [u8],
) -> usize {
    assert_eq!(counts.len(), extra.len());
    let masks = simd.table(&MASKS, MASKS.len());
    for (counts, extra) in counts.as_chunks::<GROUP>().0.iter().zip(extra.as_chunks::<GROUP>().0) {
        let mut group = [0; GROUP];
        simd.store(simd.lookup(masks, simd.load(counts)), &mut group);
        for (mask, extra) in group.as_chunks::<8>().0.iter().zip(extra.as_chunks::<8>().0) {
            let mask = u64::from_le_bytes(*mask);
            let bits = simd.extract(u64::from_le_bytes(*extra), mask);
            // Eight elements have 56 bits at most.
            let to: &mut [u8; 8] = array_mut(out, at / 8);
            let before = to[0] & !(u8::MAX << (at % 8));
            *to = (u64::from(before) | bits << (at % 8)).to_le_bytes();
            at += mask.count_ones() as usize;
        }
    }
    at
}

/// What [`merge`] puts together, for one chunk.
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
    /// [`FAR`] gives one that means nothing. Returns how many of the extra bits are used then; if
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::tests::{any_float, any_pair};
    use crate::level::{Level, at_each_level};
    use crate::strip::{Planes, pack, packed_len, plane_len};
    use arbtest::arbitrary::{Result, Unstructured};

    fn any_shifts(u: &mut Unstructured, float: Float) -> Result<Shifts> {
        let fixed = u.int_in_range(0..=max_fixed(float))?;
        let (first, used) = (u.arbitrary()?, u.int_in_range(1..=32)?);
        let mut extra = [0; 256];
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
            let end = merge(level, float, &base, parts, &mut out);
            assert_eq!(end.div_ceil(8), used);
            for (i, _) in ranks.iter().enumerate().filter(|(_, rank)| **rank == FAR) {
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
                let mut out = vec![0; base.len()];
                let end = merge(level, float, &base, parts, &mut out);
                (end, (end <= 8 * has).then_some(out))
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
        let shifts = Shifts { floor: 0, fixed: 1, first: 100, extra: [2; 256], used: 1 };
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
            let mut shifts = Shifts { floor: 0, fixed: 0, first: 0, extra: [0; 256], used: 8 };
            shifts.extra[..8].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]);
            let bytes: Vec<u8> =
                (0..GROUP as u16).flat_map(|i| ((i % 9) << 7).to_le_bytes()).collect();
            let (ranks, mut out) = ([rank; GROUP], vec![0; bytes.len()]);
            let extra = &[0; CHUNK + SLACK];
            let parts = Parts { shifts: &shifts, ranks: &ranks, fixed: &[], extra, at: 0 };
            merge(level, BF16, &bytes, parts, &mut out);
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
