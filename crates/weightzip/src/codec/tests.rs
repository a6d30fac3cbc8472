//! Any block in, the same block out, and what its coding is.

use super::*;
use crate::dtype::Dtype;
use crate::options::Level;
use crate::record::{ByteOrder, Field, Role};
use arbtest::arbitrary::{Result as Arbitrary, Unstructured};

/// Any record layout that the format can say and a codec may meet.
fn any_layout(u: &mut Unstructured) -> Arbitrary<RecordLayout> {
    if u.ratio(3, 4)? {
        return Ok(u.choose(Dtype::ALL)?.record_layout());
    }
    let order = if u.arbitrary()? { ByteOrder::Big } else { ByteOrder::Little };
    let width = *u.choose(&[8u8, 16, 32, 64])?;
    let exponent_bits = u.int_in_range(1..=11.min(width - 1))?;
    let role =
        *u.choose(&[Role::Opaque, Role::Unsigned, Role::Signed, Role::Float { exponent_bits }])?;
    let count = u.int_in_range(1..=4)?;
    let field = Field { bit_offset: 0, count, width, role, run: 0 };
    let bytes = u16::from(width / 8) * count + u.int_in_range(0..=1)?;
    Ok(RecordLayout::new(bytes, order, vec![field]).unwrap())
}

fn any_hints(u: &mut Unstructured) -> Arbitrary<Hints> {
    Ok(Hints { level: *u.choose(Level::ALL)?, row: u.int_in_range(0..=99)? })
}

/// Whole records, from noise or in the shape of weights, with runs and short values.
fn any_records(u: &mut Unstructured, layout: &RecordLayout) -> Arbitrary<Vec<u8>> {
    let size = usize::from(layout.bytes());
    let mut data: Vec<u8> = u.arbitrary()?;
    if u.arbitrary()? {
        let (keep, fill) = (u.int_in_range(0..=size)?, u.int_in_range(0..=2)? as u8 * 0x3F);
        data.chunks_mut(size).for_each(|r| r.iter_mut().take(keep).for_each(|b| *b = fill));
    }
    let times = u.int_in_range(1..=40)?;
    let mut data = data.repeat(times);
    data.truncate(data.len() / size * size);
    data.resize(data.len().max(size), 7);
    Ok(data)
}

#[test]
fn any_records_come_back_and_nothing_depends_on_what_the_buffer_held() {
    arbtest::arbtest(|u| {
        let layout = any_layout(u)?;
        let (first, data) = (any_records(u, &layout)?, any_records(u, &layout)?);
        let hints = any_hints(u)?;
        let context =
            if u.arbitrary()? { Context::of_first_block(&layout, hints, &first) } else { None };
        let (mut payload, mut again) = (Vec::new(), vec![7; 99]);
        let block = encode_block(&layout, context.as_ref(), hints, &data, &mut payload).unwrap();
        assert_eq!(
            block,
            encode_block(&layout, context.as_ref(), hints, &data, &mut again).unwrap()
        );
        assert!(block.payload.len() <= data.len() + PREAMBLE);
        // The decoder has only what the wire carries.
        let context = context.map(|c| c.read_back(&layout).unwrap().unwrap());
        for fill in [0, 0xFF] {
            let mut out = vec![fill; data.len()];
            decode_block_into(&layout, context.as_ref(), &block, &mut out).unwrap();
            assert_eq!(out, data);
        }
        Ok(())
    });
}

#[test]
fn any_payload_is_refused_or_decodes() {
    arbtest::arbtest(|u| {
        let layout = any_layout(u)?;
        let data = any_records(u, &layout)?;
        let mut payload = Vec::new();
        let Block { records, check, .. } =
            encode_block(&layout, None, any_hints(u)?, &data, &mut payload).unwrap();
        for _ in 0..u.int_in_range(1..=4)? {
            let at = u.choose_index(payload.len())?;
            payload[at] ^= u.int_in_range(1..=255)? as u8;
        }
        payload.truncate(u.int_in_range(0..=payload.len() * 2)?);
        let coding = *u.choose(Coding::ALL)?;
        let block = Block { coding, records, check, payload: &payload };
        let mut out = vec![0; data.len()];
        if decode_block_into(&layout, None, &block, &mut out).is_ok() {
            assert_eq!(out, data);
        }
        let _ = decode_unchecked(&layout, None, &block, &mut out);
        Ok(())
    });
}

