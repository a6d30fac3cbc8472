//! Floats that are multiples of a power of two, as integers (spec: "Fixed"): how many steps of the grid
//! they are from zero, or from a base.
//!
//! Plain loops over integers, that the compiler makes the most of at each level.

use crate::field::Float;
use crate::simd::{GROUP, Simd, deinterleave, interleave, kernel};
use crate::strip::{Strips, array, array_mut};

/// The symbol of an element that has none: it is off the grid, or too far away.
pub const FAR: u8 = u8::MAX;

/// How elements are taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The exponent of the power of two that elements are multiples of: one of [`powers`].
    pub power: i32,
    /// How many low bits of a step are not in its symbol: at most [`most_low`].
    pub low: u32,
}

/// The powers that a grid may have: no multiple is between the numbers of the format.
pub fn powers(float: Float) -> std::ops::RangeInclusive<i32> {
    let bias = (1 << (float.exponent_bits - 1)) - 1;
    1 - bias - float.mantissa_bits().cast_signed()..=bias
}

/// The most low bits that a step may have.
pub fn most_low(float: Float) -> u32 {
    if float.bytes == 8 { 63 } else { 31 }
}

/// So many low bits that a symbol has all that is above: more are of no use.
pub fn enough_low(float: Float) -> u32 {
    most_low(float) + 1 - u8::BITS
}

kernel! {
    /// Takes elements apart: symbols in whole groups, the last of which is filled with zeros, and strips of the low bits.
    /// Steps are counted from the elements of `base`, or from zero if it is empty. Returns how many are [`FAR`].
    ///
    /// # Panics
    /// If the floats are none that [`round::takes`](crate::round::takes), the grid is impossible or has more low bits than
    /// are [enough](enough_low), or something has another length than the elements ask for.
    pub fn split(
        float: Float,
        grid: Grid,
        base: &[u8],
        elements: &[u8],
        symbols: &mut [u8],
        packed: &mut [u8],
    ) -> usize = split_at
}

#[inline(always)]
fn split_at<S: Simd>(
    simd: S,
    float: Float,
    grid: Grid,
    base: &[u8],
    elements: &[u8],
    symbols: &mut [u8],
    packed: &mut [u8],
) -> usize {
    check(float, grid, enough_low(float));
    match (float.bytes, float.exponent_bits) {
        (2, 5) => f16::split(simd, grid, base, elements, symbols, packed),
        (2, _) => bf16::split(simd, grid, base, elements, symbols, packed),
        (4, _) => f32::split(simd, grid, base, elements, symbols, packed),
        _ => f64::split(simd, grid, base, elements, symbols, packed),
    }
}

kernel! {
    /// Puts elements together again, as many as `out` has, from symbols in whole groups and the strips of the low bits;
    /// [`FAR`] gives one that means nothing.
    ///
    /// # Panics
    /// As [`split()`], but there may be [more](most_low) low bits.
    pub fn merge(
        float: Float,
        grid: Grid,
        base: &[u8],
        symbols: &[u8],
        packed: &[u8],
        out: &mut [u8],
    ) = merge_at
}

#[inline(always)]
fn merge_at<S: Simd>(
    simd: S,
    float: Float,
    grid: Grid,
    base: &[u8],
    symbols: &[u8],
    packed: &[u8],
    out: &mut [u8],
) {
    check(float, grid, most_low(float));
    match (float.bytes, float.exponent_bits) {
        (2, 5) => f16::merge(simd, grid, base, symbols, packed, out),
        (2, _) => bf16::merge(simd, grid, base, symbols, packed, out),
        (4, _) => f32::merge(simd, grid, base, symbols, packed, out),
        _ => f64::merge(simd, grid, base, symbols, packed, out),
    }
}

kernel! {
    /// The largest power of two that all elements but those that are zero or not finite are multiples of; `None` if there
    /// are no others.
    ///
    /// # Panics
    /// If the floats are none that [`round::takes`](crate::round::takes).
    pub fn finest(float: Float, elements: &[u8]) -> Option<i32> = finest_at
}

#[inline(always)]
fn finest_at<S: Simd>(_: S, float: Float, elements: &[u8]) -> Option<i32> {
    assert!(crate::round::takes(float));
    match (float.bytes, float.exponent_bits) {
        (2, 5) => f16::finest(elements),
        (2, _) => bf16::finest(elements),
        (4, _) => f32::finest(elements),
        _ => f64::finest(elements),
    }
}

