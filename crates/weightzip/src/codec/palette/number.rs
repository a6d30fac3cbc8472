//! What codes stand for, in integers (spec: "Palette").

use crate::dtype::Dtype;
use weightzip_kernels::field::Float;

/// What the codes of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    /// Places in a table.
    Listed,
    /// Integers, times a scale.
    Integers,
    /// Floats of 8 bits, times a scale, by the bits of their mantissas.
    Floats3,
    Floats2,
}

impl Codes {
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::Listed => Dtype::U8,
            Self::Integers => Dtype::I8,
            Self::Floats3 => Dtype::F8E4M3,
            Self::Floats2 => Dtype::F8E5M2,
        }
    }

    pub(super) fn from_wire_id(id: u8) -> Option<Self> {
        let all = [Self::Listed, Self::Integers, Self::Floats3, Self::Floats2];
        all.into_iter().find(|codes| codes.dtype().wire_id() == id)
    }

    /// The code of the number that is nearest to `x`, which is not negative, or to `-x`; any code if none is near.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "too large numbers have no code"
    )]
    pub(super) fn nearest(self, x: f64, is_negative: bool) -> u8 {
        let (mantissa_bits, bias) = match self {
            Self::Listed => return 0,
            Self::Integers => {
                let code = (x + 0.5) as u8;
                return if is_negative { code.wrapping_neg() } else { code };
            }
            Self::Floats3 => (3, 7),
            Self::Floats2 => (2, 15),
        };
        let sign = u8::from(is_negative) << 7;
        // Below 1 the highest bit is the exponent's, and a mantissa that is rounded up adds 1 to it.
        let exponent = ((x.to_bits() >> 52) as i32 - 1023).max(1 - bias);
        let unit = f64::from_bits(((exponent - mantissa_bits + 1023) as u64) << 52);
        let mantissa = (x / unit + 0.5) as u32;
        sign | ((((exponent + bias - 1) as u32) << mantissa_bits) + mantissa).min(0x7F) as u8
    }

    /// The number that a code is; `None` if it is not a finite one.
    pub(super) fn number(self, code: u8) -> Option<Number> {
        let (mantissa_bits, bias) = match self {
            Self::Listed => return None,
            Self::Integers => {
                let code = code.cast_signed();
                return Some(Number {
                    is_negative: code < 0,
                    mantissa: code.unsigned_abs().into(),
                    exponent: 0,
                });
            }
            Self::Floats3 => (3, 7),
            Self::Floats2 => (2, 15),
        };
        let (rest, is_negative) = (u32::from(code & 0x7F), code > 0x7F);
        let is_finite = match self {
            Self::Floats3 => rest < 0x7F,
            _ => rest < 0x7C,
        };
        let exponent = (rest >> mantissa_bits).cast_signed();
        let hidden = u32::from(exponent > 0) << mantissa_bits;
        let mantissa = rest & ((1 << mantissa_bits) - 1) | hidden;
        let exponent = exponent.max(1) - bias - mantissa_bits;
        is_finite.then_some(Number { is_negative, mantissa, exponent })
    }
}

/// `mantissa` times 2^`exponent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number {
    is_negative: bool,
    mantissa: u32,
    exponent: i32,
}

#[cfg(test)]
impl Number {
    pub(super) fn to_f64(self) -> f64 {
        let value = f64::from(self.mantissa) * 2f64.powi(self.exponent);
        if self.is_negative { -value } else { value }
    }
}

/// Whether the bits of an F32 are those of a positive number that is neither subnormal nor infinite.
pub(super) fn is_scale(bits: u32) -> bool {
    (0x0080_0000..0x7F80_0000).contains(&bits)
}

/// A scale, the bits of an F32, times a number, as a float: rounded to the 24 bits of an F32's mantissa first, as those who
/// multiply do, then to the float's own.
pub(super) fn value_of(float: Float, scale: u32, number: Number) -> u32 {
    let mantissa = scale & 0x007F_FFFF | 0x0080_0000;
    let product = u64::from(mantissa) * u64::from(number.mantissa);
    let exponent = (scale >> 23).cast_signed() - 127 - 23 + number.exponent;
    let sign = u32::from(number.is_negative) << (8 * float.bytes - 1);
    sign | nearest(float, product, exponent)
}

