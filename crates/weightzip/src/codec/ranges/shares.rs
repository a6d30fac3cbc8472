//! Shares of the slots of a table (spec: "Shares"): a symbol has a weight of six bits on the wire,
//! about as a float with two mantissa bits.

use std::cmp::Ordering;
use weightzip_kernels::rans::SLOTS;

/// Bits of a weight's code.
pub(super) const CODE_BITS: u32 = 6;

/// The weight of a code: 0, or 4 to 7 times a power of two.
fn weight(code: u8) -> u64 {
    let step = u64::from(code.wrapping_sub(1));
    if code == 0 { 0 } else { (4 + step % 4) << (step / 4) }
}

/// The code whose weight is nearest to `count`, if the greatest one gets the greatest code.
fn code(count: u32, greatest: u32) -> u8 {
    if count == 0 {
        return 0;
    }
    let wanted = u64::from(count) * weight(63) / u64::from(greatest);
    let wanted = wanted.max(4);
    let shift = 61 - wanted.leading_zeros();
    // Half a step up, so that what is cut off is nearest.
    let rounded = wanted + (1 << shift >> 1);
    let shift = 61 - rounded.leading_zeros();
    let step = (rounded >> shift) - 4 + 4 * u64::from(shift);
    (step + 1).min(63).to_le_bytes()[0]
}

/// Codes of the weights of symbols that occur so often.
pub(super) fn codes(counts: &[u32]) -> impl Iterator<Item = u8> {
    let greatest = counts.iter().copied().max().unwrap_or(0);
    counts.iter().map(move |&count| code(count, greatest))
}

/// The shares of symbols with these codes, which fill the table. Without any weight all slots are
/// symbol 0's. Else a symbol that has one has a share, and what rounding leaves or lacks is made
/// up by one slot each, from the most frequent on.
pub(super) fn shares(codes: &[u8]) -> Vec<u16> {
    let total: u64 = codes.iter().map(|&code| weight(code)).sum();
    if total == 0 {
        return vec![SLOTS];
    }
    let share = |&code: &u8| match weight(code) {
        0 => 0,
        // At most all slots.
        #[allow(clippy::cast_possible_truncation, reason = "no weight is more than the total")]
        weight => ((weight * u64::from(SLOTS) + total / 2) / total).max(1) as u16,
    };
    let mut shares: Vec<u16> = codes.iter().map(share).collect();
    let mut sum: u16 = shares.iter().sum();
    if sum != SLOTS {
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by_key(|&symbol| std::cmp::Reverse(shares[symbol]));
        for symbol in order.into_iter().cycle() {
            match (sum.cmp(&SLOTS), &mut shares[symbol]) {
                (Ordering::Equal, _) => break,
                (Ordering::Less, share @ 1..) => (*share, sum) = (*share + 1, sum + 1),
                (Ordering::Greater, share @ 2..) => (*share, sum) = (*share - 1, sum - 1),
                _ => {}
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_nearest_and_shares_fill_the_table() {
        arbtest::arbtest(|u| {
            let counts: Vec<u32> = u.arbitrary()?;
            let shift = u.int_in_range(0..=31)?;
            let counts: Vec<u32> = counts.into_iter().take(256).map(|n| n >> shift).collect();
            let codes: Vec<u8> = codes(&counts).collect();
            let shares = shares(&codes);
            assert_eq!(shares.iter().sum::<u16>(), SLOTS);
            if counts.iter().any(|&n| n > 0) {
                for (&count, &share) in counts.iter().zip(&shares) {
                    assert_eq!(count > 0, share > 0);
                }
            }
            Ok(())
        });
    }

    #[test]
    fn every_weight_has_its_code() {
        let greatest = u32::try_from(weight(63)).unwrap();
        for wanted in 0..64 {
            assert_eq!(code(u32::try_from(weight(wanted)).unwrap(), greatest), wanted);
        }
        assert_eq!(shares(&[0, 0]), [SLOTS]);
        assert_eq!(shares(&[0, 63, 1]), [0, 1023, 1]);
        // 57 of 17.96 slots would be two too many, three of 341.3 one too few.
        assert_eq!(shares(&[1; 57])[..4], [17, 17, 18, 18]);
        assert_eq!(shares(&[9; 3]), [342, 341, 341]);
    }
}
