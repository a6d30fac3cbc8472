//! Speed of decoding BF16 blocks relative to copying as many bytes, in one process and in turn.
//!
//!     cargo bench -p weightzip --bench memcpy_ratio -- [FLOOR]
//!
//! Fails if the median ratio is below FLOOR. Machines are noisy: leave it a wide margin.
#![allow(clippy::unwrap_used, reason = "a bench")]

mod common;

use common::{Kind, Sample};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// More than caches hold.
const BYTES: usize = 256 << 20;
/// Blocks that are different; the others are copies of them.
const DIFFERENT: u64 = 32;
const PAIRS: usize = 15;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let floor = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    let floor: f64 = floor.map_or(0.0, |floor| floor.parse().unwrap());

    let samples: Vec<Sample> = (1..=DIFFERENT).map(|seed| Sample::new(Kind::Bf16, seed)).collect();
    let block = samples[0].data.len();
    let tiles = || samples.iter().cycle().take(BYTES / block);
    let data: Vec<u8> = tiles().flat_map(|s| &s.data).copied().collect();
    let payloads: Vec<_> = tiles().map(|s| (s, s.payload.clone())).collect();
    let mut out = vec![0; BYTES];

    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let copy = timed(|| black_box(&mut out[..]).copy_from_slice(black_box(&data)));
        out.fill(0);
        let decode = timed(|| {
            for ((sample, payload), out) in payloads.iter().zip(out.chunks_exact_mut(block)) {
                sample.decode_from(payload, out);
            }
        });
        assert!(out == data, "what was decoded differs");
        pairs.push((copy / decode, copy, decode));
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, copy, decode) = pairs[PAIRS / 2];
    let speed = |seconds: f64| BYTES as f64 / seconds / 1e9;
    println!(
        "decode {:.2} GB/s, memcpy {:.2} GB/s, median ratio {ratio:.3}, floor {floor}, simd {}",
        speed(decode),
        speed(copy),
        weightzip::simd_level()
    );
    if ratio < floor { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}
