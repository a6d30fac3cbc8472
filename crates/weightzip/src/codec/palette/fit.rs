//! Finds the scale that a run's floats are small numbers of, if they are.
//!
//! A float says between which numbers it was before it was rounded, and so, divided by its code, between which its scale is.
//! What this finds is only tried: whether the products are the floats is for integers to say. So it may use floats itself.

use super::number::Codes;
use weightzip_kernels::field::Float;

/// Between which numbers a shorter float was is a little wider, for it was an F32 before.
const LOOSE: f64 = 1.0 / (1 << 25) as f64;

/// Numbers between which a scale is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// A magnitude and what is rounded to it.
#[derive(Clone, Copy)]
pub(super) struct Magnitude {
    pub(super) value: f64,
    around: Interval,
}

impl Magnitude {
    /// `bits` has no sign, and is finite and not 0.
    pub(super) fn of(float: Float, bits: u32) -> Self {
        let mantissa_bits = float.mantissa_bits();
        let (exponent, mantissa) = (bits >> mantissa_bits, bits & ((1 << mantissa_bits) - 1));
        let bias = (1 << (float.exponent_bits - 1)) - 1;
        let unit = power(exponent.max(1).cast_signed() - bias - mantissa_bits.cast_signed());
        let hidden = u32::from(exponent > 0) << mantissa_bits;
        let value = f64::from(mantissa | hidden) * unit;
        // Below a power of two floats are twice as close.
        let below = if mantissa == 0 && exponent > 1 { unit / 4.0 } else { unit / 2.0 };
        let loose = if float.bytes < 4 { LOOSE } else { 0.0 };
        let around = Interval {
            low: (value - below) * (1.0 - loose),
            high: (value + unit / 2.0) * (1.0 + loose),
        };
        Self { value, around }
    }
}

/// Those of the nearest F32.
#[allow(clippy::cast_possible_truncation, reason = "what is no scale then is tried in vain")]
fn bits_of(number: f64) -> u32 {
    (number as f32).to_bits()
}

fn power(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent + 1023).unsigned_abs()) << 52)
}

impl Interval {
    fn middle(self) -> f64 {
        f64::midpoint(self.low, self.high)
    }

    /// What is left of it by a run's magnitudes, which ascend; `None` if nothing is.
    pub(super) fn narrowed(self, codes: Codes, run: &[Magnitude]) -> Option<Self> {
        let mut left = self;
        for magnitude in run {
            let code = code_near(codes, magnitude.value / left.middle())?;
            let Interval { low, high } = magnitude.around;
            left.low = left.low.max(low / code);
            left.high = left.high.min(high / code);
            if left.low > left.high {
                return None;
            }
        }
        Some(left)
    }

    /// Where the scale of a run is: one after another its largest magnitude is taken for each of the codes that it may have.
    pub(super) fn of(codes: Codes, run: &[Magnitude]) -> Option<Self> {
        let largest = run.last()?;
        let candidates = match codes {
            Codes::Listed => return None,
            Codes::Integers => 1..=128,
            Codes::Floats3 => 8..=15,
            Codes::Floats2 => 4..=7,
        };
        let Interval { low, high } = largest.around;
        candidates
            .map(f64::from)
            .find_map(|code| Self { low: low / code, high: high / code }.narrowed(codes, run))
    }

    /// The bits of F32 numbers in it, the one with the fewest mantissa bits first.
    pub(super) fn scales(self) -> impl Iterator<Item = u32> {
        let inner = (self.high - self.low) / 1024.0;
        let inner = Self { low: self.low + inner, high: self.high - inner };
        let at_ends = [self.low, self.high].into_iter().flat_map(|end| {
            let bits = bits_of(end);
            [bits, bits + 1, bits.saturating_sub(1)]
        });
        inner.shortest().into_iter().chain(self.shortest()).chain(at_ends)
    }

    fn shortest(self) -> Option<u32> {
        let exponent = (self.low.to_bits() >> 52 & 0x7FF) as i32 - 1023;
        (0..=23).find_map(|bits| {
            let unit = power(exponent - bits);
            let number = (self.low / unit).ceil() * unit;
            (number <= self.high).then_some(bits_of(number))
        })
    }

    /// It, multiplied with a power of two such that a magnitude has a code of the highest exponents.
    pub(super) fn raised(self, codes: Codes, largest: f64) -> Self {
        let most = match codes {
            Codes::Listed | Codes::Integers => return self,
            _ if largest == 0.0 => return self,
            Codes::Floats3 => 448.0,
            Codes::Floats2 => 57344.0,
        };
        let mut factor = 1.0;
        // Half a step beyond the highest code is not too much.
        let beyond = |factor: f64| largest / (self.middle() * factor) > most * 33.0 / 32.0;
        while beyond(factor) {
            factor *= 2.0;
        }
        while !beyond(factor / 2.0) {
            factor /= 2.0;
        }
        Self { low: self.low * factor, high: self.high * factor }
    }
}

/// The number of a code that is nearest to `x`: floats may have any exponent, for nothing is known of their largest yet.
fn code_near(codes: Codes, x: f64) -> Option<f64> {
    let bits = match codes {
        Codes::Listed => return None,
        Codes::Integers => {
            let code = rounded(x);
            return (1.0..=128.0).contains(&code).then_some(code);
        }
        Codes::Floats3 => 3,
        Codes::Floats2 => 2,
    };
    let unit = power((x.to_bits() >> 52 & 0x7FF) as i32 - 1023 - bits);
    Some(rounded(x / unit) * unit)
}

/// The nearest integer to a small number: not [`f64::round`], which is a call on older CPUs.
#[allow(clippy::cast_possible_truncation, reason = "what is too large has no code")]
fn rounded(x: f64) -> f64 {
    f64::from((x + 0.5) as i32)
}
