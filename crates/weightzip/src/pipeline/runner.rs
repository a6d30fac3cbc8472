//! Who runs the work: the library never owns threads of its own accord.

use crate::error::{Error, Result};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

/// Runs independent pieces of work, in parallel or not.
pub(super) enum Runner {
    Inline,
    Pool(rayon::ThreadPool),
}

impl Runner {
    /// `threads` of them; 0 means one per core.
    pub(super) fn new(threads: usize) -> Result<Self> {
        if threads == 1 {
            return Ok(Self::Inline);
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.map(Self::Pool).map_err(|e| Error::io("can't start threads", std::io::Error::other(e)))
    }

    pub(super) fn threads(&self) -> usize {
        match self {
            Self::Inline => 1,
            Self::Pool(pool) => pool.current_num_threads(),
        }
    }

    /// Maps all items, in order, and does `aside` at the same time.
    pub(super) fn map<T: Sync, U: Send, A: Send>(
        &self,
        items: &[T],
        each: impl Fn(&T) -> U + Sync + Send,
        aside: impl FnOnce() -> A + Send,
    ) -> (Vec<U>, A) {
        match self {
            Self::Inline => (items.iter().map(each).collect(), aside()),
            Self::Pool(pool) => {
                pool.install(|| rayon::join(|| items.par_iter().map(each).collect(), aside))
            }
        }
    }
}
