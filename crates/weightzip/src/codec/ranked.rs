//! Coding `ranks` (spec: "Ranks"): records of one byte, of which small ones are more frequent, in escape
//! planes.

use super::escapes::{self, get_counts, sampled};
use super::residuals::Output;
use super::widths::Widths;
use super::{PREAMBLE, take};
use crate::error::{Error, Result};
use weightzip_kernels::field::CHUNK;
use weightzip_kernels::level::level;
use weightzip_kernels::strip::ALIGN;

/// Memory that a thread's blocks use one after another.
pub(super) type Scratch = escapes::Scratch;

/// Appends the coded bytes, of which there are so many ranks in the scratch memory, where they are lost, to a payload
/// that has its preamble; they may take more than the bytes.
pub(super) fn encode(scratch: &mut Scratch, records: usize, payload: &mut Vec<u8>) {
    let preamble = payload.len() - PREAMBLE;
    let widths = Widths::best(&sampled(&scratch.ranks.room_for(records)[..records]));
    payload[preamble + 4..][..2].copy_from_slice(&widths.to_wire().to_le_bytes());
    payload[preamble + 6] = widths.tail.to_le_bytes()[0];
    let start = payload.len();
    let header = size_of::<u32>() * widths.planes().count();
    payload.resize(start + header.next_multiple_of(ALIGN), 0);
    let mut out = Output { end: payload.len(), payload };
    let counts = scratch.encode(level(), &widths, records, &mut out);
    let end = out.end;
    payload.truncate(end);
    let places = payload[start..].as_chunks_mut().0.iter_mut();
    widths.planes().zip(counts).zip(places).for_each(|((_, n), to)| *to = n.to_le_bytes());
}

pub(super) fn decode(preamble: &[u8; PREAMBLE], body: &[u8], out: &mut [u8]) -> Result<()> {
    let mut scratch = Scratch::default();
    let mut ranks = open(&mut scratch, preamble, body, out.len())?;
    for (chunk, out) in out.chunks_mut(CHUNK).enumerate() {
        let count = out.len();
        out.copy_from_slice(&ranks.chunk(chunk * CHUNK, count)?[..count]);
    }
    ranks.finish()
}

/// The records of a block, to be taken chunk by chunk.
pub(super) fn open<'a>(
    scratch: &'a mut Scratch,
    preamble: &[u8; PREAMBLE],
    mut body: &'a [u8],
    records: usize,
) -> Result<escapes::Ranks<'a>> {
    let [_, _, _, _, w0, w1, tail, more @ ..] = *preamble;
    let widths = Widths::from_wire(u16::from_le_bytes([w0, w1]), tail);
    let widths = widths.filter(|_| more == [0; 9]).ok_or_else(|| bad("has impossible widths"))?;
    let start = body.len();
    let counts = get_counts(&widths, records, &mut body)?;
    let header = start - body.len();
    let padding = take(&mut body, header.next_multiple_of(ALIGN) - header)?;
    if padding.iter().any(|&b| b != 0) {
        return Err(bad("has unknown bits behind its header"));
    }
    scratch.decode(level(), &widths, &counts, records, body)
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a ranks block {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        arbtest::arbtest(|u| {
            let mut data = vec![0; u.int_in_range(1..=5000)?];
            u.fill_buffer(&mut data)?;
            let most = u.int_in_range(0..=8)?;
            data.iter_mut().for_each(|byte| *byte = byte.checked_shr(8 - most).unwrap_or(0));
            let (mut payload, mut scratch) = (vec![0; PREAMBLE], Scratch::default());
            scratch.ranks.room_for(data.len())[..data.len()].copy_from_slice(&data);
            encode(&mut scratch, data.len(), &mut payload);
            let (preamble, body) = payload.split_first_chunk().unwrap();
            let mut out = vec![0x55; data.len()];
            decode(preamble, body, &mut out).unwrap();
            assert!(out == data);
            Ok(())
        });
    }
}
