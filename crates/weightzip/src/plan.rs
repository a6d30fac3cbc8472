//! Cuts spans into segments and segments into blocks (spec: "Recommended cuts").
//!
//! Depends on names, dtypes and shapes alone, never on values or the file's length.

use crate::codec::Hints;
use crate::container::MAX_BLOCK_BYTES;
use crate::container::segment::{BasePart, How};
use crate::frame::FrameOptions;
use crate::lossy::Rounding;
use crate::options::Level;
use crate::record::RecordLayout;
use crate::span::Span;

/// Records that a block is made for.
const BLOCK_RECORDS: u64 = 128 << 10;

/// The same at level max, whose blocks cost more than their records do.
const MAX_BLOCK_RECORDS: u64 = 512 << 10;

/// Bytes of a block of opaque data.
pub(crate) const OPAQUE_BLOCK: u64 = 1 << 20;

/// Tensors of fewer records share a block with neighbours of their dtype.
const SMALL_RECORDS: u64 = 32 << 10;

/// Records that small tensors share a block up to: their values are less alike than those of one.
const SHARED_RECORDS: u64 = 64 << 10;

/// Bytes up to which tensors are not worth a record layout: they share an opaque segment with
/// their neighbours, whatever their dtypes. Bounds what a file of tiny tensors can grow to.
const TINY_BYTES: u64 = 512;

/// Blocks from which on a shared context costs less than what it saves in each of them.
const CONTEXT_BLOCKS: u64 = 4;

/// Most spans in a segment.
const MAX_SPANS: usize = 1024;

/// Longest name of a tensor that shares a segment, so that a page of the directory stays small.
const MAX_SHARED_NAME: usize = 4 << 10;

/// A segment to be: some bytes of the file, how they are seen, and what they are.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) layout: RecordLayout,
    /// Records per row; 0 if there are no rows.
    pub(crate) row: u64,
    /// Records per block.
    pub(crate) block: u64,
    pub(crate) level: Level,
    /// Tensors, in order, and what lies between tiny ones; none if the bytes are opaque.
    pub(crate) spans: Vec<Span>,
    /// `None` if it takes all that is left of the file.
    pub(crate) bytes: Option<u64>,
    /// What it is coded against: for those to say who have a base.
    pub(crate) base: Vec<BasePart>,
    /// Its tensors that are to be rounded: for those to say who have rules.
    pub(crate) rounding: Vec<Rounding>,
}

impl Segment {
    /// Opaque bytes.
    pub(crate) fn opaque(bytes: u64, level: Level) -> Self {
        Self { bytes: Some(bytes), ..Self::rest(RecordLayout::opaque(), level) }
    }

    /// Records to the end of the file.
    pub(crate) fn rest(layout: RecordLayout, level: Level) -> Self {
        Self {
            row: 0,
            block: target(&layout, level),
            layout,
            level,
            spans: Vec::new(),
            bytes: None,
            base: Vec::new(),
            rounding: Vec::new(),
        }
    }

    /// A tensor on its own.
    fn tensor(span: &Span, layout: RecordLayout, shape: &[u64], level: Level) -> Self {
        let bytes = span.range.end - span.range.start;
        let records = bytes / u64::from(layout.bytes());
        let row = span.tensor.as_ref().map_or(0, |tensor| row_of(shape, tensor.dtype.block().0));
        let row = if layout.is_opaque() { 0 } else { row };
        let block = block_records(&layout, row, records, level);
        let (spans, bytes) = (vec![span.clone()], Some(bytes));
        Self { layout, row, block, level, spans, bytes, base: Vec::new(), rounding: Vec::new() }
    }

    /// Records without a name.
    pub(crate) fn nameless(layout: &RecordLayout, bytes: u64, options: &FrameOptions) -> Self {
        let (row, level, records) = (options.row, options.level, bytes / u64::from(layout.bytes()));
        let row = if row > 0 && records.is_multiple_of(row) { row } else { 0 };
        let block = block_records(layout, row, records, level);
        let (layout, bytes) = (layout.clone(), Some(bytes));
        Self {
            layout,
            row,
            block,
            level,
            spans: Vec::new(),
            bytes,
            base: Vec::new(),
            rounding: Vec::new(),
        }
    }

    /// Has rows of so many records, and whole ones in each block, as far as they are no longer than that.
    pub(crate) fn set_row(&mut self, row: u64) {
        self.row = row;
        if row > 0 && row <= self.block {
            self.block -= self.block % row;
        }
    }

    /// The number of its base, if that is the scales of its numbers, and of how many bytes each is one.
    pub(crate) fn scales(&self) -> Option<(usize, u8)> {
        let from = self.base.first().and_then(|part| part.from)?;
        match from.how {
            How::Scales(each) => Some((from.number, each)),
            _ => None,
        }
    }

