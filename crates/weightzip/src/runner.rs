//! Who runs the work: the calling thread, or a pool that all calls share.

use crate::error::Result;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Runs independent pieces of work, in parallel or not.
#[derive(Clone)]
pub(crate) enum Runner {
    Inline,
    Pool(Arc<ThreadPool>),
}

impl Runner {
    /// `threads` of them, or [`max_threads`]; 0 means one per core, 1 the calling thread. Where none can be started,
    /// the calling thread is enough.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        Ok(match threads {
            1 => Self::Inline,
            _ => pool(threads.min(max_threads())).map_or(Self::Inline, Self::Pool),
        })
    }

    pub(crate) fn threads(&self) -> usize {
        match self {
            Self::Inline => 1,
            Self::Pool(pool) => pool.current_num_threads(),
        }
    }

    /// Does `each` with all items; of those that fail, the first one's error.
    pub(crate) fn try_each<T: Send>(
        &self,
        items: &mut [T],
        each: impl Fn(&mut T) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        match self {
            Self::Inline => items.iter_mut().try_for_each(each),
            Self::Pool(pool) => pool.install(|| try_each_in_pool(items, each)),
        }
    }
}

/// [`Runner::try_each`] for those who are in the pool already.
pub(crate) fn try_each_in_pool<T: Send>(
    items: &mut [T],
    each: impl Fn(&mut T) -> Result<()> + Send + Sync,
) -> Result<()> {
    let failed =
        items.par_iter_mut().enumerate().filter_map(|(i, item)| Some((i, each(item).err()?)));
    failed.min_by_key(|(i, _)| *i).map_or(Ok(()), |(_, e)| Err(e))
}

/// Does `each` with items and their parts of `out`, which begin where `start` says; of those that
/// fail, the first one's error. With `in_pool`, halves go to whoever is idle.
pub(crate) fn try_fill<T: Sync, E: Send>(
    items: &[T],
    out: &mut [u8],
    in_pool: bool,
    start: &(impl Fn(&T) -> u64 + Sync),
    each: &(impl Fn(&T, &mut [u8]) -> Result<(), E> + Sync),
) -> Result<(), E> {
    match items {
        [] => Ok(()),
        [one] => each(one, out),
        _ => {
            let (first, second) = items.split_at(items.len() / 2);
            let middle = usize::try_from(start(&second[0]) - start(&first[0]));
            let (now, later) = out.split_at_mut(middle.unwrap_or(usize::MAX));
            let mut first = || try_fill(first, now, in_pool, start, each);
            let mut second = || try_fill(second, later, in_pool, start, each);
            if in_pool {
                let (first, second) = rayon::join(first, second);
                first.and(second)
            } else {
                first().and_then(|()| second())
            }
        }
    }
}

/// Pools by process and number of threads.
type Pools = HashMap<(u32, usize), Arc<ThreadPool>>;

/// The most threads that work is spread over, whatever is asked for: four for each core, and at least 16.
pub fn max_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_mul(4).max(16)
}

/// The pool of so many threads; none if they can't be started. Pools are made once, and stay: starting threads takes longer
/// than a small frame. They are this process's own, for a fork doesn't take threads along.
fn pool(threads: usize) -> Option<Arc<ThreadPool>> {
    static POOLS: LazyLock<Mutex<Pools>> = LazyLock::new(Mutex::default);
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (std::process::id(), threads);
    if let Some(pool) = pools.get(&key) {
        return Some(Arc::clone(pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("weightzip-{i}"))
        .build()
        .ok()?;
    Some(Arc::clone(pools.entry(key).or_insert(Arc::new(pool))))
}
