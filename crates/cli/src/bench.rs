//! `wz bench`: size and speed of the block codec in memory, with its checksums; what files add
//! (hashes, the check behind encoding, reading and writing) `--timings` of the other commands shows.

use crate::args::Bench;
use crate::human;
use crate::report::{InFile, Status, print_json};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::hint::black_box;
use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};
use weightzip::{FrameOptions, RecordLayout, compress_frame, decompress_frame_into, scan};

/// Copies are measured until they make this many bytes: more than caches hold.
const TILED: usize = 256 << 20;

/// The figures, in the order in which they are printed.
#[derive(Serialize)]
struct Figures {
    bytes: usize,
    compressed: usize,
    ratio: f64,
    compress_gbps: f64,
    decompress_gbps: f64,
    memcpy_gbps: f64,
    threads: usize,
    level: &'static str,
    simd: &'static str,
}

/// Carries out bench.
pub(crate) fn run(args: &Bench) -> Result<Status> {
    let figures = measure(args).context(InFile(args.file.clone()))?;
    if args.json {
        print_json(&figures)?;
        return Ok(Status::Done);
    }
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        "{} -> {} bytes ({:.2} %)",
        figures.bytes,
        figures.compressed,
        figures.ratio * 100.0
    )?;
    writeln!(stdout, "compress    {:7.2} GB/s", figures.compress_gbps)?;
    writeln!(stdout, "decompress  {:7.2} GB/s", figures.decompress_gbps)?;
    writeln!(stdout, "memcpy      {:7.2} GB/s", figures.memcpy_gbps)?;
    writeln!(
        stdout,
        "level {}, threads {}, simd {}",
        figures.level, figures.threads, figures.simd
    )?;
    stdout.flush()?;
    Ok(Status::Done)
}

fn measure(args: &Bench) -> Result<Figures> {
    let data = std::fs::read(&args.file).context("can't read")?;
    ensure!(!data.is_empty(), "empty; there is nothing to measure");
    let copies = TILED.div_ceil(data.len());
    let parts = parts(&data)?;
    let mut tiles = Tiles::new(&data, parts, copies);
    let options = FrameOptions {
        threads: args.options.threads,
        level: args.options.level,
        ..FrameOptions::default()
    };
    let best = |run: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        let mut shortest = Duration::MAX;
        for _ in 0..args.runs {
            let start = Instant::now();
            run()?;
            shortest = shortest.min(start.elapsed());
        }
        Ok(human::round(human::gbps((data.len() * copies) as u64, shortest), 3))
    };
    let memcpy_gbps = best(&mut || tiles.copy(options.threads))?;
    let compress_gbps = best(&mut || tiles.compress(&options))?;
    tiles.output.fill(0);
    let decompress_gbps = best(&mut || tiles.decompress(&options))?;
    ensure!(tiles.is_round_trip(), "what was decoded differs from the file; please report this");
    let compressed = tiles.compressed[0].iter().map(Vec::len).sum();
    Ok(Figures {
        bytes: data.len(),
        compressed,
        ratio: human::round(compressed as f64 / data.len() as f64, 4),
        compress_gbps,
        decompress_gbps,
        memcpy_gbps,
        threads: args.options.threads,
        level: args.options.level.name(),
        simd: weightzip::simd_level(),
    })
}

/// A run of the file's bytes that are records of one layout, and how many are in a row.
type Part = (RecordLayout, u64, Range<usize>);

/// Elements from which on a tensor is a part of its own.
const LARGE: u64 = 32 << 10;

/// Small neighbours of one layout are one part; bytes behind the last span are opaque.
fn parts(data: &[u8]) -> Result<Vec<Part>> {
    let (mut parts, mut end) = (Vec::<Part>::new(), 0);
    let layout = scan(&data)?;
    let spans = layout.spans.iter().map(|span| {
        let Some(tensor) = &span.tensor else { return (RecordLayout::opaque(), 0, span.range.end) };
        let large = tensor.shape.iter().product::<u64>() >= LARGE;
        let row = tensor.shape.get(1..).and_then(<[u64]>::last).filter(|_| large);
        let row = row.map_or(0, |row| row / tensor.dtype.block().0);
        (tensor.dtype.record_layout(), row, span.range.end)
    });
    for (layout, row, until) in spans.chain([(RecordLayout::opaque(), 0, data.len() as u64)]) {
        let until = usize::try_from(until)?.min(data.len());
        match parts.last_mut().filter(|(last, of, _)| *last == layout && *of + row == 0) {
            Some((_, _, range)) => range.end = until,
            None if until > end => parts.push((layout, row, end..until)),
            None => {}
        }
        end = until;
    }
    Ok(parts)
}

/// Copies of the data, each with its own input and its own place in the output.
struct Tiles {
    parts: Vec<Part>,
    input: Vec<Vec<u8>>,
    /// A frame per part of each copy.
    compressed: Vec<Vec<Vec<u8>>>,
    output: Vec<u8>,
}

impl Tiles {
    fn new(data: &[u8], parts: Vec<Part>, copies: usize) -> Self {
        Self {
            input: vec![data.to_vec(); copies],
            compressed: vec![vec![Vec::new(); parts.len()]; copies],
            parts,
            // Written now, so that no run pays for fresh pages.
            output: vec![1; data.len() * copies],
        }
    }

    /// Copies with as many threads as the codec has, each its share of every copy.
    fn copy(&mut self, threads: usize) -> Result<()> {
        let len = self.input[0].len();
        let share = len.div_ceil(threads.max(1));
        let mut shares: Vec<Vec<_>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
        for (input, place) in self.input.iter().zip(self.output.chunks_exact_mut(len)) {
            let parts = input.chunks(share).zip(place.chunks_mut(share));
            shares.iter_mut().zip(parts).for_each(|(share, part)| share.push(part));
        }
        std::thread::scope(|scope| {
            for share in shares {
                let copy = |(from, to): (&[u8], &mut [u8])| to.copy_from_slice(black_box(from));
                let copies = move || share.into_iter().for_each(copy);
                let begun = std::thread::Builder::new().spawn_scoped(scope, copies);
                begun.context("can't start a thread; ask for fewer with --threads")?;
            }
            anyhow::Ok(())
        })?;
        black_box(&mut self.output);
        Ok(())
    }

    fn compress(&mut self, options: &FrameOptions) -> Result<()> {
        for (input, frames) in self.input.iter().zip(&mut self.compressed) {
            for ((layout, row, range), frame) in self.parts.iter().zip(frames) {
                let options = FrameOptions { row: *row, ..*options };
                compress_frame(layout, &input[range.clone()], &options, frame)?;
            }
        }
        Ok(())
    }

    fn decompress(&mut self, options: &FrameOptions) -> Result<()> {
        let len = self.input[0].len();
        for (frames, place) in self.compressed.iter().zip(self.output.chunks_exact_mut(len)) {
            for ((_, _, range), frame) in self.parts.iter().zip(frames) {
                decompress_frame_into(frame, &mut place[range.clone()], options)?;
            }
        }
        Ok(())
    }

    fn is_round_trip(&mut self) -> bool {
        let input = std::mem::take(&mut self.input);
        let len = input[0].len();
        input.iter().zip(self.output.chunks_exact(len)).all(|(a, b)| a == b)
    }
}
