//! Original in, `.wz` out.

use super::digest::Digest;
use super::runner::Runner;
use super::{BYTES_PER_THREAD, MAX_STEPS, Summary};
use crate::codec::{self, Block, Coding, Context};
use crate::container::directory::{Entry, Hash};
use crate::container::footer::Footer;
use crate::container::segment::Segment as Announced;
use crate::container::writer::Writer;
use crate::error::{Error, Kind, Result};
use crate::formats::{self, Layout, Scan};
use crate::options::{Options, Progress};
use crate::plan;
use crate::span::Span;
use std::io::{Read, Write};
use std::sync::Arc;

/// Compresses all of `reader` into `writer`, in one pass and bounded memory.
///
/// Reads and writes in order; `reader` may be a pipe. The output depends on the input and the
/// level alone.
///
/// # Errors
/// [`Io`](Kind::Io) if reading or writing fails. What was written by then is not a `.wz`.
///
/// ```
/// use weightzip::{compress, decompress, DecodeOptions, Options};
/// let original = vec![7; 100_000];
/// let mut compressed = Vec::new();
/// let summary = compress(original.as_slice(), &mut compressed, &Options::default())?;
/// assert_eq!(summary.compressed_bytes, compressed.len() as u64);
///
/// let mut restored = Vec::new();
/// decompress(compressed.as_slice(), &mut restored, &DecodeOptions::default())?;
/// assert_eq!(restored, original);
/// # Ok::<(), weightzip::Error>(())
/// ```
pub fn compress<R: Read, W: Write>(mut reader: R, writer: W, options: &Options) -> Result<Summary> {
    let (prefix, layout) = scan(&mut reader)?;
    let mut input =
        Input { from: prefix.as_slice().chain(reader), carry: Vec::new(), ended: false };
    let mut encoder = Encoder::new(writer, options)?;
    for segment in plan::segments(&layout.spans) {
        if !encoder.segment(segment, &mut input)? {
            break;
        }
    }
    // What follows the spans, or is left of a record that was cut short.
    encoder.segment(plan::Segment::opaque(None), &mut input)?;
    encoder.finish(layout, options)
}

/// The layout, and the bytes that were read to find it.
fn scan(reader: &mut impl Read) -> Result<(Vec<u8>, Layout)> {
    let (mut prefix, mut ended) = (Vec::new(), false);
    loop {
        match formats::scan_prefix(&prefix, ended) {
            Scan::Done(layout) => return Ok((prefix, layout)),
            Scan::More(wanted) => {
                let missing = wanted.saturating_sub(prefix.len()) as u64;
                let read = reader.by_ref().take(missing).read_to_end(&mut prefix);
                ended = (read.map_err(|e| Error::io("can't read the input", e))? as u64) < missing;
            }
        }
    }
}

struct Input<R> {
    from: R,
    /// Read already, but not used.
    carry: Vec<u8>,
    ended: bool,
}

impl<R: Read> Input<R> {
    /// The next `len` bytes, or as many as there are.
    fn read(&mut self, len: u64) -> Result<Vec<u8>> {
        let mut data = std::mem::take(&mut self.carry);
        let missing = len.saturating_sub(data.len() as u64);
        if missing > 0 && !self.ended {
            data.reserve_exact(usize::try_from(missing).unwrap_or(0));
            let read = self.from.by_ref().take(missing).read_to_end(&mut data);
            self.ended = (read.map_err(|e| Error::io("can't read the input", e))? as u64) < missing;
        }
        Ok(data)
    }
}

/// A block to be coded, with what its segment says of it.
struct Work {
    segment: Arc<Shared>,
    data: Vec<u8>,
}

/// A block that was coded.
struct Coded {
    coding: Coding,
    records: u32,
    check: u64,
    payload: Vec<u8>,
}

impl Coded {
    fn block(&self) -> Block<'_> {
        let &Self { coding, records, check, ref payload } = self;
        Block { coding, records, check, payload }
    }
}

struct Shared {
    announced: Announced,
    context: Option<Context>,
}

/// What goes into the file, in order; blocks are in a list of their own.
enum Event {
    Begin(Arc<Shared>),
    Block,
    /// With the tensors that the plan had for the segment.
    End(Vec<Span>),
}

struct Encoder<W> {
    writer: Writer<W>,
    digest: Digest,
    runner: Runner,
    events: Vec<Event>,
    work: Vec<Work>,
    work_bytes: usize,
    verify: bool,
    progress: Option<Progress>,
    tensors: u64,
}

impl<W: Write> Encoder<W> {
    fn new(writer: W, options: &Options) -> Result<Self> {
        Ok(Self {
            writer: Writer::new(writer)?,
            digest: Digest::new(options.sha256),
            runner: Runner::new(options.threads)?,
            events: Vec::new(),
            work: Vec::new(),
            work_bytes: 0,
            verify: options.verify,
            progress: options.progress.clone(),
            tensors: 0,
        })
    }

