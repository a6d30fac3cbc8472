//! Codings `sparse` and `zeros` (spec: "Sparse", "Zeros"): records that differ from those of a base, or from zero;
//! where they are, and a block of them alone. What a step of training with a low rate leaves behind, and pruned weights.

use super::nested::Part;
use super::{Hints, PREAMBLE, base, records_of, take, to_u32};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::RecordLayout;
use weightzip_kernels::strip::ALIGN;

/// At most one in so many differs from a base, or other codings are as small.
const RARE: usize = 16;

/// Of so many floats one is zero, or other codings are as small; so many times as many other records.
const FREQUENT: usize = 4;

/// Records of a sample, in so many groups.
const SAMPLE: usize = 512;
const GROUPS: usize = 16;

/// A gap of as many records and more: the byte says so much of it.
const GOES_ON: u8 = u8::MAX;

/// Whether few enough records differ from a base.
pub(super) fn suits(layout: &RecordLayout, base: &[u8], data: &[u8]) -> bool {
    let changed = match layout.bytes() {
        1 => changed::<1>(base, data),
        2 => changed::<2>(base, data),
        4 => changed::<4>(base, data),
        8 => changed::<8>(base, data),
        _ => return false,
    };
    base != data && changed <= data.len() / usize::from(layout.bytes()) / RARE
}

fn changed<const N: usize>(base: &[u8], data: &[u8]) -> usize {
    let pairs = base.as_chunks::<N>().0.iter().zip(data.as_chunks::<N>().0);
    pairs.filter(|(base, data)| base != data).count()
}

/// Whether so many of a sample of records are zero that the others may be worth a block of their own.
pub(super) fn has_zeros(layout: &RecordLayout, data: &[u8]) -> bool {
    let zeros = match layout.bytes() {
        _ if layout.is_opaque() => return false,
        1 => zeros::<1>(data),
        2 => zeros::<2>(data),
        4 => zeros::<4>(data),
        8 => zeros::<8>(data),
        _ => return false,
    };
    // Other records than floats go through coders that make little of zeros themselves.
    match layout.floats() {
        Some(_) => zeros >= SAMPLE / FREQUENT,
        None => SAMPLE - zeros.min(SAMPLE) <= SAMPLE / FREQUENT,
    }
}

/// How many records of a sample are zero; none of a block that has fewer than a sample.
fn zeros<const N: usize>(data: &[u8]) -> usize {
    let records = data.as_chunks::<N>().0;
    let Some(last) = records.len().checked_sub(SAMPLE / GROUPS).filter(|last| *last >= SAMPLE)
    else {
        return 0;
    };
    let groups = (0..GROUPS).map(|i| &records[last * i / (GROUPS - 1)..][..SAMPLE / GROUPS]);
    groups.map(|group| group.iter().filter(|r| **r == [0; N]).count()).sum()
}

