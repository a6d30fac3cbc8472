//! A base's floats as floats of another dtype (spec: "Conversion"): integers only.
//!
//! Every conversion goes through F32, which is exact one way. Subnormals of F16 are rare, and left to a second
//! pass, so that the first one has no branches.

use crate::dtype::Dtype;

/// Floats that are converted at a time.
const GROUP: usize = 64;

/// F32: the bits but the sign, the bits of infinity, and the bit that makes a NaN quiet.
const REST: u32 = 0x7FFF_FFFF;
const INFINITY: u32 = 0x7F80_0000;
const QUIET: u32 = 0x0040_0000;

/// What an exponent of F32 has more than one of F16, in place.
const BIAS: u32 = (127 - 15) << 23;

/// F32: half the smallest F16, which rounds to 0, and the smallest one that is not subnormal.
const HALF_SMALLEST: u32 = (127 - 25) << 23;
const NORMAL: u32 = (127 - 14) << 23;

/// Converts floats to those of another dtype, as many as `new` has room for; both are among
/// [`Dtype::CONVERTIBLE`].
pub(super) fn convert(from: Dtype, old: &[u8], to: Dtype, new: &mut [u8]) {
    let mut wide = [0; GROUP];
    let groups = old.chunks(GROUP * from.bytes()).zip(new.chunks_mut(GROUP * to.bytes()));
    for (old, new) in groups {
        let wide = &mut wide[..new.len() / to.bytes()];
        match from {
            Dtype::F16 => widen_f16(old, wide),
            Dtype::Bf16 => load(old, wide, |b| widen_bf16(u16::from_le_bytes(b).into())),
            _ => load(old, wide, u32::from_le_bytes),
        }
        match to {
            Dtype::F16 => narrow_f16(wide, new),
            Dtype::Bf16 => store(wide, new, |w| narrow_bf16(w).to_le_bytes()),
            _ => store(wide, new, u32::to_le_bytes),
        }
    }
}

fn load<const N: usize>(old: &[u8], wide: &mut [u32], each: impl Fn([u8; N]) -> u32) {
    for (wide, old) in wide.iter_mut().zip(old.as_chunks().0) {
        *wide = each(*old);
    }
}

fn store<const N: usize>(wide: &[u32], new: &mut [u8], each: impl Fn(u32) -> [u8; N]) {
    for (wide, new) in wide.iter().zip(new.as_chunks_mut().0) {
        *new = each(*wide);
    }
}

/// The lower 16 bits.
fn low(bits: u32) -> u16 {
    let [a, b, _, _] = bits.to_le_bytes();
    u16::from_le_bytes([a, b])
}

fn widen_bf16(bits: u32) -> u32 {
    let wide = bits << 16;
    if wide & REST > INFINITY { wide | QUIET } else { wide }
}

fn narrow_bf16(wide: u32) -> u16 {
    let rounded = wide.wrapping_add(0x7FFF + (wide >> 16 & 1));
    low(if wide & REST > INFINITY { wide | QUIET } else { rounded } >> 16)
}

fn widen_f16(old: &[u8], wide: &mut [u32]) {
    load(old, wide, |bits| {
        let bits = u32::from(u16::from_le_bytes(bits));
        let (sign, rest) = ((bits & 0x8000) << 16, bits & 0x7FFF);
        let number = if rest < 0x0400 { 0 } else { (rest << 13) + BIAS };
        let beyond = rest << 13 | INFINITY | if rest > 0x7C00 { QUIET } else { 0 };
        sign | if rest < 0x7C00 { number } else { beyond }
    });
    let is_subnormal = |bits: u16| matches!(bits & 0x7FFF, 1..0x0400);
    let bits = || old.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
    if bits().fold(false, |any, bits| any | is_subnormal(bits)) {
        for (wide, bits) in wide.iter_mut().zip(bits()).filter(|(_, bits)| is_subnormal(*bits)) {
            let mantissa = u32::from(bits & 0x03FF);
            // The leading bit has the place of the exponent's lowest.
            let shift = mantissa.leading_zeros() - 8;
            *wide |= ((127 + 23 - 24 - 1 - shift) << 23) + (mantissa << shift);
        }
    }
}

