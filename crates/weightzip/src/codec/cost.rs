//! What blocks would take, by some of their records: for estimates.

use super::ranges::packed;
use super::{Hints, encode_block, fields, octets};
use crate::error::Result;
use crate::options::Level;
use crate::record::RecordLayout;
use std::ops::Range;

/// Bytes that a payload takes, nearly, if its records are part of a larger block of such: they are coded as that would be,
/// and whatever this costs once is all there, so that what larger blocks take follows from that of smaller ones.
pub(crate) fn cost(
    layout: &RecordLayout,
    level: Level,
    data: &[u8],
    room: &mut Vec<u8>,
) -> Result<usize> {
    let hints = Hints { level, row: 0 };
    let integers = layout.bytes() == 1 && layout.floats().is_none();
    if integers && (level == Level::Max || !layout.is_opaque()) {
        return octets::cost(layout, data, room);
    }
    match fields::Columns::of(layout) {
        Some(columns) => columns.cost(hints, layout.bytes().into(), data),
        None => Ok(encode_block(layout, None, hints, data, room)?.payload.len()),
    }
}

/// The records of each row that say what integers packed into words take, if a block has so many rows of these.
pub(crate) fn packed_columns(
    layout: &RecordLayout,
    row: usize,
    rows: usize,
) -> Option<Range<usize>> {
    (layout.is_word() && row >= packed::LEAST_ROW).then(|| packed::columns(row, rows))
}

/// Bytes that those records take, nearly, as their share of a block; `None` if they don't look like such integers.
pub(crate) fn packed_cost(
    layout: &RecordLayout,
    level: Level,
    row: usize,
    sampled: usize,
    data: &[u8],
    room: &mut Vec<u8>,
) -> Result<Option<usize>> {
    let other = cost(layout, level, data, room)?.min(data.len());
    let suits = packed::suits(sampled, data, other);
    Ok(suits.then(|| packed::cost(row, sampled, data)).filter(|packed| *packed < other))
}
