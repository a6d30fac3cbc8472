//! Whether floats are on a grid, and which bits of their places on it are noise.

use crate::codec::log2::entropy;
use crate::codec::widths::Widths;
use crate::options::Level;
use weightzip_kernels::field::{EXPONENTS, Float};
use weightzip_kernels::grid::{self, FAR, Grid};
use weightzip_kernels::round;
use weightzip_kernels::strip::{self, packed_len};

/// Elements that are looked at, in so many groups.
const SAMPLE: usize = 512;
const GROUPS: usize = 16;

/// Most bytes that these have.
const MOST_BYTES: usize = 8 * SAMPLE;

/// Of so many elements, one may be off the grid.
const FEW: usize = 64;

/// By how many bits a block's grid may be finer than that of a sample: what is further off was not rounded.
const FINER: i32 = 8;

/// What a sample says.
#[derive(Clone, Copy, Debug)]
pub(in crate::codec) struct Choice {
    pub(super) grid: Grid,
    /// Bytes that the block takes as floats that are on no grid, about.
    pub(super) otherwise: usize,
}

impl Choice {
    /// `None` if a block's floats are on no grid that makes them smaller.
    pub(in crate::codec) fn of(
        float: Float,
        level: Level,
        base: &[u8],
        data: &[u8],
    ) -> Option<Self> {
        let elements = data.len() / float.bytes;
        if !round::takes(float) || elements < SAMPLE {
            return None;
        }
        let (mut room, mut of_base) = ([0; MOST_BYTES], [0; MOST_BYTES]);
        let sample = sampled(float, data, &mut room);
        let power = grid::finest(weightzip_kernels::level(), float, sample)?;
        let ordinary = Ordinary::of(float, sample);
        if !ordinary.is_beyond(power) || !grid::powers(float).contains(&power) {
            return None;
        }
        let (steps, far) = steps_of(float, power, sampled(float, base, &mut of_base), sample);
        if far > SAMPLE / FEW {
            return None;
        }
        let (low, bits) = match level {
            Level::Default => low_for_planes(float, &steps, far),
            Level::Max => low_for_ranges(float, &steps, far),
        };
        let ordinary = ordinary.bits();
        let otherwise = usize::try_from(ordinary >> 11).ok()? * elements / SAMPLE;
        (bits < ordinary).then_some(Self { grid: Grid { power, low }, otherwise })
    }

    /// The grid of all of a block, if so many bytes are far that the sample seems to have missed the finest multiples.
    pub(super) fn finer(&self, float: Float, data: &[u8], far: usize) -> Option<Grid> {
        if far <= data.len() / FEW {
            return None;
        }
        let Grid { power, low } = self.grid;
        let finest = grid::finest(weightzip_kernels::level(), float, data)?;
        let finer =
            (power - FINER..power).contains(&finest) && grid::powers(float).contains(&finest);
        let low = (low + power.abs_diff(finest)).min(grid::enough_low(float));
        finer.then_some(Grid { power: finest, low })
    }
}

/// Some elements of all parts of a block, or none of an empty one. Every block of floats is asked, so nothing is allocated.
fn sampled<'a>(float: Float, data: &[u8], room: &'a mut [u8; MOST_BYTES]) -> &'a [u8] {
    if data.is_empty() {
        return &[];
    }
    let group = SAMPLE / GROUPS * float.bytes;
    let last = data.len() / float.bytes - SAMPLE / GROUPS;
    for (i, to) in room.chunks_exact_mut(group).take(GROUPS).enumerate() {
        to.copy_from_slice(&data[last * i / (GROUPS - 1) * float.bytes..][..group]);
    }
    &room[..SAMPLE * float.bytes]
}

/// What a sample is as floats that are on no grid.
struct Ordinary {
    float: Float,
    exponents: [u16; SAMPLE],
    /// Low mantissa bits that are zero in all.
    dropped: u32,
}

impl Ordinary {
    fn of(float: Float, sample: &[u8]) -> Self {
        // Whole words, for elements are little-endian and fill them.
        let words = sample.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        let all = words.fold(0, |all, word| all | word);
        let all = match float.bytes {
            2 => all | all >> 16 | all >> 32 | all >> 48,
            4 => all | all >> 32,
            _ => all,
        };
        let dropped = all.trailing_zeros().min(float.mantissa_bits());
        let mut exponents = [0; SAMPLE];
        for (i, exponent) in exponents.iter_mut().enumerate() {
            *exponent = float.exponent(sample, i);
        }
        Self { float, exponents, dropped }
    }

