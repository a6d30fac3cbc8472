//! Range blocks that every decoder must restore.

use super::File;
use super::blocks::*;
use super::payload::Payload;
use crate::Dtype;
use crate::record::{ByteOrder, Field, RecordLayout};
use crate::vectors::{Vector, ok::numbers};

pub(in crate::vectors) fn vectors() -> Vec<Vector> {
    let float = |bytes: u16, order, bits, exponent| {
        RecordLayout::new(bytes, order, vec![Field::float(bits, exponent)]).unwrap()
    };
    let f16 = |v: f32| half::f16::from_f32(v).to_bits();
    let halves = ones().take(1300).flat_map(|v| f16(v).to_le_bytes()).collect();
    let bytes = |one: u8| {
        let byte = move |n: u32| (one + u8::from(n.is_multiple_of(7))) ^ ((n >> 3) as u8 & 0x80);
        numbers().take(3000).map(byte).collect::<Vec<_>>()
    };
    let complex: Vec<u8> = matrix(16, 64, |i| i * 3 % 8, |_| 0)
        .map(|v| half::bf16::from_f32(v).to_f32())
        .flat_map(f32::to_le_bytes)
        .collect();
    let swapped: Vec<u8> = bf16(ones().take(1300)).chunks(2).flat_map(|b| [b[1], b[0]]).collect();
    let of = |layout: &RecordLayout, row, data| File::new(layout, row, &[data]);
    let has_rows = |p: &Payload| p.preamble[13] & 15 > 0;
    let has_columns = |p: &Payload| p.preamble[13] >> 4 > 0;
    vec![
        of_bf16(0, ones().take(1300)).restored(
            "ranges",
            "ranges without scales; the last group is not full",
            |p| p.preamble[4..7] == [0; 3],
        ),
        of_bf16(64, matrix(20, 64, |i| i * 3 % 8, |_| 0)).restored(
            "ranges_rows",
            "scales of rows alone",
            |p| has_rows(p) && !has_columns(p),
        ),
        of_both().restored("ranges_matrix", "scales of rows and columns", |p| {
            has_rows(p) && has_columns(p)
        }),
        shared_columns().restored(
            "ranges_shared",
            "two blocks and their segment's column scales",
            |p| p.preamble[12] & 2 != 0,
        ),
        of_bf16(64, matrix(20, 64, |i| i % 3 * 4, |_| 0)).restored(
            "ranges_tables",
            "scales that are all alike modulo 4: tables without weights",
            has_rows,
        ),
        of_bf16(0, with_strays(2000)).restored(
            "ranges_strays",
            "zeros, NaNs, huge and tiny numbers: fixed tops, escapes",
            |p| p.fixed.len() > 3 && p.escape_count > 0,
        ),
        subnormals().restored(
            "ranges_subnormals",
            "FP16 that holds BF16 values: subnormals keep their low bits",
            |p| p.subnormal_count > 0,
        ),
        chunks()
            .restored("ranges_chunks", "FP32 of several narrowings", |p| p.narrowings.len() == 3),
        of(&Dtype::F16.record_layout(), 0, halves).restored("ranges_f16", "FP16", |_| true),
        of(&Dtype::F8E4M3.record_layout(), 0, bytes(0x38)).restored(
            "ranges_f8_e4m3",
            "residuals of 2 bits",
            |_| true,
        ),
        of(&Dtype::F8E5M2.record_layout(), 0, bytes(0x3C)).restored(
            "ranges_f8_e5m2",
            "residuals of nothing but signs",
            |_| true,
        ),
        of(&Dtype::C64.record_layout(), 32, complex).restored(
            "ranges_c64",
            "rows of twice as many elements as records",
            |p| has_rows(p) && p.preamble[4] == 64,
        ),
        of(&float(2, ByteOrder::Big, 16, 8), 0, swapped).restored(
            "ranges_big_endian",
            "most significant byte first",
            |_| true,
        ),
        escapes().restored(
            "ranges_escapes",
            "64-bit floats of 8 exponent bits that all escape, some to ranks without a top",
            |p| p.words.is_empty(),
        ),
        low_states().restored(
            "ranges_low_states",
            "states below 2^16 at the start; no residuals to carry",
            |p| p.words.len() == 128,
        ),
    ]
}
