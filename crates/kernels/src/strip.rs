//! Bit strips (spec: "Strips"): `n` codes of `w` bits as `w / 8` strips of bytes and then strips of
//! 4, 2 and 1 bits as the bits of `w mod 8` ask for; the first strip has the codes' lowest bits.
//!
//! A strip is cut into groups of 64 codes, the last one filled with zeros, and then padded to 16
//! bytes. In a group of `8 s` bytes of an `s`-bit strip, byte `j` has the codes `j`, `j + 8 s`,
//! `j + 16 s`, ... from its low bits up, so that unpacking is shifts and masks at every SIMD width.
//! A 1-bit strip alone is in plain order, bit `i` of byte `j` is code `8 j + i`: a mask register.

use crate::Word;

/// Codes per group.
pub const GROUP: usize = 64;

/// Strips start at multiples of this many bytes.
pub const ALIGN: usize = 16;

/// The strips of codes of `width` bits: their widths, in order.
fn strips(width: u32) -> impl Iterator<Item = u32> {
    let bytes = (width / 8) as usize;
    std::iter::repeat_n(8, bytes).chain([4, 2, 1].into_iter().filter(move |s| width & s != 0))
}

/// Bytes that one strip of `strip` bits takes for `count` codes.
fn strip_len(count: usize, strip: u32) -> usize {
    (count.div_ceil(GROUP) * 8 * strip as usize).next_multiple_of(ALIGN)
}

/// Bytes that `count` codes of `width` bits take.
pub fn packed_len(count: usize, width: u32) -> usize {
    strips(width).map(|s| strip_len(count, s)).sum()
}

/// Packs `codes`, of which only the low `width` bits may be set, behind `out`.
pub fn pack<T: Word>(codes: &[T], width: u32, out: &mut Vec<u8>) {
    let mut shift = 0;
    for strip in strips(width) {
        let start = out.len();
        out.resize(start + strip_len(codes.len(), strip), 0);
        let groups = out[start..].chunks_exact_mut(8 * strip as usize);
        for (group, codes) in groups.zip(codes.chunks(GROUP)) {
            pack_group(&low_bytes(codes, shift), strip, group);
        }
        shift += strip;
    }
}

/// The eight bits from `shift` on of up to 64 codes; zeros behind them.
#[inline(always)]
fn low_bytes<T: Word>(codes: &[T], shift: u32) -> [u8; GROUP] {
    let mut bytes = [0; GROUP];
    for (byte, &code) in bytes.iter_mut().zip(codes) {
        *byte = (code >> shift).low_byte();
    }
    bytes
}

/// Fills a group that is all zeros; higher bits of `codes` than the strip has are ignored.
#[inline(always)]
fn pack_group(codes: &[u8; GROUP], strip: u32, out: &mut [u8]) {
    match strip {
        8 => out.copy_from_slice(codes),
        4 => pack_parts::<4>(codes, out),
        2 => pack_parts::<2>(codes, out),
        _ => {
            for (out, codes) in out.iter_mut().zip(codes.chunks_exact(8)) {
                // The multiplication gathers the low bits of eight bytes in the top one.
                let bits = u64::load_le(codes) & 0x0101_0101_0101_0101;
                *out = bits.wrapping_mul(0x0102_0408_1020_4080).to_be_bytes()[0];
            }
        }
    }
}

#[inline(always)]
fn pack_parts<const STRIP: usize>(codes: &[u8; GROUP], out: &mut [u8]) {
    for (i, part) in codes.chunks_exact(8 * STRIP).enumerate() {
        for (out, code) in out.iter_mut().zip(part) {
            *out |= (code & ((1 << STRIP) - 1)) << (STRIP * i);
        }
    }
}

/// Unpacks `codes.len()` codes of `width` bits from `packed`, which [`packed_len`] measures.
///
/// # Panics
/// If `packed` is shorter than that.
pub fn unpack<T: Word>(packed: &[u8], width: u32, codes: &mut [T]) {
    let (mut rest, mut shift) = (packed, 0);
    if width == 0 {
        codes.fill(T::default());
    }
    for strip in strips(width) {
        let (this, behind) = rest.split_at(strip_len(codes.len(), strip));
        for (group, codes) in this.chunks_exact(8 * strip as usize).zip(codes.chunks_mut(GROUP)) {
            let bytes = unpack_group(group, strip);
            if shift == 0 {
                codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = T::from(byte));
            } else {
                codes
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(code, byte)| *code |= T::from(byte) << shift);
            }
        }
        rest = behind;
        shift += strip;
    }
}

#[inline(always)]
fn unpack_group(group: &[u8], strip: u32) -> [u8; GROUP] {
    let mut codes = [0; GROUP];
    match strip {
        8 => codes.copy_from_slice(group),
        4 => unpack_parts::<4>(group, &mut codes),
        2 => unpack_parts::<2>(group, &mut codes),
        _ => {
            for (codes, &byte) in codes.chunks_exact_mut(8).zip(group) {
                // Eight copies of the byte, of which each keeps its own bit.
                let bits =
                    u64::from(byte).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
                let ones = bits.wrapping_add(0x7F7F_7F7F_7F7F_7F7F) >> 7 & 0x0101_0101_0101_0101;
                ones.store_le(codes);
            }
        }
    }
    codes
}

#[inline(always)]
fn unpack_parts<const STRIP: usize>(group: &[u8], codes: &mut [u8; GROUP]) {
    for (i, part) in codes.chunks_exact_mut(8 * STRIP).enumerate() {
        for (code, byte) in part.iter_mut().zip(group) {
            *code = byte >> (STRIP * i) & ((1 << STRIP) - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Word + std::fmt::Debug>(codes: &[T], width: u32) {
        let mut packed = vec![7];
        pack(codes, width, &mut packed);
        assert_eq!(packed.len() - 1, packed_len(codes.len(), width));
        let mut back = vec![T::ones(T::BITS); codes.len()];
        unpack(&packed[1..], width, &mut back);
        assert_eq!(back, codes);
    }

    #[test]
    fn any_codes_of_any_width_come_back() {
        arbtest::arbtest(|u| {
            let width = u.int_in_range(0..=64)?;
            let codes: Vec<u64> = u.arbitrary()?;
            let codes: Vec<u64> = codes.into_iter().map(|c| c & u64::ones(width)).collect();
            round_trip(&codes, width);
            if width <= 8 {
                round_trip(&codes.iter().map(|c| c.low_byte()).collect::<Vec<_>>(), width);
            }
            Ok(())
        });
    }

    #[test]
    fn layout_is_as_the_spec_says() {
        let one = |at: usize, code: u8, width| {
            let mut codes = [0u8; GROUP];
            codes[at] = code;
            let mut out = Vec::new();
            pack(&codes, width, &mut out);
            out
        };
        assert_eq!(one(10, 1, 1)[1], 1 << 2);
        assert_eq!(one(17, 3, 2)[1], 3 << 2);
        assert_eq!(one(33, 9, 4)[1], 9 << 4);
        let three = one(17, 0b110, 3);
        assert_eq!((three.len(), three[1], three[16 + 2]), (32, 0b10 << 2, 1 << 1));
    }
}
