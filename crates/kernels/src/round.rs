//! Rounds floats, and measures what that does to them. For near-lossless compression: the tunable
//! loss of the seed paper (arXiv 2404.15198), with a bound that is kept.
//!
//! What floats become is found with integers alone, so that it is the same everywhere; floating-point
//! arithmetic only measures. Plain loops, that the compiler makes the most of at each level.

use crate::field::Float;
use crate::simd::{GROUP, Simd, kernel};

/// What floats are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The nearest multiple of two to this power.
    Absolute(i32),
    /// So many mantissa bits. Subnormal numbers stay as they are.
    Relative(u32),
}

/// What rounding did to some floats. Those that are not finite don't count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// The largest difference.
    pub absolute: f64,
    /// The largest difference, as a part of what was rounded.
    pub relative: f64,
    /// The sum of the squares of differences.
    pub noise: f64,
    /// The sum of the squares of what was rounded.
    pub signal: f64,
}

impl Errors {
    /// Adds what rounding did to others. The order in which sums are made changes their last bits.
    pub fn add(&mut self, other: &Self) {
        self.absolute = larger(self.absolute, other.absolute);
        self.relative = larger(self.relative, other.relative);
        self.noise += other.noise;
        self.signal += other.signal;
    }
}

/// As one instruction, which `f64::max` is not.
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// Whether these are floats that can be rounded: F16, BF16, F32 and F64, little-endian.
pub fn takes(float: Float) -> bool {
    let known = matches!((float.bytes, float.exponent_bits), (2, 5 | 8) | (4, 8) | (8, 11));
    known && float.top_bits == 0 && !float.big_endian
}

kernel! {
    /// Rounds to the nearest, of two to the even one. Signs stay, also those of zeros, and so do
    /// infinities, NaNs, and what would become infinite. Nothing changes if it is done again.
    ///
    /// # Panics
    /// If the floats are none that it [`takes`].
    pub fn round(float: Float, step: Step, data: &mut [u8]) -> Errors = round_at
}

#[inline(always)]
fn round_at<S: Simd>(_: S, float: Float, step: Step, data: &mut [u8]) -> Errors {
    assert!(takes(float));
    match (float.bytes, float.exponent_bits, step) {
        (2, 5, Step::Absolute(power)) => f16::round::<true>(power, data),
        (2, 5, Step::Relative(bits)) => f16::round::<false>(bits.cast_signed(), data),
        (2, _, Step::Absolute(power)) => bf16::round::<true>(power, data),
        (2, _, Step::Relative(bits)) => bf16::round::<false>(bits.cast_signed(), data),
        (4, _, Step::Absolute(power)) => f32::round::<true>(power, data),
        (4, _, Step::Relative(bits)) => f32::round::<false>(bits.cast_signed(), data),
        (_, _, Step::Absolute(power)) => f64::round::<true>(power, data),
        (_, _, Step::Relative(bits)) => f64::round::<false>(bits.cast_signed(), data),
    }
}

