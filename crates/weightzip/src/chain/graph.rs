//! What is coded against what, by places in the order of steps; and how that changes when some go.

use crate::base::MAX_DEPTH;

/// The places of what each step is coded against.
pub(super) type Bases = Vec<Vec<usize>>;

/// Steps that get another base, or none.
pub(super) type Rebases = Vec<(usize, Option<usize>)>;

/// How many steps each needs, one behind the other; `None` if some need each other.
pub(super) fn depths(bases: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut depths = vec![0; bases.len()];
    // Bases come before what needs them, normally: the second round changes nothing.
    for _ in 0..=bases.len() {
        let mut changed = false;
        for (i, bases) in bases.iter().enumerate() {
            let depth = bases.iter().map(|&base| depths[base] + 1).max().unwrap_or(0);
            changed |= depths[i] != depth;
            depths[i] = depth;
        }
        if !changed {
            return Some(depths);
        }
    }
    None
}

/// Gives each step that stays, and needs one that goes, another base: the nearest earlier step that stays,
/// can be restored and isn't too deep, or none. Returns which, in the order in which it must be done. Whenever that stops, every step can still be
/// restored: none needs more than [`MAX_DEPTH`] others, and in the end none more than `max_depth`, unless
/// it did before.
pub(super) fn rebases(
    bases: &mut Bases,
    goes: &[bool],
    whole: &[bool],
    max_depth: usize,
) -> Rebases {
    let before = depths(bases).unwrap_or_default();
    let no_deeper = |bases: &[Vec<usize>], limit: usize| {
        let now = depths(bases);
        now.is_some_and(|now| now.iter().zip(&before).all(|(&now, &old)| now <= limit.max(old)))
    };
    let mut done = Vec::new();
    for step in 0..bases.len() {
        if goes[step] || !bases[step].iter().any(|&base| goes[base]) {
            continue;
        }
        let fits = |base: usize| {
            let mut changed = bases.clone();
            changed[step] = vec![base];
            no_deeper(&changed, MAX_DEPTH) && no_deeper(&without(&changed, goes), max_depth)
        };
        let stays = |&base: &usize| !goes[base] && whole[base] && !needs(bases, base, step);
        let base = (0..step).rev().filter(stays).find(|&base| fits(base));
        bases[step] = base.into_iter().collect();
        done.push((step, base));
    }
    done
}

/// What is left when some have gone; what needs them is yet to be rebased, and so counts as a keyframe.
fn without(bases: &[Vec<usize>], goes: &[bool]) -> Bases {
    let stays = |bases: &Vec<usize>| bases.iter().all(|&base| !goes[base]);
    let left = bases.iter().zip(goes).map(|(bases, &goes)| match !goes && stays(bases) {
        true => bases.clone(),
        false => Vec::new(),
    });
    left.collect()
}

