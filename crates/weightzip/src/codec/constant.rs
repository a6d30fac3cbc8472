//! Coding `constant` (spec: "Constant"): one record, repeated.

use crate::error::{Error, Result};
use crate::record::RecordLayout;

/// Whether all records are equal.
pub(super) fn is_constant(layout: &RecordLayout, data: &[u8]) -> bool {
    let size = usize::from(layout.bytes());
    // Equal to itself shifted by one record: a single comparison of two slices.
    data[size..] == data[..data.len() - size]
}

pub(super) fn encode(layout: &RecordLayout, data: &[u8], payload: &mut Vec<u8>) {
    payload.extend(&data[..usize::from(layout.bytes())]);
}

pub(super) fn decode(layout: &RecordLayout, body: &[u8], out: &mut [u8]) -> Result<()> {
    let size = usize::from(layout.bytes());
    if body.len() != size {
        return Err(Error::corrupt(format!(
            "a constant block has {} bytes instead of {size}",
            body.len()
        )));
    }
    out[..size].copy_from_slice(body);
    let mut done = size;
    while done < out.len() {
        let (from, to) = out.split_at_mut(done);
        let len = done.min(to.len());
        to[..len].copy_from_slice(&from[..len]);
        done += len;
    }
    Ok(())
}
