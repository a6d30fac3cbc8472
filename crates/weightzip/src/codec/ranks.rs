//! Rank tables (spec: "Rank tables"): exponents by falling frequency.

use weightzip_kernels::field::{EXPONENTS, Exponents, Float, NO_RANK, RankOf};

/// Most exponents that a table has.
const MAX_LEN: usize = 256;

/// Exponents in the order of their ranks: at most 256, each less than 2^`exponent_bits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RankTable {
    /// Zeros behind the end.
    exponents: [u16; MAX_LEN],
    len: usize,
}

impl RankTable {
    const EMPTY: Self = Self { exponents: [0; MAX_LEN], len: 0 };

    /// The exponents that occur, most frequent first, then smallest; `None` if more than 255 do.
    pub(super) fn of(counts: &[u32; EXPONENTS]) -> Option<Self> {
        let mut table = Self::EMPTY;
        for (e, _) in (0..).zip(counts).filter(|(_, n)| **n > 0) {
            table.push(e)?;
        }
        table.exponents[..table.len]
            .sort_unstable_by_key(|&e| (std::cmp::Reverse(counts[usize::from(e)]), e));
        Some(table)
    }

    /// Appends an exponent that is not there yet and returns its rank; `None` if it would be the
    /// 256th, whose rank stands for none.
    pub(super) fn push(&mut self, exponent: u16) -> Option<u8> {
        let rank = u8::try_from(self.len).ok().filter(|&rank| rank != NO_RANK)?;
        self.exponents[self.len] = exponent;
        self.len += 1;
        Some(rank)
    }

    /// Appends the exponents of up to eight bits that are not there yet, in ascending order, so
    /// that a table that is shared can say every one.
    #[must_use]
    pub(super) fn completed(mut self, exponent_bits: u32) -> Self {
        if exponent_bits <= 8 {
            for e in 0..1 << exponent_bits {
                if !self.as_slice().contains(&e) {
                    self.exponents[self.len] = e;
                    self.len += 1;
                }
            }
        }
        self
    }

    pub(super) fn as_slice(&self) -> &[u16] {
        &self.exponents[..self.len]
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// For the kernel that splits.
    pub(super) fn rank_of(&self) -> RankOf {
        let mut ranks = RankOf::none();
        for (rank, &e) in (0..NO_RANK).zip(self.as_slice()) {
            ranks.set(e, rank);
        }
        ranks
    }

    /// For the kernel that merges ranks less than `ranks`: the fewer, the faster it looks them up.
    pub(super) fn exponents(&self, float: Float, ranks: usize) -> Exponents {
        Exponents::new(float, &self.as_slice()[..ranks.min(self.len)])
    }

    /// Bytes on the wire: one per exponent of up to eight bits, else two.
    pub(super) fn wire_len(entries: usize, exponent_bits: u32) -> usize {
        entries * if exponent_bits <= 8 { 1 } else { 2 }
    }

    pub(super) fn write_to(&self, exponent_bits: u32, out: &mut Vec<u8>) {
        self.write_first(self.len, exponent_bits, out);
    }

    /// Writes the first `len` entries.
    pub(super) fn write_first(&self, len: usize, exponent_bits: u32, out: &mut Vec<u8>) {
        for e in &self.as_slice()[..len] {
            let bytes = e.to_le_bytes();
            out.extend(&bytes[..Self::wire_len(1, exponent_bits)]);
        }
    }

    /// `None` if there are too many entries, one doesn't fit `exponent_bits`, one comes
    /// twice, or the last one is cut.
    pub(super) fn read_from(bytes: &[u8], exponent_bits: u32) -> Option<Self> {
        let size = Self::wire_len(1, exponent_bits);
        if bytes.len() > MAX_LEN * size || !bytes.len().is_multiple_of(size) {
            return None;
        }
        let (mut table, mut seen) = (Self::EMPTY, [false; EXPONENTS]);
        for entry in bytes.chunks_exact(size) {
            let e = u16::from_le_bytes([entry[0], entry.get(1).copied().unwrap_or(0)]);
            if e >> exponent_bits != 0 || std::mem::replace(&mut seen[usize::from(e)], true) {
                return None;
            }
            table.exponents[table.len] = e;
            table.len += 1;
        }
        Some(table)
    }
}