    /// What an encoder is told about each of its blocks.
    pub(crate) fn hints(&self) -> Hints {
        self.hints_of(self.level, self.block)
    }

    /// The same about blocks that level default makes.
    pub(crate) fn default_hints(&self) -> Hints {
        self.hints_of(Level::Default, self.default_block())
    }

    fn hints_of(&self, level: Level, block: u64) -> Hints {
        // A row that is split has no whole rows in its blocks.
        let row = if self.row <= block { self.row } else { 0 };
        Hints { level, row: usize::try_from(row).unwrap_or(0) }
    }

    /// Records of a block at level default, of which blocks have several at level max.
    pub(crate) fn default_block(&self) -> u64 {
        match (self.level, self.bytes) {
            (Level::Default, _) => self.block,
            (Level::Max, None) => target(&self.layout, Level::Default),
            (Level::Max, Some(_)) => one_block(&self.layout, self.row, self.records()),
        }
    }

    fn len(&self) -> u64 {
        self.bytes.unwrap_or(0)
    }

    fn records(&self) -> u64 {
        self.len() / u64::from(self.layout.bytes())
    }

    /// Whether it shares its block, or may.
    fn is_small(&self) -> bool {
        let is_long = |span: &Span| {
            span.tensor.as_ref().is_some_and(|tensor| tensor.name.len() > MAX_SHARED_NAME)
        };
        match self.spans.len() {
            0 => false,
            1 if self.spans.iter().any(is_long) => false,
            1 if self.layout.is_opaque() => self.len() < TINY_BYTES,
            1 => self.records() < SMALL_RECORDS,
            _ => true,
        }
    }

    /// Whether `next` may join this segment's one block.
    fn takes(&self, next: &Self) -> bool {
        let limit = if self.layout.is_opaque() { OPAQUE_BLOCK } else { SHARED_RECORDS };
        let fits = self.records() + next.records() <= limit
            && self.spans.len() + next.spans.len() <= MAX_SPANS;
        self.layout == next.layout && self.is_small() && next.is_small() && fits
    }

    fn join(&mut self, next: Self) {
        self.bytes = Some(self.len() + next.len());
        self.spans.extend(next.spans);
        // Packed integers want to know, and are small where others aren't.
        self.row = if self.layout.is_word() && self.row == next.row { self.row } else { 0 };
        self.block = block_records(&self.layout, self.row, self.records(), self.level);
    }

    /// Records of the block that starts `at` records into the segment, if the file goes on.
    pub(crate) fn block_at(&self, at: u64) -> u64 {
        let rest_of_row = match self.row {
            row if row > self.block => row - at % row,
            _ => self.block,
        };
        let rest = self.bytes.map_or(u64::MAX, |_| self.records() - at);
        self.block.min(rest_of_row).min(rest)
    }

    /// Whether its first span has no bytes.
    pub(crate) fn starts_empty(&self) -> bool {
        self.spans.first().is_some_and(|s| s.range.is_empty())
    }

    /// Whether the plan has so many blocks that a context pays; an end that isn't known is far.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long_in(self.block)
    }

    /// The same at level default.
    pub(crate) fn is_long_at_default(&self) -> bool {
        self.is_long_in(self.default_block())
    }

    fn is_long_in(&self, block: u64) -> bool {
        let records = match self.bytes {
            None if !self.layout.is_opaque() => u64::MAX,
            _ => self.records(),
        };
        records > block.min(records).saturating_mul(CONTEXT_BLOCKS - 1)
    }
}

/// Records per block of a tensor: whole rows nearest 128 Ki records, all blocks about equal; a
/// longer row is split evenly. Of words, rather more rows, so that integers packed into them that share a scale are together.
///
/// At level max some of these blocks are one, so that it can take them one by one where that is smaller.
pub(crate) fn block_records(layout: &RecordLayout, row: u64, records: u64, level: Level) -> u64 {
    let one = one_block(layout, row, records);
    let most = match level {
        Level::Default => return one,
        Level::Max => target(layout, Level::Max) / target(layout, Level::Default),
    };
    let together = |all: u64| {
        let ones = all.div_ceil(one);
        let blocks = (ones.saturating_add(most / 2) / most).max(1);
        let fit = MAX_BLOCK_BYTES as u64 / (one * u64::from(layout.bytes()));
        one * ones.div_ceil(blocks).clamp(1, fit.max(1))
    };
    // A row that is split is split into fewer parts.
    if row > one { together(row).min(row) } else { together(records) }
}

