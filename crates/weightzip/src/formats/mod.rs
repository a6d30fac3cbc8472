//! Span finders: byte ranges and names of what a file holds (never values).
//!
//! A finder looks at the start of a file and either asks for more of it or returns a [`Layout`];
//! what it doesn't claim is opaque. It never learns the file's length, so that a pipe and a file
//! give the same plan; [`Layout::fit`] tells afterwards what is missing or left over.

mod gguf;
mod safetensors;

use crate::error::{Error, Result};
use crate::source::Source;
use crate::span::Span;

/// What a file was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Bytes of which nothing is known.
    Opaque,
    /// A safetensors file.
    Safetensors,
    /// A GGUF file.
    Gguf,
}

impl Format {
    /// A lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
        }
    }

    pub(crate) fn wire_id(self) -> u8 {
        match self {
            Self::Opaque => 0,
            Self::Safetensors => 1,
            Self::Gguf => 2,
        }
    }

    /// The format is a hint: one that this version doesn't know is shown as opaque.
    pub(crate) fn from_wire_id(id: u8) -> Self {
        match id {
            1 => Self::Safetensors,
            2 => Self::Gguf,
            _ => Self::Opaque,
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the file was recognised as.
    pub format: Format,
    /// Spans in file order, without gaps, from the file's start.
    pub spans: Vec<Span>,
    /// What is wrong with the file, for people: it is restored identically all the same.
    pub warnings: Vec<String>,
}

impl Layout {
    fn opaque(warnings: Vec<String>) -> Self {
        Self { format: Format::Opaque, spans: Vec::new(), warnings }
    }

    /// Where the last span ends.
    fn end(&self) -> u64 {
        self.spans.last().map_or(0, |s| s.range.end)
    }

    /// The layout of a file that turned out to have `size` bytes: tensors that are cut short
    /// become opaque, and so does what follows the last span.
    #[must_use]
    pub(crate) fn fit(mut self, size: u64) -> Self {
        let end = self.end();
        if size < end {
            self.spans.retain(|s| s.range.end <= size || s.range.start < size);
            if let Some(cut) = self.spans.last_mut().filter(|s| s.range.end > size) {
                *cut = Span::opaque(cut.range.start..size);
            }
            self.warnings.push(format!(
                "the file ends early: it has {size} bytes, its header tells of {end}"
            ));
        } else if size > end {
            if self.format != Format::Opaque {
                self.warnings.push(format!("{} bytes follow the last tensor", size - end));
            }
            self.spans.push(Span::opaque(end..size));
        }
        self
    }
}

/// A finder's answer.
pub(crate) enum Scan {
    /// It needs this many bytes from the file's start, if there are as many.
    More(usize),
    /// It is done.
    Done(Layout),
}

/// Looks at the first bytes of a file; `ended` if there are no more.
pub(crate) fn scan_prefix(prefix: &[u8], ended: bool) -> Scan {
    match gguf::is_meant(prefix) {
        true => gguf::scan(prefix, ended),
        false => safetensors::scan(prefix, ended),
    }
}

/// Finds the spans of a file. Reads its header only.
///
/// # Errors
/// [`Io`](crate::Kind::Io) if it can't be read. A file that breaks its format's rules is no
/// error: it is opaque, with a warning.
///
/// ```
/// let layout = weightzip::scan(b"not a model".as_slice())?;
/// assert_eq!((layout.spans.len(), layout.spans[0].range.clone()), (1, 0..11));
/// # Ok::<(), weightzip::Error>(())
/// ```
pub fn scan<S: Source + ?Sized>(source: &S) -> Result<Layout> {
    let io = |e| Error::io("can't read the input", e);
    let size = source.size().map_err(io)?;
    let mut prefix = Vec::new();
    loop {
        let ended = prefix.len() as u64 == size;
        match scan_prefix(&prefix, ended) {
            Scan::Done(layout) => return Ok(layout.fit(size)),
            Scan::More(wanted) => {
                let have = prefix.len();
                prefix.resize(wanted.min(usize::try_from(size).unwrap_or(usize::MAX)), 0);
                source.read_at(have as u64, &mut prefix[have..]).map_err(io)?;
            }
        }
    }
}
