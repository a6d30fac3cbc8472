//! What a caller can choose.

use crate::base::Base;
use crate::container::{MAX_BLOCK_BYTES, MAX_METADATA_BYTES};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::formats::Layout;
use crate::lossy::{Losses, Rules};
use crate::source::Source;
use std::io;
use std::sync::Arc;

/// Called with the number of original bytes finished since the last call; may come from any thread.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// Called with the number of original bytes finished since the last call, from any thread; an error
/// ends the work.
pub type Watch<'a> = dyn Fn(u64) -> io::Result<()> + Sync + 'a;

/// How hard to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// Escape planes with the best widths and every structure detection.
    #[default]
    Default,
    /// Also range coding by the scales of rows and columns, in larger blocks: smaller, slower.
    Max,
}

impl Level {
    /// Every level, fastest first.
    pub const ALL: &'static [Self] = &[Self::Default, Self::Max];

    /// The name on the command line and in the footer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Max => "max",
        }
    }

    /// The level of a name.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) that lists the names.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|l| l.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|l| l.name()).collect();
            Error::argument(format!("level {name:?} is not one of: {}", names.join(", ")))
        })
    }
}

/// Choices for [`compress`](crate::compress).
#[derive(Clone)]
pub struct Options {
    /// How hard to try.
    pub level: Level,
    /// Worker threads; 0 means one per core. The output does not depend on it.
    pub threads: usize,
    /// Decode every block and compare it with the input before it is written.
    pub verify: bool,
    /// Models that tensors may be coded against: what is restored then needs them again.
    pub base: Base,
    /// The input again, if it can be read at random, too: large tensors that are equal to earlier ones are then stored
    /// once, unless they are to be rounded.
    pub source: Option<Arc<dyn Source + Send>>,
    /// What [`scan`](crate::scan) or [`scan_file`](crate::scan_file) found in the input: for files whose directory
    /// is not at their start, such as zip archives, or is in another file. Without it the former are copied to a temporary file
    /// first, for the same output, and the latter are opaque.
    pub layout: Option<Layout>,
    /// What the input's numbers are, from its first byte to its end, if no format is found that says so: of one that
    /// does, this is an error. A part of a number at the end stays opaque.
    pub dtype: Option<Dtype>,
    /// How tensors may be rounded: not at all without a rule.
    pub lossy: Rules,
    /// What the input lost before, if it is what a `.wz` [restores](crate::Info::losses): to be told again.
    pub losses: Option<Arc<Losses>>,
    /// Store the original's SHA-256 too (model hubs name files by it).
    pub sha256: bool,
    /// Measure how long each stage takes, for [`Summary::stages`](crate::Summary::stages).
    pub timings: bool,
    /// Told of every finished piece.
    pub progress: Option<Progress>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::Default,
            threads: 0,
            verify: true,
            base: Base::new(),
            source: None,
            layout: None,
            dtype: None,
            lossy: Rules::default(),
            losses: None,
            sha256: false,
            timings: false,
            progress: None,
        }
    }
}

/// What a decoder accepts from a file that may be hostile.
///
/// What expands is bounded by what is really there: a block decodes to at most 2^18 times its bytes and to
/// [`block_bytes`](Self::block_bytes), names in a directory page take at most 16 times its bytes, and all that is kept
/// of a section of metadata at most 64 times its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest decoded block in bytes; the format's own maximum is 8 MiB.
    pub block_bytes: usize,
    /// Largest metadata section (directory page, block table, footer) in bytes.
    pub metadata_bytes: usize,
    /// Bytes of bases that may be decoded per byte that is asked for of a file that has them, for each base of the
    /// longest chain behind it. 64 MiB, and two blocks for each base of that chain, are free.
    pub base_work: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block_bytes: MAX_BLOCK_BYTES, metadata_bytes: MAX_METADATA_BYTES, base_work: 16 }
    }
}

/// Choices for [`decompress`](crate::decompress) and [`Archive`](crate::Archive).
#[derive(Clone)]
pub struct DecodeOptions {
    /// Worker threads; 0 means one per core.
    pub threads: usize,
    /// Compare each decoded block with its XXH3-64, and a tensor that is read whole with its BLAKE3. Off only if
    /// something else checks the data.
    pub check_blocks: bool,
    /// Models that the file may be coded against.
    pub base: Base,
    /// For [`decompress`](crate::decompress): the `.wz` again, if it can be read at random, too. Without it, one that stores equal tensors
    /// once is copied to a temporary file first.
    pub source: Option<Arc<dyn Source + Send>>,
    /// Refuse a file whose original was rounded.
    pub require_lossless: bool,
    /// Also compute the SHA-256 of what is decoded.
    pub sha256: bool,
    /// Measure how long each stage takes, for [`Summary::stages`](crate::Summary::stages).
    pub timings: bool,
    /// Bounds on memory and work.
    pub limits: Limits,
    /// Told of every finished piece.
    pub progress: Option<Progress>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            check_blocks: true,
            base: Base::new(),
            source: None,
            require_lossless: false,
            sha256: false,
            timings: false,
            limits: Limits::default(),
            progress: None,
        }
    }
}

impl DecodeOptions {
    /// Refuses a file that is rounded, if only others are wanted.
    pub(crate) fn check_lossless(&self, is_rounded: bool) -> Result<()> {
        match self.require_lossless && is_rounded {
            true => Err(Error::argument(
                "the file is near-lossless, its tensors were rounded; leave out --require-lossless to use it",
            )),
            false => Ok(()),
        }
    }
}
