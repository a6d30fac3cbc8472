//! The arithmetic of floats on a grid, for each format.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    reason = "small constants, and bytes and words of lanes"
)]

use super::{FAR, Grid};
use crate::simd::{GROUP, Simd, deinterleave, interleave};
use crate::strip::{Strips, array, array_mut};

/// A number as the float of a lane's size, without bits below its mantissa; `steps` has no sign.
///
/// Such a conversion is exact, however floats are rounded: what is left of the number fits the
/// mantissa. It is one instruction at each level, where finding a number's highest bit is many.
#[inline(always)]
pub(super) fn as_f32(steps: u32) -> u32 {
    let over = steps >> 24;
    let over = over | over >> 1;
    let over = over | over >> 2;
    let dropped = over | over >> 4;
    #[allow(clippy::cast_precision_loss, reason = "it has 24 bits")]
    let float = (steps & !dropped).cast_signed() as f32;
    float.to_bits()
}

/// The same, where there may be no such instruction.
#[inline(always)]
pub(super) fn as_f64(steps: u64) -> u64 {
    let zeros = u64::from(steps.leading_zeros());
    let mantissa = (steps << (zeros & 63) << 1) >> 12;
    let exponent = (1023 + 63) - zeros;
    if steps == 0 { 0 } else { exponent << 52 | mantissa }
}

