//! Tops and their ranks (spec: "Tops"). A top is an exponent with the two mantissa bits below it:
//! four to the octave. Ranks of tops between two bounds go up with them, so that a scale can move
//! them; the few tops outside have the lowest ranks, which stay where they are. Rank 0 is no top's.

use weightzip_kernels::field::{EXPONENTS, RankOf};

/// Most ranks that stay.
const MAX_FIXED: usize = 40;

/// Most tops whose ranks move: 44 octaves.
const MAX_MOVING: usize = 176;

/// Which tops there are, and how they are ranked while no scale is known.
#[derive(Debug)]
pub(super) struct Tops {
    /// Tops by their ranks from 1 on, which stay; the most frequent first.
    pub(super) fixed: Vec<u16>,
    /// The lowest top whose rank moves.
    pub(super) low: u16,
    /// How many tops from `low` on have ranks that move.
    pub(super) moving: u8,
}

impl Tops {
    /// The ranking that moves most elements; `None` if too many tops would have to stay, or there
    /// is nothing to rank.
    pub(super) fn of(counts: &[u32; EXPONENTS]) -> Option<Self> {
        let (mut sum, mut most, mut end) = (0u64, 0, 0);
        for (i, &count) in counts.iter().enumerate() {
            sum += u64::from(count);
            if let Some(left) = i.checked_sub(MAX_MOVING) {
                sum -= u64::from(counts[left]);
            }
            if sum > most {
                (most, end) = (sum, i + 1);
            }
        }
        // Zeros are none of a matrix' small values.
        let start = end.saturating_sub(MAX_MOVING).max(1).min(end);
        let low = start + counts[start..end].iter().position(|&n| n > 0).unwrap_or(0);
        let fixed = (0..EXPONENTS).filter(|i| counts[*i] > 0 && !(low..end).contains(i));
        let mut fixed: Vec<u16> = fixed.filter_map(|i| u16::try_from(i).ok()).collect();
        fixed.sort_by_key(|&top| std::cmp::Reverse(counts[usize::from(top)]));
        let few = end > 0 && fixed.len() <= MAX_FIXED;
        Some(Self { fixed, low: u16::try_from(low).ok()?, moving: u8::try_from(end - low).ok()? })
            .filter(|_| few)
    }

    /// Ranks without any scale: from 1 to at most `MAX_FIXED + MAX_MOVING`.
    pub(super) fn rank_of(&self) -> RankOf {
        let mut rank_of = RankOf::none();
        let moving = (self.low..).take(self.moving.into());
        for (rank, top) in (1u8..).zip(self.fixed.iter().copied().chain(moving)) {
            rank_of.set(top, rank);
        }
        rank_of
    }
}
