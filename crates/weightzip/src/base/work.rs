//! How much may be decoded of bases: a budget, so that small files can't ask for endless work.

use super::cant_read;
use crate::error::{Error, Result};
use crate::options::Limits;
use crate::source::Source;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may be decoded of bases whatever is asked for: where small tensors share blocks, little is asked for.
const FREE: u64 = 64 << 20;

/// The largest blocks of each link of a chain that may be decoded whatever is asked for.
const FREE_BLOCKS: u64 = 2;

/// What a block counts for at least: it takes time to find it.
const LEAST: u64 = 1 << 10;

/// A budget of bytes to be decoded for blocks of other files. It grows with what is asked for.
pub(crate) struct Work {
    left: AtomicU64,
    /// Bytes that may be decoded per byte that is asked for.
    per_byte: u64,
}

impl Work {
    /// The budget of a file whose bases are `depth` models, one behind the other.
    pub(super) fn new(depth: usize, limits: &Limits) -> Self {
        let depth = depth as u64;
        let free = FREE + depth * FREE_BLOCKS * limits.block_bytes as u64;
        Self { left: free.into(), per_byte: limits.base_work.saturating_mul(depth) }
    }

    /// Adds what so many bytes of the file may take.
    pub(super) fn allow(&self, bytes: usize) {
        let more = self.per_byte.saturating_mul(bytes as u64);
        self.change(|left| Some(left.saturating_add(more)));
    }

    /// Takes a block of `bytes` off the budget.
    ///
    /// # Errors
    /// [`Corruption`](crate::Kind::Corruption) if nothing is left.
    pub(crate) fn spend(&self, bytes: usize) -> Result<()> {
        let spent = self.change(|left| left.checked_sub(LEAST.max(bytes as u64)));
        spent.then_some(()).ok_or_else(|| {
            Error::corrupt(
                "too much of its bases must be decoded for what is asked for; \
                 `wz rebase` the bases to stand alone, or raise Limits::base_work if they can be trusted",
            )
        })
    }

    fn change(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }
}

/// What blocks are coded against: the bytes of a model, or a file's own.
pub(crate) trait BaseBytes: Source {
    /// [`read_at`](Source::read_at) for a block of a file that has this budget.
    fn read_for(&self, work: &Work, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// Bytes that are there as they are: reading them takes no work.
pub(crate) struct Plain<S>(pub(crate) S);

impl<S: Source> Source for Plain<S> {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }

    fn lend(&self, range: Range<u64>) -> Option<&[u8]> {
        self.0.lend(range)
    }
}

impl<S: Source> BaseBytes for Plain<S> {
    fn read_for(&self, _: &Work, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
}

/// A base's bytes, and the budget of who reads them.
pub(super) struct Within<'a> {
    pub(super) bytes: &'a dyn BaseBytes,
    pub(super) work: &'a Work,
}

impl Within<'_> {
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.bytes.read_for(self.work, offset, out).map_err(cant_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_grows_with_what_is_asked_for_and_ends() {
        let limits = Limits { block_bytes: 0, base_work: 3, ..Limits::default() };
        let work = Work::new(2, &limits);
        work.spend(FREE as usize).unwrap();
        assert!(work.spend(1).is_err());
        work.allow(LEAST as usize);
        (0..6).for_each(|_| work.spend(1).unwrap());
        let error = work.spend(1).unwrap_err();
        assert!(error.message().contains("Limits::base_work"), "{error}");
        work.allow(usize::MAX);
        work.allow(usize::MAX);
        work.spend(1 << 40).unwrap();
    }
}
