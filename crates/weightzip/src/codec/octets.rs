//! Records of one byte. *Bytes* knows how often each occurs, and is fast; *zstd* finds what comes again, too. Where a
//! sample doesn't get smaller by that, nor does the block.

use super::cost::{WAYS, Ways};
use super::ranges::bytes::{self, Keys};
use super::{Coding, PREAMBLE, begin, constant, raw, zstd};
use crate::error::Result;
use crate::record::RecordLayout;

/// Bytes of a run of the sample: so many that zstd finds in them what comes again nearby.
const RUN: usize = 16 << 10;

/// Runs of a sample.
const RUNS: usize = 2;

/// Blocks of so many bytes or less are coded in both ways: what either takes besides its symbols tells.
const SMALL: usize = 192 << 10;

/// Of how many bytes one must be saved, for zstd stores what saves next to nothing, and reads that as fast as memory.
const LITTLE: usize = 128;

/// Codes a column whose bytes are small numbers, or said to be opaque; they are no floats.
pub(super) fn column(
    layout: &RecordLayout,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<Coding> {
    if constant::is_constant(layout, data) {
        begin(records, payload);
        constant::encode(layout, data, payload);
        return Ok(Coding::Constant);
    }
    let coding = likely(layout, records, data, payload)?;
    if payload.len() < PREAMBLE + data.len() {
        return Ok(coding);
    }
    begin(records, payload);
    raw::encode(data, payload);
    Ok(Coding::Raw)
}

/// Codes a block in place of what is in `payload`, by the coding that a sample finds smaller.
pub(super) fn likely(
    layout: &RecordLayout,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<Coding> {
    if data.len() <= SMALL {
        return smaller(layout, records, data, payload);
    }
    let between = data.len() / RUNS;
    let start = |run: usize| run * between + (between - RUN) / 2;
    let mut sample = [0; RUNS * RUN];
    for (run, to) in sample.chunks_exact_mut(RUN).enumerate() {
        to.copy_from_slice(&data[start(run)..][..RUN]);
    }
    let as_zstd = zstd_len(layout, &sample, payload)?;
    let as_zstd = bytes::ideal(data) * as_zstd / bytes::ideal(&sample).max(1);
    if bytes::cost(data, Keys::default()) <= as_zstd.min(data.len() - data.len() / LITTLE) {
        begin(records, payload);
        if bytes::encode(data, Keys::default(), payload).is_some() {
            return Ok(Coding::Bytes);
        }
    }
    begin(records, payload);
    zstd::encode(layout, data, payload)?;
    Ok(Coding::Zstd)
}

/// Bytes that data take, nearly, if they were part of a larger block of such data.
pub(super) fn cost(layout: &RecordLayout, data: &[u8], room: &mut Vec<u8>) -> Result<Ways> {
    if constant::is_constant(layout, data) {
        return Ok([PREAMBLE + 1; WAYS]);
    }
    let (as_zstd, as_raw) = (PREAMBLE + zstd_len(layout, data, room)?, PREAMBLE + data.len());
    // Where it doesn't find what comes again, zstd knows no more than how often bytes occur.
    Ok(match PREAMBLE + bytes::ideal(data) <= as_zstd {
        true => [bytes::cost(data, Keys::default()), as_zstd, as_raw, as_raw],
        false => [as_zstd, as_zstd, as_raw, as_raw],
    })
}

fn zstd_len(layout: &RecordLayout, data: &[u8], room: &mut Vec<u8>) -> Result<usize> {
    room.clear();
    zstd::encode(layout, data, room)?;
    Ok(room.len())
}

/// The smaller one of both.
pub(super) fn smaller(
    layout: &RecordLayout,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<Coding> {
    begin(records, payload);
    zstd::encode(layout, data, payload)?;
    let mut as_bytes = Vec::new();
    begin(records, &mut as_bytes);
    let is_smaller = bytes::encode(data, Keys::default(), &mut as_bytes).is_some();
    if is_smaller && as_bytes.len() < payload.len() {
        *payload = as_bytes;
        return Ok(Coding::Bytes);
    }
    Ok(Coding::Zstd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::cost::least;

    /// Bytes near 128, of as many kinds.
    fn noise(len: usize, kinds: u64) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % kinds
        };
        (0..len).map(|_| (128 + next().min(next())).to_le_bytes()[0]).collect()
    }

    #[test]
    fn a_sample_tells_what_comes_again() {
        let (layout, mut payload) = (RecordLayout::opaque(), Vec::new());
        let once = noise(300_000, 100);
        let again: Vec<u8> = once[..5000].iter().copied().cycle().take(once.len()).collect();
        let many = noise(300_000, 256);
        for (data, wanted) in
            [(&once, Coding::Bytes), (&again, Coding::Zstd), (&vec![7; 300_000], Coding::Constant)]
        {
            assert_eq!(column(&layout, 300_000, data, &mut payload).unwrap(), wanted);
            let near = least(&[cost(&layout, data, &mut Vec::new()).unwrap()]);
            assert!(near.abs_diff(payload.len()) <= payload.len() / 100 + 16, "{near}");
        }
        // What saves next to nothing stays as it is.
        let most: Vec<u8> =
            many.iter().zip(&once).map(|(a, b)| a.wrapping_mul(31) ^ b << 3).collect();
        assert_eq!(column(&layout, 300_000, &most, &mut payload).unwrap(), Coding::Raw);
    }
}
