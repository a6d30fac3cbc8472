//! Floats that are multiples of a power of two, as integers (spec: "Fixed"): how many steps of the grid
//! they are from zero, or from a base.
//!
//! Plain loops over integers, that the compiler makes the most of at each level.

use crate::field::Float;
use crate::simd::{GROUP, Simd, kernel};
use crate::strip::{array, array_mut};

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

kernel! {
    /// Takes elements apart: symbols, and byte planes of the low bits, `plane` bytes each. They are counted from those of
    /// `base`, or from zero if it is empty. Returns how many are [`FAR`].
    ///
    /// # Panics
    /// If the floats are none that [`round::takes`](crate::round::takes), the grid is impossible, or something is shorter
    /// than the elements.
    pub fn split(
        float: Float,
        grid: Grid,
        base: &[u8],
        elements: &[u8],
        symbols: &mut [u8],
        planes: &mut [u8],
        plane: usize,
    ) -> usize = split_at
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "as its kernel")]
fn split_at<S: Simd>(
    _: S,
    float: Float,
    grid: Grid,
    base: &[u8],
    elements: &[u8],
    symbols: &mut [u8],
    planes: &mut [u8],
    plane: usize,
) -> usize {
    check(float, grid);
    match (float.bytes, float.exponent_bits) {
        (2, 5) => f16::split(grid, base, elements, symbols, planes, plane),
        (2, _) => bf16::split(grid, base, elements, symbols, planes, plane),
        (4, _) => f32::split(grid, base, elements, symbols, planes, plane),
        _ => f64::split(grid, base, elements, symbols, planes, plane),
    }
}

