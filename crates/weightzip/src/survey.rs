//! What a model's bytes look like: estimates for plain files, and the compressibility groups of
//! arXiv 2404.15198.
//!
//! Everything works on a deterministic sample, is bounded, and never goes on the wire.

mod file;

pub use file::{FileEstimate, estimate_file};

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::plan;
use crate::record::{RecordLayout, Role};
use crate::source::Source;
use crate::span::Span;
use crate::{Archive, Coding, Hints, Level, encode_block};
use std::io;
use std::ops::Range;

/// Bytes that a survey reads at most, but for one block of each tensor's.
const SAMPLE_BYTES: u64 = 64 << 20;
/// Blocks of each span, evenly spaced, as long as the sample allows; then half as many, and so on.
const SAMPLE_BLOCKS: u64 = 64;
/// What a block takes besides its payload: its header and its entry in the block table. Spans of
/// less than a block share one with their neighbours.
const BLOCK_OVERHEAD: u64 = 32;
/// The level that the paper measured with.
const ZSTD_LEVEL: i32 = 3;

/// What a span is likely to take in a .wz.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes in the .wz.
    pub bytes: u64,
    /// The codings that its sampled blocks would get.
    pub codings: Vec<Coding>,
}

/// Estimates what each of `spans` takes in a .wz, from a sample of its blocks.
///
/// # Errors
/// [`Kind::Io`](crate::Kind::Io) and its like if the source can't be read.
pub fn estimate<S: Source + ?Sized>(source: &S, spans: &[Span]) -> Result<Vec<Estimate>> {
    let sample = Sample::plan(spans);
    let (mut buffer, mut payload) = (Vec::new(), Vec::new());
    let mut sums = Vec::with_capacity(spans.len());
    for (index, span) in spans.iter().enumerate() {
        let layout = layout_of(span);
        let mut sum = Sum::default();
        for range in sample.blocks(index, span) {
            read(source, &range, &mut buffer)?;
            let block = encode_block(&layout, None, Hints::default(), &buffer, &mut payload)?;
            let bytes = range.end - range.start;
            sum.sampled += bytes;
            sum.coded += block.payload.len() as u64;
            if bytes == block_bytes(span) {
                sum.coded += BLOCK_OVERHEAD;
            }
            if !sum.codings.contains(&block.coding) {
                sum.codings.push(block.coding);
            }
        }
        sum.codings.sort_unstable();
        sums.push(sum);
    }
    // Spans that the sample left out go by the average.
    let (sampled, coded) = sums.iter().fold((0, 0), |(s, c), sum| (s + sum.sampled, c + sum.coded));
    let estimate = |(sum, span): (Sum, &Span)| {
        let (coded, sampled) =
            if sum.sampled > 0 { (sum.coded, sum.sampled) } else { (coded, sampled) };
        Estimate { bytes: scale(length(span), coded, sampled), codings: sum.codings }
    };
    Ok(sums.into_iter().zip(spans).map(estimate).collect())
}

/// The compressibility groups of arXiv 2404.15198.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compressibility {
    /// Only the byte with the exponent compresses.
    ExponentOnly,
    /// The lower mantissa bytes compress too: the values were rounded to fewer bits once.
    Clean,
    /// BF16: the byte with the exponent compresses, the other does not.
    Bf16,
}

impl Compressibility {
    /// FP32 is clean below this mean of its two lower mantissa bytes. In the paper's Table II the least
    /// clean base model has 28 % (49.0 and 8.0) and a fine-tune after one epoch 90 %.
    const CLEAN_F32: f64 = 0.6;
    /// FP16 is clean below this: the paper has 64 % for clean models and 98.7 % for others.
    const CLEAN_F16: f64 = 0.81;
    /// Above this the exponent's byte does not compress, so that no group fits; the paper has 70 % at most.
    const EXPONENT: f64 = 0.95;

