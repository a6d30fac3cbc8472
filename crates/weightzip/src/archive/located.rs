//! A segment of an open file: its description, and where its blocks are.

use super::{Archive, Repeated};
use crate::base::Work;
use crate::codec::{self, Context, Given};
use crate::container::bases::Bases;
use crate::container::directory::Placed;
use crate::container::section::{self, Section, Sections};
use crate::container::segment::Segment;
use crate::container::table;
use crate::error::{Error, Result};
use crate::options::Limits;
use crate::source::{Source, with_bytes};
use std::ops::Range;

/// A segment's own description and block table.
pub(super) struct Located {
    segment: Segment,
    context: Option<Context>,
    pub(super) blocks: Vec<LocatedBlock>,
}

pub(super) struct LocatedBlock {
    pub(super) entry: table::Entry,
    /// Offset of its section in the file.
    at: u64,
    /// Where its bytes start in the segment.
    pub(super) start: u64,
    /// Bytes that it decodes to.
    pub(super) bytes: usize,
}

impl LocatedBlock {
    /// Where its bytes end in the segment.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes as u64
    }
}

impl Located {
    /// Reads the segment that the directory places there, and checks that it says the same.
    pub(super) fn read<S: Source>(
        source: &S,
        placed: &Placed,
        bases: &Bases,
        original_at: u64,
        limits: &Limits,
    ) -> Result<Self> {
        let limit = limits.metadata_bytes as u64;
        let end = placed.end().unwrap_or(u64::MAX);
        if placed.blocks_at - placed.at > limit || end - placed.table_at > limit {
            return Err(Error::corrupt("a segment's description is beyond the limit"));
        }
        let head = read(source, placed.at..placed.blocks_at)?;
        let mut sections = Sections::new(placed.at, &head, misplaced);
        let segment = match sections.next()? {
            Some((section, padded)) if section.kind == section::SEGMENT => {
                Segment::read_from(section.open(padded)?)?
            }
            _ => return Err(Error::corrupt("the directory places a segment where none is")),
        };
        segment.check_base(bases, original_at)?;
        let mut context = None;
        while let Some((section, padded)) = sections.next()? {
            let payload = section.open(padded)?;
            if section.kind != section::CONTEXT {
                return Err(section.misplaced());
            }
            Context::add(&mut context, section.sub, payload, &segment.layout)?;
        }
        let tail = read(source, placed.table_at..end)?;
        let entries = match Sections::new(placed.table_at, &tail, misplaced).next()? {
            Some((section, padded)) if section.kind == section::TABLE => {
                table::read_from(section.open(padded)?)?
            }
            _ => return Err(Error::corrupt("the directory places a block table where none is")),
        };
        let mut located = Self { segment, context, blocks: Vec::new() };
        let (mut at, mut start) = (placed.blocks_at, 0);
        for entry in entries {
            located.segment.check_coding(entry.coding)?;
            let bytes = entry.decoded_len(&located.segment.layout, limits.block_bytes)?;
            located.blocks.push(LocatedBlock { entry, at, start, bytes });
            at += entry.section().whole();
            start += bytes as u64;
        }
        let same_place = (at, start) == (placed.table_at, placed.bytes);
        if !same_place || !located.segment.agrees(start, &placed.spans)? {
            return Err(Error::corrupt("a segment's block table differs from the directory"));
        }
        Ok(located)
    }

    /// Whether it has no base.
    pub(super) fn is_alone(&self) -> bool {
        self.segment.base.is_empty()
    }

    /// The block that has the segment's byte `at`, which must be one of it.
    pub(super) fn block_of(&self, at: u64) -> usize {
        self.blocks.partition_point(|b| b.start <= at).saturating_sub(1)
    }

    /// Reads a block and decodes it into `out`, which has its size: within a budget of `work`, if it is for a block
    /// of another file.
    pub(super) fn decode<S: Source>(
        &self,
        archive: &Archive<S>,
        block: &LocatedBlock,
        out: &mut [u8],
        work: Option<&Work>,
    ) -> Result<()> {
        work.map_or(Ok(()), |work| work.spend(block.bytes))?;
        if !block.entry.coding.needs_base() {
            return self.decode_given(archive, block, None, out);
        }
        let found = archive.find_bases().map_err(|e| e.at(block.at))?;
        let (segment, original) = (&self.segment, Repeated(archive));
        let decode = |base: &[u8], _| self.decode_given(archive, block, Some(base), out);
        let decoded = found.with(Some(&original), segment, block.start, block.bytes, work, decode);
        decoded.map_err(|e| e.at(block.at))
    }

    fn decode_given<S: Source>(
        &self,
        archive: &Archive<S>,
        block: &LocatedBlock,
        base: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<()> {
        let expected = block.entry.section();
        let decode = |whole: &[u8]| {
            let found = whole.first_chunk().map(Section::from_bytes).transpose()?;
            if found != Some(expected) {
                return Err(Error::corrupt(
                    "a block's header differs from its entry in the block table",
                ));
            }
            let payload = expected.unpad(&whole[section::LEN..])?;
            let block = block.entry.block(payload);
            let given = Given { context: self.context.as_ref(), base };
            let layout = &self.segment.layout;
            match archive.options.check_blocks {
                true => codec::decode_block_into(layout, given, &block, out),
                false => codec::decode_unchecked(layout, given, &block, out),
            }
        };
        let range = block.at..block.at + expected.whole();
        with_bytes(&archive.source, range, decode).map_err(|e| e.at(block.at))
    }
}

fn misplaced() -> Error {
    Error::corrupt("a section leaves the place that the directory gives it")
}

/// Reads a range whose length was checked.
pub(super) fn read<S: Source>(source: &S, range: Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let read = source.read_at(range.start, &mut bytes);
    read.map_err(|e| Error::io("can't read the input", e).at(range.start))?;
    Ok(bytes)
}
