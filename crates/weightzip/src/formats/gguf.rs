//! GGUF: a header of typed key-value pairs, descriptions of the tensors, and their aligned data.
//!
//! Versions 2 and 3, little- and big-endian. Header, gaps and tensors of unknown types stay opaque.

use super::tensors::{Extent, Tensors};
use super::warnings::Warnings;
use super::{Format, Layout, Scan};
use crate::container::directory::MAX_DIMS;
use crate::dtype::Dtype;
use crate::record::ByteOrder;
use crate::span::{Span, TensorInfo};

const MAGIC: &[u8; 4] = b"GGUF";

/// Most bytes of a header: vocabularies have some tens of millions.
const MAX_HEADER: usize = 1 << 28;

/// The first bytes that a header is looked for in; then twice as many, and so on.
const FIRST: usize = 64 << 10;

/// Where tensors start unless the header says otherwise.
const ALIGNMENT: u64 = 32;

/// Arrays in arrays of a header.
const MAX_DEPTH: usize = 4;

/// Why a header can't be read.
enum Stop {
    /// It goes on behind the prefix.
    Cut,
    Broken(String),
}

type Found<T> = Result<T, Stop>;

pub(super) fn is_gguf(prefix: &[u8]) -> bool {
    prefix.starts_with(MAGIC)
}

/// Looks at a file that starts with the magic.
pub(super) fn scan(prefix: &[u8], ended: bool) -> Scan {
    let broken = |why: String| {
        let warning = format!("not a valid gguf file: {why}; kept as opaque bytes");
        Scan::Done(Layout::opaque(vec![warning]))
    };
    match Header::read(prefix) {
        Ok(header) => Scan::Done(header.layout()),
        Err(Stop::Broken(why)) => broken(why),
        Err(Stop::Cut) if ended => broken("its header is cut short".to_owned()),
        Err(Stop::Cut) if prefix.len() >= MAX_HEADER => {
            broken(format!("its header has more than {MAX_HEADER} bytes"))
        }
        Err(Stop::Cut) => Scan::More((2 * prefix.len()).clamp(FIRST, MAX_HEADER)),
    }
}

struct Header<'a> {
    /// Reads the tensors' descriptions, which are all there.
    tensors: Reader<'a>,
    count: u64,
    alignment: u64,
    /// Where the tensors' data begin.
    data: u64,
}

/// A tensor as its header describes it.
struct Tensor<'a> {
    name: &'a [u8],
    /// Its dimensions, of eight bytes each, the innermost one first.
    dims: &'a [u8],
    /// The number of its type.
    kind: u32,
    /// Counted from where the data begin.
    offset: u64,
}

impl<'a> Header<'a> {
    fn read(prefix: &'a [u8]) -> Found<Self> {
        let mut from = Reader { bytes: prefix, at: MAGIC.len(), order: ByteOrder::Little };
        let version = from.u32()?;
        let version = match version {
            1..=3 => version,
            _ => {
                from.order = ByteOrder::Big;
                version.swap_bytes()
            }
        };
        if !matches!(version, 2 | 3) {
            return Err(Stop::Broken(format!("version {version} is unknown")));
        }
        let (count, pair_count) = (from.u64()?, from.u64()?);
        let mut alignment = ALIGNMENT;
        for _ in 0..pair_count {
            let (key, kind) = (from.string()?, from.u32()?);
            if key == b"general.alignment" && kind == UINT32 {
                alignment = from.u32()?.into();
            } else {
                from.skip(kind, 0)?;
            }
        }
        let tensors = from.clone();
        for _ in 0..count {
            from.tensor()?;
        }
        if !alignment.is_power_of_two() {
            return Err(Stop::Broken(format!("an alignment of {alignment} is impossible")));
        }
        let data = (from.at as u64).next_multiple_of(alignment);
        Ok(Self { tensors, count, alignment, data })
    }

    fn layout(mut self) -> Layout {
        let (mut tensors, mut warnings) =
            (Tensors::new(Extent::Header(self.data)), Warnings::default());
        for _ in 0..self.count {
            let Ok(tensor) = self.tensors.tensor() else { break };
            match self.span(&tensor) {
                Ok(span) => tensors.add(span),
                Err(why) => {
                    warnings.opaque("tensor", &String::from_utf8_lossy(tensor.name), &why);
                }
            }
        }
        let mut layout = Layout::of_tensors(Format::Gguf, tensors, warnings);
        // The last tensor is padded, too.
        let end = layout.end();
        let padded = end.checked_next_multiple_of(self.alignment).filter(|padded| *padded > end);
        layout.spans.extend(padded.map(|padded| Span::opaque(end..padded)));
        layout
    }

