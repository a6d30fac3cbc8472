//! Symbols and the ranks that they stand for (spec: "Scales"). A rank falls by as many steps as the
//! scale of its element says, but for the low two bits of that, which choose a table of shares.
//! Symbol 0 is an escape: its element's rank stands elsewhere.

use crate::simd::{GROUP, Simd, kernel};
use crate::strip::{array, array_mut};

/// The part of a scale that moves a rank.
pub const STEPS: u8 = 0xFC;

/// Which ranks are symbols, and which symbols. All but 0 and those up to `fixed` move.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moves {
    /// The last rank that doesn't move.
    pub fixed: u8,
    /// What a rank that moves is above its symbol, besides its steps.
    pub shift: u8,
}

kernel! {
    /// Turns symbols into ranks, in place, whole groups of them; each escape takes the next of
    /// `escapes` from `used` on. Returns how many are used then; if that is more than `escapes`
    /// has but for its [`SLACK`](crate::escape::SLACK), the ranks mean nothing.
    ///
    /// # Panics
    /// If there are fewer scales than symbols.
    pub fn raise(moves: Moves, scales: &[u8], escapes: &[u8], used: usize, symbols: &mut [u8]) -> usize =
        raise_at
}

#[inline(always)]
fn raise_at<S: Simd>(
    simd: S,
    moves: Moves,
    scales: &[u8],
    escapes: &[u8],
    mut used: usize,
    symbols: &mut [u8],
) -> usize {
    let (steps, shift) = (simd.splat(STEPS), simd.splat(moves.shift));
    let (fixed, escape) = (simd.splat(moves.fixed), simd.splat(0));
    let groups = symbols.as_chunks_mut::<GROUP>().0;
    let scales = &scales.as_chunks::<GROUP>().0[..groups.len()];
    for (group, scales) in groups.iter_mut().zip(scales) {
        let symbol = simd.load(group);
        let up = simd.add(simd.and(simd.load(scales), steps), shift);
        let stays = simd.bits(simd.eq(simd.min(symbol, fixed), symbol));
        let rank = simd.add(symbol, simd.keep(up, !stays));
        let Some(from) = escapes.get(used..).and_then(<[u8]>::first_chunk) else {
            return escapes.len();
        };
        used += simd.expand(rank, simd.eq(symbol, escape), from, group);
    }
    used
}

kernel! {
    /// Turns the first `count` ranks into symbols, in place. A rank that does not move is its own
    /// symbol, if it is at most `kept`; one that does has a symbol above `moves.fixed`, up to
    /// `last`. Others escape and go to `escapes`. Returns how many these are. `ranks` are whole
    /// groups, `escapes` has [`SLACK`](crate::escape::SLACK) bytes more than there are ranks.
    ///
    /// # Panics
    /// If one is shorter, or there are fewer scales than whole groups of ranks.
    pub fn lower(
        moves: Moves,
        kept: u8,
        last: u8,
        scales: &[u8],
        count: usize,
        ranks: &mut [u8],
        escapes: &mut [u8],
    ) -> usize = lower_at
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a kernel")]
fn lower_at<S: Simd>(
    simd: S,
    moves: Moves,
    kept: u8,
    last: u8,
    scales: &[u8],
    count: usize,
    ranks: &mut [u8],
    escapes: &mut [u8],
) -> usize {
    let (steps, shift) = (simd.splat(STEPS), simd.splat(moves.shift));
    let [zero, fixed, kept, last] = [0, moves.fixed, kept, last].map(|byte| simd.splat(byte));
    let least = |a, b| simd.eq(simd.min(a, b), a);
    let mut escaped = 0;
    for group in 0..count.div_ceil(GROUP) {
        let rank = simd.load(array(ranks, group * GROUP));
        let down = simd.add(simd.and(simd.load(array(scales, group * GROUP)), steps), shift);
        let symbol = simd.sub(rank, down);
        let stays = simd.bits(least(rank, fixed));
        let moves = !simd.bits(least(symbol, fixed)) & simd.bits(least(symbol, last)) & !stays;
        let stays = stays & simd.bits(least(rank, kept));
        let mut symbol = simd.or(simd.keep(rank, stays), simd.keep(symbol, moves));
        if let left @ 1..GROUP = count - group * GROUP {
            // What fills the group doesn't escape.
            let behind = simd.keep(simd.splat(u8::MAX), !0 << left);
            symbol = simd.or(symbol, behind);
        }
        escaped += simd.compress(rank, simd.eq(symbol, zero), array_mut(escapes, escaped));
        simd.store(symbol, array_mut(ranks, group * GROUP));
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::SLACK;
    use crate::level::{Level, at_each_level};

    fn raise_undoes_lower(level: Level) {
        arbtest::arbtest(|u| {
            let count = u.int_in_range(0..=300usize)?;
            let whole = count.next_multiple_of(GROUP);
            let (mut ranks, mut scales) = (vec![0; whole], vec![0; whole]);
            u.fill_buffer(&mut ranks)?;
            u.fill_buffer(&mut scales)?;
            ranks.iter_mut().for_each(|rank| *rank = (*rank).max(1));
            let moves = Moves { fixed: u.arbitrary()?, shift: u.arbitrary()? };
            let kept = u.int_in_range(0..=moves.fixed)?;
            let last: u8 = u.arbitrary()?;
            let lower_at = |level| {
                let (mut symbols, mut escapes) = (ranks.clone(), vec![0; count + SLACK]);
                let escaped =
                    lower(level, moves, kept, last, &scales, count, &mut symbols, &mut escapes);
                escapes.truncate(escaped);
                symbols.truncate(count);
                (symbols, escapes)
            };
            let (mut symbols, mut escapes) = lower_at(level);
            assert_eq!((symbols.clone(), escapes.clone()), lower_at(Level::Scalar));
            for ((&rank, &scale), &symbol) in ranks.iter().zip(&scales).zip(&symbols) {
                let moved = rank.wrapping_sub(scale & STEPS).wrapping_sub(moves.shift);
                let wanted = match rank <= moves.fixed {
                    true if rank <= kept => rank,
                    false if moved > moves.fixed && moved <= last => moved,
                    _ => 0,
                };
                assert_eq!(symbol, wanted);
            }
            let escaped = escapes.len();
            escapes.resize(escaped + SLACK, 0);
            symbols.resize(whole, 1);
            assert_eq!(raise(level, moves, &scales, &escapes, 0, &mut symbols), escaped);
            assert_eq!(symbols[..count], ranks[..count]);
            Ok(())
        });
    }

    fn any_symbols_give_the_same_ranks_or_are_found_to_want_more(level: Level) {
        arbtest::arbtest(|u| {
            let groups = u.int_in_range(0..=5)?;
            let (mut symbols, mut scales) = (vec![0; groups * GROUP], vec![0; groups * GROUP]);
            u.fill_buffer(&mut symbols)?;
            u.fill_buffer(&mut scales)?;
            let moves = Moves { fixed: u.arbitrary()?, shift: u.arbitrary()? };
            let has = u.int_in_range(0..=groups * GROUP)?;
            let escapes: Vec<u8> = (0..has + SLACK).map(|i| i.to_le_bytes()[0] | 1).collect();
            let raise_at = |level| {
                let mut ranks = symbols.clone();
                let used = raise(level, moves, &scales, &escapes, 0, &mut ranks);
                (used.min(has + 1), (used <= has).then_some(ranks))
            };
            assert_eq!(raise_at(level), raise_at(Level::Scalar));
            Ok(())
        });
    }

    at_each_level!(raise_undoes_lower, any_symbols_give_the_same_ranks_or_are_found_to_want_more,);
}