    /// The name as the paper has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExponentOnly => "exponent-only",
            Self::Clean => "clean",
            Self::Bf16 => "BF16",
        }
    }

    /// The group of a dtype whose byte groups shrink to `groups`, top byte first.
    fn of(dtype: Dtype, groups: &[f64]) -> Option<Self> {
        let (top, low) = (groups.first()?, groups.get(2..).unwrap_or(&[]));
        if *top > Self::EXPONENT {
            return None;
        }
        let clean = match dtype {
            Dtype::Bf16 => return Some(Self::Bf16),
            Dtype::F16 => *groups.get(1)? < Self::CLEAN_F16,
            Dtype::F32 | Dtype::F64 => low.iter().sum::<f64>() < Self::CLEAN_F32 * low.len() as f64,
            _ => return None,
        };
        Some(if clean { Self::Clean } else { Self::ExponentOnly })
    }
}

/// One row of the paper's Table II: a dtype's tensors by byte group, each through Zstd.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ByteGroups {
    /// The dtype.
    pub dtype: Dtype,
    /// How many tensors have it.
    pub tensors: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What remains of each byte group, top byte first; 1 is everything.
    pub groups: Vec<f64>,
    /// What remains of all of them.
    pub remains: f64,
    /// Which group that makes it, if it is a dtype that the paper knows.
    pub group: Option<Compressibility>,
}

/// Sizes by byte group for every dtype of whole bytes among `spans`, the one with the most bytes first.
///
/// # Errors
/// [`Kind::Io`](crate::Kind::Io) and its like if the source can't be read.
pub fn byte_groups<S: Source + ?Sized>(source: &S, spans: &[Span]) -> Result<Vec<ByteGroups>> {
    let sample = Sample::plan(spans);
    let mut rows = Vec::new();
    for &dtype in Dtype::ALL {
        let of_dtype = |s: &Span| s.tensor.as_ref().is_some_and(|t| t.dtype == dtype);
        let bytes: u64 = spans.iter().filter(|s| of_dtype(s)).map(length).sum();
        if bytes == 0 || dtype.block().0 > 1 {
            continue;
        }
        let mut data = Vec::new();
        let mut buffer = Vec::new();
        for (index, span) in spans.iter().enumerate().filter(|(_, s)| of_dtype(s)) {
            for range in sample.blocks(index, span) {
                read(source, &range, &mut buffer)?;
                data.extend_from_slice(&buffer);
            }
        }
        let groups = group_sizes(&data, number_bytes(dtype)?)?;
        rows.push(ByteGroups {
            dtype,
            tensors: spans.iter().filter(|s| of_dtype(s)).count() as u64,
            bytes,
            remains: groups.iter().sum::<f64>() / groups.len() as f64,
            group: Compressibility::of(dtype, &groups),
            groups,
        });
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    Ok(rows)
}

/// An archive can be surveyed like the file that it holds.
impl<S: Source> Source for Archive<S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.info().original_bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, buf).map_err(io::Error::other)
    }
}

/// Which blocks are looked at.
struct Sample {
    blocks: u64,
    /// Every how many spans.
    stride: usize,
}

impl Sample {
    /// As many blocks of every span as fit the sample; if one of each is too much, only some spans.
    fn plan(spans: &[Span]) -> Self {
        let total = |blocks: u64| -> u64 {
            spans
                .iter()
                .map(|s| length(s).min(block_bytes(s).saturating_mul(blocks)))
                .fold(0, u64::saturating_add)
        };
        let mut blocks = SAMPLE_BLOCKS;
        while blocks > 1 && total(blocks) > SAMPLE_BYTES {
            blocks /= 2;
        }
        let stride = usize::try_from(total(blocks).div_ceil(SAMPLE_BYTES)).unwrap_or(usize::MAX);
        Self { blocks, stride: stride.max(1) }
    }

