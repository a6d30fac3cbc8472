//! The original in batches: reads as many bytes as the next blocks have, and says what they are.

use super::batch::{Batch, Cut, Part, Shared};
use super::stages::{Stage, Timers};
use super::{FIRST_READ, MAX_PARTS};
use crate::error::{Error, Result};
use crate::options::Level;
use crate::plan;
use crate::record::RecordLayout;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

pub(super) struct Cutter<R> {
    from: R,
    /// The rest of the plan; its last segment takes all that follows.
    segments: std::vec::IntoIter<plan::Segment>,
    /// The segment in work, and how many of its records were cut.
    open: Option<(Arc<Shared>, u64)>,
    /// Bytes of a batch, about.
    batch_bytes: usize,
}

impl<R: Read> Cutter<R> {
    pub(super) fn new(from: R, segments: Vec<plan::Segment>, batch_bytes: usize) -> Self {
        Self { from, segments: segments.into_iter(), open: None, batch_bytes }
    }

    /// The next batch; an empty one if the file has ended.
    pub(super) fn fill(&mut self, batch: &mut Batch, timers: &Timers) -> Result<()> {
        batch.clear();
        self.plan(batch);
        let wanted = batch.len();
        let found = timers.time(Stage::Read, || read(&mut self.from, &mut batch.buffer, wanted))?;
        if found < wanted {
            self.segments = Vec::new().into_iter();
            self.open = None;
            cut_short(batch, found);
        }
        Ok(())
    }

    /// The blocks that come next, if the file goes on.
    fn plan(&mut self, batch: &mut Batch) {
        let mut at = 0;
        while at < self.batch_bytes && batch.parts.len() < MAX_PARTS {
            let starts = self.open.is_none();
            let next = || self.segments.next().map(|plan| (Shared::new(plan), 0));
            let Some((shared, mut records)) = self.open.take().or_else(next) else {
                return;
            };
            let size = usize::from(shared.plan.layout.bytes());
            let (part, first) = (batch.parts.len(), batch.blocks.len());
            let ends = loop {
                let block = shared.plan.block_at(records);
                if block == 0 || at >= self.batch_bytes {
                    break block == 0;
                }
                let end = at + usize::try_from(block).unwrap_or(usize::MAX) * size;
                batch.blocks.push(Cut { part, bytes: at..end, start: records * size as u64 });
                records += block;
                at = end;
            };
            self.open = (!ends).then(|| (Arc::clone(&shared), records));
            batch.parts.push(Part { shared, blocks: first..batch.blocks.len(), starts, ends });
        }
    }
}

/// The file has fewer bytes than were planned: ends the batch where it ends.
fn cut_short(batch: &mut Batch, found: usize) {
    let Some(index) = batch.parts.iter().position(|p| batch.end_of(p) > found) else {
        return;
    };
    let part = &mut batch.parts[index];
    let size = usize::from(part.shared.plan.layout.bytes());
    let mut kept = batch.blocks[part.blocks.start].bytes.start;
    let mut blocks = part.blocks.start..part.blocks.start;
    for block in &mut batch.blocks[part.blocks.clone()] {
        let bytes = &mut block.bytes;
        bytes.end = bytes.end.min(bytes.start + found.saturating_sub(bytes.start) / size * size);
        if bytes.start == bytes.end {
            break;
        }
        kept = bytes.end;
        blocks.end += 1;
    }
    // A segment that has nothing is left out; but it may be one of empty tensors where the file ends.
    let exists = !blocks.is_empty() || !part.starts || part.shared.plan.starts_empty();
    batch.blocks.truncate(blocks.end);
    part.blocks = blocks;
    part.ends = true;
    batch.parts.truncate(index + usize::from(exists));
    if kept < found {
        let first = batch.blocks.len();
        batch.blocks.push(Cut { part: batch.parts.len(), bytes: kept..found, start: 0 });
        let shared = Shared::new(plan::Segment::rest(RecordLayout::opaque(), Level::Default));
        let blocks = first..first + 1;
        batch.parts.push(Part { shared, blocks, starts: true, ends: true });
    }
}

/// Reads `len` bytes, or as many as there are; `buffer` grows with what is really there, and may
/// be longer.
fn read(from: &mut impl Read, buffer: &mut Vec<u8>, len: usize) -> Result<usize> {
    let mut found = 0;
    while found < len {
        if found == buffer.len() {
            buffer.resize((2 * found).max(FIRST_READ).min(len.max(found)), 0);
        }
        let end = buffer.len().min(len);
        match from.read(&mut buffer[found..end]) {
            Ok(0) => break,
            Ok(n) => found += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("can't read the input", e)),
        }
    }
    Ok(found)
}
