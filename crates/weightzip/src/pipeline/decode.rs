//! `.wz` in, original out.

use super::digest::{Digest, Run, SpanHashes};
use super::input::Again;
use super::stages::{Stage, Timers};
use super::{MAX_PARTS, Summary, batch_bytes, input};
use crate::archive::Repeated;
use crate::base::{Base, BaseBytes, Found, Sure};
use crate::codec::{self, Context, Given};
use crate::container::directory::Placed;
use crate::container::footer::Info;
use crate::container::segment::Segment;
use crate::container::stream::{Event, Received, Stream};
use crate::error::{Error, Result};
use crate::options::{DecodeOptions, Limits};
use crate::runner::{Runner, try_fill};
use rayon::ThreadPool;
use std::io::{Read, Write};
use std::sync::Arc;

/// Restores the original from all of `reader` into `writer`, in one pass and bounded memory.
///
/// Checks every block, every tensor's hash, the whole's hash, and that the index says what was
/// seen; with [`std::io::sink`] as writer that is what `wz verify` does. Reads and writes in
/// order; `reader` may be a pipe. What stores equal tensors once is read at random, too: from
/// [`DecodeOptions::source`], or a copy in a temporary file.
///
/// # Errors
/// Any kind but [`InvalidArgument`](crate::Kind::InvalidArgument), with the offset in the `.wz` and, if the file's
/// directory can still be read, the tensor. What was written by then is not to be used.
pub fn decompress<R: Read, W: Write>(
    reader: R,
    writer: W,
    options: &DecodeOptions,
) -> Result<Summary> {
    let timers = Timers::new(options.timings);
    let runner = Runner::new(options.threads)?;
    let (reader, repeated) = timers.time(Stage::Read, || input::packed(reader, options))?;
    let stream = timers.time(Stage::Read, || Stream::new(reader, options.limits))?;
    options.check_lossless(stream.flags.is_rounded)?;
    let feeder = Feeder {
        stream,
        segment: None,
        in_segment: 0,
        base: &options.base,
        limits: &options.limits,
        bases: Arc::default(),
        original_at: 0,
        batch_bytes: batch_bytes(&runner),
        ended: false,
    };
    let decoder = Decoder {
        feeder,
        writer,
        digest: Digest::new(options.sha256),
        hashes: Vec::new(),
        repeated: repeated.as_ref(),
        options,
        timers: &timers,
    };
    match &runner {
        Runner::Inline => decoder.inline(),
        Runner::Pool(pool) => decoder.overlapped(pool),
    }
}

/// Some of the original: what is read of it, and then what it decodes to. All buffers are used
/// again.
#[derive(Default)]
struct Batch {
    /// As the stream gives it.
    input: Vec<u8>,
    blocks: Vec<Work>,
    parts: Vec<Part>,
    /// Longer than what the blocks decode to.
    output: Vec<u8>,
    /// Bytes that they decode to.
    len: usize,
    /// Where these are in the original.
    original_at: u64,
    /// How the file ends, if it does behind these blocks.
    last: Option<Result<(Info, Vec<Placed>)>>,
}

/// A segment's share of a batch.
struct Part {
    segment: Shared,
    bytes: usize,
    /// Whether the segment starts or ends here.
    starts: bool,
    ends: bool,
}

/// A segment's description and context, and where its base is.
struct SharedSegment {
    segment: Segment,
    context: Option<Context>,
    bases: Arc<Found>,
}

type Shared = Arc<SharedSegment>;

/// A block to be decoded.
struct Work {
    part: usize,
    block: Received,
    /// Where its bytes start in the batch's output, and in the segment.
    start: usize,
    in_segment: u64,
}

impl Batch {
    fn clear(&mut self, original_at: u64) {
        self.blocks.clear();
        self.parts.clear();
        self.last = None;
        self.len = 0;
        self.original_at = original_at;
    }

    /// Adds a block of the last part.
    fn push(&mut self, block: Received, in_segment: u64) {
        let (bytes, start) = (block.bytes, self.len);
        self.len += bytes;
        self.parts.last_mut().into_iter().for_each(|p| p.bytes += bytes);
        let part = self.parts.len().saturating_sub(1);
        self.blocks.push(Work { part, block, start, in_segment });
    }

    fn output(&self) -> &[u8] {
        &self.output[..self.len]
    }

