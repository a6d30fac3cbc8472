//! Coding `planes` (spec: "Planes"): floats as escape planes of exponent ranks and strips of
//! narrowed residuals. The idea of splitting exponent from the rest is the seed paper's byte
//! grouping (arXiv 2404.15198); planes replace its entropy coder.

mod decode;
mod encode;
mod header;

pub(super) use decode::decode;
pub(super) use encode::encode;

use super::escapes;
use super::residuals::Found;
use crate::error::Error;
use crate::scratch::{self, Kept};

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    escapes: escapes::Scratch,
    /// When encoding.
    found: Found,
    header: Vec<u8>,
    /// When decoding, the subnormals' codes.
    subnormals: Vec<u8>,
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a plane block {why}"))
}
