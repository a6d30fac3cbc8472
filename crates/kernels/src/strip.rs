//! Bit strips (spec: "Strips"): `n` codes of `w` bits as `w / 8` strips of bytes and then strips of
//! 4, 2 and 1 bits as the bits of `w mod 8` ask for; the first strip has the codes' lowest bits.
//!
//! A strip is cut into groups of 64 codes, the last one filled with zeros, and then padded to 16
//! bytes. In a group of `8 s` bytes of an `s`-bit strip, byte `j` has the codes `j`, `j + 8 s`,
//! `j + 16 s`, ... from its low bits up, so that unpacking is shifts and masks at every SIMD width.
//! A 1-bit strip alone is in plain order, bit `i` of byte `j` is code `8 j + i`: a mask register.
//!
//! Codes that are not packed are byte planes: plane `k` has byte `k` of every code.

use crate::simd::{GROUP, Simd, kernel};

/// Strips start at multiples of this many bytes.
pub const ALIGN: usize = 16;

/// Bytes that one strip of `bits` bits takes for `count` codes.
#[inline(always)]
fn strip_len(count: usize, bits: u32) -> usize {
    (count.div_ceil(GROUP) * 8 * bits as usize).next_multiple_of(ALIGN)
}

/// Bytes that `count` codes of `width` bits take.
#[inline]
pub fn packed_len(count: usize, width: u32) -> usize {
    let bytes = (width / 8) as usize;
    let part = |bits| if width & bits != 0 { strip_len(count, bits) } else { 0 };
    bytes * strip_len(count, 8) + part(4) + part(2) + part(1)
}

/// Bytes of a byte plane for `count` codes: whole groups.
pub const fn plane_len(count: usize) -> usize {
    count.next_multiple_of(GROUP)
}

/// Byte planes of one length, one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// All of them.
    pub bytes: &'a [u8],
    /// The length of one, whole groups.
    pub len: usize,
}

/// Where the strips of packed codes start.
#[derive(Clone, Copy)]
pub(crate) struct Strips {
    width: u32,
    byte_len: usize,
    fours: usize,
    twos: usize,
    ones: usize,
}

impl Strips {
    #[inline(always)]
    pub(crate) fn of(count: usize, width: u32) -> Self {
        let byte_len = strip_len(count, 8);
        let fours = (width / 8) as usize * byte_len;
        let twos = fours + if width & 4 != 0 { strip_len(count, 4) } else { 0 };
        let ones = twos + if width & 2 != 0 { strip_len(count, 2) } else { 0 };
        Self { width, byte_len, fours, twos, ones }
    }

    /// How many whole bytes a code has.
    #[inline(always)]
    pub(crate) fn whole(self) -> usize {
        (self.width / 8) as usize
    }

    /// Byte `k`, a whole one, of the codes of a group.
    #[inline(always)]
    pub(crate) fn byte<S: Simd>(self, simd: S, packed: &[u8], k: usize, group: usize) -> S::Bytes {
        simd.load(array(packed, k * self.byte_len + group * GROUP))
    }

    /// What a group's codes have above their whole bytes.
    #[inline(always)]
    pub(crate) fn rest<S: Simd>(self, simd: S, packed: &[u8], group: usize) -> S::Bytes {
        let (mut rest, mut at) = (simd.splat(0), 0);
        if self.width & 4 != 0 {
            rest = simd.spread4(array(packed, self.fours + group * 32));
            at = 4;
        }
        if self.width & 2 != 0 {
            let two = simd.spread2(array(packed, self.twos + group * 16));
            rest = if at == 0 { two } else { simd.or(rest, simd.shl(two, at)) };
            at += 2;
        }
        if self.width & 1 != 0 {
            let one = simd.spread1(u64::from_le_bytes(*array(packed, self.ones + group * 8)));
            rest = if at == 0 { one } else { simd.or(rest, simd.shl(one, at)) };
        }
        rest
    }

