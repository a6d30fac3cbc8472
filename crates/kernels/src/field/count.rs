//! How often each exponent occurs.

use super::{EXPONENTS, Float};
use crate::simd::GROUP;
use crate::word::Word;

/// Counts the exponents in `data`: of all elements, or of 64 in every 256 if there are so many
/// that these tell enough. Returns how many elements stand behind one that was counted.
pub fn count_exponents(float: Float, data: &[u8], counts: &mut [u32; EXPONENTS]) -> u32 {
    match (float.bytes, float.exponent_bits) {
        (1, _) => count_words::<u8, 256>(float, data, counts),
        (2, ..=8) => count_words::<u16, 256>(float, data, counts),
        (4, ..=8) => count_words::<u32, 256>(float, data, counts),
        (2, _) => count_words::<u16, EXPONENTS>(float, data, counts),
        (4, _) => count_words::<u32, EXPONENTS>(float, data, counts),
        _ => count_words::<u64, EXPONENTS>(float, data, counts),
    }
}

/// Groups of which one is counted, in a large block.
const STRETCH: u32 = 4;

/// Elements of a block that is small enough to be counted whole.
pub const COUNTED_WHOLE: usize = LARGE - 1;

/// Elements from which on a block is large.
const LARGE: usize = 1 << 14;

fn count_words<T: Word, const E: usize>(
    float: Float,
    data: &[u8],
    counts: &mut [u32; EXPONENTS],
) -> u32 {
    // Four tables, so that equal neighbours don't wait for each other.
    let mut lanes = [[0u32; E]; 4];
    let (group, large) = (GROUP * T::BYTES, data.len() / T::BYTES >= LARGE);
    if large {
        for (i, stretch) in (0u32..).zip(data.chunks_exact(STRETCH as usize * group)) {
            // Another place in each stretch, lest rows of a round length show the same columns.
            let place = (i.wrapping_mul(0x9E37_79B9) >> 16) % STRETCH;
            count_into::<T, E>(float, &stretch[place as usize * group..][..group], &mut lanes);
        }
    } else {
        count_into::<T, E>(float, data, &mut lanes);
    }
    for (e, count) in counts.iter_mut().take(E).enumerate() {
        *count += lanes.iter().map(|lane| lane[e]).sum::<u32>();
    }
    if large { STRETCH } else { 1 }
}

#[inline(always)]
fn count_into<T: Word, const E: usize>(float: Float, data: &[u8], lanes: &mut [[u32; E]; 4]) {
    let mut fours = data.chunks_exact(4 * T::BYTES);
    for four in &mut fours {
        for (lane, bytes) in lanes.iter_mut().zip(four.chunks_exact(T::BYTES)) {
            lane[usize::from(float.exponent_of::<T>(bytes)) % E] += 1;
        }
    }
    for bytes in fours.remainder().chunks_exact(T::BYTES) {
        lanes[0][usize::from(float.exponent_of::<T>(bytes)) % E] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_block_is_counted_by_a_quarter_of_its_elements() {
        let float = Float { bytes: 2, exponent_bits: 8, top_bits: 0, big_endian: false };
        let data = |count: usize| -> Vec<u8> {
            (0..count).flat_map(|i| (0x3F00 + (i % 2 * 0x80) as u16).to_le_bytes()).collect()
        };
        for (count, counted, each) in [(LARGE - 1, LARGE - 1, 1), (LARGE, LARGE / 4, 4)] {
            let mut counts = [0; EXPONENTS];
            assert_eq!(count_exponents(float, &data(count), &mut counts), each);
            assert_eq!(counts.iter().sum::<u32>() as usize, counted);
            assert_eq!(counts[126] as usize, counted.div_ceil(2));
        }
    }
}
