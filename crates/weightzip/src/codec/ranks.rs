//! Rank tables (spec: "Rank tables"): exponents by falling frequency.

use weightzip_kernels::field::EXPONENTS;

/// Exponents in the order of their ranks: at most 256, each less than 2^`exponent_bits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RankTable {
    exponents: Vec<u16>,
}

impl RankTable {
    /// The exponents that occur, most frequent first, then smallest; `None` if more than 256 do.
    pub(super) fn of(counts: &[u32; EXPONENTS]) -> Option<Self> {
        let mut exponents: Vec<u16> =
            (0..).zip(counts).filter(|(_, n)| **n > 0).map(|(e, _)| e).collect();
        exponents.sort_by_key(|&e| (std::cmp::Reverse(counts[usize::from(e)]), e));
        (exponents.len() <= 256).then_some(Self { exponents })
    }

    /// Appends the exponents of up to eight bits that are not there yet, in ascending order, so
    /// that a table that is shared can say every one.
    #[must_use]
    pub(super) fn completed(mut self, exponent_bits: u8) -> Self {
        if exponent_bits <= 8 {
            let rest: Vec<u16> =
                (0..1 << exponent_bits).filter(|e| !self.exponents.contains(e)).collect();
            self.exponents.extend(rest);
        }
        self
    }

    pub(super) fn len(&self) -> usize {
        self.exponents.len()
    }

    /// The rank of an exponent, if it is in the table.
    pub(super) fn rank(&self, exponent: u16) -> Option<u8> {
        (0..=255).zip(&self.exponents).find(|(_, e)| **e == exponent).map(|(rank, _)| rank)
    }

    /// `table[rank]`; ranks behind the end stand for exponent 0.
    pub(super) fn exponent_of(&self) -> [u16; 256] {
        let mut table = [0; 256];
        table[..self.exponents.len()].copy_from_slice(&self.exponents);
        table
    }

    /// `table[exponent]`; exponents that are not in the table have rank 0.
    pub(super) fn rank_of(&self) -> [u8; EXPONENTS] {
        let mut table = [0; EXPONENTS];
        for (rank, &e) in (0..=255).zip(&self.exponents) {
            table[usize::from(e)] = rank;
        }
        table
    }

    /// Counts by rank up to the last one that occurs; `None` if an exponent is missing here.
    pub(super) fn by_rank(&self, counts: &[u32; EXPONENTS]) -> Option<Vec<u32>> {
        let mut by_rank: Vec<u32> =
            self.exponents.iter().map(|&e| counts[usize::from(e)]).collect();
        let all = |c: &[u32]| c.iter().map(|&n| u64::from(n)).sum::<u64>();
        let used = by_rank.iter().rposition(|&n| n > 0).map_or(0, |last| last + 1);
        by_rank.truncate(used);
        (all(&by_rank) == all(counts)).then_some(by_rank)
    }

    /// Bytes on the wire: one per exponent of up to eight bits, else two.
    pub(super) fn wire_len(entries: usize, exponent_bits: u8) -> usize {
        entries * if exponent_bits <= 8 { 1 } else { 2 }
    }

    pub(super) fn write_to(&self, exponent_bits: u8, out: &mut Vec<u8>) {
        for e in &self.exponents {
            let bytes = e.to_le_bytes();
            out.extend(&bytes[..Self::wire_len(1, exponent_bits)]);
        }
    }

    /// `None` if there are too many entries, one doesn't fit `exponent_bits`, one comes
    /// twice, or the last one is cut.
    pub(super) fn read_from(bytes: &[u8], exponent_bits: u8) -> Option<Self> {
        let size = Self::wire_len(1, exponent_bits);
        let wide = |b: &[u8]| u16::from_le_bytes([b[0], b.get(1).copied().unwrap_or(0)]);
        let exponents: Vec<u16> = bytes.chunks_exact(size).map(wide).collect();
        let mut seen = [false; EXPONENTS];
        let fits = exponents.iter().all(|&e| {
            e >> exponent_bits == 0 && !std::mem::replace(&mut seen[usize::from(e)], true)
        });
        (fits && exponents.len() <= 256 && bytes.len().is_multiple_of(size))
            .then_some(Self { exponents })
    }
}