    /// A tensor, or its records, if what it says can be.
    fn span(&self, tensor: &Tensor<'_>) -> Result<Span, String> {
        let dtype =
            dtype(tensor.kind).ok_or_else(|| format!("it has unknown type {}", tensor.kind))?;
        let dims = tensor.dims.as_chunks().0;
        if dims.len() > MAX_DIMS {
            return Err(format!("it has {} dimensions", dims.len()));
        }
        let shape: Vec<u64> = dims.iter().rev().map(|dim| self.tensors.number(*dim)).collect();
        // Rows are whole blocks.
        let row = shape.last().copied().unwrap_or(1);
        let bytes = dtype.bytes_of(&shape).filter(|_| row.is_multiple_of(dtype.block().0));
        let bytes = bytes.ok_or("it has an impossible shape")?;
        let start = self.data.checked_add(tensor.offset);
        let range = start.and_then(|start| Some(start..start.checked_add(bytes)?));
        let range = range.ok_or("it ends beyond 2^64")?;
        Ok(match self.tensors.order {
            ByteOrder::Little => {
                let name = String::from_utf8_lossy(tensor.name).into_owned();
                Span::tensor(range, TensorInfo { name, dtype, shape })
            }
            // A dtype is little-endian: these have records, but no name.
            order @ ByteOrder::Big => Span::records(range, dtype.record_layout().ordered(order)),
        })
    }
}

/// The dtype of a type's number.
fn dtype(kind: u32) -> Option<Dtype> {
    match kind {
        0 => Some(Dtype::F32),
        1 => Some(Dtype::F16),
        24 => Some(Dtype::I8),
        25 => Some(Dtype::I16),
        26 => Some(Dtype::I32),
        27 => Some(Dtype::I64),
        28 => Some(Dtype::F64),
        30 => Some(Dtype::Bf16),
        _ => Dtype::of_gguf(kind),
    }
}

