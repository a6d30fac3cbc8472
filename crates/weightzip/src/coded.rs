//! Blocks on their way into a file or a frame, coded into buffers that are used again.

use crate::codec::{self, Coding, Context, Given};
use crate::container::table::Entry;
use crate::error::{Error, Kind, Result};
use crate::plan;
use crate::record::RecordLayout;
use crate::scratch::{self, Kept};

/// The context of a segment that begins with the block `first`, as a decoder will have it.
pub(crate) fn context(plan: &plan::Segment, first: &[u8]) -> Result<Option<Context>> {
    if !plan.is_long() {
        return Ok(None);
    }
    let context = Context::of_first_block(&plan.layout, plan.hints(), first);
    Ok(context.map(|c| c.read_back(&plan.layout)).transpose()?.flatten())
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
        self.entry = Entry::of(&block)?;
        let len = block.payload.len();
        self.start = self.buffer.len() - len;
        Ok(())
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

thread_local! {
    /// What [`Coded::check`] decodes into: one per thread, for it shall stay in that one's cache.
    static DECODED: Kept<Vec<u8>> = const { scratch::none() };
}
