//! How many low bits of its step an element stores as they are: so many that what is left is small,
//! by the base's exponent. Found from a sample.

use crate::codec::log2::entropy;
use crate::codec::widths::Widths;
use crate::options::Level as Effort;
use weightzip_kernels::difference::by_exponent;
use weightzip_kernels::difference::steps::{
    FAR, MAX_EXPONENTS, MAX_EXTRA, Shifts, classes, max_fixed,
};
use weightzip_kernels::field::{CHUNK, Float};
use weightzip_kernels::level::Level;

/// Classes of steps, four to the octave, and one for those that there are not.
const CLASSES: usize = 128;

/// The class of what has no step.
const NONE: usize = CLASSES - 1;

/// What of a sample may be below the floor: one in so many.
const BELOW: u32 = 500;

/// What of a sample may have fewer low bits than all are given: one in so many.
const FEWER: u32 = 50;

/// How often steps of each class occur with a base of an exponent.
type Counts = [u32; CLASSES];

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
pub(super) struct Scratch {
    exponents: Vec<u8>,
    classes: Vec<u8>,
    counts: Vec<Counts>,
}

/// What a sample says of a block.
pub(in crate::codec) struct Choice {
    pub(in crate::codec) shifts: Shifts,
    /// Bytes that steps take, about.
    pub(in crate::codec) bytes: usize,
    /// Bytes that range-coded differences take, about.
    pub(in crate::codec) ranged: usize,
}

impl Choice {
    /// Whether steps are the coding for the block, rather than range-coded differences.
    pub(in crate::codec) fn suits(&self, level: Effort) -> bool {
        // They may be a bit larger where speed counts.
        let more = match level {
            Effort::Default => self.ranged / 16,
            Effort::Max => 0,
        };
        self.bytes <= self.ranged + more
    }

    pub(super) fn of(
        scratch: &mut Scratch,
        level: Level,
        float: Float,
        base: &[u8],
        data: &[u8],
    ) -> Self {
        let elements = data.len() / float.bytes;
        let every = (elements / (16 * CHUNK)).clamp(1, 8);
        let size = CHUNK * float.bytes;
        let sample = || base.chunks(size).zip(data.chunks(size)).step_by(every);
        let sampled: usize = sample().map(|(_, data)| data.len() / float.bytes).sum();

        scratch.exponents.clear();
        let exponent = std::array::from_fn(|e| e.to_le_bytes()[0]);
        let mut of_exponent = [0u32; 256];
        for (base, _) in sample() {
            let start = scratch.exponents.len();
            let len = base.len() / float.bytes;
            scratch.exponents.resize(start + len.next_multiple_of(weightzip_kernels::GROUP), 0);
            by_exponent(level, float, base, &exponent, &mut scratch.exponents[start..]);
            scratch.exponents.truncate(start + len);
        }
        scratch.exponents.iter().for_each(|&e| of_exponent[usize::from(e)] += 1);
        let floor = floor(&of_exponent);

        scratch.classes.resize(scratch.classes.len().max(CHUNK), 0);
        scratch.counts.clear();
        scratch.counts.resize(256, [0; CLASSES]);
        for ((base, data), exponents) in sample().zip(scratch.exponents.chunks(CHUNK)) {
            let found = &mut scratch.classes[..exponents.len()];
            classes(level, float, floor, base, data, found);
            for (&exponent, &class) in exponents.iter().zip(found.iter()) {
                let row = &mut scratch.counts[usize::from(exponent.max(floor))];
                row[usize::from(class).min(NONE)] += 1;
            }
        }
        let rows = Rows::of(&scratch.counts, floor, float);
        let (shifts, bits) = rows.best(float);
        let all = |bits: u64| {
            let scaled = bits / 8 * elements as u64 / (sampled as u64).max(1);
            usize::try_from(scaled).unwrap_or(usize::MAX)
        };
        Self { shifts, bytes: all(bits), ranged: all(rows.ranged()) }
    }
}

/// The least exponent of which, and of lower ones, there are enough.
fn floor(of_exponent: &[u32; 256]) -> u8 {
    let few = of_exponent.iter().sum::<u32>() / BELOW;
    let mut sum = 0;
    let found = of_exponent.iter().position(|n| {
        sum += n;
        sum > few
    });
    found.unwrap_or(0).to_le_bytes()[0]
}

/// The exponents that occur from the floor on, lowest first, and how many low bits suit each.
struct Rows<'a> {
    float: Float,
    floor: u8,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    exponent: u8,
    counts: &'a Counts,
    all: u32,
    low_bits: u32,
}

/// The raw bits of a class's steps, and the least of them.
fn steps_of(class: usize) -> (u32, u32) {
    let class = u32::try_from(class).unwrap_or(0);
    match class.checked_sub(4).map(|_| class / 4 - 1) {
        Some(raw) => (raw, (4 + class % 4) << raw),
        None => (0, class),
    }
}

impl<'a> Rows<'a> {
    fn of(counts: &'a [Counts], floor: u8, float: Float) -> Self {
        let row = |(counts, exponent): (&'a Counts, u8)| {
            let all = counts.iter().sum();
            (all > 0).then(|| {
                let low_bits = low_bits(counts, all, float);
                Row { exponent, counts, all, low_bits }
            })
        };
        Self { float, floor, rows: counts.iter().zip(0..=u8::MAX).filter_map(row).collect() }
    }

