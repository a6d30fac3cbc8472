//! What a span finder returns: byte ranges and names, never values.

use crate::dtype::Dtype;
use crate::record::RecordLayout;
use std::ops::Range;

/// A tensor's name, dtype and shape as its file states them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, unescaped: a hint for people and look-ups, never a path.
    pub name: String,
    /// Number format of the elements.
    pub dtype: Dtype,
    /// Dimensions, outermost first; empty for a single value.
    pub shape: Vec<u64>,
}

/// A byte range of the original file: a tensor's data, or opaque bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Byte range in the original file; may be empty for a tensor without elements.
    pub range: Range<u64>,
    /// The tensor whose data these are.
    pub tensor: Option<TensorInfo>,
    /// Of bytes that are no tensor's: how the codec sees them, if not as bytes.
    pub records: Option<RecordLayout>,
}

impl Span {
    /// Bytes of which nothing is known.
    pub fn opaque(range: Range<u64>) -> Self {
        Self { range, tensor: None, records: None }
    }

    /// A tensor's data.
    pub fn tensor(range: Range<u64>, tensor: TensorInfo) -> Self {
        Self { range, tensor: Some(tensor), records: None }
    }

    /// Bytes that are no tensor's, but records.
    pub fn records(range: Range<u64>, records: RecordLayout) -> Self {
        Self { range, tensor: None, records: Some(records) }
    }
}
