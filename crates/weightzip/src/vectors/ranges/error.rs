//! Range blocks and column scales that every decoder must refuse.

use super::File;
use super::blocks::*;
use super::payload::packed;
use crate::Dtype;
use crate::record::{ByteOrder, Field, RecordLayout};
use crate::vectors::Vector;

/// Wire id of column scales.
const COLUMNS: u8 = 0x82;

pub(in crate::vectors) fn vectors() -> Vec<Vector> {
    let plain = of_bf16(0, ones().take(1300));
    let strays = of_bf16(0, with_strays(2000));
    [
        of_preamble(&plain),
        of_tops(&strays),
        of_scales(),
        of_residuals(&plain),
        of_symbols(&plain, &strays),
        of_layouts(&plain),
    ]
    .concat()
}

fn of_preamble(plain: &File) -> Vec<Vector> {
    vec![
        plain.refused("ranges_flags", "unknown flags of ranges", |_, p| p.preamble[12] |= 4),
        plain.refused("ranges_escape_width", "escape codes of 9 bits", |_, p| {
            p.preamble[12] |= 9 << 4;
        }),
        plain.refused("ranges_without_rows", "scales without rows", |_, p| p.preamble[13] = 1),
        plain.refused(
            "ranges_columns_without_rows",
            "the segment's column scales without rows",
            |file, p| {
                file.contexts = vec![(COLUMNS, Vec::new())];
                p.preamble[12] |= 2;
            },
        ),
        of_both().refused("ranges_row_width", "scales of rows of 6 bits", |_, p| {
            p.preamble[13] = p.preamble[13] & 0xF0 | 6;
            p.rows = packed(&[0; 48], 6);
        }),
        of_both().refused("ranges_column_width", "scales of columns of 6 bits", |_, p| {
            p.preamble[13] = p.preamble[13] & 15 | 6 << 4;
            p.columns = packed(&[0; 32], 6);
        }),
        of_both().refused("ranges_not_rows", "elements that are not whole rows", |_, p| {
            p.preamble[4] = 31;
        }),
        chunks().refused("ranges_narrowing", "a narrowing that is not used", |_, p| {
            p.preamble[15] = 1;
        }),
        plain.refused("ranges_subnormal_width", "subnormals' codes too wide", |_, p| {
            p.preamble[14] = 6;
        }),
        plain.refused("ranges_escape_count", "more escapes than elements", |_, p| {
            p.escape_count = 1301;
        }),
        plain.refused("ranges_subnormal_count", "more subnormals than elements", |_, p| {
            p.subnormal_count = 1301;
        }),
    ]
}

fn of_tops(strays: &File) -> Vec<Vector> {
    vec![strays.refused("ranges_top", "a fixed top too large", |_, p| p.fixed[0] |= 1 << 10)]
}

fn of_scales() -> Vec<Vector> {
    let shared = shared_columns();
    vec![
        shared.refused("ranges_no_columns", "column scales that the segment has not", |f, _| {
            f.contexts.clear();
        }),
        shared.refused("ranges_more_columns", "column scales of a longer row", |file, _| {
            file.contexts[0].1.push(0);
        }),
        shared.refused("ranges_own_columns", "own column scales and the segment's", |_, p| {
            p.preamble[13] |= 1 << 4;
            p.columns = packed(&[0; 32], 1);
        }),
        shared.refused("columns_too_large", "a column scale of 32", |file, _| {
            file.contexts[0].1[0] = 32;
        }),
        shared.refused("columns_twice", "column scales twice", |file, _| {
            file.contexts.push(file.contexts[0].clone());
        }),
    ]
}

fn of_residuals(plain: &File) -> Vec<Vector> {
    vec![
        plain.refused("ranges_narrow", "more bits that are not stored than there are", |_, p| {
            p.preamble[15] = 6;
        }),
        subnormals().refused("ranges_few_subnormals", "too few subnormals", |_, p| {
            p.subnormal_count -= 1;
            p.subnormals.fill(0);
        }),
        subnormals().refused("ranges_many_subnormals", "too many subnormals", |_, p| {
            p.subnormal_count += 1;
        }),
        plain.refused("ranges_short", "a payload that ends within its residuals", |_, p| {
            p.residuals.truncate(100);
            p.words.clear();
        }),
    ]
}

fn of_symbols(plain: &File, strays: &File) -> Vec<Vector> {
    vec![
        plain.refused("ranges_few_words", "a word too few", |_, p| {
            p.words.truncate(p.words.len() - 2);
        }),
        plain.refused("ranges_many_words", "a word too many", |_, p| p.words.extend([0, 0])),
        plain.refused("ranges_half_word", "half a word too many", |_, p| p.words.push(0)),
        strays.refused("ranges_few_escapes", "too few escapes", |_, p| {
            p.escape_count -= 1;
            p.escapes.fill(0);
        }),
        strays.refused("ranges_many_escapes", "too many escapes", |_, p| p.escape_count += 1),
        escapes().refused("ranges_end", "a state that ends elsewhere", |_, p| {
            p.states[5] |= 1 << 20;
        }),
        escapes().refused("ranges_carried", "a state that carries more than there is", |_, p| {
            p.states[40] |= 1;
        }),
    ]
}

fn of_layouts(plain: &File) -> Vec<Vector> {
    let mut columns_of_ints = File::raw(Dtype::U8.record_layout(), b"abc");
    columns_of_ints.contexts = vec![(COLUMNS, vec![1, 2, 3])];
    vec![
        plain.refused("ranges_of_ints", "ranges of integers", |file, _| {
            file.layout = Dtype::U16.record_layout();
        }),
        plain.refused("ranges_of_f64", "ranges of floats with 11 exponent bits", |file, p| {
            file.layout = Dtype::F64.record_layout();
            file.blocks[0].0.records = 2600 / 8;
            p.preamble[..2].copy_from_slice(&(2600u16 / 8).to_le_bytes());
        }),
        plain.refused("ranges_of_one_bit", "ranges of floats with 1 mantissa bit", |file, p| {
            let field = vec![Field::float(8, 6)];
            file.layout = RecordLayout::new(1, ByteOrder::Little, field).unwrap();
            file.blocks[0].0.records = 2600;
            p.preamble[..2].copy_from_slice(&2600u16.to_le_bytes());
        }),
        columns_of_ints.corrupt("columns_of_ints", "column scales of integers"),
    ]
}