#[inline(always)]
fn check(float: Float, grid: Grid, most_low: u32) {
    assert!(crate::round::takes(float) && powers(float).contains(&grid.power));
    assert!(grid.low <= most_low);
}

/// A number as the float of a lane's size, without bits below its mantissa; `steps` has no sign.
///
/// Such a conversion is exact, however floats are rounded: what is left of the number fits the
/// mantissa. It is one instruction at each level, where finding a number's highest bit is many.
#[inline(always)]
fn as_f32(steps: u32) -> u32 {
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
fn as_f64(steps: u64) -> u64 {
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

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    reason = "small constants, and bytes and words of lanes"
)]
mod formats {
    use super::{
        FAR, GROUP, Grid, Simd, Strips, array, array_mut, as_f32, as_f64, deinterleave, interleave,
    };

    format!(f16, u16, u32, i32, 10, as_f32, 23);
    format!(bf16, u16, u32, i32, 7, as_f32, 23);
    format!(f32, u32, u32, i32, 23, as_f32, 23);
    format!(f64, u64, u64, i64, 52, as_f64, 52);
}
use formats::{bf16, f16, f32, f64};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};
    use crate::round::{Step, round};
    use crate::strip::packed_len;

    const FORMATS: [(usize, u32); 4] = [(2, 5), (2, 8), (4, 8), (8, 11)];

    fn float((bytes, exponent_bits): (usize, u32)) -> Float {
        Float { bytes, exponent_bits, top_bits: 0, big_endian: false }
    }

    /// Takes apart and puts together again, at this level and without SIMD.
    fn check(level: Level, float: Float, grid: Grid, base: &[u8], data: &[u8]) -> usize {
        let count = data.len() / float.bytes;
        let parts = |level| {
            let mut symbols = vec![0x55; count.next_multiple_of(GROUP)];
            let mut packed = vec![0x55; packed_len(count, grid.low)];
            let far = split(level, float, grid, base, data, &mut symbols, &mut packed);
            (symbols, packed, far)
        };
        let (symbols, packed, far) = parts(level);
        let scalar = parts(Level::Scalar);
        assert!(symbols == scalar.0 && packed == scalar.1 && far == scalar.2);
        let mut out = vec![0x55; data.len()];
        merge(level, float, grid, base, &symbols, &packed, &mut out);
        let elements = data.chunks(float.bytes).zip(out.chunks(float.bytes));
        for ((old, new), symbol) in elements.zip(&symbols) {
            assert!(*symbol == FAR || old == new, "{float:?} {grid:?}: {old:?} became {new:?}");
        }
        assert_eq!(symbols.iter().filter(|symbol| **symbol == FAR).count(), far);
        far
    }

    fn what_is_on_the_grid_comes_back(level: Level) {
        arbtest::arbtest(|u| {
            let float = float(*u.choose(&FORMATS)?);
            let count = u.int_in_range(1..=300)?;
            let mut bytes = || {
                let mut data = vec![0; count * float.bytes];
                u.fill_buffer(&mut data)?;
                // Numbers of a size, mostly.
                let near = u.int_in_range(-12..=12)? + if float.bytes == 8 { 0x3FE } else { 0x7E };
                if float.exponent_bits > 5 {
                    for (i, x) in
                        data.chunks_exact_mut(float.bytes).enumerate().filter(|(i, _)| i % 9 > 0)
                    {
                        let exponent = near + (i % 7) as i32;
                        let top =
                            exponent << (15 - float.exponent_bits) | i32::from(x[0] & 1) << 15;
                        x[float.bytes - 2] = top.to_le_bytes()[0] | x[0] & 0xF;
                        x[float.bytes - 1] = top.to_le_bytes()[1];
                    }
                }
                Ok::<_, arbtest::arbitrary::Error>(data)
            };
            let (mut data, base) = (bytes()?, bytes()?);
            let powers = powers(float);
            let power = match u.arbitrary()? {
                true => u.int_in_range(-30..=12)?.clamp(*powers.start(), *powers.end()),
                false => u.int_in_range(powers)?,
            };
            let grid = Grid { power, low: u.int_in_range(0..=enough_low(float))? };
            round(Level::Scalar, float, Step::Absolute(power), &mut data);
            let base = if u.arbitrary()? { &base[..] } else { &[] };
            check(level, float, grid, base, &data);
            assert_eq!(finest(level, float, &data), finest(Level::Scalar, float, &data));
            assert!(
                finest(level, float, &data)
                    .is_none_or(|finest| finest >= power || has_large(float, &data))
            );
            Ok(())
        });
    }

    /// Whether there is a number that rounding may have left as it was.
    fn has_large(float: Float, data: &[u8]) -> bool {
        let last = (1 << float.exponent_bits) - 2;
        (0..data.len() / float.bytes).any(|i| float.exponent(data, i) >= last)
    }

    fn every_f16_and_bf16_comes_back(level: Level) {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for format in [(2, 5), (2, 8)] {
            let float = float(format);
            for power in (-24..=6).step_by(3) {
                let (mut data, low) = (all.clone(), 24);
                round(level, float, Step::Absolute(power), &mut data);
                let far = check(level, float, Grid { power, low }, &[], &data);
                let value = |bits: [u8; 2]| match format.1 {
                    5 => half::f16::from_le_bytes(bits).to_f64(),
                    _ => half::bf16::from_le_bytes(bits).to_f64(),
                };
                // What would have become infinite was not rounded.
                let (step, limit) = (2f64.powi(power), 2f64.powi(30 + power));
                let values = data.as_chunks().0.iter().map(|bits| value(*bits));
                assert_eq!(
                    far,
                    values.filter(|x| x.is_nan() || x.abs() >= limit || x % step != 0.0).count()
                );
            }
        }
    }

    /// As the spec has it: whatever symbols and strips say, each level makes the same of it.
    fn any_parts_give_the_same_elements(level: Level) {
        arbtest::arbtest(|u| {
            let float = float(*u.choose(&FORMATS)?);
            let count = u.int_in_range(1usize..=300)?;
            let low = u.int_in_range(0..=most_low(float))?;
            let grid = Grid { power: u.int_in_range(powers(float))?, low };
            let mut symbols = vec![0; count.next_multiple_of(GROUP)];
            let mut packed = vec![0; packed_len(count, low)];
            let mut base = vec![0; count * float.bytes];
            u.fill_buffer(&mut symbols)?;
            u.fill_buffer(&mut packed)?;
            u.fill_buffer(&mut base)?;
            let base = if u.arbitrary()? { &base[..] } else { &[] };
            let merged = |level| {
                let mut out = vec![0x55; count * float.bytes];
                merge(level, float, grid, base, &symbols, &packed, &mut out);
                out
            };
            assert!(merged(level) == merged(Level::Scalar));
            Ok(())
        });
    }

    at_each_level!(
        what_is_on_the_grid_comes_back,
        every_f16_and_bf16_comes_back,
        any_parts_give_the_same_elements,
    );

    #[test]
    fn floats_of_integers_are_found_without_rounding() {
        let found = |steps: u32| {
            let top = steps.checked_ilog2().unwrap_or(0);
            let mantissa = (steps << (31 - top) << 1) >> 9;
            if steps == 0 { 0 } else { (127 + top) << 23 | mantissa }
        };
        // All that a float holds, and of each larger size some with all bits set or few.
        let large = (24..31).flat_map(|top| {
            (0..=24).flat_map(move |bit| [1u32 << top | 1 << bit, (2u32 << top) - 1 - (1 << bit)])
        });
        for steps in (0..1 << 24).chain(large).chain([i32::MAX.cast_unsigned()]) {
            assert_eq!(as_f32(steps), found(steps), "{steps}");
        }
        for steps in [0, 1, 2, 3, 5 << 40, (1 << 53) - 1, 1 << 62] {
            assert_eq!(as_f64(steps), (steps as f64).to_bits());
        }
        assert_eq!(as_f64((1 << 54) - 1), (((1u64 << 53) - 1) as f64 * 2.0).to_bits());
    }

    #[test]
    fn places_are_as_the_spec_says() {
        let floats = [0.0f32, -0.0, 0.25, -0.25, 0.5, 0.75, 1e9, f32::NAN];
        let data: Vec<u8> = floats.into_iter().flat_map(f32::to_le_bytes).collect();
        let (mut symbols, grid) = ([9; GROUP], Grid { power: -2, low: 0 });
        let far = split(Level::Scalar, float((4, 8)), grid, &[], &data, &mut symbols, &mut []);
        assert_eq!((&symbols[..10], far), (&[0, 1, 2, 3, 4, 6, FAR, FAR, 0, 0][..], 2));
        assert_eq!(finest(Level::Scalar, float((4, 8)), &data), Some(-2));
    }
}
