//! The directory (spec: "Directory"): pages that name the spans and place the segments.

use super::wire::{Fields, MAX_STRING, put_string, put_varint};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::span::TensorInfo;

/// A tensor's BLAKE3.
pub(crate) type Hash = [u8; 32];

/// A span of a segment: some bytes, and what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) bytes: u64,
    /// `None` if opaque.
    pub(crate) tensor: Option<(TensorInfo, Hash)>,
}

/// Where a segment is, in the file and in the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Offset of the segment section in the file.
    pub(crate) at: u64,
    /// Offset of the first block.
    pub(crate) blocks_at: u64,
    /// Offset of the block table.
    pub(crate) table_at: u64,
    pub(crate) blocks: u64,
    /// Bytes of the original that the segment holds.
    pub(crate) bytes: u64,
    pub(crate) spans: Vec<Entry>,
}

impl Placed {
    /// Offset behind the block table.
    pub(crate) fn end(&self) -> Option<u64> {
        self.table_at.checked_add(super::table::section_len(self.blocks)?)
    }
}

/// A page: consecutive segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// Where its first segment's bytes start in the original.
    pub(crate) original_at: u64,
    pub(crate) segments: Vec<Placed>,
}

/// A page is closed when it takes about as many bytes.
pub(crate) const PAGE_BYTES: usize = 128 << 10;

/// Most dimensions of a tensor.
pub(crate) const MAX_DIMS: usize = 64;

/// Most bytes of names per byte of a page: shared prefixes expand no further.
const NAMES_PER_BYTE: usize = 16;

/// Whether names of so many bytes may stand in so many bytes of a page.
fn names_fit(names: usize, page: usize) -> bool {
    names <= page.saturating_mul(NAMES_PER_BYTE)
}

impl Placed {
    /// About what it takes in a page.
    pub(crate) fn weight(&self) -> usize {
        let tensors = self.spans.iter().filter_map(|s| s.tensor.as_ref());
        let tensor = |(t, _): &(TensorInfo, Hash)| 40 + t.name.len() + 2 * t.shape.len();
        20 + 4 * self.spans.len() + tensors.map(tensor).sum::<usize>()
    }
}

impl Page {
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        let mut names = NamesWritten { start: out.len(), bytes: 0, last: "" };
        out.extend(self.original_at.to_le_bytes());
        put_varint(out, self.segments.len() as u64);
        let mut end = 0;
        for segment in &self.segments {
            put_varint(out, segment.at - end);
            put_varint(out, segment.blocks_at - segment.at);
            put_varint(out, segment.table_at - segment.blocks_at);
            put_varint(out, segment.blocks);
            put_varint(out, segment.bytes);
            put_varint(out, segment.spans.len() as u64);
            for span in &segment.spans {
                span.write_to(&mut names, out);
            }
            end = segment.end().unwrap_or(segment.table_at);
        }
    }

    pub(crate) fn read_from(payload: &[u8]) -> Result<Self> {
        let mut from = Fields::of("a directory page", payload);
        let original_at = from.u64()?;
        let (mut end, mut names) = (0u64, NamesRead::default());
        let count = from.count(6)?;
        if count == 0 {
            return Err(from.bad("has no segments"));
        }
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            let segment = read_segment(&mut from, end, &mut names)?;
            end = segment.end().ok_or_else(|| from.bad("has a segment that ends nowhere"))?;
            segments.push(segment);
        }
        from.finish()?;
        Ok(Self { original_at, segments })
    }
}

fn read_segment(from: &mut Fields<'_>, end: u64, names: &mut NamesRead) -> Result<Placed> {
    let mut next = |base: u64| {
        let distance = from.varint()?;
        base.checked_add(distance).ok_or_else(|| from.bad("has an offset of more than 64 bits"))
    };
    let at = next(end)?;
    let blocks_at = next(at)?;
    let table_at = next(blocks_at)?;
    let (blocks, bytes) = (from.varint()?, from.varint()?);
    let spans = from.count(2)?;
    let spans: Vec<Entry> =
        (0..spans).map(|_| Entry::read_from(from, names)).collect::<Result<_>>()?;
    if spans.iter().try_fold(0u64, |sum, s| sum.checked_add(s.bytes)) != Some(bytes) {
        return Err(from.bad("has spans that don't fill their segment"));
    }
    Ok(Placed { at, blocks_at, table_at, blocks, bytes, spans })
}

