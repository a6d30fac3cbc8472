//! A higher level is never larger: neither a block, nor a frame, nor a file.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "test data"
)]

mod common;

use arbtest::arbitrary::{Result, Unstructured};
use common::models::{Noise, model};
use weightzip::{
    Dtype, FrameOptions, Hints, Level, Options, RecordLayout, compress, compress_frame,
    decompress_frame_into, encode_block,
};

/// Kinds of numbers, as tensors have them.
const KINDS: [&str; 11] = [
    "uniform",
    "normal",
    "scaled rows",
    "scaled columns",
    "arange",
    "grid",
    "fine grid",
    "constant",
    "few values",
    "pruned",
    "bytes",
];

/// Numbers of a kind, by where they are in rows of `row`.
fn numbers(kind: &str, seed: u64, row: usize, count: usize) -> Vec<f32> {
    let mut noise = Noise::new(seed);
    let mut uniform = || noise.uniform() - 0.5;
    let size = |i: usize| 1.0 + (i.wrapping_mul(0x9E37_79B9) >> 7 & 15) as f32;
    let round = |x: f32, steps: f32| (x * steps).round() / steps;
    let number = |i: usize| {
        let normal = (0..4).map(|_| uniform()).sum::<f32>() * 0.04;
        match kind {
            "uniform" => uniform() / 16.0,
            "scaled rows" => normal * size(i / row),
            "scaled columns" => normal * size(i % row),
            "arange" => i as f32,
            "grid" => round(normal, 1024.0),
            "fine grid" => round(uniform(), 8_388_608.0),
            "constant" => {
                if i < count / 2 {
                    0.125
                } else {
                    -3.0
                }
            }
            "few values" => size(i * i / 7) * 0.3,
            "pruned" => {
                if uniform() < 0.1 {
                    0.0
                } else {
                    normal
                }
            }
            "bytes" => f32::from_bits((uniform() * 4e9) as i32 as u32),
            _ => normal,
        }
    };
    (0..count).map(number).collect()
}

fn bytes_of(dtype: Dtype, numbers: &[f32]) -> Vec<u8> {
    let bytes = |x: &f32| match dtype {
        Dtype::F16 => half::f16::from_f32(*x).to_le_bytes().to_vec(),
        Dtype::Bf16 => half::bf16::from_f32(*x).to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(*x).to_le_bytes().to_vec(),
        Dtype::F32 => x.to_le_bytes().to_vec(),
        Dtype::I32 => ((x * 4000.0) as i32).to_le_bytes().to_vec(),
        Dtype::I64 => ((x * 4000.0) as i64).to_le_bytes().to_vec(),
        _ => vec![(x * 900.0) as i32 as u8],
    };
    numbers.iter().flat_map(bytes).collect()
}

fn frame_len(layout: &RecordLayout, data: &[u8], level: Level, row: usize) -> usize {
    let options = FrameOptions { threads: 1, level, row: row as u64, ..FrameOptions::default() };
    let (mut frame, mut out) = (Vec::new(), vec![0; data.len()]);
    compress_frame(layout, data, &options, &mut frame).unwrap();
    decompress_frame_into(&frame, &mut out, &options).unwrap();
    assert!(out == data);
    frame.len()
}

/// Checks a block of all data, and a frame.
fn check(what: &str, layout: &RecordLayout, data: &[u8], row: usize) {
    let frame = |level| frame_len(layout, data, level, row);
    let (default, max) = (frame(Level::Default), frame(Level::Max));
    assert!(max <= default, "{what}: a frame of {max} bytes at max, of {default} at default");
    let block = |level| {
        let mut payload = Vec::new();
        let hints = Hints { level, row };
        encode_block(layout, None, hints, data, &mut payload).unwrap().payload.len()
    };
    let (default, max) = (block(Level::Default), block(Level::Max));
    assert!(max <= default, "{what}: a block of {max} bytes at max, of {default} at default");
}

fn any(u: &mut Unstructured) -> Result<()> {
    use Dtype::{Bf16, F8E4M3, F16, F32, F64, I8, I32, I64, U8};
    let kind = *u.choose(&KINDS)?;
    let dtype = *u.choose(&[Bf16, Bf16, F16, F32, F32, F64, I8, U8, I32, I64, F8E4M3])?;
    let row = *u.choose(&[0, 0, 64, 100, 1000, 4096])?;
    let most = 1 << u.int_in_range(8..=19)?;
    let rows = u.int_in_range(1..=(most / row.max(1)).max(1))?;
    let numbers = numbers(kind, u.arbitrary()?, row.max(1), rows * row.max(1));
    let data = bytes_of(dtype, &numbers);
    let opaque = u.ratio(1, 8)?;
    let layout = if opaque { RecordLayout::opaque() } else { dtype.record_layout() };
    let row = if opaque { 0 } else { row };
    check(&format!("{kind} {dtype:?} {row} {rows}"), &layout, &data, row);
    Ok(())
}

#[test]
fn level_max_is_never_larger_whatever_the_numbers() {
    arbtest::arbtest(any).budget_ms(8000).size_min(64);
}

#[test]
fn several_blocks_of_each_kind_are_not_larger_at_level_max() {
    for (seed, kind) in (1..).zip(KINDS) {
        let numbers = numbers(kind, seed, 1000, 700_000);
        for (dtype, row) in [(Dtype::F32, 0), (Dtype::Bf16, 1000)] {
            let data = bytes_of(dtype, &numbers);
            let frame = |level| frame_len(&dtype.record_layout(), &data, level, row);
            let (default, max) = (frame(Level::Default), frame(Level::Max));
            assert!(max <= default, "{kind} {dtype:?}: {max} bytes at max, {default} at default");
        }
    }
}

#[test]
fn a_layer_as_initialised_is_not_larger_at_level_max() {
    // Weights of a linear layer of 1024 inputs are uniform, within a 32nd of zero.
    let weights: Vec<f32> = numbers("uniform", 1, 1, 1024 * 1024).into_iter().collect();
    let file = model(&[
        ("weight", "F32", &[1024, 1024], bytes_of(Dtype::F32, &weights)),
        ("ids", "I64", &[100_000], (0..100_000u64).flat_map(u64::to_le_bytes).collect()),
    ]);
    let len = |level| {
        let mut wz = Vec::new();
        let options = Options { level, threads: 1, ..Options::default() };
        compress(file.as_slice(), &mut wz, &options).unwrap();
        wz.len()
    };
    let (default, max) = (len(Level::Default), len(Level::Max));
    assert!(max <= default, "{max} bytes at max, {default} at default");
}

#[test]
fn scales_of_columns_cost_no_more_than_they_save() {
    // So many rows that there are four blocks at level max, which share them.
    for (seed, kind) in (1..).zip(["uniform", "normal", "scaled columns"]) {
        let data = bytes_of(Dtype::Bf16, &numbers(kind, seed, 4096, 540 * 4096));
        let frame = |level| frame_len(&Dtype::Bf16.record_layout(), &data, level, 4096);
        let (default, max) = (frame(Level::Default), frame(Level::Max));
        assert!(max <= default, "{kind}: {max} bytes at max, {default} at default");
        let differs = kind == "scaled columns";
        assert!(!differs || max < default * 24 / 25, "{kind}: {max} {default}");
    }
}
