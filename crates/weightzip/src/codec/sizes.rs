//! How large scales are beside the others of their row, which says what to expect of the numbers that they multiply (spec: "Fields", keys).

/// The key of numbers whose scale is the mean of its row's.
const MIDDLE: i32 = 64;

/// The last key.
const LAST: i32 = 254;

/// How large a float of `width` bits is, in quarters of an octave: its exponent and two bits of its mantissa.
pub(super) fn top(width: u8, exponent_bits: u8, bits: u64) -> i32 {
    let magnitude = bits & u64::MAX >> (65 - u32::from(width));
    let (up, down) = match width - 1 - exponent_bits {
        mantissa @ 0..2 => (2 - mantissa, 0),
        mantissa => (0, mantissa - 2),
    };
    i32::try_from(magnitude << up >> down).unwrap_or(i32::MAX)
}

/// The same of an exponent alone.
pub(super) fn top_of_exponent(exponent: u64) -> i32 {
    i32::try_from(exponent << 2).unwrap_or(i32::MAX)
}

/// Adds a key for each scale: how much larger it is than the mean of its row of so many. 0: all are of one row.
pub(super) fn add_keys(tops: &[i32], row: usize, keys: &mut Vec<u8>) {
    let row = if row == 0 { tops.len() } else { row };
    for tops in tops.chunks(row.max(1)) {
        let sum: i64 = tops.iter().map(|&top| i64::from(top)).sum();
        let count = tops.len() as i64;
        let mean = i32::try_from((sum + count / 2) / count).unwrap_or(i32::MAX);
        let key = |&top: &i32| (top - mean + MIDDLE).clamp(0, LAST).to_le_bytes()[0];
        keys.extend(tops.iter().map(key));
    }
}
