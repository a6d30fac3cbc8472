//! The directory (spec: "Directory"): pages that name the spans and place the segments.

use super::wire::{Fields, MAX_STRING, put_string, put_varint};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::span::TensorInfo;
use std::collections::HashSet;

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

/// Refuses a name that comes twice.
pub(crate) fn check_names(segments: &[Placed]) -> Result<()> {
    let mut names = HashSet::new();
    for (tensor, _) in segments.iter().flat_map(|s| &s.spans).filter_map(|s| s.tensor.as_ref()) {
        if !names.insert(&tensor.name) {
            return Err(Error::corrupt("two tensors have the same name").in_tensor(&tensor.name));
        }
    }
    Ok(())
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
        out.extend(self.original_at.to_le_bytes());
        put_varint(out, self.segments.len() as u64);
        let mut end = 0;
        let mut name = "";
        for segment in &self.segments {
            put_varint(out, segment.at - end);
            put_varint(out, segment.blocks_at - segment.at);
            put_varint(out, segment.table_at - segment.blocks_at);
            put_varint(out, segment.blocks);
            put_varint(out, segment.bytes);
            put_varint(out, segment.spans.len() as u64);
            for span in &segment.spans {
                span.write_to(&mut name, out);
            }
            end = segment.end().unwrap_or(segment.table_at);
        }
    }

    pub(crate) fn read_from(payload: &[u8]) -> Result<Self> {
        let mut from = Fields::of("a directory page", payload);
        let original_at = from.u64()?;
        let (mut end, mut name) = (0u64, String::new());
        let count = from.count(6)?;
        if count == 0 {
            return Err(from.bad("has no segments"));
        }
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            let segment = read_segment(&mut from, end, &mut name)?;
            end = segment.end().ok_or_else(|| from.bad("has a segment that ends nowhere"))?;
            segments.push(segment);
        }
        from.finish()?;
        Ok(Self { original_at, segments })
    }
}

fn read_segment(from: &mut Fields<'_>, end: u64, name: &mut String) -> Result<Placed> {
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
        (0..spans).map(|_| Entry::read_from(from, name)).collect::<Result<_>>()?;
    if spans.iter().try_fold(0u64, |sum, s| sum.checked_add(s.bytes)) != Some(bytes) {
        return Err(from.bad("has spans that don't fill their segment"));
    }
    Ok(Placed { at, blocks_at, table_at, blocks, bytes, spans })
}

/// Dtype id of an opaque span.
const OPAQUE: u8 = 0;

impl Entry {
    /// `previous` is the last tensor's name in the page: only what differs from it is written.
    fn write_to<'a>(&'a self, previous: &mut &'a str, out: &mut Vec<u8>) {
        put_varint(out, self.bytes);
        let Some((tensor, hash)) = &self.tensor else {
            out.push(OPAQUE);
            return;
        };
        out.push(tensor.dtype.wire_id());
        put_varint(out, tensor.shape.len() as u64);
        tensor.shape.iter().for_each(|&dim| put_varint(out, dim));
        let shared = shared_prefix(previous, &tensor.name);
        put_varint(out, shared as u64);
        put_string(out, &tensor.name[shared..]);
        out.extend(hash);
        *previous = &tensor.name;
    }

    fn read_from(from: &mut Fields<'_>, name: &mut String) -> Result<Self> {
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
        let shared = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
        let suffix = from.string()?;
        if !name.is_char_boundary(shared) || (shared + suffix.len()) as u64 > MAX_STRING {
            return Err(from.bad("has a name that can't be put together"));
        }
        name.truncate(shared);
        name.push_str(&suffix);
        let hash = from.array()?;
        Ok(Self { bytes, tensor: Some((TensorInfo { name: name.clone(), dtype, shape }, hash)) })
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
}
