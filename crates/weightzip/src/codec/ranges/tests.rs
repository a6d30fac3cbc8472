//! Blocks in the shape of weights: rows and columns of sizes of their own, and a few strays.

use crate::codec::{Coding, Context, Hints, decode_block_into, decode_unchecked, encode_block};
use crate::dtype::Dtype;
use crate::options::Level;
use crate::record::RecordLayout;
use arbtest::arbitrary::{Result, Unstructured};

const DTYPES: [Dtype; 5] = [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F8E4M3, Dtype::F8E5M2];

/// Bits of the dtypes that say what a float is not.
fn stray(dtype: Dtype, u: &mut Unstructured) -> Result<u32> {
    let bits = u32::try_from(dtype.block().1 * 8).unwrap();
    let any = *u.choose(&[0, 1, 1 << (bits - 1), u32::MAX, u32::MAX >> 1, 0x7F80_0000])?;
    Ok(any & (u32::MAX >> (32 - bits)))
}

fn bytes_of(dtype: Dtype, value: f32) -> u32 {
    match dtype {
        Dtype::Bf16 => half::bf16::from_f32(value).to_bits().into(),
        Dtype::F16 => half::f16::from_f32(value).to_bits().into(),
        Dtype::F32 => value.to_bits(),
        // A 256th of a number has in F16 the exponent field that the number has in E4M3.
        Dtype::F8E4M3 => {
            let bits = u32::from(half::f16::from_f32(value * 8.0 / 256.0).to_bits());
            bits >> 8 & 0x80 | bits >> 7 & 0x7F
        }
        _ => u32::from(half::f16::from_f32(value).to_bits()) >> 8,
    }
}

/// Rows of `row` numbers, those of each row and of each column within a size of its own.
fn matrix(dtype: Dtype, rows: usize, row: usize, u: &mut Unstructured) -> Result<Vec<u8>> {
    let (octaves, seed) = (u.int_in_range(0..=5)?, u.arbitrary::<u32>()?);
    let random = |n: usize| {
        let n = (n as u32 ^ seed).wrapping_mul(0x9E37_79B9);
        (n ^ n >> 15).wrapping_mul(0x85EB_CA6B) >> 8
    };
    let size = |n: usize| (random(n) as f32 / 16_777_216.0 * octaves as f32).exp2();
    let value = |n: usize| {
        let four = (0..4).map(|k| random(4 * n + k) as f32 / 16_777_216.0 - 0.5).sum::<f32>();
        four * 0.1 * size(usize::MAX - n / row) * size(usize::MAX / 2 - n % row)
    };
    let mut bits: Vec<u32> = (0..rows * row).map(|n| bytes_of(dtype, value(n))).collect();
    for _ in 0..u.int_in_range(0..=9)? {
        let at = u.choose_index(bits.len())?;
        bits[at] = stray(dtype, u)?;
    }
    let bytes = usize::try_from(dtype.block().1).unwrap();
    Ok(bits.iter().flat_map(|bits| bits.to_le_bytes()[..bytes].to_vec()).collect())
}

/// A block, what hints it has, and the context of a segment that starts with a like one.
fn any_block(u: &mut Unstructured) -> Result<(RecordLayout, Hints, Option<Context>, Vec<u8>)> {
    let (dtype, row) = (*u.choose(&DTYPES)?, u.int_in_range(32..=200)?);
    let (layout, hints) = (dtype.record_layout(), Hints { level: Level::Max, row });
    let (first, rows) = (matrix(dtype, 40, row, u)?, u.int_in_range(20..=100)?);
    let context = match u.arbitrary()? {
        true => Context::of_first_block(&layout, hints, &first),
        false => None,
    };
    let context = context.and_then(|context| context.read_back(&layout).unwrap());
    Ok((layout, hints, context, matrix(dtype, rows, row, u)?))
}

#[test]
fn weights_come_back() {
    arbtest::arbtest(|u| {
        let (layout, hints, context, data) = any_block(u)?;
        let mut payload = Vec::new();
        let block = encode_block(&layout, context.as_ref(), hints, &data, &mut payload).unwrap();
        let mut out = vec![0x55; data.len()];
        decode_block_into(&layout, context.as_ref(), &block, &mut out).unwrap();
        assert!(out == data);
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn a_damaged_block_is_refused_or_has_another_checksum() {
    arbtest::arbtest(|u| {
        let (layout, hints, context, data) = any_block(u)?;
        let mut payload = Vec::new();
        let mut block =
            encode_block(&layout, context.as_ref(), hints, &data, &mut payload).unwrap();
        let mut bad = block.payload.to_vec();
        let at = u.int_in_range(4..=bad.len() - 1)?;
        bad[at] ^= u.int_in_range(1..=255)?;
        bad.truncate(u.int_in_range(bad.len() / 2..=bad.len() * 2)?);
        block.payload = &bad;
        let mut out = vec![0; data.len()];
        if decode_block_into(&layout, context.as_ref(), &block, &mut out).is_ok() {
            assert!(out == data);
        }
        let _ = decode_unchecked(&layout, None, &block, &mut out);
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn rows_and_columns_of_sizes_of_their_own_save_something() {
    let mut u = Unstructured::new(&[4; 64]);
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
        let (layout, row) = (dtype.record_layout(), 256);
        let data = matrix(dtype, 512, row, &mut u).unwrap();
        let size = |hints| {
            let mut payload = Vec::new();
            let block = encode_block(&layout, None, hints, &data, &mut payload).unwrap();
            (block.coding, block.payload.len())
        };
        let planes = size(Hints::default());
        let alone = size(Hints { level: Level::Max, row: 0 });
        let known = size(Hints { level: Level::Max, row });
        assert_eq!((planes.0, alone.0, known.0), (Coding::Planes, Coding::Ranges, Coding::Ranges));
        assert!(
            known.1 < alone.1 && alone.1 < planes.1,
            "{dtype:?}: {known:?} {alone:?} {planes:?}"
        );
    }
}
