//! Some of the original on its way into a `.wz`: read, coded and written at once.

use super::digest::{Digest, Run, SpanHashes};
use super::stages::{Stage, Timers};
use crate::base::{BaseBytes, Found, Scales};
use crate::codec::{Context, Given};
use crate::coded::{self, CodedRun};
use crate::container::segment::Segment;
use crate::container::table::Entry;
use crate::error::Result;
use crate::plan;
use crate::runner::try_each_in_pool;
use crate::scratch::{self, Kept};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Bytes that a thread codes at a time: large blocks one by one, small ones together.
const GROUP_BYTES: usize = 128 << 10;

/// Whole blocks, one behind another. All buffers are used again.
#[derive(Default)]
pub(super) struct Batch {
    /// May be longer than the blocks.
    pub(super) buffer: Vec<u8>,
    pub(super) parts: Vec<Part>,
    pub(super) blocks: Vec<Cut>,
    groups: Vec<Group>,
    /// How many of the groups are in use.
    used: usize,
    /// Of the segments that end here.
    pub(super) ended: Vec<SpanHashes>,
}

/// How to code.
pub(super) struct How<'a> {
    pub(super) in_pool: bool,
    pub(super) verify: bool,
    pub(super) timers: &'a Timers,
    /// What segments are coded against.
    pub(super) bases: &'a Found,
    /// The input again, which they may repeat.
    pub(super) original: Option<&'a dyn BaseBytes>,
}

/// A segment's share of a batch.
pub(super) struct Part {
    pub(super) shared: Arc<Shared>,
    pub(super) blocks: Range<usize>,
    /// Whether the segment starts or ends here.
    pub(super) starts: bool,
    pub(super) ends: bool,
}

/// What the blocks of a segment share.
pub(super) struct Shared {
    pub(super) plan: plan::Segment,
    pub(super) announced: Segment,
    /// Set with the first block, if the segment has one.
    pub(super) context: OnceLock<Context>,
    /// The same, if they are numbers whose scales are a base.
    pub(super) scales: OnceLock<Scales>,
}

/// A block to be coded: the part that it belongs to, and its place in the buffer.
pub(super) struct Cut {
    pub(super) part: usize,
    pub(super) bytes: Range<usize>,
    /// Where its bytes start in the segment.
    pub(super) start: u64,
}

/// Consecutive blocks that one thread codes.
#[derive(Default)]
pub(super) struct Group {
    blocks: Range<usize>,
    /// Their sections, one behind another.
    pub(super) sections: Vec<u8>,
    /// As how many blocks each is coded: more than one at level max, where that is smaller.
    counts: Vec<usize>,
    pub(super) entries: Vec<Entry>,
}

thread_local! {
    /// What this thread codes.
    static CODED: Kept<CodedRun> = const { scratch::none() };
}

impl Shared {
    pub(super) fn new(plan: plan::Segment) -> Arc<Self> {
        let spans = plan.spans.iter().map(|s| s.range.end - s.range.start).collect();
        let (layout, base) = (plan.layout.clone(), plan.base.clone());
        let announced = Segment { layout, row: plan.row, spans, base };
        Arc::new(Self { plan, announced, context: OnceLock::new(), scales: OnceLock::new() })
    }

    /// The scales of its numbers, if its base has them.
    fn scales(&self, how: &How<'_>) -> Result<Option<&Scales>> {
        if self.scales.get().is_none()
            && let Some(scales) = Scales::read(how.bases, how.original, &self.announced)?
        {
            // Whoever else has read them meanwhile: all see those of one.
            self.scales.get_or_init(|| scales);
        }
        Ok(self.scales.get())
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.blocks.clear();
        self.used = 0;
        self.ended.clear();
    }

    /// Bytes of the original in it.
    pub(super) fn len(&self) -> usize {
        self.blocks.last().map_or(0, |b| b.bytes.end)
    }

    /// Where a part ends; 0 if it has no blocks.
    pub(super) fn end_of(&self, part: &Part) -> usize {
        self.blocks[part.blocks.clone()].last().map_or(0, |b| b.bytes.end)
    }

    /// Codes all blocks and hashes all bytes; on the pool that this is called in, if there is one.
    pub(super) fn code(&mut self, digest: &mut Digest, how: &How<'_>) -> Result<()> {
        let data = &self.buffer[..self.len()];
        let (parts, blocks) = (&self.parts[..], &self.blocks[..]);
        let groups = &mut self.groups[..self.used];
        let ended = &mut self.ended;
        let mut hash = || digest.feed(data, runs(parts, blocks), ended, how.in_pool, how.timers);
        let code = |group: &mut Group| group.code(data, parts, blocks, how);
        if how.in_pool {
            rayon::join(hash, || try_each_in_pool(groups, code)).1
        } else {
            hash();
            groups.iter_mut().try_for_each(code)
        }
    }

