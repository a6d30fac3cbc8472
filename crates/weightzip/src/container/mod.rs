//! The `.wz` file (spec: "Container"): places coded blocks and describes them.
//!
//! A file is a [`header`], sections, and a [`tail`]. Sections come in this order: the [`bases`], if
//! it has any, segments (each a
//! [`segment`] section, its contexts, its blocks, its block [`table`]), pages of the [`directory`],
//! the [`footer`]; [`pages`] says what these must have in common. [`writer`] and [`stream`] go through a file from front to back; [`index`] finds
//! its way from the tail.

pub(crate) mod bases;
pub(crate) mod directory;
pub(crate) mod footer;
pub(crate) mod header;
pub(crate) mod index;
pub(crate) mod losses;
pub(crate) mod pages;
pub(crate) mod section;
pub(crate) mod segment;
pub(crate) mod stream;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod wire;
pub(crate) mod writer;

/// Largest decoded block in bytes.
pub const MAX_BLOCK_BYTES: usize = 8 << 20;

/// Headers and payloads start at multiples of this.
pub(crate) const ALIGN: u64 = 16;

/// Largest payload of a section that is not a block: what a decoder takes by default, and so
/// what an encoder makes at most.
pub(crate) const MAX_METADATA_BYTES: usize = 256 << 20;