    /// Codes a segment, and tells if the file had all of it.
    fn segment<R: Read>(&mut self, plan: plan::Segment, input: &mut Input<R>) -> Result<bool> {
        let size = u64::from(plan.layout.bytes());
        let mut segment: Option<Arc<Shared>> = None;
        let mut records = 0;
        let whole = loop {
            let wanted = plan.block_at(records) * size;
            let mut data = input.read(wanted)?;
            let short = (data.len() as u64) < wanted;
            let part = data.len() % usize::from(plan.layout.bytes());
            input.carry = data.split_off(data.len() - part);
            // Nothing is left of the file; tensors without elements may still be where it ends.
            if data.is_empty() && short && (records > 0 || !plan.starts_empty()) {
                break false;
            }
            let shared = match &segment {
                Some(shared) => Arc::clone(shared),
                None => self.begin(&plan, &data)?,
            };
            segment = Some(Arc::clone(&shared));
            records += data.len() as u64 / size;
            if !data.is_empty() {
                self.work_bytes += data.len();
                self.work.push(Work { segment: shared, data });
                self.events.push(Event::Block);
            }
            if short || wanted == 0 {
                break !short;
            }
            if self.work_bytes >= BYTES_PER_THREAD * self.runner.threads()
                || self.events.len() >= MAX_STEPS
            {
                self.flush()?;
            }
        };
        if segment.is_some() {
            self.events.push(Event::End(plan.spans));
        }
        Ok(whole)
    }

    fn begin(&mut self, plan: &plan::Segment, first: &[u8]) -> Result<Arc<Shared>> {
        let spans = plan.spans.iter().map(|s| s.range.end - s.range.start).collect();
        let announced = Announced { layout: plan.layout.clone(), row: plan.row, spans };
        let context =
            if plan.is_long() { Context::of_first_block(&plan.layout, first) } else { None };
        let context = context.map(|c| c.read_back(&plan.layout)).transpose()?.flatten();
        let shared = Arc::new(Shared { announced, context });
        self.events.push(Event::Begin(Arc::clone(&shared)));
        Ok(shared)
    }

    /// Codes what has gathered, and writes it.
    fn flush(&mut self) -> Result<()> {
        let (events, work) = (std::mem::take(&mut self.events), std::mem::take(&mut self.work));
        self.work_bytes = 0;
        let (digest, verify) = (&mut self.digest, self.verify);
        let (blocks, hashes) =
            self.runner.map(&work, |w| w.encode(verify), || hash(digest, &events, &work));
        let mut blocks = blocks.into_iter().zip(&work);
        let mut hashes = hashes.into_iter();
        for event in events {
            match event {
                Event::Begin(shared) => {
                    self.writer.begin_segment(&shared.announced, shared.context.as_ref())?
                }
                Event::End(spans) => self.end_segment(&spans, hashes.next().unwrap_or_default())?,
                Event::Block => {
                    if let Some((block, work)) = blocks.next() {
                        self.writer.block(&block?.block())?;
                        self.progress.iter().for_each(|p| p(work.data.len() as u64));
                    }
                }
            }
        }
        Ok(())
    }

    /// Spans that the segment has in full keep their names; one that was cut short is opaque.
    fn end_segment(
        &mut self,
        planned: &[Span],
        (clipped, hashes): (Vec<u64>, Vec<Hash>),
    ) -> Result<()> {
        let mut hashes = hashes.into_iter();
        let mut planned = planned.iter();
        let entries = clipped.into_iter().map(|bytes| {
            let whole = planned.next().filter(|s| s.range.end - s.range.start == bytes);
            let tensor = whole.and_then(|s| s.tensor.clone()).zip(hashes.next());
            Entry { bytes, tensor }
        });
        let entries: Vec<Entry> = entries.collect();
        self.tensors += entries.iter().filter(|e| e.tensor.is_some()).count() as u64;
        self.writer.end_segment(entries)
    }

    fn finish(mut self, layout: Layout, options: &Options) -> Result<Summary> {
        self.flush()?;
        let original_bytes = self.digest.bytes();
        let (blake3, sha256) = self.digest.finish();
        let Layout { format, warnings, .. } = layout.fit(original_bytes);
        let tensors = self.tensors;
        let footer = Footer {
            writer: concat!("weightzip ", env!("CARGO_PKG_VERSION")).to_owned(),
            level: options.level.name().to_owned(),
            format,
            original_bytes,
            tensors,
            blake3,
            sha256,
            pages: Vec::new(),
        };
        let compressed_bytes = self.writer.finish(footer)?;
        Ok(Summary { format, original_bytes, compressed_bytes, tensors, blake3, sha256, warnings })
    }
}

/// Feeds the digest; for each segment that ends, the lengths of its spans and their hashes.
fn hash(digest: &mut Digest, events: &[Event], work: &[Work]) -> Vec<(Vec<u64>, Vec<Hash>)> {
    let (mut ended, mut work) = (Vec::new(), work.iter());
    for event in events {
        match event {
            Event::Begin(shared) => digest.begin_segment(&shared.announced),
            Event::Block => work.by_ref().take(1).for_each(|w| digest.update(&w.data)),
            Event::End(_) => ended.push(digest.end_segment()),
        }
    }
    ended
}

impl Work {
    /// The coded block; decoded again and compared while it is in cache, so that no fault of the
    /// encoder or the memory can lose data.
    fn encode(&self, verify: bool) -> Result<Coded> {
        let mut payload = Vec::new();
        let Shared { announced, context } = &*self.segment;
        let block =
            codec::encode_block(&announced.layout, context.as_ref(), &self.data, &mut payload)?;
        if verify {
            let mut decoded = vec![0; self.data.len()];
            let back =
                codec::decode_block_into(&announced.layout, context.as_ref(), &block, &mut decoded);
            if back.is_err() || decoded != self.data {
                return Err(Error::new(
                    Kind::Corruption,
                    "a block doesn't decode to its input: please report this; the original is unharmed",
                ));
            }
        }
        let Block { coding, records, check, .. } = block;
        Ok(Coded { coding, records, check, payload })
    }
}