kernel! {
    /// Puts elements together again, as many as `out` has; [`FAR`] gives one that means nothing. Symbols and
    /// planes are whole groups.
    ///
    /// # Panics
    /// As [`split()`].
    pub fn merge(
        float: Float,
        grid: Grid,
        base: &[u8],
        symbols: &[u8],
        planes: &[u8],
        plane: usize,
        out: &mut [u8],
    ) = merge_at
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "as its kernel")]
fn merge_at<S: Simd>(
    _: S,
    float: Float,
    grid: Grid,
    base: &[u8],
    symbols: &[u8],
    planes: &[u8],
    plane: usize,
    out: &mut [u8],
) {
    check(float, grid);
    match (float.bytes, float.exponent_bits) {
        (2, 5) => f16::merge(grid, base, symbols, planes, plane, out),
        (2, _) => bf16::merge(grid, base, symbols, planes, plane, out),
        (4, _) => f32::merge(grid, base, symbols, planes, plane, out),
        _ => f64::merge(grid, base, symbols, planes, plane, out),
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
fn check(float: Float, grid: Grid) {
    assert!(crate::round::takes(float) && powers(float).contains(&grid.power));
    assert!(grid.low <= most_low(float));
}

/// A module for floats of one format: `$word` as it is stored, in lanes of `$lane`.
macro_rules! format {
    ($name:ident, $word:ident, $lane:ident, $signed:ident, $mantissa:literal) => {
        pub(super) mod $name {
            use super::{FAR, GROUP, Grid, array, array_mut};

            const MANTISSA: u32 = $mantissa;
            const SIZE: usize = size_of::<$word>();
            const SIGN: $lane = 1 << ($word::BITS - 1);
            const INFINITE: $lane = SIGN - (1 << MANTISSA);
            /// The biased exponent of 1.
            const BIAS: i32 = (1 << ($word::BITS - 2 - MANTISSA)) - 1;
            /// How far a mantissa may be raised: a step has two bits more than what it is from zero.
            const MOST_RAISED: $signed = ($lane::BITS as $signed) - 3 - MANTISSA as $signed;

            /// The biased exponent of numbers whose last bit is a step.
            #[inline(always)]
            fn unit(power: i32) -> $signed {
                $signed::from(power + BIAS) + MANTISSA as $signed
            }

            /// Where a number is on the grid's line: those with a sign are behind one another from -1 down.
            /// A number that is no multiple is rounded, to the even one if two are as near.
            #[inline(always)]
            fn line(unit: $signed, word: $lane) -> ($signed, bool) {
                let bits = word & !SIGN;
                let exponent = bits >> MANTISSA;
                let normal = $lane::from(exponent > 0);
                let above = (exponent | (normal ^ 1)).cast_signed() - unit;
                let dropped = (-above).clamp(0, MANTISSA as $signed + 2).cast_unsigned();
                let raised = above.clamp(0, MOST_RAISED).cast_unsigned();
                let number = bits & ((1 << MANTISSA) - 1) | normal << MANTISSA;
                let lost = number & ((1 << dropped) - 1);
                let odd = number >> dropped & $lane::from(dropped > 0);
                let rounded = (number + (((1 << dropped) - 1) >> 1) + odd) >> dropped << raised;
                let near = bits < INFINITE && above <= MOST_RAISED;
                let steps = if near { rounded } else { 0 };
                let minus = (word >> ($word::BITS - 1)).wrapping_neg();
                ((steps ^ minus).cast_signed(), near && lost == 0)
            }

            /// The number at a place on the line; bits below its mantissa are dropped.
            #[inline(always)]
            fn number(power: i32, place: $signed) -> $lane {
                let minus = place >> ($lane::BITS - 1);
                let steps = (place ^ minus).cast_unsigned();
                let zeros = steps.leading_zeros() as $lane;
                let top = ($lane::BITS as $lane - 1).wrapping_sub(zeros);
                let exponent = top.cast_signed().wrapping_add($signed::from(power + BIAS));
                let mantissa = (steps << (zeros & ($lane::BITS as $lane - 1)) << 1)
                    >> ($lane::BITS - MANTISSA);
                let normal = (exponent.cast_unsigned() << MANTISSA).wrapping_add(mantissa);
                let subnormal = steps << (unit(power) - 1).clamp(0, $lane::BITS as $signed - 1);
                let bits = if exponent > 0 { normal } else { subnormal };
                let bits = if steps == 0 { 0 } else { bits };
                bits & !SIGN | minus.cast_unsigned() & SIGN
            }

            #[inline(always)]
            fn word(bytes: &[u8; SIZE]) -> $lane {
                $word::from_le_bytes(*bytes).into()
            }

            #[inline(always)]
            pub(in crate::grid) fn split(
                grid: Grid,
                base: &[u8],
                elements: &[u8],
                symbols: &mut [u8],
                planes: &mut [u8],
                plane: usize,
            ) -> usize {
                let Grid { power, low } = grid;
                let (unit, count) = (unit(power), elements.len() / SIZE);
                let used = low.div_ceil(8) as usize;
                assert!(base.is_empty() || base.len() == elements.len());
                assert!(symbols.len() >= count && plane >= count && planes.len() >= used * plane);
                let (mut far, mut steps, mut zeros) = (0, [0; GROUP], [0; GROUP]);
                for (i, elements) in elements.chunks(GROUP * SIZE).enumerate() {
                    let here = elements.len() / SIZE;
                    if !base.is_empty() {
                        let base = base[i * GROUP * SIZE..][..elements.len()].as_chunks().0;
                        zeros.iter_mut().zip(base).for_each(|(to, x)| *to = line(unit, word(x)).0);
                    }
                    let symbols = &mut symbols[i * GROUP..][..here];
                    let places = zeros.iter().zip(&mut steps).zip(symbols.iter_mut());
                    for (x, ((zero, step), symbol)) in elements.as_chunks().0.iter().zip(places) {
                        let (place, near) = line(unit, word(x));
                        let from = place.wrapping_sub(*zero);
                        let zigzag = (from << 1 ^ from >> ($lane::BITS - 1)).cast_unsigned();
                        let above = (zigzag >> low).min(FAR.into());
                        *symbol = if near { above as u8 } else { FAR };
                        *step = zigzag & ((1 << low) - 1);
                    }
                    far += symbols.iter().filter(|symbol| **symbol == FAR).count();
                    for k in 0..used {
                        let to = planes[k * plane + i * GROUP..][..here].iter_mut();
                        to.zip(&steps).for_each(|(to, step)| *to = (step >> (8 * k)) as u8);
                    }
                }
                far
            }

            #[inline(always)]
            pub(in crate::grid) fn merge(
                grid: Grid,
                base: &[u8],
                symbols: &[u8],
                planes: &[u8],
                plane: usize,
                out: &mut [u8],
            ) {
                let Grid { power, low } = grid;
                let unit = unit(power);
                assert!(base.is_empty() || base.len() == out.len());
                let (mut steps, mut zeros) = ([0; GROUP], [0; GROUP]);
                for (i, out) in out.chunks_mut(GROUP * SIZE).enumerate() {
                    let symbols: &[u8; GROUP] = array(symbols, i * GROUP);
                    let above = steps.iter_mut().zip(symbols);
                    above.for_each(|(step, symbol)| *step = $lane::from(*symbol) << low);
                    for k in 0..low.div_ceil(8) as usize {
                        let part: &[u8; GROUP] = array(planes, k * plane + i * GROUP);
                        let with = steps.iter_mut().zip(part);
                        with.for_each(|(step, byte)| *step |= $lane::from(*byte) << (8 * k));
                    }
                    if !base.is_empty() {
                        let base = base[i * GROUP * SIZE..][..out.len()].as_chunks().0;
                        zeros.iter_mut().zip(base).for_each(|(to, x)| *to = line(unit, word(x)).0);
                    }
                    let mut group = [0; GROUP * SIZE];
                    let places = group.as_chunks_mut::<SIZE>().0.iter_mut().zip(&zeros);
                    for ((to, zero), step) in places.zip(&steps) {
                        let from = (step >> 1 ^ (step & 1).wrapping_neg()).cast_signed();
                        let word = number(power, zero.wrapping_add(from)) as $word;
                        *to = word.to_le_bytes();
                    }
                    match out.len() == group.len() {
                        true => *array_mut(out, 0) = group,
                        false => out.copy_from_slice(&group[..out.len()]),
                    }
                }
            }

            #[inline(always)]
            pub(in crate::grid) fn finest(elements: &[u8]) -> Option<i32> {
                let mut finest = [$signed::MAX; 16];
                let mut lane = |(to, x): (&mut $signed, &[u8; SIZE])| {
                    let bits = word(x) & !SIGN;
                    let exponent = bits >> MANTISSA;
                    let normal = $lane::from(exponent > 0);
                    let number = bits & ((1 << MANTISSA) - 1) | normal << MANTISSA;
                    let scale = exponent | (normal ^ 1);
                    let last = scale.cast_signed() + number.trailing_zeros() as $signed;
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
    use super::{FAR, GROUP, Grid, array, array_mut};

    format!(f16, u16, u32, i32, 10);
    format!(bf16, u16, u32, i32, 7);
    format!(f32, u32, u32, i32, 23);
    format!(f64, u64, u64, i64, 52);
}
use formats::{bf16, f16, f32, f64};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};
    use crate::round::{Step, round};

    const FORMATS: [(usize, u32); 4] = [(2, 5), (2, 8), (4, 8), (8, 11)];

    fn float((bytes, exponent_bits): (usize, u32)) -> Float {
        Float { bytes, exponent_bits, top_bits: 0, big_endian: false }
    }

    /// Takes apart and puts together again, at this level and without SIMD.
    fn check(level: Level, float: Float, grid: Grid, base: &[u8], data: &[u8]) -> usize {
        let count = data.len() / float.bytes;
        let plane = count.next_multiple_of(GROUP);
        let parts = |level| {
            let (mut symbols, mut planes) = (vec![0; plane], vec![0; 8 * plane]);
            let far = split(level, float, grid, base, data, &mut symbols, &mut planes, plane);
            (symbols, planes, far)
        };
        let (symbols, planes, far) = parts(level);
        let scalar = parts(Level::Scalar);
        assert!(symbols == scalar.0 && planes == scalar.1 && far == scalar.2);
        let mut out = vec![0x55; data.len()];
        merge(level, float, grid, base, &symbols, &planes, plane, &mut out);
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
            let grid = Grid { power, low: u.int_in_range(0..=most_low(float))? };
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
                let (mut data, low) = (all.clone(), 31);
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

    at_each_level!(what_is_on_the_grid_comes_back, every_f16_and_bf16_comes_back);

    #[test]
    fn places_are_as_the_spec_says() {
        let floats = [0.0f32, -0.0, 0.25, -0.25, 0.5, 0.75, 1e9, f32::NAN];
        let data: Vec<u8> = floats.into_iter().flat_map(f32::to_le_bytes).collect();
        let (mut symbols, grid) = ([0; 8], Grid { power: -2, low: 0 });
        let far = split(Level::Scalar, float((4, 8)), grid, &[], &data, &mut symbols, &mut [], 64);
        assert_eq!((symbols, far), ([0, 1, 2, 3, 4, 6, FAR, FAR], 2));
        assert_eq!(finest(Level::Scalar, float((4, 8)), &data), Some(-2));
    }
}
