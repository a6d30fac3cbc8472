//! Streams with bounded memory: batches of blocks are read in order, coded in parallel, written in
//! order.
//!
//! While a pool works on a batch, the calling thread writes the one before and reads the next one.
//! With one thread there is no pool, and one batch at a time.

mod batch;
mod cutter;
mod decode;
mod digest;
mod encode;
mod input;
mod rounder;
mod stages;

pub use decode::decompress;
pub use encode::compress;
pub use stages::Stages;

use crate::container::bases::BaseTensor;
use crate::container::losses::Losses;
use crate::formats::Format;
use crate::runner::Runner;
use std::sync::Arc;

/// Bytes of the original in a batch, per thread of a pool. Large enough to hide what starting and
/// ending a batch takes.
const BATCH_BYTES: usize = 2 << 20;

/// Bytes of a batch without a pool: small enough to stay in cache from reading to writing.
const INLINE_BATCH_BYTES: usize = 512 << 10;

/// Most segments in a batch: small ones add up too.
const MAX_PARTS: usize = 4 << 10;

/// Bytes of the first read: buffers grow with what is really there.
const FIRST_READ: usize = 64 << 10;

fn batch_bytes(runner: &Runner) -> usize {
    match runner {
        Runner::Inline => INLINE_BATCH_BYTES,
        Runner::Pool(pool) => BATCH_BYTES * pool.current_num_threads(),
    }
}

/// What [`compress`] and [`decompress`] report.
#[derive(Clone, Debug, PartialEq)]
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
    /// What it is coded against, and can't be restored without; empty if it stands alone.
    pub bases: Vec<BaseTensor>,
    /// What was lost when the original was made, by rounding; `None` if it was not.
    pub losses: Option<Arc<Losses>>,
    /// What is odd about the original, for people.
    pub warnings: Vec<String>,
    /// Where the time went, if it was asked for.
    pub stages: Option<Box<Stages>>,
}
