//! Escape planes (spec: "Planes"): a plane has a code per rank that no earlier plane decided;
//! its largest code sends the rank on to the next plane.

/// Codes that decide, in a plane of `width` bits: all but the escape.
pub fn decided(width: u32) -> usize {
    (1 << width) - 1
}

/// Elements that are done together; few enough for a group's escapes to stay in registers or L1.
const GROUP: usize = 64;

/// Turns `ranks`, all of them at least `base`, into the codes of a plane of `width` bits, in
/// place, and appends those that escape to `next`.
pub fn peel(ranks: &mut [u8], base: u8, width: u32, next: &mut Vec<u8>) {
    let escape = escape_code(width);
    for group in ranks.chunks_mut(GROUP) {
        // Without branches: each rank is stored, and kept if it escapes.
        let (mut escaped, mut count) = ([0; GROUP], 0);
        for rank in group {
            let code = rank.wrapping_sub(base);
            escaped[count % GROUP] = *rank;
            count += usize::from(code >= escape);
            *rank = code.min(escape);
        }
        next.extend_from_slice(&escaped[..count]);
    }
}

/// Turns the codes of a plane of `width` bits back into ranks, in place; the escapes become the
/// ranks of `next`, in order. Returns how many escapes there were, which must be `next.len()`:
/// if it is not, the ranks mean nothing.
pub fn fill(codes: &mut [u8], base: u8, width: u32, next: &[u8]) -> usize {
    let (escape, mut used) = (escape_code(width), 0);
    for group in codes.chunks_mut(GROUP) {
        let mut ranks = [0; GROUP];
        let ahead = next.get(used..).unwrap_or_default();
        match ahead.first_chunk() {
            Some(whole) => ranks = *whole,
            None => ranks[..ahead.len()].copy_from_slice(ahead),
        }
        let mut count = 0;
        for code in group {
            let escapes = *code == escape;
            let mask = u8::from(escapes).wrapping_neg();
            *code = ranks[count % GROUP] & mask | code.wrapping_add(base) & !mask;
            count += usize::from(escapes);
        }
        used += count;
    }
    used
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
