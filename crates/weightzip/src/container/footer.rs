//! The footer (spec: "Footer"): what the file holds, and where the directory's pages are.

use super::header::Version;
use super::losses::Losses;
use super::wire::{Fields, put_string};
use crate::error::{Error, Result};
use crate::formats::Format;
use std::sync::Arc;

/// What a `.wz` says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// Version of the wire format.
    pub version: Version,
    /// Name and version of the program that wrote it.
    pub writer: String,
    /// The level it was asked for.
    pub level: String,
    /// What the original was recognised as: a hint.
    pub format: Format,
    /// Bytes of the original file.
    pub original_bytes: u64,
    /// Bytes of the `.wz`.
    pub compressed_bytes: u64,
    /// Tensors in it.
    pub tensors: u64,
    /// BLAKE3 of the original file.
    pub blake3: [u8; 32],
    /// SHA-256 of the original file, if it was asked for.
    pub sha256: Option<[u8; 32]>,
    /// What was lost when the original was made from another file, by rounding; `None` if it was not.
    pub losses: Option<Arc<Losses>>,
}

/// Where a directory page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRef {
    /// Offset of its section in the file.
    pub(crate) at: u64,
    /// Where its first segment's bytes start in the original.
    pub(crate) original_at: u64,
    /// Bytes of its section's payload.
    pub(crate) len: u32,
    /// Segments in it.
    pub(crate) segments: u32,
}

/// The footer: everything in [`Info`] that the header and the file's size don't say, and the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) writer: String,
    pub(crate) level: String,
    pub(crate) format: Format,
    pub(crate) original_bytes: u64,
    pub(crate) tensors: u64,
    pub(crate) blake3: [u8; 32],
    pub(crate) sha256: Option<[u8; 32]>,
    /// Bytes of the payload of the bases, if the file has them.
    pub(crate) bases: Option<u32>,
    /// Bytes of the payload of the losses, if the original was rounded.
    pub(crate) losses: Option<u32>,
    pub(crate) pages: Vec<PageRef>,
}

const HAS_SHA256: u32 = 1;
const HAS_BASES: u32 = 2;
const HAS_LOSSES: u32 = 4;

impl Footer {
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend(self.original_bytes.to_le_bytes());
        out.extend(self.tensors.to_le_bytes());
        let flag = |is_there: bool, flag: u32| if is_there { flag } else { 0 };
        let flags = flag(self.sha256.is_some(), HAS_SHA256)
            | flag(self.bases.is_some(), HAS_BASES)
            | flag(self.losses.is_some(), HAS_LOSSES);
        out.extend(flags.to_le_bytes());
        out.extend([self.format.wire_id(), 0, 0, 0]);
        out.extend(self.blake3);
        out.extend(self.sha256.into_iter().flatten());
        out.extend(self.bases.into_iter().flat_map(u32::to_le_bytes));
        out.extend(self.losses.into_iter().flat_map(u32::to_le_bytes));
        put_string(out, &self.writer);
        put_string(out, &self.level);
        for page in &self.pages {
            out.extend(page.at.to_le_bytes());
            out.extend(page.original_at.to_le_bytes());
            out.extend(page.len.to_le_bytes());
            out.extend(page.segments.to_le_bytes());
        }
    }

    pub(crate) fn read_from(payload: &[u8]) -> Result<Self> {
        let mut from = Fields::of("the footer", payload);
        let (original_bytes, tensors, flags) = (from.u64()?, from.u64()?, from.u32()?);
        let [format, 0, 0, 0] = from.array()? else {
            return Err(from.bad("has bits that must be zero"));
        };
        if flags & !(HAS_SHA256 | HAS_BASES | HAS_LOSSES) != 0 {
            return Err(Error::incompatible("the footer has flags that this version doesn't know"));
        }
        let blake3 = from.array()?;
        let sha256 = if flags & HAS_SHA256 != 0 { Some(from.array()?) } else { None };
        let bases = if flags & HAS_BASES != 0 { Some(from.u32()?) } else { None };
        let losses = if flags & HAS_LOSSES != 0 { Some(from.u32()?) } else { None };
        let (writer, level) = (from.string()?, from.string()?);
        let mut pages = Vec::new();
        while from.left() > 0 {
            pages.push(PageRef {
                at: from.u64()?,
                original_at: from.u64()?,
                len: from.u32()?,
                segments: from.u32()?,
            });
        }
        Ok(Self {
            writer,
            level,
            format: Format::from_wire_id(format),
            original_bytes,
            tensors,
            blake3,
            sha256,
            bases,
            losses,
            pages,
        })
    }

    pub(crate) fn into_info(
        self,
        version: Version,
        compressed_bytes: u64,
        losses: Option<Losses>,
    ) -> Info {
        let Self { writer, level, format, original_bytes, tensors, blake3, sha256, .. } = self;
        let losses = losses.map(Arc::new);
        Info {
            version,
            writer,
            level,
            format,
            original_bytes,
            compressed_bytes,
            tensors,
            blake3,
            sha256,
            losses,
        }
    }
}