    /// The best of what is a bit more or less for all exponents, and the bits that it takes.
    fn best(&self, float: Float) -> (Shifts, u64) {
        let choices = (-1i32..=1).map(|more| {
            let shifts = self.shifts(float, more);
            let bits = self.bits(&shifts);
            (shifts, bits)
        });
        let none = Shifts { floor: 0, fixed: 0, first: 0, extra: [0; MAX_EXPONENTS], used: 1 };
        choices.min_by_key(|(_, bits)| *bits).unwrap_or((none, u64::MAX))
    }

    fn shifts(&self, float: Float, more: i32) -> Shifts {
        let low_bits = |row: &Row<'_>| row.low_bits.saturating_add_signed(more);
        let mut of_low_bits = [0u32; 64];
        for row in &self.rows {
            of_low_bits[low_bits(row).min(63) as usize] += row.all;
        }
        let few = of_low_bits.iter().sum::<u32>() / FEWER;
        let (mut sum, mut fixed) = (0, 0);
        for (bits, n) in (0..).zip(of_low_bits) {
            sum += n;
            if sum > few {
                fixed = bits;
                break;
            }
        }
        let fixed = fixed.min(max_fixed(float));
        // What doesn't occur has as many as the next exponent that does.
        let (mut all, mut rows) = ([0; 256], self.rows.iter().rev().peekable());
        let mut of_next = 0;
        for (exponent, extra) in (0..=u8::MAX).zip(&mut all).rev() {
            if let Some(row) = rows.next_if(|row| row.exponent == exponent) {
                let more = low_bits(row).saturating_sub(fixed).min(MAX_EXTRA.into());
                of_next = more.to_le_bytes()[0];
            }
            *extra = of_next;
        }
        // Those behind the last one that differs from the next need none of their own.
        let highest = self.rows.last().map_or(0, |row| row.exponent);
        let same = |exponent: &u8| all[usize::from(*exponent)] == all[usize::from(highest)];
        let last = (0..=highest).rev().take_while(same).last().unwrap_or(highest).max(self.floor);
        let used = (usize::from(last - self.floor) + 1).min(MAX_EXPONENTS);
        let first = last - (used - 1).to_le_bytes()[0];
        let mut extra = [0; MAX_EXPONENTS];
        extra[..used].copy_from_slice(&all[usize::from(first)..][..used]);
        Shifts { floor: self.floor, fixed, first, extra, used }
    }

    /// Bits that the sample's steps take.
    fn bits(&self, shifts: &Shifts) -> u64 {
        let (mut ranks, mut bits) = ([0u32; 256], 0u64);
        for row in &self.rows {
            let at = usize::from(row.exponent.saturating_sub(shifts.first)).min(shifts.used - 1);
            let low_bits = shifts.fixed + u32::from(shifts.extra[at]);
            bits += u64::from(row.all) * u64::from(low_bits);
            for (class, &n) in row.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
                if class == NONE {
                    ranks[usize::from(FAR)] += n;
                    continue;
                }
                let (raw, step) = steps_of(class);
                // A class may be several ranks, or part of one.
                let several = raw.saturating_sub(low_bits).min(8);
                let rank = step >> low_bits;
                for more in 0..1 << several {
                    let rank = (rank + more).min(FAR.into()) as usize;
                    ranks[rank] += (n >> several) + u32::from(more < (n & ((1 << several) - 1)));
                }
            }
        }
        let used = ranks.iter().rposition(|&n| n > 0).map_or(0, |last| last + 1);
        let far = u64::from(ranks[usize::from(FAR)]) * self.float.bytes as u64;
        bits + (Widths::best(&ranks[..used]).bytes as u64 + far) * 8
    }

    /// Bits that the sample takes as range-coded differences, but for tables.
    fn ranged(&self) -> u64 {
        let of_row = |row: &Row<'_>| {
            let raw = |(class, &n): (usize, &u32)| u64::from(n) * u64::from(steps_of(class).0);
            let raw: u64 = row.counts[..NONE].iter().enumerate().map(raw).sum();
            // Half of a class goes each way, and what has no step is somewhere.
            let none = u64::from(row.counts[NONE]) * self.float.bytes as u64 * 8;
            raw + none + (entropy(row.counts) >> 8)
        };
        self.rows.iter().map(of_row).sum()
    }
}

/// The low bits with which steps of an exponent take least, if a rank takes a bit more than the one
/// before it.
fn low_bits(counts: &Counts, all: u32, float: Float) -> u32 {
    let mut sum = 0;
    let median = counts.iter().position(|n| {
        sum += n;
        sum > all / 2
    });
    let (_, median) = steps_of(median.unwrap_or(0));
    let about = (median + 1).ilog2();
    let most = max_fixed(float) + u32::from(MAX_EXTRA);
    let cost = |low_bits: &u32| {
        let of_class = |(class, &n): (usize, &u32)| {
            let (raw, step) = steps_of(class);
            let rank = (step + (1 << raw >> 1)) >> low_bits;
            let bits = match rank < FAR.into() && class != NONE {
                true => (rank + 1).min(12),
                false => 12 + 8 * u32::try_from(float.bytes).unwrap_or(0),
            };
            u64::from(n) * u64::from(low_bits + bits)
        };
        counts.iter().enumerate().filter(|(_, n)| **n > 0).map(of_class).sum::<u64>()
    };
    let tried = about.saturating_sub(2).min(most)..=(about + 1).min(most);
    tried.min_by_key(cost).unwrap_or(0)
}
