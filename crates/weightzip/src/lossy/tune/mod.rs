//! The search for rules: the smallest near-lossless file whose score, by whatever is asked for one, stays
//! close to the original's.
//!
//! [`Search`] knows no files: it asks for sizes and scores of [`Rules`]. [`Model`] makes the files that scores are
//! measured on, and [`Log`] keeps what was measured.

mod groups;
mod log;
mod model;
mod search;

pub use log::{Key, Log};
pub use model::Model;
pub use search::{Found, Search};

use super::{Bound, Rules};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What is turned: one bound for all tensors first, then one for each group of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Knob {
    /// [`Bound::Absolute`]: multiples of powers of two.
    #[default]
    Absolute,
    /// [`Bound::Relative`]: mantissa bits.
    Relative,
}

impl Knob {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Absolute, Self::Relative];

    /// The name that its bounds begin with: `abs` or `rel`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absolute => "abs",
            Self::Relative => "rel",
        }
    }

    /// The knob of a name.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) that lists the names.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|knob| knob.name() == name);
        found.ok_or_else(|| Error::argument(format!("knob {name:?} is not one of: abs, rel")))
    }

    /// The bound at a position: the higher, the coarser.
    fn bound(self, step: i32) -> Bound {
        match self {
            Self::Absolute => Bound::Absolute(step),
            Self::Relative => Bound::Relative(u32::try_from(-step).unwrap_or(0)),
        }
    }
}

/// Which scores are better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Such as accuracy.
    #[default]
    Higher,
    /// Such as a loss.
    Lower,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Higher, Self::Lower];

    /// `higher` or `lower`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }

    /// The direction of a name.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) that lists the names.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|direction| direction.name() == name);
        found.ok_or_else(|| {
            Error::argument(format!("direction {name:?} is not one of: higher, lower"))
        })
    }
}

/// How far a score may be from the original's, in the bad direction.
///
/// ```
/// use weightzip::lossy::tune::Tolerance;
/// assert_eq!("0.1%".parse::<Tolerance>()?, Tolerance::Relative(0.001));
/// assert_eq!("0.02".parse::<Tolerance>()?, Tolerance::Absolute(0.02));
/// assert!("-1".parse::<Tolerance>().is_err());
/// # Ok::<(), weightzip::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// As a part of the original's score.
    Relative(f64),
    /// As a difference.
    Absolute(f64),
}

impl FromStr for Tolerance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (number, is_part) =
            text.strip_suffix('%').map_or((text, false), |n| (n.trim_end(), true));
        let number: Option<f64> = number.parse().ok();
        match number.filter(|n| n.is_finite() && n.is_sign_positive()) {
            Some(percent) if is_part => Ok(Self::Relative(percent / 100.0)),
            Some(difference) => Ok(Self::Absolute(difference)),
            None => Err(Error::argument(format!(
                "tolerance {text:?} is neither a percentage such as 0.1% nor a number such as 0.001"
            ))),
        }
    }
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is turned.
    pub knob: Knob,
    /// How far the score may be from the original's.
    pub tolerance: Tolerance,
    /// Which scores are better.
    pub direction: Direction,
    /// Most sizes and scores to ask for, the original's included.
    pub max_evaluations: usize,
}

impl Default for Options {
    /// 0.1 %, higher is better, 60 evaluations.
    fn default() -> Self {
        Self {
            knob: Knob::default(),
            tolerance: Tolerance::Relative(0.001),
            direction: Direction::default(),
            max_evaluations: 60,
        }
    }
}

impl Options {
    /// How much worse than the original's a score is; not a number if one of them is none.
    fn loss(&self, original: f64, score: f64) -> f64 {
        if !score.is_finite() {
            return f64::NAN;
        }
        match self.direction {
            Direction::Higher => original - score,
            Direction::Lower => score - original,
        }
    }

    /// The worst score that is still within tolerance.
    pub fn limit(&self, original: f64) -> f64 {
        match self.direction {
            Direction::Higher => original - self.most(original),
            Direction::Lower => original + self.most(original),
        }
    }

    /// The loss that is still within tolerance.
    fn most(&self, original: f64) -> f64 {
        match self.tolerance {
            Tolerance::Relative(part) => part * original.abs(),
            Tolerance::Absolute(difference) => difference,
        }
    }
}

/// What was measured of a model that is rounded by some rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Of its `.wz`, or of all of them.
    pub bytes: u64,
    /// What its evaluation gives; not a number if that went wrong.
    pub score: f64,
}

/// Rules that were tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The rules: none for the original.
    pub rules: Rules,
    /// What was measured.
    pub measured: Measured,
    /// Whether the score is within tolerance.
    pub within: bool,
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
