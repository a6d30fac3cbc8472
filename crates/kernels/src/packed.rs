//! Planes of integers of four bits, eight of which are packed to a word (spec: "Packed"). An integer's **distance** is how far
//! twice itself is from the centre, its **lean** the same with a sign; lanes have the sums of those they met.

use crate::simd::{Simd, kernel};

/// Bits of an integer.
const BITS: u32 = 4;
const MASK: u8 = 15;

/// The largest key that distances make; above are those of lanes that lean.
const NEAR: u8 = 126;
const LEANS: u8 = 128;

/// The table of what fills a group.
pub const FILLER: u8 = 7;

/// How keys follow from sums.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// What is added to a lane's distances.
    pub prior: u16,
    /// What that is multiplied with, a whole being 2^16.
    pub rate: u16,
    /// The sum from which on a lane leans.
    pub far: u16,
}

/// Which symbols stand for the integers on the other side of the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// None; leans are left alone.
    Never,
    /// All of a plane; leans are left alone.
    Always,
    /// Those of lanes whose lean is negative.
    Leaning,
}

/// What the integers of a plane have in common.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// Their place in a word, from the lowest bits on; less than 8.
    pub place: u32,
    /// Twice the number that they are around.
    pub centre: u8,
    /// Which are mirrored.
    pub mirror: Mirror,
}

kernel! {
    /// The key of each lane.
    pub fn keys(rates: Rates, distances: &[u16], leans: &[i16], keys: &mut [u8]) = keys_at
}

#[inline(always)]
fn keys_at<S: Simd>(_simd: S, rates: Rates, distances: &[u16], leans: &[i16], keys: &mut [u8]) {
    let Rates { prior, rate, far } = rates;
    for (key, &distance) in keys.iter_mut().zip(distances) {
        let all = u32::from(distance.saturating_add(prior));
        *key = ((all * u32::from(rate)) >> 16).min(NEAR.into()).to_le_bytes()[0];
    }
    for (key, &lean) in keys.iter_mut().zip(leans) {
        *key |= if lean.unsigned_abs() >= far { LEANS } else { 0 };
    }
}

kernel! {
    /// Turns keys into tables: how many bounds are not above each; what is left of `keys` fills a group.
    pub fn tables(bounds: &[u8; 6], lanes: usize, keys: &mut [u8]) = tables_at
}

#[inline(always)]
fn tables_at<S: Simd>(_simd: S, bounds: &[u8; 6], lanes: usize, keys: &mut [u8]) {
    let (keys, fill) = keys.split_at_mut(lanes);
    for key in keys {
        *key = bounds.iter().map(|bound| u8::from(bound <= key)).sum();
    }
    fill.fill(FILLER);
}

/// The integer on the other side of the centre.
#[inline(always)]
fn other_side(plane: Plane, integer: u8) -> u8 {
    plane.centre.wrapping_sub(integer) & MASK
}

/// How far twice the integer is above the centre.
#[inline(always)]
fn from_centre(plane: Plane, integer: u8) -> i16 {
    2 * i16::from(integer) - i16::from(plane.centre)
}

#[inline(always)]
fn add_distances(plane: Plane, integers: &[u8], distances: &mut [u16]) {
    for (distance, &integer) in distances.iter_mut().zip(integers) {
        *distance = distance.wrapping_add(from_centre(plane, integer).unsigned_abs());
    }
}

kernel! {
    /// Takes a plane of `words` as symbols, and adds it to its lanes' sums.
    pub fn spread(plane: Plane, words: &[u8], distances: &mut [u16], leans: &mut [i16], symbols: &mut [u8]) = spread_at
}

#[inline(always)]
fn spread_at<S: Simd>(
    _simd: S,
    plane: Plane,
    words: &[u8],
    distances: &mut [u16],
    leans: &mut [i16],
    symbols: &mut [u8],
) {
    let shift = BITS * (plane.place % 8);
    for (symbol, word) in symbols.iter_mut().zip(words.as_chunks().0) {
        *symbol = (u32::from_le_bytes(*word) >> shift).to_le_bytes()[0] & MASK;
    }
    add_distances(plane, symbols, distances);
    match plane.mirror {
        Mirror::Never => {}
        Mirror::Always => {
            symbols.iter_mut().for_each(|symbol| *symbol = other_side(plane, *symbol))
        }
        Mirror::Leaning => {
            for (symbol, lean) in symbols.iter_mut().zip(leans) {
                let (integer, before) = (*symbol, *lean);
                *lean = before.wrapping_add(from_centre(plane, integer));
                *symbol = if before < 0 { other_side(plane, integer) } else { integer };
            }
        }
    }
}

