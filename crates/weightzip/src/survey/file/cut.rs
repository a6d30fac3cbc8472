//! What an estimate reads of a block, by what its records are.

use super::Block;
use crate::codec::Looks;
use crate::record::RecordLayout;

/// Pieces of a block of which many are looked at, at most.
const MANY: u64 = 16;

/// What is read of blocks.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Bytes of a run: whole records, and whole rows if these matter and are short enough.
    pub(super) run: u64,
    pub(super) rows: bool,
    /// Runs of a piece.
    pub(super) runs: u64,
    /// Most pieces of a block of which many are looked at.
    pub(super) many: u64,
    /// Of all that is read, such blocks are one of so many parts.
    pub(super) wholes: u64,
}

impl Cut {
    pub(super) fn of(layout: &RecordLayout, looks: Looks) -> Self {
        let size = u64::from(layout.bytes());
        let records = |bytes: u64| (bytes / size).max(1) * size;
        let one = |run| Self { run, rows: false, runs: 1, many: MANY, wholes: 3 };
        match (looks, layout.floats()) {
            // Where the others are doesn't matter, but all of a row may be zero.
            (Looks::Sparse, _) => Self { runs: 64, many: MANY / 2, ..one(64 * size) },
            // Rows have scales, and those below one another may have the same one.
            (Looks::Few, _) => Self { rows: true, many: MANY / 2, ..one(size << 12) },
            // As many floats are narrowed together.
            (Looks::Plain, Some(_)) => one(size << 10),
            // Zstd looks for what came before.
            _ if layout.is_opaque() => one(4 << 10),
            // Each field has a header of its own.
            _ if layout.fields().len() > 1 => {
                let run = records(1 << 10);
                Self { runs: (16u64 << 10).div_ceil(run), ..one(run) }
            }
            // Tensors of small integers differ most, so many are looked at; that little takes much more by itself.
            _ if size == 1 => Self { runs: 4, wholes: 2, ..one(256) },
            _ => one(records(1 << 10)),
        }
    }

    pub(super) fn piece(self) -> u64 {
        self.run * self.runs
    }

    /// The same with whole rows of a block, if it has such.
    pub(super) fn in_rows(self, layout: &RecordLayout, block: &Block) -> Self {
        let row = block.row as u64 * u64::from(layout.bytes());
        match self.rows && (1..=self.run).contains(&row) {
            true => Self { run: self.run / row * row, ..self },
            false => self,
        }
    }
}
