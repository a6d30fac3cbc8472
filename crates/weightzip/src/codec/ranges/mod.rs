//! Coding `ranges` (spec: "Ranges"): floats as range-coded symbols of exponent and top mantissa
//! bits, given the scale of their row and column, and strips of narrowed residuals.
//!
//! The seed paper (arXiv 2404.15198) codes exponents by an entropy coder without a context; here the
//! context is where in its matrix an element is, and the coder has 64 lanes.

mod buckets;
pub(super) mod bytes;
mod cost;
mod decode;
pub(super) mod difference;
mod encode;
mod estimate;
mod header;
pub(super) mod packed;
mod scales;
mod shares;
mod symbols;
#[cfg(test)]
mod tests;
mod tops;

pub(super) use cost::cost;
pub(super) use decode::{decode, residuals_as_planes};
pub(super) use encode::{columns, counts, encode};
pub(super) use scales::Columns;

use crate::error::{Error, Result};
use weightzip_kernels::GROUP;
use weightzip_kernels::field::Float;
use weightzip_kernels::scale::Moves;

/// Mantissa bits that a symbol has: so many that a step of it is a quarter of an octave.
const TOP_BITS: u32 = 2;

/// Most exponent bits of a float that this coding takes, top mantissa bits among them.
const MAX_EXPONENT_BITS: u32 = 11;

/// Tables that scales choose among.
const TABLES: usize = 4;

/// Bytes that a lane's state starts with, below its highest bit.
const CARRIED_BYTES: u32 = 2;

/// No rank moves: there are no scales.
const STILL: Moves = Moves { fixed: u8::MAX, shift: 0 };

/// The bytes that states carry, of all lanes.
const CARRIED: usize = CARRIED_BYTES as usize * GROUP;

/// States that carry these bytes, two each; zeros where there are none.
fn states_with(bytes: &[u8]) -> [u32; GROUP] {
    let mut states = [1 << (8 * CARRIED_BYTES); GROUP];
    for (state, carried) in states.iter_mut().zip(bytes.chunks(CARRIED_BYTES as usize)) {
        *state |= carried.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b));
    }
    states
}

/// The bytes that states carry at the end of their words, and nothing else.
fn carried(states: &[u32; GROUP], len: usize) -> Result<Vec<u8>> {
    let bytes = states
        .iter()
        .flat_map(|state| state.to_le_bytes().into_iter().take(CARRIED_BYTES as usize));
    let carried: Vec<u8> = bytes.take(len).collect();
    match *states == states_with(&carried) {
        true => Ok(carried),
        false => Err(bad("has another end than its words say")),
    }
}

/// The float whose exponent has the top mantissa bits too; `None` if this coding can't have it.
pub(super) fn wide(float: Float) -> Option<Float> {
    let exponent_bits = float.exponent_bits + TOP_BITS;
    let fits = float.mantissa_bits() >= TOP_BITS && exponent_bits <= MAX_EXPONENT_BITS;
    fits.then_some(Float { exponent_bits, top_bits: TOP_BITS, ..float })
}

/// The first `len` bytes of a buffer, whatever is in them.
fn room(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    buffer.resize(buffer.len().max(len), 0);
    &mut buffer[..len]
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a range block {why}"))
}
