//! Peaks: symbols that nearly each group has once, such as those of the weights by which a block was scaled. Where they are
//! is coded apart, which takes less than to say of each symbol whether it is one.

use super::bad;
use crate::codec::log2::{entropy, n_log_n};
use crate::error::Result;
use std::cmp::Ordering;

/// Symbols of a group, which is a part of a record: the first that suits is taken.
const GROUPS: [usize; 2] = [32, 16];

/// The largest group: places of two kinds of symbols, and none, fit a byte.
const MAX_GROUP: u8 = 64;

/// Flags: symbols have a peak, or two.
const PEAK: u8 = 2;
const SECOND: u8 = 4;
const BOTH: u8 = PEAK | SECOND;

/// Groups of a sample.
const SAMPLE: usize = 2048;

/// Of how many bits one must be saved.
const LITTLE: u64 = 512;

/// Bits that the places of a block take besides.
pub(super) const FIXED: u64 = 192 * 8;

/// The symbols of a peak: those of a group that has one are either of these. They may be the same.
type Peak = [u8; 2];

/// What nearly each group of so many symbols has once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peaks {
    group: u8,
    first: Peak,
    second: Option<Peak>,
}

impl Peaks {
    /// What saves most of the symbols of records that have `count` each, if that isn't little, and more than so many bits.
    pub(super) fn of(count: usize, symbols: &[u8], more_than: u64) -> Option<Self> {
        let group = GROUPS.into_iter().find(|group| count.is_multiple_of(*group))?;
        let mut sample = Sample::of(group, symbols);
        let sampled = (sample.symbols.len() as u64).max(1);
        let little = entropy(&sample.counts()) / LITTLE;
        let little = little + (more_than << 8) * sampled / symbols.len().max(1) as u64;
        let mut next = || {
            let (peak, _) = sample.best().filter(|(_, saved)| *saved > little)?;
            sample.take(peak);
            Some(peak)
        };
        let first = next()?;
        Some(Self { group: group.to_le_bytes()[0], first, second: next() })
    }

    /// Says it in a preamble's own bytes, which have flags.
    pub(super) fn to_wire(self, own: &mut [u8]) {
        let second = self.second.unwrap_or_default();
        own[0] |= PEAK | if self.second.is_some() { SECOND } else { 0 };
        own[1] = self.group;
        own[8..10].copy_from_slice(&self.first);
        own[10..12].copy_from_slice(&second);
    }

    pub(super) fn from_wire(
        flags: u8,
        group: u8,
        [a, b, c, d]: [u8; 4],
        count: usize,
    ) -> Result<Option<Self>> {
        let second = match flags {
            0 if [group, a, b, c, d] == [0; 5] => return Ok(None),
            PEAK if [c, d] == [0; 2] => None,
            BOTH => Some([c, d]),
            _ => return Err(bad("has unknown flags")),
        };
        let fits = (1..=MAX_GROUP).contains(&group) && count.is_multiple_of(group.into());
        match fits {
            true => Ok(Some(Self { group, first: [a, b], second })),
            false => Err(bad("has peaks of impossible groups")),
        }
    }

    fn each(&self) -> impl Iterator<Item = Peak> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// The byte that says that a group has no peak; others are its place, and, if it is the peak's second symbol, the
    /// group's length more.
    fn none(&self) -> u8 {
        2 * self.group
    }
}

/// How many peaks a group may have.
pub(super) fn count(peaks: Option<Peaks>) -> usize {
    peaks.map_or(0, |peaks| peaks.each().count())
}

/// Where peaks are: a byte per group, of each peak; and among all symbols, in order.
#[derive(Default)]
pub(super) struct Places {
    of_peaks: [Vec<u8>; 2],
    known: Vec<u32>,
}

impl Places {
    pub(super) fn known(&self) -> &[u32] {
        &self.known
    }

    /// The bytes of each peak.
    pub(super) fn of(&self, peaks: Option<Peaks>) -> impl Iterator<Item = &[u8]> {
        self.of_peaks.iter().map(Vec::as_slice).take(count(peaks))
    }

    /// The same, to be filled, if there are so many symbols.
    pub(super) fn room(
        &mut self,
        peaks: Option<Peaks>,
        symbols: usize,
    ) -> impl Iterator<Item = &mut [u8]> {
        let groups = peaks.map_or(0, |peaks| symbols / usize::from(peaks.group));
        self.of_peaks.iter_mut().take(count(peaks)).map(move |places| {
            places.resize(groups, 0);
            places.as_mut_slice()
        })
    }

