//! Whether floats have a palette, and which.

use super::fit::{Interval, Magnitude};
use super::listed::Lists;
use super::number::{Codes, is_scale, value_of};
use super::{entries_of, takes};
use crate::codec::nested::Part;
use crate::codec::{Coding, Hints, PREAMBLE, to_u32};
use crate::dtype::Dtype;
use crate::error::Result;
use std::ops::Range;
use weightzip_kernels::field::Float;
use weightzip_kernels::strip::ALIGN;

/// Elements that are looked at, in a row, at two places.
const SAMPLE: usize = 128;

/// Values of a sample that has a palette, at most: weights that were always BF16 have more, nearly always.
const FEW: usize = 112;

/// Lengths of runs that have a scale each, besides those of rows.
const RUNS: [usize; 4] = [128, 64, 32, 16];

/// Runs of a length that are tried before all are, and elements of each.
const TRIED: usize = 4;
const OF_EACH: usize = 2048;

/// Whether a sample of floats has so few values that it may be worth to look for a palette.
pub(in crate::codec) fn suits(float: Float, data: &[u8]) -> bool {
    let elements = data.len() / float.bytes;
    takes(float)
        && elements >= 16 * SAMPLE
        && [1, 2].into_iter().any(|third| {
            let sample = &data[elements / 3 * third * float.bytes..][..SAMPLE * float.bytes];
            match float.bytes {
                2 => is_few::<2>(sample),
                _ => is_few::<4>(sample),
            }
        })
}

/// Counts values by places in a small map: two may share one, but few do.
fn is_few<const N: usize>(sample: &[u8]) -> bool {
    let (mut seen, mut zeros) = ([0u64; 64], 0);
    for number in sample.as_chunks::<N>().0 {
        let bits = number.iter().rev().fold(0u32, |bits, &b| bits << 8 | u32::from(b));
        let place = bits.wrapping_mul(0x9E37_79B1) >> 20;
        seen[(place >> 6) as usize] |= 1 << (place & 63);
        zeros += usize::from(bits == 0);
    }
    let values: u32 = seen.iter().map(|bits| bits.count_ones()).sum();
    zeros < SAMPLE / 2 && (values as usize) < FEW
}

/// What a block is as codes.
struct Palette {
    codes_are: Codes,
    run: usize,
    tables: Vec<u32>,
    codes: Vec<u8>,
}

/// Appends the block to a payload that has its preamble, if it has a palette. `row` is that of its elements.
pub(in crate::codec) fn encode(
    float: Float,
    hints: Hints,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<bool> {
    let elements: Vec<u32> = match float.bytes {
        2 => data.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect(),
        _ => data.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
    };
    let listed =
        |Lists { run, tables, codes }| Palette { codes_are: Codes::Listed, run, tables, codes };
    let found =
        scaled(float, hints.row, &elements).or_else(|| Lists::of(hints.row, &elements).map(listed));
    match found {
        Some(palette) => palette.put(float, hints, payload).map(|()| true),
        None => Ok(false),
    }
}

impl Palette {
    fn put(&self, float: Float, hints: Hints, payload: &mut Vec<u8>) -> Result<()> {
        let entries = entries_of(float, self.codes_are);
        let entry = |entry: &u32| entry.to_le_bytes().into_iter().take(entries.bytes());
        let tables: Vec<u8> = self.tables.iter().flat_map(entry).collect();
        let (of_tables, tables) = simple(entries, Hints { row: 0, ..hints }, &tables)?;
        let (of_codes, codes) = simple(self.codes_are.dtype(), hints, &self.codes)?;
        let dtype = self.codes_are.dtype().wire_id();
        payload[4..7].copy_from_slice(&[dtype, of_tables.wire_id(), of_codes.wire_id()]);
        payload[8..12].copy_from_slice(&to_u32(self.run)?.to_le_bytes());
        payload[12..16].copy_from_slice(&to_u32(tables.len())?.to_le_bytes());
        payload.extend(&tables);
        payload.resize(PREAMBLE + tables.len().next_multiple_of(ALIGN), 0);
        payload.extend(codes);
        Ok(())
    }
}

/// A block within the block.
fn simple(dtype: Dtype, hints: Hints, data: &[u8]) -> Result<(Coding, Vec<u8>)> {
    let (layout, mut payload) = (dtype.record_layout(), Vec::new());
    let (coding, start) = Part::Plain.encode(&layout, None, hints, data, &mut payload)?;
    Ok((coding, payload.split_off(start)))
}

/// The palette of elements that are small numbers times a scale for each run.
fn scaled(float: Float, row: usize, elements: &[u32]) -> Option<Palette> {
    let infinity = ((1 << float.exponent_bits) - 1) << float.mantissa_bits();
    if elements.iter().any(|bits| rest_of(float, *bits) >= infinity) {
        return None;
    }
    let row = if row > 0 { row } else { elements.len() };
    let short = RUNS.into_iter().filter(|run| *run < row && row.is_multiple_of(*run));
    std::iter::once(row).chain(short).find_map(|run| {
        let all = elements.len().div_ceil(run);
        let count = all.min(TRIED);
        let tried: Vec<_> = (0..count)
            .filter_map(|i| elements.chunks(run).nth(all * i / count))
            .map(|run| magnitudes(float, &run[..run.len().min(OF_EACH)]))
            .filter(|run| !run.is_empty())
            .collect();
        [Codes::Integers, Codes::Floats2, Codes::Floats3].into_iter().find_map(|codes| {
            let may_be = tried.iter().all(|run| Interval::of(codes, run).is_some());
            may_be.then(|| Scaled { float, codes, run, elements }.palette(row / run))?
        })
    })
}

/// The bits of a float but for its sign.
fn rest_of(float: Float, bits: u32) -> u32 {
    bits & ((1 << (8 * float.bytes - 1)) - 1)
}

/// Those of a run that are not 0, most of them once, in order: the code of a small one is sure before its scale is.
fn magnitudes(float: Float, run: &[u32]) -> Vec<Magnitude> {
    let (mut seen, mut found) = ([0; MEMO], Vec::with_capacity(run.len().min(MEMO)));
    for rest in run.iter().map(|bits| rest_of(float, *bits)) {
        let seen = &mut seen[place_in_memo(rest)];
        if rest > 0 && *seen != rest {
            *seen = rest;
            found.push(rest);
        }
    }
    found.sort_unstable();
    found.into_iter().map(|rest| Magnitude::of(float, rest)).collect()
}

/// Values that are remembered.
const MEMO: usize = 256;

fn place_in_memo(bits: u32) -> usize {
    (bits.wrapping_mul(0x9E37_79B1) >> 24) as usize % MEMO
}

/// Elements, as runs of codes of one kind.
struct Scaled<'a> {
    float: Float,
    codes: Codes,
    run: usize,
    elements: &'a [u32],
}

