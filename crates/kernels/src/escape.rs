//! Escape planes (spec: "Planes"): a plane has a code per rank that no earlier plane decided;
//! its largest code sends the rank on to the next plane.

use crate::Word;

/// Codes that decide, in a plane of `width` bits: all but the escape.
pub fn decided(width: u32) -> usize {
    (1 << width) - 1
}

/// Elements that are done together: their escapes are the bits of a word.
const GROUP: usize = 64;

/// Turns `ranks`, all of them at least `base`, into the codes of a plane of `width` bits, in
/// place, and appends those that escape to `next`.
pub fn peel(ranks: &mut [u8], base: u8, width: u32, next: &mut Vec<u8>) {
    let escape = escape_code(width);
    for ranks in ranks.chunks_mut(GROUP) {
        let mut group = [0; GROUP];
        group[..ranks.len()].copy_from_slice(ranks);
        ranks.iter_mut().for_each(|rank| *rank = rank.wrapping_sub(base).min(escape));
        let (mut escaped, mut count) = ([0; GROUP], 0);
        for_each_equal(ranks, escape, |at| {
            escaped[count] = group[at];
            count += 1;
        });
        next.extend_from_slice(&escaped[..count]);
    }
}

/// Turns the codes of a plane of `width` bits back into ranks, in place; the escapes become the
/// ranks of `next`, in order. Returns how many escapes there were, which must be `next.len()`:
/// if it is not, the ranks mean nothing.
pub fn fill(codes: &mut [u8], base: u8, width: u32, next: &[u8]) -> usize {
    let (escape, mut used) = (escape_code(width), 0);
    for codes in codes.chunks_mut(GROUP) {
        let mut ranks = [0; GROUP];
        for (rank, code) in ranks.iter_mut().zip(&*codes) {
            *rank = code.wrapping_add(base);
        }
        for_each_equal(codes, escape, |at| {
            ranks[at] = next.get(used).copied().unwrap_or(0);
            used += 1;
        });
        codes.copy_from_slice(&ranks[..codes.len()]);
    }
    used
}

/// Calls `each` with the places of the codes, at most a group, that are `code`, in order.
#[inline(always)]
fn for_each_equal(codes: &[u8], code: u8, mut each: impl FnMut(usize)) {
    let mut equal = [0; GROUP];
    for (equal, &other) in equal.iter_mut().zip(codes) {
        *equal = u8::from(other == code);
    }
    let mut mask = 0;
    for (i, eight) in equal.chunks_exact(8).enumerate() {
        // The multiplication gathers the low bits of eight bytes in the top one.
        let bits = u64::load_le(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= bits << (8 * i);
    }
    while mask != 0 {
        each(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "planes have 1 to 3 bits")]
fn escape_code(width: u32) -> u8 {
    decided(width) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_undoes_peel() {
        arbtest::arbtest(|u| {
            let (base, width) = (u.int_in_range(0..=200)?, u.int_in_range(1..=3)?);
            let ranks: Vec<u8> = u.arbitrary()?;
            let ranks: Vec<u8> = ranks.into_iter().map(|r| r.max(base)).collect();
            let (mut codes, mut next) = (ranks.clone(), Vec::new());
            peel(&mut codes, base, width, &mut next);
            assert!(codes.iter().all(|&c| usize::from(c) <= decided(width)));
            assert_eq!(fill(&mut codes, base, width, &next), next.len());
            assert_eq!(codes, ranks);
            Ok(())
        });
    }

    #[test]
    fn fill_counts_escapes_that_have_no_rank() {
        assert_eq!(fill(&mut [3, 0, 3], 0, 2, &[9]), 2);
    }
}