/// [`block_records`] at level default.
fn one_block(layout: &RecordLayout, row: u64, records: u64) -> u64 {
    let target = target(layout, Level::Default);
    if layout.is_opaque() {
        return target;
    }
    let parts =
        |whole: u64| whole.saturating_add(target / 2).checked_div(target).unwrap_or(1).max(1);
    if row > target + target / 2 {
        return row.div_ceil(parts(row));
    }
    let rows = records.div_ceil(row.max(1)).div_ceil(parts(records)).max(1);
    if layout.is_word() && row > 0 {
        return whole_groups(rows, row, target) * row;
    }
    rows * row.max(1)
}

/// Packed integers mostly share a scale along 128 rows of integers: as many rows of words, or an eighth. So many rows, or some more.
fn whole_groups(rows: u64, row: u64, target: u64) -> u64 {
    let whole = |group| rows.next_multiple_of(group);
    match (whole(128), whole(16)) {
        (rows, _) if rows * row <= 2 * target => rows,
        (_, rows) if rows * row <= 4 * target => rows,
        _ => rows,
    }
}

/// Records that a block is made for.
fn target(layout: &RecordLayout, level: Level) -> u64 {
    let size = u64::from(layout.bytes());
    if layout.is_opaque() {
        return OPAQUE_BLOCK / size;
    }
    // Records of many bytes: fewer, so that a block stays within a megabyte or so.
    let (records, bytes) = match level {
        Level::Default => (BLOCK_RECORDS, OPAQUE_BLOCK),
        Level::Max => (MAX_BLOCK_RECORDS, 4 * OPAQUE_BLOCK),
    };
    records.min(bytes / size).max(1)
}

/// Records of so many elements per row: the most inner dimensions that together have at most 128 Ki
/// elements, but at least the last one; the first dimension counts the rows.
fn row_of(shape: &[u64], elements: u64) -> u64 {
    let Some((&last, outer)) = shape.get(1..).and_then(<[u64]>::split_last) else {
        return 0;
    };
    outer
        .iter()
        .rev()
        .try_fold(last, |row, &dim| row.checked_mul(dim).filter(|&r| r <= BLOCK_RECORDS).ok_or(row))
        .unwrap_or_else(|row| row)
        / elements
}

/// The segments of a file with these spans; what follows them is for the caller to add.
pub(crate) fn segments(spans: &[Span], level: Level) -> Vec<Segment> {
    let mut same_dtype: Vec<Segment> = Vec::new();
    for span in spans {
        let bytes = span.range.end - span.range.start;
        let segment = match &span.tensor {
            None => match &span.records {
                Some(records) => Segment::tensor(span, records.clone(), &[], level),
                None => Segment::opaque(bytes, level),
            },
            Some(tensor) => {
                Segment::tensor(span, tensor.dtype.record_layout(), &tensor.shape, level)
            }
        };
        join_or_push(&mut same_dtype, segment);
    }
    let mut joined = Vec::new();
    for mut segment in same_dtype {
        let bytes = segment.len();
        if bytes < TINY_BYTES {
            // What lies between tiny tensors, such as the headers of an archive's members, goes with them.
            let gap = || joined.last().and_then(|tiny| gap_behind(tiny, bytes));
            let spans =
                if segment.spans.is_empty() { gap().into_iter().collect() } else { segment.spans };
            segment = Segment { spans, ..Segment::opaque(bytes, level) };
        }
        join_or_push(&mut joined, segment);
    }
    joined
}

/// Opaque bytes as a span of their own, if they follow tiny tensors.
fn gap_behind(tiny: &Segment, bytes: u64) -> Option<Span> {
    let last = tiny.spans.last().filter(|_| tiny.is_small() && tiny.layout.is_opaque())?;
    Some(Span::opaque(last.range.end..last.range.end + bytes))
}

