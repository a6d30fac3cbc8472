//! ONNX models: one protobuf message, with tensors anywhere in it.
//!
//! Tensors whose elements lie in one piece, as the initializers of graphs and the constants of nodes
//! mostly have them, become tensors. What is packed in another way, or smaller than a directory entry is worth,
//! stays opaque. A file is a model only if all of it parses as one. Elements may be in another file: where that is, is
//! found, too.

use super::tensors::{Extent, Tensors};
use super::warnings::Warnings;
use super::window::Window;
use super::{Format, Found, Layout, Trouble, broken};
use crate::container::directory::MAX_DIMS;
use crate::dtype::Dtype;
use crate::source::Source;
use crate::span::{Span, TensorInfo};
use std::ops::Range;

/// Most tensors in other files that any model may have, and one for each so many bytes more.
const MAX_EXTERNAL: u64 = 1 << 16;
const BYTES_EACH: u64 = 64;

/// Most messages that one may be in.
const MAX_DEPTH: usize = 64;

/// Longest name, and most things that are said of data in another file.
const MAX_NAME: usize = 1 << 10;
const MAX_ENTRIES: usize = 16;

/// Tensors of fewer bytes are not worth their hashes.
const MIN_BYTES: u64 = 64;

/// The name of tensors that have none, such as the constants of nodes.
const NAMELESS: &str = "constant";

/// Whether a file starts as ONNX models do: with a version of one byte, then another field of a model.
pub(super) fn is_onnx(prefix: &[u8]) -> bool {
    matches!(prefix, [0x08, 1..=0x7F, 0x12 | 0x1A | 0x22 | 0x28 | 0x32 | 0x3A | 0x42, ..])
}

/// Finds the tensors of a model; `None` if the file is none.
pub(super) fn scan(source: &dyn Source, size: u64) -> Found<Option<Layout>> {
    let walk = Walk::through(source, size)?;
    Ok(walk.map(|walk| Layout::of_tensors(Format::Onnx, walk.tensors, walk.warnings)))
}

/// Finds the tensors of a model that are in other files; `None` if the file is none.
pub(super) fn external(source: &dyn Source, size: u64) -> Found<Option<Vec<External>>> {
    Ok(Walk::through(source, size)?.map(|walk| walk.external))
}

/// A tensor that is in another file.
pub(super) struct External {
    pub(super) info: TensorInfo,
    /// The file's path, from the model's folder.
    pub(super) location: String,
    /// Where it starts there, and its bytes, as they are written.
    offset: Option<String>,
    length: Option<String>,
}

impl External {
    /// Its place in a file of `size` bytes.
    pub(super) fn span(&self, size: u64) -> Result<Span, &'static str> {
        let number =
            |text: &Option<String>| text.as_ref().map(|text| text.parse::<u64>()).transpose();
        let offset = number(&self.offset).map_err(|_| "its offset is no number")?.unwrap_or(0);
        let length = number(&self.length).map_err(|_| "its length is no number")?;
        let bytes = self.info.dtype.bytes_of(&self.info.shape);
        let bytes = bytes.filter(|bytes| length.is_none_or(|length| length == *bytes));
        let bytes = bytes.ok_or("it has another number of bytes than its shape says")?;
        let end = offset.checked_add(bytes).filter(|end| *end <= size);
        let end = end.ok_or("it would end behind the file")?;
        Ok(Span::tensor(offset..end, self.info.clone()))
    }
}

/// The messages that tensors may be in.
#[derive(Clone, Copy, PartialEq)]
enum Message {
    Model,
    Graph,
    Training,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

impl Message {
    /// What a field of such a message has, if that may have tensors in it.
    fn inner(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => {
                Self::Tensor
            }
            _ => return None,
        })
    }
}

/// What a field has.
enum Value {
    Number(u64),
    Bytes(Range<u64>),
    /// Four or eight bytes.
    Fixed,
}

/// A walk through the file, from front to back.
struct Walk<'a> {
    window: Window<'a>,
    tensors: Tensors,
    external: Vec<External>,
    /// How many may be in other files.
    most_external: u64,
    warnings: Warnings,
}

