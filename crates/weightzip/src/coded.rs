//! Blocks on their way into a file or a frame, coded into buffers that are used again.

use crate::codec::{self, Coding, Context, Given, Hints};
use crate::container::table::{self, Entry};
use crate::error::{Error, Kind, Result};
use crate::options::Level;
use crate::plan;
use crate::record::RecordLayout;
use crate::scratch::{self, Kept};
use std::ops::Range;

/// The context of a segment that begins with the block `first`, as a decoder will have it.
pub(crate) fn context(plan: &plan::Segment, first: &[u8]) -> Result<Option<Context>> {
    let context = match plan.level {
        Level::Default => of_block(plan, plan.is_long(), plan.hints(), first),
        // What level default has, and columns.
        Level::Max => {
            let one = &first[..default_bytes(plan).min(first.len())];
            let ranks = of_block(plan, plan.is_long_at_default(), plan.default_hints(), one);
            Context::joined(ranks, of_block(plan, plan.is_long(), plan.hints(), first))
        }
    };
    Ok(context.map(|c| c.read_back(&plan.layout)).transpose()?.flatten())
}

fn of_block(plan: &plan::Segment, is_long: bool, hints: Hints, block: &[u8]) -> Option<Context> {
    is_long.then(|| Context::of_first_block(&plan.layout, hints, block))?
}