fn join_or_push(segments: &mut Vec<Segment>, next: Segment) {
    match segments.last_mut() {
        Some(last) if last.takes(&next) => last.join(next),
        _ => segments.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::span::TensorInfo;

    fn spans(tensors: &[(Dtype, &[u64])]) -> Vec<Span> {
        let mut at = 0;
        let span = |(dtype, shape): &(Dtype, &[u64])| {
            let start = at;
            at += dtype.bytes_of(shape).unwrap();
            let tensor =
                TensorInfo { name: start.to_string(), dtype: *dtype, shape: shape.to_vec() };
            Span::tensor(start..at, tensor)
        };
        tensors.iter().map(span).collect()
    }

    /// Records of each block of the one segment that `shape` makes.
    fn blocks(dtype: Dtype, shape: &[u64]) -> Vec<u64> {
        let [segment] = &segments(&spans(&[(dtype, shape)]), Level::Default)[..] else {
            panic!("one segment")
        };
        let mut at = 0;
        let next = || {
            let block = segment.block_at(at);
            at += block;
            (block > 0).then_some(block)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn blocks_are_whole_rows_and_about_equal() {
        assert_eq!(
            blocks(Dtype::Bf16, &[1536, 384]),
            [118_272, 118_272, 118_272, 118_272, 116_736]
        );
        assert_eq!(blocks(Dtype::F32, &[200_000]), [100_000, 100_000]);
        assert_eq!(blocks(Dtype::F32, &[132_000]), [132_000]);
        assert_eq!(blocks(Dtype::F8E4M3, &[512, 1024]), [131_072; 4]);
        assert_eq!(blocks(Dtype::C64, &[512, 1024]), [131_072; 4]);
    }

    #[test]
    fn blocks_of_words_have_whole_groups() {
        assert_eq!(blocks(Dtype::I32, &[512, 4096]), [32 * 4096; 16]);
        assert_eq!(blocks(Dtype::I32, &[4096, 1376]), [128 * 1376; 32]);
        assert_eq!(blocks(Dtype::U32, &[48, 30_522]), [16 * 30_522; 3]);
        assert_eq!(blocks(Dtype::I32, &[2, 150_000]), [150_000; 2]);
        assert_eq!(blocks(Dtype::F32, &[50, 30_522]), [5 * 30_522; 10]);
    }

    #[test]
    fn a_long_row_is_split_evenly_and_no_block_crosses_a_row() {
        assert_eq!(
            blocks(Dtype::Bf16, &[2, 400_000]),
            [133_334, 133_334, 133_332, 133_334, 133_334, 133_332]
        );
        assert_eq!(blocks(Dtype::Bf16, &[3, 180_000]), [180_000; 3]);
    }

    #[test]
    fn rows_are_inner_dimensions_of_a_block_at_most() {
        assert_eq!(row_of(&[], 1), 0);
        assert_eq!(row_of(&[7], 1), 0);
        assert_eq!(row_of(&[64, 128, 3, 3], 1), 128 * 9);
        assert_eq!(row_of(&[8, 4096, 1024], 1), 1024);
        assert_eq!(row_of(&[4, 100_000], 1), 100_000);
        assert_eq!(row_of(&[4, u64::MAX, 2], 1), 2);
    }

    #[test]
    fn small_neighbours_share_a_block_and_tiny_ones_an_opaque_segment() {
        let sizes = |tensors: &[(Dtype, &[u64])]| -> Vec<(usize, bool)> {
            segments(&spans(tensors), Level::Default)
                .iter()
                .map(|s| (s.spans.len(), s.layout.is_opaque()))
                .collect()
        };
        let (large, small, tiny): (&[u64], &[u64], &[u64]) = (&[40_000], &[30_000], &[3]);
        use Dtype::{Bf16, F32, I64};
        assert_eq!(sizes(&[(Bf16, small); 3]), [(2, false), (1, false)]);
        assert_eq!(sizes(&[(Bf16, small), (F32, small)]), [(1, false), (1, false)]);
        assert_eq!(sizes(&[(Bf16, small), (Bf16, large), (Bf16, small)]), [(1, false); 3]);
        let row = |tensors: &[(Dtype, &[u64])]| segments(&spans(tensors), Level::Default)[0].row;
        assert_eq!(row(&[(Bf16, &[48, 384]), (Bf16, &[48, 384])]), 0);
        assert_eq!(row(&[(Dtype::I32, &[48, 384]), (Dtype::I32, &[64, 384])]), 384);
        assert_eq!(row(&[(Dtype::I32, &[48, 384]), (Dtype::I32, &[48, 385])]), 0);
        assert_eq!(
            sizes(&[(Bf16, tiny), (F32, tiny), (I64, tiny), (F32, large)]),
            [(3, true), (1, false)]
        );
    }

    #[test]
    fn gaps_between_tiny_tensors_go_with_them() {
        let gap = Span::opaque;
        let mut all = vec![gap(0..100)];
        for _ in 0..3 {
            let at = all.last().unwrap().range.end;
            let mut tensor = spans(&[(Dtype::F32, &[25])]).remove(0);
            tensor.range = at..at + 100;
            all.extend([tensor, gap(at + 100..at + 164)]);
        }
        let end = all.last().unwrap().range.end;
        all.push(gap(end..end + TINY_BYTES));
        let found: Vec<_> =
            segments(&all, Level::Default).iter().map(|s| (s.spans.len(), s.len())).collect();
        assert_eq!(found, [(0, 100), (6, 3 * 164), (0, TINY_BYTES)]);
    }

    #[test]
    fn a_context_is_for_four_blocks_or_more() {
        let long =
            |rows| segments(&spans(&[(Dtype::F32, &[rows, 131_072])]), Level::Default)[0].is_long();
        assert_eq!([1, 2, 3, 4, 5].map(long), [false, false, false, true, true]);
        assert!(!Segment::rest(RecordLayout::opaque(), Level::Max).is_long());
        assert!(Segment::rest(Dtype::Bf16.record_layout(), Level::Max).is_long());
    }
}