/// What a tensor's message says.
#[derive(Default)]
struct Fields {
    shape: Vec<u64>,
    kind: u64,
    name: Option<Range<u64>>,
    data: Option<Range<u64>>,
    /// Whether its data are in another file, and what is said of that, by keys.
    is_external: bool,
    entries: Vec<Range<u64>>,
}

impl<'a> Walk<'a> {
    /// Finds what a model has; `None` if the file is none.
    fn through(source: &'a dyn Source, size: u64) -> Found<Option<Self>> {
        let mut walk = Self {
            window: Window::new(source, size),
            tensors: Tensors::new(Extent::File(size)),
            external: Vec::new(),
            most_external: MAX_EXTERNAL + size / BYTES_EACH,
            warnings: Warnings::default(),
        };
        if !walk.is_model(size)? {
            return Ok(None);
        }
        walk.message(Message::Model, 0..size, 0)?;
        Ok(Some(walk))
    }

    /// Whether all of the file is the fields of a message, with a graph among them.
    fn is_model(&mut self, size: u64) -> Found<bool> {
        let (mut at, mut has_graph) = (0, false);
        while at < size {
            let Some((field, value)) = self.field(&mut at, size)? else { return Ok(false) };
            has_graph |= field == 7 && matches!(value, Value::Bytes(_));
        }
        Ok(has_graph)
    }

    /// Looks for tensors in a message.
    fn message(&mut self, message: Message, range: Range<u64>, depth: usize) -> Found<()> {
        if message == Message::Tensor {
            return self.tensor(range);
        }
        if depth > MAX_DEPTH {
            return broken(format!("its graphs are in one another more than {MAX_DEPTH} deep"));
        }
        let mut at = range.start;
        while at < range.end {
            let (field, value) = self.known_field(&mut at, range.end)?;
            let (Some(inner), Value::Bytes(range)) = (message.inner(field), value) else {
                continue;
            };
            let start = range.start;
            match self.message(inner, range, depth + 1) {
                // What is odd costs itself only.
                Err(Trouble::Broken(why)) => self
                    .warnings
                    .add(|| format!("what is at byte {start} is kept as opaque bytes: {why}")),
                found => found?,
            }
        }
        Ok(())
    }

    fn tensor(&mut self, range: Range<u64>) -> Found<()> {
        let said = self.fields(range)?;
        let Some(dtype) = dtype(said.kind) else { return Ok(()) };
        if said.is_external {
            return self.elsewhere(said, dtype);
        }
        let Some(range) = said.data else { return Ok(()) };
        let bytes = range.end - range.start;
        if bytes < MIN_BYTES {
            return Ok(());
        }
        let (name, shape) = (self.name(said.name)?, said.shape);
        if dtype.bytes_of(&shape) != Some(bytes) {
            let why = format!("it has {bytes}, which its shape does not say");
            self.warnings.opaque("tensor", &name, &why);
            return Ok(());
        }
        self.tensors.add(Span::tensor(range, TensorInfo { name, dtype, shape }));
        Ok(())
    }

    fn fields(&mut self, range: Range<u64>) -> Found<Fields> {
        let (mut at, mut said) = (range.start, Fields::default());
        while at < range.end {
            match self.known_field(&mut at, range.end)? {
                (1, Value::Number(dim)) => said.shape.push(dim),
                (1, Value::Bytes(mut packed)) => {
                    while packed.start < packed.end && said.shape.len() <= MAX_DIMS {
                        let dim = self.varint(&mut packed.start, packed.end)?;
                        said.shape.push(dim.map_or_else(|| self.damaged(packed.start), Ok)?);
                    }
                }
                (2, Value::Number(number)) => said.kind = number,
                (8, Value::Bytes(range)) => said.name = Some(range),
                // Raw bytes; floats and doubles without gaps.
                (9 | 4 | 10, Value::Bytes(range)) if said.data.is_none() => said.data = Some(range),
                (13, Value::Bytes(range)) if said.entries.len() < MAX_ENTRIES => {
                    said.entries.push(range);
                }
                (14, Value::Number(place)) => said.is_external = place == 1,
                _ => {}
            }
            if said.shape.len() > MAX_DIMS {
                return broken(format!("it has more than {MAX_DIMS} dimensions"));
            }
        }
        Ok(said)
    }

