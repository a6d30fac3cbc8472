//! Flax's msgpack files: maps in one another by text, whose leaves are arrays, numbers and texts.
//!
//! An array is an extension value, in which are its shape, the name of its dtype, and its bytes: no directory lists
//! them, so all that is between them is walked through. An array of more than a gibibyte is a map of pieces, which are
//! tensors of one dimension each. A file is one of Flax only if an array is there; what can't be followed is opaque from
//! there on.

use super::tensors::{Extent, Tensors};
use super::torch::{self, MAX_NAME};
use super::warnings::Warnings;
use super::window::Window;
use super::{Format, Found, Layout, Trouble, broken};
use crate::container::directory::MAX_DIMS;
use crate::source::Source;
use crate::span::{Span, TensorInfo};
use std::ops::Range;

/// Most values that are looked at in any file, and one for each so many bytes more.
const MAX_VALUES: u64 = 1 << 20;
const BYTES_EACH: u64 = 8;

/// Most maps that a value may be in.
const MAX_DEPTH: usize = 64;

/// Extension types: an array, and a number of NumPy's, which is an array without dimensions.
const ARRAY: u64 = 1;
const NUMBER: u64 = 3;

/// What stands in a name for a key that is no short text.
const UNNAMED_KEY: &str = "?";

/// The name of arrays whose keys are too long for one.
const NAMELESS: &str = "array";

/// Whether a file starts as a map with a text as its first key.
pub(super) fn is_flax(prefix: &[u8]) -> bool {
    // The length of a safetensors header may look like a key of one letter.
    if let [_, _, _, _, 0, 0, 0, 0, b'{', ..] = prefix {
        return false;
    }
    let ([0x81..=0x8F, key @ ..] | [0xDE, _, _, key @ ..]) = prefix else { return false };
    let (len, text) = match key {
        [len @ 0xA1..=0xBF, text @ ..] => (len & 0x1F, text),
        [0xD9, len, text @ ..] => (*len, text),
        _ => return false,
    };
    let text = text.get(..usize::from(len)).unwrap_or(text);
    // What the prefix cuts short may be a letter.
    let is_text = std::str::from_utf8(text).map_or_else(|e| e.error_len().is_none(), |_| true);
    is_text && !text.iter().any(u8::is_ascii_control)
}

/// Finds the arrays of a file; `None` if it is none of Flax.
pub(super) fn scan(source: &dyn Source, size: u64) -> Found<Option<Layout>> {
    let mut walk = Walk {
        window: Window::new(source, size),
        at: 0,
        size,
        path: String::new(),
        values: MAX_VALUES + size / BYTES_EACH,
        has_arrays: false,
        tensors: Tensors::new(Extent::File(size)),
        warnings: Warnings::default(),
    };
    match walk.whole() {
        Err(trouble @ Trouble::Unreadable(_)) => return Err(trouble),
        // Others write such maps, too.
        _ if !walk.has_arrays => return Ok(None),
        Err(Trouble::Broken(why)) => {
            walk.warnings.add(|| format!("not a valid Flax file: {why}; from there on opaque"));
        }
        Ok(()) => {}
    }
    Ok(Some(Layout::of_tensors(Format::Flax, walk.tensors, walk.warnings)))
}

/// What a value's first bytes say of it.
enum Value {
    /// A number that is not negative.
    Number(u64),
    Text(u64),
    Bytes(u64),
    /// Of a type, in so many bytes.
    Extension(u64, u64),
    List(u64),
    Map(u64),
    /// Anything else, in so many bytes.
    Other(u64),
}

/// What an array says of itself.
struct Array {
    dtype: String,
    shape: Vec<u64>,
    data: Range<u64>,
}

/// A walk through the file, from front to back.
struct Walk<'a> {
    window: Window<'a>,
    at: u64,
    size: u64,
    /// The keys that lead to the value that is looked at, with dots between them.
    path: String,
    /// How many values may follow.
    values: u64,
    has_arrays: bool,
    tensors: Tensors,
    warnings: Warnings,
}

