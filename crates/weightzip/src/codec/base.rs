//! What a block is coded next to (spec: "Bases"): its segment's context, and as many bytes of a
//! base as it has itself.

use super::{
    Block, Coding, Context, Hints, begin, constant, encode_block, fixed, ranges, scaled, smallest,
    sparse, steps, xor,
};
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::RecordLayout;
use weightzip_kernels::field::Float;
use weightzip_kernels::level::level;
use weightzip_kernels::xxh3::{Running, xxh3_128};

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

/// Whether codings of differences can have such floats.
pub(super) fn takes(float: Float) -> bool {
    float.bytes <= 4 && float.exponent_bits <= 8
}

/// Bytes of the hash that a body starts with.
const HASH: usize = 16;

/// Appends the hash of a base.
pub(super) fn put_hash(base: &[u8], payload: &mut Vec<u8>) {
    payload.extend(xxh3_128(base).to_le_bytes());
}

/// Codes a block in place of what is in `payload`, against its base if that makes it smaller; returns
/// where the block's payload starts.
pub(super) fn encode(
    layout: &RecordLayout,
    given: Given<'_>,
    hints: Hints,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<(Coding, usize)> {
    let mut sparse = None;
    if let Some(base) = given.base.filter(|_| data.len() > TOO_SHORT) {
        check_len(base, data.len())?;
        begin(records, payload);
        if base == data && !constant::is_constant(layout, data) {
            xor::encode(layout, base, data, payload)?;
            return Ok((Coding::Xor, 0));
        }
        if sparse::suits(layout, base, data) {
            sparse::encode(layout, hints.level, Some(base), data, payload)?;
            // Hardly more would be gained, and not quickly.
            if hints.level == Level::Default && payload.len() < data.len() / 8 {
                return Ok((Coding::Sparse, 0));
            }
            sparse = Some(std::mem::take(payload));
        }
    }
    let (coding, start) = encode_dense(layout, given, hints, records, data, payload)?;
    match sparse.filter(|sparse| sparse.len() < payload.len() - start) {
        Some(sparse) => {
            *payload = sparse;
            Ok((Coding::Sparse, 0))
        }
        None => Ok((coding, start)),
    }
}

/// [`encode`] in which each record counts.
pub(super) fn encode_dense(
    layout: &RecordLayout,
    given: Given<'_>,
    hints: Hints,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<(Coding, usize)> {
    let (coding, start) = smallest(layout, given.context, hints, records, data, payload)?;
    let Some(base) = given.base.filter(|_| data.len() > TOO_SHORT) else {
        return Ok((coding, start));
    };
    let mut delta = Vec::new();
    begin(records, &mut delta);
    match next_to(layout, base, hints.level, data, &mut delta)? {
        Some(coding) if pays(hints.level, delta.len(), payload.len() - start) => {
            *payload = delta;
            Ok((coding, 0))
        }
        _ => Ok((coding, start)),
    }
}

/// Codes a block of records of one byte as [`encode_block`] does, or beside its scales, which `scales` has for each of its
/// bytes, if that makes it smaller.
pub(crate) fn encode_scaled<'a>(
    layout: &RecordLayout,
    scales: &[u8],
    hints: Hints,
    data: &[u8],
    payload: &'a mut Vec<u8>,
) -> Result<Block<'a>> {
    check_len(scales, data.len())?;
    let Block { coding, records, check, payload: alone } =
        encode_block(layout, None, hints, data, payload)?;
    let (alone, mut beside) = (alone.len(), Vec::new());
    begin(records, &mut beside);
    let done = match data.len() > TOO_SHORT && layout.bytes() == 1 {
        true => scaled::encode(hints.row, scales, data, &mut beside),
        false => None,
    };
    // Few scales are read for many numbers.
    if done.is_some() && beside.len() < alone - alone / 512 {
        *payload = beside;
        return Ok(Block { coding: Coding::Scaled, records, check, payload });
    }
    let start = payload.len() - alone;
    Ok(Block { coding, records, check, payload: &payload[start..] })
}

