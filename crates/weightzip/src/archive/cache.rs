//! Decoded blocks, for callers that want parts of them: one after another, or several at once.

use crate::error::Result;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of decoded blocks that are kept, or one block if that has more.
const KEPT: usize = 4 << 20;

/// A block's segment, and its number there.
pub(super) type Key = (usize, usize);

/// The blocks that were used last.
#[derive(Default)]
pub(super) struct Cache {
    /// Least recently used first.
    blocks: Mutex<VecDeque<Cached>>,
}

struct Cached {
    key: Key,
    slot: Arc<Slot>,
    /// Bytes of the decoded block; 0 while it is being decoded.
    bytes: usize,
}

/// A block once it is decoded. Locked by the caller that decodes it, so that others who want it wait.
type Slot = Mutex<Option<Arc<Vec<u8>>>>;

impl Cache {
    /// The block of a key, from `decode` unless it is known. Callers that want the same block at once get it from
    /// one `decode`; those of different blocks don't wait for each other.
    pub(super) fn get(
        &self,
        key: Key,
        decode: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<Vec<u8>>> {
        let slot = self.slot(key);
        let mut block = lock(&slot);
        if let Some(bytes) = &*block {
            return Ok(Arc::clone(bytes));
        }
        let decoded = decode().map(Arc::new);
        *block = decoded.as_ref().ok().map(Arc::clone);
        drop(block);
        match &decoded {
            Ok(bytes) => self.keep(&slot, bytes.len()),
            Err(_) => lock(&self.blocks).retain(|cached| !Arc::ptr_eq(&cached.slot, &slot)),
        }
        decoded
    }

    /// The slot of a key, which becomes the most recently used one.
    fn slot(&self, key: Key) -> Arc<Slot> {
        let mut blocks = lock(&self.blocks);
        let known = blocks.iter().position(|cached| cached.key == key);
        let cached = known.and_then(|known| blocks.remove(known));
        let cached = cached.unwrap_or_else(|| Cached { key, slot: Arc::default(), bytes: 0 });
        let slot = Arc::clone(&cached.slot);
        blocks.push_back(cached);
        slot
    }

    /// Counts a block that was decoded, and drops others until no more is kept than may be.
    fn keep(&self, slot: &Arc<Slot>, bytes: usize) {
        let mut blocks = lock(&self.blocks);
        let mut kept = 0;
        for cached in blocks.iter_mut() {
            if Arc::ptr_eq(&cached.slot, slot) {
                cached.bytes = bytes;
            }
            kept += cached.bytes;
        }
        blocks.retain(|cached| {
            let is_dropped = kept > KEPT && cached.bytes > 0 && !Arc::ptr_eq(&cached.slot, slot);
            kept -= if is_dropped { cached.bytes } else { 0 };
            !is_dropped
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn different_blocks_are_decoded_at_once() {
        let (cache, both) = (Cache::default(), Barrier::new(2));
        thread::scope(|scope| {
            for block in 0..2 {
                let (cache, both) = (&cache, &both);
                scope.spawn(move || {
                    // Neither ends before the other one has begun.
                    let decode = || {
                        both.wait();
                        Ok(vec![block; 9])
                    };
                    assert_eq!(*cache.get((0, block.into()), decode).unwrap(), [block; 9]);
                });
            }
        });
    }

    #[test]
    fn a_block_is_decoded_once_for_all_who_want_it() {
        let (cache, all, decoded) = (Cache::default(), Barrier::new(8), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    all.wait();
                    let decode = || {
                        decoded.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(20));
                        Ok(vec![7; 9])
                    };
                    assert_eq!(*cache.get((3, 1), decode).unwrap(), [7; 9]);
                });
            }
        });
        assert_eq!(decoded.into_inner(), 1);
    }

    #[test]
    fn what_failed_is_tried_again_and_old_blocks_go() {
        let cache = Cache::default();
        assert!(cache.get((0, 0), || Err(Error::corrupt("no"))).is_err());
        assert!(cache.get((0, 0), || Ok(vec![1])).is_ok());
        let is_kept = |block| cache.get((0, block), || Err(Error::corrupt("gone"))).is_ok();
        for block in 1..4 {
            cache.get((0, block), || Ok(vec![0; KEPT / 2])).unwrap();
        }
        assert!(is_kept(3) && is_kept(2) && !is_kept(1) && !is_kept(0));
        cache.get((0, 9), || Ok(vec![0; 2 * KEPT])).unwrap();
        assert!(is_kept(9) && !is_kept(3));
    }
}
