//! Tensors that are equal to earlier ones of the same file are stored once.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use common::models::{Changing, bf16, comes_back, f32s, model, of, trained, weights};
use std::io;
use std::sync::Arc;
use weightzip::lossy::Rules;
use weightzip::{Archive, DecodeOptions, Kind, Level, Options, Summary, compress, decompress};

const ROWS: usize = 2000;
const ROW: usize = 100;
const BYTES: usize = ROWS * ROW * 2;

/// A model whose head is its embedding, three experts of which two are equal, and small tensors that are equal, too.
fn tied() -> Vec<u8> {
    let (table, expert) = (bf16(&weights(1, ROWS * ROW)), f32s(&weights(2, 50_000)));
    let other = f32s(&trained(&weights(2, 50_000), 3));
    model(&[
        ("embed", "BF16", &[ROWS, ROW], table.clone()),
        ("expert.0", "F32", &[500, 100], expert.clone()),
        ("expert.1", "F32", &[500, 100], other),
        ("expert.2", "F32", &[500, 100], expert),
        ("ones.0", "F32", &[50_000], f32s(&[1.0; 50_000])),
        ("ones.1", "F32", &[50_000], f32s(&[1.0; 50_000])),
        ("norm.0", "F32", &[300], f32s(&weights(5, 300))),
        ("norm.1", "F32", &[300], f32s(&weights(5, 300))),
        ("head", "BF16", &[ROWS, ROW], table.clone()),
        ("head.T", "BF16", &[ROW, ROWS], table),
    ])
}

fn packed(file: &[u8], options: Options) -> (Vec<u8>, Summary) {
    let (mut wz, source) = (Vec::new(), Some(Arc::new(file.to_vec()) as _));
    let summary = compress(file, &mut wz, &Options { source, ..options }).unwrap();
    (wz, summary)
}

fn unpacked(wz: &[u8], options: &DecodeOptions) -> weightzip::Result<Vec<u8>> {
    let mut out = Vec::new();
    decompress(wz, &mut out, options).map(|_| out)
}

#[test]
fn equal_tensors_are_stored_once_and_come_back() {
    let file = tied();
    for &level in Level::ALL {
        let options = |threads| Options { level, threads, ..Options::default() };
        let (wz, summary) = packed(&file, options(1));
        assert_eq!(wz, packed(&file, options(3)).0);
        assert!(summary.bases.is_empty());
        let mut apart = Vec::new();
        compress(file.as_slice(), &mut apart, &options(1)).unwrap();
        // 400 KB twice and 200 KB once, of which 60 to 85 % would remain.
        assert!(wz.len() + 600_000 < apart.len(), "{} {}", wz.len(), apart.len());

        assert!(comes_back(&wz, &file));
        for threads in [1, 3] {
            let options = DecodeOptions { threads, ..DecodeOptions::default() };
            let archive = Archive::open_with(wz.as_slice(), options).unwrap();
            assert!(archive.bases().is_empty() && archive.check_bases().is_ok());
            let embed = archive.tensor("embed").unwrap();
            for name in ["head", "head.T"] {
                let head = archive.tensor(name).unwrap();
                assert_eq!(head.blake3(), embed.blake3());
                assert!(head.stored().unwrap().bytes < 1024);
                assert!(head.read().unwrap() == embed.read().unwrap());
            }
            // Parts of blocks, which are kept for the next call.
            let (mut row, at) = (vec![0; ROW * 2], file.len() - 2 * BYTES + 1999 * ROW * 2);
            archive.tensor("head").unwrap().rows(1999..2000).unwrap().read_into(&mut row).unwrap();
            assert_eq!(row, file[at..at + ROW * 2]);
            let mut whole = vec![0; file.len()];
            archive.read_at(0, &mut whole).unwrap();
            assert!(whole == file);
        }
    }
}

