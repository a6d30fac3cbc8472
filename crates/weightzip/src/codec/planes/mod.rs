//! Coding `planes` (spec: "Planes"): floats as escape planes of exponent ranks and strips of
//! narrowed residuals. The idea of splitting exponent from the rest is the seed paper's byte
//! grouping (arXiv 2404.15198); planes replace its entropy coder.

mod decode;
mod encode;
mod header;

pub(super) use decode::decode;
pub(super) use encode::encode;

use super::residuals::Found;
use crate::error::Error;
use std::cell::RefCell;
use weightzip_kernels::escape::SLACK;
use weightzip_kernels::field::CHUNK;

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    /// Ranks that a plane leaves, and those that the plane before it left.
    ranks: Lines,
    next: Lines,
    /// When encoding.
    found: Found,
    header: Vec<u8>,
    /// When decoding, the subnormals' codes.
    subnormals: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Bytes that start at a cache line: whole lines are written and read twice as fast as two halves.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    const ALIGN: usize = 64;

    /// Room for `count` ranks, whole chunks of them, and what kernels use behind. What is there
    /// stays unless more room is asked for than ever before.
    fn room_for(&mut self, count: usize) -> &mut [u8] {
        let len = count.next_multiple_of(CHUNK) + SLACK;
        if self.bytes.len() < len + Self::ALIGN {
            self.bytes = vec![0; len + Self::ALIGN];
        }
        let start = self.bytes.as_ptr().align_offset(Self::ALIGN).min(Self::ALIGN);
        &mut self.bytes[start..][..len]
    }
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a plane block {why}"))
}