/// Runs that have one scale.
struct Group {
    scale: Interval,
    largest: f64,
    runs: Vec<usize>,
}

impl Scaled<'_> {
    /// `None` if the elements are not what scales make of codes.
    fn palette(&self, runs_per_row: usize) -> Option<Palette> {
        let mut tables = vec![0; self.elements.len().div_ceil(self.run)];
        let mut codes = vec![0; self.elements.len()];
        for group in self.groups(runs_per_row)? {
            let mut put = |group: &Group| -> Option<()> {
                let scale = self.scale_of(group, &mut codes)?;
                group.runs.iter().for_each(|&i| tables[i] = scale);
                Some(())
            };
            // Runs of close but different scales may have been taken for a group.
            if put(&group).is_none() {
                group.runs.iter().try_for_each(|&i| put(&self.alone(i, &self.magnitudes(i))?))?;
            }
        }
        Some(Palette { codes_are: self.codes, run: self.run, tables, codes })
    }

    fn places(&self, run: usize) -> Range<usize> {
        run * self.run..self.elements.len().min((run + 1) * self.run)
    }

    fn magnitudes(&self, run: usize) -> Vec<Magnitude> {
        magnitudes(self.float, &self.elements[self.places(run)])
    }

    fn alone(&self, run: usize, magnitudes: &[Magnitude]) -> Option<Group> {
        let scale = match magnitudes {
            [] => Interval { low: 1.0, high: 1.0 },
            _ => Interval::of(self.codes, magnitudes)?,
        };
        Some(Group { scale, largest: largest(magnitudes), runs: vec![run] })
    }

    /// A run's scale is that of the run above it, or before it, if this can be.
    fn groups(&self, runs_per_row: usize) -> Option<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        let mut of_runs: Vec<usize> = Vec::new();
        for i in 0..self.elements.len().div_ceil(self.run) {
            let run = self.magnitudes(i);
            let near = [i.checked_sub(runs_per_row), i.checked_sub(1)];
            let known = near.into_iter().flatten().find_map(|near| {
                let scale = groups[of_runs[near]].scale.narrowed(self.codes, &run)?;
                Some((of_runs[near], scale))
            });
            of_runs.push(known.map_or(groups.len(), |(group, _)| group));
            match known {
                Some((group, scale)) => {
                    let group = &mut groups[group];
                    group.scale = scale;
                    group.largest = group.largest.max(largest(&run));
                    group.runs.push(i);
                }
                None => groups.push(self.alone(i, &run)?),
            }
        }
        Some(groups)
    }

    /// The scale with which codes are exactly the elements of a group; these are put into `codes`.
    fn scale_of(&self, group: &Group, codes: &mut [u8]) -> Option<u32> {
        let scales = group.scale.raised(self.codes, group.largest).scales();
        scales.filter(|scale| is_scale(*scale)).find(|&scale| {
            let inverse = 1.0 / f64::from(f32::from_bits(scale));
            let mut known = [(0, None); MEMO];
            group.runs.iter().all(|&run| {
                let places = self.places(run);
                let mut pairs = codes[places.clone()].iter_mut().zip(&self.elements[places]);
                pairs.all(|(code, &element)| {
                    let known = &mut known[place_in_memo(element)];
                    if known.1.is_none() || known.0 != element {
                        *known = (element, self.code_of(element, scale, inverse));
                    }
                    known.1.is_some_and(|known| {
                        *code = known;
                        true
                    })
                })
            })
        })
    }

    /// The code whose product with a scale is an element.
    fn code_of(&self, element: u32, scale: u32, inverse: f64) -> Option<u8> {
        let rest = rest_of(self.float, element);
        let number = match rest {
            0 => 0.0,
            _ => Magnitude::of(self.float, rest).value * inverse,
        };
        let code = self.codes.nearest(number, element != rest);
        let value = value_of(self.float, scale, self.codes.number(code)?);
        (value == element).then_some(code)
    }
}

fn largest(run: &[Magnitude]) -> f64 {
    run.last().map_or(0.0, |magnitude| magnitude.value)
}
