//! How far rounding may take a tensor's numbers.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use weightzip_kernels::round::Step;

/// How exact a tensor's floats must stay.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Bound {
    /// As they are.
    Exact,
    /// Multiples of two to this power: off by half of that at most. The fixed point of the seed paper
    /// (arXiv 2404.15198), but rounded to the nearest, and for numbers of any size.
    Absolute(i32),
    /// So many mantissa bits: off by 2^-(bits + 1) of their size at most. Subnormals stay as they are.
    Relative(u32),
    /// The coarsest [`Absolute`](Self::Absolute) that leaves the tensor this many decibels above the
    /// noise that it makes.
    Snr(f64),
}

/// The exponents that [`Bound::Absolute`] may have.
const POWERS: std::ops::RangeInclusive<i32> = -1074..=1023;

/// Most mantissa bits that a number has.
const MOST_BITS: u32 = 52;

impl Bound {
    /// What its numbers are rounded to; `None` for [`Exact`](Self::Exact), and where a look at the
    /// tensor is needed first.
    pub(crate) fn step(self) -> Option<Step> {
        match self {
            Self::Absolute(power) => Some(Step::Absolute(power)),
            Self::Relative(bits) => Some(Step::Relative(bits)),
            Self::Exact | Self::Snr(_) => None,
        }
    }

    pub(crate) fn of(step: Step) -> Self {
        match step {
            Step::Absolute(power) => Self::Absolute(power),
            Step::Relative(bits) => Self::Relative(bits),
        }
    }
}

/// As it is written on the command line; [`FromStr`] reads it.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("none"),
            Self::Absolute(power) => write!(f, "abs=2^{power}"),
            Self::Relative(0) => f.write_str("rel=2^0"),
            Self::Relative(bits) => write!(f, "rel=2^-{bits}"),
            Self::Snr(decibels) => write!(f, "snr={decibels}dB"),
        }
    }
}

/// Reads `none`, `abs=2^-14`, `rel=2^-7`, `snr=60dB`. Other numbers than powers of two, such as
/// `abs=1e-4`, mean the next power below.
///
/// ```
/// use weightzip::lossy::Bound;
/// assert_eq!("abs=2^-14".parse::<Bound>()?, Bound::Absolute(-14));
/// assert_eq!("abs=1e-4".parse::<Bound>()?, Bound::Absolute(-14));
/// assert_eq!("rel=2^-7".parse::<Bound>()?, Bound::Relative(7));
/// assert_eq!("snr=60dB".parse::<Bound>()?, Bound::Snr(60.0));
/// # Ok::<(), weightzip::Error>(())
/// ```
impl FromStr for Bound {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let known = "abs=2^-14, rel=2^-7, snr=60dB, none";
            Error::argument(format!("{text:?} is not one of: {known}"))
        };
        if text == "none" {
            return Ok(Self::Exact);
        }
        let (kind, number) = text.split_once('=').ok_or_else(bad)?;
        match kind {
            "abs" => {
                let power = power_below(number).filter(|p| POWERS.contains(p));
                power.map(Self::Absolute).ok_or_else(bad)
            }
            "rel" => {
                let bits = power_below(number).and_then(|power| u32::try_from(-power).ok());
                bits.filter(|b| *b <= MOST_BITS).map(Self::Relative).ok_or_else(bad)
            }
            "snr" => {
                let number = number.trim_end_matches("dB").parse().ok();
                number.filter(|n| (0.0..=400.0).contains(n)).map(Self::Snr).ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

/// The exponent of the largest power of two that is not above a positive number.
fn power_below(text: &str) -> Option<i32> {
    if let Some(power) = text.strip_prefix("2^") {
        return power.parse().ok().filter(|power: &i32| power.abs() < 10_000);
    }
    let number: f64 = text.parse().ok().filter(|n: &f64| n.is_normal() && *n > 0.0)?;
    i32::try_from(number.to_bits() >> 52).ok().map(|exponent| exponent - 1023)
}

/// Two numbers on the wire (spec: "Losses"): what is rounded, and to what.
pub(crate) fn step_to_wire(step: Step) -> (u8, i32) {
    match step {
        Step::Absolute(power) => (0, power),
        Step::Relative(bits) => (1, bits.cast_signed()),
    }
}

/// # Errors
/// What the first number says is unknown, or the second one can't be.
pub(crate) fn step_from_wire(kind: u8, number: i32) -> Result<Step> {
    match (kind, u32::try_from(number)) {
        (0, _) if POWERS.contains(&number) => Ok(Step::Absolute(number)),
        (1, Ok(bits)) if bits <= MOST_BITS => Ok(Step::Relative(bits)),
        (0 | 1, _) => Err(Error::corrupt("a tensor is rounded to what no number has")),
        _ => {
            Err(Error::incompatible("a tensor is rounded in a way that this version doesn't know"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in
            ["none", "abs=2^-23", "abs=2^3", "rel=2^-10", "rel=2^0", "snr=60dB", "snr=42.5dB"]
        {
            assert_eq!(text.parse::<Bound>().unwrap().to_string(), text);
        }
        assert_eq!("abs=0.25".parse::<Bound>().unwrap(), Bound::Absolute(-2));
        assert_eq!("rel=0.001".parse::<Bound>().unwrap(), Bound::Relative(10));
        assert_eq!("snr=60".parse::<Bound>().unwrap(), Bound::Snr(60.0));
    }

    #[test]
    fn what_is_no_bound_is_refused() {
        for text in [
            "",
            "abs",
            "abs=",
            "abs=0",
            "abs=-1",
            "abs=nan",
            "abs=inf",
            "abs=2^",
            "abs=2^-2000",
            "rel=2",
            "rel=2^-53",
            "snr=-1",
            "snr=nan",
            "snr=dBdB1",
            "exact",
            "abs=2^99999999999",
        ] {
            let bad = text.parse::<Bound>().unwrap_err().to_string();
            assert!(bad.contains("is not one of"), "{text}: {bad}");
        }
    }
}