#[test]
fn what_a_bad_payload_gives_does_not_depend_on_the_blocks_before_it() {
    let layout = Dtype::F16.record_layout();
    let bytes = |bits: &dyn Fn(u16) -> u16| (0..6000).flat_map(|i| bits(i).to_le_bytes()).collect();
    // Short mantissas but for a few subnormals, whose exponent has the last rank.
    let exponent = |i: u16| 10 + i.trailing_zeros().min(9) as u16;
    let data: Vec<u8> =
        bytes(&|i| if i % 500 == 7 { 1 } else { (exponent(i) << 10) | ((i % 61) << 3) });
    // They leave low ranks in memory, or all that there are.
    let others: [Vec<u8>; 2] = [bytes(&|i| (i % 5) << 10), bytes(&|i| (i % 31) << 10)];
    let (mut payload, mut spare) = (Vec::new(), Vec::new());
    let Block { coding, records, check, payload } =
        encode_block(&layout, None, Hints::default(), &data, &mut payload).unwrap();
    assert_eq!(coding, Coding::Planes);
    let decode_behind = |other: &[u8], payload: &[u8], spare: &mut Vec<u8>| {
        let mut out = vec![0; data.len()];
        let other = encode_block(&layout, None, Hints::default(), other, spare).unwrap();
        decode_block_into(&layout, None, &other, &mut out).unwrap();
        let block = Block { coding, records, check, payload };
        decode_block_into(&layout, None, &block, &mut out).map_err(|e| e.to_string())
    };
    for at in (0..payload.len() - 64).step_by(24) {
        for bits in [0, 0xFF] {
            let mut bad = payload.to_vec();
            bad[at..at + 64].fill(bits);
            let [first, second] =
                others.each_ref().map(|other| decode_behind(other, &bad, &mut spare));
            assert_eq!(first, second, "{bits:#x} from {at} on");
        }
    }
}

fn ratio(dtype: Dtype, data: &[u8]) -> (Coding, f64) {
    ratio_at(Level::Default, dtype, data)
}

fn ratio_at(level: Level, dtype: Dtype, data: &[u8]) -> (Coding, f64) {
    let (hints, mut payload) = (Hints { level, row: 0 }, Vec::new());
    let block = encode_block(&dtype.record_layout(), None, hints, data, &mut payload).unwrap();
    (block.coding, block.payload.len() as f64 / data.len() as f64)
}

/// Numbers from a linear congruential generator.
fn uniform() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(1u64), |s| {
        Some(s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    })
    .map(|state| (state >> 32) as u32)
}

/// Sums of four uniform numbers: a bell like that of weights. Not evidence of any ratio.
fn bell(count: usize) -> impl Iterator<Item = f32> {
    let mut numbers = uniform().map(|n| n as f32 / u32::MAX as f32 - 0.5);
    (0..count).map(move |_| numbers.by_ref().take(4).sum::<f32>() * 0.05)
}

