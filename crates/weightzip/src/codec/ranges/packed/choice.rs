//! How an encoder sees a block's words. It tries what there is with some of each row, which tells as much as all.

use super::planes::{BEFORE, Form, LEAST_SIZE, Lanes, MIRRORED, PLACES, WORD};
use super::{LEAST_ROW, MAX_GROUP, SYMBOLS, TABLES};
use crate::codec::log2::entropy;
use crate::codec::ranges::header::width;
use crate::codec::ranges::shares::CODE_BITS;
use crate::codec::ranges::{buckets, symbols};
use std::ops::Range;
use weightzip_kernels::level::Level;

/// Words of a sample, about.
const SAMPLE: usize = 8 << 10;

/// Bytes of a run that tells whether words are integers, and such runs.
const RUN: usize = 4 << 10;
const RUNS: usize = 4;

/// Channels of groups that share scales, the most frequent first; the last ones share none.
const GROUPS: [u16; 4] = [128, 64, 32, MAX_GROUP];

/// The size of a usual channel: most are no larger than half as much more.
const USUAL_SIZE: u64 = 11;

/// How often each symbol occurs with each key.
pub(super) type ByKey = [[u32; SYMBOLS]; 256];

/// How often each integer of four bits occurs.
fn integers(data: &[u8]) -> [u32; SYMBOLS] {
    let (bytes, mut counts) = (symbols::histogram(data), [0; SYMBOLS]);
    for (byte, &count) in bytes.iter().enumerate() {
        counts[byte % SYMBOLS] += count;
        counts[byte / SYMBOLS] += count;
    }
    counts
}

/// Whether a sample says that words may be integers of four bits: some are more frequent than others, and `len`, what another
/// coding makes of the block, is not much less than that alone would be.
pub(in crate::codec) fn suits(row: usize, data: &[u8], len: usize) -> bool {
    let between = data.len() / RUNS;
    if row < LEAST_ROW || row > data.len() / WORD || between < RUN {
        return false;
    }
    let mut counts = [0; SYMBOLS];
    for run in data.chunks_exact(between).take(RUNS) {
        let of_run = integers(&run[(between - RUN) / 2..][..RUN]);
        counts.iter_mut().zip(of_run).for_each(|(all, n)| *all += n);
    }
    let (bits, all) = (entropy(&counts) >> 8, (8 * RUN * RUNS) as u64);
    let len = len as u64 * all / data.len() as u64;
    bits < all - all / 64 && bits - bits / 16 < len
}

/// The words of a row that are looked at, if a block has so many.
fn columns(row: usize, rows: usize) -> Range<usize> {
    let sampled = (SAMPLE / rows.max(1)).clamp(LEAST_ROW, row);
    let first = (row - sampled) / 2;
    first..first + sampled
}

/// How a block is seen, and which bits of its channels' codes are worth it.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    pub(super) form: Form,
    bits: u8,
}

impl Choice {
    /// What takes the least.
    pub(super) fn of(level: Level, row: usize, data: &[u8], lanes: &mut Lanes) -> Self {
        let columns = columns(row, data.len().div_ceil(WORD * row));
        let mut sample = Vec::with_capacity(data.len() / row * columns.len());
        for row in data.chunks_exact(WORD * row) {
            sample.extend_from_slice(&row[WORD * columns.start..WORD * columns.end]);
        }
        let found = Self::of_sample(level, row, (&sample, columns.len()), lanes);
        Self { form: Form { row, ..found.form }, ..found }
    }

    /// What takes the least, by some words of each row.
    pub(super) fn of_sample(
        level: Level,
        row: usize,
        (sample, sampled): (&[u8], usize),
        lanes: &mut Lanes,
    ) -> Self {
        let (centre, prior) = around(&integers(sample));
        let form =
            Form { row: sampled, across: false, leans: false, group: GROUPS[0], centre, prior };
        let mut best = (u64::MAX, Self { form, bits: 0 });
        let mut consider = |choice: Self| {
            let cost = choice.cost(level, row, sample, lanes, entropy);
            if cost < best.0 {
                best = (cost, choice);
            }
            best.1
        };
        let mut found = Self { form, bits: 0 };
        for (across, leans) in [(false, false), (true, false), (false, true), (true, true)] {
            let all = if leans { MIRRORED - 1 } else { 2 * MIRRORED - 1 };
            for bits in [0, all] {
                found = consider(Self { form: Form { across, leans, ..form }, bits });
            }
        }
        for group in &GROUPS[1..] {
            found = consider(Self { form: Form { group: *group, ..found.form }, ..found });
        }
        if found.bits >= MIRRORED {
            found = consider(Self { bits: MIRRORED - 1, ..found });
        }
        found
    }

