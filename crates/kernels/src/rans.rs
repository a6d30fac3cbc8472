//! Interleaved range coding (spec: "Ranges"; rANS, arXiv 1311.2540): 64 lanes, each a state of 32
//! bits that gives one of 64 neighbouring symbols, and share one sequence of 16-bit words.
//!
//! A state `x` is in `LOW..2^32` between symbols. Its low 10 bits are a slot; a symbol owns as many
//! of the 1024 slots as its share in a table says, and a context says which of the tables it is.

use crate::simd::{GROUP, Simd, kernel};

/// Slots of a table are numbers of so many bits.
pub const SLOT_BITS: u32 = 10;

/// Slots of a table.
pub const SLOTS: u16 = 1 << SLOT_BITS;

/// Most tables.
pub const MAX_TABLES: usize = 8;

/// Entries of so many tables.
const ENTRIES: usize = MAX_TABLES << SLOT_BITS;

/// How many tables there are: the low bits of a context choose one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tables {
    /// By two bits.
    #[default]
    Four,
    /// By three bits.
    Eight,
}

impl Tables {
    /// The bits of a context that choose a table: always one that there is.
    fn mask(self) -> u8 {
        match self {
            Self::Four => 3,
            Self::Eight => 7,
        }
    }

    /// The number.
    pub fn count(self) -> usize {
        usize::from(self.mask()) + 1
    }
}

/// The smallest state, which encoding starts and decoding ends with.
pub const LOW: u32 = 1 << 16;

/// What a decoder looks up: an entry per slot.
#[derive(Clone, Debug)]
pub struct Slots {
    pub(crate) entries: Box<[Slot; ENTRIES]>,
    tables: Tables,
}

/// Bits 0 to 7: symbol; 8 to 19: its share; 20 to 31: the slot's place in the share.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Slot(u32);

impl Slot {
    #[inline(always)]
    pub(crate) fn symbol(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
    #[inline(always)]
    pub(crate) fn share(self) -> u32 {
        self.0 >> 8 & 0xFFF
    }
    #[inline(always)]
    pub(crate) fn offset(self) -> u32 {
        self.0 >> 20
    }
}

impl Slots {
    /// Tables that give symbol 0 and nothing else.
    pub fn new(tables: Tables) -> Self {
        let entries = vec![Slot(0); ENTRIES].into_boxed_slice();
        let entries = entries.try_into().unwrap_or_else(|_| unreachable!());
        let mut slots = Self { entries, tables };
        (0..MAX_TABLES).for_each(|table| slots.set(table, &[SLOTS]));
        slots
    }

    /// The bits of a context that choose a table.
    #[inline(always)]
    pub(crate) fn mask(&self) -> u8 {
        self.tables.mask()
    }

    /// Sets a table to the shares of the symbols from 0 on.
    ///
    /// # Panics
    /// If they don't add up to [`SLOTS`].
    pub fn set(&mut self, table: usize, shares: &[u16]) {
        let mut rest = &mut self.entries[table << SLOT_BITS..][..SLOTS.into()];
        for (symbol, &share) in (0u32..).zip(shares) {
            let (own, others) = rest.split_at_mut(share.into());
            for (offset, entry) in (0u32..).zip(own) {
                *entry = Slot(offset << 20 | u32::from(share) << 8 | symbol);
            }
            rest = others;
        }
        assert!(rest.is_empty(), "shares fill the table");
    }

    #[inline(always)]
    pub(crate) fn find(&self, context: u8, state: u32) -> Slot {
        self.entries[usize::from(context & self.mask()) << SLOT_BITS
            | (state as usize & (usize::from(SLOTS) - 1))]
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new(Tables::default())
    }
}

/// What an encoder looks up: an entry per symbol.
#[derive(Clone, Debug)]
pub struct Shares {
    pub(crate) entries: Box<[Share; MAX_TABLES * 256]>,
    tables: Tables,
}

/// A symbol's share.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Share {
    /// 2^32 divided by the width, rounded down, less one if the width is one.
    inverse: u32,
    /// Bits 0 to 15: width; 16 to 31: first slot.
    place: u32,
}

impl Share {
    #[inline(always)]
    pub(crate) fn width(self) -> u32 {
        self.place & 0xFFFF
    }

