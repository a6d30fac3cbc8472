//! Escape planes (spec: "Planes"): a plane has a code per rank that no earlier plane decided;
//! its largest code sends the rank on to the next plane.

/// Codes that decide, in a plane of `width` bits: all but the escape.
pub fn decided(width: u32) -> usize {
    (1 << width) - 1
}

/// Turns `ranks`, all of them at least `base`, into the codes of a plane of `width` bits, in
/// place, and appends those that escape to `next`.
pub fn peel(ranks: &mut [u8], base: u8, width: u32, next: &mut Vec<u8>) {
    let escape = escape_code(width);
    for rank in ranks {
        let code = *rank - base;
        if code >= escape {
            next.push(*rank);
        }
        *rank = code.min(escape);
    }
}

/// Turns the codes of a plane of `width` bits back into ranks, in place; the escapes become the
/// ranks of `next`, in order. Returns how many escapes there were, which must be `next.len()`:
/// if it is not, the ranks mean nothing.
pub fn fill(codes: &mut [u8], base: u8, width: u32, next: &[u8]) -> usize {
    let escape = escape_code(width);
    let mut used = 0;
    for code in codes {
        if *code == escape {
            *code = next.get(used).copied().unwrap_or(0);
            used += 1;
        } else {
            *code = code.wrapping_add(base);
        }
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
