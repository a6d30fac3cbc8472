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
mod layout;
mod msgpack;
mod numpy;
mod onnx;
mod pickle;
mod pt2;
mod safetensors;
mod tensors;
#[cfg(test)]
pub(crate) mod tests;
mod torch;
mod warnings;
mod window;
mod zip;

pub use beside::scan_file;
pub use layout::Layout;

use crate::error::{Error, Result};
use crate::source::Source;

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