    /// The state that gives the symbol and then `x`.
    #[inline(always)]
    pub(crate) fn next_state(self, x: u32) -> u32 {
        let width = self.width();
        // One too small at most.
        #[allow(clippy::cast_possible_truncation, reason = "32 bits")]
        let mut quotient = ((u64::from(x) * u64::from(self.inverse)) >> 32) as u32;
        let mut rest = x.wrapping_sub(quotient.wrapping_mul(width));
        if rest >= width {
            quotient = quotient.wrapping_add(1);
            rest = rest.wrapping_sub(width);
        }
        (quotient << SLOT_BITS).wrapping_add(self.place >> 16).wrapping_add(rest)
    }
}

impl Shares {
    /// No symbol has a share.
    pub fn new(tables: Tables) -> Self {
        Self { entries: Box::new([Share::default(); MAX_TABLES * 256]), tables }
    }

    /// The bits of a context that choose a table.
    #[inline(always)]
    pub(crate) fn mask(&self) -> u8 {
        self.tables.mask()
    }

    /// Sets a table to the shares of the symbols from 0 on; others must not be coded with it.
    ///
    /// # Panics
    /// If there are more than 256.
    pub fn set(&mut self, table: usize, shares: &[u16]) {
        let entries = &mut self.entries[table * 256..][..256];
        entries[shares.len()..].fill(Share::default());
        let mut start = 0;
        for (entry, &share) in entries.iter_mut().zip(shares) {
            let width = u32::from(share);
            let inverse = (1u64 << 32).checked_div(width.into()).unwrap_or(0);
            let inverse = u32::try_from(inverse).unwrap_or(u32::MAX);
            *entry = Share { inverse, place: start << 16 | width };
            start += width;
        }
    }

    #[inline(always)]
    pub(crate) fn of(&self, context: u8, symbol: u8) -> Share {
        self.entries[usize::from(context & self.mask()) << 8 | usize::from(symbol)]
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self::new(Tables::default())
    }
}

kernel! {
    /// Takes a symbol per context, whole groups of them, out of `words` from their start on, and
    /// returns how many bytes that took; `None` if there are too few.
    ///
    /// # Panics
    /// If there are fewer contexts than `symbols`, or these are not whole groups.
    pub fn pop(
        slots: &Slots,
        contexts: &[u8],
        states: &mut [u32; GROUP],
        words: &[u8],
        symbols: &mut [u8],
    ) -> Option<usize> = pop_at
}

#[inline(always)]
fn pop_at<S: Simd>(
    simd: S,
    slots: &Slots,
    contexts: &[u8],
    states: &mut [u32; GROUP],
    words: &[u8],
    symbols: &mut [u8],
) -> Option<usize> {
    let (mut lanes, mut at) = (simd.load_lanes(states), 0);
    let (contexts, _) = contexts.as_chunks::<GROUP>();
    let (symbols, rest) = symbols.as_chunks_mut::<GROUP>();
    assert!(rest.is_empty() && contexts.len() >= symbols.len());
    for (contexts, symbols) in contexts.iter().zip(symbols) {
        let used = match words[at..].first_chunk() {
            Some(words) => {
                let (found, used) = simd.pop(&mut lanes, slots, contexts, words);
                simd.store(found, symbols);
                used
            }
            None => {
                let (mut last, left) = ([0; 2 * GROUP], &words[at..]);
                last[..left.len()].copy_from_slice(left);
                let (found, used) = simd.pop(&mut lanes, slots, contexts, &last);
                simd.store(found, symbols);
                if 2 * used > left.len() {
                    return None;
                }
                used
            }
        };
        at += 2 * used;
    }
    simd.store_lanes(lanes, states);
    Some(at)
}

kernel! {
    /// Undoes [`pop`]: puts symbols, whole groups of them, before what is in `words` from `at` on,
    /// and returns where they start.
    ///
    /// # Panics
    /// If there are fewer contexts than `symbols`, these are not whole groups, or there are
    /// fewer than two bytes per symbol, and 126, before `at`.
    pub fn push(
        shares: &Shares,
        contexts: &[u8],
        symbols: &[u8],
        states: &mut [u32; GROUP],
        words: &mut [u8],
        at: usize,
    ) -> usize = push_at
}