/// Whether `step` needs `other`, or is it.
pub(super) fn needs(bases: &[Vec<usize>], step: usize, other: usize) -> bool {
    let (mut seen, mut open) = (vec![false; bases.len()], vec![step]);
    while let Some(step) = open.pop() {
        if step == other {
            return true;
        }
        if !std::mem::replace(&mut seen[step], true) {
            open.extend(&bases[step]);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With steps that can all be restored.
    fn rebases(bases: &mut Bases, goes: &[bool], max_depth: usize) -> Rebases {
        super::rebases(bases, goes, &vec![true; goes.len()], max_depth)
    }

    /// Steps that are each coded against the one before, but for a keyframe every so often.
    fn chain(len: usize, every: usize) -> Bases {
        (0..len).map(|i| if i % every == 0 { Vec::new() } else { vec![i - 1] }).collect()
    }

    fn going(len: usize, goes: &[usize]) -> Vec<bool> {
        (0..len).map(|i| goes.contains(&i)).collect()
    }

    #[test]
    fn depths_are_those_of_the_longest_way() {
        assert_eq!(depths(&[vec![], vec![0], vec![0, 1], vec![]]).unwrap(), [0, 1, 2, 0]);
        assert_eq!(depths(&[vec![2], vec![], vec![1]]).unwrap(), [2, 0, 1]);
        assert_eq!(depths(&[vec![1], vec![0]]), None);
    }

    #[test]
    fn a_later_step_moves_to_the_nearest_that_stays() {
        let rebased = |goes: &[usize]| rebases(&mut chain(6, 100), &going(6, goes), 16);
        assert_eq!(rebased(&[2]), [(3, Some(1))]);
        assert_eq!(rebased(&[1, 2, 3]), [(4, Some(0))]);
        assert_eq!(rebased(&[0]), [(1, None)]);
        assert_eq!(rebased(&[0, 2, 5]), [(1, None), (3, Some(1))]);
        assert_eq!(rebases(&mut chain(6, 3), &going(6, &[3]), 16), [(4, Some(2))]);
    }

    #[test]
    fn no_step_moves_to_one_that_can_not_be_restored() {
        let mut whole = [true; 6];
        whole[1] = false;
        let rebased = super::rebases(&mut chain(6, 100), &going(6, &[2, 3]), &whole, 16);
        assert_eq!(rebased, [(4, Some(0))]);
    }

    #[test]
    fn no_step_gets_deeper_than_it_may() {
        // Step 4 would be at 3, and 5, which needs it, at 4.
        assert_eq!(rebases(&mut chain(6, 3), &going(6, &[3]), 4), [(4, Some(2))]);
        assert_eq!(rebases(&mut chain(6, 3), &going(6, &[3]), 3), [(4, Some(1))]);
        assert_eq!(rebases(&mut chain(6, 3), &going(6, &[0, 3]), 1), [(1, None), (4, Some(1))]);
        // What is as deep already may stay so.
        assert_eq!(rebases(&mut chain(40, 100), &going(40, &[20]), 3), [(21, Some(19))]);
        // All of them would be one chain, longer than can be read.
        let goes: Vec<usize> = (0..130).step_by(13).collect();
        let mut bases = chain(130, 13);
        rebases(&mut bases, &going(130, &goes), MAX_DEPTH);
        let deepest = depths(&bases).unwrap().into_iter().max().unwrap();
        assert!((32..=MAX_DEPTH).contains(&deepest), "{deepest}");
    }

    #[test]
    fn shallow_steps_stay_so() {
        let mut bases: Bases =
            (0..16usize).map(|i| if i == 0 { Vec::new() } else { vec![i & (i - 1)] }).collect();
        let before = depths(&bases).unwrap();
        let rebased = [(1, None), (2, Some(1)), (4, Some(1)), (8, Some(1))];
        assert_eq!(rebases(&mut bases, &going(16, &[0]), 1), rebased);
        let now = depths(&bases).unwrap();
        assert!(now.iter().zip(&before).all(|(now, before)| now <= before));
    }

    #[test]
    fn wherever_it_stops_everything_can_be_restored() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(1..=40)?;
            let (mut bases, mut goes) = (Bases::new(), Vec::new());
            for i in 0..len {
                let mut own = Vec::new();
                for _ in 0..u.int_in_range(0..=2)? {
                    own.extend((i > 0).then_some(u.int_in_range(0..=i.max(1) - 1)?));
                }
                bases.push(own);
                goes.push(u.ratio(1, 3)?);
            }
            // Files of someone else may need later ones.
            if len > 2 && u.ratio(1, 4)? {
                bases[0] = vec![len - 1];
            }
            let Some(before) = depths(&bases) else { return Ok(()) };
            let max_depth = u.int_in_range(1..=MAX_DEPTH)?;
            let (mut now, mut after) = (bases.clone(), bases);
            for (step, base) in rebases(&mut after, &goes, max_depth) {
                assert!(!goes[step] && base.is_none_or(|base| base < step && !goes[base]));
                now[step] = base.into_iter().collect();
                let depths = depths(&now).unwrap();
                assert!(depths.iter().zip(&before).all(|(&now, &old)| now <= MAX_DEPTH.max(old)));
            }
            let left = (0..len).filter(|&i| !goes[i]);
            assert!(left.clone().all(|i| now[i].iter().all(|&base| !goes[base])));
            let depths = depths(&now).unwrap();
            assert!(left.clone().all(|i| depths[i] <= max_depth.max(before[i])));
            Ok(())
        });
    }
}
