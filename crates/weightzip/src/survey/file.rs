//! What a whole file is likely to take in a .wz, from a fiftieth of its bytes.
//!
//! Two samples of the blocks of each record layout. Of many blocks, of all if possible, a small piece is coded, for tensors
//! differ. That takes too much, for a block's coding costs less the more it holds: by how much is
//! told by a few blocks of which many pieces are coded, each by itself and all together. A piece is of runs from all over
//! its block, for rows differ, too.

use super::{length, read};
use crate::base;
use crate::error::{Error, Result};
use crate::plan::{self, Segment};
use crate::record::RecordLayout;
use crate::source::Source;
use crate::span::Span;
use crate::{Hints, Level, codec, encode_block};
use std::collections::HashSet;
use std::ops::Range;

/// Every how many bytes one is read: a little less than a fiftieth, for the header is read too.
const PART: u64 = 52;
/// Bytes that are read at least: fewer would say nothing of a small file.
const LEAST: u64 = 256 << 10;
/// Bytes that are read at most, so that nobody waits.
const MOST: u64 = 2 << 20;
/// Records of a run: as many floats as are narrowed together.
const RUN: u64 = 1 << 10;
/// Bytes of a run of opaque bytes: zstd looks for what came before.
const OPAQUE_RUN: u64 = 4 << 10;
/// Bytes of a run of records of several fields: each field has a header of its own.
const FIELDS_RUN: u64 = 4 << 10;
/// Bytes of a piece at least, if there are up to 256 symbols and nothing else: fewer don't say how often each occurs.
const BYTES_PIECE: u64 = 2 << 10;
/// Bytes of a word, and of a block's columns that say what integers packed into words take, about.
const WORD: u64 = 4;
const COLUMNS: u64 = 32 << 10;
/// Pieces of a block of which many are looked at, at most and at least.
const MANY: u64 = 16;
const FEW: u64 = 2;

/// What a file is likely to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEstimate {
    /// Bytes of the whole .wz.
    pub bytes: u64,
    /// Bytes that were read to tell.
    pub read: u64,
}

/// Estimates what the .wz of a file with these spans takes, without a base. Tensors that look equal in a few places count
/// once, as if the file were its own [source](crate::Options::source).
///
/// Reads a fiftieth of the bytes, but at least 256 KiB and at most about 2 MiB, always the same ones.
/// Floats mostly come within 0.3 % of the original's size; integers, opaque bytes, and files of a megabyte or
/// less within about 1 %.
///
/// # Errors
/// [`Kind::Io`](crate::Kind::Io) and its like if the source can't be read.
pub fn estimate_file<S: Source + ?Sized>(
    source: &S,
    spans: &[Span],
    level: Level,
) -> Result<FileEstimate> {
    let segments = plan::segments(spans, level);
    let total: u64 = spans.iter().map(length).sum();
    let budget = (total / PART).clamp(LEAST, MOST);
    let (alike, read) = base::alike(source, &segments, budget / 4)
        .map_err(|e| Error::io("can't read the input", e))?;
    let budget = budget - read;
    let repeats = alike.into_iter().flat_map(|same| same.into_iter().skip(1)).collect();
    let mut sampler = Sampler { source, level, read, payload: Vec::new() };
    let mut bytes = overhead(&segments);
    for group in groups(&segments, &repeats) {
        let share = u128::from(budget) * u128::from(group.bytes) / u128::from(total.max(1));
        bytes += sampler.group(&group, u64::try_from(share).unwrap_or(budget))?;
    }
    Ok(FileEstimate { bytes, read: sampler.read })
}

/// About what the container's sections, tables and names take.
fn overhead(segments: &[Segment]) -> u64 {
    const FILE: u64 = 256;
    const SEGMENT: u64 = 96;
    const BLOCK: u64 = 32;
    const TENSOR: u64 = 64;
    let of_segment = |segment: &Segment| {
        let tensors = segment.spans.iter().filter_map(|span| span.tensor.as_ref());
        let names: u64 = tensors.map(|tensor| TENSOR + tensor.name.len() as u64).sum();
        SEGMENT + BLOCK * bytes_of(segment).div_ceil(block_bytes(segment)) + names
    };
    FILE + segments.iter().map(of_segment).sum::<u64>()
}