    /// Byte planes of a group's codes with `above`, low and high bytes, on top of them. What has no
    /// place in `N` bytes is dropped.
    #[inline(always)]
    pub(crate) fn below<S: Simd, const N: usize>(
        self,
        simd: S,
        packed: &[u8],
        group: usize,
        above: [S::Bytes; 2],
    ) -> [S::Bytes; N] {
        let mut planes = [simd.splat(0); N];
        for (k, plane) in planes.iter_mut().enumerate().take(self.whole()) {
            *plane = self.byte(simd, packed, k, group);
        }
        let (whole, shift) = (self.whole(), self.width % 8);
        if shift == 0 {
            planes[whole] = above[0];
            if whole + 1 < N {
                planes[whole + 1] = above[1];
            }
        } else {
            let (low, rest) = (simd.splat((1 << shift) - 1), self.rest(simd, packed, group));
            planes[whole] = simd.select(low, rest, simd.shl(above[0], shift));
            if whole + 1 < N {
                let over = simd.shr(above[0], 8 - shift);
                planes[whole + 1] = simd.select(low, over, simd.shl(above[1], shift));
            }
            if whole + 2 < N {
                planes[whole + 2] = simd.and(low, simd.shr(above[1], 8 - shift));
            }
        }
        planes
    }

    /// Packs byte `k`, a whole one, of the codes of a group.
    #[inline(always)]
    pub(crate) fn put_byte<S: Simd>(
        self,
        simd: S,
        byte: S::Bytes,
        k: usize,
        group: usize,
        out: &mut [u8],
    ) {
        simd.store(byte, array_mut(out, k * self.byte_len + group * GROUP));
    }

    /// Packs what a group's codes have above their whole bytes.
    #[inline(always)]
    pub(crate) fn put_rest<S: Simd>(self, simd: S, rest: S::Bytes, group: usize, out: &mut [u8]) {
        let mut at = 0;
        if self.width & 4 != 0 {
            let four = simd.and(rest, simd.splat(15));
            simd.gather4(four, array_mut(out, self.fours + group * 32));
            at = 4;
        }
        if self.width & 2 != 0 {
            let two = simd.and(simd.shr(rest, at), simd.splat(3));
            simd.gather2(two, array_mut(out, self.twos + group * 16));
            at += 2;
        }
        if self.width & 1 != 0 {
            let one = simd.gather1(simd.shr(rest, at));
            *array_mut(out, self.ones + group * 8) = one.to_le_bytes();
        }
    }

    /// Behind the last of so many groups: an odd number of them leaves a strip of ones half a row short.
    #[inline(always)]
    pub(crate) fn end(self, groups: usize, out: &mut [u8]) {
        if self.width & 1 != 0 {
            out[self.ones..][groups * 8..(groups * 8).next_multiple_of(ALIGN)].fill(0);
        }
    }
}

/// The `N` bytes at `at`.
///
/// # Panics
/// If they are not there: lengths are checked before a kernel is called.
#[inline(always)]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    &bytes[at..at + N].as_chunks().0[0]
}

/// The `N` bytes at `at`, to be written.
///
/// # Panics
/// As [`array()`].
#[inline(always)]
pub(crate) fn array_mut<const N: usize>(bytes: &mut [u8], at: usize) -> &mut [u8; N] {
    &mut bytes[at..at + N].as_chunks_mut().0[0]
}

kernel! {
    /// Packs `width` bits from bit `shift` on of `count` codes in byte planes; higher bits must be
    /// zero, also those of codes that fill the last group. `out` has [`packed_len`] bytes.
    ///
    /// # Panics
    /// If `out` or a plane is too short.
    pub fn pack(planes: Planes<'_>, count: usize, shift: u32, width: u32, out: &mut [u8]) = pack_at
}

#[inline(always)]
fn pack_at<S: Simd>(
    simd: S,
    planes: Planes<'_>,
    count: usize,
    shift: u32,
    width: u32,
    out: &mut [u8],
) {
    let (strips, groups) = (Strips::of(count, width), count.div_ceil(GROUP));
    for (k, shift) in (0..strips.whole()).zip((shift..).step_by(8)) {
        let strip = &mut out[k * strips.byte_len..][..strips.byte_len];
        for (group, to) in strip.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            simd.store(shifted(simd, planes, shift, group), to);
        }
    }
    if !width.is_multiple_of(8) {
        for group in 0..groups {
            let rest = shifted(simd, planes, shift + width / 8 * 8, group);
            strips.put_rest(simd, rest, group, out);
        }
        strips.end(groups, out);
    }
}

