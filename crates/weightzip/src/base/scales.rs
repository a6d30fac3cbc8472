//! Scales that are tensors beside those of the numbers that they multiply, as MX and NVFP4 weights have them: these numbers are
//! coded next to them.

use super::found::{Found, with_room};
use super::repeats::lone_tensor;
use super::work::BaseBytes;
use crate::codec::RUNS;
use crate::container::bases::Bases;
use crate::container::directory::Hash;
use crate::container::segment::{BasePart, How, PartBase, Segment};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::plan;
use crate::source::Source;
use crate::span::TensorInfo;
use std::collections::{HashMap, HashSet};
use std::io;
use std::iter::repeat_n;
use std::ops::Range;

/// How the names of packed numbers end, and of scales.
const NUMBERS: [&str; 7] = ["_packed", "_blocks", ".blocks", "_qdata", ".qdata", "_data", ""];
const SCALES: [&str; 4] = ["_scale", "_scales", ".scale", ".scales"];

/// Dtypes of small numbers, and of scales of a byte.
const OF_NUMBERS: [Dtype; 5] = [Dtype::U8, Dtype::F4, Dtype::F8E4M3, Dtype::F8E5M2, Dtype::I8];
const OF_SCALES: [Dtype; 3] = [Dtype::U8, Dtype::F8E8M0, Dtype::F8E4M3];

/// Bytes of numbers, and of scales, that are looked at: less would save little.
const LEAST: u64 = 32 << 10;
const LEAST_SCALES: u64 = 512;

/// Most bytes of scales that are: an encoder has them in memory.
const MOST: u64 = 64 << 20;

/// A segment of small numbers, that of their scales, and of how many bytes each is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paired {
    pub(crate) numbers: usize,
    pub(crate) scales: usize,
    pub(crate) each: u8,
    /// Bytes of a row.
    row: u64,
}

/// Pairs segments of one tensor by name and shape.
pub(crate) fn paired(segments: &[plan::Segment]) -> Vec<Paired> {
    let all = |dtypes: &'static [Dtype], least| {
        segments.iter().enumerate().filter_map(move |(number, segment)| {
            lone_tensor(segment, least)?;
            let tensor = segment.spans.first()?.tensor.as_ref();
            Some((number, tensor.filter(|tensor| dtypes.contains(&tensor.dtype))?))
        })
    };
    let of_scales = all(&OF_SCALES, LEAST_SCALES);
    let by_name: HashMap<&str, (usize, &TensorInfo)> =
        of_scales.map(|found| (found.1.name.as_str(), found)).collect();
    let pair = |(numbers, tensor): (usize, &TensorInfo)| {
        let stems = NUMBERS.iter().filter_map(|end| tensor.name.strip_suffix(end));
        let mut names = stems.flat_map(|stem| SCALES.map(|end| format!("{stem}{end}")));
        names.find_map(|name| {
            let (scales, of_scales) = *by_name.get(name.as_str())?;
            let (each, row) = fit(tensor, of_scales)?;
            Some(Paired { numbers, scales, each, row })
        })
    };
    all(&OF_NUMBERS, LEAST).filter_map(pair).collect()
}

/// For how many bytes there is a scale, and how many a row has.
fn fit(numbers: &TensorInfo, scales: &TensorInfo) -> Option<(u8, u64)> {
    let bytes = numbers.dtype.bytes_of(&numbers.shape)?;
    let count = scales.dtype.bytes_of(&scales.shape).filter(|count| *count > 0)?;
    let each = bytes / count;
    let known = bytes.is_multiple_of(count) && RUNS.iter().any(|run| *run as u64 == each);
    let (in_row, rows) = scales.shape.split_last()?;
    let same_rows = numbers.shape.starts_with(rows);
    (known && same_rows).then_some((u8::try_from(each).ok()?, in_row * each))
}

/// Gives each segment of small numbers whose scales are a tensor of the file these as its base. Adds which ranges these
/// are. Reads nothing.
pub(crate) fn scales<S: Source + ?Sized>(
    source: &S,
    pairs: &[Paired],
    segments: &mut [plan::Segment],
    bases: &mut Bases,
    found: &mut Found,
) -> Result<()> {
    let size = source.size().map_err(cant_read)?;
    let (mut ranges, mut numbers) = (Vec::new(), HashMap::new());
    // What others repeat has no base.
    let repeated: HashSet<u64> = bases.repeated.iter().map(|range| range.start).collect();
    let is_repeated = |segment: &plan::Segment| {
        segment.spans.first().is_some_and(|span| repeated.contains(&span.range.start))
    };
    for &Paired { numbers: of_numbers, scales, each, row } in pairs {
        if is_repeated(&segments[of_numbers]) {
            continue;
        }
        let fits = |range: &Range<u64>| range.end <= size && range.end - range.start <= MOST;
        let Some(range) = lone_tensor(&segments[scales], LEAST_SCALES).filter(fits) else {
            continue;
        };
        let number = *numbers.entry(scales).or_insert_with(|| {
            ranges.push(range.clone());
            bases.repeated.push(range);
            bases.len() - 1
        });
        let segment = &mut segments[of_numbers];
        let from = PartBase { number, offset: 0, how: How::Scales(each) };
        let bytes = segment.bytes.unwrap_or(0);
        segment.base = vec![BasePart { bytes, from: Some(from) }];
        segment.set_row(row);
    }
    found.repeat(&ranges);
    Ok(())
}

