//! Records in, frame out.

use super::FrameOptions;
use crate::coded::{self, CodedRun};
use crate::container::header;
use crate::container::section::{self, Section};
use crate::container::segment::Segment;
use crate::container::table::{self, Entry};
use crate::error::{Error, Result};
use crate::plan;
use crate::record::RecordLayout;
use crate::runner::Runner;
use crate::scratch::{self, Kept};
use crate::source::{Source, with_bytes};
use std::ops::Range;

/// Bytes that are coded side by side, per thread, before their blocks are put in order.
const WAVE_BYTES: u64 = 2 << 20;

thread_local! {
    /// Buffers for coded blocks: they stay for the next call.
    static SLOTS: Kept<Vec<CodedRun>> = const { scratch::none() };
}

/// Compresses whole records into `out`, in place of what is there.
///
/// Blocks are cut as those of a tensor of one dimension in a file. An `out` that is used again
/// costs no new memory. A source that doesn't [lend](Source::lend) its bytes is asked for each
/// block once, and may change meanwhile: the frame then has each block as it was when it was read.
///
/// # Errors
/// [`InvalidArgument`](crate::Kind::InvalidArgument) if `data` is not whole records: an
/// [opaque layout](RecordLayout::opaque) takes any bytes. [`Io`](crate::Kind::Io) if it can't be
/// read, [`Corruption`](crate::Kind::Corruption) if `verify` finds a fault. `out` has no meaning then.
///
/// ```
/// use weightzip::{compress_frame, decompress_frame_into, frame_len, Dtype, FrameOptions};
/// let weights: Vec<u8> = (0..9000u16).flat_map(|i| (0x3D00 + i % 700).to_le_bytes()).collect();
/// let (options, mut frame) = (FrameOptions::default(), Vec::new());
/// compress_frame(&Dtype::Bf16.record_layout(), &weights, &options, &mut frame)?;
/// assert!(frame.len() < weights.len() * 7 / 10);
///
/// let mut out = vec![0; frame_len(&frame)? as usize];
/// decompress_frame_into(&frame, &mut out, &options)?;
/// assert_eq!(out, weights);
/// # Ok::<(), weightzip::Error>(())
/// ```
pub fn compress_frame(
    layout: &RecordLayout,
    data: &(impl Source + ?Sized),
    options: &FrameOptions,
    out: &mut Vec<u8>,
) -> Result<()> {
    let len = data.size().map_err(|e| Error::io("can't read the input", e))?;
    let size = u64::from(layout.bytes());
    if !len.is_multiple_of(size) {
        return Err(Error::argument(format!("{len} bytes are not whole records of {size}")));
    }
    let plan = plan::Segment::nameless(layout, len, options);
    let block = size * plan.block;
    let context = with_bytes(data, 0..block.min(len), |first| coded::context(&plan, first))?;
    let segment = Segment { layout: layout.clone(), row: 0, spans: vec![len], base: Vec::new() };

    let mut out = Out { bytes: out, len: 0 };
    out.put(&header::of_frame());
    out.section(section::SEGMENT, 0, |payload| segment.write_to(payload))?;
    for (id, payload) in context.iter().flat_map(|c| c.to_wire(layout)) {
        out.section(section::CONTEXT, id, |to| to.extend(payload))?;
    }
    let encode = |range: Range<u64>, coded: &mut CodedRun| {
        with_bytes(data, range, |data| {
            coded.encode(&plan, context.as_ref().into(), data)?;
            match options.verify {
                true => coded.check(layout, context.as_ref().into(), data),
                false => Ok(()),
            }
        })
    };
    let mut starts = (0..len).step_by(usize::try_from(block).unwrap_or(usize::MAX));
    let blocks = std::iter::from_fn(|| starts.next().map(|start| start..len.min(start + block)));
    let runner = Runner::new(if len <= block { 1 } else { options.threads })?;
    let slots_wanted = match &runner {
        Runner::Inline => 1,
        Runner::Pool(_) => {
            runner.threads() * usize::try_from(WAVE_BYTES.div_ceil(block)).unwrap_or(1)
        }
    };
    let entries = scratch::with(&SLOTS, |slots| {
        slots.resize_with(slots.len().max(slots_wanted), CodedRun::default);
        match &runner {
            Runner::Inline => out.blocks(blocks, &mut slots[0], encode),
            _ => out.waves(blocks, &mut slots[..slots_wanted], &runner, encode),
        }
    })?;
    let mut table = Vec::new();
    table::write_to(&entries, &mut table)?;
    out.section(section::TABLE, 0, |payload| payload.extend(table))?;
    out.finish();
    Ok(())
}

/// Puts bytes one behind another, over what the vector held: clearing that would cost a pass.
struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    len: usize,
}

impl Out<'_> {
    fn room(&mut self, len: usize) -> &mut [u8] {
        let start = self.len;
        self.len += len;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        &mut self.bytes[start..self.len]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    fn section(&mut self, kind: u8, sub: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut payload = Vec::new();
        fill(&mut payload);
        let section = Section::of(kind, sub, &payload)?;
        section.write_to(&payload, self.room(section.whole_len()));
        Ok(())
    }

    /// Codes blocks one by one.
    fn blocks(
        &mut self,
        blocks: impl Iterator<Item = Range<u64>>,
        slot: &mut CodedRun,
        encode: impl Fn(Range<u64>, &mut CodedRun) -> Result<()>,
    ) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for block in blocks {
            encode(block, slot)?;
            slot.write_to(self.room(slot.whole()));
            entries.extend(entries_of(slot));
        }
        Ok(entries)
    }

    /// Codes blocks in parallel, as many at a time as there are slots. A block's place is known
    /// when all before it are coded: it waits in its slot, and is put there when the next one comes.
    fn waves(
        &mut self,
        mut blocks: impl Iterator<Item = Range<u64>>,
        slots: &mut [CodedRun],
        runner: &Runner,
        encode: impl Fn(Range<u64>, &mut CodedRun) -> Result<()> + Sync,
    ) -> Result<Vec<Entry>> {
        let (mut entries, mut waiting) = (Vec::new(), 0);
        loop {
            let mut room = self.room(slots[..waiting].iter().map(CodedRun::whole).sum());
            let (mut tasks, mut coded) = (Vec::with_capacity(slots.len()), 0);
            for (i, slot) in slots.iter_mut().enumerate() {
                let len = if i < waiting { slot.whole() } else { 0 };
                let (own, rest) = std::mem::take(&mut room).split_at_mut(len);
                room = rest;
                let block = blocks.next();
                coded += usize::from(block.is_some());
                tasks.push((slot, own, block));
            }
            runner.try_each(&mut tasks, |(slot, room, block)| {
                if !room.is_empty() {
                    slot.write_to(room)
                }
                block.clone().map_or(Ok(()), |block| encode(block, slot))
            })?;
            waiting = coded;
            if waiting == 0 {
                return Ok(entries);
            }
            entries.extend(slots[..waiting].iter().flat_map(entries_of));
        }
    }

    fn finish(self) {
        self.bytes.truncate(self.len);
    }
}

fn entries_of(run: &CodedRun) -> impl Iterator<Item = Entry> {
    run.blocks().iter().map(|coded| coded.entry)
}
