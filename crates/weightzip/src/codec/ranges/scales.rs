//! Scales (spec: "Scales"): how large the elements of a row and of a column are, in quarters of an
//! octave. The sum of both says what an element's rank is taken from, and which shares it has.

use crate::error::{Error, Result};

/// Most bits of a scale on the wire.
pub(super) const SCALE_BITS: u32 = 5;

/// Largest scale that an encoder gives to a row or a column: four octaves and a half.
pub(super) const MAX_SCALE: u8 = 18;

/// Shortest row that has a scale, and fewest rows for which columns have one.
pub(super) const MIN_LINE: usize = 32;

/// Scales of the columns of a segment, shared by its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::codec) struct Columns(pub(in crate::codec) Vec<u8>);

impl Columns {
    /// A byte each.
    pub(in crate::codec) fn to_wire(&self) -> Vec<u8> {
        self.0.clone()
    }

    pub(in crate::codec) fn from_wire(payload: &[u8]) -> Result<Self> {
        match payload.iter().all(|&scale| scale < 1 << SCALE_BITS) {
            true => Ok(Self(payload.to_vec())),
            false => Err(Error::corrupt("the scale of a column is too large")),
        }
    }
}

/// The scales of a block's rows and columns; none are zeros.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scales<'a> {
    pub(super) rows: &'a [u8],
    pub(super) columns: &'a [u8],
    /// Elements in a row.
    pub(super) row: usize,
}

impl Scales<'_> {
    /// Whether there are none.
    pub(super) fn is_none(self) -> bool {
        self.rows.is_empty() && self.columns.is_empty()
    }

    /// The scales of the elements from `at` on.
    pub(super) fn fill(self, at: usize, scales: &mut [u8]) {
        if self.is_none() {
            return scales.fill(0);
        }
        let (mut row, mut column, mut rest) = (at / self.row, at % self.row, scales);
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(rest.len().min(self.row - column));
            let scale = self.rows.get(row).copied().unwrap_or(0);
            match self.columns.get(column..column + now.len()) {
                Some(columns) => {
                    now.iter_mut().zip(columns).for_each(|(to, c)| *to = scale + c);
                }
                None => now.fill(scale),
            }
            (row, column, rest) = (row + 1, 0, later);
        }
    }

    /// The largest sum of a row's and a column's scale.
    pub(super) fn largest(self) -> u8 {
        let largest = |scales: &[u8]| scales.iter().copied().max().unwrap_or(0);
        largest(self.rows) + largest(self.columns)
    }
}