#[test]
fn short_values_in_long_types_are_found() {
    let values = || bell(1 << 15).map(half::bf16::from_f32);
    let bf16: Vec<u8> = values().flat_map(half::bf16::to_le_bytes).collect();
    let as_f32: Vec<u8> = values().flat_map(|v| v.to_f32().to_le_bytes()).collect();
    let as_f64: Vec<u8> = values().flat_map(|v| f64::from(v.to_f32()).to_le_bytes()).collect();
    let as_f16: Vec<u8> =
        values().flat_map(|v| half::f16::from_f32(v.to_f32()).to_le_bytes()).collect();
    let bf16 = ratio(Dtype::Bf16, &bf16);
    assert!(bf16.0 == Coding::Planes && bf16.1 < 0.68, "{bf16:?}");
    assert!((ratio(Dtype::F32, &as_f32).1 - bf16.1 / 2.0).abs() < 0.002);
    assert!((ratio(Dtype::F64, &as_f64).1 - bf16.1 / 4.0).abs() < 0.002);
    // FP8 has 3 mantissa bits; BF16 that holds it has 4 more, all zero.
    let fp8: Vec<u8> = values().flat_map(|v| (v.to_bits() & 0xFFF0).to_le_bytes()).collect();
    assert!((ratio(Dtype::Bf16, &fp8).1 - (bf16.1 - 0.25)).abs() < 0.002);
    let f16 = ratio(Dtype::F16, &as_f16).1;
    assert!(
        (f16 - bf16.1).abs() < 0.005,
        "subnormals must not spoil their chunks: {f16} against {bf16:?}"
    );
}

#[test]
fn every_pattern_of_short_floats_and_the_extremes_of_long_ones_come_back() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let f32s = [0, 1, 0x7F_FFFF, 0x80_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7F80_0001, 0x7FFF_FFFF];
    let f64s = f32s.map(|bits| f64::from(f32::from_bits(bits)).to_bits() | u64::from(bits & 1));
    let signs = |bits: &[u8], top: usize| -> Vec<u8> {
        let flip = |(i, b): (usize, &u8)| if i % top == top - 1 { b | 0x80 } else { *b };
        [bits, &bits.iter().enumerate().map(flip).collect::<Vec<_>>()].concat().repeat(100)
    };
    let f32s = signs(&f32s.iter().flat_map(|b: &u32| b.to_le_bytes()).collect::<Vec<_>>(), 4);
    let f64s = signs(&f64s.iter().flat_map(|b| b.to_le_bytes()).collect::<Vec<_>>(), 8);
    for dtype in Dtype::ALL {
        let layout = dtype.record_layout();
        for (data, &level) in [&all, &f32s, &f64s].into_iter().zip(Level::ALL.iter().cycle()) {
            let whole = data.len() - data.len() % usize::from(layout.bytes());
            let (data, hints) = (&data[..whole], Hints { level, row: 0 });
            let mut payload = Vec::new();
            let block = encode_block(&layout, None, hints, data, &mut payload).unwrap();
            let mut out = vec![0x55; data.len()];
            decode_block_into(&layout, None, &block, &mut out).unwrap();
            assert!(out == data, "{dtype:?}");
        }
    }
}

#[test]
fn structure_has_its_coding() {
    assert_eq!(ratio(Dtype::F32, &[0; 4096]).0, Coding::Constant);
    assert_eq!(
        ratio(Dtype::I64, &(0..512u64).flat_map(u64::to_le_bytes).collect::<Vec<_>>()).0,
        Coding::Zstd
    );
    let four =
        |numbers: &[u32]| numbers.iter().map(|n| f64::from(n >> 16) / 65_536.0 - 0.5).sum::<f64>();
    let numbers: Vec<u32> = uniform().take(1 << 20).collect();
    let bell: Vec<u8> =
        numbers.chunks(4).map(|n| ((four(n) * 60.0) as i8).cast_unsigned()).collect();
    let (default, max) =
        (ratio_at(Level::Default, Dtype::I8, &bell), ratio_at(Level::Max, Dtype::I8, &bell));
    assert!((default.0, max.0) == (Coding::Bytes, Coding::Bytes) && max.1 <= default.1);
    let noise: Vec<u8> = uniform().map(|n| n.to_be_bytes()[0]).take(4096).collect();
    assert_eq!(ratio(Dtype::U8, &noise).0, Coding::Raw);
}

