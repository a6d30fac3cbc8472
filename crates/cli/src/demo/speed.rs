//! Speeds in memory, on one thread, over enough copies that data comes from memory and not from a cache.

use super::codecs::Codec;
use crate::human;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::time::{Duration, Instant};

/// All copies of the input together have at least this size.
const TILED_BYTES: usize = 128 << 20;
const ROUNDS: u32 = 3;
const ROUND_TIME: Duration = Duration::from_millis(100);

/// Size and speed of one codec; GB = 10^9 bytes of original data.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) compressed: usize,
    pub(super) ratio: f64,
    pub(super) compress_gbps: f64,
    pub(super) decompress_gbps: f64,
}

/// Copies of one input and the memory that is decoded into, shared by all codecs.
pub(super) struct Bench {
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

impl Bench {
    pub(super) fn new(input: &[u8]) -> Self {
        let copies = TILED_BYTES.div_ceil(input.len());
        Self { inputs: vec![input.to_vec(); copies], outputs: vec![input.to_vec(); copies] }
    }

    /// Encodes and decodes each copy; checks first that decoding gives back the input.
    pub(super) fn codec(&mut self, codec: &mut dyn Codec) -> Result<Figures> {
        let (inputs, outputs) = (&self.inputs, &mut self.outputs);
        let mut coded = Vec::new();
        codec.encode(&inputs[0], &mut coded)?;
        outputs[0].fill(0);
        codec.decode(&coded, &mut outputs[0])?;
        ensure!(outputs[0] == inputs[0], "the decoded bytes differ from the input");

        let bytes = inputs[0].len();
        let compressed = coded.len();
        let copies = vec![coded.clone(); inputs.len()];
        let compress_gbps = best(bytes, inputs.len(), |i| {
            coded.clear();
            codec.encode(&inputs[i], &mut coded)
        })?;
        let decompress_gbps =
            best(bytes, copies.len(), |i| codec.decode(&copies[i], &mut outputs[i]))?;
        let ratio = human::round(compressed as f64 / bytes as f64, 4);
        Ok(Figures { compressed, ratio, compress_gbps, decompress_gbps })
    }

    /// Plain copying of the same buffers.
    pub(super) fn memcpy(&mut self) -> Result<f64> {
        let (inputs, outputs) = (&self.inputs, &mut self.outputs);
        best(inputs[0].len(), inputs.len(), |i| {
            outputs[i].copy_from_slice(&inputs[i]);
            std::hint::black_box(&outputs[i]);
            Ok(())
        })
    }
}

/// GB/s of the best round; a round goes over the copies in turn for as long as `ROUND_TIME`.
fn best(bytes: usize, copies: usize, mut work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let (mut best, mut turns) = (0.0_f64, (0..copies).cycle());
    for _ in 0..ROUNDS {
        let (start, mut done) = (Instant::now(), 0_u64);
        while start.elapsed() < ROUND_TIME {
            work(turns.next().unwrap_or_default())?;
            done += bytes as u64;
        }
        best = best.max(human::gbps(done, start.elapsed()));
    }
    Ok(human::round(best, 3))
}
