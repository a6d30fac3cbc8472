//! Files that are coded against others.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use common::models::{against, bf16, f32s, model, of, restored, trained, weights};
use std::sync::Mutex;
use weightzip::{
    Archive, Base, Coding, DecodeOptions, Kind, Level, Options, Source, compress, decompress,
};

const ROWS: usize = 3000;
const ROW: usize = 100;

/// A model, one trained from it, and the base with the first one.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let (w, x) = (weights(1, ROWS * ROW), weights(2, 50_000));
    let (new_w, mut new_x) = (trained(&w, 3), trained(&x, 4));
    new_x[700..].copy_from_slice(&x[700..]);
    let ids: Vec<u8> = (0..90_000u32).flat_map(|i| (i * 7).to_le_bytes()).collect();
    let mut new_ids = ids.clone();
    new_ids[40_001] ^= 1;
    let small = |seed| bf16(&weights(seed, 300));
    let of = |w: &[f32], x: &[f32], ids: Vec<u8>, small_seed| {
        model(&[
            ("w", "BF16", &[ROWS, ROW], bf16(w)),
            ("x", "F32", &[x.len()], f32s(x)),
            ("frozen", "BF16", &[ROWS, ROW], bf16(&weights(9, ROWS * ROW))),
            ("ids", "I32", &[90_000], ids),
            ("small.a", "BF16", &[300], small(5)),
            ("small.b", "BF16", &[300], small(small_seed)),
        ])
    };
    (of(&w, &x, ids, 6), of(&new_w, &new_x, new_ids, 7))
}

#[test]
fn a_model_comes_back_from_its_base_and_takes_less() {
    let (old, new) = pair();
    let base = of(&[("old.safetensors", &old)]);
    for &level in Level::ALL {
        let (alone, _) = against(&Base::new(), &new, level, 1);
        let (wz, summary) = against(&base, &new, level, 1);
        assert_eq!(wz, against(&base, &new, level, 3).0);
        assert!(wz.len() < alone.len() * 2 / 3, "{} {}", wz.len(), alone.len());
        assert_eq!(summary.bases.len(), 6);
        assert!(summary.bases.iter().all(|base| &*base.file == "old.safetensors"));
        // From the plain base, from a compressed one, and from one in other files.
        let compressed = against(&Base::new(), &old, Level::Max, 1).0;
        for base in [&base, &of(&[("elsewhere.wz", &compressed)])] {
            for threads in [1, 3] {
                assert!(restored(&wz, base, threads).unwrap() == new);
            }
        }
        let options = DecodeOptions { base: base.clone(), ..DecodeOptions::default() };
        let archive = Archive::open_with(wz, options).unwrap();
        let codings = |name| archive.tensor(name).unwrap().stored().unwrap().codings;
        assert!(matches!(codings("w")[..], [Coding::Difference | Coding::Steps]));
        assert_eq!(codings("frozen"), [Coding::Xor]);
        assert!(matches!(codings("ids")[..], [Coding::Sparse | Coding::Xor]));
        assert!(archive.tensor("frozen").unwrap().stored().unwrap().bytes < 400);
    }
}

#[test]
fn without_its_base_nothing_is_written_and_the_error_says_what_is_missing() {
    let (old, new) = pair();
    let base = of(&[("old.safetensors", &old)]);
    let (wz, summary) = against(&base, &new, Level::Default, 1);
    let missing = |base: &Base| {
        let mut out = Vec::new();
        let options = DecodeOptions { base: base.clone(), ..DecodeOptions::default() };
        let error = decompress(wz.as_slice(), &mut out, &options).unwrap_err();
        assert!(out.is_empty());
        assert_eq!(error.kind(), Kind::InvalidArgument);
        error.to_string()
    };
    let hash = blake3::Hash::from(summary.bases[0].blake3).to_hex();
    let none = missing(&Base::new());
    assert!(none.contains("base model not found: old.safetensors, blake3"), "{none}");
    assert!(none.contains(hash.as_str()), "{none}");
    // One bit of `w` differs: both hashes are named.
    let mut other = old.clone();
    let header = 8 + u64::from_le_bytes(old[..8].try_into().unwrap()) as usize;
    other[header + 5000] ^= 1;
    let differs = missing(&of(&[("old.safetensors", &other)]));
    assert!(differs.contains(hash.as_str()), "{differs}");
    assert!(differs.contains("has another of this name: blake3"), "{differs}");
    // A part is refused by its blocks' own hashes, but what doesn't use the base can be read.
    let options =
        DecodeOptions { base: of(&[("old.safetensors", &other)]), ..DecodeOptions::default() };
    let archive = Archive::open_with(wz.clone(), options).unwrap();
    let error = archive.tensor("w").unwrap().read().unwrap_err();
    assert!(error.to_string().contains("other bytes"), "{error}");
    assert!(archive.tensor("x").unwrap().read().is_ok());
    let alone = Archive::open(wz).unwrap();
    assert_eq!(alone.bases().len(), 6);
    let error = alone.tensor("w").unwrap().read().unwrap_err();
    assert!(error.to_string().contains("base model not found"), "{error}");
}

/// Counts what is read of it.
struct Counted {
    bytes: Vec<u8>,
    read: &'static Mutex<usize>,
}