#[test]
fn a_file_without_equal_tensors_is_the_same_with_and_without_a_source() {
    let file = model(&[
        ("a", "F32", &[50_000], f32s(&weights(1, 50_000))),
        ("b", "F32", &[50_000], f32s(&weights(2, 50_000))),
        ("ones.0", "F32", &[50_000], f32s(&[1.0; 50_000])),
        ("ones.1", "F32", &[50_000], f32s(&[1.0; 50_000])),
    ]);
    let mut piped = Vec::new();
    compress(file.as_slice(), &mut piped, &Options::default()).unwrap();
    assert!(packed(&file, Options::default()).0 == piped);
}

#[test]
fn next_to_a_base_only_what_it_lacks_repeats() {
    let (old, new) = (f32s(&weights(1, 50_000)), f32s(&weights(7, 50_000)));
    let base = of(&[("old.safetensors", &model(&[("a", "F32", &[50_000], old.clone())]))]);
    let file = model(&[
        ("a", "F32", &[50_000], old.clone()),
        ("b", "F32", &[50_000], old),
        ("c", "F32", &[50_000], new.clone()),
        ("d", "F32", &[50_000], new),
    ]);
    let (wz, summary) = packed(&file, Options { base: base.clone(), ..Options::default() });
    assert_eq!(summary.bases.len(), 1);
    let options = DecodeOptions { base: base.clone(), ..DecodeOptions::default() };
    assert!(unpacked(&wz, &options).unwrap() == file);
    let archive = Archive::open_with(wz.clone(), options.clone()).unwrap();
    assert_eq!(archive.bases().len(), 1);
    let stored = |name| archive.tensor(name).unwrap().stored().unwrap().bytes;
    assert!(stored("a") < 1024 && stored("d") < 1024);
    assert!(stored("b") > 100_000 && stored("c") > 100_000);
    let missing = unpacked(&wz, &DecodeOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), Kind::InvalidArgument);

    // As a base of others it takes its own along.
    let mut base = base;
    base.add("file.wz", wz).unwrap();
    let (next, summary) = packed(&file, Options { base: base.clone(), ..Options::default() });
    assert_eq!(summary.bases.len(), 4);
    assert!(next.len() < 4096);
    let options = DecodeOptions { base, ..DecodeOptions::default() };
    assert!(unpacked(&next, &options).unwrap() == file);
}

#[test]
fn what_is_cut_short_comes_back_too() {
    let file = tied();
    for cut in [1, BYTES - 1, BYTES + 1, 2 * BYTES + 100, file.len() - 500] {
        let file = &file[..file.len() - cut];
        let wz = packed(file, Options::default()).0;
        assert!(unpacked(&wz, &DecodeOptions::default()).unwrap() == file, "{cut}");
    }
}

#[test]
fn an_input_that_changes_is_refused_or_comes_back() {
    let file = tied();
    let mut changed = file.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    // What is streamed is another file than the one that was looked at.
    let options = Options { source: Some(Arc::new(file.clone())), ..Options::default() };
    let refused = compress(changed.as_slice(), io::sink(), &options).unwrap_err();
    assert_eq!(refused.kind(), Kind::Io);
    assert!(refused.to_string().contains("changed while it was read"), "{refused}");
    let refused = compress(&file[..file.len() - 10], io::sink(), &options).unwrap_err();
    assert_eq!(refused.kind(), Kind::Io);

    // What is read again is another one from some byte on: blocks that differ from it are coded as they are.
    for left in (0..4_000_000).step_by(200_000) {
        let source = Changing::new(&file, left);
        let options = Options { source: Some(Arc::new(source)), threads: 1, ..Options::default() };
        let mut wz = Vec::new();
        if compress(file.as_slice(), &mut wz, &options).is_ok() {
            assert!(unpacked(&wz, &DecodeOptions::default()).unwrap() == file, "{left}");
        }
    }
}

#[test]
fn rounded_tensors_are_not_repeated() {
    let file = tied();
    let options = |source| Options {
        source,
        lossy: Rules::read(["abs=2^-10"]).unwrap(),
        ..Options::default()
    };
    let mut alone = Vec::new();
    compress(file.as_slice(), &mut alone, &options(None)).unwrap();
    let mut wz = Vec::new();
    compress(file.as_slice(), &mut wz, &options(Some(Arc::new(file.clone())))).unwrap();
    assert!(wz == alone);
}
