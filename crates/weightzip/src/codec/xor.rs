//! Coding `xor` (spec: "Xor"): records of any kind, as the bits in which they differ from a base.
//! The seed paper's delta (arXiv 2404.15198). What doesn't differ at all takes a few bytes.

use super::{Coding, PREAMBLE, base, constant, zstd};
use crate::error::{Error, Result};
use crate::record::RecordLayout;

/// The preamble's byte that says how the differing bits are coded.
const INNER: usize = 4;

/// Appends the coded records to a payload that has its preamble.
pub(super) fn encode(
    layout: &RecordLayout,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<()> {
    let differing: Vec<u8> = data.iter().zip(base).map(|(a, b)| a ^ b).collect();
    base::put_hash(base, payload);
    let inner = match constant::is_constant(layout, &differing) {
        true => Coding::Constant,
        false => Coding::Zstd,
    };
    payload[INNER] = inner.wire_id();
    match inner {
        Coding::Constant => constant::encode(layout, &differing, payload),
        _ => zstd::encode(layout, &differing, payload)?,
    }
    Ok(())
}

pub(super) fn decode(
    layout: &RecordLayout,
    base: &[u8],
    preamble: &[u8; PREAMBLE],
    body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    if preamble[INNER + 1..].iter().any(|&b| b != 0) {
        return Err(Error::corrupt("a block's preamble has unknown bits"));
    }
    match Coding::from_wire_id(preamble[INNER])? {
        Coding::Constant => constant::decode(layout, body, out)?,
        Coding::Zstd => zstd::decode(layout, body, out)?,
        other => {
            return Err(Error::corrupt(format!("an xor block of a {} block", other.name())));
        }
    }
    out.iter_mut().zip(base).for_each(|(bits, base)| *bits ^= base);
    Ok(())
}