/// A module that rounds floats of one format: `$word` as it is stored, in lanes of `$lane`, measured
/// as `$real`, whose value `$value` finds.
macro_rules! format {
    ($name:ident, $word:ident, $lane:ident, $signed:ident, $real:ident, $mantissa:literal, $value:expr) => {
        mod $name {
            use super::{Errors, GROUP, larger};

            const MANTISSA: u8 = $mantissa;
            const SIGN: $lane = 1 << ($word::BITS - 1);
            /// Infinity; below it are the finite numbers.
            const INFINITE: $lane = SIGN - (1 << MANTISSA);
            /// The biased exponent of 1.
            const BIAS: i32 = (1 << ($word::BITS - 2 - $mantissa)) - 1;

            /// The number nearest to one without a sign. `absolute`: `step` is the biased exponent from
            /// which on nothing is rounded off; else the number of bits that are.
            #[inline(always)]
            fn nearest<const ABSOLUTE: bool>(step: $signed, bits: $lane) -> $lane {
                let exponent = bits >> MANTISSA;
                let normal = $lane::from(exponent > 0);
                // That of subnormals, too, as they have no bit above the mantissa.
                let scale = exponent | (normal ^ 1);
                // Two bits more than the mantissa has: all of it, and what is left is less than a half.
                let dropped = match ABSOLUTE {
                    true => (step - scale.cast_signed()).clamp(0, $signed::from(MANTISSA) + 2),
                    false => step * normal.cast_signed(),
                };
                let dropped = dropped.cast_unsigned();
                let number = bits & ((1 << MANTISSA) - 1) | normal << MANTISSA;
                let below_half = ((1 << dropped) - 1) >> 1;
                let odd = number >> dropped & $lane::from(dropped > 0);
                let rounded = (number + below_half + odd) >> dropped << dropped;
                let out = if rounded == 0 { 0 } else { rounded + ((scale - 1) << MANTISSA) };
                if out < INFINITE && bits < INFINITE { out } else { bits }
            }

            #[inline(always)]
            pub(super) fn round<const ABSOLUTE: bool>(step: i32, data: &mut [u8]) -> Errors {
                let mantissa = i32::from(MANTISSA);
                let step = match ABSOLUTE {
                    true => step.saturating_add(mantissa + BIAS).clamp(0, i32::from(u16::MAX)),
                    false => mantissa - step.clamp(0, mantissa),
                };
                let mut sums = Sums::new();
                let (whole, rest) = data.as_chunks_mut::<{ GROUP * SIZE }>();
                for group in whole {
                    sums.add::<ABSOLUTE>(step.into(), group);
                }
                if !rest.is_empty() {
                    let mut last = [0; GROUP * SIZE];
                    last[..rest.len()].copy_from_slice(rest);
                    sums.add::<ABSOLUTE>(step.into(), &mut last);
                    rest.copy_from_slice(&last[..rest.len()]);
                }
                sums.errors()
            }

            const SIZE: usize = size_of::<$word>();

            /// What was measured, by the place in a group.
            struct Sums {
                absolute: [$real; GROUP],
                relative: [$real; GROUP],
                noise: [f64; GROUP],
                signal: [f64; GROUP],
            }

            impl Sums {
                #[inline(always)]
                fn new() -> Self {
                    let (none, zero) = ([0.0; GROUP], [0.0; GROUP]);
                    Self { absolute: none, relative: none, noise: zero, signal: zero }
                }

                /// Rounds a group, and measures. In loops that do one thing each: such the compiler makes wide.
                #[inline(always)]
                fn add<const ABSOLUTE: bool>(
                    &mut self,
                    step: $signed,
                    group: &mut [u8; GROUP * SIZE],
                ) {
                    let (mut words, mut old, mut new) = ([0; GROUP], [0.0; GROUP], [0.0; GROUP]);
                    for (word, bytes) in words.iter_mut().zip(group.as_chunks().0) {
                        *word = $lane::from($word::from_le_bytes(*bytes));
                    }
                    for i in 0..GROUP {
                        let (sign, bits) = (words[i] & SIGN, words[i] & !SIGN);
                        let to = nearest::<ABSOLUTE>(step, bits);
                        words[i] = to | sign;
                        let (before, after): ($real, $real) = ($value(bits), $value(to));
                        old[i] = if bits < INFINITE { before } else { 0.0 };
                        new[i] = if bits < INFINITE { after } else { 0.0 };
                    }
                    for (word, bytes) in words.iter().zip(group.as_chunks_mut().0) {
                        #[allow(
                            clippy::cast_possible_truncation,
                            reason = "it has the word's bits"
                        )]
                        let word = *word as $word;
                        *bytes = word.to_le_bytes();
                    }
                    let mut error = [0.0; GROUP];
                    for i in 0..GROUP {
                        // Exact: both are multiples of the smaller one's last bit.
                        error[i] = (new[i] - old[i]).abs();
                        let part = if old[i] > 0.0 { error[i] / old[i] } else { 0.0 };
                        let (absolute, relative) = (self.absolute[i], self.relative[i]);
                        self.absolute[i] = if error[i] > absolute { error[i] } else { absolute };
                        self.relative[i] = if part > relative { part } else { relative };
                    }
                    for i in 0..GROUP {
                        self.noise[i] += f64::from(error[i]) * f64::from(error[i]);
                        self.signal[i] += f64::from(old[i]) * f64::from(old[i]);
                    }
                }

                fn errors(self) -> Errors {
                    let most = |of: [$real; GROUP]| of.into_iter().map(f64::from).fold(0.0, larger);
                    Errors {
                        absolute: most(self.absolute),
                        relative: most(self.relative),
                        noise: self.noise.into_iter().sum(),
                        signal: self.signal.into_iter().sum(),
                    }
                }
            }
        }
    };
}