impl Walk<'_> {
    fn whole(&mut self) -> Found<()> {
        self.value(0)?;
        match self.size - self.at {
            0 => Ok(()),
            more => broken(format!("{more} bytes follow its map")),
        }
    }

    /// Looks for arrays in a value, and passes it.
    fn value(&mut self, depth: usize) -> Found<()> {
        let Some(left) = self.values.checked_sub(1) else {
            return broken(format!("at byte {} it has too many values", self.at));
        };
        self.values = left;
        match self.head()? {
            Value::Number(_) => Ok(()),
            Value::Map(count) => self.items(count, true, depth),
            Value::List(count) => self.items(count, false, depth),
            Value::Extension(ARRAY | NUMBER, len) => self.array(len),
            Value::Text(len) | Value::Bytes(len) | Value::Extension(_, len) | Value::Other(len) => {
                self.skip(len).map(drop)
            }
        }
    }

    /// Looks at what is in a map, by keys, or in a list, by indexes.
    fn items(&mut self, count: u64, is_map: bool, depth: usize) -> Found<()> {
        if depth == MAX_DEPTH {
            return broken(format!("its maps are in one another more than {MAX_DEPTH} deep"));
        }
        let outside = self.path.len();
        for index in 0..count {
            let key = if is_map { self.key()? } else { Some(index.to_string()) };
            if outside > 0 {
                self.path.push('.');
            }
            self.path.push_str(key.as_deref().unwrap_or(UNNAMED_KEY));
            self.value(depth + 1)?;
            self.path.truncate(outside);
        }
        Ok(())
    }

    /// Passes a key; returns it if it is a short text, or a number.
    fn key(&mut self) -> Found<Option<String>> {
        let at = self.at;
        match self.head()? {
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::Text(len) if len <= MAX_NAME as u64 => self.text(len),
            Value::Text(len) | Value::Bytes(len) | Value::Extension(_, len) | Value::Other(len) => {
                self.skip(len).map(|_| None)
            }
            Value::List(_) | Value::Map(_) => {
                broken(format!("the key at byte {at} is a list or a map"))
            }
        }
    }

    /// Notes an array of so many bytes, and passes it.
    fn array(&mut self, len: u64) -> Found<()> {
        let range = self.skip(len)?;
        self.at = range.start;
        let tensor = match self.described(range.end) {
            Ok(array) => self.tensor(array),
            Err(Trouble::Broken(why)) => Err(why),
            Err(trouble) => return Err(trouble),
        };
        match tensor {
            Ok(tensor) => self.tensors.add(tensor),
            Err(why) => {
                let name = self.name();
                self.warnings.opaque("array", &name, &why);
            }
        }
        self.at = range.end;
        Ok(())
    }

    /// Reads what is in an array, which must end at `end`.
    fn described(&mut self, end: u64) -> Found<Array> {
        let unknown = || broken("it is not a shape, a dtype and bytes");
        let (Value::List(3), Value::List(dims)) = (self.head()?, self.head()?) else {
            return unknown();
        };
        if dims > MAX_DIMS as u64 {
            return broken(format!("it has {dims} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let Value::Number(dim) = self.head()? else { return unknown() };
            shape.push(dim);
        }
        let Value::Text(len) = self.head()? else { return unknown() };
        let Some(dtype) = self.text(len)? else { return unknown() };
        let Value::Bytes(len) = self.head()? else { return unknown() };
        let data = self.skip(len)?;
        if data.end != end {
            return unknown();
        }
        self.has_arrays = true;
        Ok(Array { dtype, shape, data })
    }

    fn tensor(&self, array: Array) -> Result<Span, String> {
        let Array { dtype, shape, data } = array;
        let dtype = torch::dtype(&dtype).ok_or_else(|| format!("its elements are {dtype:?}"))?;
        if dtype.bytes_of(&shape) != Some(data.end - data.start) {
            return Err("it has another number of bytes than its shape says".to_owned());
        }
        Ok(Span::tensor(data, TensorInfo { name: self.name(), dtype, shape }))
    }

    /// The name of what is looked at.
    fn name(&self) -> String {
        let is_name = (1..=MAX_NAME).contains(&self.path.len());
        if is_name { self.path.clone() } else { NAMELESS.to_owned() }
    }

    /// Reads a value up to where its contents are.
    fn head(&mut self) -> Found<Value> {
        let at = self.at;
        let kind = self.number(1)?;
        // Lengths and numbers have 1, 2, 4 or 8 bytes, by the last bits.
        let bytes = |first: u64| 1 << (kind - first);
        Ok(match kind {
            0x00..=0x7F => Value::Number(kind),
            0x80..=0x8F => Value::Map(kind & 0x0F),
            0x90..=0x9F => Value::List(kind & 0x0F),
            0xA0..=0xBF => Value::Text(kind & 0x1F),
            0xC4..=0xC6 => Value::Bytes(self.number(bytes(0xC4))?),
            0xC7..=0xC9 => {
                let len = self.number(bytes(0xC7))?;
                Value::Extension(self.number(1)?, len)
            }
            0xCA | 0xCB => Value::Other(4 * bytes(0xCA)),
            0xCC..=0xCF => Value::Number(self.number(bytes(0xCC))?),
            0xD0..=0xD3 => Value::Other(bytes(0xD0)),
            0xD4..=0xD8 => Value::Extension(self.number(1)?, bytes(0xD4)),
            0xD9..=0xDB => Value::Text(self.number(bytes(0xD9))?),
            0xDC | 0xDD => Value::List(self.number(2 * bytes(0xDC))?),
            0xDE | 0xDF => Value::Map(self.number(2 * bytes(0xDE))?),
            0xC1 => return broken(format!("no value starts as byte {at} does")),
            // Nothing, true, false, and small negative numbers.
            _ => Value::Other(0),
        })
    }

    /// A number of at most eight bytes, the most significant one first.
    fn number(&mut self, len: u64) -> Found<u64> {
        let bytes = self.take(len)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A text, unless it is too long.
    fn text(&mut self, len: u64) -> Found<Option<String>> {
        if len > MAX_NAME as u64 {
            return Ok(None);
        }
        let text = std::str::from_utf8(self.take(len)?);
        Ok(text.ok().map(str::to_owned))
    }

    /// Reads a few bytes, and passes them.
    fn take(&mut self, len: u64) -> Found<&[u8]> {
        let range = self.skip(len)?;
        let bytes = self.window.get(range.start, usize::try_from(len).unwrap_or(usize::MAX))?;
        bytes.map_or_else(|| broken("it ends early"), Ok)
    }

    /// Passes bytes that the file must have.
    fn skip(&mut self, len: u64) -> Found<Range<u64>> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.size);
        let Some(end) = end else { return broken("it ends early") };
        let start = std::mem::replace(&mut self.at, end);
        Ok(start..end)
    }
}
