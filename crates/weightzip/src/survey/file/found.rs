//! What samples take, and what all does by that.

use crate::codec::WAYS;

/// What samples take, by part and way.
#[derive(Default)]
pub(super) struct Sums {
    coded: Vec<u64>,
    bytes: u64,
    count: u64,
}

impl Sums {
    pub(super) fn add(&mut self, coded: &[u64], bytes: usize) {
        self.coded.resize(coded.len(), 0);
        self.coded.iter_mut().zip(coded).for_each(|(sum, coded)| *sum += coded);
        self.bytes += bytes as u64;
        self.count += 1;
    }

    /// What a sample takes, in 2^-16 bytes.
    fn mean(&self, way: usize) -> u128 {
        (u128::from(self.coded[way]) << 16) / u128::from(self.count.max(1))
    }

    /// What all take besides what each does, however large it is; 1 at least.
    fn rest(&self, way: usize, fixed: u128) -> u128 {
        let coded = u128::from(self.coded[way]) << 16;
        coded.saturating_sub(u128::from(self.count) * fixed).max(1)
    }
}

/// Pieces of many blocks; those of a few blocks, each by itself and all together, and what every payload takes.
#[derive(Default)]
pub(super) struct Found {
    pub(super) pieces: Sums,
    pub(super) apart: Sums,
    pub(super) wholes: Sums,
    pub(super) fixed: Sums,
}

impl Found {
    /// What so many bytes in so many blocks take.
    pub(super) fn bytes(&self, bytes: u64, blocks: u64) -> u64 {
        let of_way = |way| {
            let fixed = self.fixed.mean(way);
            let [pieces, apart, wholes] =
                [&self.pieces, &self.apart, &self.wholes].map(|sums| sums.rest(way, fixed));
            let sampled = u128::from(self.pieces.bytes.max(1));
            let rest = u128::from(bytes) * (pieces * wholes / apart) / sampled;
            (rest + u128::from(blocks) * fixed) >> 16
        };
        let ways = |part: usize| part * WAYS..(part + 1) * WAYS;
        let parts = 0..self.pieces.coded.len() / WAYS;
        let least: u128 = parts.filter_map(|part| ways(part).map(of_way).min()).sum();
        u64::try_from(least).unwrap_or(u64::MAX)
    }
}
