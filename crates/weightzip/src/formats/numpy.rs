//! NumPy arrays: a short header that is a Python literal, then the elements. Archives of them (`.npz`) are
//! zip archives whose members are arrays.
//!
//! Arrays of plain little-endian numbers become tensors. Those of Fortran order have their shape
//! turned round, so that rows are what lies together. Big-endian numbers are records without a name. Structures, objects,
//! texts, and the dtypes that NumPy itself doesn't have stay opaque.

use super::zip::{self, Member};
use super::{Format, Found, Layout, Scan, read};
use crate::dtype::Dtype;
use crate::record::ByteOrder;
use crate::source::Source;
use crate::span::{Span, TensorInfo};
use std::ops::Range;

/// Most bytes of a header: that of plain numbers has some hundred.
const MAX_HEADER: usize = 1 << 16;

/// Magic, version, and up to four bytes of the header's length.
const START: usize = 12;

/// The name of the array in a file that has one only, and none for it.
const NAME: &str = "array";

pub(super) fn is_npy(prefix: &[u8]) -> bool {
    prefix.starts_with(b"\x93NUMPY")
}

pub(super) fn scan(prefix: &[u8], ended: bool) -> Scan {
    if prefix.len() < START && !ended {
        return Scan::More(START);
    }
    let opaque = |why: String| {
        let why = format!("this NumPy file is kept as opaque bytes: {why}");
        Scan::Done(Layout::opaque(vec![why]))
    };
    let header = match header(prefix) {
        Ok(range) => range,
        Err(why) => return opaque(why),
    };
    let Some(text) = prefix.get(header.clone()) else {
        return if ended {
            opaque("its header is cut short".to_owned())
        } else {
            Scan::More(header.end)
        };
    };
    let array = Array::parse(text).and_then(|array| array.span(NAME, header.end as u64));
    match array {
        Ok(tensor) => {
            let start = Span::opaque(0..tensor.range.start);
            let (spans, warnings) = (vec![start, tensor], Vec::new());
            Scan::Done(Layout { format: Format::Numpy, spans, warnings })
        }
        Err(why) => opaque(why),
    }
}

/// Finds the arrays among an archive's members.
pub(super) fn in_archive(scan: &mut zip::Scan<'_>, members: &[Member]) -> Found<()> {
    for member in members {
        let Some(name) = member.name.strip_suffix(".npy") else { continue };
        let found = match &member.data {
            Some(data) => in_member(scan.source, name, data)?,
            None => Err("it is deflated, encrypted or damaged".to_owned()),
        };
        match found {
            Ok(span) => scan.tensors.add(span),
            Err(why) => scan.warnings.opaque("array", name, &why),
        }
    }
    Ok(())
}

fn in_member(source: &dyn Source, name: &str, data: &Range<u64>) -> Found<Result<Span, String>> {
    let len = data.end - data.start;
    let bytes = |len: usize| read(source, data.start, len);
    let at_most = |most: usize| usize::try_from(len).unwrap_or(most).min(most);
    let header = match header(&bytes(at_most(START))?) {
        Ok(range) => range,
        Err(why) => return Ok(Err(why)),
    };
    if header.end as u64 > len {
        return Ok(Err("its header is cut short".to_owned()));
    }
    let text = &bytes(header.end)?[header.clone()];
    let span = Array::parse(text).and_then(|a| a.span(name, data.start + header.end as u64));
    Ok(match span {
        Ok(span) if span.range.end != data.end => {
            Err("it has another number of bytes than its shape says".to_owned())
        }
        span => span,
    })
}

/// Where the header's text is, by a file's first bytes.
fn header(start: &[u8]) -> Result<Range<usize>, String> {
    let range = match start {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => {
            10..10 + usize::from(u16::from_le_bytes([*a, *b]))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
            let len = u32::from_le_bytes([*a, *b, *c, *d]);
            START..START + usize::try_from(len).unwrap_or(MAX_HEADER + 1).min(MAX_HEADER + 1)
        }
        _ => return Err("it has no header of a known version".to_owned()),
    };
    match range.len() <= MAX_HEADER {
        true => Ok(range),
        false => Err(format!("its header has more than {MAX_HEADER} bytes")),
    }
}