    fn runs(&self) -> impl Iterator<Item = Run<'_>> + Send {
        self.parts.iter().map(|&Part { ref segment, bytes, starts, ends }| Run {
            segment: &segment.segment,
            bytes,
            starts,
            ends,
        })
    }

    /// Decodes all blocks; on the pool that this is called in, if there is one.
    fn decode(&mut self, how: &How<'_>) -> Result<(), Failed> {
        if self.output.len() < self.len {
            self.output.resize(self.len, 0);
        }
        let Self { input, blocks, parts, output, len, original_at, .. } = self;
        let decode = |work: &Work, out: &mut [u8]| {
            let decoded = how.timers.time(Stage::Decode, || work.decode(input, parts, out, how));
            decoded.map_err(|error| Failed { error, original_at: *original_at + work.start as u64 })
        };
        try_fill(blocks, &mut output[..*len], how.in_pool, &|work| work.start as u64, &decode)
    }
}

impl Work {
    fn decode(&self, input: &[u8], parts: &[Part], out: &mut [u8], how: &How<'_>) -> Result<()> {
        let SharedSegment { segment, context, bases } = &*parts[self.part].segment;
        let block = self.block.entry.block(&input[self.block.payload.clone()]);
        let context = context.as_ref();
        let mut decode = |base: Option<&[u8]>| match how.check {
            true => codec::decode_block_into(&segment.layout, Given { context, base }, &block, out),
            false => codec::decode_unchecked(&segment.layout, Given { context, base }, &block, out),
        };
        let decoded = match block.coding.needs_base() {
            true => {
                let original = how.repeated.map(Repeated);
                let original = original.as_ref().map(|original| original as &dyn BaseBytes);
                let decode = |base: &[u8], _| decode(Some(base));
                bases.with(original, segment, self.in_segment, self.block.bytes, None, decode)
            }
            false => decode(None),
        };
        decoded.map_err(|e| e.at(self.block.at))
    }
}

/// How to decode.
struct How<'a> {
    in_pool: bool,
    check: bool,
    /// The file again, if it repeats some of itself.
    repeated: Option<&'a Again>,
    timers: &'a Timers,
}

/// Reads batches.
struct Feeder<'a, R> {
    stream: Stream<R>,
    /// The segment in work.
    segment: Option<Shared>,
    /// How much of it was read.
    in_segment: u64,
    /// What the file may be coded against, and what of it is.
    base: &'a Base,
    limits: &'a Limits,
    bases: Arc<Found>,
    /// Offset in the original of what comes next.
    original_at: u64,
    batch_bytes: usize,
    /// Whether the last batch was given.
    ended: bool,
}

impl<R: Read> Feeder<'_, R> {
    /// The next batch; an empty one behind the last.
    fn fill(&mut self, batch: &mut Batch) {
        batch.clear(self.original_at);
        if let Some(segment) = self.segment.clone() {
            batch.parts.push(Part { segment, bytes: 0, starts: false, ends: false });
        }
        while !self.ended && batch.len < self.batch_bytes && batch.parts.len() < MAX_PARTS {
            match self.stream.next() {
                Ok(Event::Bases(wanted)) => match self.base.find(&wanted, Sure::Whole, self.limits)
                {
                    Ok(found) => self.bases = Arc::new(found),
                    Err(e) => batch.last = Some(Err(e)),
                },
                Ok(Event::Segment(segment, context)) => {
                    let bases = Arc::clone(&self.bases);
                    let segment = Arc::new(SharedSegment { segment, context, bases });
                    self.in_segment = 0;
                    self.segment = Some(Arc::clone(&segment));
                    batch.parts.push(Part { segment, bytes: 0, starts: true, ends: false });
                }
                Ok(Event::Block(block)) => {
                    let bytes = block.bytes as u64;
                    batch.push(block, self.in_segment);
                    self.in_segment += bytes;
                }
                Ok(Event::SegmentEnd) => {
                    self.segment = None;
                    batch.parts.last_mut().into_iter().for_each(|p| p.ends = true);
                }
                Ok(Event::End(info, segments)) => batch.last = Some(Ok((info, segments))),
                Err(e) => batch.last = Some(Err(e)),
            }
            self.ended = batch.last.is_some();
        }
        batch.input = self.stream.take(std::mem::take(&mut batch.input));
        self.original_at += batch.len as u64;
    }

    /// The directory, for its names: read by one of these batches, or still to come. Goes there
    /// without decoding; nothing if that fails.
    fn directory(&mut self, batches: [&mut Batch; 2]) -> Vec<Placed> {
        if let Some(last) = batches.into_iter().find_map(|b| b.last.take()) {
            return last.map_or(Vec::new(), |(_, segments)| segments);
        }
        let mut spare = Vec::new();
        loop {
            match self.stream.next() {
                Ok(Event::End(_, segments)) => return segments,
                Ok(_) => spare = self.stream.take(spare),
                Err(_) => return Vec::new(),
            }
        }
    }
}

