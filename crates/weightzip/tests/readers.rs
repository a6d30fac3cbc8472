//! Readers of both kinds, and many at once.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

#[path = "../../../fuzz/src/repair.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets")]
mod repair;

mod common;

use common::models::{bf16, model, weights};
use common::{any_safetensors, compress, decompress};
use std::io;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use weightzip::{Archive, DecodeOptions, Kind, Source};

/// What can be seen only by who reads all of a file from front to back.
const WHOLE_ONLY: [&str; 2] = ["differ from the original's hash", "other bases than there are"];

/// All of an original, read at random, and each tensor again.
fn read_all(wz: &[u8]) -> weightzip::Result<Vec<u8>> {
    let archive = Archive::open(wz)?;
    let size = archive.info().original_bytes;
    assert!(size <= (wz.len() as u64) << 18, "{size} bytes from {}", wz.len());
    archive.locate(0..size)?;
    let mut out = vec![0; size as usize];
    archive.read_at(0, &mut out)?;
    for tensor in archive.tensors() {
        let range = tensor.range();
        assert!(tensor.read()? == out[range.start as usize..range.end as usize]);
    }
    Ok(out)
}

#[test]
fn both_kinds_of_reader_accept_the_same_files() {
    let (mut accepted, mut refused) = (0, 0);
    arbtest::arbtest(|u| {
        let file = any_safetensors(u)?;
        let mut wz = compress(&file);
        for _ in 0..u.int_in_range(1..=2)? {
            let at = u.choose_index(wz.len())?;
            match u.int_in_range(0..=3)? {
                0 => wz[at] ^= 1 << u.int_in_range(0..=7)?,
                1 => wz[at] = u.arbitrary()?,
                // Sections are aligned: one comes again, or goes.
                kind => {
                    let (from, len) = (at / 16 * 16, 16 * u.int_in_range(1..=8)?);
                    let end = (from + len).min(wz.len());
                    match kind {
                        2 => drop(wz.splice(from..from, wz[from..end].to_vec())),
                        _ => drop(wz.drain(from..end)),
                    }
                }
            }
        }
        repair::checksums(&mut wz);
        match (decompress(&wz), read_all(&wz)) {
            (Ok((streamed, _)), read) => {
                accepted += 1;
                assert!(read.unwrap() == streamed);
            }
            (Err(why), Ok(_)) => {
                let is_whole_only = WHOLE_ONLY.iter().any(|only| why.message().contains(only));
                assert!(is_whole_only, "read at random in spite of: {why}");
            }
            (Err(_), Err(_)) => refused += 1,
        }
        Ok(())
    })
    .budget_ms(4000);
    assert!(accepted > 0 && refused > 0, "{accepted} {refused}");
}

fn vector(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors");
    std::fs::read(format!("{folder}/{name}.wz")).unwrap()
}

#[test]
fn a_tensor_that_is_read_whole_is_compared_with_its_blake3() {
    let wz = vector("error/wrong_tensor_hash");
    let archive = Archive::open(wz.as_slice()).unwrap();
    let tensor = archive.tensor("part.0").unwrap();
    let (range, mut out) = (tensor.range(), vec![0; tensor.bytes() as usize]);
    let is_wrong = |read: weightzip::Result<()>| {
        let error = read.unwrap_err();
        let wanted = (Kind::Corruption, Some("part.0"));
        assert_eq!((error.kind(), error.tensor()), wanted, "{error}");
        assert!(error.message().contains("BLAKE3"), "{error}");
    };
    is_wrong(tensor.read().map(drop));
    is_wrong(tensor.read_into(&mut out));
    is_wrong(tensor.write_to(io::sink()));
    is_wrong(archive.read_at(range.start, &mut out));
    is_wrong(archive.read_many([(range.start, &mut out[..])], &|_| Ok(())));
    // Some of it has no hash of its own, and who has other means may do without.
    archive.read_at(range.start + 1, &mut out[1..]).unwrap();
    let options = DecodeOptions { check_blocks: false, ..DecodeOptions::default() };
    let archive = Archive::open_with(wz.as_slice(), options).unwrap();
    archive.tensor("part.0").unwrap().read().unwrap();
    archive.read_many([(range.start, &mut out[..])], &|_| Ok(())).unwrap();
}

#[test]
fn the_original_that_is_read_to_its_end_is_compared_with_its_blake3() {
    let wz = vector("error/wrong_hash");
    let archive = Archive::open(wz.as_slice()).unwrap();
    let read = io::copy(&mut archive.reader(), &mut io::sink());
    assert!(read.unwrap_err().to_string().contains("differ from the original's hash"));
}

/// A file of which reads of blocks can be watched.
struct Watched {
    wz: Vec<u8>,
    /// Whether block reads are counted, and meet.
    on: AtomicBool,
    reads: AtomicUsize,
    meet: Option<Barrier>,
}

impl Source for &Watched {
    fn size(&self) -> io::Result<u64> {
        self.wz.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.on.load(Ordering::SeqCst) {
            self.reads.fetch_add(1, Ordering::SeqCst);
            match &self.meet {
                Some(meet) => drop(meet.wait()),
                None => std::thread::sleep(Duration::from_millis(30)),
            }
        }
        self.wz.read_at(offset, buf)
    }
}

const ROWS: usize = 6000;
const ROW: usize = 100;

fn watched(meet: Option<Barrier>) -> Watched {
    let file = model(&[("w", "BF16", &[ROWS, ROW], bf16(&weights(1, ROWS * ROW)))]);
    let (on, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    Watched { wz: compress(&file), on, reads, meet }
}

fn rows(archive: &Archive<&Watched>, rows: Range<u64>) {
    let rows = archive.tensor("w").unwrap().rows(rows).unwrap();
    rows.read_into(&mut vec![0; rows.bytes() as usize]).unwrap();
}

#[test]
fn different_blocks_are_read_at_once() {
    let watched = watched(Some(Barrier::new(2)));
    let archive = Archive::open(&watched).unwrap();
    archive.locate(0..archive.info().original_bytes).unwrap();
    watched.on.store(true, Ordering::SeqCst);
    // Each waits until the other one reads, too.
    std::thread::scope(|scope| {
        scope.spawn(|| rows(&archive, 0..1));
        scope.spawn(|| rows(&archive, ROWS as u64 - 1..ROWS as u64));
    });
    assert_eq!(watched.reads.load(Ordering::SeqCst), 2);
}

#[test]
fn a_block_is_read_once_for_all_who_want_rows_of_it() {
    let watched = watched(None);
    let archive = Archive::open(&watched).unwrap();
    archive.locate(0..archive.info().original_bytes).unwrap();
    watched.on.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for row in 0..8 {
            let archive = &archive;
            scope.spawn(move || rows(archive, row..row + 1));
        }
    });
    assert_eq!(watched.reads.load(Ordering::SeqCst), 1);
}