/// What a header says.
struct Array {
    dtype: Dtype,
    order: ByteOrder,
    shape: Vec<u64>,
}

impl Array {
    /// Reads the header as NumPy writes it: a dict of three known keys.
    fn parse(header: &[u8]) -> Result<Self, String> {
        let unknown = || "its header is not one of plain numbers".to_owned();
        let text = std::str::from_utf8(header).map_err(|_| unknown())?;
        let mut literal = Literal(text.trim_end());
        let (descr, fortran, mut shape) = literal.header().ok_or_else(unknown)?;
        let (dtype, order) = numbers(descr).ok_or_else(|| format!("its elements are {descr:?}"))?;
        if fortran {
            shape.reverse();
        }
        Ok(Self { dtype, order, shape })
    }

    /// The tensor, or its records, if its elements start `at` a byte.
    fn span(self, name: &str, at: u64) -> Result<Span, String> {
        let Self { dtype, order, shape } = self;
        let end = dtype.bytes_of(&shape).and_then(|bytes| at.checked_add(bytes));
        let end = end.ok_or("its shape is impossible")?;
        Ok(match order {
            ByteOrder::Little => {
                Span::tensor(at..end, TensorInfo { name: name.to_owned(), dtype, shape })
            }
            // A dtype is little-endian: these have records, but no name.
            ByteOrder::Big => Span::records(at..end, dtype.record_layout().ordered(order)),
        })
    }
}

/// The rest of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn header(&mut self) -> Option<(&'a str, bool, Vec<u64>)> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.take("{")?;
        while self.take("}").is_none() {
            let key = self.text()?;
            self.take(":")?;
            match key {
                "descr" if descr.is_none() => descr = Some(self.text()?),
                "fortran_order" if fortran.is_none() => fortran = Some(self.truth()?),
                "shape" if shape.is_none() => shape = Some(self.numbers()?),
                _ => return None,
            }
            // A comma also follows the last one.
            self.take(",");
        }
        let whole = self.0.is_empty();
        whole.then_some(()).and_then(|()| Some((descr?, fortran?, shape?)))
    }

    fn take(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn text(&mut self) -> Option<&'a str> {
        self.take("'")?;
        let (text, rest) = self.0.split_once('\'').filter(|(text, _)| !text.contains('\\'))?;
        self.0 = rest;
        Some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        self.take("True").map(|()| true).or_else(|| self.take("False").map(|()| false))
    }

    fn numbers(&mut self) -> Option<Vec<u64>> {
        let mut numbers = Vec::new();
        self.take("(")?;
        while self.take(")").is_none() {
            let text = self.0.trim_start();
            let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
            numbers.push(number.parse().ok()?);
            self.0 = rest;
            self.take(",");
        }
        Some(numbers)
    }
}

/// The dtype and byte order of a NumPy description, if it is one of plain numbers.
fn numbers(descr: &str) -> Option<(Dtype, ByteOrder)> {
    let (order, kind) = descr.split_at_checked(1)?;
    let dtype = match kind {
        "b1" => Dtype::Bool,
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "u2" => Dtype::U16,
        "i2" => Dtype::I16,
        "u4" => Dtype::U32,
        "i4" => Dtype::I32,
        "u8" => Dtype::U64,
        "i8" => Dtype::I64,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        "c8" => Dtype::C64,
        "c16" => Dtype::C128,
        _ => return None,
    };
    match (order, dtype.bytes()) {
        ("|", 1) | ("<", 2..) => Some((dtype, ByteOrder::Little)),
        (">", 2..) => Some((dtype, ByteOrder::Big)),
        _ => None,
    }
}