    /// Finds the peaks of each group.
    pub(super) fn find(&mut self, peaks: Option<Peaks>, symbols: &[u8]) -> Result<()> {
        self.of_peaks.iter_mut().for_each(Vec::clear);
        if let Some(peaks) = peaks {
            for group in symbols.chunks_exact(peaks.group.into()) {
                let mut other = usize::MAX;
                for ([a, b], places) in peaks.each().zip(&mut self.of_peaks) {
                    let is_one = |at: &usize| *at != other && [a, b].contains(&group[*at]);
                    places.push((0..group.len()).find(is_one).map_or(peaks.none(), |at| {
                        other = at;
                        at.to_le_bytes()[0] + if group[at] == a { 0 } else { peaks.group }
                    }));
                }
            }
        }
        self.settle(peaks)
    }

    /// Makes of where peaks are in their groups where they are among all symbols.
    pub(super) fn settle(&mut self, peaks: Option<Peaks>) -> Result<()> {
        self.known.clear();
        let Some(peaks) = peaks else { return Ok(()) };
        for places in self.of_peaks.iter().take(peaks.each().count()) {
            for (at, &place) in (0u32..).step_by(peaks.group.into()).zip(places) {
                match place.cmp(&peaks.none()) {
                    Ordering::Less => self.known.push(at + u32::from(place % peaks.group)),
                    Ordering::Equal => {}
                    Ordering::Greater => return Err(bad("has a peak that is in no place")),
                }
            }
        }
        // Two runs, which this merges.
        self.known.sort();
        Ok(())
    }

    /// Puts the peaks in their places.
    pub(super) fn apply(&self, peaks: Option<Peaks>, symbols: &mut [u8]) {
        let Some(peaks) = peaks else { return };
        for (peak, places) in peaks.each().zip(&self.of_peaks) {
            for (group, &place) in symbols.chunks_exact_mut(peaks.group.into()).zip(places) {
                if place < peaks.none() {
                    let at = usize::from(place % peaks.group);
                    group[at] = peak[usize::from(place / peaks.group)];
                }
            }
        }
    }
}

/// Symbols of some groups.
struct Sample {
    group: usize,
    symbols: Vec<u16>,
}

/// What stands for a symbol that was taken.
const TAKEN: u16 = 256;

impl Sample {
    fn of(group: usize, symbols: &[u8]) -> Self {
        let step = (symbols.len() / group).div_ceil(SAMPLE).max(1);
        let groups = symbols.chunks_exact(group).step_by(step);
        Self { group, symbols: groups.flatten().map(|&symbol| symbol.into()).collect() }
    }

    fn groups(&self) -> impl Iterator<Item = &[u16]> {
        self.symbols.chunks_exact(self.group)
    }

    fn counts(&self) -> [u32; 256] {
        let mut counts = [0; 257];
        self.symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
        let [counts @ .., _taken] = counts;
        counts
    }

    /// How many groups have each symbol, of those that don't have this one.
    fn groups_with_each(&self, without: u16) -> [u32; 256] {
        let (mut with, mut last) = ([0; 257], [usize::MAX; 257]);
        for (number, group) in self.groups().enumerate().filter(|(_, g)| !g.contains(&without)) {
            for symbol in group.iter().map(|&symbol| usize::from(symbol)) {
                with[symbol] += u32::from(last[symbol] != number);
                last[symbol] = number;
            }
        }
        let [with @ .., _taken] = with;
        with
    }

    /// The peak that saves most, and how many bits, where one counts 256.
    fn best(&self) -> Option<(Peak, u64)> {
        let counts = self.counts();
        let all = counts.iter().sum();
        let with = self.groups_with_each(u16::MAX);
        let of = |counts: &[u32; 256], symbol: u8| counts[usize::from(symbol)];
        let saved = |a: u8, (b, of_b): (u8, u32)| {
            self.saved([of(&counts, a), of(&counts, b)], all, [of(&with, a), of_b])
        };
        let every = 0..=u8::MAX;
        let one = every.clone().map(|a| ([a, a], saved(a, (a, 0))));
        let one = one.max_by_key(|(_, saved)| *saved).filter(|(_, saved)| *saved > 0)?;
        let ([a, _], _) = one;
        let more = self.groups_with_each(a.into());
        let two = every.map(|b| ([a, b], saved(a, (b, of(&more, b)))));
        // Any symbol is in some of few groups.
        two.max_by_key(|(_, saved)| *saved)
            .filter(|(_, saved)| *saved > one.1 + one.1 / 8)
            .or(Some(one))
    }