#[inline(always)]
fn push_at<S: Simd>(
    simd: S,
    shares: &Shares,
    contexts: &[u8],
    symbols: &[u8],
    states: &mut [u32; GROUP],
    words: &mut [u8],
    mut at: usize,
) -> usize {
    let mut lanes = simd.load_lanes(states);
    let (contexts, _) = contexts.as_chunks::<GROUP>();
    let (symbols, rest) = symbols.as_chunks::<GROUP>();
    assert!(rest.is_empty() && contexts.len() >= symbols.len());
    for (contexts, symbols) in contexts.iter().zip(symbols).rev() {
        let words = crate::strip::array_mut(words, at - 2 * GROUP);
        at -= 2 * simd.push(&mut lanes, shares, contexts, symbols, words);
    }
    simd.store_lanes(lanes, states);
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};
    use arbtest::arbitrary::{Result, Unstructured};

    /// Shares of any symbols, and the symbols that have one.
    fn any_shares(u: &mut Unstructured) -> Result<(Vec<u16>, Vec<u8>)> {
        let mut shares = vec![0u16; 256];
        let mut left = SLOTS;
        let mut symbols = Vec::new();
        let count = u.int_in_range(1..=256)?;
        for of_symbol in &mut shares[..count] {
            let share = if u.ratio(1, 9)? { u.int_in_range(0..=left)? } else { 1.min(left) };
            *of_symbol = share;
            left -= share;
        }
        let last = u.choose_index(256)?;
        shares[last] += left;
        symbols.extend((0..=255u8).filter(|&s| shares[usize::from(s)] > 0));
        Ok((shares, symbols))
    }

    fn pop_undoes_push(level: Level) {
        arbtest::arbtest(|u| {
            let tables = *u.choose(&[Tables::Four, Tables::Eight])?;
            let (mut slots, mut shares) = (Slots::new(tables), Shares::new(tables));
            let mut used = Vec::new();
            for table in 0..tables.count() {
                let (widths, symbols) = any_shares(u)?;
                slots.set(table, &widths);
                shares.set(table, &widths);
                used.push(symbols);
            }
            let groups = u.int_in_range(0..=20)?;
            let (mut contexts, mut symbols) = (vec![0; groups * GROUP], vec![0; groups * GROUP]);
            u.fill_buffer(&mut contexts)?;
            u.fill_buffer(&mut symbols)?;
            for (context, symbol) in contexts.iter().zip(&mut symbols) {
                let used = &used[usize::from(*context) % used.len()];
                *symbol = used[usize::from(*symbol) % used.len()];
            }
            let push_at = |level| {
                let (mut words, mut states) = (vec![0; 2 * GROUP * (groups + 1)], [LOW; GROUP]);
                let end = words.len();
                let at = push(level, &shares, &contexts, &symbols, &mut states, &mut words, end);
                (words[at..].to_vec(), states)
            };
            let (words, states) = push_at(level);
            assert!((words.clone(), states) == push_at(Level::Scalar));
            let mut after = states;
            let mut out = vec![0xAA; symbols.len()];
            let taken = pop(level, &slots, &contexts, &mut after, &words, &mut out);
            assert_eq!(taken, Some(words.len()));
            assert!(out == symbols && after == [LOW; GROUP]);
            if let Some(short) = words.len().checked_sub(2) {
                let mut after = states;
                assert_eq!(
                    pop(level, &slots, &contexts, &mut after, &words[..short], &mut out),
                    None
                );
            }
            Ok(())
        });
    }

    fn any_words_give_the_same_symbols(level: Level) {
        arbtest::arbtest(|u| {
            let tables = *u.choose(&[Tables::Four, Tables::Eight])?;
            let mut slots = Slots::new(tables);
            for table in 0..tables.count() {
                slots.set(table, &any_shares(u)?.0);
            }
            let groups = u.int_in_range(0..=20)?;
            let (mut contexts, mut states) = (vec![0; groups * GROUP], [0; GROUP]);
            u.fill_buffer(&mut contexts)?;
            for state in &mut states {
                *state = u.arbitrary()?;
            }
            let words: Vec<u8> = u.arbitrary()?;
            let pop_at = |level| {
                let (mut states, mut out) = (states, vec![0xAA; groups * GROUP]);
                let used = pop(level, &slots, &contexts, &mut states, &words, &mut out);
                used.map(|used| (used, states, out))
            };
            assert!(pop_at(level) == pop_at(Level::Scalar));
            Ok(())
        });
    }

    at_each_level!(pop_undoes_push, any_words_give_the_same_symbols);
}
