//! Words of packed integers.

use super::*;
use crate::codec::{Coding, Hints, decode_block_into, decode_unchecked, encode_block};
use crate::dtype::Dtype;
use crate::options::Level;
use arbtest::arbitrary::{Result, Unstructured};

/// How integers are packed, and scaled.
#[derive(Clone, Copy, Debug)]
struct Shape {
    row: usize,
    rows: usize,
    across: bool,
    /// Channels that share a scale.
    group: usize,
    /// The least integer of a group is 0 and the greatest 15, not as far from 8 on one side as on the other.
    offset: bool,
}

/// Words of integers that are weights of a bell's shape, quantised by groups.
fn words(shape: Shape, mut seed: u64) -> Vec<u8> {
    let Shape { row, rows, across, group, offset } = shape;
    let mut uniform = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let (lanes, channels) = if across { (8 * row, rows) } else { (row, 8 * rows) };
    let mut integers = vec![0; lanes * channels];
    let mut group_of: Vec<f32> = vec![0.0; group];
    for lane in 0..lanes {
        for first in (0..channels).step_by(group) {
            let some = &mut group_of[..group.min(channels - first)];
            some.iter_mut().for_each(|w| *w = (0..4).map(|_| uniform()).sum());
            let [least, most] = [1.0, -1.0]
                .map(|sign: f32| sign * some.iter().map(|w| -sign * w).fold(-9.0, f32::max));
            let (scale, zero) = match offset {
                true => ((most - least) / 15.0, (-least / (most - least) * 15.0).round()),
                false => (most.max(-least) / 7.0, 8.0),
            };
            // Some groups use less of their room.
            let scale: f32 = scale * (1.0 + 4.0 * uniform().abs());
            for (channel, weight) in (first..).zip(some.iter()) {
                integers[channel * lanes + lane] =
                    ((weight / scale).round() + zero).clamp(0.0, 15.0) as u8;
            }
        }
    }
    let integer = |word: usize, place: usize| match (word / row, word % row) {
        (r, lane) if across => integers[r * lanes + place * row + lane],
        (r, lane) => integers[(8 * r + place) * lanes + lane],
    };
    let word = |word| {
        (0..8).fold(0u32, |bits, place| bits | u32::from(integer(word, place)) << (4 * place))
    };
    (0..row * rows).flat_map(|n| word(n).to_le_bytes()).collect()
}

/// The coding and share of a block, which comes back.
fn coded(row: usize, level: Level, data: &[u8]) -> (Coding, f64) {
    let (layout, mut payload) = (Dtype::I32.record_layout(), Vec::new());
    let block = encode_block(&layout, None, Hints { level, row }, data, &mut payload).unwrap();
    let mut out = vec![0x55; data.len()];
    decode_block_into(&layout, None, &block, &mut out).unwrap();
    assert!(out == data);
    (block.coding, block.payload.len() as f64 / data.len() as f64)
}

#[test]
fn packed_integers_take_less_than_their_frequency_says() {
    for (across, offset, group) in
        [(false, false, 128), (true, true, 128), (false, true, 64), (true, false, 32)]
    {
        let (row, rows) = if across { (128, 512) } else { (512, 128) };
        let data = words(Shape { row, rows, across, group, offset }, 7);
        let mut counts = [0u32; 16];
        data.iter().for_each(|byte| {
            counts[usize::from(byte & 15)] += 1;
            counts[usize::from(byte >> 4)] += 1;
        });
        let all = 2.0 * data.len() as f64;
        let bits = |&n: &u32| f64::from(n) / all * (all / f64::from(n.max(1))).log2();
        let alone = counts.iter().map(bits).sum::<f64>() / 4.0;
        for &level in Level::ALL {
            let (coding, share) = coded(row, level, &data);
            assert!(
                coding == Coding::Packed && share < alone - 0.003,
                "{across} {offset} {group} {share} {alone}"
            );
        }
    }
}

#[test]
fn the_form_is_found() {
    for (across, offset, group) in
        [(false, false, 128), (true, true, 128), (false, true, 64), (true, false, 32)]
    {
        let (row, rows) = if across { (128, 512) } else { (512, 128) };
        let data = words(Shape { row, rows, across, group, offset }, 3);
        let form = Choice::of(weightzip_kernels::level(), row, &data, &mut Lanes::default()).form;
        assert_eq!((form.across, usize::from(form.group)), (across, group));
        assert!(form.leans || !offset);
    }
}

#[test]
fn other_words_stay_what_they_were() {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 32) as u32
    };
    let noise: Vec<u8> = (0..40_000).flat_map(|_| random().to_le_bytes()).collect();
    let counted: Vec<u8> = (0..40_000u32).flat_map(u32::to_le_bytes).collect();
    let ids: Vec<u8> = (0..40_000).flat_map(|_| (random() % 30_000).to_le_bytes()).collect();
    for &level in Level::ALL {
        assert_eq!(coded(400, level, &noise).0, Coding::Raw);
        assert_eq!(coded(400, level, &counted).0, Coding::Zstd);
        assert_eq!(coded(400, level, &ids).0, Coding::Zstd);
    }
}

/// A payload in any form, as small as it may be, and what it is of.
fn any_payload(u: &mut Unstructured) -> Result<(Vec<u8>, Vec<u8>)> {
    let (row, rows) = (u.int_in_range(LEAST_ROW + 1..=150)?, u.int_in_range(1..=40)?);
    let (across, offset) = (u.arbitrary()?, u.arbitrary()?);
    let shape = Shape { row, rows, across, group: *u.choose(&[16, 32, 128])?, offset };
    let mut data = words(shape, u.arbitrary()?);
    for _ in 0..u.int_in_range(0..=9)? {
        let at = u.choose_index(data.len())?;
        data[at] = u.arbitrary()?;
    }
    // The last row may be shorter.
    data.truncate((data.len() / WORD - u.int_in_range(0..=row / 2)?).max(row) * WORD);
    let mut payload = vec![0; PREAMBLE];
    let records = u32::try_from(data.len() / WORD).unwrap();
    payload[..4].copy_from_slice(&records.to_le_bytes());
    let _ = encode(row, &data, &mut payload);
    Ok((payload, data))
}

#[test]
fn any_rows_come_back() {
    arbtest::arbtest(|u| {
        let (payload, data) = any_payload(u)?;
        let (preamble, body) = payload.split_first_chunk().unwrap();
        let mut out = vec![0x55; data.len()];
        decode(preamble, body, &mut out).unwrap();
        assert!(out == data);
        Ok(())
    });
}

#[test]
fn a_damaged_payload_is_refused_or_decodes() {
    arbtest::arbtest(|u| {
        let (mut payload, data) = any_payload(u)?;
        let last = if u.arbitrary()? { 40 } else { payload.len() - 1 };
        let at = u.int_in_range(4..=last)?;
        payload[at] ^= u.int_in_range(1..=255)?;
        payload.truncate(u.int_in_range(payload.len() / 2..=payload.len() * 2)?);
        let mut out = vec![0; data.len()];
        let (layout, records) =
            (Dtype::U32.record_layout(), u32::try_from(data.len() / WORD).unwrap());
        let block = crate::Block { coding: Coding::Packed, records, check: 0, payload: &payload };
        let _ = decode_unchecked(&layout, None, &block, &mut out);
        Ok(())
    });
}