    /// Bits that are saved if so many groups have each symbol of a peak, of which there are so many, and of all.
    fn saved(&self, counts: [u32; 2], all: u32, groups: [u32; 2]) -> u64 {
        let [a, b] = groups;
        let there = u32::try_from(self.groups().count()).unwrap_or(u32::MAX);
        let places = entropy(&[a, b, there - a - b]);
        let places = places + (u64::from((a + b) * self.group.ilog2()) << 8);
        let less = |(n, of): (u32, u32)| n_log_n(n) - n_log_n(n - of);
        let symbols: u64 = counts.into_iter().zip(groups).map(less).sum();
        less((all, a + b)).saturating_sub(symbols + places)
    }

    fn take(&mut self, peak: Peak) {
        for group in self.symbols.chunks_exact_mut(self.group) {
            let is_one = |symbol: &&mut u16| peak.iter().any(|s| u16::from(*s) == **symbol);
            group.iter_mut().find(is_one).into_iter().for_each(|symbol| *symbol = TAKEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of 32 numbers below 100, and what `change` makes of each.
    fn groups(count: usize, change: impl Fn(usize, &mut [u8])) -> Vec<u8> {
        let mut state = 1u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0] % 100
        };
        let mut symbols: Vec<u8> = (0..32 * count).map(next).collect();
        symbols.chunks_exact_mut(32).enumerate().for_each(|(i, group)| change(i, group));
        symbols
    }

    fn found(symbols: &[u8]) -> Option<(Peak, Option<Peak>)> {
        Peaks::of(32, symbols, FIXED).map(|peaks| (peaks.first, peaks.second))
    }

    #[test]
    fn what_each_group_has_once_is_found() {
        assert_eq!(found(&groups(9000, |_, _| ())), None);
        assert_eq!(found(&groups(9000, |i, group| group[i % 31] = 200)), Some(([200; 2], None)));
        let both = groups(9000, |i, group| group[i % 31] = [129, 127][i % 3 % 2]);
        assert_eq!(found(&both), Some(([129, 127], None)));
        let ends = |i: usize, group: &mut [u8]| {
            (group[i % 31], group[i % 31 + 1]) = (200, if i.is_multiple_of(6) { 200 } else { 210 });
        };
        assert_eq!(found(&groups(9000, ends)), Some(([210; 2], Some([200; 2]))));
        assert_eq!(Peaks::of(24, &both, FIXED), None);
        assert_eq!(Peaks::of(16, &both[..16], FIXED), None);
    }

    #[test]
    fn peaks_come_back() {
        let symbols = groups(50, |i, group| {
            group[i % 31] = [129, 127][i % 2];
            group[i * 7 % 32] = if i % 6 == 0 { 50 } else { 210 };
        });
        let peaks = Peaks { group: 32, first: [129, 127], second: Some([210; 2]) };
        let mut own = [1; 12];
        peaks.to_wire(&mut own);
        let [flags, group, _, _, _, _, _, _, symbols_of_peaks @ ..] = own;
        let read = |group, count| Peaks::from_wire(flags & !1, group, symbols_of_peaks, count);
        assert_eq!(read(group, 64).unwrap(), Some(peaks));
        assert!(read(0, 64).is_err() && read(32, 48).is_err() && read(128, 256).is_err());
        assert!(Peaks::from_wire(PEAK, 32, symbols_of_peaks, 64).is_err());
        assert_eq!(Peaks::from_wire(0, 0, [0; 4], 64).unwrap(), None);

        let (peaks, mut places) = (Some(peaks), Places::default());
        places.find(peaks, &symbols).unwrap();
        assert!(places.known.is_sorted_by(|a, b| a < b) && places.known.len() > 80);
        let mut back = symbols.clone();
        places.known.iter().for_each(|&at| back[at as usize] = 0);
        assert!(back != symbols);
        places.apply(peaks, &mut back);
        assert_eq!(back, symbols);
        places.of_peaks[1][3] = 65;
        assert!(places.settle(peaks).is_err());
        places.find(None, &symbols).unwrap();
        assert!(places.known().is_empty() && places.of(None).next().is_none());
    }
}
