//! Memory that a thread uses again: taken out of its thread local while it is in use, and put back afterwards.
//!
//! Whoever waits for the pool may be given other work by it, a source that is read may decode a block, and blocks have
//! others within them. So the same code may run a second time on a thread whose memory is in use: it gets memory of its own.

use std::cell::Cell;
use std::thread::LocalKey;

/// What isn't in use of a thread's memory: more than one where work came within work.
pub(crate) type Kept<T> = Cell<Vec<Box<T>>>;

/// Values that stay for the next user: as many as are in use at once where chains are decoded.
const MOST: usize = 16;

/// None kept so far.
pub(crate) const fn none<T>() -> Kept<T> {
    Cell::new(Vec::new())
}

/// Lets `work` have what was kept, in whatever state its last user left it, or else a new one.
pub(crate) fn with<T: Default, R>(
    kept: &'static LocalKey<Kept<T>>,
    work: impl FnOnce(&mut T) -> R,
) -> R {
    let mut free = kept.take();
    let mut one = free.pop().unwrap_or_default();
    kept.set(free);
    let done = work(&mut one);
    let mut free = kept.take();
    if free.len() < MOST {
        free.push(one);
    }
    kept.set(free);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static NUMBERS: Kept<Vec<u8>> = const { none() };
    }

    #[test]
    fn work_within_work_has_memory_of_its_own_and_all_of_it_is_kept() {
        for _ in 0..2 {
            let address = |numbers: &Vec<u8>| std::ptr::from_ref(numbers).addr();
            let (outer, inner) = with(&NUMBERS, |outer| {
                outer.push(1);
                let inner = with(&NUMBERS, |inner| {
                    inner.push(2);
                    address(inner)
                });
                assert!(outer.iter().all(|number| *number == 1));
                (address(outer), inner)
            });
            assert_ne!(outer, inner);
        }
        let kept = NUMBERS.take();
        assert_eq!(kept.iter().map(|numbers| numbers.len()).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn a_panic_or_deep_nesting_leaves_a_bounded_number_behind() {
        fn nested(depth: usize) {
            with(&NUMBERS, |_| {
                if depth > 0 {
                    nested(depth - 1)
                }
            });
        }
        nested(3 * MOST);
        assert_eq!(NUMBERS.take().len(), MOST);
        let panicked = std::panic::catch_unwind(|| with(&NUMBERS, |_| panic!("as work may")));
        assert!(panicked.is_err());
        with(&NUMBERS, |numbers| assert!(numbers.is_empty()));
    }
}
