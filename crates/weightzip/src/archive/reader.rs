//! An archive's original from front to back.

use super::Archive;
use crate::source::Source;
use std::io::{self, Read};

/// Bytes that are decoded at once: many blocks, for as many threads.
const CHUNK: u64 = 16 << 20;

impl<S: Source> Archive<S> {
    /// The original from front to back, for what takes a reader, such as [`compress`](crate::compress). Takes
    /// 16 MiB of memory.
    pub fn reader(&self) -> impl Read {
        Reader { archive: self, at: 0, buffer: Vec::new(), start: 0 }
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
