//! Floats on a grid, alone and next to a base.

use super::*;
use crate::codec::{Block, Given, Hints, decode_block_into, encode_block};
use crate::dtype::Dtype;
use arbtest::arbitrary::{Result as Arbitrary, Unstructured};
use weightzip_kernels::round::{Step, round};

const DTYPES: [Dtype; 4] = [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64];

/// Numbers near 2^-`scale`, and what is odd: zeros of both signs, large ones, NaNs.
fn numbers(u: &mut Unstructured, dtype: Dtype, count: usize) -> Arbitrary<Vec<u8>> {
    let (scale, mut seed) = (u.int_in_range(0..=6)?, u.arbitrary::<u64>()?);
    let odd = u.int_in_range(20..=3000)?;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 11) as f64 / 2f64.powi(53) - 0.5
    };
    let mut number = |i: usize| match i % odd {
        0 => *[0.0, -0.0, 1e4, f64::NAN, f64::NEG_INFINITY].get(i / odd % 5).unwrap(),
        // A third has all bits that its format has.
        _ => (next() + next() + next()) / 3.0 * 2f64.powi(-scale),
    };
    Ok((0..count).flat_map(|i| bytes_of(dtype, number(i))).collect())
}

fn bytes_of(dtype: Dtype, number: f64) -> Vec<u8> {
    match dtype {
        Dtype::F16 => half::f16::from_f64(number).to_le_bytes().to_vec(),
        Dtype::Bf16 => half::bf16::from_f64(number).to_le_bytes().to_vec(),
        Dtype::F32 => (number as f32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    }
}

fn on_grid(u: &mut Unstructured, dtype: Dtype, mut data: Vec<u8>) -> Arbitrary<Vec<u8>> {
    let coarse = if dtype == Dtype::Bf16 { -9..=-5 } else { -12..=-4 };
    let float = dtype.record_layout().floats().unwrap();
    round(weightzip_kernels::level(), float, Step::Absolute(u.int_in_range(coarse)?), &mut data);
    Ok(data)
}

fn any_block(u: &mut Unstructured) -> Arbitrary<(Dtype, Vec<u8>, Vec<u8>, Hints)> {
    let (dtype, count) = (*u.choose(&DTYPES)?, u.int_in_range(600..=6000)?);
    let old = numbers(u, dtype, count)?;
    let data = match u.arbitrary()? {
        true => numbers(u, dtype, count)?,
        false => old.clone(),
    };
    let data = on_grid(u, dtype, data)?;
    let base = if u.arbitrary()? { on_grid(u, dtype, old)? } else { old };
    let level = *u.choose(Level::ALL)?;
    Ok((dtype, data, base, Hints { level, row: 0 }))
}

#[test]
fn what_is_on_a_grid_is_fixed_and_comes_back() {
    let mut found = std::collections::HashMap::new();
    arbtest::arbtest(|u| {
        let (dtype, data, base, hints) = any_block(u)?;
        let layout = dtype.record_layout();
        for base in [None, Some(&base[..])] {
            let (given, mut payload) = (Given { context: None, base }, Vec::new());
            let block = encode_block(&layout, given, hints, &data, &mut payload).unwrap();
            *found.entry(block.coding).or_insert(0) += 1;
            let mut out = vec![0x55; data.len()];
            decode_block_into(&layout, given, &block, &mut out).unwrap();
            assert!(out == data, "{dtype:?} {:?}", block.coding);
        }
        Ok(())
    })
    .budget_ms(1000);
    assert!(found.contains_key(&Coding::Fixed), "{found:?}");
    assert!(found.contains_key(&Coding::FixedDelta), "{found:?}");
}

#[test]
fn symbols_that_an_entropy_coder_would_not_make_smaller_come_back() {
    let symbols: Vec<u8> =
        (0..600u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut scratch, mut payload) = (Scratch::default(), Vec::new());
    scratch.escapes.ranks.room_for(600)[..600].copy_from_slice(&symbols);
    let coding = code_symbols(&mut scratch, Level::Max, 600, &mut payload).unwrap();
    assert_eq!(coding, Coding::Ranks);
    let block = Block { coding, records: 600, check: 0, payload: &payload };
    let mut out = vec![0x55; 600];
    crate::codec::decode_unchecked(&RecordLayout::opaque(), None, &block, &mut out).unwrap();
    assert!(out == symbols);
}

#[test]
fn any_payload_is_refused_or_decodes() {
    arbtest::arbtest(|u| {
        let (dtype, data, base, hints) = any_block(u)?;
        let layout = dtype.record_layout();
        let given = Given { context: None, base: u.arbitrary::<bool>()?.then_some(&base[..]) };
        let mut payload = Vec::new();
        let block = encode_block(&layout, given, hints, &data, &mut payload).unwrap();
        let Block { coding, records, check, payload } = block;
        let mut payload = payload.to_vec();
        for _ in 0..u.int_in_range(1..=3)? {
            // Mostly in what comes before the strips.
            let at = u.int_in_range(4..=payload.len() - 1)?;
            let at = if u.ratio(2, 3)? { 4 + at % 12 } else { at };
            payload[at] ^= u.int_in_range(1..=255)? as u8;
        }
        payload.truncate(u.int_in_range(0..=payload.len() * 2)?);
        let block = Block { coding, records, check, payload: &payload };
        let (mut first, mut second) = (vec![0; data.len()], vec![0xFF; data.len()]);
        let decoded = crate::codec::decode_unchecked(&layout, given, &block, &mut first);
        let again = crate::codec::decode_unchecked(&layout, given, &block, &mut second);
        assert_eq!(decoded.is_ok(), again.is_ok());
        assert!(again.is_err() || first == second);
        Ok(())
    });
}

#[test]
fn ordinary_weights_are_not_taken_for_fixed_point() {
    arbtest::arbtest(|u| {
        // Small numbers of F16 are multiples of its smallest one.
        let (dtype, level) = (*u.choose(&DTYPES[1..])?, *u.choose(Level::ALL)?);
        let float = dtype.record_layout().floats().unwrap();
        let data = numbers(u, dtype, 2000)?;
        assert!(Choice::of(float, level, &[], &data).is_none());
        // Not even if they are short numbers in long ones.
        let short = numbers(u, Dtype::Bf16, 2000)?;
        let wide: Vec<u8> = short.chunks_exact(2).flat_map(|b| [0, 0, b[0], b[1]]).collect();
        let float = Dtype::F32.record_layout().floats().unwrap();
        assert!(Choice::of(float, level, &[], &wide).is_none());
        Ok(())
    });
}
