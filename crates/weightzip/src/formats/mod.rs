//! Span finders: byte ranges and names of what a file holds (never values).
//!
//! A finder looks at the start of a file and either asks for more of it or returns a [`Layout`];
//! what it doesn't claim is opaque. It never learns the file's length, so that a pipe and a file
//! give the same plan; [`Layout::fit`] tells afterwards what is missing or left over.
//!
//! Files whose directory is not at the start, such as zip archives, are read at random; what comes
//! through a pipe is put into a file first. So they give the same plan, too.

mod beside;
mod distcp;
mod gguf;
mod msgpack;
mod numpy;
mod onnx;
mod pickle;
mod safetensors;
#[cfg(test)]
pub(crate) mod tests;
mod torch;
mod window;
mod zip;

pub use beside::scan_file;

use crate::container::directory::MAX_DIMS;
use crate::container::wire::MAX_STRING;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::span::{Span, TensorInfo};
use std::collections::HashSet;

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
    /// A PyTorch checkpoint or a TorchScript program, or several.
    Pytorch,
    /// A NumPy array, or an archive of them: `.npy`, `.npz`.
    Numpy,
    /// An ONNX model, or data of one in a file of their own.
    Onnx,
    /// What Flax writes as msgpack.
    Flax,
}

impl Format {
    /// A lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Pytorch => "pytorch",
            Self::Numpy => "numpy",
            Self::Onnx => "onnx",
            Self::Flax => "flax",
        }
    }

    pub(crate) fn wire_id(self) -> u8 {
        match self {
            Self::Opaque => 0,
            Self::Safetensors => 1,
            Self::Gguf => 2,
            Self::Pytorch => 3,
            Self::Numpy => 4,
            Self::Onnx => 5,
            Self::Flax => 6,
        }
    }

    /// The format is a hint: one that this version doesn't know is shown as opaque.
    pub(crate) fn from_wire_id(id: u8) -> Self {
        match id {
            1 => Self::Safetensors,
            2 => Self::Gguf,
            3 => Self::Pytorch,
            4 => Self::Numpy,
            5 => Self::Onnx,
            6 => Self::Flax,
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

    /// The layout of a file of which these tensors are known.
    pub(crate) fn known(format: Format, tensors: Vec<Span>, size: u64) -> Self {
        Self::of_tensors(format, tensors, size, Warnings::default())
    }

    /// The layout of a file of `size` bytes that has these tensors and records, in any order, and opaque bytes
    /// around them. A name that comes twice gets its place added; what overlaps, or can't be
    /// described, stays opaque.
    fn of_tensors(format: Format, mut tensors: Vec<Span>, size: u64, warnings: Warnings) -> Self {
        tensors.sort_by_key(|span| (span.range.start, span.range.end));
        let (mut spans, mut names, mut at) = (Vec::new(), HashSet::new(), 0);
        for mut span in tensors {
            if span.range.start < at || span.range.end > size {
                continue;
            }
            if let Some(tensor) = span.tensor.as_mut().filter(|t| names.contains(&t.name)) {
                tensor.name = format!("{} (at {})", tensor.name, span.range.start);
            }
            let is_new = |tensor: &TensorInfo| names.insert(tensor.name.clone());
            if flaw(&span).is_some() || !span.tensor.as_ref().is_none_or(is_new) {
                continue;
            }
            if at < span.range.start {
                spans.push(Span::opaque(at..span.range.start));
            }
            at = span.range.end;
            spans.push(span);
        }
        if at < size {
            spans.push(Span::opaque(at..size));
        }
        Self { format, spans, warnings: warnings.finish() }
    }

    /// The same bytes as numbers of this dtype, from the first byte on, if no format was found that says
    /// what they are. A part of a number at the end stays opaque.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if one was.
    ///
    /// ```
    /// use weightzip::{Dtype, scan};
    /// let layout = scan([7; 21].as_slice())?.of_numbers(Dtype::Bf16)?;
    /// let ranges: Vec<_> = layout.spans.iter().map(|span| span.range.clone()).collect();
    /// assert_eq!(ranges, [0..20, 20..21]);
    /// # Ok::<(), weightzip::Error>(())
    /// ```
    pub fn of_numbers(self, dtype: Dtype) -> Result<Self> {
        if self.format != Format::Opaque || self.spans.iter().any(|span| span.tensor.is_some()) {
            let format = self.format.name();
            return Err(Error::argument(format!(
                "this is {format}, which says what its numbers are; leave out the dtype"
            )));
        }
        let (records, end) = (dtype.record_layout(), self.end());
        let whole = end - end % u64::from(records.bytes());
        let numbers = Span::records(0..whole, records);
        let spans = [numbers, Span::opaque(whole..end)];
        let spans = spans.into_iter().filter(|span| !span.range.is_empty()).collect();
        // Whoever says what the numbers are needn't hear what else they might have been.
        Ok(Self { spans, ..Self::opaque(Vec::new()) })
    }

    /// Checks what a caller brings.
    pub(crate) fn check(&self) -> Result<()> {
        let (mut names, mut at) = (HashSet::new(), 0);
        for span in &self.spans {
            let bad = |why| Err(Error::argument(why).at(span.range.start).in_tensor(name_of(span)));
            if span.range.start != at || span.range.end < at {
                return bad(
                    "the layout's spans must follow one another without gaps, from zero on",
                );
            }
            if let Some(why) = flaw(span) {
                return bad(why);
            }
            if span.tensor.is_some() && !names.insert(name_of(span)) {
                return bad("the layout has two tensors of this name");
            }
            at = span.range.end;
        }
        Ok(())
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

/// The span's tensor's name; empty if it has none.
fn name_of(span: &Span) -> &str {
    span.tensor.as_ref().map_or("", |tensor| &tensor.name)
}

/// Why a span can't be written to a `.wz`.
fn flaw(span: &Span) -> Option<&'static str> {
    let bytes = span.range.end.checked_sub(span.range.start);
    if let Some(records) = &span.records
        && !bytes.is_some_and(|bytes| bytes.is_multiple_of(records.bytes().into()))
    {
        return Some("a span has a part of a record");
    }
    let TensorInfo { name, dtype, shape } = span.tensor.as_ref()?;
    if name.len() as u64 > MAX_STRING || shape.len() > MAX_DIMS {
        return Some("a tensor has a name of more than a mebibyte, or more than 64 dimensions");
    }
    (dtype.bytes_of(shape) != bytes)
        .then_some("a tensor has another number of bytes than its shape says")
}

/// A finder's answer.
pub(crate) enum Scan {
    /// It needs this many bytes from the file's start, if there are as many.
    More(usize),
    /// The file's directory is not at its start: it must be read at random, by [`scan`].
    Whole,
    /// It is done.
    Done(Layout),
}

/// Why a finder gives up.
enum Trouble {
    /// The file can't be read.
    Unreadable(Error),
    /// It is not what it seems to be: why.
    Broken(String),
}

/// What a finder that reads at random finds.
type Found<T> = std::result::Result<T, Trouble>;

fn broken<T>(why: impl Into<String>) -> Found<T> {
    Err(Trouble::Broken(why.into()))
}

/// What is wrong with parts of a file: the first few, and how many more there are.
#[derive(Default)]
struct Warnings {
    first: Vec<String>,
    more: usize,
}

impl Warnings {
    const SHOWN: usize = 8;

    fn add(&mut self, warning: impl FnOnce() -> String) {
        match self.first.len() < Self::SHOWN {
            true => self.first.push(warning()),
            false => self.more += 1,
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more like these", self.more));
        }
        self.first
    }
}

/// Reads `len` bytes that the file has, as was checked.
fn read(source: &dyn Source, at: u64, len: usize) -> Found<Vec<u8>> {
    let mut bytes = vec![0; len];
    source.read_at(at, &mut bytes).map_err(|e| Trouble::Unreadable(unreadable(e).at(at)))?;
    Ok(bytes)
}

fn unreadable(error: std::io::Error) -> Error {
    Error::io("can't read the input", error)
}

/// Bytes that tell what a file may be.
const MAGIC: usize = 9;

/// Looks at the first bytes of a file; `ended` if there are no more.
pub(crate) fn scan_prefix(prefix: &[u8], ended: bool) -> Scan {
    if prefix.len() < MAGIC && !ended {
        Scan::More(MAGIC)
    } else if zip::is_zip(prefix) || onnx::is_onnx(prefix) || msgpack::is_flax(prefix) {
        Scan::Whole
    } else if numpy::is_npy(prefix) {
        numpy::scan(prefix, ended)
    } else if gguf::is_gguf(prefix) {
        gguf::scan(prefix, ended)
    } else {
        safetensors::scan(prefix, ended)
    }
}

/// Whether the tensors of a file that starts so can be rounded: those of archives have checksums in
/// it, which would no longer fit.
///
/// ```
/// assert!(weightzip::can_be_rounded(b"GGUF") && !weightzip::can_be_rounded(b"PK\x03\x04"));
/// ```
pub fn can_be_rounded(prefix: &[u8]) -> bool {
    !zip::is_zip(prefix)
}

/// Finds the spans of a file. Reads its header or directory only, and for archives those of their
/// members that say what is in others; of each at most 100 MB.
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
    let size = source.size().map_err(unreadable)?;
    let mut prefix = Vec::new();
    loop {
        let ended = prefix.len() as u64 == size;
        match scan_prefix(&prefix, ended) {
            Scan::Done(layout) => return Ok(layout.fit(size)),
            Scan::Whole => return scan_at_random(&source, size, &prefix),
            Scan::More(wanted) => {
                let have = prefix.len();
                prefix.resize(wanted.min(usize::try_from(size).unwrap_or(usize::MAX)), 0);
                source.read_at(have as u64, &mut prefix[have..]).map_err(unreadable)?;
            }
        }
    }
}

fn scan_at_random(source: &dyn Source, size: u64, prefix: &[u8]) -> Result<Layout> {
    let (what, found) = if zip::is_zip(prefix) {
        ("zip archive", zip::scan(source, size, &mut distcp::Names::new()).map(Some))
    } else if onnx::is_onnx(prefix) {
        ("ONNX model", onnx::scan(source, size))
    } else {
        ("Flax file", msgpack::scan(source, size))
    };
    let warnings = match found {
        Ok(Some(layout)) => return Ok(layout),
        Ok(None) => Vec::new(),
        Err(Trouble::Broken(why)) => {
            vec![format!("not a valid {what}: {why}; kept as opaque bytes")]
        }
        Err(Trouble::Unreadable(error)) => return Err(error),
    };
    Ok(Layout::opaque(warnings).fit(size))
}
