//! What blocks would take, by some of their records: for estimates.

use super::ranges::packed;
use super::{Coding, Hints, begin, encode_block, fields, octets, palette};
use crate::error::Result;
use crate::options::Level;
use crate::record::RecordLayout;
use weightzip_kernels::field::Float;

/// In how many ways a part of a payload may be coded, at most.
pub(crate) const WAYS: usize = 4;

/// Bytes that a part takes in each way: which is the smallest, only a whole block tells. Where there are fewer, some are the same.
pub(crate) type Ways = [usize; WAYS];

/// Bytes that parts take if each takes the least.
pub(super) fn least(parts: &[Ways]) -> usize {
    parts.iter().filter_map(|ways| ways.iter().min()).sum()
}

/// What floats look like.
#[derive(Clone, Copy)]
pub(crate) enum Looks {
    Plain,
    /// Many are zero.
    Sparse,
    /// They have a palette.
    Few,
}

/// Bytes that the parts of a payload take, nearly, if its records are part of a larger block of such: they are coded as that would be,
/// and whatever this costs once is all there, so that what larger blocks take follows from that of smaller ones. The row of hints
/// says that floats may have a palette.
pub(crate) fn cost(
    layout: &RecordLayout,
    hints: Hints,
    data: &[u8],
    room: &mut Vec<u8>,
) -> Result<Vec<Ways>> {
    let integers = layout.bytes() == 1 && layout.floats().is_none();
    if integers && (hints.level == Level::Max || !layout.is_opaque()) {
        return Ok(vec![octets::cost(layout, data, room)?]);
    }
    if let Some(columns) = fields::Columns::of(layout) {
        return columns.cost(hints, layout.bytes().into(), data);
    }
    let len = match layout.floats() {
        Some(floats) => of_floats(floats, layout, hints, data, room)?.1,
        None => encode_block(layout, None, hints, data, room)?.payload.len(),
    };
    Ok(vec![[len; WAYS]])
}

/// What some floats look like that are whole rows.
pub(crate) fn looks(
    layout: &RecordLayout,
    hints: Hints,
    data: &[u8],
    room: &mut Vec<u8>,
) -> Result<Looks> {
    let Some(floats) = layout.floats() else { return Ok(Looks::Plain) };
    Ok(match of_floats(floats, layout, hints, data, room)?.0 {
        Coding::Palette => Looks::Few,
        // Where all of a sample are equal, few others are somewhere else.
        Coding::Zeros | Coding::Constant => Looks::Sparse,
        _ => Looks::Plain,
    })
}

/// The coding of floats, and what they take. A few rows may be on a grid by chance, or have too many zeros to look as if they had
/// a palette.
fn of_floats(
    floats: Float,
    layout: &RecordLayout,
    hints: Hints,
    data: &[u8],
    room: &mut Vec<u8>,
) -> Result<(Coding, usize)> {
    let block = encode_block(layout, None, hints, data, room)?;
    let (coding, len) = (block.coding, block.payload.len());
    let untried = hints.row > 0 && !matches!(coding, Coding::Palette | Coding::Constant);
    if untried && palette::takes(floats) {
        begin(0, room);
        if palette::encode(floats, hints, data, room)? && room.len() < len {
            return Ok((Coding::Palette, room.len()));
        }
    }
    Ok((coding, len))
}

/// Whether smaller integers may be packed into such records.
pub(crate) fn may_be_packed(layout: &RecordLayout, row: usize) -> bool {
    layout.is_word() && row >= packed::LEAST_ROW
}

/// Bytes that so many words of each row take, nearly, as their share of a block, and whether that is as such integers.
pub(crate) fn packed_cost(
    layout: &RecordLayout,
    level: Level,
    row: usize,
    sampled: usize,
    data: &[u8],
    room: &mut Vec<u8>,
) -> Result<(usize, bool)> {
    let other = least(&cost(layout, Hints { level, row: 0 }, data, room)?).min(data.len());
    let suits = packed::suits(sampled, data, other);
    let packed = suits.then(|| packed::cost(row, sampled, data)).filter(|packed| *packed < other);
    Ok((packed.unwrap_or(other), packed.is_some()))
}
