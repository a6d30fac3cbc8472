//! A file that is looked at here and there, some bytes at a time.

use super::{Found, read};
use crate::source::Source;

/// Bytes that are read at a time.
const BYTES: u64 = 16 << 10;

pub(super) struct Window<'a> {
    source: &'a dyn Source,
    size: u64,
    /// Some bytes of the file, and where they start.
    bytes: Vec<u8>,
    start: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(source: &'a dyn Source, size: u64) -> Self {
        Self { source, size, bytes: Vec::new(), start: 0 }
    }

    /// A few bytes; `None` if the file doesn't have them.
    pub(super) fn get(&mut self, at: u64, len: usize) -> Found<Option<&[u8]>> {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.size);
        let Some(end) = end else { return Ok(None) };
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = BYTES.max(len as u64).min(self.size - at);
            self.bytes = read(self.source, at, usize::try_from(wanted).unwrap_or(len))?;
            self.start = at;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).and_then(|bytes| bytes.get(..len)))
    }
}