impl Source for Counted {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        *self.read.lock().unwrap() += buf.len();
        self.bytes.read_at(offset, buf)
    }
}

#[test]
fn some_rows_of_a_long_chain_read_little_of_each_base() {
    const DEPTH: usize = 10;
    let mut now = weights(1, ROWS * ROW);
    let step = |w: &[f32]| model(&[("w", "BF16", &[ROWS, ROW], bf16(w))]);
    let (mut base, mut chain) = (Base::new(), Vec::new());
    for depth in 0..DEPTH {
        let file = step(&now);
        let wz = against(&base, &file, Level::Default, 1).0;
        assert!(restored(&wz, &base, 1).unwrap() == file);
        base.add(&format!("step-{depth}.wz"), wz.clone()).unwrap();
        chain.push(wz);
        now = trained(&now, depth as u64 + 50);
    }
    let last = step(&now);
    let (wz, summary) = against(&base, &last, Level::Default, 1);
    // The newest step is the nearest.
    assert_eq!(*summary.bases[0].file, format!("step-{}.wz", DEPTH - 1));

    static READ: [Mutex<usize>; DEPTH] = [const { Mutex::new(0) }; DEPTH];
    let mut base = Base::new();
    for ((depth, bytes), read) in chain.into_iter().enumerate().zip(&READ) {
        base.add(&format!("{depth}"), Counted { bytes, read }).unwrap();
    }
    READ.iter().for_each(|read| *read.lock().unwrap() = 0);
    let options = DecodeOptions { base, threads: 1, ..DecodeOptions::default() };
    let archive = Archive::open_with(wz, options).unwrap();
    let mut rows = vec![0; 10 * ROW * 2];
    archive.tensor("w").unwrap().rows(1200..1210).unwrap().read_into(&mut rows).unwrap();
    let start = last.len() - 2 * ROWS * ROW;
    assert!(rows == last[start + 1200 * ROW * 2..][..rows.len()]);
    // A block has at most 128 Ki values here; what describes the segment comes on top.
    let largest = 2 * (128 << 10);
    for (depth, read) in READ.iter().enumerate() {
        let read = *read.lock().unwrap();
        assert!(read > 0 && read <= rows.len() + 2 * largest, "{read} bytes of base {depth}");
    }
}

#[test]
fn a_chain_has_an_end() {
    let w = weights(1, 3000);
    let (mut base, mut depth) = (Base::new(), 0);
    let error = loop {
        let file = model(&[("w", "BF16", &[30, ROW], bf16(&trained(&w, depth)))]);
        let mut wz = Vec::new();
        let options = Options { base: base.clone(), threads: 1, ..Options::default() };
        match compress(file.as_slice(), &mut wz, &options) {
            Ok(_) => assert!(restored(&wz, &base, 1).unwrap() == file),
            Err(error) => break error,
        }
        base.add(&format!("{depth}.wz"), wz).unwrap();
        depth += 1;
    };
    assert_eq!((depth, error.kind()), (65, Kind::InvalidArgument));
    assert!(error.to_string().contains("a chain of more than 64 bases"), "{error}");
}

#[test]
fn a_chain_without_its_first_step_is_refused_at_once() {
    let (old, new) = pair();
    let wz = against(&of(&[("old", &old)]), &new, Level::Default, 1).0;
    let error = Base::new().add("new.wz", wz).unwrap_err();
    assert!(error.to_string().contains("base model not found: old"), "{error}");
}

#[test]
fn a_broken_file_with_a_base_is_refused() {
    let w = weights(1, 3000);
    let base = of(&[("a", &model(&[("w", "BF16", &[30, ROW], bf16(&w))]))]);
    let new = model(&[("w", "BF16", &[30, ROW], bf16(&trained(&w, 2)))]);
    let (wz, _) = against(&base, &new, Level::Default, 1);
    for at in 0..wz.len() {
        let mut broken = wz.clone();
        broken[at] ^= 1 << (at % 8);
        // What only fills a payload up doesn't matter.
        assert!(restored(&broken, &base, 1).map_or(true, |found| found == new), "byte {at}");
        assert!(restored(&wz[..at], &base, 1).is_err(), "cut at {at}");
    }
}

#[test]
fn a_chain_of_names_without_end_is_refused_on_a_small_stack() {
    const FILES: usize = 3000;
    let file = model(&[("w", "F32", &[400], f32s(&weights(1, 400)))]);
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("0.wz");
    for number in 0..FILES {
        // Each says that the next one is its base, which has the tensor that it needs.
        let base = of(&[(&format!("{}.wz", number + 1), &file)]);
        let wz = against(&base, &file, Level::Default, 1).0;
        std::fs::write(folder.path().join(format!("{number}.wz")), wz).unwrap();
    }
    let work = move || {
        let loaded = Base::new().load(&first).unwrap_err();
        let found = Base::new().find_for(&first).unwrap_err();
        [loaded, found].map(|error| error.to_string())
    };
    let small = std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap();
    for error in small.join().unwrap() {
        assert!(error.contains("a chain of more than 64 bases"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = Base::new().load(&pipe).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    Base::new().find_for(&pipe).unwrap();
    assert!(weightzip::open_at_random(&pipe).is_err());
}
