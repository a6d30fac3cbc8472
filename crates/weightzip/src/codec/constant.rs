//! Coding `constant` (spec: "Constant"): one record, repeated.

use super::preamble;
use crate::error::{Error, Result};
use crate::record::RecordLayout;

/// `None` unless all records are equal.
pub(super) fn encode(layout: &RecordLayout, records: u32, data: &[u8]) -> Option<Vec<u8>> {
    let size = usize::from(layout.bytes());
    let (record, rest) = data.split_at(size);
    // Equal to itself shifted by one record: a single comparison of two slices.
    (data[..rest.len()] == *rest).then(|| [&preamble(records), record].concat())
}

pub(super) fn decode(layout: &RecordLayout, body: &[u8], out: &mut [u8]) -> Result<()> {
    let size = usize::from(layout.bytes());
    if body.len() != size {
        return Err(Error::corrupt(format!(
            "a constant block has {} bytes instead of {size}",
            body.len()
        )));
    }
    out.chunks_exact_mut(size).for_each(|record| record.copy_from_slice(body));
    Ok(())
}
