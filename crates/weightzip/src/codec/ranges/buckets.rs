//! Which table serves which keys, such as exponents of a base (spec: "Differences"): neighbours share one.

use super::shares::CODE_BITS;
use crate::codec::log2::entropy;
use weightzip_kernels::rans::MAX_TABLES;

/// Exponents from which on the next table serves; those that are 255 are not in use.
pub(super) type Bounds = [u8; 7];

/// How many tables there are.
pub(super) fn count(bounds: &Bounds) -> usize {
    1 + bounds.iter().filter(|bound| **bound < u8::MAX).count()
}

/// The table of each exponent: how many bounds are not above it.
pub(super) fn tables(bounds: &Bounds) -> [u8; 256] {
    let mut tables = [0; 256];
    for &bound in &bounds[..count(bounds) - 1] {
        tables[usize::from(bound)..].iter_mut().for_each(|table| *table += 1);
    }
    tables
}

/// How often each of `N` symbols occurs with each table.
pub(super) fn counts<const N: usize>(
    bounds: &Bounds,
    by_exponent: &[[u32; N]],
) -> [[u32; N]; MAX_TABLES] {
    let mut counts = [[0; N]; MAX_TABLES];
    for (&table, by_exponent) in tables(bounds).iter().zip(by_exponent) {
        let table = &mut counts[usize::from(table)];
        table.iter_mut().zip(by_exponent).for_each(|(all, n)| *all += n);
    }
    counts
}

/// How often each symbol occurs with some neighbouring exponents, and what that costs.
struct Bucket<const N: usize> {
    first: u8,
    counts: Box<[u32; N]>,
    cost: u64,
}

impl<const N: usize> Bucket<N> {
    fn new(first: u8, counts: Box<[u32; N]>) -> Self {
        let cost = entropy(&*counts);
        Self { first, counts, cost }
    }

    fn with(&self, next: &Self) -> Self {
        let mut counts = self.counts.clone();
        counts.iter_mut().zip(next.counts.iter()).for_each(|(a, b)| *a += b);
        Self::new(self.first, counts)
    }
}

/// Bounds so that tables say the most: from a table for each exponent on, those two neighbours
/// become one which lose least by it. There are at most `most`, and one costs as many weights as there are `symbols`.
pub(super) fn bounds<const N: usize>(
    by_exponent: &[[u32; N]],
    symbols: usize,
    most: usize,
) -> Bounds {
    let table_cost = (symbols as u64 * u64::from(CODE_BITS)) << 8;
    let mut buckets: Vec<Bucket<N>> = (0..=u8::MAX)
        .zip(by_exponent)
        .filter(|(_, counts)| counts.iter().any(|&n| n > 0))
        .map(|(e, counts)| Bucket::new(e, Box::new(*counts)))
        .collect();
    let mut merged: Vec<Bucket<N>> = buckets.windows(2).map(|two| two[0].with(&two[1])).collect();
    while buckets.len() > 1 {
        let apart = |i: usize| buckets[i].cost + buckets[i + 1].cost;
        let loss = |i: &usize| merged[*i].cost.saturating_sub(apart(*i));
        let Some(least) = (0..merged.len()).min_by_key(loss) else { break };
        // A table costs its weights, too.
        if buckets.len() <= most && loss(&least) > table_cost {
            break;
        }
        buckets[least] = merged.remove(least);
        buckets.remove(least + 1);
        if let Some(before) = least.checked_sub(1) {
            merged[before] = buckets[before].with(&buckets[least]);
        }
        if least < merged.len() {
            merged[least] = buckets[least].with(&buckets[least + 1]);
        }
    }
    let mut bounds = [u8::MAX; 7];
    bounds.iter_mut().zip(buckets.iter().skip(1)).for_each(|(bound, b)| *bound = b.first);
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlike_exponents_have_tables_of_their_own() {
        let mut counts = vec![[0; 256]; 256];
        for (e, symbol) in [(100, 1), (101, 1), (102, 9), (103, 9), (110, 30)] {
            counts[e][symbol] = 10_000;
            counts[e][symbol + 1] = 10_000;
        }
        assert_eq!(bounds(&counts, 40, MAX_TABLES), [102, 110, 255, 255, 255, 255, 255]);
        let tables = tables(&bounds(&counts, 40, MAX_TABLES));
        assert_eq!([0, 101, 102, 109, 110, 254].map(|e: usize| tables[e]), [0, 0, 1, 1, 2, 2]);
        assert_eq!(bounds(&vec![[0; 256]; 256], 40, MAX_TABLES), [255; 7]);
        // More kinds than tables.
        for (e, counts) in counts.iter_mut().enumerate() {
            *counts = [0; 256];
            counts[e] = 1000;
        }
        assert!(bounds(&counts, 40, MAX_TABLES).is_sorted());
    }
}
