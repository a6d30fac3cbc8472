//! Original in, `.wz` out.

use super::batch::{Batch, How};
use super::cutter::Cutter;
use super::digest::{Digest, SpanHashes};
use super::input;
use super::rounder::Rounder;
use super::stages::{Stage, Timers};
use super::{Summary, batch_bytes};
use crate::base::{self, Found};
use crate::container::bases::BaseTensor;
use crate::container::directory::Entry;
use crate::container::footer::Footer;
use crate::container::header::Holds;
use crate::container::writer::Writer;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::formats::Layout;
use crate::options::{Options, Progress};
use crate::plan;
use crate::record::RecordLayout;
use crate::runner::Runner;
use crate::span::Span;
use rayon::ThreadPool;
use std::io::{Read, Write};
use std::sync::Arc;

/// Compresses all of `reader` into `writer`, in one pass and bounded memory.
///
/// Reads and writes in order; `reader` may be a pipe. An input whose directory is not at its start, such as a zip
/// archive, is first copied to a temporary file, unless its [layout](Options::layout) is given. The output depends on the input, the level
/// and the base alone; tensors of a base are found by name, unless it was
/// [compared](crate::Base::compare_with) with the input.
///
/// # Errors
/// [`Io`](crate::Kind::Io) if reading or writing fails, [`InvalidArgument`](crate::Kind::InvalidArgument) if a given layout
/// has gaps, an archive is to be rounded, or a [dtype](Options::dtype) is given for a format that has its own. What was written by then is not a `.wz`.
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
pub fn compress<R: Read, W: Write>(reader: R, writer: W, options: &Options) -> Result<Summary> {
    let timers = Timers::new(options.timings);
    let runner = Runner::new(options.threads)?;
    let (from, layout) = timers.time(Stage::Read, || input::scanned(reader, options))?;
    let mut segments = plan::segments(&layout.spans, options.level);
    let rounder = Rounder::new(options, &mut segments)?;
    let (bases, found) = match options.base.is_empty() {
        true => Default::default(),
        false => {
            timers.time(Stage::Hash, || base::matched(&options.base, &mut segments, &runner))?
        }
    };
    let is_rounded = rounder.is_some() || options.losses.is_some();
    // What follows the spans.
    let rest = options.dtype.map_or_else(RecordLayout::opaque, Dtype::record_layout);
    segments.push(plan::Segment::rest(rest, options.level));
    let mut writer = Writer::new(writer, if is_rounded { Holds::Rounded } else { Holds::File })?;
    let bases_len = match bases.is_empty() {
        true => None,
        false => Some(writer.bases(&bases)?),
    };
    let mut encoder = Encoder {
        cutter: Cutter::new(from, segments, batch_bytes(&runner)),
        rounder,
        digest: Digest::new(options.sha256),
        bases: (bases, bases_len),
        found,
        output: Output { writer, progress: options.progress.clone(), bytes: 0, tensors: 0 },
        verify: options.verify,
        timers: &timers,
    };
    match &runner {
        Runner::Inline => encoder.inline()?,
        Runner::Pool(pool) => encoder.overlapped(pool)?,
    }
    encoder.finish(layout, options)
}

struct Encoder<'a, R, W: Write> {
    cutter: Cutter<R>,
    rounder: Option<Rounder>,
    digest: Digest,
    /// What the file is coded against, the length of the payload that says so, and where it is.
    bases: (Vec<BaseTensor>, Option<u32>),
    found: Found,
    output: Output<W>,
    verify: bool,
    timers: &'a Timers,
}