/// An error, and the byte of the original where it is.
struct Failed {
    error: Error,
    original_at: u64,
}

impl Failed {
    /// The error with the name of the tensor that has the byte.
    fn named(self, segments: &[Placed]) -> Error {
        let mut end = 0;
        for span in segments.iter().flat_map(|s| &s.spans) {
            end += span.bytes;
            if self.original_at < end {
                return match &span.tensor {
                    Some((tensor, _)) => self.error.in_tensor(&tensor.name),
                    None => self.error,
                };
            }
        }
        self.error
    }
}

struct Decoder<'a, R, W> {
    feeder: Feeder<'a, R>,
    writer: W,
    digest: Digest,
    /// Of each segment's spans.
    hashes: Vec<SpanHashes>,
    repeated: Option<&'a Again>,
    options: &'a DecodeOptions,
    timers: &'a Timers,
}

impl<R: Read, W: Write> Decoder<'_, R, W> {
    fn inline(mut self) -> Result<Summary> {
        let Self { feeder, writer, digest, hashes, repeated, options, timers } = &mut self;
        let how = How { in_pool: false, check: options.check_blocks, repeated: *repeated, timers };
        let mut batch = Batch::default();
        loop {
            timers.time(Stage::Read, || feeder.fill(&mut batch));
            if let Err(failed) = batch.decode(&how) {
                return Err(failed.named(&feeder.directory([&mut batch, &mut Batch::default()])));
            }
            let last = batch.last.take().transpose()?;
            digest.feed(batch.output(), batch.runs(), hashes, false, timers);
            timers.time(Stage::Write, || write(writer, batch.output(), options))?;
            if let Some((info, segments)) = last {
                return self.finish(info, &segments);
            }
        }
    }

    /// While the pool decodes a batch and hashes the one before, this thread writes that and reads
    /// the next one.
    fn overlapped(mut self, pool: &ThreadPool) -> Result<Summary> {
        let Self { feeder, writer, digest, hashes, repeated, options, timers } = &mut self;
        let how = How { in_pool: true, check: options.check_blocks, repeated: *repeated, timers };
        let mut batches: [Batch; 3] = Default::default();
        let [ready, work, next] = &mut batches;
        timers.time(Stage::Read, || feeder.fill(work));
        loop {
            let mut decoded = Ok(());
            let written = pool.in_place_scope(|scope| {
                let ready = &*ready;
                scope.spawn(|_| {
                    let hash = || digest.feed(ready.output(), ready.runs(), hashes, true, timers);
                    decoded = rayon::join(hash, || work.decode(&how)).1;
                });
                let written = timers.time(Stage::Write, || write(writer, ready.output(), options));
                timers.time(Stage::Read, || feeder.fill(next));
                written
            });
            written?;
            if let Err(failed) = decoded {
                return Err(failed.named(&feeder.directory([work, next])));
            }
            if let Some(Err(error)) = work.last.take_if(|last| last.is_err()) {
                return Err(error);
            }
            if let Some(Ok((info, segments))) = ready.last.take() {
                return self.finish(info, &segments);
            }
            std::mem::swap(ready, work);
            std::mem::swap(work, next);
        }
    }

    fn finish(mut self, info: Info, segments: &[Placed]) -> Result<Summary> {
        for (segment, (_, hashes)) in segments.iter().zip(&self.hashes) {
            for (span, hash) in segment.spans.iter().zip(hashes) {
                if let Some((tensor, said)) = &span.tensor
                    && said != hash
                {
                    return Err(Error::corrupt("the tensor's bytes differ from its BLAKE3")
                        .in_tensor(&tensor.name));
                }
            }
        }
        let (blake3, sha256) = self.digest.finish();
        if blake3 != info.blake3
            || (sha256.is_some() && info.sha256.is_some() && sha256 != info.sha256)
        {
            return Err(Error::corrupt("the restored bytes differ from the original's hash"));
        }
        self.writer.flush().map_err(|e| Error::io("can't write the output", e))?;
        let Info { format, original_bytes, compressed_bytes, tensors, losses, .. } = info;
        let sha256 = sha256.or(info.sha256);
        Ok(Summary {
            format,
            original_bytes,
            compressed_bytes,
            tensors,
            blake3,
            sha256,
            bases: self.feeder.stream.into_bases(),
            losses,
            warnings: Vec::new(),
            stages: self.timers.stages(),
        })
    }
}

fn write(writer: &mut impl Write, data: &[u8], options: &DecodeOptions) -> Result<()> {
    options.progress.iter().for_each(|p| p(data.len() as u64));
    writer.write_all(data).map_err(|e| Error::io("can't write the output", e))
}