    /// Whether at least half of the elements are so small that they would have bits below the grid.
    fn is_beyond(&self, power: i32) -> bool {
        let bits = (self.float.mantissa_bits() - self.dropped).cast_signed();
        let bias = (1 << (self.float.exponent_bits - 1)) - 1;
        let last = usize::try_from(power + bias + bits).unwrap_or(0);
        self.exponents.iter().filter(|exponent| usize::from(**exponent) < last).count()
            >= SAMPLE / 2
    }

    /// Bits that it takes in escape planes, where a bit counts 256.
    fn bits(&self) -> u64 {
        let mut counts = vec![0; EXPONENTS];
        self.exponents.iter().for_each(|exponent| counts[usize::from(*exponent)] += 1);
        let mut ranks: Vec<u32> = counts.into_iter().filter(|n| *n > 0).collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        let residual = u64::from(self.float.mantissa_bits() + 1 - self.dropped);
        ((SAMPLE as u64 * residual) << 8) + bits_in_planes(&ranks)
    }
}

fn bits_in_planes(counts: &[u32]) -> u64 {
    (Widths::best(counts).bytes as u64) << 11
}

/// The steps of a sample in ascending order, and how many elements have none.
fn steps_of(float: Float, power: i32, base: &[u8], sample: &[u8]) -> (Vec<u64>, usize) {
    let (mut symbols, mut planes) = ([0; SAMPLE], [0; 8 * SAMPLE]);
    // So many that a symbol has all that is above.
    let grid = Grid { power, low: grid::enough_low(float) };
    let mut packed = vec![0; packed_len(SAMPLE, grid.low)];
    let level = weightzip_kernels::level();
    let far = grid::split(level, float, grid, base, sample, &mut symbols, &mut packed);
    strip::unpack(level, &packed, SAMPLE, grid.low, &mut planes);
    let step = |(i, symbol): (usize, &u8)| {
        let low = planes.chunks(SAMPLE).rev().fold(0, |n, plane| n << 8 | u64::from(plane[i]));
        u64::from(*symbol) << grid.low | low
    };
    let near = symbols.iter().enumerate().filter(|(_, symbol)| **symbol < FAR);
    let mut steps: Vec<u64> = near.map(step).collect();
    steps.sort_unstable();
    (steps, far)
}

/// How often each symbol occurs if steps have so many low bits, without those that are far; and what
/// low bits and far elements take.
fn symbols(float: Float, steps: &[u64], far: usize, low: u32) -> (Vec<u32>, u64) {
    let mut counts = Vec::new();
    let mut near = 0;
    for step in steps.iter().take_while(|step| **step >> low < FAR.into()) {
        let symbol = usize::try_from(step >> low).unwrap_or(0);
        counts.resize(symbol + 1, 0);
        counts[symbol] += 1;
        near += 1;
    }
    let far = (far + steps.len() - near) as u64;
    // What is far has a symbol, too, one that takes long.
    let bits = SAMPLE as u64 * u64::from(low) + far * (8 * float.bytes as u64 + 16);
    (counts, bits << 8)
}

/// The bits of a step that half of a sample is below.
fn median_bits(steps: &[u64]) -> u32 {
    u64::BITS - steps.get(steps.len() / 2).map_or(64, |step| step.leading_zeros())
}

/// How many low bits are best if symbols go to escape planes, and what the sample takes then.
fn low_for_planes(float: Float, steps: &[u64], far: usize) -> (u32, u64) {
    let middle = median_bits(steps);
    let cost = |low: u32| {
        let (counts, bits) = symbols(float, steps, far, low);
        bits + bits_in_planes(&counts)
    };
    let tried = middle.saturating_sub(4)..=(middle + 1).min(grid::enough_low(float));
    tried.map(|low| (low, cost(low))).min_by_key(|(_, cost)| *cost).unwrap_or((0, u64::MAX))
}

/// The same if an entropy coder takes them: so that half of them are below 16, for that leaves room for large ones, and
/// smaller parts of a step are equally frequent.
fn low_for_ranges(float: Float, steps: &[u64], far: usize) -> (u32, u64) {
    let low = median_bits(steps).saturating_sub(4).min(grid::enough_low(float));
    let (counts, bits) = symbols(float, steps, far, low);
    (low, bits + entropy(&counts))
}