impl<R: Read, W: Write> Encoder<'_, R, W> {
    fn inline(&mut self) -> Result<()> {
        let Self { cutter, rounder, digest, output, verify, timers, found, .. } = self;
        let how = How { in_pool: false, verify: *verify, timers, bases: found };
        let mut batch = Batch::default();
        loop {
            next(cutter, rounder, &mut batch, None, timers)?;
            if batch.is_empty() {
                return Ok(());
            }
            batch.code(digest, &how)?;
            timers.time(Stage::Write, || output.write(&batch))?;
        }
    }

    /// While the pool codes a batch, this thread writes the one before and reads the next one.
    fn overlapped(&mut self, pool: &ThreadPool) -> Result<()> {
        let Self { cutter, rounder, digest, output, verify, timers, found, .. } = self;
        let how = How { in_pool: true, verify: *verify, timers, bases: found };
        let (mut coded, mut work, mut later): (Batch, Batch, Batch) = Default::default();
        next(cutter, rounder, &mut work, Some(pool), timers)?;
        while !(coded.is_empty() && work.is_empty()) {
            let mut outcome = Ok(());
            let (written, read) = pool.in_place_scope(|scope| {
                scope.spawn(|_| outcome = work.code(digest, &how));
                let written = timers.time(Stage::Write, || output.write(&coded));
                (written, next(cutter, rounder, &mut later, Some(pool), timers))
            });
            written.and(outcome).and(read)?;
            std::mem::swap(&mut coded, &mut work);
            std::mem::swap(&mut work, &mut later);
        }
        Ok(())
    }

    fn finish(mut self, layout: Layout, options: &Options) -> Result<Summary> {
        let original_bytes = self.output.bytes;
        let tensors = self.output.tensors;
        let (blake3, sha256) = self.digest.finish();
        let losses = match self.rounder {
            Some(rounder) => Some(Arc::new(rounder.finish(&options.lossy)?)),
            None => options.losses.clone(),
        };
        let losses_len = match &losses {
            Some(losses) => {
                losses.check(tensors)?;
                Some(self.output.writer.losses(losses)?)
            }
            None => None,
        };
        let Layout { format, warnings, .. } = layout.fit(original_bytes);
        let footer = Footer {
            writer: concat!("weightzip ", env!("CARGO_PKG_VERSION")).to_owned(),
            level: options.level.name().to_owned(),
            format,
            original_bytes,
            tensors,
            blake3,
            sha256,
            bases: self.bases.1,
            losses: losses_len,
            pages: Vec::new(),
        };
        let compressed_bytes =
            self.timers.time(Stage::Write, || self.output.writer.finish(footer))?;
        Ok(Summary {
            format,
            original_bytes,
            compressed_bytes,
            tensors,
            blake3,
            sha256,
            bases: self.bases.0,
            losses,
            warnings,
            stages: self.timers.stages(),
        })
    }
}

/// Reads what comes next, rounds it if that is wanted, and makes it ready for coding.
fn next(
    cutter: &mut Cutter<impl Read>,
    rounder: &mut Option<Rounder>,
    batch: &mut Batch,
    pool: Option<&ThreadPool>,
    timers: &Timers,
) -> Result<()> {
    cutter.fill(batch, timers)?;
    if let Some(rounder) = rounder {
        rounder.round(batch, pool, timers);
    }
    batch.prepare()
}

/// The `.wz`, and what is counted while it is written.
struct Output<W: Write> {
    writer: Writer<W>,
    progress: Option<Progress>,
    bytes: u64,
    tensors: u64,
}

impl<W: Write> Output<W> {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let (mut coded, mut ended) = (batch.coded(), batch.ended.iter());
        for part in &batch.parts {
            let shared = &part.shared;
            if part.starts {
                self.writer.begin_segment(&shared.announced, shared.context.get())?;
            }
            let mut left = part.blocks.len();
            while left > 0 {
                let (entries, sections) = coded.next(left);
                self.writer.blocks(entries, sections)?;
                left -= entries.len();
            }
            if part.ends
                && let Some(spans) = ended.next()
            {
                self.end_segment(&shared.plan.spans, spans)?;
            }
        }
        let bytes = batch.len() as u64;
        self.bytes += bytes;
        self.progress.iter().for_each(|p| p(bytes));
        Ok(())
    }

    /// Spans that the segment has in full keep their names; one that was cut short is opaque.
    fn end_segment(&mut self, planned: &[Span], (clipped, hashes): &SpanHashes) -> Result<()> {
        let mut hashes = hashes.iter();
        let mut planned = planned.iter();
        let entries = clipped.iter().map(|&bytes| {
            let whole = planned.next().filter(|s| s.range.end - s.range.start == bytes);
            let tensor = whole.and_then(|s| s.tensor.clone()).zip(hashes.next().copied());
            Entry { bytes, tensor }
        });
        let entries: Vec<Entry> = entries.collect();
        self.tensors += entries.iter().filter(|e| e.tensor.is_some()).count() as u64;
        self.writer.end_segment(entries)
    }
}