/// Dtype id of an opaque span.
const OPAQUE: u8 = 0;

/// The names of a page that is being written.
struct NamesWritten<'a> {
    /// Where the page starts in the output.
    start: usize,
    /// Bytes of all names so far.
    bytes: usize,
    last: &'a str,
}

impl<'a> NamesWritten<'a> {
    /// Writes a name and what follows it. Only what differs from the last name is written, or all of it where
    /// names would expand too far.
    fn put(&mut self, name: &'a str, hash: &Hash, out: &mut Vec<u8>) {
        let at = out.len();
        self.bytes += name.len();
        for shared in [shared_prefix(self.last, name), 0] {
            out.truncate(at);
            put_varint(out, shared as u64);
            put_string(out, &name[shared..]);
            out.extend(hash);
            if names_fit(self.bytes, out.len() - self.start) {
                break;
            }
        }
        self.last = name;
    }
}

/// The names of a page that is being read.
#[derive(Default)]
struct NamesRead {
    /// Bytes of all names so far.
    bytes: usize,
    last: String,
}

impl NamesRead {
    /// Reads a name and what follows it.
    fn take(&mut self, from: &mut Fields<'_>) -> Result<(String, Hash)> {
        let shared = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
        let suffix = from.string()?;
        let hash = from.array()?;
        let len = shared.saturating_add(suffix.len());
        self.bytes = self.bytes.saturating_add(len);
        if !self.last.is_char_boundary(shared) || len as u64 > MAX_STRING {
            return Err(from.bad("has a name that can't be put together"));
        }
        if !names_fit(self.bytes, from.taken()) {
            return Err(from.bad("has names of more than 16 times its bytes"));
        }
        self.last.truncate(shared);
        self.last.push_str(&suffix);
        Ok((self.last.clone(), hash))
    }
}

impl Entry {
    fn write_to<'a>(&'a self, names: &mut NamesWritten<'a>, out: &mut Vec<u8>) {
        put_varint(out, self.bytes);
        let Some((tensor, hash)) = &self.tensor else {
            out.push(OPAQUE);
            return;
        };
        out.push(tensor.dtype.wire_id());
        put_varint(out, tensor.shape.len() as u64);
        tensor.shape.iter().for_each(|&dim| put_varint(out, dim));
        names.put(&tensor.name, hash, out);
    }

    fn read_from(from: &mut Fields<'_>, names: &mut NamesRead) -> Result<Self> {
        let bytes = from.varint()?;
        let dtype = from.u8()?;
        if dtype == OPAQUE {
            return Ok(Self { bytes, tensor: None });
        }
        let dtype = Dtype::from_wire_id(dtype).ok_or_else(|| {
            Error::incompatible(format!("dtype {dtype} is unknown; a newer weightzip may know it"))
        })?;
        let dims = from.count(1)?;
        if dims > MAX_DIMS {
            return Err(from.bad("has a tensor of more than 64 dimensions"));
        }
        let shape: Vec<u64> = (0..dims).map(|_| from.varint()).collect::<Result<_>>()?;
        if dtype.bytes_of(&shape) != Some(bytes) {
            return Err(from.bad("has a tensor whose bytes don't fit its shape"));
        }
        let (name, hash) = names.take(from)?;
        Ok(Self { bytes, tensor: Some((TensorInfo { name, dtype, shape }, hash)) })
    }
}

