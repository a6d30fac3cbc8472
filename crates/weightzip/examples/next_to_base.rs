//! How fast blocks are coded next to a base, in memory, by one thread:
//!
//!     cargo run --release -p weightzip --example next_to_base -- BASE NEW [LEVEL]
//!
//! BASE and NEW have tensors of the same names and shapes. Blocks are those of a file; checksums
//! and the base's hash are counted, files and BLAKE3 are not. Medians of nine rounds.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;
use weightzip::{Block, Coding, Given, Hints, Level, RecordLayout};

/// A block's records and its base's, and what it was coded to.
struct Case<'a> {
    layout: RecordLayout,
    data: &'a [u8],
    given: Given<'a>,
    payload: Vec<u8>,
    coded: Option<(Coding, u32, u64)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, new, rest @ ..] = args.as_slice() else {
        return Err("what is wanted: BASE NEW [LEVEL]".into());
    };
    let level = rest.first().map_or(Ok(Level::Default), |name| Level::from_name(name))?;
    let (base, new) = (std::fs::read(base)?, std::fs::read(new)?);
    let (old, spans) = (weightzip::scan(&base)?.spans, weightzip::scan(&new)?.spans);
    let mut cases = Vec::new();
    for span in &spans {
        let Some(info) = &span.tensor else { continue };
        let same = |other: &&weightzip::Span| other.tensor.as_ref() == Some(info);
        let Some(old) = old.iter().find(same) else { continue };
        let range = |span: &weightzip::Span| -> Result<_, std::num::TryFromIntError> {
            Ok(usize::try_from(span.range.start)?..usize::try_from(span.range.end)?)
        };
        let layout = info.dtype.record_layout();
        let size = usize::from(layout.bytes()) << if level == Level::Max { 19 } else { 17 };
        let blocks = new[range(span)?].chunks(size).zip(base[range(old)?].chunks(size));
        cases.extend(blocks.map(|(data, base)| Case {
            layout: layout.clone(),
            data,
            given: Given { context: None, base: Some(base) },
            payload: Vec::new(),
            coded: None,
        }));
    }
    let bytes: usize = cases.iter().map(|case| case.data.len()).sum();
    let mut out = vec![0; cases.iter().map(|case| case.data.len()).max().unwrap_or(0)];
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..9 {
        let start = Instant::now();
        for case in &mut cases {
            let hints = Hints { level, row: 0 };
            let Case { layout, data, given, payload, coded } = case;
            let block = weightzip::encode_block(layout, *given, hints, data, payload)?;
            let found = (block.coding, block.records, block.check, block.payload.len());
            // The payload stands at the buffer's end.
            payload.drain(..payload.len() - found.3);
            *coded = Some((found.0, found.1, found.2));
        }
        times[0].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for case in &cases {
            let Some((coding, records, check)) = case.coded else { continue };
            let block = Block { coding, records, check, payload: &case.payload };
            let out = &mut out[..case.data.len()];
            weightzip::decode_block_into(&case.layout, case.given, &block, out)?;
        }
        times[1].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for case in &cases {
            black_box(&mut out)[..case.data.len()].copy_from_slice(black_box(case.data));
        }
        times[2].push(start.elapsed().as_secs_f64());
    }
    let speeds = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        bytes as f64 / times[times.len() / 2] / 1e9
    });
    let coded: usize = cases.iter().map(|case| case.payload.len()).sum();
    println!("{:.3} % of {bytes} bytes", coded as f64 / bytes as f64 * 100.0);
    println!(
        "encode {:.2} GB/s, decode {:.2} GB/s, memcpy {:.2} GB/s",
        speeds[0], speeds[1], speeds[2]
    );
    for coding in Coding::ALL {
        let of = cases.iter().filter(|c| c.coded.is_some_and(|(c, ..)| c == *coding));
        let of: usize = of.map(|case| case.data.len()).sum();
        if of > 0 {
            println!("{:>11}: {:.1} %", coding.name(), of as f64 / bytes as f64 * 100.0);
        }
    }
    println!("simd {}", weightzip::simd_level());
    Ok(())
}