fn bytes_of(segment: &Segment) -> u64 {
    segment.bytes.unwrap_or(0)
}

fn block_bytes(segment: &Segment) -> u64 {
    (segment.block * u64::from(segment.layout.bytes())).max(1)
}

/// The segments of one record layout, wherever they are.
struct Group {
    layout: RecordLayout,
    /// Records of the rows that blocks have, if that may matter; else 0.
    row: usize,
    /// By size: those of like tensors are neighbours then.
    parts: Vec<Part>,
    bytes: u64,
}

/// A segment's bytes, and how many a block has.
struct Part {
    range: Range<u64>,
    block: u64,
}

fn groups(segments: &[Segment], repeats: &HashSet<usize>) -> Vec<Group> {
    let (mut groups, mut start): (Vec<Group>, u64) = (Vec::new(), 0);
    for (number, segment) in segments.iter().enumerate() {
        let (bytes, layout) = (bytes_of(segment), &segment.layout);
        let part = Part { range: start..start + bytes, block: block_bytes(segment) };
        start += bytes;
        if bytes == 0 || repeats.contains(&number) {
            continue;
        }
        let row = segment.hints().row;
        let row = if codec::packed_columns(layout, row, 1).is_some() { row } else { 0 };
        match groups.iter_mut().find(|group| group.layout == *layout && group.row == row) {
            Some(group) => {
                group.parts.push(part);
                group.bytes += bytes;
            }
            None => groups.push(Group { layout: layout.clone(), row, parts: vec![part], bytes }),
        }
    }
    groups.iter_mut().for_each(|group| group.parts.sort_by_key(Part::bytes));
    groups
}

impl Part {
    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The block that has the byte `at`, counted from the segment's start.
    fn block(&self, at: u64) -> Range<u64> {
        let start = self.range.start + at / self.block * self.block;
        start..self.range.end.min(start + self.block)
    }
}

impl Group {
    /// Every block.
    fn blocks(&self) -> impl Iterator<Item = Range<u64>> {
        self.parts.iter().flat_map(|part| {
            let count = part.bytes().div_ceil(part.block);
            (0..count).map(|i| part.block(i * part.block))
        })
    }

    /// The blocks that have `count` bytes which are evenly spread.
    fn spread(&self, count: u64) -> impl Iterator<Item = Range<u64>> {
        let (mut parts, mut before) = (self.parts.iter().peekable(), 0);
        (0..count).filter_map(move |i| {
            let at = u128::from(self.bytes) * u128::from(2 * i + 1) / u128::from(2 * count);
            let at = u64::try_from(at).ok()?;
            while let Some(part) = parts.next_if(|part| at - before >= part.bytes()) {
                before += part.bytes();
            }
            Some(parts.peek()?.block(at - before))
        })
    }

    /// Bytes of a row.
    fn row_bytes(&self) -> u64 {
        self.row as u64 * u64::from(self.layout.bytes())
    }

    /// Bytes of a run: whole records.
    fn run(&self) -> u64 {
        let size = u64::from(self.layout.bytes());
        match self.layout.floats() {
            Some(_) => RUN * size,
            None if self.layout.is_opaque() => OPAQUE_RUN,
            None if self.layout.fields().len() > 1 => (FIELDS_RUN / size).max(1) * size,
            None => (RUN / size).max(1) * size,
        }
    }

    /// Runs of a piece, of which there are so many bytes in all. Records of several fields are few, and each field has
    /// a header of its own: if all blocks have a piece, it may be larger. So many numbers as a piece of bytes has tell
    /// how often each occurs.
    fn runs(&self, bytes: u64) -> u64 {
        match self.layout.fields() {
            [_, _, ..] => (bytes / self.blocks().count() as u64 / self.run()).max(1),
            [_] if self.layout.bytes() == 1 && self.layout.floats().is_none() => {
                BYTES_PIECE.div_ceil(self.run())
            }
            _ => 1,
        }
    }
}