/// Bytes of the longest common prefix that ends between characters.
fn shared_prefix(a: &str, b: &str) -> usize {
    let shared = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (0..=shared).rev().find(|&n| b.is_char_boundary(n)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_page_comes_back() {
        arbtest::arbtest(|u| {
            let (mut segments, mut at) = (Vec::new(), 16u64);
            for _ in 0..u.int_in_range(1..=4)? {
                let mut spans = Vec::new();
                for _ in 0..u.int_in_range(0..=4)? {
                    let shape: Vec<u64> = (0..u.int_in_range(0..=3)?)
                        .map(|_| u.int_in_range(0..=9))
                        .collect::<Result<_, _>>()?;
                    let tensor = TensorInfo {
                        name: u.arbitrary()?,
                        dtype: *u.choose(&[Dtype::F32, Dtype::I8])?,
                        shape,
                    };
                    let bytes = tensor.dtype.bytes_of(&tensor.shape).unwrap();
                    let named = u.arbitrary()?;
                    spans.push(Entry {
                        bytes,
                        tensor: if named { Some((tensor, u.arbitrary()?)) } else { None },
                    });
                }
                let mut step = || Ok(u.int_in_range(0..=u64::from(u32::MAX))? / 16 * 16);
                let blocks_at = at + step()?;
                let table_at = blocks_at + step()?;
                let bytes = spans.iter().map(|s| s.bytes).sum();
                let segment = Placed { at, blocks_at, table_at, blocks: step()?, bytes, spans };
                at = segment.end().unwrap() + step()?;
                segments.push(segment);
            }
            let page = Page { original_at: u.arbitrary()?, segments };
            let mut out = Vec::new();
            page.write_to(&mut out);
            assert_eq!(Page::read_from(&out).unwrap(), page);
            let at = u.choose_index(out.len())?;
            out[at] ^= u.int_in_range(1..=255)? as u8;
            let _ = Page::read_from(&out);
            Ok(())
        });
    }

    fn page_of(names: impl IntoIterator<Item = String>) -> Page {
        let tensor = |name| TensorInfo { name, dtype: Dtype::U8, shape: vec![0] };
        let spans =
            names.into_iter().map(|n| Entry { bytes: 0, tensor: Some((tensor(n), [0; 32])) });
        let spans = spans.collect();
        let placed = Placed { at: 16, blocks_at: 64, table_at: 64, blocks: 0, bytes: 0, spans };
        Page { original_at: 0, segments: vec![placed] }
    }

    fn names_in(page: &Page) -> usize {
        let spans = page.segments.iter().flat_map(|segment| &segment.spans);
        spans.filter_map(|span| span.tensor.as_ref()).map(|(tensor, _)| tensor.name.len()).sum()
    }

    #[test]
    fn names_expand_no_further_than_their_page_allows_and_any_can_be_written() {
        arbtest::arbtest(|u| {
            let long = "long/prefix.".repeat(u.int_in_range(0..=2000)?);
            let count = u.int_in_range(1..=100)?;
            let name = |i| {
                let cut = u.int_in_range(0..=long.len())?;
                Ok(format!("{}{i}", &long[..cut]))
            };
            let page = page_of((0..count).map(name).collect::<Result<Vec<_>, _>>()?);
            let mut out = Vec::new();
            page.write_to(&mut out);
            assert!(names_in(&page) <= 16 * out.len());
            assert_eq!(Page::read_from(&out).unwrap(), page);
            Ok(())
        });
        // Names that models have are shared as far as they go.
        let layers = (0..500).map(|i| format!("model.layers.{i}.self_attn.q_proj.weight"));
        let mut out = Vec::new();
        page_of(layers).write_to(&mut out);
        assert!(out.len() < 500 * 70, "{}", out.len());
    }

    #[test]
    fn a_page_of_names_that_share_too_much_is_refused() {
        let names = |count| (0..count).map(|i| format!("{}{i:03}", "a".repeat(5000)));
        let mut out = Vec::new();
        page_of(names(1)).write_to(&mut out);
        // The same entry again and again: all of its name but the last byte is shared.
        let mut entry = vec![0, Dtype::U8.wire_id(), 1, 0];
        put_varint(&mut entry, 5002);
        put_string(&mut entry, "x");
        entry.extend([0; 32]);
        out[14] = 200;
        out.insert(15, 1);
        out.extend(entry.repeat(199));
        let error = Page::read_from(&out).unwrap_err();
        assert!(error.message().contains("16 times"), "{error}");
    }
}