/// Whether a block is worth its base: at least a 128th smaller, at level max at all. Who reads it has to read that, too, and in a
/// chain what that is coded against.
fn pays(level: Level, with: usize, without: usize) -> bool {
    match level {
        Level::Default => with < without - without / 128,
        Level::Max => with < without,
    }
}

/// Appends a block, coded against its base, to a payload that has its preamble; `None` if it wouldn't
/// get smaller.
fn next_to(
    layout: &RecordLayout,
    base: &[u8],
    level: Level,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Result<Option<Coding>> {
    let floats = layout.floats().filter(|floats| takes(*floats) && base != data);
    let Some(floats) = floats else {
        xor::encode(layout, base, data, payload)?;
        return Ok(Some(Coding::Xor));
    };
    if let Some(choice) = fixed::Choice::of(floats, level, base, data) {
        put_hash(base, payload);
        let done = fixed::encode(floats, &choice, level, base, data, payload);
        return Ok(done.map(|()| Coding::FixedDelta));
    }
    let choice = steps::choose(floats, base, data);
    let (done, coding) = match choice.suits(level) {
        true => (steps::encode(floats, &choice.shifts, base, data, payload), Coding::Steps),
        false => (ranges::difference::encode(floats, base, data, payload), Coding::Difference),
    };
    Ok(done.map(|()| coding))
}

/// A block's payload in the coding that is asked for, one that needs a base; `None` if it wouldn't get
/// smaller, or can't have it.
#[cfg(test)]
pub(crate) fn encode_as(
    coding: Coding,
    layout: &RecordLayout,
    base: &[u8],
    records: u32,
    data: &[u8],
) -> Option<Vec<u8>> {
    let (floats, mut payload) = (layout.floats().filter(|f| takes(*f)), Vec::new());
    begin(records, &mut payload);
    match coding {
        Coding::Difference => ranges::difference::encode(floats?, base, data, &mut payload)?,
        Coding::Steps => {
            let shifts = steps::choose(floats?, base, data).shifts;
            steps::encode(floats?, &shifts, base, data, &mut payload)?;
        }
        Coding::FixedDelta => {
            let choice = fixed::Choice::of(floats?, Level::Default, base, data)?;
            put_hash(base, &mut payload);
            fixed::encode(floats?, &choice, Level::Default, base, data, &mut payload)?;
        }
        Coding::Sparse => {
            sparse::encode(layout, Level::Default, Some(base), data, &mut payload).ok()?
        }
        _ => xor::encode(layout, base, data, &mut payload).ok()?,
    }
    Some(payload)
}

/// The base of a block of `len` bytes, if it is the one whose hash `body` starts with; takes the
/// hash off.
pub(super) fn checked<'a>(
    base: Option<&'a [u8]>,
    len: usize,
    body: &mut &[u8],
) -> Result<&'a [u8]> {
    let (base, hash) = stated(base, len, body)?;
    check(base, &hash, Running::default())?;
    Ok(base)
}

/// [`checked`] that leaves the hash to be compared by [`check`].
pub(super) fn stated<'a>(
    base: Option<&'a [u8]>,
    len: usize,
    body: &mut &[u8],
) -> Result<(&'a [u8], [u8; HASH])> {
    let Some((hash, rest)) = body.split_first_chunk() else {
        return Err(Error::corrupt("a block is shorter than its header says"));
    };
    *body = rest;
    if len <= TOO_SHORT {
        return Err(Error::corrupt("a block is too short to have a base"));
    }
    let base = base.ok_or_else(|| Error::argument("a block needs a base, and none was given"))?;
    check_len(base, len)?;
    Ok((base, *hash))
}

/// Whether a base, some of which was hashed, has the hash that a block states.
pub(super) fn check(base: &[u8], hash: &[u8; HASH], running: Running) -> Result<()> {
    match running.xxh3_128(level(), base).to_le_bytes() == *hash {
        true => Ok(()),
        false => Err(Error::argument(
            "the base has other bytes than the one that this block was made with; wz inspect says which one it needs",
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
