//! Positional reads, so that one archive serves files, memory and remote ranges.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Something with a length that can be read at any offset, by several threads at once.
pub trait Source: Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the underlying store reports.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the source ends before `buf` is full.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// The bytes of a range, if they are in memory: what is in them is then decoded without a copy.
    /// `None` if they are not, or the source ends before.
    fn lend(&self, _range: Range<u64>) -> Option<&[u8]> {
        None
    }
}

impl Source for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(self, buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

/// A file again, to be read at random beside what reads it from front to back; none if it can only be read so, as a pipe,
/// or if the one would move the other's place, as on Windows.
pub fn at_random(file: &File) -> Option<Arc<dyn Source + Send>> {
    let is_regular = cfg!(unix) && file.metadata().is_ok_and(|there| there.is_file());
    let again = is_regular.then(|| file.try_clone())?.ok()?;
    Some(Arc::new(again))
}

/// Opens a file that is to be read at random. What can't be so is refused at once: opening a named pipe would wait
/// for someone to write to it.
///
/// # Errors
/// What the system reports; `InvalidInput` for what is neither a file nor a folder.
pub fn open_at_random(path: &Path) -> io::Result<File> {
    let there = std::fs::metadata(path)?;
    match there.is_file() || there.is_dir() {
        true => File::open(path),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file; it has to be read at random, so copy it into a file first",
        )),
    }
}

/// Reads a source from front to back.
pub(crate) struct FromStart<'a> {
    source: &'a dyn Source,
    at: u64,
}

impl<'a> FromStart<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Self {
        Self { source, at: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.source.size()?.saturating_sub(self.at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.source.read_at(self.at, &mut buf[..len])?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Source for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        let part = end.and_then(|end| self.lend(offset..end));
        buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn lend(&self, range: Range<u64>) -> Option<&[u8]> {
        self.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }
}

impl Source for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buf)
    }

    fn lend(&self, range: Range<u64>) -> Option<&[u8]> {
        self.as_slice().lend(range)
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buf)
    }

    fn lend(&self, range: Range<u64>) -> Option<&[u8]> {
        (**self).lend(range)
    }
}

impl<S: Source + Send + ?Sized> Source for Arc<S> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buf)
    }

    fn lend(&self, range: Range<u64>) -> Option<&[u8]> {
        (**self).lend(range)
    }
}

thread_local! {
    /// What is read that a source can't lend.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Uses the bytes of a range whose length was checked, without a copy if the source lends them.
pub(crate) fn with_bytes<T>(
    source: &(impl Source + ?Sized),
    range: Range<u64>,
    work: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    if let Some(bytes) = source.lend(range.clone()) {
        return work(bytes);
    }
    let mut buffer = BUFFER.take();
    let len = usize::try_from(range.end - range.start).unwrap_or(0);
    buffer.resize(buffer.len().max(len), 0);
    let read = source.read_at(range.start, &mut buffer[..len]);
    let read = read.map_err(|e| Error::io("can't read the input", e).at(range.start));
    let done = read.and_then(|()| work(&buffer[..len]));
    BUFFER.set(buffer);
    done
}
