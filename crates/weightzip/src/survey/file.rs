//! What a whole file is likely to take in a .wz, from a fiftieth of its bytes.
//!
//! Two samples of the blocks of each record layout. Of many blocks, of all if possible, a small piece is coded, for tensors
//! differ. That takes too much, for a block's coding costs less the more it holds: by how much is
//! told by a few blocks of which many pieces are coded, each by itself and all together, and in halves: what these take more
//! than the whole each payload takes, however much is in it. A piece is of runs from all over
//! its block, for rows differ, too.

mod found;
mod scales;

use super::{length, read};
use crate::base::{self, Found as FoundBases, Paired};
use crate::container::bases::Bases;
use crate::error::{Error, Result};
use crate::plan::{self, Segment};
use crate::record::RecordLayout;
use crate::source::Source;
use crate::span::Span;
use crate::{Hints, Level, codec};
use codec::Looks;
use found::Found;
use scales::Scales;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Every how many bytes one is read: a little less than a fiftieth, for the header is read too.
const PART: u64 = 52;
/// Bytes that are read at least: fewer would say nothing of a small file.
const LEAST: u64 = 256 << 10;
/// Bytes that are read at most, so that nobody waits.
const MOST: u64 = 2 << 20;
/// Pieces of a block of which many are looked at, at most and at least.
const MANY: u64 = 16;
const FEW: u64 = 2;
/// Bytes of a word, and words of a block that say what integers packed into them take: in so many windows of as many columns.
const WORD: u64 = 4;
const WORDS: u64 = 4608;
const WINDOWS: u64 = 4;
/// Rows of words that have whole groups of channels.
const GROUP_ROWS: u64 = 128;

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
/// Most files come within 0.3 % of the original's size, those of a megabyte or less within about 1 %.
///
/// # Errors
/// [`Kind::Io`](crate::Kind::Io) and its like if the source can't be read.
pub fn estimate_file<S: Source + ?Sized>(
    source: &S,
    spans: &[Span],
    level: Level,
) -> Result<FileEstimate> {
    let mut segments = plan::segments(spans, level);
    let (pairs, mut bases) = (base::paired(&segments), Bases::default());
    if level == Level::Max {
        base::scales(source, &mut segments, &mut bases, &mut FoundBases::default())?;
    }
    let total: u64 = spans.iter().map(length).sum();
    let budget = (total / PART).clamp(LEAST, MOST);
    let (alike, read) = base::alike(source, &segments, budget / 4)
        .map_err(|e| Error::io("can't read the input", e))?;
    let budget = budget - read;
    let repeats = alike.into_iter().flat_map(|same| same.into_iter().skip(1)).collect();
    let mut sampler = Sampler { source, level, read, payload: Vec::new() };
    let mut bytes = overhead(&segments);
    for group in groups(&segments, &bases, &pairs, &repeats) {
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
#[derive(Clone)]
struct Group {
    layout: RecordLayout,
    /// Records of the rows that blocks have, if that may matter; else 0.
    row: usize,
    /// Whether they are numbers whose scales are other tensors, or such scales.
    kind: Kind,
    /// By size: those of like tensors are neighbours then.
    parts: Vec<Part>,
    bytes: u64,
}

/// What tensors are to others: those of one dtype may differ by that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Others,
    Numbers,
    Scales,
}

/// A segment's bytes, how many a block has, the records of its rows, and its scales.
#[derive(Clone)]
struct Part {
    range: Range<u64>,
    block: u64,
    row: usize,
    scales: Option<Scales>,
}

/// A block's bytes, the place in them that chose it, the records of its rows, 0 if it has none, and its scales.
struct Block {
    range: Range<u64>,
    at: u64,
    row: usize,
    scales: Option<Scales>,
}

fn groups(
    segments: &[Segment],
    bases: &Bases,
    pairs: &[Paired],
    repeats: &HashSet<usize>,
) -> Vec<Group> {
    let of_pair = |pair: &Paired| [(pair.numbers, Kind::Numbers), (pair.scales, Kind::Scales)];
    let kinds: HashMap<usize, Kind> = pairs.iter().flat_map(of_pair).collect();
    let (mut groups, mut start): (Vec<Group>, u64) = (Vec::new(), 0);
    for (number, segment) in segments.iter().enumerate() {
        let (bytes, layout, row) = (bytes_of(segment), &segment.layout, segment.hints().row);
        let scales = segment.scales().and_then(|(number, each)| {
            Some(Scales { at: bases.repeated.get(number)?.start, each: each.into() })
        });
        let kind = kinds.get(&number).copied().unwrap_or(Kind::Others);
        let range = start..start + bytes;
        let part = Part { range, block: block_bytes(segment), row, scales };
        start += bytes;
        if bytes == 0 || repeats.contains(&number) {
            continue;
        }
        let row = if codec::may_be_packed(layout, row) { row } else { 0 };
        let same =
            |group: &&mut Group| (&group.layout, group.row, group.kind) == (layout, row, kind);
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.parts.push(part);
                group.bytes += bytes;
            }
            None => {
                let (layout, parts) = (layout.clone(), vec![part]);
                groups.push(Group { layout, row, kind, parts, bytes });
            }
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
    fn block(&self, at: u64) -> Block {
        let start = self.range.start + at / self.block * self.block;
        let range = start..self.range.end.min(start + self.block);
        let scales = self.scales.map(|scales| scales.behind(start - self.range.start));
        Block { range, at: at % self.block, row: self.row, scales }
    }
}

impl Block {
    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The `i`th of `count` places among so many, evenly spread. Where they start depends on what chose the block, so that
    /// it has others if it is chosen again.
    fn place(&self, i: u64, count: u64, among: u64) -> u64 {
        (i * self.bytes() + self.at) * among / (count * self.bytes())
    }
}

impl Group {
    /// Every block.
    fn blocks(&self) -> impl Iterator<Item = Block> {
        self.parts.iter().flat_map(|part| {
            let count = part.bytes().div_ceil(part.block);
            (0..count).map(|i| part.block(i * part.block))
        })
    }

    /// The blocks that have `count` bytes which are evenly spread.
    fn spread(&self, count: u64) -> impl Iterator<Item = Block> {
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
}

/// What is read of blocks.
#[derive(Clone, Copy)]
struct Cut {
    /// Bytes of a run: whole records, and whole rows if these matter and are short enough.
    run: u64,
    rows: bool,
    /// Runs of a piece.
    runs: u64,
    /// Most pieces of a block of which many are looked at.
    many: u64,
    /// Of all that is read, such blocks are one of so many parts.
    wholes: u64,
}

impl Cut {
    fn of(layout: &RecordLayout, looks: Looks) -> Self {
        let size = u64::from(layout.bytes());
        let records = |bytes: u64| (bytes / size).max(1) * size;
        let one = |run| Self { run, rows: false, runs: 1, many: MANY, wholes: 3 };
        match (looks, layout.floats()) {
            // Where the others are doesn't matter, but all of a row may be zero.
            (Looks::Sparse, _) => Self { runs: 64, many: MANY / 2, ..one(64 * size) },
            // Rows have scales, and those below one another may have the same one.
            (Looks::Few, _) => Self { rows: true, many: MANY / 2, ..one(size << 12) },
            // As many floats are narrowed together.
            (Looks::Plain, Some(_)) => one(size << 10),
            // Zstd looks for what came before.
            _ if layout.is_opaque() => one(4 << 10),
            // Each field has a header of its own.
            _ if layout.fields().len() > 1 => {
                let run = records(1 << 10);
                Self { runs: (16u64 << 10).div_ceil(run), ..one(run) }
            }
            // Tensors of small integers differ most, so many are looked at; that little takes much more by itself.
            _ if size == 1 => Self { runs: 4, wholes: 2, ..one(256) },
            _ => one(records(1 << 10)),
        }
    }

    fn piece(self) -> u64 {
        self.run * self.runs
    }

    /// The same with whole rows of a block, if it has such.
    fn in_rows(self, layout: &RecordLayout, block: &Block) -> Self {
        let row = block.row as u64 * u64::from(layout.bytes());
        match self.rows && (1..=self.run).contains(&row) {
            true => Self { run: self.run / row * row, ..self },
            false => self,
        }
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
        let layout = &group.layout;
        if group.bytes <= budget {
            return group.blocks().map(|block| self.whole_block(group, &block)).sum();
        }
        if group.kind == Kind::Numbers && group.parts.iter().all(|part| part.scales.is_some()) {
            let alone = self.group(&Group { kind: Kind::Others, ..group.clone() }, budget / 2)?;
            let scaled = self.scaled(group, budget / 2)?;
            return Ok(scaled.map_or(alone, |scaled| scaled.min(alone)));
        }
        if group.row > 0
            && let Some(bytes) = self.packed(group, budget)?
        {
            return Ok(bytes);
        }
        let cut = Cut::of(layout, self.looks(group, budget)?);
        let (for_wholes, mut found) = (budget / cut.wholes, Found::default());
        for block in group.spread(((budget - for_wholes) / cut.piece()).max(1)) {
            let cut = cut.in_rows(layout, &block);
            let data = self.sample(&block, cut, 1)?;
            found.pieces.add(&self.coded(layout, cut, &block, &data)?, data.len());
        }
        let many = (for_wholes / cut.piece()).clamp(FEW, cut.many) / 2 * 2;
        for block in group.spread((for_wholes / (cut.piece() * many)).max(1)) {
            let cut = cut.in_rows(layout, &block);
            let data = self.sample(&block, cut, many)?;
            self.whole(layout, cut, &block, &data, &mut found)?;
        }
        Ok(found.bytes(group.bytes, group.blocks().count() as u64))
    }

    /// What most of a few samples of floats look like.
    fn looks(&mut self, group: &Group, budget: u64) -> Result<Looks> {
        let layout = &group.layout;
        let cut = Cut { rows: true, ..Cut::of(layout, Looks::Plain) };
        let cut = Cut { run: 2 * cut.run, ..cut };
        if layout.floats().is_none() || budget < 24 * cut.run {
            return Ok(Looks::Plain);
        }
        let mut seen = [0; 3];
        for block in group.spread(3) {
            let data = self.sample(&block, cut.in_rows(layout, &block), 1)?;
            let hints = Hints { level: self.level, row: block.row };
            seen[codec::looks(layout, hints, &data, &mut self.payload)? as usize] += 1;
        }
        let all = [Looks::Plain, Looks::Sparse, Looks::Few];
        Ok(all.into_iter().max_by_key(|looks| seen[*looks as usize]).unwrap_or(Looks::Plain))
    }

    /// Bytes that words take in which smaller integers are packed, from some words of some blocks; `None` if those of the largest
    /// one look like no such.
    fn packed(&mut self, group: &Group, budget: u64) -> Result<Option<u64>> {
        let (layout, level) = (&group.layout, self.level);
        let (mut coded, mut seen) = (0, 0);
        let has_row = |block: &Block| block.bytes() >= WORD * block.row as u64;
        let blocks = group.spread((budget / (WORD * WORDS)).max(1)).filter(has_row);
        let blocks: Vec<_> = blocks.collect();
        for block in blocks.iter().rev() {
            let (data, columns) = self.words(block)?;
            let row = block.row;
            let (bytes, packed) =
                codec::packed_cost(layout, level, row, columns, &data, &mut self.payload)?;
            if seen == 0 && !packed {
                return Ok(None);
            }
            (coded, seen) = (coded + bytes as u128, seen + data.len() as u64);
            if seen + data.len() as u64 > budget {
                break;
            }
        }
        Ok(u64::try_from(u128::from(group.bytes) * coded / u128::from(seen.max(1))).ok())
    }

    /// Some columns of some of a block's rows, and how many columns. Channels of a group are all there.
    fn words(&mut self, block: &Block) -> Result<(Vec<u8>, usize)> {
        let row = block.row as u64;
        let all = block.bytes() / WORD / row;
        let rows = all.min(GROUP_ROWS);
        let part_of_row = row / WINDOWS;
        let width = (WORDS / rows.max(1)).div_ceil(WINDOWS).min(part_of_row);
        let first = block.place(0, 1, all - rows + 1) / GROUP_ROWS * GROUP_ROWS;
        let (mut data, mut part) = (Vec::new(), Vec::new());
        for at in first..first + rows {
            for window in 0..WINDOWS {
                let column = window * part_of_row + block.place(0, 1, part_of_row - width + 1);
                let start = block.range.start + WORD * (at * row + column);
                read(self.source, &(start..start + WORD * width), &mut part)?;
                data.append(&mut part);
            }
        }
        self.read += data.len() as u64;
        Ok((data, usize::try_from(WINDOWS * width).unwrap_or(usize::MAX)))
    }

    /// Looks at many pieces of a block, each by itself, all together, and in halves.
    fn whole(
        &mut self,
        layout: &RecordLayout,
        cut: Cut,
        block: &Block,
        data: &[u8],
        found: &mut Found,
    ) -> Result<()> {
        for piece in data.chunks(usize::try_from(cut.piece()).unwrap_or(usize::MAX)) {
            found.apart.add(&self.coded(layout, cut, block, piece)?, piece.len());
        }
        let whole = self.coded(layout, cut, block, data)?;
        let (a, b) = data.split_at(data.len() / 2);
        let (a, b) = (self.coded(layout, cut, block, a)?, self.coded(layout, cut, block, b)?);
        let more = a.iter().zip(&b).zip(&whole);
        let fixed: Vec<u64> =
            more.map(|((a, b), whole)| (a + b).saturating_sub(*whole).min(*whole)).collect();
        found.wholes.add(&whole, data.len());
        found.fixed.add(&fixed, 0);
        Ok(())
    }

    /// So many pieces of a block, or all of it: the runs of each are evenly spread, and so are those of each half.
    fn sample(&mut self, block: &Block, cut: Cut, pieces: u64) -> Result<Vec<u8>> {
        let (has, count) = (block.bytes() / cut.run, cut.runs * pieces);
        if has <= count {
            return self.bytes(block.range.clone());
        }
        let in_halves = (0..pieces).step_by(2).chain((1..pieces).step_by(2));
        let of_piece = |piece: u64| (0..cut.runs).map(move |i| i * pieces + piece);
        let mut data = Vec::new();
        for i in in_halves.flat_map(of_piece) {
            let start = block.range.start + block.place(i, count, has) * cut.run;
            data.append(&mut self.bytes(start..start + cut.run)?);
        }
        Ok(data)
    }

    fn bytes(&mut self, range: Range<u64>) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        read(self.source, &range, &mut data)?;
        self.read += data.len() as u64;
        Ok(data)
    }

    /// Bytes that some of a block take, by part and way.
    fn coded(
        &mut self,
        layout: &RecordLayout,
        cut: Cut,
        block: &Block,
        data: &[u8],
    ) -> Result<Vec<u64>> {
        let hints = Hints { level: self.level, row: if cut.rows { block.row } else { 0 } };
        let parts = codec::cost(layout, hints, data, &mut self.payload)?;
        Ok(parts.into_iter().flatten().map(|bytes| bytes as u64).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Options, TensorInfo, compress, scan};

    /// Numbers below others, one after another.
    fn random(mut state: u64) -> impl FnMut(u32) -> u32 {
        move |n| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let [a, b, ..] = state.to_be_bytes();
            (u32::from(u16::from_be_bytes([a, b])) * n) >> 16
        }
    }

    /// A safetensors file of tensors of rows of so many numbers.
    fn safetensors(dtype: Dtype, row: usize, tensors: &[Vec<u8>]) -> Vec<u8> {
        let tensors: Vec<_> = tensors.iter().map(|data| (dtype, data)).collect();
        mixed(row, &tensors)
    }

    /// The same, each tensor of its own dtype.
    fn mixed(row: usize, tensors: &[(Dtype, &Vec<u8>)]) -> Vec<u8> {
        let (mut header, mut all) = (serde_json::Map::new(), Vec::new());
        for (i, (dtype, data)) in tensors.iter().enumerate() {
            let (start, rows) = (all.len(), data.len() / dtype.bytes() / row);
            all.extend_from_slice(data);
            let dtype = dtype.name().to_uppercase();
            let entry = serde_json::json!({"dtype": dtype, "shape": [rows, row], "data_offsets": [start, all.len()]});
            header.insert(format!("t{i:03}"), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        [&(header.len() as u64).to_le_bytes(), header.as_slice(), &all].concat()
    }

    /// Tensors that are unlike one another: exponents of 1 to 64 values.
    fn model(tensors: usize, count: usize) -> Vec<u8> {
        let mut below = random(1);
        let mut tensor = |i: usize| {
            let mut float = || {
                let exponent = 0x30 + below(1 << (i % 7));
                (below(2) << 15 | exponent << 7 | below(128)).to_le_bytes()
            };
            (0..count).flat_map(|_| float().into_iter().take(2).collect::<Vec<_>>()).collect()
        };
        let tensors: Vec<_> = (0..tensors).map(&mut tensor).collect();
        safetensors(Dtype::Bf16, 256, &tensors)
    }

    /// Integers of four bits, eight to a word: groups of 16 rows and channels differ in how large theirs are.
    fn packed(rows: usize, row: usize, seed: u64) -> Vec<u8> {
        let mut below = random(seed);
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
        data
    }

    /// Small integers, larger ones in some tensors than in others.
    fn integers(tensors: usize, count: usize) -> Vec<u8> {
        let mut below = random(1);
        let mut tensor = |i: usize| {
            let most = 2 << (i % 7);
            (0..count).map(|_| below(most).wrapping_sub(below(most)).to_le_bytes()[0]).collect()
        };
        let tensors: Vec<_> = (0..tensors).map(&mut tensor).collect();
        safetensors(Dtype::I8, 384, &tensors)
    }

    /// Floats that are integers times a scale for each row.
    fn scaled(rows: usize) -> Vec<u8> {
        let mut below = random(1);
        let mut data = Vec::new();
        for _ in 0..rows {
            let scale = (below(1 << 15) + 9999) as f32 / 65_536.0;
            let mut integer = || below(8) as f32 - below(8) as f32;
            (0..384).for_each(|_| data.extend((integer() * scale).to_le_bytes()));
        }
        safetensors(Dtype::F32, 384, &[data])
    }

    /// Floats of which most are zero, in some rows more than in others.
    fn sparse(rows: usize) -> Vec<u8> {
        let mut below = random(1);
        let mut data = Vec::new();
        for _ in 0..rows {
            let of = 2 + below(20);
            let mut float = || if below(of) > 0 { 0 } else { 0x3D00_0000 + below(1 << 15) * 777 };
            (0..384).for_each(|_| data.extend(float().to_le_bytes()));
        }
        safetensors(Dtype::F32, 384, &[data])
    }

    /// A GGUF file of blocks of two scales and 32 integers of four bits each.
    fn blocks(count: usize) -> Vec<u8> {
        const Q4_1: u32 = 3;
        let mut below = random(1);
        let mut data = Vec::new();
        for _ in 0..count {
            let scale = 0x2800 + below(0x400) + below(0x400);
            let least = 0x8000 + scale + 0xB00 + below(0x100);
            data.extend((scale | least << 16).to_le_bytes());
            let mut integer = || below(8) + below(9);
            (0..16).for_each(|_| data.extend(&(integer() | integer() << 4).to_le_bytes()[..1]));
        }
        let header: [&[u8]; 9] = [
            b"GGUF\x03\0\0\0",
            &1u64.to_le_bytes(),
            &0u64.to_le_bytes(),
            &1u64.to_le_bytes(),
            b"t",
            &1u32.to_le_bytes(),
            &(32 * count as u64).to_le_bytes(),
            &Q4_1.to_le_bytes(),
            &0u64.to_le_bytes(),
        ];
        let mut file = header.concat();
        file.resize(file.len().next_multiple_of(32), 0);
        [file, data].concat()
    }

    #[test]
    fn estimates_come_near_and_read_little() {
        let (long, other) = (packed(512, 500, 0), vec![1; 1000]);
        let short: Vec<_> = (1..40).map(|seed| packed(8, 500, seed << 32)).collect();
        let between = short.iter().flat_map(|short| [(Dtype::I32, short), (Dtype::U8, &other)]);
        let between: Vec<_> = between.chain([(Dtype::I32, &long)]).collect();
        let files = [
            (safetensors(Dtype::I32, 1024, &[packed(512, 1024, 1)]), 0.15, 0.003),
            // Short blocks have no packed integers, long ones do.
            (mixed(500, &between), 0.16, 0.005),
            (integers(48, 384 << 10), 0.02, 0.004),
            (scaled(6 << 10), 0.03, 0.003),
            (sparse(8 << 10), 0.03, 0.01),
            (blocks(400 << 10), 0.04, 0.003),
            (model(84, 160 << 10), 0.02, 0.003),
            // Of few tensors, few blocks tell what a block takes.
            (model(8, 40 << 10), 0.5, 0.01),
            (model(3, 1 << 10), 1.0, 0.001),
        ];
        for (i, (file, most, near)) in files.into_iter().enumerate() {
            let spans = scan(file.as_slice()).unwrap().spans;
            for &level in Level::ALL {
                let estimate = estimate_file(file.as_slice(), &spans, level).unwrap();
                let options = Options { level, threads: 1, ..Options::default() };
                let real = compress(file.as_slice(), std::io::sink(), &options).unwrap();
                let of = |bytes: u64| bytes as f64 / file.len() as f64;
                let off = of(estimate.bytes) - of(real.compressed_bytes);
                assert!(off.abs() < near + 512.0 / file.len() as f64, "{i} {level:?}: {off}");
                assert!(of(estimate.read) <= most, "{i}: {}", estimate.read);
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