/// Bytes of a block at level default.
fn default_bytes(plan: &plan::Segment) -> usize {
    let bytes = plan.default_block().saturating_mul(plan.layout.bytes().into());
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A coded block, in a buffer that the next one takes over.
pub(crate) struct Coded {
    pub(crate) entry: Entry,
    buffer: Vec<u8>,
    /// Where the payload starts in it.
    start: usize,
}

impl Default for Coded {
    /// A buffer, without a block so far.
    fn default() -> Self {
        let entry = Entry { len: 0, coding: Coding::Raw, records: 0, check: 0 };
        Self { entry, buffer: Vec::new(), start: 0 }
    }
}

impl Coded {
    /// Codes `data` in place of what was here.
    pub(crate) fn encode(
        &mut self,
        plan: &plan::Segment,
        given: Given<'_>,
        data: &[u8],
    ) -> Result<()> {
        let (layout, hints, buffer) = (&plan.layout, plan.hints(), &mut self.buffer);
        let block = match given.base.filter(|_| plan.scales().is_some()) {
            Some(scales) => codec::encode_scaled(layout, scales, hints, data, buffer)?,
            None => codec::encode_block(layout, given, hints, data, buffer)?,
        };
        let entry = Entry::of(&block)?;
        self.set(entry);
        Ok(())
    }

    /// The same at level max alone, whether or not another level were smaller.
    fn encode_once(&mut self, plan: &plan::Segment, given: Given<'_>, data: &[u8]) -> Result<()> {
        if given.base.is_some() && plan.scales().is_some() {
            return self.encode(plan, given, data);
        }
        let (layout, hints) = (&plan.layout, plan.hints());
        let entry = Entry::of(&codec::encode_once(layout, given, hints, data, &mut self.buffer)?)?;
        self.set(entry);
        Ok(())
    }

    /// The same at level default, which knows nothing of scales.
    fn encode_at_default(
        &mut self,
        plan: &plan::Segment,
        given: Given<'_>,
        data: &[u8],
    ) -> Result<()> {
        let base = given.base.filter(|_| plan.scales().is_none());
        let (given, hints) = (Given { base, ..given }, plan.default_hints());
        let block = codec::encode_block(&plan.layout, given, hints, data, &mut self.buffer)?;
        let entry = Entry::of(&block)?;
        self.set(entry);
        Ok(())
    }

    /// Sets what the buffer ends with.
    fn set(&mut self, entry: Entry) {
        self.start = self.buffer.len() - entry.len as usize;
        self.entry = entry;
    }

    /// Decodes the block while it is in cache and compares it with what it was made of, so that no
    /// fault of the encoder or the memory can lose data.
    pub(crate) fn check(&self, layout: &RecordLayout, given: Given<'_>, data: &[u8]) -> Result<()> {
        scratch::with(&DECODED, |decoded| {
            if decoded.len() < data.len() {
                decoded.resize(data.len(), 0);
            }
            let decoded = &mut decoded[..data.len()];
            let block = self.entry.block(self.payload());
            match codec::decode_block_into(layout, given, &block, decoded) {
                Ok(()) if decoded == data => Ok(()),
                _ => Err(Error::new(
                    Kind::Corruption,
                    "a block doesn't decode to its input: please report this; the original is unharmed",
                )),
            }
        })
    }

    fn payload(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Bytes that its section takes.
    pub(crate) fn whole(&self) -> usize {
        self.entry.section().whole_len()
    }

    /// Fills `room` with its section.
    pub(crate) fn write_to(&self, room: &mut [u8]) {
        self.entry.section().write_to(self.payload(), room);
    }

    /// Appends its section.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.whole();
        out.extend(self.entry.section().to_bytes());
        out.extend(self.payload());
        out.resize(end, 0);
    }
}

/// What some records are coded as: one block, or at level max several, if those that level default makes of them are smaller.
#[derive(Default)]
pub(crate) struct CodedRun {
    blocks: Vec<Coded>,
    used: Range<usize>,
}

impl CodedRun {
    /// Codes `data`, which are whole blocks of level default but for the last one, in place of what was here.
    pub(crate) fn encode(
        &mut self,
        plan: &plan::Segment,
        given: Given<'_>,
        data: &[u8],
    ) -> Result<()> {
        let unit = match plan.level {
            Level::Default => data.len(),
            Level::Max => default_bytes(plan).min(data.len()),
        };
        let units = data.len().div_ceil(unit.max(1));
        let wanted = if units > 1 { 1 + units } else { 1 };
        self.blocks.resize_with(self.blocks.len().max(wanted), Coded::default);
        let Some((whole, parts)) = self.blocks.split_first_mut() else { return Ok(()) };
        self.used = 0..1;
        if units < 2 {
            return whole.encode(plan, given, data);
        }
        whole.encode_once(plan, given, data)?;
        let (layout, coding) = (&plan.layout, whole.entry.coding);
        let alone = given.base.is_none();
        if alone && !codec::may_be_lower(layout, coding, whole.payload(), data, unit) {
            return Ok(());
        }
        let mut left = whole.whole() + table::ENTRY;
        for (i, (data, part)) in data.chunks(unit).zip(parts).enumerate() {
            part.encode_at_default(plan, part_of(given, i * unit, data.len()), data)?;
            match left.checked_sub(part.whole() + table::ENTRY) {
                Some(rest) if rest > 0 => left = rest,
                _ => return Ok(()),
            }
        }
        self.used = 1..1 + units;
        Ok(())
    }

    /// Checks each block, as [`Coded::check`] does.
    pub(crate) fn check(&self, layout: &RecordLayout, given: Given<'_>, data: &[u8]) -> Result<()> {
        let mut at = 0;
        for coded in self.blocks() {
            let len = coded.entry.records as usize * usize::from(layout.bytes());
            coded.check(layout, part_of(given, at, len), &data[at..at + len])?;
            at += len;
        }
        Ok(())
    }

    /// The blocks, in order.
    pub(crate) fn blocks(&self) -> &[Coded] {
        &self.blocks[self.used.clone()]
    }

    /// Bytes that their sections take.
    pub(crate) fn whole(&self) -> usize {
        self.blocks().iter().map(Coded::whole).sum()
    }

    /// Fills `room` with their sections.
    pub(crate) fn write_to(&self, mut room: &mut [u8]) {
        for coded in self.blocks() {
            let (own, rest) = room.split_at_mut(coded.whole());
            coded.write_to(own);
            room = rest;
        }
    }
}

/// What is given for some of the bytes.
fn part_of(given: Given<'_>, at: usize, len: usize) -> Given<'_> {
    Given { base: given.base.and_then(|base| base.get(at..at + len)), ..given }
}

thread_local! {
    /// What [`Coded::check`] decodes into: one per thread, for it shall stay in that one's cache.
    static DECODED: Kept<Vec<u8>> = const { scratch::none() };
}
