//! Coding `sparse` (spec: "Sparse"): few records differ from a base; where these are, and a block of
//! them alone. What a step of training with a low rate leaves behind.

use super::{Coding, Given, Hints, PREAMBLE, base, decode_unchecked, records_of};
use super::{smallest, take};
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::RecordLayout;
use weightzip_kernels::strip::ALIGN;

/// At most one in so many differs, or other codings are as small.
const RARE: usize = 16;

/// A gap of as many records and more: the byte says so much of it.
const GOES_ON: u8 = u8::MAX;

/// Whether few enough records differ.
pub(super) fn suits(layout: &RecordLayout, base: &[u8], data: &[u8]) -> bool {
    let changed = match layout.bytes() {
        1 => changed::<1>(base, data),
        2 => changed::<2>(base, data),
        4 => changed::<4>(base, data),
        _ => return false,
    };
    base != data && changed <= data.len() / usize::from(layout.bytes()) / RARE
}

fn changed<const N: usize>(base: &[u8], data: &[u8]) -> usize {
    let pairs = base.as_chunks::<N>().0.iter().zip(data.as_chunks::<N>().0);
    pairs.filter(|(base, data)| base != data).count()
}

/// Where records differ, and these records.
#[derive(Default)]
struct Differing {
    gaps: Vec<u8>,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Differing {
    fn of<const N: usize>(base: &[u8], data: &[u8]) -> Self {
        let mut found = Self::default();
        let mut gap = 0usize;
        for (base, data) in base.as_chunks::<N>().0.iter().zip(data.as_chunks::<N>().0) {
            if base == data {
                gap += 1;
                continue;
            }
            while gap >= GOES_ON.into() {
                found.gaps.push(GOES_ON);
                gap -= usize::from(GOES_ON);
            }
            found.gaps.push(gap.to_le_bytes()[0]);
            found.old.extend(base);
            found.new.extend(data);
            gap = 0;
        }
        found
    }
}

/// Appends the coded records, of which some differ, to a payload that has its preamble. They have 1, 2
/// or 4 bytes.
pub(super) fn encode(
    layout: &RecordLayout,
    level: Level,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<()> {
    let size = usize::from(layout.bytes());
    let Differing { gaps, old, new } = match size {
        1 => Differing::of::<1>(base, data),
        2 => Differing::of::<2>(base, data),
        _ => Differing::of::<4>(base, data),
    };
    let (hints, none) = (Hints { level, row: 0 }, Given::default());
    let (mut places, mut values) = (Vec::new(), Vec::new());
    let (of_places, at) =
        smallest(&RecordLayout::opaque(), None, hints, to_u32(gaps.len())?, &gaps, &mut places)?;
    let places = &places[at..];
    let given = Given { base: (new.len() > base::TOO_SHORT).then_some(&old), ..none };
    let (of_values, at) =
        base::encode_dense(layout, given, hints, to_u32(new.len() / size)?, &new, &mut values)?;
    payload[4] = of_places.wire_id();
    payload[5] = of_values.wire_id();
    payload[8..12].copy_from_slice(&to_u32(places.len())?.to_le_bytes());
    base::put_hash(base, payload);
    payload.extend(places);
    payload.resize(payload.len() + padding(places.len()), 0);
    payload.extend(&values[at..]);
    Ok(())
}

/// `body` is what follows the base's hash.
pub(super) fn decode(
    layout: &RecordLayout,
    base: &[u8],
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let [_, _, _, _, of_places, of_values, 0, 0, l0, l1, l2, l3, 0, 0, 0, 0] = *preamble else {
        return Err(bad("has unknown bits in its preamble"));
    };
    let (of_places, of_values) =
        (Coding::from_wire_id(of_places)?, Coding::from_wire_id(of_values)?);
    if of_places.needs_base() || of_values == Coding::Sparse {
        return Err(bad("has blocks of impossible codings"));
    }
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
    inner(&RecordLayout::opaque(), of_places, Given::default(), count, places, &mut gaps)?;

    out.copy_from_slice(base);
    let (mut at, mut found) = (0usize, Vec::with_capacity(changed as usize));
    for gap in gaps {
        at += usize::from(gap);
        if gap < GOES_ON {
            found.push(at);
            at += 1;
        }
    }
    let ends = found.last().is_some_and(|last| *last < all && last + 1 == at);
    if found.len() != changed as usize || !ends {
        return Err(bad("has other places than it states"));
    }
    let old: Vec<u8> = found.iter().flat_map(|at| &base[at * size..][..size]).copied().collect();
    let mut new = vec![0; old.len()];
    inner(layout, of_values, Given { context: None, base: Some(&old) }, changed, body, &mut new)?;
    for (at, new) in found.into_iter().zip(new.chunks_exact(size)) {
        out[at * size..][..size].copy_from_slice(new);
    }
    Ok(())
}

/// Decodes a block within the block: the checksum is that of the whole.
fn inner(
    layout: &RecordLayout,
    coding: Coding,
    given: Given<'_>,
    records: u32,
    payload: &[u8],
    out: &mut [u8],
) -> Result<()> {
    decode_unchecked(layout, given, &super::Block { coding, records, check: 0, payload }, out)
}

/// Bytes up to the next multiple of 16.
fn padding(len: usize) -> usize {
    len.next_multiple_of(ALIGN) - len
}

fn to_u32(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::argument("a block is too large"))
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a sparse block {why}"))
}
