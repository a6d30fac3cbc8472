//! Floats that are multiples of a power of two, as integers (spec: "Fixed"): how many steps of the grid
//! they are from zero, or from a base.
//!
//! Plain loops over integers, that the compiler makes the most of at each level.

mod formats;
#[cfg(test)]
mod tests;

use crate::field::Float;
use crate::simd::{Simd, kernel};
use formats::{bf16, f16, f32, f64};

/// The symbol of an element that has none: it is off the grid, or too far away.
pub const FAR: u8 = u8::MAX;

/// How elements are taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The exponent of the power of two that elements are multiples of: one of [`powers`].
    pub power: i32,
    /// How many low bits of a step are not in its symbol: at most [`most_low`].
    pub low: u32,
}

/// The powers that a grid may have: no multiple is between the numbers of the format.
pub fn powers(float: Float) -> std::ops::RangeInclusive<i32> {
    let bias = (1 << (float.exponent_bits - 1)) - 1;
    1 - bias - float.mantissa_bits().cast_signed()..=bias
}

/// The most low bits that a step may have.
pub fn most_low(float: Float) -> u32 {
    if float.bytes == 8 { 63 } else { 31 }
}

/// So many low bits that a symbol has all that is above: more are of no use.
pub fn enough_low(float: Float) -> u32 {
    most_low(float) + 1 - u8::BITS
}

kernel! {
    /// Takes elements apart: symbols in whole groups, the last of which is filled with zeros, and strips of the low bits.
    /// Steps are counted from the elements of `base`, or from zero if it is empty. Returns how many are [`FAR`].
    ///
    /// # Panics
    /// If the floats are none that [`round::takes`](crate::round::takes), the grid is impossible or has more low bits than
    /// are [enough](enough_low), or something has another length than the elements ask for.
    pub fn split(
        float: Float,
        grid: Grid,
        base: &[u8],
        elements: &[u8],
        symbols: &mut [u8],
        packed: &mut [u8],
    ) -> usize = split_at
}

#[inline(always)]
fn split_at<S: Simd>(
    simd: S,
    float: Float,
    grid: Grid,
    base: &[u8],
    elements: &[u8],
    symbols: &mut [u8],
    packed: &mut [u8],
) -> usize {
    check(float, grid, enough_low(float));
    match (float.bytes, float.exponent_bits) {
        (2, 5) => f16::split(simd, grid, base, elements, symbols, packed),
        (2, _) => bf16::split(simd, grid, base, elements, symbols, packed),
        (4, _) => f32::split(simd, grid, base, elements, symbols, packed),
        _ => f64::split(simd, grid, base, elements, symbols, packed),
    }
}

kernel! {
    /// Puts elements together again, as many as `out` has, from symbols in whole groups and the strips of the low bits;
    /// [`FAR`] gives one that means nothing.
    ///
    /// # Panics
    /// As [`split()`], but there may be [more](most_low) low bits.
    pub fn merge(
        float: Float,
        grid: Grid,
        base: &[u8],
        symbols: &[u8],
        packed: &[u8],
        out: &mut [u8],
    ) = merge_at
}

#[inline(always)]
fn merge_at<S: Simd>(
    simd: S,
    float: Float,
    grid: Grid,
    base: &[u8],
    symbols: &[u8],
    packed: &[u8],
    out: &mut [u8],
) {
    check(float, grid, most_low(float));
    match (float.bytes, float.exponent_bits) {
        (2, 5) => f16::merge(simd, grid, base, symbols, packed, out),
        (2, _) => bf16::merge(simd, grid, base, symbols, packed, out),
        (4, _) => f32::merge(simd, grid, base, symbols, packed, out),
        _ => f64::merge(simd, grid, base, symbols, packed, out),
    }
}

kernel! {
    /// The largest power of two that all elements but those that are zero or not finite are multiples of; `None` if there
    /// are no others.
    ///
    /// # Panics
    /// If the floats are none that [`round::takes`](crate::round::takes).
    pub fn finest(float: Float, elements: &[u8]) -> Option<i32> = finest_at
}

#[inline(always)]
fn finest_at<S: Simd>(_: S, float: Float, elements: &[u8]) -> Option<i32> {
    assert!(crate::round::takes(float));
    match (float.bytes, float.exponent_bits) {
        (2, 5) => f16::finest(elements),
        (2, _) => bf16::finest(elements),
        (4, _) => f32::finest(elements),
        _ => f64::finest(elements),
    }
}

#[inline(always)]
fn check(float: Float, grid: Grid, most_low: u32) {
    assert!(crate::round::takes(float) && powers(float).contains(&grid.power));
    assert!(grid.low <= most_low);
}