/// The bits of the float that is nearest to `mantissa`, which has 32 bits at most, times 2^`exponent`.
fn nearest(float: Float, mantissa: u64, exponent: i32) -> u32 {
    if mantissa == 0 {
        return 0;
    }
    let beyond = |mantissa: u64| (63 - mantissa.leading_zeros()).cast_signed();
    let excess = (beyond(mantissa) - 23).max(0);
    let (mantissa, exponent) = (halved(mantissa, excess), exponent + excess);

    let bits = float.mantissa_bits().cast_signed();
    let smallest = 2 - (1 << (float.exponent_bits - 1));
    let top = (beyond(mantissa) + exponent).max(smallest);
    let shift = top - bits - exponent;
    let rounded = match shift {
        ..=0 => mantissa << -shift,
        _ => halved(mantissa, shift),
    };
    // The leading bit, if there is one, adds 1 to the exponent, and so does a mantissa that was rounded up to the next power.
    let infinity = ((1u64 << float.exponent_bits) - 1) << bits;
    let value = (u64::from((top - smallest).unsigned_abs()) << bits) + rounded;
    u32::try_from(value.min(infinity)).unwrap_or(u32::MAX)
}

/// `n`, halved so many times, and rounded to the nearest integer, of two to the even one.
fn halved(n: u64, times: i32) -> u64 {
    match times {
        0 => n,
        // All of it is less than half.
        34.. => 0,
        _ => {
            let half = (1 << (times - 1)) - 1 + (n >> times & 1);
            (n + half) >> times
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats() -> [Float; 3] {
        [Dtype::F16, Dtype::Bf16, Dtype::F32].map(|d| d.record_layout().floats().unwrap())
    }

    /// The product that a program would compute.
    fn multiplied(float: Float, scale: u32, code: f32) -> u32 {
        let product = f32::from_bits(scale) * code;
        match (float.bytes, float.exponent_bits) {
            (2, 5) => half::f16::from_f32(product).to_bits().into(),
            (2, _) => half::bf16::from_f32(product).to_bits().into(),
            _ => product.to_bits(),
        }
    }

    #[test]
    fn values_are_what_a_program_that_multiplies_gets() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Products of F32 stay normal: those programs round subnormals once more.
            let exponent = 127 - 30 + (seed >> 58) as u32;
            let scale = exponent << 23 | (seed >> 20) as u32 & 0x007F_FFFF;
            for float in floats() {
                for code in [(seed >> 8) as u8, 127, 128, 1] {
                    let number = Codes::Integers.number(code).unwrap();
                    let wanted = multiplied(float, scale, f32::from(code.cast_signed()));
                    assert_eq!(
                        value_of(float, scale, number),
                        wanted,
                        "{float:?} {scale:x} {code}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_nearest_code_of_a_number_is_its_own() {
        for codes in [Codes::Integers, Codes::Floats2, Codes::Floats3] {
            for code in 0..=255u8 {
                let Some(number) = codes.number(code) else { continue };
                let value = number.to_f64();
                for near in [value, value * 1.002, value * 0.998] {
                    assert_eq!(
                        codes.nearest(near.abs(), value.is_sign_negative()),
                        code,
                        "{codes:?} {near}"
                    );
                }
            }
        }
    }

    #[test]
    fn codes_of_eight_bits_are_floats() {
        let values = |codes: Codes| (0..=255).map(move |c| codes.number(c).map(Number::to_f64));
        let e4m3: Vec<_> = values(Codes::Floats3).collect();
        assert_eq!(
            [1, 8, 0x38, 0x7E, 0xFE].map(|c| e4m3[c]),
            [2f64.powi(-9), 2f64.powi(-6), 1., 448., -448.].map(Some)
        );
        assert_eq!(e4m3.iter().filter(|v| v.is_none()).count(), 2);
        let e5m2: Vec<_> = values(Codes::Floats2).collect();
        assert_eq!(
            [1, 4, 0x3C, 0x7B].map(|c| e5m2[c]),
            [2f64.powi(-16), 2f64.powi(-14), 1., 57344.].map(Some)
        );
        assert_eq!(e5m2.iter().filter(|v| v.is_none()).count(), 8);
    }
}
