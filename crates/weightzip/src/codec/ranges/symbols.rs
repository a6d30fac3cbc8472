//! Symbols (spec: "Scales"): the ranks that occur often, less the steps of their scales. What is
//! rare escapes, since the least share of a table would be too much for it.

use super::{TABLES, shares};
use weightzip_kernels::rans::{SLOTS, Shares};
use weightzip_kernels::scale::Moves;

/// Which symbols stand for which ranks, and these for which tops.
#[derive(Clone, Copy)]
pub(super) struct Symbols {
    pub(super) moves: Moves,
    /// The top of the lowest rank that moves.
    pub(super) low: u16,
}

/// How often each symbol occurs with each table; `scales` may be more.
pub(super) fn occurrences(symbols: &[u8], scales: &[u8]) -> [[u32; 256]; TABLES] {
    // Four sets of counters, so that equal neighbours don't wait for each other.
    let mut counts = [[[0u32; 256]; TABLES]; 4];
    let (scales, of_more) = scales[..symbols.len()].as_chunks::<4>();
    let (symbols, more) = symbols.as_chunks::<4>();
    for (symbols, scales) in symbols.iter().zip(scales) {
        for ((counts, &symbol), &scale) in counts.iter_mut().zip(symbols).zip(scales) {
            counts[usize::from(scale) % TABLES][usize::from(symbol)] += 1;
        }
    }
    for (&symbol, &scale) in more.iter().zip(of_more) {
        counts[0][usize::from(scale) % TABLES][usize::from(symbol)] += 1;
    }
    let [mut counts, others @ ..] = counts;
    for other in others {
        let all = counts.as_flattened_mut().iter_mut().zip(other.as_flattened());
        all.for_each(|(count, more)| *count += more);
    }
    counts
}

/// How often each byte occurs: as [`occurrences`], with no scales.
pub(super) fn histogram(bytes: &[u8]) -> [u32; 256] {
    let [mut counts, mut b, mut c, mut d] = [[0u32; 256]; 4];
    let (fours, more) = bytes.as_chunks::<4>();
    for &[first, second, third, fourth] in fours {
        counts[usize::from(first)] += 1;
        b[usize::from(second)] += 1;
        c[usize::from(third)] += 1;
        d[usize::from(fourth)] += 1;
    }
    more.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    for other in [b, c, d] {
        counts.iter_mut().zip(other).for_each(|(count, more)| *count += more);
    }
    counts
}

/// What occurs so often, or less, of `all` elements is better off without a symbol: that takes a
/// slot and a weight of each table, an escape five bits more than such a symbol, about.
pub(super) fn few(all: u64, tables: usize) -> u64 {
    (all * 3 / 2 / u64::from(SLOTS) + 6 * tables as u64) / 5
}

/// What an encoder gives symbols to.
pub(super) struct Choice {
    pub(super) symbols: Symbols,
    /// The last rank that stays and has a symbol.
    pub(super) kept: u8,
    /// The last symbol.
    pub(super) last: u8,
}

impl Choice {
    /// Symbols for what occurs often enough; turns [`occurrences`] of those with `moves` into
    /// theirs.
    pub(super) fn of(counts: &mut [[u32; 256]], moves: Moves, low: u16) -> Option<Self> {
        let fixed = moves.fixed;
        let few = few(counts.as_flattened().iter().map(|&n| u64::from(n)).sum(), counts.len());
        let often = |rank: &u8| {
            counts.iter().map(|table| u64::from(table[usize::from(*rank)])).sum::<u64>() > few
        };
        let kept = (1..=fixed).take_while(often).last().unwrap_or(0);
        let moving = || fixed + 1..=u8::MAX;
        let (first, end) = match (moving().find(often), moving().rfind(often)) {
            (Some(first), Some(last)) => (first, usize::from(last) + 1),
            _ => (fixed + 1, usize::from(fixed) + 1),
        };
        let to = usize::from(fixed) + 1;
        for table in counts {
            let moving = usize::from(first)..end;
            let (total, behind): (u32, _) = (table.iter().sum(), to + moving.len());
            table[usize::from(kept) + 1..to].fill(0);
            table.copy_within(moving, to);
            table[behind..].fill(0);
            table[0] = 0;
            table[0] = total - table.iter().sum::<u32>();
        }
        let shift = moves.shift.wrapping_add(first - fixed - 1);
        let last = u8::try_from(end - usize::from(first)).ok()? + fixed;
        let symbols = Symbols { moves: Moves { fixed, shift }, low };
        Some(Self { symbols, kept, last })
    }
}

/// Codes of the weights of symbols up to the last that occurs, and their shares. A table that
/// is not in use gives symbol 0.
pub(super) fn weights<const N: usize>(counts: &[[u32; N]], shares: &mut Shares) -> Option<Vec<u8>> {
    let used = |table: &[u32; N]| table.iter().rposition(|&n| n > 0).map_or(0, |last| last + 1);
    let symbols = counts.iter().map(used).max()?;
    let mut weights = Vec::with_capacity(counts.len() * symbols);
    for (table, counts) in counts.iter().enumerate() {
        let codes = shares::codes(&counts[..symbols]);
        weights.extend(codes);
        shares.set(table, &shares::shares(&weights[table * symbols..]));
    }
    Some(weights)
}