/// Eight bits from bit `shift` on of a group's codes.
#[inline(always)]
fn shifted<S: Simd>(simd: S, planes: Planes<'_>, shift: u32, group: usize) -> S::Bytes {
    let (at, shift) = ((shift / 8) as usize * planes.len + group * GROUP, shift % 8);
    let low = simd.load(array(planes.bytes, at));
    if shift == 0 {
        return low;
    }
    let above = at + planes.len;
    let high = if above < planes.bytes.len() {
        simd.load(array(planes.bytes, above))
    } else {
        simd.splat(0)
    };
    simd.select(simd.splat(0xFF >> shift), simd.shr(low, shift), simd.shl(high, 8 - shift))
}

kernel! {
    /// Unpacks `count` codes of `width` bits, of which `packed` has [`packed_len`] bytes, to byte
    /// planes of [`plane_len`] bytes each.
    ///
    /// # Panics
    /// If `packed` or `planes` is too short.
    pub fn unpack(packed: &[u8], count: usize, width: u32, planes: &mut [u8]) = unpack_at
}

#[inline(always)]
fn unpack_at<S: Simd>(simd: S, packed: &[u8], count: usize, width: u32, planes: &mut [u8]) {
    let (strips, len) = (Strips::of(count, width), plane_len(count));
    let whole = strips.whole();
    planes[..whole * len].copy_from_slice(&packed[..whole * len]);
    let (rest, zeros) =
        planes[whole * len..].split_at_mut(if width.is_multiple_of(8) { 0 } else { len });
    for (group, to) in rest.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        simd.store(strips.rest(simd, packed, group), to);
    }
    zeros.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};

    /// Byte planes of codes of `width` bits, and the codes.
    fn planes_of(codes: &[u64], bytes: usize) -> Vec<u8> {
        let len = plane_len(codes.len());
        let mut planes = vec![0; bytes * len];
        for (i, code) in codes.iter().enumerate() {
            (0..bytes).for_each(|k| planes[k * len + i] = code.to_le_bytes()[k]);
        }
        planes
    }

    fn any_codes_of_any_width_come_back(level: Level) {
        arbtest::arbtest(|u| {
            let (shift, width): (u32, u32) = (u.int_in_range(0..=20)?, u.int_in_range(0..=44)?);
            let bytes = (shift + width).div_ceil(8).max(1) as usize;
            let codes: Vec<u64> = u.arbitrary()?;
            let codes: Vec<u64> = codes.into_iter().map(|c| c & ((1 << width) - 1)).collect();
            let shifted: Vec<u64> = codes.iter().map(|c| c << shift).collect();
            let bytes = planes_of(&shifted, bytes);
            let planes = Planes { bytes: &bytes, len: plane_len(codes.len()).max(1) };
            let pack_at = |level| {
                let mut out = vec![0xAA; packed_len(codes.len(), width)];
                pack(level, planes, codes.len(), shift, width, &mut out);
                out
            };
            let packed = pack_at(level);
            assert_eq!(packed, pack_at(Level::Scalar));
            let wanted = planes_of(&codes, width.div_ceil(8) as usize);
            let mut back = vec![0x55; wanted.len()];
            unpack(level, &packed, codes.len(), width, &mut back);
            assert_eq!(back, wanted);
            Ok(())
        });
    }

    fn layout_is_as_the_spec_says(level: Level) {
        let one = |at: usize, code: u8, width| {
            let mut codes = [0u8; GROUP];
            codes[at] = code;
            let mut out = vec![0; packed_len(GROUP, width)];
            pack(level, Planes { bytes: &codes, len: GROUP }, GROUP, 0, width, &mut out);
            out
        };
        assert_eq!(one(10, 1, 1)[1], 1 << 2);
        assert_eq!(one(17, 3, 2)[1], 3 << 2);
        assert_eq!(one(33, 9, 4)[1], 9 << 4);
        let three = one(17, 0b110, 3);
        assert_eq!((three.len(), three[1], three[16 + 2]), (32, 0b10 << 2, 1 << 1));
    }

    at_each_level!(any_codes_of_any_width_come_back, layout_is_as_the_spec_says);
}