/// What remains, as a share of 2^32.
type Rate = i128;

fn rate(coded: u64, bytes: u64) -> Rate {
    (Rate::from(coded) << 32) / Rate::from(bytes.max(1))
}

#[derive(Default)]
struct Mean {
    sum: Rate,
    count: Rate,
}

impl Mean {
    fn add(&mut self, rate: Rate) {
        self.sum += rate;
        self.count += 1;
    }

    fn get(&self) -> Rate {
        self.sum / self.count.max(1)
    }
}

struct Sampler<'a, S: ?Sized> {
    source: &'a S,
    level: Level,
    read: u64,
    payload: Vec<u8>,
}

impl<S: Source + ?Sized> Sampler<'_, S> {
    /// Bytes that the blocks of a group take, from about `budget` bytes of them.
    fn group(&mut self, group: &Group, budget: u64) -> Result<u64> {
        let (layout, run) = (&group.layout, group.run());
        if group.bytes <= budget {
            let whole = |block| {
                let data = self.sample(block, run, u64::MAX, 1)?;
                let hints = Hints { level: self.level, row: group.row };
                let block = encode_block(layout, None, hints, &data, &mut self.payload)?;
                Ok(block.payload.len() as u64)
            };
            return group.blocks().map(whole).sum();
        }
        if let Some(bytes) = self.packed(group, budget)? {
            return Ok(bytes);
        }
        let (for_pieces, for_wholes) = (budget * 2 / 3, budget / 3);
        let runs = group.runs(for_pieces);
        let piece = run * runs;
        let (mut pieces, mut too_much) = (Mean::default(), Mean::default());
        for block in group.spread((for_pieces / piece).max(1)) {
            let data = self.sample(block, run, runs, 1)?;
            pieces.add(rate(self.coded(layout, &data)?, data.len() as u64));
        }
        let many = (for_wholes / piece).clamp(FEW, MANY) / 2 * 2;
        for block in group.spread((for_wholes / (piece * many)).max(1)) {
            let bytes = block.end - block.start;
            let data = self.sample(block, run, runs, many)?;
            too_much.add(self.too_much(layout, bytes, &data, piece)?);
        }
        let rate = (pieces.get() - too_much.get()).max(0);
        Ok(u64::try_from((Rate::from(group.bytes) * rate) >> 32).unwrap_or(u64::MAX))
    }

    /// Bytes that words take in which smaller integers are packed, from columns of some blocks; `None` if they look like no such.
    fn packed(&mut self, group: &Group, budget: u64) -> Result<Option<u64>> {
        let (layout, row, before) = (&group.layout, group.row, self.read);
        let mut rates = Mean::default();
        for block in group.spread((budget / COLUMNS).max(1)) {
            let rows = usize::try_from((block.end - block.start) / group.row_bytes().max(1));
            let rows = rows.unwrap_or(usize::MAX);
            let Some(columns) = codec::packed_columns(layout, row, rows) else { return Ok(None) };
            let data = self.columns(&block, group.row_bytes(), &columns)?;
            let sampled = columns.len();
            let room = &mut self.payload;
            let Some(bytes) = codec::packed_cost(layout, self.level, row, sampled, &data, room)?
            else {
                return Ok(None);
            };
            rates.add(rate(bytes as u64, data.len() as u64));
            if self.read - before + data.len() as u64 > budget {
                break;
            }
        }
        Ok(u64::try_from((Rate::from(group.bytes) * rates.get()) >> 32).ok())
    }

    /// Some columns of a block's whole rows, which have so many bytes.
    fn columns(&mut self, block: &Range<u64>, row: u64, columns: &Range<usize>) -> Result<Vec<u8>> {
        let (mut data, mut part, mut start) = (Vec::new(), Vec::new(), block.start);
        let bytes = |columns: usize| columns as u64 * WORD;
        while start + row <= block.end {
            let range = start + bytes(columns.start)..start + bytes(columns.end);
            read(self.source, &range, &mut part)?;
            data.append(&mut part);
            start += row;
        }
        self.read += data.len() as u64;
        Ok(data)
    }

    /// What pieces by themselves take more than they do in their block of so many bytes. Of that only a sample is
    /// there; what its halves take more than the whole is what a block takes however large it is.
    fn too_much(
        &mut self,
        layout: &RecordLayout,
        bytes: u64,
        data: &[u8],
        piece: u64,
    ) -> Result<Rate> {
        let (len, piece) = (data.len() as u64, usize::try_from(piece).unwrap_or(usize::MAX));
        let mut pieces = 0;
        for piece in data.chunks(piece) {
            pieces += self.coded(layout, piece)?;
        }
        let whole = self.coded(layout, data)?;
        if len == bytes {
            return Ok(rate(pieces, len) - rate(whole, len));
        }
        let (a, b) = data.split_at(data.len() / 2);
        let halves = self.coded(layout, a)? + self.coded(layout, b)?;
        let fixed = halves.saturating_sub(whole).min(whole);
        Ok(rate(pieces, len) - rate(whole - fixed, len) - rate(fixed, bytes))
    }

    /// So many pieces of a block, or all of it: the runs of each are evenly spread, and so are those of each half.
    fn sample(&mut self, block: Range<u64>, run: u64, runs: u64, pieces: u64) -> Result<Vec<u8>> {
        let (has, count) = ((block.end - block.start) / run, runs.saturating_mul(pieces));
        let mut ranges = vec![block.clone()];
        if has > count {
            let run = |i| {
                let at = block.start + (2 * i + 1) * has / (2 * count) * run;
                at..at + run
            };
            let in_halves = (0..pieces).step_by(2).chain((1..pieces).step_by(2));
            let of_piece = |piece: u64| (0..runs).map(move |i| i * pieces + piece);
            ranges = in_halves.flat_map(of_piece).map(run).collect();
        }
        let (mut data, mut piece) = (Vec::new(), Vec::new());
        for range in ranges {
            read(self.source, &range, &mut piece)?;
            data.append(&mut piece);
        }
        self.read += data.len() as u64;
        Ok(data)
    }

    /// Bytes of a payload, or what these are in a larger one.
    fn coded(&mut self, layout: &RecordLayout, data: &[u8]) -> Result<u64> {
        Ok(codec::cost(layout, self.level, data, &mut self.payload)? as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Options, TensorInfo, compress, scan};

    /// A safetensors file whose tensors are unlike one another: exponents of 1 to 64 values.
    fn model(tensors: usize, count: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()
        };
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for tensor in 0..tensors {
            let start = data.len();
            for _ in 0..count {
                let [a, b, c, ..] = next();
                let exponent = 0x30 + (c >> 2) % (1 << (tensor % 7));
                data.extend([a, b & 0x80 | exponent >> 1]);
            }
            let entry = serde_json::json!({"dtype": "BF16", "shape": [count / 256, 256], "data_offsets": [start, data.len()]});
            header.insert(format!("t{tensor}"), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        [&(header.len() as u64).to_le_bytes(), header.as_slice(), &data].concat()
    }

    /// A safetensors file of integers of four bits, eight to a word: groups of 16 rows and channels differ in how large theirs are.
    fn packed(rows: usize, row: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut below = move |n: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let [a, b, ..] = state.to_be_bytes();
            (u32::from(u16::from_be_bytes([a, b])) * n) >> 16
        };
        let channels: Vec<u32> = (0..8 * rows).map(|_| 1 + below(3)).collect();
        let mut groups: Vec<u32> = Vec::new();
        let mut data = Vec::new();
        for i in 0..rows {
            if i % 16 == 0 {
                groups = (0..row).map(|_| 1 + below(3)).collect();
            }
            for group in &groups {
                let mut integer = |place: usize| {
                    let spread = channels[8 * i + place] + group;
                    8 - spread + below(spread + 1) + below(spread + 1)
                };
                let word: u32 = (0..8).map(|place| integer(place) << (4 * place)).sum();
                data.extend(word.to_le_bytes());
            }
        }
        let shape = [rows, row];
        let entry = serde_json::json!({"t": {"dtype": "I32", "shape": shape, "data_offsets": [0, data.len()]}});
        let header = serde_json::to_vec(&entry).unwrap();
        [&(header.len() as u64).to_le_bytes(), header.as_slice(), &data].concat()
    }

    #[test]
    fn estimates_come_near_and_read_little() {
        let files = [
            (packed(512, 1024), 0.15, 0.003),
            (model(84, 160 << 10), 0.02, 0.003),
            // Of few tensors, few blocks tell what a block takes.
            (model(8, 40 << 10), 0.5, 0.01),
            (model(3, 1 << 10), 1.0, 0.001),
        ];
        for (file, most, near) in files {
            let spans = scan(file.as_slice()).unwrap().spans;
            for &level in Level::ALL {
                let estimate = estimate_file(file.as_slice(), &spans, level).unwrap();
                let options = Options { level, threads: 1, ..Options::default() };
                let real = compress(file.as_slice(), std::io::sink(), &options).unwrap();
                let of = |bytes: u64| bytes as f64 / file.len() as f64;
                let off = of(estimate.bytes) - of(real.compressed_bytes);
                assert!(off.abs() < near + 512.0 / file.len() as f64, "{}: {off}", file.len());
                assert!(of(estimate.read) <= most, "{}", estimate.read);
                let again = estimate_file(file.as_slice(), &spans, level).unwrap();
                assert_eq!(again, estimate);
            }
        }
    }

    #[test]
    fn equal_tensors_count_once() {
        let (file, count) = (model(1, 2 << 20), (2 << 20) * 2);
        let data = &file[file.len() - count..];
        let entry = |name: &str, start: usize| {
            let end = start + count;
            format!(
                r#""{name}":{{"dtype":"BF16","shape":[8192,256],"data_offsets":[{start},{end}]}}"#
            )
        };
        let header = format!("{{{},{}}}", entry("a", 0), entry("b", count));
        let header_len = (header.len() as u64).to_le_bytes();
        let file = [&header_len, header.as_bytes(), data, data].concat();
        let spans = scan(file.as_slice()).unwrap().spans;
        let estimate = estimate_file(file.as_slice(), &spans, Level::Default).unwrap();
        let source: std::sync::Arc<dyn Source + Send> = std::sync::Arc::new(file.clone());
        let options = Options { threads: 1, source: Some(source), ..Options::default() };
        let real = compress(file.as_slice(), std::io::sink(), &options).unwrap().compressed_bytes;
        assert!(real < file.len() as u64 / 2, "{real}");
        assert!(estimate.bytes.abs_diff(real) < file.len() as u64 / 100, "{estimate:?} {real}");
    }

    #[test]
    fn what_is_read_is_bounded_however_large_the_file_is() {
        struct Zeros;
        impl Source for Zeros {
            fn size(&self) -> std::io::Result<u64> {
                Ok(1 << 50)
            }
            fn read_at(&self, _: u64, buf: &mut [u8]) -> std::io::Result<()> {
                buf.fill(0);
                Ok(())
            }
        }
        let info =
            TensorInfo { name: "t".into(), dtype: Dtype::F32, shape: vec![1 << 28, 1 << 20] };
        let spans = [Span::tensor(0..1 << 50, info), Span::opaque(1 << 50..1 << 50)];
        let estimate = estimate_file(&Zeros, &spans, Level::Default).unwrap();
        assert!(estimate.read <= MOST + (64 << 10), "{}", estimate.read);
        // Blocks of zeros, each with its header and its entry.
        assert!(estimate.bytes < 1 << 37, "{}", estimate.bytes);
        assert_eq!(estimate_file([].as_slice(), &[], Level::Max).unwrap().read, 0);
    }
}
