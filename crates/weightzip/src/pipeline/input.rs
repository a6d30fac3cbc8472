//! What is read from front to back, and what must be known of it before: the original's layout, and what a `.wz`
//! repeats.

use crate::archive::Archive;
use crate::container::header;
use crate::error::{Error, Result};
use crate::formats::{self, Layout, Scan};
use crate::options::{DecodeOptions, Options};
use crate::source::Source;
use std::fs::File;
use std::io::{self, Chain, Cursor, Read, Seek};
use std::sync::Arc;

/// A `.wz` that is read from front to back, at random.
pub(super) type Again = Archive<Arc<dyn Source + Send>>;

/// A file from its start.
pub(super) enum Input<R> {
    /// What was read to look at it, and the rest.
    Streamed(Chain<Cursor<Vec<u8>>, R>),
    /// All of it, in a file without a name.
    Spooled(File),
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Streamed(from) => from.read(buf),
            Self::Spooled(from) => from.read(buf),
        }
    }
}

/// What is to be compressed, and its layout: the given one, if the input's start doesn't say it.
pub(super) fn scanned<R: Read>(mut reader: R, options: &Options) -> Result<(Input<R>, Layout)> {
    options.layout.as_ref().map_or(Ok(()), Layout::check)?;
    let (mut prefix, mut ended) = (Vec::new(), false);
    let layout = loop {
        match formats::scan_prefix(&prefix, ended) {
            Scan::Done(layout) if layout.spans.is_empty() && options.layout.is_some() => {
                break options.layout.clone();
            }
            Scan::Done(layout) => break Some(layout),
            Scan::Whole => break options.layout.clone(),
            Scan::More(wanted) => {
                let missing = wanted.saturating_sub(prefix.len()) as u64;
                let read = reader.by_ref().take(missing).read_to_end(&mut prefix);
                ended = (read.map_err(unreadable)? as u64) < missing;
            }
        }
    };
    if !options.lossy.is_empty() && !formats::can_be_rounded(&prefix) {
        return Err(Error::argument(
            "the input is an archive whose members have checksums, which would no longer fit rounded ones; \
             save its tensors as safetensors first",
        ));
    }
    let mut from = Cursor::new(prefix).chain(reader);
    let (input, layout) = match layout {
        Some(layout) => (Input::Streamed(from), layout),
        None => {
            let file = spool(&mut from)?;
            let layout = formats::scan(&file)?;
            (Input::Spooled(file), layout)
        }
    };
    match options.dtype {
        None => Ok((input, layout)),
        // All of it is records then, wherever it ends.
        Some(dtype) => Ok((input, Layout { spans: Vec::new(), ..layout.of_numbers(dtype)? })),
    }
}

/// What is to be decompressed, and what it repeats, if it does: to be read by [`Repeated`](crate::archive::Repeated).
pub(super) fn packed<R: Read>(
    mut reader: R,
    options: &DecodeOptions,
) -> Result<(Input<R>, Option<Again>)> {
    let mut start = Vec::new();
    reader.by_ref().take(header::LEN as u64).read_to_end(&mut start).map_err(unreadable)?;
    let flags = start.first_chunk().and_then(|start| header::read_file(start).ok());
    let mut from = Cursor::new(start).chain(reader);
    if flags.is_none_or(|(_, flags)| !flags.repeats) {
        return Ok((Input::Streamed(from), None));
    }
    let (input, source) = match &options.source {
        Some(source) => (Input::Streamed(from), Arc::clone(source)),
        None => {
            let file = spool(&mut from)?;
            let again = file.try_clone().map_err(unreadable)?;
            (Input::Spooled(file), Arc::new(again) as _)
        }
    };
    let DecodeOptions { check_blocks, limits, .. } = *options;
    // Who reads what is repeated has threads of his own.
    let options = DecodeOptions { threads: 1, check_blocks, limits, ..DecodeOptions::default() };
    Ok((input, Some(Archive::open_with(source, options)?)))
}

/// Copies an input into a file that goes with its handle.
fn spool(from: &mut impl Read) -> Result<File> {
    let cant = |e| Error::io("can't copy the input to a temporary file (TMPDIR says where)", e);
    let mut file = tempfile::tempfile().map_err(cant)?;
    // Whose error it is: that of a reader, or of the disk.
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => io::Write::write_all(&mut file, &buffer[..n]).map_err(cant)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
    file.rewind().map_err(cant)?;
    Ok(file)
}

/// Bytes that are copied at a time.
const BUFFER: usize = 1 << 20;

fn unreadable(error: io::Error) -> Error {
    Error::io("can't read the input", error)
}
