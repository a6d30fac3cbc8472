//! Coding `raw` (spec: "Raw").

use super::preamble;
use crate::error::{Error, Result};

pub(super) fn encode(records: u32, data: &[u8]) -> Vec<u8> {
    [&preamble(records), data].concat()
}

pub(super) fn decode(body: &[u8], out: &mut [u8]) -> Result<()> {
    if body.len() != out.len() {
        return Err(Error::corrupt(format!(
            "a raw block has {} bytes instead of {}",
            body.len(),
            out.len()
        )));
    }
    out.copy_from_slice(body);
    Ok(())
}
