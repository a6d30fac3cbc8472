//! `.wz` in, original out.

use super::digest::Digest;
use super::runner::Runner;
use super::{BYTES_PER_THREAD, MAX_STEPS, Summary};
use crate::codec::{self, Context};
use crate::container::directory::{Hash, Placed};
use crate::container::footer::Info;
use crate::container::segment::Segment;
use crate::container::stream::{Event, Received, Stream};
use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use std::io::{Read, Write};
use std::sync::Arc;

/// Restores the original from all of `reader` into `writer`, in one pass and bounded memory.
///
/// Checks every block, every tensor's hash, the whole's hash, and that the index says what was
/// seen; with [`std::io::sink`] as writer that is what `wz verify` does. Reads and writes in
/// order; `reader` may be a pipe.
///
/// # Errors
/// Any kind but [`InvalidArgument`](crate::Kind::InvalidArgument), with the offset in the `.wz` and, if the file's
/// directory can still be read, the tensor. What was written by then is not to be used.
pub fn decompress<R: Read, W: Write>(
    reader: R,
    writer: W,
    options: &DecodeOptions,
) -> Result<Summary> {
    let mut stream = Stream::new(reader, options.limits)?;
    let mut decoder = Decoder {
        writer,
        options,
        runner: Runner::new(options.threads)?,
        digest: Digest::new(options.sha256),
        segment: None,
        steps: Vec::new(),
        work: Vec::new(),
        work_bytes: 0,
        hashes: Vec::new(),
    };
    loop {
        match stream.next() {
            Ok(Event::End(info, segments)) => {
                decoder.flush().map_err(|e| e.named(&segments))?;
                return decoder.finish(info, &segments);
            }
            Ok(event) => decoder.take(event)?,
            // Blocks that came before may be the better witness.
            Err(e) => return Err(decoder.flush().err().map_or(e, |earlier| earlier.error)),
        }
        if decoder.is_full() {
            decoder.flush().map_err(|e| e.named(&rest(&mut stream)))?;
        }
    }
}

/// Names stand at the end of a file: goes there without decoding. Nothing if that fails.
fn rest<R: Read>(stream: &mut Stream<R>) -> Vec<Placed> {
    loop {
        match stream.next() {
            Ok(Event::End(_, segments)) => return segments,
            Ok(_) => {}
            Err(_) => return Vec::new(),
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

/// A segment's record layout and context.
type Shared = Arc<(Segment, Option<Context>)>;

/// A block to be decoded.
struct Work {
    segment: Shared,
    block: Received,
    /// Offset of its payload in the `.wz`.
    at: u64,
    /// Offset of its bytes in the original.
    original_at: u64,
}

/// What is to be done in order; blocks are in a list of their own.
enum Step {
    Begin(Shared),
    Block,
    End,
}

struct Decoder<'a, W> {
    writer: W,
    options: &'a DecodeOptions,
    runner: Runner,
    digest: Digest,
    segment: Option<Shared>,
    steps: Vec<Step>,
    work: Vec<Work>,
    work_bytes: usize,
    /// Hashes of each segment's spans.
    hashes: Vec<Vec<Hash>>,
}

impl<W: Write> Decoder<'_, W> {
    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Segment(segment, context) => {
                let shared = Arc::new((segment, context));
                self.segment = Some(Arc::clone(&shared));
                self.steps.push(Step::Begin(shared));
            }
            Event::Block(block, at) => {
                let Some(segment) = self.segment.clone() else {
                    return Err(Error::corrupt("a block stands outside of a segment").at(at));
                };
                let original_at = self.digest.bytes() + self.work_bytes as u64;
                self.work_bytes += codec::check_size(
                    &segment.0.layout,
                    block.records,
                    self.options.limits.block_bytes,
                )?;
                self.work.push(Work { segment, block, at, original_at });
                self.steps.push(Step::Block);
            }
            Event::SegmentEnd => self.steps.push(Step::End),
            Event::End(..) => {}
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.work_bytes >= BYTES_PER_THREAD * self.runner.threads() || self.steps.len() >= MAX_STEPS
    }

    /// Decodes what has gathered, and writes it.
    fn flush(&mut self) -> Result<(), Failed> {
        let (steps, work) = (std::mem::take(&mut self.steps), std::mem::take(&mut self.work));
        self.work_bytes = 0;
        let check = self.options.check_blocks;
        let (decoded, ()) = self.runner.map(&work, |w| w.decode(check), || ());
        let mut decoded = decoded.into_iter().zip(&work);
        for step in steps {
            match step {
                Step::Begin(shared) => self.digest.begin_segment(&shared.0),
                Step::End => self.hashes.push(self.digest.end_segment().1),
                Step::Block => {
                    if let Some((data, work)) = decoded.next() {
                        let written =
                            data.map_err(|e| e.at(work.at)).and_then(|data| self.write(&data));
                        written.map_err(|error| Failed { error, original_at: work.original_at })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.digest.update(data);
        self.options.progress.iter().for_each(|p| p(data.len() as u64));
        self.writer.write_all(data).map_err(|e| Error::io("can't write the output", e))
    }

    fn finish(mut self, info: Info, segments: &[Placed]) -> Result<Summary> {
        for (segment, hashes) in segments.iter().zip(&self.hashes) {
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
        let Info { format, original_bytes, compressed_bytes, tensors, .. } = info;
        let sha256 = sha256.or(info.sha256);
        Ok(Summary {
            format,
            original_bytes,
            compressed_bytes,
            tensors,
            blake3,
            sha256,
            warnings: Vec::new(),
        })
    }
}

impl Work {
    fn decode(&self, check: bool) -> Result<Vec<u8>> {
        let (segment, context) = &*self.segment;
        let mut out = vec![0; self.block.records as usize * usize::from(segment.layout.bytes())];
        if check {
            codec::decode_block_into(
                &segment.layout,
                context.as_ref(),
                &self.block.block(),
                &mut out,
            )?;
        } else {
            codec::decode_unchecked(
                &segment.layout,
                context.as_ref(),
                &self.block.block(),
                &mut out,
            )?;
        }
        Ok(out)
    }
}
