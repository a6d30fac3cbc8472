//! How many threads work: one number for all calls, which share one pool.

use crate::errors;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// 0 until it is first asked for or set.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread runs Python code that work on the pool may be waiting for.
    static NEEDED: Cell<bool> = const { Cell::new(false) };
}

/// Sets how many threads work from now on, in all calls together. An open archive keeps the number
/// that it was opened with.
#[pyfunction]
pub(crate) fn set_threads(py: Python<'_>, count: i64) -> PyResult<()> {
    let count = usize::try_from(count).ok().filter(|&count| count > 0);
    let count = count.ok_or_else(|| errors::invalid(py, "at least one thread is needed"))?;
    THREADS.store(count, Relaxed);
    Ok(())
}

/// How many threads work: what was set, else this process's share of the cores, which is all of
/// them divided by the environment variable LOCAL_WORLD_SIZE.
#[pyfunction]
pub(crate) fn threads() -> usize {
    match THREADS.load(Relaxed) {
        0 => {
            let count = share();
            // What another thread set meanwhile stays.
            THREADS.compare_exchange(0, count, Relaxed, Relaxed).err().unwrap_or(count)
        }
        count => count,
    }
}

fn share() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processes = std::env::var("LOCAL_WORLD_SIZE").ok().and_then(|n| n.parse().ok());
    (cores / processes.unwrap_or(1).max(1)).max(1)
}

/// How many threads a call may have: one that comes from Python code which the pool may be waiting
/// for does its work itself.
pub(crate) fn for_call() -> usize {
    if NEEDED.get() { 1 } else { threads() }
}

/// Runs Python code that work on the pool may be waiting for.
pub(crate) fn while_needed<T>(work: impl FnOnce() -> T) -> T {
    let before = NEEDED.replace(true);
    let result = work();
    NEEDED.set(before);
    result
}
