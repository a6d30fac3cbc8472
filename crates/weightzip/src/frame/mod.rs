//! Frames (spec: "Frames"): records in memory, without names and hashes of the whole.
//!
//! A frame is a file header, one segment as in a file, and nothing behind it.

mod decode;
mod encode;

pub use decode::{decompress_frame_into, decompress_frame_watched, frame_len};
pub use encode::compress_frame;

use crate::options::Level;

/// Choices for frames.
#[derive(Clone, Copy, Debug)]
pub struct FrameOptions {
    /// Worker threads; 0 means one per core, 1 the calling thread. The frame doesn't depend on it.
    /// Threads are started by the first call that wants so many, and stay for the next ones.
    pub threads: usize,
    /// When compressing: how hard to try.
    pub level: Level,
    /// When compressing: records in a row, if they are rows of a matrix; else 0. At
    /// [`Level::Max`] a row's and a column's sizes help.
    pub row: u64,
    /// When compressing: decode every block and compare it with the input.
    pub verify: bool,
    /// When decompressing: compare each block with its XXH3-64. Off only if something else checks
    /// the data.
    pub check_blocks: bool,
}

impl Default for FrameOptions {
    fn default() -> Self {
        Self { threads: 0, level: Level::Default, row: 0, verify: false, check_blocks: true }
    }
}
