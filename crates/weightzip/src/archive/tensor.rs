//! Tensors and rows of an archive.

use super::Archive;
use super::whole::check_hash;
use crate::codec::Coding;
use crate::container::directory::Hash;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::span::TensorInfo;
use std::io::Write;
use std::ops::Range;

/// Bytes that are decoded at once.
const CHUNK: u64 = 16 << 20;

/// A tensor of an [`Archive`].
pub struct Tensor<'a, S> {
    pub(super) archive: &'a Archive<S>,
    pub(super) info: &'a TensorInfo,
    pub(super) blake3: Hash,
    pub(super) segment: usize,
    /// Byte range in the original.
    pub(super) range: Range<u64>,
}

impl<'a, S: Source> Tensor<'a, S> {
    /// Name, dtype and shape.
    pub fn info(&self) -> &'a TensorInfo {
        self.info
    }

    /// BLAKE3 of its bytes, for others to pin.
    pub fn blake3(&self) -> [u8; 32] {
        self.blake3
    }

    /// Byte range in the original file.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// All its elements; `out` must have exactly [`bytes`](Self::bytes). They are compared with the tensor's BLAKE3, unless
    /// [`check_blocks`](crate::DecodeOptions::check_blocks) is off.
    ///
    /// # Errors
    /// As [`Archive::read_at`], with the tensor's name.
    pub fn read_into(&self, out: &mut [u8]) -> Result<()> {
        fill_exactly(self.archive, self.range(), self.info, out)?;
        self.archive.check_whole(&self.info.name, &self.blake3, out)
    }

    /// Writes all its elements, 16 MiB at a time, and compares them with the tensor's BLAKE3: if that fails, what was
    /// written is not to be used.
    ///
    /// # Errors
    /// As [`Archive::read_at`], with the tensor's name; [`Io`](crate::Kind::Io) if `writer` fails.
    pub fn write_to(&self, mut writer: impl Write) -> Result<()> {
        let named = |e: Error| e.in_tensor(&self.info.name);
        let (mut hasher, mut buffer, mut at) =
            (blake3::Hasher::new(), Vec::new(), self.range.start);
        let is_checked = self.archive.options.check_blocks;
        while at < self.range.end {
            let len = usize::try_from((self.range.end - at).min(CHUNK)).unwrap_or(usize::MAX);
            // Its blocks are there, before memory is taken.
            self.archive.locate(at..at + len as u64).map_err(named)?;
            buffer.resize(len, 0);
            self.archive.fill_from(at, &mut buffer, None).map_err(named)?;
            if is_checked {
                self.archive.hash(&mut hasher, &buffer)?;
            }
            let written = writer.write_all(&buffer);
            written.map_err(|e| Error::io("can't write the output", e))?;
            at += len as u64;
        }
        writer.flush().map_err(|e| Error::io("can't write the output", e))?;
        if is_checked { check_hash(&hasher, &self.blake3).map_err(named) } else { Ok(()) }
    }

    /// All its elements, in memory of their own: large tensors are on huge pages where the system
    /// has them.
    ///
    /// # Errors
    /// As [`Archive::read_at`], with the tensor's name.
    pub fn read(&self) -> Result<Vec<u8>> {
        // Its blocks bound what it can have, before memory is taken.
        self.archive.located(self.segment).map_err(|e| e.in_tensor(&self.info.name))?;
        let bytes = usize::try_from(self.bytes())
            .map_err(|_| Error::argument("the tensor doesn't fit in memory"))?;
        let mut out = crate::zeroed(bytes);
        self.read_into(&mut out)?;
        Ok(out)
    }

    /// A range of the first dimension.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is no first dimension, or it has no such rows, or they
    /// are not whole bytes.
    pub fn rows(&self, rows: Range<u64>) -> Result<Rows<'a, S>> {
        let info = self.info;
        let bad = |why: String| Error::argument(why).in_tensor(&info.name);
        let Some((&all, inner)) = info.shape.split_first() else {
            return Err(bad("a tensor of a single value has no rows".to_owned()));
        };
        if rows.start > rows.end || rows.end > all {
            return Err(bad(format!("rows {}:{} are not in 0:{all}", rows.start, rows.end)));
        }
        // A row's elements may overflow only if there are no rows.
        let row = inner.iter().fold(1u64, |row, &dim| row.saturating_mul(dim));
        let (elements, bytes) = info.dtype.block();
        let byte = |rows: u64| {
            let all = rows.saturating_mul(row);
            all.is_multiple_of(elements).then_some(self.range.start + all / elements * bytes)
        };
        let range = byte(rows.start).zip(byte(rows.end)).map(|(start, end)| start..end);
        let range = range.ok_or_else(|| bad("these rows are not whole bytes".to_owned()))?;
        Ok(Rows { archive: self.archive, info, range })
    }

    /// What it takes in the `.wz`. Reads its segment's block table.
    ///
    /// # Errors
    /// As [`Archive::read_at`].
    pub fn stored(&self) -> Result<Stored> {
        let located =
            self.archive.located(self.segment).map_err(|e| e.in_tensor(&self.info.name))?;
        let start = self.range.start - self.archive.starts[self.segment];
        let end = start + self.bytes();
        let (mut bytes, mut codings) = (0, Vec::new());
        for block in &located.blocks {
            let size = block.bytes as u64;
            let inside = end.min(block.start + size).saturating_sub(start.max(block.start));
            if inside > 0 {
                let whole = u128::from(block.entry.section().whole());
                bytes += u64::try_from(whole * u128::from(inside) / u128::from(size))
                    .unwrap_or(u64::MAX);
                codings.push(block.entry.coding);
            }
        }
        codings.sort_unstable();
        codings.dedup();
        Ok(Stored { bytes, codings })
    }
}

/// Some rows of a [`Tensor`].
pub struct Rows<'a, S> {
    archive: &'a Archive<S>,
    info: &'a TensorInfo,
    range: Range<u64>,
}

impl<S: Source> Rows<'_, S> {
    /// Byte range in the original file.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Bytes of their elements.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Their elements; `out` must have exactly [`bytes`](Self::bytes). Decodes the blocks that have them, no others.
    ///
    /// # Errors
    /// As [`Archive::read_at`], with the tensor's name.
    pub fn read_into(&self, out: &mut [u8]) -> Result<()> {
        fill_exactly(self.archive, self.range.clone(), self.info, out)
    }
}

fn fill_exactly<S: Source>(
    archive: &Archive<S>,
    range: Range<u64>,
    info: &TensorInfo,
    out: &mut [u8],
) -> Result<()> {
    let bytes = range.end - range.start;
    let read = if out.len() as u64 == bytes {
        archive.fill_from(range.start, out, None)
    } else {
        Err(Error::argument(format!("{bytes} bytes don't fit a buffer of {}", out.len())))
    };
    read.map_err(|e| e.in_tensor(&info.name))
}

/// What a tensor takes in the `.wz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes, with headers and padding; its share, where a block is shared.
    pub bytes: u64,
    /// The codings of its blocks, each once.
    pub codings: Vec<Coding>,
}
