//! What an encoder finds out about a block: the scales of its rows and columns, and whether they
//! are worth their bytes. Integers only, so that every machine writes the same bytes.

use super::TABLES;
use super::header::width;
use super::scales::{MAX_SCALE, MIN_LINE, Scales};
use super::shares::CODE_BITS;
use super::tops::Tops;
use weightzip_kernels::scale::STEPS;
use weightzip_kernels::strip::packed_len;

/// Elements that tell what a choice costs.
const SAMPLE: usize = 32 << 10;

/// Ranks of a block as a matrix; whole rows.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) ranks: &'a [u8],
    pub(super) row: usize,
    pub(super) tops: &'a Tops,
}

/// How large what a rank stands for is, against others of its block.
type Sizes = [u64; 256];

impl Matrix<'_> {
    fn sizes(&self) -> Sizes {
        let (mut sizes, fixed) = ([0; 256], self.tops.fixed.len());
        let low = u32::from(self.tops.low);
        let end = low + u32::from(self.tops.moving);
        for (size, top) in sizes[fixed + 1..].iter_mut().zip(low..end) {
            // The middle between this top and the next one, in eighths.
            let middle = (9 + 2 * u64::from(top % 4)) << 32;
            *size = middle.checked_shr(end / 4 - top / 4).unwrap_or(0);
        }
        sizes
    }

    /// Scales of the rows and of the columns.
    pub(super) fn scales(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let rows = self.ranks.len().checked_div(self.row)?;
        if rows < 2 || self.row < MIN_LINE {
            return None;
        }
        let sizes = self.sizes();
        let size = |&rank: &u8| sizes[usize::from(rank)];
        let quarters_of_row =
            |ranks: &[u8]| quarters(ranks.iter().map(size).sum::<u64>() / self.row as u64);
        let row_quarters: Vec<u32> =
            self.ranks.chunks_exact(self.row).map(quarters_of_row).collect();
        if rows < MIN_LINE {
            return Some((codes(&row_quarters), Vec::new()));
        }
        let least = row_quarters.iter().copied().min().unwrap_or(0) / 4;
        let mut sums = vec![0u64; self.row];
        for (ranks, &quarters) in self.ranks.chunks_exact(self.row).zip(&row_quarters) {
            let (inverse, shift) = (INVERSES[quarters as usize % 4], 16 + quarters / 4 - least);
            for (sum, rank) in sums.iter_mut().zip(ranks) {
                *sum += (size(rank) * inverse).checked_shr(shift).unwrap_or(0);
            }
        }
        let columns: Vec<u32> = sums.iter().map(|sum| quarters(sum / rows as u64)).collect();
        Some((codes(&row_quarters), codes(&columns)))
    }

    /// Bits that the block takes with these scales, about.
    pub(super) fn cost(&self, scales: Scales<'_>, own_columns: bool) -> u64 {
        let fixed = self.tops.fixed.len();
        let line = if scales.is_none() { self.ranks.len().min(1 << 10) } else { self.row };
        let lines = self.ranks.len() / line.max(1);
        let every = (self.ranks.len() / SAMPLE).clamp(1, lines.max(1));
        let mut counts = [[0u32; 256]; TABLES];
        let (mut of_line, mut sampled) = (vec![0; line], 0u64);
        // Another line in each stretch: matrices may have a period.
        for stretch in 0..lines / every {
            let i = stretch * every + (stretch.wrapping_mul(0x9E37_79B9) >> 16) % every;
            scales.fill(i * line, &mut of_line);
            for (&scale, &rank) in of_line.iter().zip(&self.ranks[i * line..][..line]) {
                let moved = if usize::from(rank) <= fixed { 0 } else { scale & STEPS };
                counts[usize::from(scale % 4)][usize::from(rank.wrapping_sub(moved))] += 1;
            }
            sampled += line as u64;
        }
        let bits: u64 = counts.iter().map(entropy).sum();
        let shares = counts.iter().flatten().filter(|n| **n > 0).count() as u64;
        let strips = |codes: &[u8]| packed_len(codes.len(), width(codes)) as u64;
        let strips = strips(scales.rows) + if own_columns { strips(scales.columns) } else { 0 };
        let sampled_of_all = |bits: u64| u128::from(bits) * self.ranks.len() as u128;
        let all = sampled_of_all(bits) / u128::from(sampled.max(1));
        u64::try_from(all).unwrap_or(u64::MAX) + shares * u64::from(CODE_BITS) + 8 * strips
    }
}

