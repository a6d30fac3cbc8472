//! Inner loops of weightzip. Every kernel has a scalar form, which is its meaning; SIMD forms
//! are tested against it and must give the same bytes.
//!
//! Three families, in the order in which a block passes them:
//! - [`field`]: split floats into exponent ranks and residuals (sign and mantissa), and merge them;
//! - [`escape`]: peel ranks into planes of short codes whose last value means "see the next plane";
//! - [`strip`]: pack codes of any width into bit strips laid out for SIMD, and unpack them.

pub mod escape;
pub mod field;
pub mod level;
pub mod strip;
mod word;

pub use level::level;
pub use word::Word;
