//! What symbols cost, in integers, so that every machine makes the same choices.

/// Bits that symbols take which occur so often, where a bit counts 256.
pub(super) fn entropy(counts: &[u32]) -> u64 {
    let all = n_log_n(counts.iter().sum());
    all.saturating_sub(counts.iter().map(|&n| n_log_n(n)).sum())
}

/// What entropies are made of: that of all, less those of each.
pub(super) fn n_log_n(n: u32) -> u64 {
    u64::from(n) * log2(n)
}

/// The same if a coder takes these shares for how often they occur; what has none costs nothing.
pub(super) fn cross_entropy(counts: &[u32], shares: &[u16]) -> u64 {
    let all = log2(shares.iter().map(|&share| u32::from(share)).sum());
    let bits = |(&n, &share): (&u32, &u16)| u64::from(n) * all.saturating_sub(log2(share.into()));
    counts.iter().zip(shares).filter(|(_, share)| **share > 0).map(bits).sum()
}

/// The logarithm times 256, nearly; that of 0 is 0.
fn log2(n: u32) -> u64 {
    let whole = n.max(1).ilog2();
    let fraction = (u64::from(n) << 16 >> whole) & 0xFFFF;
    // A parabola through both ends and the middle.
    let bent = (fraction * (0x1_0000 - fraction) * 22_544) >> 32;
    (u64::from(whole) << 8) + ((fraction + bent) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_near() {
        for n in (1..9000u32).chain([u32::MAX - 1, u32::MAX, 1 << 31]) {
            let exact = f64::from(n).log2() * 256.0;
            assert!((log2(n) as f64 - exact).abs() < 3.5, "{n}: {} {exact}", log2(n));
        }
    }

    #[test]
    fn equal_symbols_cost_nothing_and_two_a_bit() {
        assert_eq!(entropy(&[0, 1000, 0]), 0);
        assert_eq!(entropy(&[512, 512]), 1024 << 8);
        assert_eq!(cross_entropy(&[512, 512, 9], &[512, 512, 0]), 1024 << 8);
        assert_eq!(cross_entropy(&[100, 0], &[256, 768]), 200 << 8);
    }
}
