//! Records in, frame out.

use super::FrameOptions;
use crate::coded::{self, Coded};
use crate::container::header::{self, Holds};
use crate::container::section::{self, Section};
use crate::container::segment::Segment;
use crate::container::table::{self, Entry};
use crate::error::{Error, Result};
use crate::plan;
use crate::record::RecordLayout;
use crate::runner::Runner;
use std::cell::RefCell;

/// Bytes that are coded side by side, per thread, before their blocks are put in order.
const WAVE_BYTES: usize = 2 << 20;

thread_local! {
    /// Buffers for coded blocks: they stay for the next call.
    static SLOTS: RefCell<Vec<Coded>> = const { RefCell::new(Vec::new()) };
}

/// Compresses whole records into `out`, in place of what is there.
///
/// Blocks are cut as those of a tensor of one dimension in a file. An `out` that is used again
/// costs no new memory.
///
/// # Errors
/// [`InvalidArgument`](crate::Kind::InvalidArgument) if `data` is not whole records: an
/// [opaque layout](RecordLayout::opaque) takes any bytes. [`Corruption`](crate::Kind::Corruption)
/// if `verify` finds a fault. `out` has no meaning then.
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
    data: &[u8],
    options: &FrameOptions,
    out: &mut Vec<u8>,
) -> Result<()> {
    let size = usize::from(layout.bytes());
    if !data.len().is_multiple_of(size) {
        let why = format!("{} bytes are not whole records of {size}", data.len());
        return Err(Error::argument(why));
    }
    let plan = plan::Segment::nameless(layout, data.len() as u64);
    let block = size * usize::try_from(plan.block).unwrap_or(usize::MAX / size);
    let context = coded::context(&plan, &data[..block.min(data.len())])?;
    let segment = Segment { layout: layout.clone(), row: 0, spans: vec![data.len() as u64] };

    let mut out = Out { bytes: out, len: 0 };
    out.put(&header::bytes(Holds::Frame));
    out.section(section::SEGMENT, 0, |payload| segment.write_to(payload))?;
    if let Some(context) = &context {
        let (id, payload) = context.to_wire(layout);
        out.section(section::CONTEXT, id, |to| to.extend(payload))?;
    }
    let encode = |data: &[u8], coded: &mut Coded| {
        coded.encode(layout, context.as_ref(), data)?;
        match options.verify {
            true => coded.check(layout, context.as_ref(), data),
            false => Ok(()),
        }
    };
    let runner = Runner::new(if data.len() <= block { 1 } else { options.threads })?;
    let wave = match &runner {
        Runner::Inline => block,
        Runner::Pool(_) => runner.threads() * WAVE_BYTES.next_multiple_of(block),
    };
    let entries = SLOTS.with_borrow_mut(|slots| {
        slots.resize_with(slots.len().max(wave / block), Coded::default);
        match &runner {
            Runner::Inline => out.blocks(data.chunks(block), &mut slots[0], encode),
            _ => out.waves(data.chunks(wave), block, slots, &runner, encode),
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
    fn blocks<'d>(
        &mut self,
        blocks: impl Iterator<Item = &'d [u8]>,
        slot: &mut Coded,
        encode: impl Fn(&[u8], &mut Coded) -> Result<()>,
    ) -> Result<Vec<Entry>> {
        let each = |data| {
            encode(data, slot)?;
            slot.write_to(self.room(slot.whole()));
            Ok(slot.entry)
        };
        blocks.map(each).collect()
    }

    /// Codes blocks in parallel, as many at a time as there are slots. A block's place is known
    /// when all before it are coded: it waits in its slot, and is put there when the next one comes.
    fn waves<'d>(
        &mut self,
        waves: impl Iterator<Item = &'d [u8]>,
        block: usize,
        slots: &mut [Coded],
        runner: &Runner,
        encode: impl Fn(&[u8], &mut Coded) -> Result<()> + Sync,
    ) -> Result<Vec<Entry>> {
        let (mut entries, mut waiting) = (Vec::new(), 0);
        for wave in waves.chain([&[][..]]) {
            let mut room = self.room(slots[..waiting].iter().map(Coded::whole).sum());
            let mut tasks = Vec::with_capacity(slots.len());
            let mut blocks = wave.chunks(block);
            let blocks_in_wave = blocks.len();
            for (i, slot) in slots.iter_mut().enumerate() {
                let len = if i < waiting { slot.whole() } else { 0 };
                let (own, rest) = std::mem::take(&mut room).split_at_mut(len);
                room = rest;
                tasks.push((slot, own, blocks.next()));
            }
            runner.try_each(&mut tasks, |(slot, room, block)| {
                if !room.is_empty() {
                    slot.write_to(room)
                }
                block.map_or(Ok(()), |data| encode(data, slot))
            })?;
            waiting = blocks_in_wave;
            entries.extend(slots[..waiting].iter().map(|slot| slot.entry));
        }
        Ok(entries)
    }

    fn finish(self) {
        self.bytes.truncate(self.len);
    }
}
