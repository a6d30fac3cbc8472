//! Lossless compression of AI model files: safetensors and anything else, restored to the byte,
//! whole or one tensor or a few rows of one.
//!
//! Data flows one way: [`formats`](scan) find spans, the plan cuts them into blocks, the
//! [block codec](encode_block) codes those, the container places them in a `.wz`; and back.
//! `spec/format.md` in the repository describes the file; modules are named as its chapters.
//!
//! - [`compress`] and [`decompress`]: whole files, from any reader into any writer.
//! - [`Archive`]: tensors and rows of a `.wz`, at random.
//! - [`chain::Chain`]: a folder of checkpoints, each coded against the one before.
//! - [`compress_frame`] and [`decompress_frame_into`]: records in memory, without a file's names and hashes.
//! - [`encode_block`] and [`decode_block_into`]: blocks without the container.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "test data")
)]

mod archive;
mod base;
pub mod chain;
mod codec;
mod coded;
mod container;
mod dtype;
mod error;
mod formats;
mod frame;
pub mod lossy;
mod options;
pub mod output;
mod pipeline;
mod plan;
mod record;
mod runner;
mod scratch;
mod source;
mod span;
mod survey;
#[cfg(test)]
mod vectors;

pub use archive::{Archive, Rows, Stored, Tensor};
pub use base::Base;
pub use codec::{Block, Coding, Context, Given, Hints, decode_block_into, encode_block};
pub use container::MAX_BLOCK_BYTES;
pub use container::bases::BaseTensor;
pub use container::footer::Info;
pub use container::header::{Version, is_rounded, is_weightzip};
pub use dtype::Dtype;
pub use error::{Error, Kind, Result};
pub use formats::{Format, Layout, can_be_rounded, scan, scan_file};
pub use frame::{
    FrameOptions, compress_frame, decompress_frame_into, decompress_frame_watched, frame_len,
};
pub use options::{DecodeOptions, Level, Limits, Options, Progress, Watch};
pub use pipeline::{Stages, Summary, compress, decompress};
pub use record::{ByteOrder, Field, RecordLayout, Role};
pub use runner::max_threads;
pub use source::{Source, at_random, open_at_random};
pub use span::{Span, TensorInfo};
pub use survey::*;
pub use weightzip_kernels::pages::{Room, rooms, zeroed};

/// The instruction set that the kernels use: `scalar`, `avx2` or `avx512`.
pub fn simd_level() -> &'static str {
    weightzip_kernels::level().name()
}

/// Runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