/// Blocks of quantised numbers: scales that differ from row to row, and numbers that are wider where
/// these are small.
#[test]
fn fields_are_coded_apart_and_symbols_know_their_scale() {
    let (mut noise, row) = (noise(7), 12);
    let mut random = || noise() >> 16;
    for (dtype, bytes) in
        [(Dtype::Q4_0, 16), (Dtype::Q8_0, 32), (Dtype::Q5_0, 20), (Dtype::Mxfp4, 16)]
    {
        let layout = dtype.record_layout();
        let scale = usize::from(layout.bytes()) - bytes;
        let mut data = Vec::new();
        for record in 0..6000u32 {
            let wide = random() % 2;
            let top = 20 + (record / row % 5) as u8 - 2 * wide as u8;
            data.extend([0x40, top].iter().skip(2 - scale));
            let mut nibble = || {
                let sum = random() % 8 + random() % 8;
                ((if wide > 0 { sum } else { sum / 2 + 4 }) & 15) as u8
            };
            data.extend((0..bytes).map(|_| nibble() | nibble() << 4));
        }
        let coded = |level| {
            let (mut payload, hints) = (Vec::new(), Hints { level, row: row as usize });
            let block = encode_block(&layout, None, hints, &data, &mut payload).unwrap();
            assert_eq!(block.coding, Coding::Fields);
            let mut out = vec![0x55; data.len()];
            decode_block_into(&layout, None, &block, &mut out).unwrap();
            assert!(out == data, "{dtype:?}");
            block.payload.len() as f64 / data.len() as f64
        };
        let (default, max) = (coded(Level::Default), coded(Level::Max));
        assert!(max < default, "{dtype:?}: {default} {max}");
    }
}

/// Numbers that look random.
fn noise(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    }
}

/// Floats in the shape of weights, and what they are after some more training: one in `rare` has moved
/// by about `by` ten thousandths.
fn trained(dtype: Dtype, seed: u32, elements: usize, by: f32, rare: usize) -> [Vec<u8>; 2] {
    let mut random = noise(seed);
    let mut bell = || (0..4).map(|_| (random() & 0xFFFF) as f32 / 131_072.0).sum::<f32>() - 1.0;
    let bytes = |v: f32| match dtype {
        Dtype::Bf16 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f32(v).to_le_bytes().to_vec(),
        _ => v.to_le_bytes().to_vec(),
    };
    let (mut base, mut data) = (Vec::new(), Vec::new());
    for i in 0..elements {
        let old = bell() * 0.05;
        let new = if i * 7919 % rare == 0 { old + bell() * by * 1e-4 } else { old };
        base.extend(bytes(old));
        data.extend(bytes(new));
    }
    [base, data]
}

const NEXT_TO_A_BASE: [Coding; 4] =
    [Coding::Xor, Coding::Difference, Coding::Steps, Coding::Sparse];

#[test]
fn blocks_come_back_from_their_base() {
    arbtest::arbtest(|u| {
        let dtype = *u.choose(&[Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F8E4M3, Dtype::U16])?;
        let layout = dtype.record_layout();
        let size = usize::from(layout.bytes());
        let elements = u.int_in_range(300..=3000)?;
        let (by, rare) = (u.int_in_range(1..=300)?, *u.choose(&[1, 2, 20, 200])?);
        let [mut base, mut data] = trained(dtype, u.arbitrary()?, elements, by as f32, rare);
        for _ in 0..u.int_in_range(0..=20)? {
            let at = u.choose_index(elements * size)?;
            let any = u.arbitrary()?;
            if u.arbitrary()? { base[at] = any } else { data[at] = any }
        }
        base.truncate(elements * size);
        data.truncate(elements * size);
        let (given, coding) =
            (Given { context: None, base: Some(&base) }, *u.choose(&NEXT_TO_A_BASE)?);
        if base == data && coding == Coding::Sparse {
            return Ok(());
        }
        let records = elements as u32;
        let Some(payload) = encode_as(coding, &layout, &base, records, &data) else {
            return Ok(());
        };
        let block = Block { coding, records, check: xxh3_64(&data), payload: &payload };
        let mut out = vec![0x55; data.len()];
        decode_block_into(&layout, given, &block, &mut out).unwrap();
        assert!(out == data);

        let mut other = base.clone();
        other[u.choose_index(base.len())?] ^= 1;
        let given_other = Given { context: None, base: Some(&other) };
        assert!(decode_block_into(&layout, given_other, &block, &mut out).is_err());
        // Whatever is broken, there is an answer.
        let mut broken = payload.clone();
        broken[u.choose_index(payload.len())?] ^= u.int_in_range(1..=255)? as u8;
        let block = Block { payload: &broken, ..block };
        let _ = decode_block_into(&layout, given, &block, &mut out);
        Ok(())
    });
}

