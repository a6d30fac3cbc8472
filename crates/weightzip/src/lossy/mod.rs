//! Near-lossless compression: tensors are rounded within a bound before they are coded, as in the seed
//! paper (arXiv 2404.15198, "tunable lossy"), and the file says so (spec: "Losses").
//!
//! What is coded then is coded without loss: what comes back is the rounded file, to the byte.

mod bound;
mod look;
mod round;
mod rules;
pub mod tune;

pub use bound::Bound;
pub(crate) use bound::{step_from_wire, step_to_wire};
pub(crate) use round::{Account, Part, Rounding, round_part};
pub use rules::Rules;

pub use crate::container::losses::{Loss, Losses};
