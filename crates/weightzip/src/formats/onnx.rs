//! ONNX models: one protobuf message, with tensors anywhere in it.
//!
//! Tensors whose elements lie in one piece, as the initializers of graphs and the constants of nodes
//! mostly have them, become tensors. What is in a file of its own, packed in another way, or smaller than a
//! directory entry is worth, stays opaque. A file is a model only if all of it parses as one.

use super::{Format, Found, Layout, Warnings, broken, read};
use crate::dtype::Dtype;
use crate::source::Source;
use crate::span::{Span, TensorInfo};
use std::ops::Range;

/// Bytes that are read at a time.
const WINDOW: u64 = 16 << 10;

/// Most tensors that are found, and most messages that one may be in.
const MAX_TENSORS: usize = 1 << 20;
const MAX_DEPTH: usize = 64;

/// Longest name, and most dimensions.
const MAX_NAME: u64 = 1 << 10;
const MAX_DIMS: usize = 64;

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
    let mut walk = Walk {
        source,
        size,
        window: Vec::new(),
        start: 0,
        tensors: Vec::new(),
        warnings: Warnings::default(),
    };
    if !walk.is_model(size)? {
        return Ok(None);
    }
    walk.message(Message::Model, 0..size, 0)?;
    Ok(Some(Layout::of_tensors(Format::Onnx, walk.tensors, size, walk.warnings)))
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
    source: &'a dyn Source,
    size: u64,
    /// Some bytes of the file, and where they start.
    window: Vec<u8>,
    start: u64,
    tensors: Vec<Span>,
    warnings: Warnings,
}

impl Walk<'_> {
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
            if let (Some(inner), Value::Bytes(range)) = (message.inner(field), value) {
                self.message(inner, range, depth + 1)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, range: Range<u64>) -> Found<()> {
        let (mut at, mut shape, mut kind, mut name) = (range.start, Vec::new(), 0, None);
        let mut data = None;
        while at < range.end {
            match self.known_field(&mut at, range.end)? {
                (1, Value::Number(dim)) => shape.push(dim),
                (1, Value::Bytes(mut packed)) => {
                    while packed.start < packed.end && shape.len() <= MAX_DIMS {
                        let dim = self.varint(&mut packed.start, packed.end)?;
                        shape.push(dim.map_or_else(|| self.damaged(packed.start), Ok)?);
                    }
                }
                (2, Value::Number(number)) => kind = number,
                (8, Value::Bytes(range)) => name = Some(range),
                // Raw bytes; floats and doubles without gaps.
                (9 | 4 | 10, Value::Bytes(range)) if data.is_none() => data = Some(range),
                _ => {}
            }
            if shape.len() > MAX_DIMS {
                return broken(format!("a tensor has more than {MAX_DIMS} dimensions"));
            }
        }
        let (Some(range), Some(dtype)) = (data, dtype(kind)) else { return Ok(()) };
        let bytes = range.end - range.start;
        if bytes < MIN_BYTES {
            return Ok(());
        }
        let name = self.name(name)?;
        if dtype.bytes_of(&shape) != Some(bytes) {
            self.warnings.add(|| {
                format!("tensor {name:?} is kept as opaque bytes: it has {bytes}, which its shape does not say")
            });
            return Ok(());
        }
        if self.tensors.len() == MAX_TENSORS {
            return broken(format!("it has more than {MAX_TENSORS} tensors"));
        }
        self.tensors.push(Span::tensor(range, TensorInfo { name, dtype, shape }));
        Ok(())
    }

    fn name(&self, range: Option<Range<u64>>) -> Found<String> {
        let range = range.filter(|range| range.end - range.start <= MAX_NAME);
        let bytes = match range {
            Some(Range { start, end }) => {
                read(self.source, start, usize::try_from(end - start).unwrap_or(0))?
            }
            None => Vec::new(),
        };
        let name = String::from_utf8(bytes).ok().filter(|name| !name.is_empty());
        Ok(name.unwrap_or_else(|| NAMELESS.to_owned()))
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

    /// A byte that the file has.
    fn byte(&mut self, at: u64) -> Found<u8> {
        let inside = |window: &[u8], start: u64| {
            window.get(usize::try_from(at.checked_sub(start)?).ok()?).copied()
        };
        if let Some(byte) = inside(&self.window, self.start) {
            return Ok(byte);
        }
        let len = WINDOW.min(self.size - at);
        self.window = read(self.source, at, usize::try_from(len).unwrap_or(0))?;
        self.start = at;
        inside(&self.window, at).map_or_else(|| self.damaged(at), Ok)
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
