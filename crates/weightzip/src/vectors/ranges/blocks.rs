//! Files of range blocks that have what vectors show.

use super::super::ok::{bell, numbers};
use super::File;
use super::payload::{Payload, packed};
use crate::Dtype;
use crate::record::{ByteOrder, Field, RecordLayout};
use weightzip_kernels::rans::SLOT_BITS;

pub(super) fn bf16(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect()
}

/// One block of BF16.
pub(super) fn of_bf16(row: usize, values: impl Iterator<Item = f32>) -> File {
    File::new(&Dtype::Bf16.record_layout(), row, &[bf16(values)])
}

/// Numbers near one, of any sign.
pub(super) fn ones() -> impl Iterator<Item = f32> {
    let signs = numbers().map(|n| if n >> 30 == 0 { -1.0 } else { 1.0 });
    bell().zip(signs).map(|(v, sign)| (1.0 + 2.0 * v) * sign)
}

/// The same in rows and columns whose sizes are so many quarters of an octave.
pub(super) fn matrix(
    rows: usize,
    row: usize,
    of_row: fn(usize) -> usize,
    of_column: fn(usize) -> usize,
) -> impl Iterator<Item = f32> {
    let size = |quarters: usize| {
        [1.0, 1.1875, 1.40625, 1.6875][quarters % 4] * (1u32 << (quarters / 4)) as f32
    };
    let sizes = (0..rows * row).map(move |i| size(of_row(i / row)) * size(of_column(i % row)));
    ones().zip(sizes).map(|(v, size)| v * size / 256.0)
}

/// Most numbers are near one, others are zeros, NaNs, huge or tiny.
pub(super) fn with_strays(count: usize) -> impl Iterator<Item = f32> {
    ones().take(count).enumerate().map(|(i, v)| match i % 40 {
        3 | 17 => 0.0,
        9 => f32::NAN,
        22 => v * 1e30,
        31 => v * 1e-30,
        5 if i % 200 == 5 => v * i as f32,
        _ => v,
    })
}

/// A matrix whose rows and columns have scales.
pub(super) fn of_both() -> File {
    of_bf16(32, matrix(48, 32, |i| i * 7 % 11, |j| j * 5 % 13))
}

/// Two blocks that use the column scales of their segment.
pub(super) fn shared_columns() -> File {
    let data = bf16(matrix(80, 32, |i| i * 7 % 11, |j| j * 5 % 13));
    let (first, second) = data.split_at(48 * 32 * 2);
    File::new(&Dtype::Bf16.record_layout(), 32, &[first.to_vec(), second.to_vec()])
}

/// FP16 that holds BF16 values, some of them subnormal.
pub(super) fn subnormals() -> File {
    let value = |(i, v): (usize, f32)| if i % 5 == 2 { v / 60_000.0 } else { v };
    let short = |v: f32| half::f16::from_f32(half::bf16::from_f32(v).to_f32());
    let data = ones().enumerate().map(value).map(short).take(1500);
    let data = data.flat_map(half::f16::to_le_bytes).collect();
    File::new(&Dtype::F16.record_layout(), 0, &[data])
}

/// FP32 chunks that hold BF16, positive BF16, and full values.
pub(super) fn chunks() -> File {
    let short = |v: f32| half::bf16::from_f32(v).to_f32();
    let value = |(i, v): (usize, f32)| match i / 1024 {
        0 => short(v),
        1 => short(v).abs(),
        _ => v,
    };
    let data = ones().enumerate().map(value).take(2148).flat_map(f32::to_le_bytes).collect();
    File::new(&Dtype::F32.record_layout(), 0, &[data])
}

/// Floats of so many bytes that 64 of them are larger than the states.
pub(super) fn wide_layout() -> RecordLayout {
    RecordLayout::new(8, ByteOrder::Little, vec![Field::float(64, 8)]).unwrap()
}

/// A payload of 64 wide floats without rows and narrowed residuals of `53 - dropped` bits.
pub(super) fn wide_payload(dropped: u8) -> Payload {
    let mut preamble = [0; 16];
    preamble[0] = 64;
    preamble[12] = 1;
    preamble[15] = dropped | 0x40;
    Payload {
        preamble,
        escape_count: 0,
        subnormal_count: 0,
        fixed: Vec::new(),
        narrowings: Vec::new(),
        rows: Vec::new(),
        columns: Vec::new(),
        weights: packed(&[0], 6),
        states: vec![1 << 16; 64],
        residuals: Vec::new(),
        subnormals: Vec::new(),
        escapes: Vec::new(),
        words: Vec::new(),
    }
}

/// A wide float of a top and the highest eight bits of its residual's mantissa.
pub(super) fn wide(top: u64, residual: u64) -> [u8; 8] {
    (top << 53 | residual << 45).to_le_bytes()
}

/// Every symbol is the escape, since none has a weight; its slots are all, so that no state changes.
pub(super) fn escapes() -> File {
    let mut payload = wide_payload(45);
    // Low is 1000, and tops end at 1023: ranks from 26 on are top 0 as rank 0 is.
    payload.preamble[8..11].copy_from_slice(&[0xE8, 0x03, 1]);
    payload.preamble[12] |= 8 << 4;
    payload.fixed = vec![508];
    payload.escape_count = 64;
    let ranks: Vec<u8> = (0..64u8).map(|i| if i == 63 { 255 } else { i }).collect();
    payload.escapes = packed(&ranks, 8);
    for (state, i) in payload.states.iter_mut().zip(0..32) {
        *state |= (2 * i) | ((2 * i + 1) << 8);
    }
    let top = |rank: u64| match rank {
        1 => 508,
        2..26 => 1000 + rank - 2,
        _ => 0,
    };
    let data = ranks.iter().zip(0..).flat_map(|(&rank, i)| wide(top(rank.into()), i)).collect();
    File::by_hand(wide_layout(), &payload, data)
}

/// States that are below 2^16 at the start.
pub(super) fn low_states() -> File {
    let mut payload = wide_payload(53);
    payload.preamble[10..12].copy_from_slice(&[1, 1]);
    payload.fixed = vec![508];
    payload.weights = packed(&[1, 1], 6);
    // Symbol 1 starts at the middle slot; the slot behind that gives state 1, and that a word.
    payload.states = vec![(1 << (SLOT_BITS - 1)) + 1; 64];
    payload.words = vec![0; 2 * 64];
    File::by_hand(wide_layout(), &payload, wide(508, 0).repeat(64))
}
