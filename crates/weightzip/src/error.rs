//! Errors are values: one of five kinds, with the place where it happened.

use std::fmt;

/// What went wrong, in the five classes that a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The file is sound but asks for something that this version can't do.
    Compatibility,
    /// The bytes contradict themselves or a checksum.
    Corruption,
    /// The data ends before it should.
    InsufficientData,
    /// The caller asked for something that can't be.
    InvalidArgument,
    /// Reading or writing failed.
    Io,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compatibility => "incompatible",
            Self::Corruption => "corrupt",
            Self::InsufficientData => "insufficient data",
            Self::InvalidArgument => "invalid argument",
            Self::Io => "i/o error",
        })
    }
}

/// An error with its kind and, where known, the byte offset in the file and the tensor.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    offset: Option<u64>,
    tensor: Option<String>,
    source: Option<std::io::Error>,
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` is plain, lower-case, and says the next step if there is one.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), offset: None, tensor: None, source: None }
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corruption, message)
    }

    pub(crate) fn incompatible(message: impl Into<String>) -> Self {
        Self::new(Kind::Compatibility, message)
    }

    pub(crate) fn short(message: impl Into<String>) -> Self {
        Self::new(Kind::InsufficientData, message)
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    /// An [`Kind::Io`] error; `doing` names the operation. An end of file that nobody
    /// expected is [`Kind::InsufficientData`] instead.
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::UnexpectedEof => Kind::InsufficientData,
            _ => Kind::Io,
        };
        Self { source: Some(source), ..Self::new(kind, doing) }
    }

    /// A [watch](crate::Watch) ended the work.
    pub(crate) fn stopped(source: std::io::Error) -> Self {
        Self { source: Some(source), ..Self::new(Kind::Io, "stopped") }
    }

    /// Adds the byte offset in the file being read, unless a deeper one is known.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset.get_or_insert(offset);
        self
    }

    /// Adds the tensor's name, unless one is known.
    #[must_use]
    pub fn in_tensor(mut self, name: &str) -> Self {
        self.tensor.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Which of the five kinds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Byte offset in the file being read, where known.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// The tensor concerned, where known. Unescaped: it may come from a hostile file.
    pub fn tensor(&self) -> Option<&str> {
        self.tensor.as_deref()
    }

    /// The message alone, without kind and place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (at byte {offset}")?;
            match &self.tensor {
                Some(name) => write!(f, ", tensor {name:?})")?,
                None => f.write_str(")")?,
            }
        } else if let Some(name) = &self.tensor {
            write!(f, " (tensor {name:?})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}