    /// Ranges of the sampled blocks of a span.
    fn blocks(&self, index: usize, span: &Span) -> Vec<Range<u64>> {
        let (bytes, step) = (length(span), block_bytes(span));
        if bytes == 0 || !index.is_multiple_of(self.stride) {
            return Vec::new();
        }
        let count = bytes.div_ceil(step);
        let wanted = count.min(self.blocks);
        let range = |i: u64| {
            // The middle of each part: the first rows of an embedding are often unlike the rest.
            let start = span.range.start + ((2 * i + 1) * count / (2 * wanted)) * step;
            start..span.range.end.min(start + step)
        };
        (0..wanted).map(range).collect()
    }
}

#[derive(Default)]
struct Sum {
    sampled: u64,
    coded: u64,
    codings: Vec<Coding>,
}

fn layout_of(span: &Span) -> RecordLayout {
    span.tensor.as_ref().map_or_else(RecordLayout::opaque, |t| t.dtype.record_layout())
}

fn block_bytes(span: &Span) -> u64 {
    let segments = plan::segments(std::slice::from_ref(span), Level::Default);
    segments.first().map_or(1, |s| s.block * u64::from(s.layout.bytes())).max(1)
}

fn length(span: &Span) -> u64 {
    span.range.end - span.range.start
}