    /// Notes a tensor whose data are in another file.
    fn elsewhere(&mut self, said: Fields, dtype: Dtype) -> Found<()> {
        let (mut location, mut offset, mut length) = (None, None, None);
        for entry in said.entries {
            let (mut at, mut key, mut value) = (entry.start, None, None);
            while at < entry.end {
                match self.known_field(&mut at, entry.end)? {
                    (1, Value::Bytes(range)) => key = self.text(range)?,
                    (2, Value::Bytes(range)) => value = self.text(range)?,
                    _ => {}
                }
            }
            match key.as_deref() {
                Some("location") => location = value,
                Some("offset") => offset = value,
                Some("length") => length = value,
                _ => {}
            }
        }
        if self.external.len() as u64 == self.most_external {
            return broken("it is one of too many whose data are in other files");
        }
        let is_tiny = dtype.bytes_of(&said.shape).is_some_and(|bytes| bytes < MIN_BYTES);
        let Some(location) = location.filter(|_| !is_tiny) else { return Ok(()) };
        let info = TensorInfo { name: self.name(said.name)?, dtype, shape: said.shape };
        self.external.push(External { info, location, offset, length });
        Ok(())
    }

    fn name(&mut self, range: Option<Range<u64>>) -> Found<String> {
        let name = range.map(|range| self.text(range)).transpose()?.flatten();
        Ok(name.filter(|name| !name.is_empty()).unwrap_or_else(|| NAMELESS.to_owned()))
    }

    /// A text, unless it is too long.
    fn text(&mut self, Range { start, end }: Range<u64>) -> Found<Option<String>> {
        let len = usize::try_from(end - start).ok().filter(|len| *len <= MAX_NAME);
        let Some(len) = len else { return Ok(None) };
        let bytes = self.window.get(start, len)?;
        Ok(bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned))
    }

    fn known_field(&mut self, at: &mut u64, end: u64) -> Found<(u64, Value)> {
        let found = self.field(at, end)?;
        found.map_or_else(|| self.damaged(*at), Ok)
    }

    fn damaged<T>(&self, at: u64) -> Found<T> {
        broken(format!("its fields are damaged at byte {at}"))
    }

    /// The number and the value of the field at `at`, which moves behind it; `None` if there is none that ends
    /// before `end`.
    fn field(&mut self, at: &mut u64, end: u64) -> Found<Option<(u64, Value)>> {
        let Some(tag) = self.varint(at, end)? else { return Ok(None) };
        let len = match tag & 7 {
            0 => return Ok(self.varint(at, end)?.map(|n| (tag >> 3, Value::Number(n)))),
            1 => 8,
            5 => 4,
            2 => match self.varint(at, end)? {
                Some(len) => len,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(to) = at.checked_add(len).filter(|to| *to <= end) else { return Ok(None) };
        let value = if tag & 7 == 2 { Value::Bytes(*at..to) } else { Value::Fixed };
        *at = to;
        Ok(Some((tag >> 3, value)))
    }

    /// A number of seven bits per byte.
    fn varint(&mut self, at: &mut u64, end: u64) -> Found<Option<u64>> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            if *at >= end {
                return Ok(None);
            }
            let byte = self.byte(*at)?;
            *at += 1;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn byte(&mut self, at: u64) -> Found<u8> {
        match self.window.get(at, 1)? {
            Some(&[byte]) => Ok(byte),
            _ => self.damaged(at),
        }
    }
}

/// The dtype of a number in a tensor, if elements are whole bytes each, or pairs of FP4.
fn dtype(kind: u64) -> Option<Dtype> {
    Some(match kind {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        9 => Dtype::Bool,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        14 => Dtype::C64,
        15 => Dtype::C128,
        16 => Dtype::Bf16,
        17 => Dtype::F8E4M3,
        18 => Dtype::F8E4M3Fnuz,
        19 => Dtype::F8E5M2,
        20 => Dtype::F8E5M2Fnuz,
        23 => Dtype::F4,
        24 => Dtype::F8E8M0,
        _ => return None,
    })
}
