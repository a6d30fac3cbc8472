//! Original in, `.wz` out.

use super::batch::{Batch, How};
use super::cutter::Cutter;
use super::digest::{Digest, SpanHashes};
use super::input;
use super::rounder::Rounder;
use super::stages::{Stage, Timers};
use super::{Summary, batch_bytes};
use crate::base::{self, BaseBytes, Found, Plain};
use crate::container::bases::Bases;
use crate::container::directory::{Entry, Hash};
use crate::container::footer::Footer;
use crate::container::header::Flags;
use crate::container::writer::Writer;
use crate::dtype::Dtype;
use crate::error::{Error, Kind, Result};
use crate::formats::Layout;
use crate::options::{Level, Options, Progress};
use crate::plan;
use crate::record::RecordLayout;
use crate::runner::Runner;
use rayon::ThreadPool;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

/// Compresses all of `reader` into `writer`, in one pass and bounded memory.
///
/// Reads and writes in order; `reader` may be a pipe. An input whose directory is not at its start, such as a zip
/// archive, is first copied to a temporary file, unless its [layout](Options::layout) is given. The output depends on the input, the level
/// and the base alone, and on whether there is a [source](Options::source) to find equal tensors in; tensors of a base are found by name, unless it was
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
    let (mut bases, mut found) = match options.base.is_empty() {
        true => Default::default(),
        false => {
            timers.time(Stage::Hash, || base::matched(&options.base, &mut segments, &runner))?
        }
    };
    let source = options.source.as_deref().filter(|_| rounder.is_none());
    if let Some(source) = source {
        timers.time(Stage::Hash, || {
            base::repeats(source, &mut segments, &mut bases, &mut found, &runner)?;
            if options.level == Level::Max {
                let pairs = base::paired(&segments);
                base::scales(source, &pairs, &mut segments, &mut bases, &mut found)?;
            }
            Ok(())
        })?;
    }
    let is_rounded = rounder.is_some() || options.losses.is_some();
    // What follows the spans.
    let rest = options.dtype.map_or_else(RecordLayout::opaque, Dtype::record_layout);
    segments.push(plan::Segment::rest(rest, options.level));
    let flags = Flags { is_rounded, repeats: !bases.repeated.is_empty() };
    let mut writer = Writer::new(writer, flags)?;
    let bases_len = match bases.is_empty() {
        true => None,
        false => Some(writer.bases(&bases)?),
    };
    let original = source.map(Plain);
    let mut encoder = Encoder {
        cutter: Cutter::new(from, segments, batch_bytes(&runner)),
        rounder,
        digest: Digest::new(options.sha256),
        bases_len,
        found,
        source: original.as_ref().map(|original| original as &dyn BaseBytes),
        output: Output {
            writer,
            progress: options.progress.clone(),
            bytes: 0,
            tensors: 0,
            hashes: bases.repeated.iter().map(|range| (range.start, None)).collect(),
            scales: Vec::new(),
            bases,
        },
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
    /// The length of the payload that says what the file is coded against, and where that is.
    bases_len: Option<u32>,
    found: Found,
    source: Option<&'a dyn BaseBytes>,
    output: Output<W>,
    verify: bool,
    timers: &'a Timers,
}

impl<R: Read, W: Write> Encoder<'_, R, W> {
    fn inline(&mut self) -> Result<()> {
        let Self { cutter, rounder, digest, output, verify, timers, found, source, .. } = self;
        let how = How { in_pool: false, verify: *verify, timers, bases: found, original: *source };
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
        let Self { cutter, rounder, digest, output, verify, timers, found, source, .. } = self;
        let how = How { in_pool: true, verify: *verify, timers, bases: found, original: *source };
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
        self.output.check_scales()?;
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
            bases: self.bases_len,
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
            bases: self.output.bases.tensors,
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
    bases: Bases,
    /// BLAKE3 of what is repeated, by where it starts; none until it was read.
    hashes: HashMap<u64, Option<Hash>>,
    /// The same of scales, when they were read for their numbers.
    scales: Vec<(u64, Hash)>,
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
                let (cuts, entries, sections) = coded.next(left);
                self.writer.blocks(entries, sections)?;
                left -= cuts;
            }
            if part.ends {
                self.scales.extend(shared.scales.get().map(|scales| (scales.at, scales.blake3)));
            }
            if part.ends
                && let Some(spans) = ended.next()
            {
                self.end_segment(&shared.plan, spans)?;
            }
        }
        let bytes = batch.len() as u64;
        self.bytes += bytes;
        self.progress.iter().for_each(|p| p(bytes));
        Ok(())
    }

    /// Refuses scales that were others when they were read for their numbers.
    fn check_scales(&self) -> Result<()> {
        let same = |(at, hash): &(u64, Hash)| self.hashes.get(at) == Some(&Some(*hash));
        match self.scales.iter().all(same) {
            true => Ok(()),
            false => Err(changed()),
        }
    }

    /// Spans that the segment has in full keep their names; one that was cut short is opaque.
    fn end_segment(&mut self, plan: &plan::Segment, (clipped, hashes): &SpanHashes) -> Result<()> {
        let mut hashes = hashes.iter();
        let mut planned = plan.spans.iter();
        let entries = clipped.iter().map(|&bytes| {
            let whole = planned.next().filter(|s| s.range.end - s.range.start == bytes);
            let tensor = whole.and_then(|s| s.tensor.clone()).zip(hashes.next().copied());
            Entry { bytes, tensor }
        });
        let entries: Vec<Entry> = entries.collect();
        self.tensors += entries.iter().filter(|e| e.tensor.is_some()).count() as u64;
        self.check_repeat(plan, &entries)?;
        self.writer.end_segment(entries)
    }

    /// Refuses a segment that repeats what was something else when it was read itself.
    fn check_repeat(&mut self, plan: &plan::Segment, entries: &[Entry]) -> Result<()> {
        let hash = entries.first().and_then(|entry| Some(entry.tensor.as_ref()?.1));
        let start = plan.spans.first().map(|span| span.range.start);
        if let Some(known) = start.and_then(|start| self.hashes.get_mut(&start)) {
            *known = hash;
        }
        let from = plan.base.first().and_then(|part| part.from).filter(|_| plan.scales().is_none());
        let number = from.and_then(|from| from.number.checked_sub(self.bases.tensors.len()));
        let Some(range) = number.and_then(|number| self.bases.repeated.get(number)) else {
            return Ok(());
        };
        match hash.is_some() && self.hashes.get(&range.start) == Some(&hash) {
            true => Ok(()),
            false => Err(changed()),
        }
    }
}

fn changed() -> Error {
    Error::new(Kind::Io, "the input changed while it was read; try again")
}
