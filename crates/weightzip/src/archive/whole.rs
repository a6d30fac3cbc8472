//! Compares a tensor that was read whole with its BLAKE3.

use super::Archive;
use crate::container::directory::Hash;
use crate::error::{Error, Result};
use crate::runner::Runner;
use crate::source::Source;

/// Bytes from which on a hash is worth several threads.
const TREE_BYTES: usize = 1 << 20;

impl<S: Source> Archive<S> {
    /// Refuses the bytes of a range that is a whole tensor, unless they have its BLAKE3.
    pub(super) fn check_range(&self, at: u64, bytes: &[u8]) -> Result<()> {
        match self.tensor_of(at, bytes.len() as u64) {
            Some((name, blake3)) => self.check_whole(name, blake3, bytes),
            None => Ok(()),
        }
    }

    /// Refuses the bytes of a tensor, unless they have its BLAKE3.
    pub(super) fn check_whole(&self, name: &str, blake3: &Hash, bytes: &[u8]) -> Result<()> {
        if !self.options.check_blocks {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        self.hash(&mut hasher, bytes)?;
        check_hash(&hasher, blake3).map_err(|e| e.in_tensor(name))
    }

    /// [`check_range`](Self::check_range) of many ranges, side by side.
    pub(super) fn check_ranges(&self, ranges: &[(u64, &mut [u8])]) -> Result<()> {
        if !self.options.check_blocks {
            return Ok(());
        }
        let is_whole =
            |(at, bytes): &&(u64, &mut [u8])| self.tensor_of(*at, bytes.len() as u64).is_some();
        let mut wholes: Vec<(u64, &[u8])> =
            ranges.iter().filter(is_whole).map(|(at, bytes)| (*at, &**bytes)).collect();
        let runner = Runner::new(if wholes.len() <= 1 { 1 } else { self.options.threads })?;
        runner.try_each(&mut wholes, |(at, bytes)| self.check_range(*at, bytes))
    }

    /// Hashes some bytes, on several threads if they are many.
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher, bytes: &[u8]) -> Result<()> {
        match Runner::new(if bytes.len() < TREE_BYTES { 1 } else { self.options.threads })? {
            Runner::Inline => hasher.update(bytes),
            Runner::Pool(pool) => pool.install(|| hasher.update_rayon(bytes)),
        };
        Ok(())
    }

    /// The name and BLAKE3 of the tensor that is this range; none if the range is empty.
    fn tensor_of(&self, at: u64, bytes: u64) -> Option<(&str, &Hash)> {
        let index = self.tensors.partition_point(|place| place.start <= at).checked_sub(1)?;
        let place = self.tensors.get(index).filter(|place| place.start == at && bytes > 0)?;
        let span = &self.segments[place.segment].spans[place.span];
        let (info, blake3) = span.tensor.as_ref().filter(|_| span.bytes == bytes)?;
        Some((&info.name, blake3))
    }
}

/// Refuses what was hashed, unless it has this BLAKE3.
pub(super) fn check_hash(hasher: &blake3::Hasher, blake3: &Hash) -> Result<()> {
    match hasher.finalize().as_bytes() == blake3 {
        true => Ok(()),
        false => Err(Error::corrupt("the tensor's bytes differ from its BLAKE3")),
    }
}
