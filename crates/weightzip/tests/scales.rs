//! Small numbers whose scales are other tensors of the same file, such as MX weights, are coded beside these at level max.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use common::models::{Changing, comes_back, model, of};
use std::io;
use std::sync::Arc;
use weightzip::{Archive, Coding, DecodeOptions, Kind, Level, Options, compress, decompress};

const ROWS: usize = 1200;
/// Scales of a row, of 16 bytes each.
const ROW: usize = 40;

/// Numbers, and their scales: numbers are the smaller the larger their scale is in its row.
fn pair(seed: u64) -> [Vec<u8>; 2] {
    let mut state = seed;
    let mut below = move |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % n
    };
    let (mut numbers, mut scales) = (Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let of_row = 100 + below(20);
        for _ in 0..ROW {
            let larger = below(4);
            scales.push((of_row + larger) as u8);
            let mut number = || below(8 - 2 * larger) + below(3) + 3;
            numbers.extend((0..16).map(|_| (number() | number() << 4) as u8));
        }
    }
    [numbers, scales]
}

/// Three experts, whose scales are behind one and before the others, and one that equals the second.
fn experts() -> Vec<u8> {
    let ([a, a_scales], [b, b_scales], [d, d_scales]) = (pair(1), pair(2), pair(3));
    let (numbers, scales): (&[usize], &[usize]) = (&[ROWS, ROW, 16], &[ROWS, ROW]);
    model(&[
        ("a_blocks", "U8", numbers, a),
        ("a_scales", "U8", scales, a_scales),
        ("b.weight_scale", "F8_E8M0", scales, b_scales.clone()),
        ("b.weight", "F4", &[ROWS, ROW * 32], b.clone()),
        ("c.weight_scale", "F8_E8M0", scales, b_scales),
        ("c.weight", "F4", &[ROWS, ROW * 32], b),
        ("d.weight_scale", "F8_E8M0", scales, d_scales),
        ("d.weight", "F4", &[ROWS, ROW * 32], d),
    ])
}

fn packed(file: &[u8], options: Options) -> weightzip::Result<Vec<u8>> {
    let mut wz = Vec::new();
    compress(file, &mut wz, &Options { level: Level::Max, ..options }).map(|_| wz)
}

fn at_random(file: &[u8], threads: usize) -> Options {
    Options { source: Some(Arc::new(file.to_vec())), threads, ..Options::default() }
}

fn unpacked(wz: &[u8], options: &DecodeOptions) -> weightzip::Result<Vec<u8>> {
    let mut out = Vec::new();
    decompress(wz, &mut out, options).map(|_| out)
}

#[test]
fn numbers_are_coded_beside_their_scales_and_come_back() {
    let file = experts();
    let wz = packed(&file, at_random(&file, 1)).unwrap();
    assert_eq!(wz, packed(&file, at_random(&file, 3)).unwrap());
    // A copy is stored once.
    let alone = packed(&file, Options::default()).unwrap();
    let each = ROWS * ROW * 16;
    assert!(wz.len() + each * 3 / 4 < alone.len(), "{} {}", wz.len(), alone.len());

    assert!(comes_back(&wz, &file));
    for threads in [1, 3] {
        let options = DecodeOptions { threads, ..DecodeOptions::default() };
        let archive = Archive::open_with(wz.as_slice(), options).unwrap();
        assert!(archive.bases().is_empty() && archive.check_bases().is_ok());
        let tensor = |name| archive.tensor(name).unwrap();
        assert_eq!(tensor("a_blocks").stored().unwrap().codings, [Coding::Scaled]);
        assert_eq!(tensor("d.weight").stored().unwrap().codings, [Coding::Scaled]);
        // What others repeat has no base.
        assert_eq!(tensor("b.weight").stored().unwrap().codings, [Coding::Bytes]);
        assert!(tensor("c.weight").stored().unwrap().bytes < 1024);
        assert!(tensor("c.weight").read().unwrap() == tensor("b.weight").read().unwrap());
        // Some rows of a block.
        let row = tensor("a_blocks").rows(700..702).unwrap();
        let mut out = vec![0; 2 * ROW * 16];
        row.read_into(&mut out).unwrap();
        assert!(out == tensor("a_blocks").read().unwrap()[700 * ROW * 16..][..out.len()]);
        let mut whole = vec![0; file.len()];
        archive.read_at(0, &mut whole).unwrap();
        assert!(whole == file);
    }
}

#[test]
fn scales_are_not_looked_for_at_level_default_or_in_pipes() {
    let file = experts();
    for (level, source) in [(Level::Default, Some(Arc::new(file.clone()) as _)), (Level::Max, None)]
    {
        let mut wz = Vec::new();
        let options = Options { level, source, ..Options::default() };
        compress(file.as_slice(), &mut wz, &options).unwrap();
        let archive = Archive::open(wz).unwrap();
        let codings = archive.tensor("a_blocks").unwrap().stored().unwrap().codings;
        assert!(!codings.contains(&Coding::Scaled));
    }
}

#[test]
fn numbers_that_have_a_base_do_without_their_scales() {
    let file = experts();
    let base = of(&[("old.safetensors", &file)]);
    let options = Options { base: base.clone(), ..at_random(&file, 1) };
    let wz = packed(&file, options).unwrap();
    assert!(wz.len() < 16 << 10, "{}", wz.len());
    let options = DecodeOptions { base, ..DecodeOptions::default() };
    assert!(unpacked(&wz, &options).unwrap() == file);
}

#[test]
fn an_input_that_changes_is_refused_or_comes_back() {
    let file = experts();
    // Scales that were others when they were read for their numbers.
    let at = file.len() - ROWS * ROW * 16 - 20;
    let mut changed = file.clone();
    changed[at] ^= 1;
    let refused = packed(&changed, at_random(&file, 1)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Io);
    assert!(refused.to_string().contains("changed while it was read"), "{refused}");
    // Those of the first are gone with the rest; those of the last have no numbers.
    let first = file.len() - 4 * ROWS * ROW * 17 + ROWS * ROW * 16;
    assert!(packed(&file[..first + 20], at_random(&file, 1)).is_err());
    let wz = packed(&file[..at], at_random(&file, 1)).unwrap();
    assert!(unpacked(&wz, &DecodeOptions::default()).unwrap() == file[..at]);
    for left in (0..300_000).step_by(20_000) {
        let source = Some(Arc::new(Changing::new(&file, left)) as _);
        let options = Options { source, threads: 1, ..Options::default() };
        if let Ok(wz) = packed(&file, options) {
            assert!(unpacked(&wz, &DecodeOptions::default()).unwrap() == file, "{left}");
        }
    }
    for cut in [1, ROWS * ROW * 8, ROWS * ROW * 20, file.len() - 100_000] {
        let file = &file[..file.len() - cut];
        let wz = packed(file, at_random(file, 1)).unwrap();
        assert!(unpacked(&wz, &DecodeOptions::default()).unwrap() == file, "{cut}");
    }
    // Nobody reads what is written here.
    assert!(compress(file.as_slice(), io::sink(), &at_random(&file, 2)).is_ok());
}
