//! Estimates of small numbers that are coded beside their scales.

use super::{Block, Group, Sampler};
use crate::error::Result;
use crate::source::Source;
use crate::{base, codec};

/// Bytes of the rows of a block that are looked at.
const ROWS: u64 = 16 << 10;

/// Where the scales of some numbers start, and of how many bytes each is one.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) at: u64,
    pub(super) each: u64,
}

impl Scales {
    /// Those of the numbers that are so many bytes further on.
    pub(super) fn behind(self, bytes: u64) -> Self {
        Self { at: self.at + bytes / self.each, ..self }
    }
}

impl<S: Source + ?Sized> Sampler<'_, S> {
    /// Bytes that the blocks of a group take beside their scales; `None` if these say nothing.
    pub(super) fn scaled(&mut self, group: &Group, budget: u64) -> Result<Option<u64>> {
        let (mut symbols, mut fixed, mut seen, mut count) = (0, 0, 0, 0);
        for block in group.spread((budget / ROWS).max(1)) {
            let row = block.row as u64;
            let Some(scales) = block.scales.filter(|_| row > 0 && row <= block.bytes()) else {
                return Ok(None);
            };
            let rows = block.bytes() / row;
            let some = (ROWS / row).clamp(1, rows);
            let start = block.place(0, 1, rows - some + 1) * row;
            let data =
                self.bytes(block.range.start + start..block.range.start + start + some * row)?;
            let base = self.scales_of(scales.behind(start), data.len())?;
            let Some([of_symbols, of_all]) = codec::scaled_cost(block.row, &base, &data) else {
                return Ok(None);
            };
            symbols += of_symbols as u128;
            fixed += of_all as u128;
            seen += data.len() as u128;
            count += 1;
        }
        let symbols = u128::from(group.bytes) * symbols / seen.max(1);
        let fixed = group.blocks().count() as u128 * fixed / count.max(1);
        Ok(u64::try_from(symbols + fixed).ok())
    }

    /// The scale of each of so many bytes.
    pub(super) fn scales_of(&mut self, scales: Scales, bytes: usize) -> Result<Vec<u8>> {
        let each = usize::try_from(scales.each).unwrap_or(usize::MAX);
        let found = self.bytes(scales.at..scales.at + (bytes / each) as u64)?;
        let mut of_each = vec![0; bytes];
        base::spread(&found, each, 0, &mut of_each);
        Ok(of_each)
    }

    /// What a block takes, whole.
    pub(super) fn whole_block(&mut self, group: &Group, block: &Block) -> Result<u64> {
        let data = self.bytes(block.range.clone())?;
        let scales = match block.scales {
            Some(scales) => Some(self.scales_of(scales, data.len())?),
            None => None,
        };
        let hints = codec::Hints { level: self.level, row: block.row };
        let block = match scales {
            Some(scales) => {
                codec::encode_scaled(&group.layout, &scales, hints, &data, &mut self.payload)?
            }
            None => {
                let hints = codec::Hints { row: group.row, ..hints };
                codec::encode_block(&group.layout, None, hints, &data, &mut self.payload)?
            }
        };
        Ok(block.payload.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimate_file;
    use crate::{Level, Options, compress, scan};
    use std::sync::Arc;

    /// Numbers, and a scale for 16 bytes of them: the smaller the larger that is.
    fn pair(rows: usize, in_row: usize) -> [Vec<u8>; 2] {
        let mut state = 1u64;
        let mut below = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        let (mut numbers, mut scales) = (Vec::new(), Vec::new());
        for _ in 0..rows * in_row {
            let larger = below(4);
            scales.push((100 + larger).to_le_bytes()[0]);
            let mut number = || below(8 - 2 * larger) + below(3) + 3;
            numbers.extend((0..16).map(|_| (number() | number() << 4).to_le_bytes()[0]));
        }
        [numbers, scales]
    }

    #[test]
    fn numbers_beside_their_scales_are_estimated() {
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        // The last two are equal.
        for (name, rows) in [("a", 3000), ("b", 200), ("c", 700), ("d", 700)] {
            let shapes = [vec![rows, 64, 16], vec![rows, 64]];
            for ((end, part), shape) in
                ["_blocks", "_scales"].iter().zip(pair(rows, 64)).zip(shapes)
            {
                let start = data.len();
                data.extend(part);
                let entry = serde_json::json!({"dtype": "U8", "shape": shape, "data_offsets": [start, data.len()]});
                header.insert(format!("{name}{end}"), entry);
            }
        }
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes(), header.as_slice(), &data].concat();
        let spans = scan(file.as_slice()).unwrap().spans;
        let estimate = estimate_file(file.as_slice(), &spans, Level::Max).unwrap();
        let compressed = |source| {
            let options = Options { level: Level::Max, threads: 1, source, ..Options::default() };
            compress(file.as_slice(), std::io::sink(), &options).unwrap().compressed_bytes
        };
        let real = compressed(Some(Arc::new(file.clone()) as _));
        assert!(real + file.len() as u64 / 50 < compressed(None));
        assert!(estimate.bytes.abs_diff(real) < file.len() as u64 / 200, "{estimate:?} {real}");
    }
}
