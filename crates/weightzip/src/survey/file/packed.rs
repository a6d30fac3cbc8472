//! Estimates of words in which smaller integers are packed.

use super::{Block, Group, Sampler, read};
use crate::codec;
use crate::error::Result;
use crate::source::Source;

/// Bytes of a word, and words of a block that say what integers packed into them take: in so many windows of as many columns.
const WORD: u64 = 4;
const WORDS: u64 = 4608;
const WINDOWS: u64 = 4;
/// Rows of words that have whole groups of channels.
const GROUP_ROWS: u64 = 128;

impl<S: Source + ?Sized> Sampler<'_, S> {
    /// Bytes that words take in which smaller integers are packed, from some words of some blocks; `None` if those of the largest
    /// one look like no such.
    pub(super) fn packed(&mut self, group: &Group, budget: u64) -> Result<Option<u64>> {
        let (layout, level) = (&group.layout, self.level);
        let (mut coded, mut seen) = (0, 0);
        let has_row = |block: &Block| block.bytes() >= WORD * block.row as u64;
        let blocks = group.spread((budget / (WORD * WORDS)).max(1)).filter(has_row);
        let blocks: Vec<_> = blocks.collect();
        for block in blocks.iter().rev() {
            let (data, columns) = self.words(block)?;
            let row = block.row;
            let (bytes, packed) =
                codec::packed_cost(layout, level, row, columns, &data, &mut self.payload)?;
            if seen == 0 && !packed {
                return Ok(None);
            }
            (coded, seen) = (coded + bytes as u128, seen + data.len() as u64);
            if seen + data.len() as u64 > budget {
                break;
            }
        }
        Ok(u64::try_from(u128::from(group.bytes) * coded / u128::from(seen.max(1))).ok())
    }

    /// Some columns of some of a block's rows, and how many columns. Channels of a group are all there.
    fn words(&mut self, block: &Block) -> Result<(Vec<u8>, usize)> {
        let row = block.row as u64;
        let all = block.bytes() / WORD / row;
        let rows = all.min(GROUP_ROWS);
        let part_of_row = row / WINDOWS;
        let width = (WORDS / rows.max(1)).div_ceil(WINDOWS).min(part_of_row);
        let first = block.place(0, 1, all - rows + 1) / GROUP_ROWS * GROUP_ROWS;
        let (mut data, mut part) = (Vec::new(), Vec::new());
        for at in first..first + rows {
            for window in 0..WINDOWS {
                let column = window * part_of_row + block.place(0, 1, part_of_row - width + 1);
                let start = block.range.start + WORD * (at * row + column);
                read(self.source, &(start..start + WORD * width), &mut part)?;
                data.append(&mut part);
            }
        }
        self.read += data.len() as u64;
        Ok((data, usize::try_from(WINDOWS * width).unwrap_or(usize::MAX)))
    }
}
