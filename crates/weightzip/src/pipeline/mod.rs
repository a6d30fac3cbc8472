//! Streams with bounded memory: blocks are read in order, coded in parallel, written in order.

mod decode;
mod digest;
mod encode;
mod runner;

pub use decode::decompress;
pub use encode::compress;

use crate::formats::Format;

/// Bytes of original data that are in work at a time, per thread.
const BYTES_PER_THREAD: usize = 4 << 20;

/// Blocks, starts and ends of segments that are in work at a time: small ones add up too.
const MAX_STEPS: usize = 16 << 10;

/// What [`compress`] and [`decompress`] report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What the original was recognised as.
    pub format: Format,
    /// Bytes of the original.
    pub original_bytes: u64,
    /// Bytes of the `.wz`.
    pub compressed_bytes: u64,
    /// Tensors in it.
    pub tensors: u64,
    /// BLAKE3 of the original.
    pub blake3: [u8; 32],
    /// SHA-256 of the original, if it was asked for.
    pub sha256: Option<[u8; 32]>,
    /// What is odd about the original, for people.
    pub warnings: Vec<String>,
}
