//! Many ranges in one call: every block that has some of them is decoded once, side by side.

use super::Archive;
use super::located::Located;
use crate::error::{Error, Result};
use crate::options::Watch;
use crate::runner::Runner;
use crate::source::Source;
use std::cell::Cell;
use std::ops::Range;

/// What is wanted of one block.
struct Piece<'a, 'o> {
    located: &'a Located,
    segment: usize,
    block: usize,
    /// Where it starts in the block.
    skip: usize,
    /// Where it starts in the original.
    at: u64,
    out: &'o mut [u8],
}

thread_local! {
    /// A block of which several pieces are wanted, or not all.
    static DECODED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl<S: Source> Archive<S> {
    /// Fills each buffer with the original's bytes from its offset on, as
    /// [`read_at`](Archive::read_at) does, but decodes all blocks in one go: those of many small
    /// tensors, or of a large one. `watch` hears of each block's bytes. Whole tensors are compared with their BLAKE3,
    /// side by side, too.
    ///
    /// # Errors
    /// As [`read_at`](Archive::read_at), with the tensor's name, or
    /// [`Io`](crate::Kind::Io) if `watch` ended it. The buffers have no meaning then.
    ///
    /// ```
    /// # use weightzip::{compress, Archive, Options};
    /// # let mut wz = Vec::new();
    /// # compress(&b"0123456789"[..], &mut wz, &Options::default())?;
    /// let (mut first, mut last) = ([0; 4], [0; 3]);
    /// Archive::open(wz)?.read_many([(0, &mut first[..]), (7, &mut last[..])], &|_| Ok(()))?;
    /// assert_eq!((&first, &last), (b"0123", b"789"));
    /// # Ok::<(), weightzip::Error>(())
    /// ```
    pub fn read_many<'o>(
        &self,
        wanted: impl IntoIterator<Item = (u64, &'o mut [u8])>,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let (mut wanted, mut pieces): (Vec<_>, Vec<_>) = (wanted.into_iter().collect(), Vec::new());
        for (at, out) in &mut wanted {
            self.check(*at, out.len() as u64)?;
            self.cut(*at, out, &mut pieces)?;
        }
        pieces.sort_by_key(|p| (p.segment, p.block, p.skip));
        let same_block =
            |a: &Piece<'_, '_>, b: &Piece<'_, '_>| (a.segment, a.block) == (b.segment, b.block);
        let mut blocks: Vec<_> = pieces.chunk_by_mut(same_block).collect();
        let runner = Runner::new(if blocks.len() <= 1 { 1 } else { self.options.threads })?;
        runner.try_each(&mut blocks, |pieces| self.fill(pieces, watch))?;
        self.check_ranges(&wanted)
    }

    /// Reads the block tables of what has these bytes of the original. When it succeeds, the file
    /// has the blocks for them, so memory may be taken: sizes alone are a claim.
    ///
    /// # Errors
    /// As [`read_at`](Archive::read_at).
    pub fn locate(&self, range: Range<u64>) -> Result<()> {
        self.check(range.start, range.end.saturating_sub(range.start))?;
        let mut at = range.start;
        while at < range.end {
            let segment = self.segment_of(at);
            self.located(segment).map_err(|e| self.name(e, at))?;
            at = self.starts[segment] + self.segments[segment].bytes;
        }
        Ok(())
    }

    /// Cuts a buffer where blocks end.
    fn cut<'a, 'o>(
        &'a self,
        mut at: u64,
        mut out: &'o mut [u8],
        pieces: &mut Vec<Piece<'a, 'o>>,
    ) -> Result<()> {
        while !out.is_empty() {
            let segment = self.segment_of(at);
            let located = self.located(segment).map_err(|e| self.name(e, at))?;
            let start = at - self.starts[segment];
            let first = located.block_of(start);
            for (block, place) in located.blocks.iter().enumerate().skip(first) {
                if out.is_empty() {
                    break;
                }
                let skip = usize::try_from(at - self.starts[segment] - place.start);
                let skip = skip.unwrap_or(place.bytes).min(place.bytes);
                let len = (place.bytes - skip).min(out.len());
                let (now, later) = out.split_at_mut(len);
                pieces.push(Piece { located, segment, block, skip, at, out: now });
                out = later;
                at += len as u64;
            }
        }
        Ok(())
    }

    /// Decodes the block that all these are of.
    fn fill(&self, pieces: &mut [Piece<'_, '_>], watch: &Watch<'_>) -> Result<()> {
        let Some(&Piece { located, block, at, .. }) = pieces.first() else { return Ok(()) };
        let block = &located.blocks[block];
        let decode = |out: &mut [u8]| {
            let decoded = located.decode(self, block, out, None);
            decoded.map_err(|e| self.name(e, at))
        };
        let done: usize = pieces.iter().map(|p| p.out.len()).sum();
        match pieces {
            [whole] if whole.out.len() == block.bytes => decode(whole.out)?,
            _ => {
                let mut buffer = DECODED.take();
                buffer.resize(buffer.len().max(block.bytes), 0);
                let decoded = decode(&mut buffer[..block.bytes]);
                if decoded.is_ok() {
                    for piece in pieces {
                        piece.out.copy_from_slice(&buffer[piece.skip..][..piece.out.len()]);
                    }
                }
                DECODED.set(buffer);
                decoded?;
            }
        }
        watch(done as u64).map_err(Error::stopped)
    }

    /// Names the tensor that has a byte of the original.
    fn name(&self, error: Error, at: u64) -> Error {
        let index = self.tensors.partition_point(|place| place.start <= at);
        let place = index.checked_sub(1).and_then(|index| self.tensors.get(index));
        match place.and_then(|&place| self.tensor_at(place)) {
            Some(tensor) if at < tensor.range.end => error.in_tensor(&tensor.info.name),
            _ => error,
        }
    }
}
