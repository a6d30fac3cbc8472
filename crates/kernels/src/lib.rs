//! Inner loops of weightzip. A kernel is written once, over groups of 64 bytes, and compiled for
//! every [`level`](mod@level); the scalar one is its meaning, the others must give the same bytes.
//!
//! Three families, in the order in which a block passes them:
//! - [`field`]: split floats into exponent ranks and residuals (sign and mantissa), and merge them;
//! - [`escape`]: peel ranks into planes of short codes whose last value means "see the next plane";
//! - [`strip`]: pack codes of any width into bit strips laid out for SIMD, and unpack them;
//!
//! and the checksum of it all, [`xxh3`].

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::unwrap_used,
        reason = "test data"
    )
)]

pub mod difference;
pub mod escape;
pub mod field;
pub mod grid;
pub mod level;
mod moves;
pub mod numbers;
pub mod packed;
pub mod pages;
pub mod prefetch;
pub mod rans;
pub mod round;
mod scalar;
pub mod scale;
mod simd;
pub mod strip;
mod word;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86_64;
pub mod xxh3;

pub use level::level;
pub use simd::GROUP;