/// 2^16 divided by 1, 5/4, 6/4 and 7/4.
const INVERSES: [u64; 4] = [65536, 52429, 43691, 37449];

/// About four times the logarithm of `n`: its highest bit and the two below it.
fn quarters(n: u64) -> u32 {
    let highest = n.max(4).ilog2();
    #[allow(clippy::cast_possible_truncation, reason = "two bits")]
    let below = (n.max(4) >> (highest - 2)) as u32 & 3;
    4 * highest + below
}

/// Scales by quarters of an octave: the largest has the largest code, the smallest zero.
fn codes(quarters: &[u32]) -> Vec<u8> {
    let least = quarters.iter().copied().max().unwrap_or(0).saturating_sub(MAX_SCALE.into());
    let least = quarters.iter().copied().min().unwrap_or(0).max(least);
    quarters.iter().map(|&q| q.saturating_sub(least).to_le_bytes()[0]).collect()
}

/// Bits that an ideal coder needs for what occurs so often.
fn entropy(counts: &[u32; 256]) -> u64 {
    let bits = |n: u32| u64::from(n) * u64::from(log2(n));
    let all = counts.iter().sum();
    (bits(all) - counts.iter().map(|&n| bits(n)).sum::<u64>().min(bits(all))) >> 8
}

/// 256 times the logarithm of `n`, less one at most; 0 for 0.
fn log2(n: u32) -> u32 {
    let Some(whole) = n.checked_ilog2() else { return 0 };
    // Squaring a number doubles its logarithm.
    let (mut x, mut log) = (u64::from(n) << (31 - whole), whole);
    for _ in 0..8 {
        x = (x * x) >> 31;
        let bit = (x >> 32) as u32 & 1;
        (x, log) = (x >> bit, log << 1 | bit);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_what_they_are() {
        for n in [1u32, 2, 3, 5, 1000, 65_535, 65_536, 1 << 24, u32::MAX] {
            let exact = f64::from(n).log2() * 256.;
            assert!((f64::from(log2(n)) - exact).abs() <= 1.01, "{n}");
        }
        assert_eq!(entropy(&[7; 256]), 8 * 7 * 256);
        assert_eq!([4, 5, 6, 7, 8, 1 << 20].map(quarters), [8, 9, 10, 11, 12, 80]);
    }

    #[test]
    fn scales_of_rows_and_columns_are_found() {
        // Rows and columns that are an octave apart, of one size else.
        let tops = Tops { fixed: vec![0], low: 100, moving: 100 };
        let (rows, row) = (40, 64);
        let rank = |i: usize, j: usize| 51 + (4 * (i % 2) + 4 * (j % 3)) as u8;
        let ranks: Vec<u8> = (0..rows * row).map(|k| rank(k / row, k % row)).collect();
        let matrix = Matrix { ranks: &ranks, row, tops: &tops };
        let (of_rows, of_columns) = matrix.scales().unwrap();
        assert!(of_rows.iter().enumerate().all(|(i, &s)| s == 4 * (i % 2) as u8));
        assert!(of_columns.iter().enumerate().all(|(j, &s)| s == 4 * (j % 3) as u8));
        let scales = Scales { rows: &of_rows, columns: &of_columns, row };
        let alone = Scales { columns: &[], ..scales };
        assert!(matrix.cost(scales, true) < matrix.cost(alone, false));
        assert!(matrix.cost(alone, false) < matrix.cost(Scales::default(), false));
    }
}
