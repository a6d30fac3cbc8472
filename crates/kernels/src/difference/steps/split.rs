//! Elements to ranks, extra bits and the bits that all have.

use super::{FAR, MAX_EXTRA, Shifts, max_fixed};
use crate::difference::split::{Words, class_of};
use crate::field::Float;
use crate::simd::{GROUP, Simd, kernel};
use crate::strip::array_mut;

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
    /// `out`; returns how many bits it has then. Both are whole groups; `out` has [`SLACK`](super::SLACK), in which
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
    const MASKS: [u8; 16] = [0, 1, 3, 7, 15, 31, 63, 127, 0, 0, 0, 0, 0, 0, 0, 0];
    for (counts, extra) in counts.as_chunks::<GROUP>().0.iter().zip(extra.as_chunks::<GROUP>().0) {
        let mut group = [0; GROUP];
        simd.store(simd.lookup16(&MASKS, simd.load(counts)), &mut group);
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