    /// The coded blocks, in order.
    pub(super) fn coded(&self) -> CodedBlocks<'_> {
        let groups = self.groups[..self.used].iter();
        CodedBlocks { groups, counts: &[], entries: &[], sections: &[] }
    }

    /// Finds what the blocks of segments that start here share, and who codes which.
    pub(super) fn prepare(&mut self) -> Result<()> {
        for part in self.parts.iter().filter(|p| p.starts && !p.blocks.is_empty()) {
            let first = &self.buffer[self.blocks[part.blocks.start].bytes.clone()];
            if let Some(context) = coded::context(&part.shared.plan, first)? {
                part.shared.context.get_or_init(|| context);
            }
        }
        self.form_groups();
        Ok(())
    }

    fn form_groups(&mut self) {
        let (mut first, mut bytes) = (0, 0);
        for (i, block) in self.blocks.iter().enumerate() {
            bytes += block.bytes.len();
            if bytes >= GROUP_BYTES || i + 1 == self.blocks.len() {
                if self.used == self.groups.len() {
                    self.groups.push(Group::default());
                }
                self.groups[self.used].blocks = first..i + 1;
                self.used += 1;
                (first, bytes) = (i + 1, 0);
            }
        }
    }
}

/// What the parts are to the digest.
fn runs<'a>(parts: &'a [Part], blocks: &'a [Cut]) -> impl Iterator<Item = Run<'a>> {
    parts.iter().map(|part| {
        let bytes = blocks[part.blocks.clone()].iter().map(|b| b.bytes.len()).sum();
        let &Part { ref shared, starts, ends, .. } = part;
        Run { segment: &shared.announced, bytes, starts, ends }
    })
}

impl Group {
    fn code(&mut self, data: &[u8], parts: &[Part], blocks: &[Cut], how: &How<'_>) -> Result<()> {
        self.sections.clear();
        self.entries.clear();
        self.counts.clear();
        scratch::with(&CODED, |coded| {
            for Cut { part, bytes, start } in &blocks[self.blocks.clone()] {
                let (shared, data) = (&parts[*part].shared, &data[bytes.clone()]);
                let segment = &shared.announced;
                let only_same = how.bases.is_repeat(segment);
                match (segment.base.is_empty(), shared.scales(how)?) {
                    (true, _) => code_block(coded, shared, None, data, how)?,
                    (_, Some(scales)) => {
                        let code = |base: &[u8]| code_block(coded, shared, Some(base), data, how);
                        scales.with(*start, data.len(), code)?;
                    }
                    (false, None) => {
                        how.bases.with(
                            how.original,
                            segment,
                            *start,
                            data.len(),
                            None,
                            |base, any| {
                                // An input that changed meanwhile is another one when it is restored.
                                let any = any && (base == data || !only_same);
                                code_block(coded, shared, any.then_some(base), data, how)
                            },
                        )?
                    }
                }
                for block in coded.blocks() {
                    block.append_to(&mut self.sections);
                    self.entries.push(block.entry);
                }
                self.counts.push(coded.blocks().len());
            }
            Ok(())
        })
    }
}

fn code_block(
    coded: &mut CodedRun,
    shared: &Shared,
    base: Option<&[u8]>,
    data: &[u8],
    how: &How<'_>,
) -> Result<()> {
    let given = Given { context: shared.context.get(), base };
    how.timers.time(Stage::Encode, || coded.encode(&shared.plan, given, data))?;
    match how.verify {
        true => how.timers.time(Stage::Check, || coded.check(&shared.plan.layout, given, data)),
        false => Ok(()),
    }
}

/// Goes through the coded blocks of a batch.
pub(super) struct CodedBlocks<'a> {
    groups: std::slice::Iter<'a, Group>,
    /// What is left of a group.
    counts: &'a [usize],
    entries: &'a [Entry],
    sections: &'a [u8],
}

impl<'a> CodedBlocks<'a> {
    /// Some of the next `most` cuts: how many, and their blocks, whose sections are one behind another.
    pub(super) fn next(&mut self, most: usize) -> (usize, &'a [Entry], &'a [u8]) {
        if self.counts.is_empty()
            && let Some(group) = self.groups.next()
        {
            (self.counts, self.entries, self.sections) =
                (&group.counts, &group.entries, &group.sections);
        }
        let (counts, rest) = self.counts.split_at(most.min(self.counts.len()));
        self.counts = rest;
        let (entries, later) = self.entries.split_at(counts.iter().sum());
        let bytes = entries.iter().map(|e| e.section().whole_len()).sum();
        let (sections, rest) = self.sections.split_at(bytes);
        (self.entries, self.sections) = (later, rest);
        (counts.len(), entries, sections)
    }
}