/// The records that count, and how many that don't are before each.
#[derive(Default)]
struct Differing {
    gaps: Vec<u8>,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Differing {
    /// Without a base, from zero.
    fn of(size: usize, base: Option<&[u8]>, data: &[u8]) -> Self {
        match size {
            1 => Self::of_sized::<1>(base, data),
            2 => Self::of_sized::<2>(base, data),
            4 => Self::of_sized::<4>(base, data),
            _ => Self::of_sized::<8>(base, data),
        }
    }

    fn of_sized<const N: usize>(base: Option<&[u8]>, data: &[u8]) -> Self {
        let mut found = Self::default();
        let mut gap = 0usize;
        let base = base.map(|base| base.as_chunks::<N>().0);
        for (i, data) in data.as_chunks::<N>().0.iter().enumerate() {
            let old = base.map_or(&[0; N], |base| &base[i]);
            if old == data {
                gap += 1;
                continue;
            }
            while gap >= GOES_ON.into() {
                found.gaps.push(GOES_ON);
                gap -= usize::from(GOES_ON);
            }
            found.gaps.push(gap.to_le_bytes()[0]);
            found.old.extend(if base.is_some() { old.as_slice() } else { &[] });
            found.new.extend(data);
            gap = 0;
        }
        found
    }
}

/// Appends the coded records, of which some differ from the base's, or without one from zero, to a payload that has its
/// preamble. They have 1, 2, 4 or 8 bytes.
pub(super) fn encode(
    layout: &RecordLayout,
    level: Level,
    base: Option<&[u8]>,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<()> {
    let size = usize::from(layout.bytes());
    let Differing { gaps, old, new } = Differing::of(size, base, data);
    let hints = Hints { level, row: 0 };
    let (mut places, mut values) = (Vec::new(), Vec::new());
    let of_gaps = Dtype::U8.record_layout();
    let (of_places, at) = Part::Plain.encode(&of_gaps, None, hints, &gaps, &mut places)?;
    let places = &places[at..];
    let old = base.and(Some(old.as_slice())).filter(|old| old.len() > base::TOO_SHORT);
    let (of_values, at) = values_of(base).encode(layout, old, hints, &new, &mut values)?;
    payload[4] = of_places.wire_id();
    payload[5] = of_values.wire_id();
    payload[8..12].copy_from_slice(&to_u32(places.len())?.to_le_bytes());
    if let Some(base) = base {
        base::put_hash(base, payload);
    }
    payload.extend(places);
    payload.resize(payload.len() + padding(places.len()), 0);
    payload.extend(&values[at..]);
    Ok(())
}

/// `body` is what follows the base's hash, if there is a base.
pub(super) fn decode(
    layout: &RecordLayout,
    base: Option<&[u8]>,
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let [_, _, _, _, of_places, of_values, 0, 0, l0, l1, l2, l3, 0, 0, 0, 0] = *preamble else {
        return Err(bad("has unknown bits in its preamble"));
    };
    let places = take(&mut body, u32::from_le_bytes([l0, l1, l2, l3]) as usize)?;
    if take(&mut body, padding(places.len()))?.iter().any(|&b| b != 0) {
        return Err(bad("has unknown bits behind its places"));
    }
    let size = usize::from(layout.bytes());
    let (all, count, changed) = (out.len() / size, records_of(places)?, records_of(body)?);
    // A byte is a record that differs, or stands for 255 that don't.
    if count == 0 || changed == 0 || count.max(changed) as usize > all {
        return Err(bad("has more than its records"));
    }
    let mut gaps = vec![0; count as usize];
    Part::Plain.decode(of_places, &Dtype::U8.record_layout(), None, places, &mut gaps)?;
    let found = places_of(&gaps, changed as usize, all)?;

    let old: Option<Vec<u8>> = base.map(|base| {
        found.iter().flat_map(|&at| &base[at as usize * size..][..size]).copied().collect()
    });
    let mut new = vec![0; found.len() * size];
    values_of(base).decode(of_values, layout, old.as_deref(), body, &mut new)?;
    match base {
        Some(base) => out.copy_from_slice(base),
        None => out.fill(0),
    }
    match size {
        1 => put::<1>(&found, &new, out),
        2 => put::<2>(&found, &new, out),
        4 => put::<4>(&found, &new, out),
        8 => put::<8>(&found, &new, out),
        _ => return Err(bad("has records of another size than 1, 2, 4 or 8 bytes")),
    }
    Ok(())
}

/// The places of `changed` records of a block of `all`.
fn places_of(gaps: &[u8], changed: usize, all: usize) -> Result<Vec<u32>> {
    let (mut at, mut found) = (0u32, Vec::with_capacity(changed));
    for &gap in gaps {
        at += u32::from(gap);
        if gap < GOES_ON {
            found.push(at);
            at += 1;
        }
    }
    let ends = found.last().is_some_and(|last| (*last as usize) < all && last + 1 == at);
    match found.len() == changed && ends {
        true => Ok(found),
        false => Err(bad("has other places than it states")),
    }
}

fn put<const N: usize>(found: &[u32], new: &[u8], out: &mut [u8]) {
    let out = out.as_chunks_mut::<N>().0;
    for (&at, new) in found.iter().zip(new.as_chunks::<N>().0) {
        out[at as usize] = *new;
    }
}

/// What the values are to a block that has a base, or none.
fn values_of(base: Option<&[u8]>) -> Part {
    if base.is_some() { Part::Changed } else { Part::NonZero }
}

/// Bytes up to the next multiple of 16.
fn padding(len: usize) -> usize {
    len.next_multiple_of(ALIGN) - len
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a sparse block {why}"))
}
