//! An archive's original from front to back, and what is in it: for who compresses it again.

use super::Archive;
use crate::error::Result;
use crate::formats::{self, Layout};
use crate::source::Source;
use crate::span::Span;
use std::io::{self, Read};

/// Bytes that are decoded at once: many blocks, for as many threads.
const CHUNK: u64 = 16 << 20;

impl<S: Source> Archive<S> {
    /// The original from front to back, for what takes a reader, such as [`compress`](crate::compress). Takes
    /// 16 MiB of memory.
    pub fn reader(&self) -> impl Read {
        Reader { archive: self, at: 0, buffer: Vec::new(), start: 0 }
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
    buffer: Vec<u8>,
    /// How much of the buffer was given.
    start: usize,
}

impl<S: Source> Read for Reader<'_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.buffer.len() {
            let left = (self.archive.info.original_bytes - self.at).min(CHUNK);
            self.buffer.resize(usize::try_from(left).map_err(io::Error::other)?, 0);
            self.archive.read_at(self.at, &mut self.buffer).map_err(io::Error::other)?;
            self.at += left;
            self.start = 0;
        }
        let rest = &self.buffer[self.start..];
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.start += len;
        Ok(len)
    }
}