    /// Bits that the symbols of a sample take, by what those of a table do, and its share of the codes of channels, where a
    /// bit counts 256.
    pub(super) fn cost(
        &self,
        level: Level,
        row: usize,
        sample: &[u8],
        lanes: &mut Lanes,
        of_table: impl Fn(&[u32]) -> u64,
    ) -> u64 {
        let (codes, mut by_key) = (self.codes(sample), [[0; SYMBOLS]; 256]);
        lanes.spread(level, &self.form, &codes, sample, |keys, symbols| {
            count(&mut by_key, keys, symbols)
        });
        let bounds = buckets::bounds(&by_key, SYMBOLS, TABLES);
        let tables = buckets::count(&bounds);
        let of_symbols: u64 =
            buckets::counts(&bounds, &by_key).iter().map(|counts| of_table(counts)).sum();
        let of_tables = (tables * SYMBOLS) as u64 * u64::from(CODE_BITS);
        let of_codes = codes.len() as u64 * u64::from(width(&codes));
        of_symbols + ((of_tables + of_codes) * self.form.row as u64 / row as u64) * 256
    }

    /// The code of each channel: how large its integers are beside those of others, and whether most are below the centre.
    pub(super) fn codes(&self, data: &[u8]) -> Vec<u8> {
        if self.bits == 0 {
            return Vec::new();
        }
        let mut channels = vec![Channel::default(); self.form.channels(data.len())];
        for (row, words) in data.chunks(self.form.row * WORD).enumerate() {
            for place in 0..PLACES {
                channels[self.form.channel(row, place)].add(words, place, self.form.centre);
            }
        }
        let (distance, count) = channels
            .iter()
            .fold((0, 0), |(d, n), channel| (d + channel.distance, n + channel.count));
        channels.iter().map(|channel| channel.code(distance, count) & self.bits).collect()
    }
}

/// How often each symbol occurs with each key.
pub(super) fn count(by_key: &mut ByKey, keys: &[u8], symbols: &[u8]) {
    for (&key, &symbol) in keys.iter().zip(symbols) {
        by_key[usize::from(key)][usize::from(symbol) % SYMBOLS] += 1;
    }
}

/// Twice the mean of integers that occur so often, and the distances of sixteen usual ones.
fn around(counts: &[u32; SYMBOLS]) -> (u8, u8) {
    let of_each = |weight: &dyn Fn(u64) -> u64| -> u64 {
        (0u64..).zip(counts).map(|(integer, &n)| weight(integer) * u64::from(n)).sum()
    };
    let count = of_each(&|_| 1).max(1);
    let centre = (4 * of_each(&|integer| integer) + count) / (2 * count);
    let distances = of_each(&|integer| (2 * integer).abs_diff(centre));
    let prior = (u64::from(BEFORE) * distances + count / 2) / count;
    (u8::try_from(centre).unwrap_or(u8::MAX), u8::try_from(prior).unwrap_or(u8::MAX))
}

/// The integers of a channel.
#[derive(Clone, Copy, Default)]
struct Channel {
    count: u64,
    distance: u64,
    lean: i64,
}

impl Channel {
    fn add(&mut self, words: &[u8], place: usize, centre: u8) {
        let (mut lean, mut distance) = (0i32, 0u32);
        for word in words.as_chunks().0 {
            let integer = (u32::from_le_bytes(*word) >> (4 * place) & 15).cast_signed();
            lean += 2 * integer - i32::from(centre);
            distance += (2 * integer - i32::from(centre)).unsigned_abs();
        }
        self.count += (words.len() / WORD) as u64;
        self.distance += u64::from(distance);
        self.lean += i64::from(lean);
    }

    /// `distance` and `count` are those of all channels.
    fn code(&self, distance: u64, count: u64) -> u8 {
        let usual = (distance * self.count).max(1);
        let size = (2 * USUAL_SIZE * self.distance * count + usual) / (2 * usual);
        let larger = size.saturating_sub(LEAST_SIZE.into()).min(u64::from(MIRRORED) - 1);
        larger.to_le_bytes()[0] | if self.lean < 0 { MIRRORED } else { 0 }
    }
}
