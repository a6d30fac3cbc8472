//! An archive's original from front to back, and what is in it: for who compresses it again.

use super::Archive;
use crate::error::{Error, Result};
use crate::formats::{self, Layout};
use crate::source::Source;
use crate::span::Span;
use std::io::{self, Read};

/// Bytes that are decoded at once: many blocks, for as many threads.
const CHUNK: u64 = 16 << 20;

impl<S: Source> Archive<S> {
    /// The original from front to back, for what takes a reader, such as [`compress`](crate::compress). Takes
    /// 16 MiB of memory. Compares all of it with the original's BLAKE3 before it gives the last bytes.
    pub fn reader(&self) -> impl Read {
        let hasher = blake3::Hasher::new();
        Reader { archive: self, at: 0, hasher, buffer: Vec::new(), start: 0 }
    }

    /// What [`scan`](crate::scan) finds in the original; or what the directory says, if another file
    /// [described it](crate::scan_file) when it was compressed.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub fn layout(&self) -> Result<Layout> {
        let found = formats::scan(self)?;
        let tensors: Vec<_> =
            self.tensors().map(|t| Span::tensor(t.range(), t.info().clone())).collect();
        let same = found.spans.iter().filter(|span| span.tensor.is_some()).eq(&tensors);
        match same {
            true => Ok(found),
            false => Ok(Layout::known(self.info.format, tensors, self.info.original_bytes)),
        }
    }
}

struct Reader<'a, S> {
    archive: &'a Archive<S>,
    /// How much was decoded.
    at: u64,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    /// How much of the buffer was given.
    start: usize,
}

impl<S: Source> Reader<'_, S> {
    /// Decodes what comes next.
    fn next(&mut self) -> Result<()> {
        let Self { archive, at, hasher, buffer, start } = self;
        let len = (archive.info.original_bytes - *at).min(CHUNK);
        buffer.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        archive.fill_from(*at, buffer, None)?;
        (*at, *start) = (*at + len, 0);
        if len == 0 || !archive.options.check_blocks {
            return Ok(());
        }
        archive.hash(hasher, buffer)?;
        let is_wrong = *at == archive.info.original_bytes
            && *hasher.finalize().as_bytes() != archive.info.blake3;
        match is_wrong {
            true => Err(Error::corrupt("the restored bytes differ from the original's hash")),
            false => Ok(()),
        }
    }
}

impl<S: Source> Read for Reader<'_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.buffer.len() {
            let at = self.at;
            if let Err(error) = self.next() {
                (self.at, self.start) = (at, 0);
                self.buffer.clear();
                return Err(io::Error::other(error));
            }
        }
        let rest = &self.buffer[self.start..];
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.start += len;
        Ok(len)
    }
}