const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a value of a type that always has as many.
fn size_of_value(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Reads a header from its start on.
#[derive(Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    order: ByteOrder,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64) -> Found<&'a [u8]> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let end = end.filter(|&end| end <= MAX_HEADER);
        let end = end.ok_or_else(|| Stop::Broken(format!("{len} bytes in its header")))?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Cut)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Found<[u8; N]> {
        self.take(N as u64)?.first_chunk().copied().ok_or(Stop::Cut)
    }

    fn u32(&mut self) -> Found<u32> {
        let bytes = self.array()?;
        Ok(match self.order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }

    fn u64(&mut self) -> Found<u64> {
        let bytes = self.array()?;
        Ok(self.number(bytes))
    }

    fn number(&self, bytes: [u8; 8]) -> u64 {
        match self.order {
            ByteOrder::Little => u64::from_le_bytes(bytes),
            ByteOrder::Big => u64::from_be_bytes(bytes),
        }
    }

    fn string(&mut self) -> Found<&'a [u8]> {
        let len = self.u64()?;
        self.take(len)
    }

    /// Passes over a value.
    fn skip(&mut self, kind: u32, depth: usize) -> Found<()> {
        if let Some(size) = size_of_value(kind) {
            return self.take(size as u64).map(|_| ());
        }
        match kind {
            STRING => self.string().map(|_| ()),
            ARRAY if depth < MAX_DEPTH => {
                let (kind, count) = (self.u32()?, self.u64()?);
                if let Some(size) = size_of_value(kind) {
                    return self.take(count.saturating_mul(size as u64)).map(|_| ());
                }
                for _ in 0..count {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(Stop::Broken(format!("a value of unknown type {kind}"))),
        }
    }

    fn tensor(&mut self) -> Found<Tensor<'a>> {
        let (name, dims) = (self.string()?, self.u32()?);
        let dims = self.take(8 * u64::from(dims))?;
        Ok(Tensor { name, dims, kind: self.u32()?, offset: self.u64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::scan;

    /// A file's parts, in either byte order.
    #[derive(Default)]
    struct File {
        big: bool,
        bytes: Vec<u8>,
    }

    impl File {
        fn new(version: u32, tensors: u64, pairs: u64) -> Self {
            Self { big: false, bytes: MAGIC.to_vec() }.u32(version).u64(tensors).u64(pairs)
        }

        fn u32(mut self, n: u32) -> Self {
            self.bytes.extend(if self.big { n.to_be_bytes() } else { n.to_le_bytes() });
            self
        }

        fn u64(mut self, n: u64) -> Self {
            self.bytes.extend(if self.big { n.to_be_bytes() } else { n.to_le_bytes() });
            self
        }

        fn string(self, text: &str) -> Self {
            let mut file = self.u64(text.len() as u64);
            file.bytes.extend(text.as_bytes());
            file
        }

        fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
            let file = self.string(name).u32(u32::try_from(shape.len()).unwrap());
            shape.iter().fold(file, |file, &dim| file.u64(dim)).u32(kind).u64(offset)
        }

        /// With zeros up to where data may be, and so many bytes of them.
        fn layout(mut self, data: usize) -> Layout {
            self.bytes.resize(self.bytes.len().next_multiple_of(32) + data, 0);
            scan(&self.bytes).unwrap()
        }
    }

    fn warning(file: File) -> String {
        // Nothing is behind a header that is cut short.
        let layout = match &file.bytes[8..16] {
            [0xFF, ..] => scan(&file.bytes).unwrap(),
            _ => file.layout(64),
        };
        assert_eq!((layout.format, layout.spans.len()), (Format::Opaque, 1));
        layout.warnings[0].clone()
    }

    #[test]
    fn tensors_are_found_behind_all_kinds_of_values() {
        let file = File::new(3, 2, 5)
            .string("a")
            .u32(STRING)
            .string("text")
            .string("b")
            .u32(ARRAY)
            .u32(STRING)
            .u64(2)
            .string("x")
            .string("")
            .string("c")
            .u32(ARRAY)
            .u32(5)
            .u64(3)
            .u32(1)
            .u32(2)
            .u32(3)
            .string("d")
            .u32(12)
            .u64(7)
            .string("general.alignment")
            .u32(UINT32)
            .u32(32)
            .tensor("second", &[64, 3], 2, 64)
            .tensor("first", &[16], 0, 0);
        let layout = file.layout(64 + 108);
        assert_eq!((layout.format, layout.warnings.len()), (Format::Gguf, 0), "{layout:?}");
        let tensors: Vec<_> = layout.spans.iter().filter_map(|s| s.tensor.as_ref()).collect();
        assert_eq!((tensors[0].name.as_str(), tensors[0].dtype), ("first", Dtype::F32));
        assert_eq!((tensors[1].dtype, &tensors[1].shape[..]), (Dtype::Q4_0, &[3, 64][..]));
        assert_eq!(layout.spans.len(), 3);
    }

    #[test]
    fn big_endian_tensors_are_records_without_names() {
        let file = File { big: true, bytes: MAGIC.to_vec() }.u32(3).u64(1).u64(0);
        let layout = file.tensor("t", &[32], 8, 0).layout(34);
        let span = layout.spans.last().unwrap();
        assert_eq!((layout.format, span.tensor.as_ref()), (Format::Gguf, None));
        assert_eq!(span.records.as_ref().unwrap().order(), ByteOrder::Big);
    }

    #[test]
    fn files_that_lie_are_opaque() {
        let one = || File::new(3, 1, 0);
        assert!(warning(File::new(1, 0, 0)).contains("version 1"));
        assert!(warning(File::new(3, 0, 1).string("k").u32(13)).contains("type 13"));
        assert!(warning(File::new(3, u64::MAX, 0)).contains("cut short"));
        assert!(warning(File::new(3, 0, 1).u64(u64::MAX)).contains("bytes in its header"));
        assert!(warning(one().string("a").u32(u32::MAX)).contains("bytes in its header"));
        let huge = File::new(3, 0, 1).string("k").u32(ARRAY).u32(12).u64(u64::MAX);
        assert!(warning(huge).contains("bytes in its header"));
        let nested = File::new(3, 0, 1).string("k").u32(ARRAY);
        let nested = (0..9).fold(nested, |file, _| file.u32(ARRAY).u64(1));
        assert!(warning(nested).contains("type 9"));
        let odd = File::new(3, 0, 1).string("general.alignment").u32(UINT32).u32(24);
        assert!(warning(odd).contains("alignment of 24"));
    }
    #[test]
    fn an_odd_tensor_is_opaque_and_others_are_found() {
        let good = || File::new(3, 2, 0).tensor("a", &[8], 0, 0);
        for (file, why) in [
            (
                good().tensor("b", &[4], 99, 32),
                "\"b\" is kept as opaque bytes: it has unknown type 99",
            ),
            (good().tensor("b", &[33], 2, 32), "impossible shape"),
            (good().tensor("b", &[u64::MAX, 2], 0, 32), "impossible shape"),
            (good().tensor("b", &[4], 0, u64::MAX), "2^64"),
            (good().tensor("b", &[8], 0, 0), "overlaps"),
            (good().tensor("b", &[4], 0, 16), "overlaps"),
            (good().tensor("b", &[1; 65], 0, 32), "65 dimensions"),
            (good().tensor(&"b".repeat(1 << 20 | 1), &[4], 0, 32), "mebibyte"),
        ] {
            let layout = file.layout(64);
            let tensors: Vec<_> = layout.spans.iter().filter_map(|s| s.tensor.as_ref()).collect();
            assert_eq!((tensors.len(), tensors[0].name.as_str()), (1, "a"), "{layout:?}");
            assert_eq!((layout.warnings.len(), layout.format), (1, Format::Gguf), "{layout:?}");
            assert!(layout.warnings[0].contains(why), "{why}: {layout:?}");
        }
        let layout = good().tensor("a", &[8], 0, 32).layout(64);
        let names = layout.spans.iter().filter_map(|s| s.tensor.as_ref()).map(|t| t.name.as_str());
        let second = format!("a (at {})", layout.spans[2].range.start);
        assert_eq!((names.collect::<Vec<_>>(), layout.warnings.len()), (vec!["a", &second], 0));
    }

    #[test]
    fn padding_at_the_end_may_be_there_or_not() {
        for (data, warnings) in [(16, 0), (20, 0), (32, 0), (33, 1), (15, 1)] {
            let layout = File::new(3, 1, 0).tensor("a", &[4], 0, 0).layout(data);
            assert_eq!(layout.warnings.len(), warnings, "{data}: {layout:?}");
        }
        assert_eq!(File::new(3, 0, 0).layout(0).warnings, [""; 0]);
    }
}
