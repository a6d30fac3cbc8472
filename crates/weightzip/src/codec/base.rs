//! What a block is coded next to (spec: "Bases"): its segment's context, and as many bytes of a
//! base as it has itself.

use super::{Coding, Context, begin, ranges, take, xor};
use crate::error::{Error, Result};
use crate::record::RecordLayout;
use weightzip_kernels::xxh3::xxh3_128;

/// What an encoder and a decoder know of a block besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// What its segment's blocks share.
    pub context: Option<&'a Context>,
    /// What it may be coded against: as many bytes as it has, of the same layout.
    pub base: Option<&'a [u8]>,
}

impl<'a> From<Option<&'a Context>> for Given<'a> {
    fn from(context: Option<&'a Context>) -> Self {
        Self { context, base: None }
    }
}

/// Blocks of so many bytes don't use a base: their hash would have other formulas.
pub(super) const TOO_SHORT: usize = 240;

/// Bytes of the hash that a body starts with.
const HASH: usize = 16;

/// Appends the hash of a base.
pub(super) fn put_hash(base: &[u8], payload: &mut Vec<u8>) {
    payload.extend(xxh3_128(base).to_le_bytes());
}

/// Codes a block against its base, in place of what is in `payload` from `start` on, if that gets
/// smaller by it.
pub(super) fn encode(
    layout: &RecordLayout,
    base: &[u8],
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
    start: usize,
) -> Result<Option<Coding>> {
    check_len(base, data.len())?;
    let mut delta = Vec::new();
    begin(records, &mut delta);
    let coding = match layout.floats().filter(|floats| ranges::difference::takes(*floats)) {
        Some(floats) if base != data => {
            ranges::difference::encode(floats, base, data, &mut delta).map(|()| Coding::Difference)
        }
        _ => {
            xor::encode(layout, base, data, &mut delta)?;
            Some(Coding::Xor)
        }
    };
    let smaller = coding.filter(|_| delta.len() < payload.len() - start);
    if smaller.is_some() {
        *payload = delta;
    }
    Ok(smaller)
}

/// The base of a block of `len` bytes, if it is the one whose hash `body` starts with; takes the
/// hash off.
pub(super) fn checked<'a>(
    base: Option<&'a [u8]>,
    len: usize,
    body: &mut &[u8],
) -> Result<&'a [u8]> {
    let hash = take(body, HASH)?;
    if len <= TOO_SHORT {
        return Err(Error::corrupt("a block is too short to have a base"));
    }
    let base = base.ok_or_else(|| Error::argument("a block needs a base, and none was given"))?;
    check_len(base, len)?;
    match xxh3_128(base).to_le_bytes() == *hash {
        true => Ok(base),
        false => Err(Error::argument(
            "the base has other bytes than the one that this block was made with",
        )),
    }
}

fn check_len(base: &[u8], len: usize) -> Result<()> {
    match base.len() == len {
        true => Ok(()),
        false => {
            let has = base.len();
            Err(Error::argument(format!("a block of {len} bytes has a base of {has}")))
        }
    }
}