/// `bytes * coded / sampled`, rounded up.
fn scale(bytes: u64, coded: u64, sampled: u64) -> u64 {
    if sampled == 0 {
        return bytes;
    }
    let scaled = (u128::from(bytes) * u128::from(coded)).div_ceil(u128::from(sampled));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Bytes of one number: half an element of a complex dtype.
fn number_bytes(dtype: Dtype) -> Result<usize> {
    let layout = dtype.record_layout();
    let bytes = match layout.fields() {
        [field] if matches!(field.role, Role::Float { .. }) => u64::from(field.width / 8),
        _ => dtype.block().1,
    };
    usize::try_from(bytes)
        .map_err(|_| Error::new(crate::Kind::InvalidArgument, "element too large"))
}

/// What Zstd leaves of each byte position, the top byte of little-endian numbers first.
fn group_sizes(data: &[u8], width: usize) -> Result<Vec<f64>> {
    let mut sizes = Vec::with_capacity(width);
    for position in (0..width).rev() {
        let group: Vec<u8> = data.iter().skip(position).step_by(width).copied().collect();
        let coded = zstd::bulk::compress(&group, ZSTD_LEVEL)
            .map_err(|e| Error::io("compressing a sample", e))?;
        // The paper stores a group that does not shrink as it is.
        sizes.push((coded.len() as f64 / group.len().max(1) as f64).min(1.0));
    }
    Ok(sizes)
}

fn read<S: Source + ?Sized>(source: &S, range: &Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
    let bytes = usize::try_from(range.end - range.start)
        .map_err(|_| Error::new(crate::Kind::InvalidArgument, "block too large"))?;
    buffer.resize(bytes, 0);
    source.read_at(range.start, buffer).map_err(|e| match e.downcast::<Error>() {
        Ok(error) => error,
        Err(e) => Error::io("reading a sample", e).at(range.start),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorInfo;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..len).map(next).collect()
    }

    /// Numbers of `width` bytes: noise, with `top` of 8 values in the top byte and the lowest `zeros` bytes zero.
    fn numbers(width: usize, zeros: usize) -> Vec<u8> {
        let mut data = noise(width * 65536);
        for number in data.chunks_exact_mut(width) {
            number[width - 1] &= 7;
            number[..zeros].fill(0);
        }
        data
    }

    fn tensor(dtype: Dtype, bytes: usize) -> Vec<Span> {
        let (elements, size) = dtype.block();
        let count = bytes as u64 / size * elements;
        let info = TensorInfo { name: "t".into(), dtype, shape: vec![count] };
        vec![Span::tensor(0..bytes as u64, info)]
    }

    fn group(dtype: Dtype, data: &[u8]) -> ByteGroups {
        byte_groups(data, &tensor(dtype, data.len())).unwrap().remove(0)
    }

    #[test]
    fn groups_are_told_by_their_bytes() {
        let exponent_only = group(Dtype::F32, &numbers(4, 0));
        assert_eq!(exponent_only.group, Some(Compressibility::ExponentOnly));
        assert!(
            exponent_only.groups[0] < 0.45 && exponent_only.groups[1..].iter().all(|g| *g > 0.99)
        );
        assert!((exponent_only.remains - 0.84).abs() < 0.03, "{}", exponent_only.remains);
        assert_eq!(group(Dtype::F32, &numbers(4, 2)).group, Some(Compressibility::Clean));
        assert_eq!(group(Dtype::F16, &numbers(2, 0)).group, Some(Compressibility::ExponentOnly));
        assert_eq!(group(Dtype::F16, &numbers(2, 1)).group, Some(Compressibility::Clean));
        assert_eq!(group(Dtype::Bf16, &numbers(2, 0)).group, Some(Compressibility::Bf16));
        assert_eq!(group(Dtype::U8, &numbers(1, 0)).group, None);
        assert_eq!(group(Dtype::F32, &noise(4096)).group, None);
    }

    #[test]
    fn table_two_of_the_paper_gets_its_groups() {
        let of = |dtype, percents: &[f64]| {
            Compressibility::of(dtype, &percents.iter().map(|p| p / 100.0).collect::<Vec<_>>())
        };
        for exponent_only in
            [[42.9, 99.0, 99.0, 98.6], [38.9, 90.8, 90.8, 90.8], [42.9, 99.9, 93.5, 86.4]]
        {
            assert_eq!(of(Dtype::F32, &exponent_only), Some(Compressibility::ExponentOnly));
        }
        for clean in
            [[42.9, 99.9, 44.7, 0.005], [42.1, 99.0, 49.0, 8.0], [42.6, 99.9, 0.005, 0.005]]
        {
            assert_eq!(of(Dtype::F32, &clean), Some(Compressibility::Clean));
        }
        assert_eq!(of(Dtype::F16, &[68.7, 98.7]), Some(Compressibility::ExponentOnly));
        assert_eq!(of(Dtype::F16, &[69.0, 64.0]), Some(Compressibility::Clean));
        assert_eq!(of(Dtype::Bf16, &[42.0, 100.0]), Some(Compressibility::Bf16));
    }

    #[test]
    fn samples_are_bounded_and_inside_their_spans() {
        let tensor = |range: Range<u64>| {
            let info = TensorInfo {
                name: "t".into(),
                dtype: Dtype::F32,
                shape: vec![(range.end - range.start) / 4096, 1024],
            };
            Span::tensor(range, info)
        };
        let spans: Vec<_> = (0..10_000u64).map(|i| tensor(i << 30..(i + 1) << 30)).collect();
        let sample = Sample::plan(&spans);
        let mut total = 0;
        for (i, span) in spans.iter().enumerate() {
            for range in sample.blocks(i, span) {
                assert!(
                    range.start >= span.range.start
                        && range.end <= span.range.end
                        && !range.is_empty()
                );
                total += range.end - range.start;
            }
        }
        assert!(total > 0 && total <= SAMPLE_BYTES, "{total}");
        let few = Sample::plan(&spans[..2]).blocks(1, &spans[1]);
        assert_eq!(few.len(), 64);
        assert!(few.windows(2).all(|w| w[0].end <= w[1].start));
        let all = Sample::plan(&spans[..1]).blocks(0, &tensor(0..4096));
        assert_eq!(all, vec![0..4096]);
    }

    #[test]
    fn estimates_come_near_and_empty_spans_cost_nothing() {
        let data = numbers(2, 0);
        let mut spans = tensor(Dtype::Bf16, data.len());
        let end = data.len() as u64;
        spans.push(Span::opaque(end..end));
        let estimates = estimate(data.as_slice(), &spans).unwrap();
        let ratio = estimates[0].bytes as f64 / data.len() as f64;
        assert!((0.6..0.8).contains(&ratio), "{ratio}");
        assert_eq!(estimates[1].bytes, 0);
    }
}