/// A module for floats of one format: `$word` as it is stored, in lanes of `$lane`, whose own float
/// has `$wide` mantissa bits.
macro_rules! format {
    ($name:ident, $word:ident, $lane:ident, $signed:ident, $mantissa:literal, $convert:ident, $wide:literal) => {
        pub(super) mod $name {
            use super::{
                FAR, GROUP, Grid, Simd, Strips, array, array_mut, deinterleave, interleave,
            };

            const MANTISSA: u32 = $mantissa;
            const SIZE: usize = size_of::<$word>();
            const LANE: usize = size_of::<$lane>();
            const SIGN: $lane = 1 << ($word::BITS - 1);
            const INFINITE: $lane = SIGN - (1 << MANTISSA);
            /// The biased exponent of 1.
            const BIAS: i32 = (1 << ($word::BITS - 2 - MANTISSA)) - 1;
            /// How far a mantissa may be raised: a step has two bits more than what it is from zero.
            const MOST_RAISED: $signed = ($lane::BITS as $signed) - 3 - MANTISSA as $signed;
            /// The biased exponent of 1 in a lane's own float.
            const WIDE_BIAS: i32 = (1 << ($lane::BITS - 2 - $wide)) - 1;
            const EMPTY: [u8; GROUP * SIZE] = [0; GROUP * SIZE];

            /// The biased exponent of numbers whose last bit is a step.
            #[inline(always)]
            fn unit(power: i32) -> $signed {
                $signed::from(power + BIAS) + MANTISSA as $signed
            }

            /// A number's mantissa with the bit above it, and the exponent that it would have as a normal one.
            #[inline(always)]
            fn parts(bits: $lane) -> ($lane, $signed) {
                let exponent = bits >> MANTISSA;
                let number = bits & ((1 << MANTISSA) - 1) | exponent.min(1) << MANTISSA;
                (number, exponent.max(1).cast_signed())
            }

            /// All bits of a lane if a number is below zero.
            #[inline(always)]
            fn minus(word: $lane) -> $lane {
                (word >> ($word::BITS - 1)).wrapping_neg()
            }

            /// Where a number is on the grid's line: those with a sign are behind one another from -1 down.
            /// False if it is nowhere.
            #[inline(always)]
            fn exact(unit: $signed, word: $lane) -> ($signed, bool) {
                // From a lane's highest bits down to where its last bit is a step.
                const SPACE: $signed = $lane::BITS as $signed - 1 - MANTISSA as $signed;
                let bits = word & !SIGN;
                let (number, exponent) = parts(bits);
                let number = number << SPACE;
                let down = (SPACE + unit - exponent).cast_unsigned() & ($lane::BITS as $lane - 1);
                let steps = number >> down;
                let least = unit - MANTISSA as $signed;
                let most = (unit + MOST_RAISED).min(2 * $signed::from(BIAS));
                let above = exponent.wrapping_sub(least).cast_unsigned();
                let reached = (above <= (most - least).cast_unsigned()) | (bits == 0);
                ((steps ^ minus(word)).cast_signed(), reached & (steps << down == number))
            }

            /// The place nearest to a number, the even one if two are as near; that of zero if it is too far away.
            #[inline(always)]
            fn nearest(unit: $signed, word: $lane) -> $signed {
                let bits = word & !SIGN;
                let (number, exponent) = parts(bits);
                let above = exponent - unit;
                let dropped = (-above).clamp(0, MANTISSA as $signed + 2).cast_unsigned();
                let raised = above.clamp(0, MOST_RAISED).cast_unsigned();
                let odd = number >> dropped & $lane::from(dropped > 0);
                let rounded = (number + (((1 << dropped) - 1) >> 1) + odd) >> dropped << raised;
                let near = bits < INFINITE && above <= MOST_RAISED;
                let steps = if near { rounded } else { 0 };
                (steps ^ minus(word)).cast_signed()
            }

            /// The number at a place on the line; bits below its mantissa are dropped.
            #[inline(always)]
            fn number(power: i32, place: $signed) -> $lane {
                let minus = place >> ($lane::BITS - 1);
                let steps = (place ^ minus).cast_unsigned();
                let float = super::$convert(steps);
                let by = $signed::from(power + BIAS - WIDE_BIAS);
                let exponent = (float >> $wide).cast_signed() + by;
                let normal =
                    (float >> ($wide - MANTISSA)).wrapping_add((by << MANTISSA).cast_unsigned());
                let subnormal = steps << (unit(power) - 1).clamp(0, $lane::BITS as $signed - 1);
                let bits = if exponent > 0 { normal } else { subnormal };
                let bits = if steps == 0 { 0 } else { bits };
                bits & !SIGN | minus.cast_unsigned() & SIGN
            }

            #[inline(always)]
            fn word(bytes: &[u8; SIZE]) -> $lane {
                $word::from_le_bytes(*bytes).into()
            }

            /// The elements of group `i`; `filled` is for a last one that isn't full, with zeros behind.
            #[inline(always)]
            fn group<'a>(
                elements: &'a [u8],
                i: usize,
                filled: &'a mut [u8; GROUP * SIZE],
            ) -> &'a [[u8; SIZE]] {
                let elements = &elements[i * GROUP * SIZE..];
                let whole = match elements.first_chunk() {
                    Some(whole) => whole,
                    None => {
                        *filled = EMPTY;
                        filled[..elements.len()].copy_from_slice(elements);
                        filled
                    }
                };
                whole.as_chunks().0
            }

            /// The places of group `i` of a base; if there is none, they stay.
            #[inline(always)]
            fn put_places(unit: $signed, base: &[u8], i: usize, places: &mut [$signed; GROUP]) {
                if !base.is_empty() {
                    let mut filled = EMPTY;
                    let words = group(base, i, &mut filled).iter().map(word);
                    places.iter_mut().zip(words).for_each(|(to, x)| *to = nearest(unit, x));
                }
            }

            #[inline(always)]
            pub(in crate::grid) fn split<S: Simd>(
                simd: S,
                grid: Grid,
                base: &[u8],
                elements: &[u8],
                symbols: &mut [u8],
                packed: &mut [u8],
            ) -> usize {
                let Grid { power, low } = grid;
                let (unit, count) = (unit(power), elements.len() / SIZE);
                let (strips, groups) = (Strips::of(count, low), count.div_ceil(GROUP));
                assert!(base.is_empty() || base.len() == elements.len());
                let (whole, shift) = ((low / 8) as usize, low % 8);
                let (ones, none) = (simd.splat(u8::MAX >> shift), simd.splat(0));
                let (mut far, mut zeros) = (0, [0; GROUP]);
                let (mut steps, mut filled) = ([[0; LANE]; GROUP], EMPTY);
                for i in 0..groups {
                    put_places(unit, base, i, &mut zeros);
                    let words = group(elements, i, &mut filled).iter().map(word);
                    for ((x, zero), step) in words.zip(&zeros).zip(&mut steps) {
                        let (place, near) = exact(unit, x);
                        let from = place.wrapping_sub(*zero);
                        let zigzag = (from << 1 ^ from >> ($lane::BITS - 1)).cast_unsigned();
                        // The largest one is far, however many low bits there are.
                        *step = (if near { zigzag } else { $lane::MAX }).to_le_bytes();
                    }
                    let steps = steps.as_flattened();
                    let loaded = std::array::from_fn(|k| simd.load(array(steps, k * GROUP)));
                    let bytes = deinterleave::<S, LANE>(simd, loaded);
                    let byte = |k: usize| if k < LANE { bytes[k] } else { none };
                    for k in 0..whole {
                        strips.put_byte(simd, byte(k), k, i, packed);
                    }
                    strips.put_rest(simd, byte(whole), i, packed);
                    let high = byte(whole + 1);
                    let low = simd.shr(byte(whole), shift);
                    let symbol = simd.select(ones, low, simd.shl(high, 8 - shift));
                    // What is above a symbol makes its element far.
                    let mut above = simd.and(ones, simd.shr(high, shift));
                    for k in whole + 2..LANE {
                        above = simd.or(above, byte(k));
                    }
                    let is_far = simd.sub(none, simd.min(above, simd.splat(1)));
                    let symbol = simd.or(symbol, is_far);
                    simd.store(symbol, array_mut(symbols, i * GROUP));
                    let is_far = simd.eq(symbol, simd.splat(FAR));
                    far += simd.bits(is_far).count_ones() as usize;
                }
                strips.end(groups, packed);
                far
            }

            #[inline(always)]
            pub(in crate::grid) fn merge<S: Simd>(
                simd: S,
                grid: Grid,
                base: &[u8],
                symbols: &[u8],
                packed: &[u8],
                out: &mut [u8],
            ) {
                let Grid { power, low } = grid;
                let (unit, strips) = (unit(power), Strips::of(out.len() / SIZE, low));
                assert!(base.is_empty() || base.len() == out.len());
                let (mut steps, mut zeros) = ([[0; GROUP]; LANE], [0; GROUP]);
                for (i, out) in out.chunks_mut(GROUP * SIZE).enumerate() {
                    let above = [simd.load(array(symbols, i * GROUP)), simd.splat(0)];
                    let bytes = interleave::<S, LANE>(simd, strips.below(simd, packed, i, above));
                    steps.iter_mut().zip(bytes).for_each(|(to, bytes)| simd.store(bytes, to));
                    put_places(unit, base, i, &mut zeros);
                    let steps = steps.as_flattened().as_chunks().0.iter();
                    // A last group that isn't full takes as many as it has.
                    let to = out.as_chunks_mut::<SIZE>().0.iter_mut();
                    for ((to, zero), step) in to.zip(&zeros).zip(steps) {
                        let step = $lane::from_le_bytes(*step);
                        let from = (step >> 1 ^ (step & 1).wrapping_neg()).cast_signed();
                        let word = number(power, zero.wrapping_add(from)) as $word;
                        *to = word.to_le_bytes();
                    }
                }
            }

            #[inline(always)]
            pub(in crate::grid) fn finest(elements: &[u8]) -> Option<i32> {
                let mut finest = [$signed::MAX; 16];
                let mut lane = |(to, x): (&mut $signed, &[u8; SIZE])| {
                    let bits = word(x) & !SIGN;
                    let (number, exponent) = parts(bits);
                    let last = exponent + number.trailing_zeros() as $signed;
                    let counts = bits < INFINITE && bits > 0;
                    *to = if counts { last.min(*to) } else { *to };
                };
                let (whole, rest) = elements.as_chunks::<{ 16 * SIZE }>();
                whole
                    .iter()
                    .for_each(|x| finest.iter_mut().zip(x.as_chunks().0).for_each(&mut lane));
                finest.iter_mut().zip(rest.as_chunks().0).for_each(&mut lane);
                let least = finest.into_iter().fold($signed::MAX, $signed::min);
                (least < $signed::MAX).then(|| least as i32 - BIAS - MANTISSA as i32)
            }
        }
    };
}

format!(f16, u16, u32, i32, 10, as_f32, 23);
format!(bf16, u16, u32, i32, 7, as_f32, 23);
format!(f32, u32, u32, i32, 23, as_f32, 23);
format!(f64, u64, u64, i64, 52, as_f64, 52);