/// The value of an F16 without a sign.
#[inline(always)]
fn value_of_f16(bits: u32) -> f32 {
    let normal = f32::from_bits((bits << 13) + (112 << 23));
    let subnormal = bits.cast_signed() as f32 * f32::from_bits((127 - 24) << 23);
    if bits >> 10 > 0 { normal } else { subnormal }
}

format!(f16, u16, u32, i32, f32, 10, super::value_of_f16);
format!(bf16, u16, u32, i32, f32, 7, |bits: u32| f32::from_bits(bits << 16));
format!(f32, u32, u32, i32, f32, 23, f32::from_bits);
format!(f64, u64, u64, i64, f64, 52, f64::from_bits);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};

    const F16: Float = Float { bytes: 2, exponent_bits: 5, top_bits: 0, big_endian: false };
    const BF16: Float = Float { bytes: 2, exponent_bits: 8, top_bits: 0, big_endian: false };
    const F32: Float = Float { bytes: 4, exponent_bits: 8, top_bits: 0, big_endian: false };
    const F64: Float = Float { bytes: 8, exponent_bits: 11, top_bits: 0, big_endian: false };

    /// A float's value: in 64 bits every one of fewer bits is exact.
    fn value(float: Float, bytes: &[u8]) -> f64 {
        match (float.bytes, float.exponent_bits) {
            (2, 5) => half::f16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
            (2, _) => half::bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
            (4, _) => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
            _ => f64::from_le_bytes(bytes.try_into().unwrap()),
        }
    }

    fn largest(float: Float) -> f64 {
        match (float.bytes, float.exponent_bits) {
            (2, 5) => half::f16::MAX.to_f64(),
            (2, _) => half::bf16::MAX.to_f64(),
            (4, _) => f32::MAX.into(),
            _ => f64::MAX,
        }
    }

    fn smallest_normal(float: Float) -> f64 {
        2f64.powi(2 - (1 << (float.exponent_bits - 1)))
    }

    /// By the definition. Scaling by powers of two is exact, for no test comes near their ends.
    fn rounded(float: Float, step: Step, x: f64) -> f64 {
        if !x.is_finite() {
            return x;
        }
        let grid = match step {
            Step::Absolute(power) => 2f64.powi(power),
            Step::Relative(_) if x.abs() < smallest_normal(float) => return x,
            Step::Relative(_) if x.abs() < 2f64.powi(-900) => {
                return rounded(float, step, x * 2f64.powi(500)) * 2f64.powi(-500);
            }
            Step::Relative(bits) => 2f64.powi(exponent(x) - i32::try_from(bits).unwrap()),
        };
        // What is off the grid by less than its own last bit is on it.
        let y = (x / grid).round_ties_even() * grid;
        let on_grid = x.abs() / grid >= 2f64.powi(60);
        if on_grid || y.abs() > largest(float) { x } else { y }
    }

    fn exponent(x: f64) -> i32 {
        i32::try_from(x.to_bits() >> 52 & 0x7FF).unwrap() - 1023
    }

    fn check(level: Level, float: Float, step: Step, data: &[u8]) {
        let mut out = data.to_vec();
        let errors = round(level, float, step, &mut out);
        let mut scalar = data.to_vec();
        assert_eq!(errors, round(Level::Scalar, float, step, &mut scalar));
        assert!(out == scalar);
        let mut found = Errors::default();
        for (old, new) in data.chunks(float.bytes).zip(out.chunks(float.bytes)) {
            let (x, y) = (value(float, old), value(float, new));
            let wanted = rounded(float, step, x);
            assert!(
                y == wanted && y.is_sign_negative() == x.is_sign_negative()
                    || old == new && x.is_nan(),
                "{float:?} {step:?}: {x:e} became {y:e}, not {wanted:e}"
            );
            if !x.is_finite() {
                assert_eq!(old, new);
                continue;
            }
            let error = (x - y).abs();
            if wanted != x {
                let bound = match step {
                    Step::Absolute(power) => 2f64.powi(power) / 2.0,
                    Step::Relative(bits) => x.abs() * 2f64.powi(-1 - i32::try_from(bits).unwrap()),
                };
                assert!(error <= bound);
            }
            found.absolute = found.absolute.max(error);
            found.noise += error * error;
            found.signal += x * x;
            found.relative = found.relative.max(if error > 0.0 { error / x.abs() } else { 0.0 });
        }
        assert_eq!(errors.absolute, found.absolute);
        let near = |a: f64, b: f64| a == b || (a / b - 1.0).abs() < 1e-6 || b.is_infinite();
        assert!(near(errors.relative, found.relative), "{errors:?} {found:?}");
        assert!(near(errors.noise, found.noise) && near(errors.signal, found.signal));
        let again = round(level, float, step, &mut out);
        assert!(out == scalar && again.absolute == 0.0, "rounding again changes nothing");
    }

    fn all_of_16_bits(level: Level) {
        let data: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for float in [F16, BF16] {
            (0..=12).for_each(|bits| {
                check(level, float, Step::Relative(bits.min(float.mantissa_bits())), &data)
            });
            (-40..=20).for_each(|power| check(level, float, Step::Absolute(power), &data));
        }
        check(level, BF16, Step::Absolute(-140), &data);
        check(level, BF16, Step::Absolute(127), &data);
    }

    fn some_of_more_bits(level: Level) {
        arbtest::arbtest(|u| {
            let float = *u.choose(&[F32, F64])?;
            let mut data = vec![0; u.int_in_range(0..=50)? * float.bytes];
            u.fill_buffer(&mut data)?;
            let step = match u.arbitrary()? {
                true => Step::Absolute(u.int_in_range(-60..=60)?),
                false => Step::Relative(u.int_in_range(0..=float.mantissa_bits())?),
            };
            for element in data.chunks_exact_mut(float.bytes) {
                if u.arbitrary()? {
                    // Near the grid, and subnormal or not finite at times.
                    let near: f64 = f64::from(u.int_in_range(-70_000..=70_000)?) / 512.0;
                    match float.bytes {
                        4 => element.copy_from_slice(&(near as f32).to_le_bytes()),
                        _ => element.copy_from_slice(&near.to_le_bytes()),
                    }
                } else if u.ratio(1, 8)? {
                    let last = float.bytes - 1;
                    element[last] = *u.choose(&[0, 0x80, 0x7F, 0xFF])?;
                }
            }
            check(level, float, step, &data);
            Ok(())
        });
    }

    at_each_level!(all_of_16_bits, some_of_more_bits);

    #[test]
    fn steps_beyond_all_numbers_do_what_they_say() {
        let one = 1f32.to_le_bytes();
        for (step, wanted) in [
            (Step::Absolute(i32::MIN), 1.0),
            (Step::Absolute(-200), 1.0),
            (Step::Absolute(i32::MAX), 0.0),
            (Step::Relative(u32::MAX), 1.0),
        ] {
            let mut data = one;
            round(Level::Scalar, F32, step, &mut data);
            assert_eq!(f32::from_le_bytes(data), wanted, "{step:?}");
        }
    }
}
