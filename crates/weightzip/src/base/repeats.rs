//! Tensors of one file that are equal: tied weights, copied experts, averages of what is frozen. All but
//! the first are coded against that.

use super::{blake3_of, found::Found};
use crate::container::bases::Bases;
use crate::container::directory::Hash;
use crate::container::segment::{BasePart, How, PartBase};
use crate::error::{Error, Result};
use crate::plan;
use crate::runner::Runner;
use crate::source::Source;
use std::collections::HashMap;
use std::io;
use std::ops::Range;

/// Bytes of tensors that are looked at: of smaller ones little would be saved.
const LEAST: u64 = 32 << 10;

/// Places at which tensors of one length are compared before all of them is read.
const SAMPLES: usize = 8;

/// Bytes of each.
const SAMPLE: usize = 64;

/// Bytes that are read of a tensor for that.
const READ: u64 = (SAMPLES * SAMPLE) as u64;

/// Gives each segment that holds one tensor, and has no base, the earlier one of equal bytes as its base, if
/// there is one. Adds which ranges these are.
///
/// Reads half a kilobyte of each tensor that has the length of another one, and all of those that agree there.
pub(crate) fn repeats<S: Source + ?Sized>(
    source: &S,
    segments: &mut [plan::Segment],
    bases: &mut Bases,
    found: &mut Found,
    runner: &Runner,
) -> Result<()> {
    let cant_read = |e| Error::io("can't read the input", e);
    let (alike, _) = alike(source, segments, u64::MAX).map_err(cant_read)?;
    let mut likely: Vec<usize> = alike.into_iter().flatten().collect();
    likely.sort_unstable();
    let mut hashed: Vec<(usize, Range<u64>, Hash)> = likely
        .into_iter()
        .filter_map(|number| Some((number, lone_tensor(&segments[number], LEAST)?, [0; 32])))
        .collect();
    runner.try_each(&mut hashed, |(_, range, hash)| {
        *hash = blake3_of(source, range.clone()).map_err(cant_read)?;
        Ok(())
    })?;
    let (mut first, mut numbers) = (HashMap::new(), HashMap::new());
    for (segment, range, hash) in hashed {
        let earlier = first.entry(hash).or_insert_with(|| range.clone()).clone();
        if earlier == range {
            continue;
        }
        let number = *numbers.entry(hash).or_insert_with(|| {
            bases.repeated.push(earlier);
            bases.len() - 1
        });
        let from = PartBase { number, offset: 0, how: How::Same };
        let bytes = range.end - range.start;
        segments[segment].base = vec![BasePart { bytes, from: Some(from) }];
    }
    found.repeat(&bases.repeated);
    Ok(())
}

/// Where the tensor of a segment is that has no other, and no base, if it has so many bytes.
pub(super) fn lone_tensor(segment: &plan::Segment, least: u64) -> Option<Range<u64>> {
    let [span] = &segment.spans[..] else { return None };
    let is_large = span.range.end - span.range.start >= least;
    let is_wanted = span.tensor.is_some() && segment.base.is_empty() && is_large;
    is_wanted.then(|| span.range.clone())
}

/// Segments that are likely to be equal: those that agree in a few places, by groups. What is the same at all of
/// these takes next to nothing anyway. Reads at most so many bytes, or else nothing; says how many.
pub(crate) fn alike<S: Source + ?Sized>(
    source: &S,
    segments: &[plan::Segment],
    most: u64,
) -> io::Result<(Vec<Vec<usize>>, u64)> {
    let size = source.size()?;
    let mut by_length: HashMap<_, Vec<(usize, Range<u64>)>> = HashMap::new();
    for (number, segment) in segments.iter().enumerate() {
        if let Some(range) = lone_tensor(segment, LEAST).filter(|range| range.end <= size) {
            by_length.entry(range.end - range.start).or_default().push((number, range));
        }
    }
    by_length.retain(|_, segments| segments.len() > 1);
    let count = by_length.values().map(|segments| segments.len() as u64).sum::<u64>();
    if count * READ > most {
        return Ok((Vec::new(), 0));
    }
    let mut by_sample: HashMap<_, Vec<usize>> = HashMap::new();
    for (number, range) in by_length.into_values().flatten() {
        let mut samples = [[0; SAMPLE]; SAMPLES];
        let between = (range.end - range.start - SAMPLE as u64) / (SAMPLES as u64 - 1);
        for (i, sample) in (0..).zip(&mut samples) {
            // From whole numbers on, so that a constant has equal samples.
            source.read_at(range.start + ((between * i) & !7), sample)?;
        }
        if samples.iter().any(|sample| *sample != samples[0]) {
            by_sample.entry((range.end - range.start, samples)).or_default().push(number);
        }
    }
    Ok((by_sample.into_values().filter(|same| same.len() > 1).collect(), count * READ))
}
