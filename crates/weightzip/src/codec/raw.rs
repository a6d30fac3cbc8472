//! Coding `raw` (spec: "Raw").

use crate::error::{Error, Result};

pub(super) fn encode(data: &[u8], payload: &mut Vec<u8>) {
    payload.extend_from_slice(data);
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
