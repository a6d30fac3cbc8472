//! Coding `ranks` (spec: "Ranks"): records of one byte, of which small ones are more frequent, in escape
//! planes.

use super::escapes::{self, get_counts};
use super::residuals::Output;
use super::widths::Widths;
use super::{PREAMBLE, take};
use crate::error::{Error, Result};
use std::cell::RefCell;
use weightzip_kernels::field::CHUNK;
use weightzip_kernels::level::level;
use weightzip_kernels::strip::ALIGN;

thread_local! {
    static SCRATCH: RefCell<escapes::Scratch> = RefCell::default();
}

/// Appends the coded bytes to a payload that has its preamble; they may take more than the bytes.
pub(super) fn encode(data: &[u8], payload: &mut Vec<u8>) {
    let widths = Widths::best(&counts(data));
    SCRATCH.with_borrow_mut(|scratch| {
        payload[4..6].copy_from_slice(&widths.to_wire().to_le_bytes());
        payload[6] = widths.tail.to_le_bytes()[0];
        let start = payload.len();
        let header = size_of::<u32>() * widths.planes().count();
        payload.resize(start + header.next_multiple_of(ALIGN), 0);
        scratch.ranks.room_for(data.len())[..data.len()].copy_from_slice(data);
        let mut out = Output { end: payload.len(), payload };
        let counts = scratch.encode(level(), &widths, data.len(), &mut out);
        let end = out.end;
        payload.truncate(end);
        let places = payload[start..].as_chunks_mut().0.iter_mut();
        widths.planes().zip(counts).zip(places).for_each(|((_, n), to)| *to = n.to_le_bytes());
    });
}

/// How often bytes occur, up to the largest one. In four lists, for equal ones behind one another would wait.
fn counts(data: &[u8]) -> Vec<u32> {
    let mut lists = [[0u32; 256]; 4];
    for bytes in data.chunks(4) {
        lists.iter_mut().zip(bytes).for_each(|(counts, byte)| counts[usize::from(*byte)] += 1);
    }
    let sum = |byte: usize| lists.iter().map(|counts| counts[byte]).sum();
    let largest = (0..256).rfind(|byte| lists.iter().any(|counts| counts[*byte] > 0));
    (0..=largest.unwrap_or(0)).map(sum).collect()
}

pub(super) fn decode(preamble: &[u8; PREAMBLE], mut body: &[u8], out: &mut [u8]) -> Result<()> {
    let [_, _, _, _, w0, w1, tail, more @ ..] = *preamble;
    let widths = Widths::from_wire(u16::from_le_bytes([w0, w1]), tail);
    let widths = widths.filter(|_| more == [0; 9]).ok_or_else(|| bad("has impossible widths"))?;
    let start = body.len();
    let counts = get_counts(&widths, out.len(), &mut body)?;
    let header = start - body.len();
    let padding = take(&mut body, header.next_multiple_of(ALIGN) - header)?;
    if padding.iter().any(|&b| b != 0) {
        return Err(bad("has unknown bits behind its header"));
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let mut ranks = scratch.decode(level(), &widths, &counts, out.len(), body)?;
        for (chunk, out) in out.chunks_mut(CHUNK).enumerate() {
            let count = out.len();
            out.copy_from_slice(&ranks.chunk(chunk * CHUNK, count)?[..count]);
        }
        ranks.finish()
    })
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
            let mut payload = vec![0; PREAMBLE];
            encode(&data, &mut payload);
            let (preamble, body) = payload.split_first_chunk().unwrap();
            let mut out = vec![0x55; data.len()];
            decode(preamble, body, &mut out).unwrap();
            assert!(out == data);
            Ok(())
        });
    }
}