#[test]
fn each_block_has_the_coding_that_suits_it() {
    let coding = |level, dtype: Dtype, [base, data]: [Vec<u8>; 2]| {
        let (hints, given) = (Hints { level, row: 0 }, Given { context: None, base: Some(&base) });
        let (layout, mut payload) = (dtype.record_layout(), Vec::new());
        let block = encode_block(&layout, given, hints, &data, &mut payload).unwrap();
        let mut out = vec![0; data.len()];
        decode_block_into(&layout, given, &block, &mut out).unwrap();
        assert!(out == data);
        (block.coding, block.payload.len() as f64 / data.len() as f64)
    };
    use Coding::{Difference, Planes, Sparse, Steps, Xor};
    let all = trained(Dtype::Bf16, 1, 40_000, 30.0, 1);
    let (steps, size) = coding(Level::Default, Dtype::Bf16, all.clone());
    assert!(steps == Steps && size < 0.46, "{} {size}", steps.name());
    assert!(coding(Level::Max, Dtype::Bf16, all).1 <= size);
    // Some rows were not trained: two kinds of steps in a block.
    let mixed = trained(Dtype::Bf16, 2, 40_000, 200.0, 3);
    assert_eq!(coding(Level::Default, Dtype::Bf16, mixed).0, Difference);
    let (sparse, size) =
        coding(Level::Default, Dtype::F32, trained(Dtype::F32, 3, 40_000, 1.0, 50));
    assert!(sparse == Sparse && size < 0.03, "{} {size}", sparse.name());
    let [base, _] = trained(Dtype::F16, 4, 2000, 1.0, 1);
    assert_eq!(coding(Level::Default, Dtype::F16, [base.clone(), base]).0, Xor);
    let [base, _] = trained(Dtype::F32, 5, 40_000, 1.0, 1);
    let [other, _] = trained(Dtype::F32, 6, 40_000, 1.0, 1);
    assert_eq!(coding(Level::Default, Dtype::F32, [base, other]).0, Planes);
}

#[test]
fn zeros_are_left_out_where_there_are_many() {
    let [weights, _] = trained(Dtype::Bf16, 7, 40_000, 1.0, 1);
    let coded = |dtype: Dtype, data: &[u8]| {
        let (layout, mut payload) = (dtype.record_layout(), Vec::new());
        let block = encode_block(&layout, None, Hints::default(), data, &mut payload).unwrap();
        let mut out = vec![9; data.len()];
        decode_block_into(&layout, None, &block, &mut out).unwrap();
        assert!(out == data);
        (block.coding, block.payload.len() as f64 / data.len() as f64)
    };
    let kept = |one_in: usize| {
        let mut data = weights.clone();
        let records = data.as_chunks_mut::<2>().0.iter_mut().enumerate();
        records.filter(|(i, _)| i * i / 7 % one_in > 0).for_each(|(_, r)| *r = [0; 2]);
        data
    };
    let (coding, share) = coded(Dtype::Bf16, &kept(2));
    assert!(coding == Coding::Zeros && share < 0.42, "{} {share}", coding.name());
    let (coding, share) = coded(Dtype::Bf16, &kept(300));
    assert!(coding == Coding::Zeros && share < 0.02, "{} {share}", coding.name());
    // Records of other kinds and widths.
    for dtype in [Dtype::Bool, Dtype::I32, Dtype::F64] {
        let size = dtype.bytes();
        let data: Vec<u8> =
            (0..40_000 * size).map(|i| u8::from(i / size * (i / size) / 7 % 90 == 3)).collect();
        let (coding, share) = coded(dtype, &data);
        assert!(coding == Coding::Zeros && share < 0.02, "{} {share}", coding.name());
    }
}