/// The scales of a segment's numbers, as an encoder reads them: once, for all its blocks have to see the same.
pub(crate) struct Scales {
    bytes: Vec<u8>,
    each: usize,
    /// Where they are in the original, and their BLAKE3.
    pub(crate) at: u64,
    pub(crate) blake3: Hash,
}

impl Scales {
    /// Reads those of a segment, if its base is scales.
    pub(crate) fn read(
        found: &Found,
        original: Option<&dyn BaseBytes>,
        segment: &Segment,
    ) -> Result<Option<Self>> {
        let part = segment.base.first().and_then(|part| Some((part.bytes, part.from?)));
        let Some((numbers, from @ PartBase { how: How::Scales(each), .. })) = part else {
            return Ok(None);
        };
        let (source, at) = found.place(original, &from)?;
        let mut bytes = vec![0; usize::try_from(numbers / u64::from(each)).unwrap_or(0)];
        source.read_at(at, &mut bytes).map_err(cant_read)?;
        let blake3 = *blake3::hash(&bytes).as_bytes();
        Ok(Some(Self { bytes, each: each.into(), at, blake3 }))
    }

    /// Works with the scale of each of `len` bytes from `start` of the segment on.
    pub(crate) fn with<T>(&self, start: u64, len: usize, work: impl FnOnce(&[u8]) -> T) -> T {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let scales = self.bytes.get(start / self.each..).unwrap_or(&[]);
        with_room(len, |room| {
            spread(scales, self.each, start % self.each, room);
            work(room)
        })
    }
}

/// Fills `out` with scales, each `each` times, but for the first `skip` of all.
pub(crate) fn spread(scales: &[u8], each: usize, skip: usize, out: &mut [u8]) {
    let all = scales.iter().flat_map(|scale| repeat_n(*scale, each));
    out.iter_mut().zip(all.skip(skip)).for_each(|(out, scale)| *out = scale);
}

fn cant_read(error: io::Error) -> Error {
    Error::io("can't read the input", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Level;
    use crate::span::Span;

    fn pairs(tensors: &[(&str, Dtype, &[u64])]) -> Vec<(usize, usize, u8, u64)> {
        let mut at = 0;
        let span = |(name, dtype, shape): &(&str, Dtype, &[u64])| {
            let start = at;
            at += dtype.bytes_of(shape).unwrap();
            let info = TensorInfo { name: (*name).into(), dtype: *dtype, shape: shape.to_vec() };
            Span::tensor(start..at, info)
        };
        let spans: Vec<_> = tensors.iter().map(span).collect();
        let found = paired(&plan::segments(&spans, Level::Max));
        found.into_iter().map(|p| (p.numbers, p.scales, p.each, p.row)).collect()
    }

    #[test]
    fn scales_are_found_by_name_and_shape() {
        use Dtype::{Bf16, F4, F8E4M3, F8E8M0, U8};
        let (wide, groups): (&[u64], &[u64]) = (&[1024, 1024], &[1024, 64]);
        assert_eq!(
            pairs(&[
                ("a.down_proj_blocks", U8, &[2, 512, 64, 16]),
                ("a.down_proj_scales", U8, &[2, 512, 64])
            ]),
            [(0, 1, 16, 1024)]
        );
        assert_eq!(
            pairs(&[("w", U8, &[1024, 512]), ("w_scale", F8E4M3, groups)]),
            [(0, 1, 8, 512)]
        );
        assert_eq!(
            pairs(&[("w_packed", F4, &[1024, 1024]), ("w_scale", F8E4M3, groups)]),
            [(0, 1, 8, 512)]
        );
        assert_eq!(
            pairs(&[("w.scale", F8E8M0, &[1024, 32]), ("w", F8E4M3, wide)]),
            [(1, 0, 32, 1024)]
        );
        // Another shape, other names, small ones, and scales that are no bytes.
        assert_eq!(pairs(&[("w", U8, wide), ("w_scale", U8, &[64, 1024])]), []);
        assert_eq!(pairs(&[("w", U8, wide), ("v_scale", U8, groups)]), []);
        assert_eq!(pairs(&[("w", U8, &[64, 64]), ("w_scale", U8, &[64, 4])]), []);
        assert_eq!(pairs(&[("w", U8, wide), ("w_scale", Bf16, groups)]), []);
        assert_eq!(pairs(&[("w", U8, wide), ("w_scale", U8, &[1024, 48])]), []);
    }
}