fn narrow_f16(wide: &[u32], new: &mut [u8]) {
    store(wide, new, |wide| {
        let (sign, rest) = (wide >> 16 & 0x8000, wide & REST);
        let rounded = rest.wrapping_sub(BIAS).wrapping_add(0x0FFF + (wide >> 13 & 1)) >> 13;
        let number = if rest < NORMAL { 0 } else { rounded.min(0x7C00) };
        let nan = 0x7E00 | rest >> 13 & 0x03FF;
        low(sign | if rest > INFINITY { nan } else { number }).to_le_bytes()
    });
    let is_subnormal = |wide: u32| wide & REST > HALF_SMALLEST && wide & REST < NORMAL;
    if wide.iter().fold(false, |any, wide| any | is_subnormal(*wide)) {
        let (new, _) = new.as_chunks_mut::<2>();
        for (new, wide) in new.iter_mut().zip(wide).filter(|(_, wide)| is_subnormal(**wide)) {
            let shift = 127 - 1 - (wide >> 23 & 0xFF);
            let mantissa = wide & 0x007F_FFFF | 0x0080_0000;
            let half = (1 << (shift - 1)) - 1 + (mantissa >> shift & 1);
            *new = low(wide >> 16 & 0x8000 | (mantissa + half) >> shift).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    /// Converts `old` in runs of some lengths, one behind another, and compares with `wanted`.
    fn check<A: Copy + std::fmt::LowerHex, const N: usize, const M: usize>(
        [from, to]: [Dtype; 2],
        old: &[A],
        bytes: impl Fn(A) -> [u8; N],
        wanted: impl Fn(A) -> [u8; M],
    ) {
        let old_bytes: Vec<u8> = old.iter().flat_map(|v| bytes(*v)).collect();
        let mut new = vec![0xAA; old.len() * M];
        let (mut at, mut lengths) = (0, [1, 63, 64, 65, 5000].into_iter().cycle());
        while at < old.len() {
            let end = old.len().min(at + lengths.next().unwrap());
            convert(from, &old_bytes[at * N..end * N], to, &mut new[at * M..end * M]);
            at = end;
        }
        for (old, new) in old.iter().zip(new.as_chunks().0) {
            assert_eq!(*new, wanted(*old), "{from:?} {old:x} to {to:?}");
        }
    }

    fn f32_of(bits: u32) -> f32 {
        f32::from_bits(bits)
    }

    #[test]
    fn all_short_floats_are_converted_as_others_do() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let (half, brain) = (|b| f16::from_bits(b).to_f32(), |b| bf16::from_bits(b).to_f32());
        use Dtype::{Bf16, F16, F32};
        check([F16, F32], &all, u16::to_le_bytes, |b| half(b).to_le_bytes());
        check([Bf16, F32], &all, u16::to_le_bytes, |b| brain(b).to_le_bytes());
        check([F16, Bf16], &all, u16::to_le_bytes, |b| bf16::from_f32(half(b)).to_le_bytes());
        check([Bf16, F16], &all, u16::to_le_bytes, |b| f16::from_f32(brain(b)).to_le_bytes());
    }

    #[test]
    fn long_floats_are_rounded_as_others_do() {
        let mut all = Vec::new();
        // Every exponent, next to where rounding, and both sides of it, change.
        for top in 0..1 << 12 {
            for low in [0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xF_FFFF] {
                all.extend([top << 20 | low, top << 20 | low << 4, top << 20 | 0x8_0000 | low]);
            }
        }
        let mut state = 1u64;
        all.extend((0..2_000_000).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as u32
        }));
        // What F16 has no exponent for is most of them: more near its smallest and largest.
        let near: Vec<u32> = all.iter().map(|b| b & 0x87FF_FFFF | 0x3000_0000).collect();
        for all in [all, near] {
            use Dtype::{Bf16, F16, F32};
            let bytes = u32::to_le_bytes;
            check([F32, F16], &all, bytes, |b| f16::from_f32(f32_of(b)).to_le_bytes());
            check([F32, Bf16], &all, bytes, |b| bf16::from_f32(f32_of(b)).to_le_bytes());
        }
    }

    #[test]
    fn the_specs_examples_hold() {
        let convert = |from, old: &[u8], to| {
            let mut new = [0; 4];
            convert(from, old, to, &mut new[..to.bytes()]);
            u32::from_le_bytes(new)
        };
        use Dtype::{Bf16, F16, F32};
        let from_f32 = |bits: u32, to| convert(F32, &bits.to_le_bytes(), to);
        assert_eq!(from_f32(0x3F80_8000, Bf16), 0x3F80);
        assert_eq!(from_f32(0x3F81_8000, Bf16), 0x3F82);
        assert_eq!(from_f32(0x7F7F_FFFF, Bf16), 0x7F80);
        assert_eq!(from_f32(0xFF80_0001, F16), 0xFE00);
        assert_eq!(from_f32(0x3300_0001, F16), 0x0001);
        assert_eq!(convert(F16, &[1, 0], F32), 0x3380_0000);
    }
}