kernel! {
    /// Undoes [`spread`], in `words` whose bits are zero where the plane is; leaves the integers in `symbols`.
    pub fn collect(plane: Plane, symbols: &mut [u8], distances: &mut [u16], leans: &mut [i16], words: &mut [u8]) = collect_at
}

#[inline(always)]
fn collect_at<S: Simd>(
    _simd: S,
    plane: Plane,
    symbols: &mut [u8],
    distances: &mut [u16],
    leans: &mut [i16],
    words: &mut [u8],
) {
    match plane.mirror {
        Mirror::Never => {}
        Mirror::Always => {
            symbols.iter_mut().for_each(|symbol| *symbol = other_side(plane, *symbol))
        }
        Mirror::Leaning => {
            for (symbol, lean) in symbols.iter_mut().zip(leans) {
                let mirrored = other_side(plane, *symbol);
                *symbol = if *lean < 0 { mirrored } else { *symbol };
                *lean = lean.wrapping_add(from_centre(plane, *symbol));
            }
        }
    }
    add_distances(plane, symbols, distances);
    let shift = BITS * (plane.place % 8);
    for (symbol, word) in symbols.iter().zip(words.as_chunks_mut().0) {
        *word = (u32::from_le_bytes(*word) | u32::from(*symbol) << shift).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};

    fn planes_come_back_and_sums_are_the_same(level: Level) {
        arbtest::arbtest(|u| {
            let lanes = u.int_in_range(0..=200)?;
            let centre = u.int_in_range(0..=30)?;
            let mirror = *u.choose(&[Mirror::Never, Mirror::Always, Mirror::Leaning])?;
            let mut words = vec![0; 4 * lanes];
            u.fill_buffer(&mut words)?;
            let (mut distances, mut leans) = (vec![0; lanes], vec![0; lanes]);
            for (i, lean) in leans.iter_mut().enumerate() {
                *lean = i as i16 % 7 - 3;
            }
            let (mut of_back, mut leans_of_back) = (distances.clone(), leans.clone());
            let mut back = vec![0; words.len()];
            for place in 0..8 {
                let plane = Plane { place, centre, mirror };
                let before = leans.clone();
                let mut symbols = vec![0x55; lanes];
                spread(level, plane, &words, &mut distances, &mut leans, &mut symbols);
                for (i, &symbol) in symbols.iter().enumerate() {
                    let integer =
                        i16::from(words[4 * i + place as usize / 2] >> (place % 2 * 4) & 15);
                    let centre = i16::from(centre);
                    let is_mirrored = match mirror {
                        Mirror::Never => false,
                        Mirror::Always => true,
                        Mirror::Leaning => before[i] < 0,
                    };
                    let wanted = if is_mirrored { (centre - integer) & 15 } else { integer };
                    assert_eq!(i16::from(symbol), wanted);
                    let kept = if mirror == Mirror::Leaning { 2 * integer - centre } else { 0 };
                    assert_eq!(leans[i], before[i] + kept);
                }
                collect(level, plane, &mut symbols, &mut of_back, &mut leans_of_back, &mut back);
                assert_eq!((&of_back, &leans_of_back), (&distances, &leans));
            }
            assert_eq!(back, words);
            Ok(())
        });
    }

    fn keys_and_tables_are_what_they_say(level: Level) {
        arbtest::arbtest(|u| {
            let rates = Rates {
                prior: u.int_in_range(0..=255)?,
                rate: u.arbitrary()?,
                far: u.arbitrary()?,
            };
            let lanes: usize = u.int_in_range(0..=200)?;
            let distances: Vec<u16> = (0..lanes).map(|i| (i * 157) as u16).collect();
            let leans: Vec<i16> = (0..lanes).map(|i| (i as i32 * 301 - 30_000) as i16).collect();
            let mut found = vec![0x55; lanes + 9];
            keys(level, rates, &distances, &leans, &mut found[..lanes]);
            for ((&key, &distance), &lean) in found.iter().zip(&distances).zip(&leans) {
                let all = u64::from(distance) + u64::from(rates.prior);
                let near = (all * u64::from(rates.rate)) >> 16;
                let leaning = if lean.unsigned_abs() >= rates.far { 128 } else { 0 };
                assert_eq!(u64::from(key), near.min(126) + leaning);
            }
            let (of, mut bounds) = (found.clone(), [0; 6]);
            u.fill_buffer(&mut bounds)?;
            tables(level, &bounds, lanes, &mut found);
            for (table, key) in found[..lanes].iter().zip(of) {
                assert_eq!(
                    usize::from(*table),
                    bounds.iter().filter(|bound| **bound <= key).count()
                );
            }
            assert_eq!(found[lanes..], [FILLER; 9]);
            Ok(())
        });
    }

    at_each_level!(planes_come_back_and_sums_are_the_same, keys_and_tables_are_what_they_say);
}
