//! Work within work: whoever waits for the pool, or reads a source, may be given other blocks to code on the same thread.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "test data"
)]

mod common;

use common::models::{bf16, comes_back, model, of, restored, trained, weights};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weightzip::{
    Archive, Base, DecodeOptions, Dtype, FrameOptions, Level, Options, Source, compress,
    compress_frame, decompress, decompress_frame_into,
};

/// Bytes during whose reading the thread does what else its pool has to do, as one that waits for it may.
struct Yielding {
    bytes: Vec<u8>,
    /// How often it did.
    meanwhile: Arc<AtomicU64>,
}

impl Yielding {
    fn new(bytes: &[u8]) -> (Self, Arc<AtomicU64>) {
        let meanwhile = Arc::new(AtomicU64::new(0));
        (Self { bytes: bytes.to_vec(), meanwhile: Arc::clone(&meanwhile) }, meanwhile)
    }
}

impl Source for Yielding {
    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            self.meanwhile.fetch_add(1, Relaxed);
        }
        self.bytes.read_at(offset, buf)
    }
}

fn two_threads() -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(2).build().unwrap()
}

fn frame_comes_back(data: &[u8], options: &FrameOptions) {
    let (mut frame, mut out) = (Vec::new(), vec![0; data.len()]);
    compress_frame(&Dtype::Bf16.record_layout(), data, options, &mut frame).unwrap();
    decompress_frame_into(&frame, &mut out, options).unwrap();
    assert!(out == data);
}

#[test]
fn tensors_are_compressed_and_restored_side_by_side() {
    let options = FrameOptions { verify: true, ..FrameOptions::default() };
    let tensors: Vec<_> = (0..24).map(|i| bf16(&weights(i, (i as usize + 3) * 60_000))).collect();
    for threads in [0, 2] {
        let options = FrameOptions { threads, ..options };
        two_threads().install(|| {
            tensors.par_iter().for_each(|tensor| frame_comes_back(tensor, &options));
        });
    }
}

#[test]
fn files_frames_and_archives_share_a_pool() {
    let w = weights(1, 500_000);
    let old = model(&[("w", "BF16", &[500, 1000], bf16(&w))]);
    let new = model(&[("w", "BF16", &[500, 1000], bf16(&trained(&w, 2)))]);
    let base = of(&[("old.safetensors", &old)]);
    let tasks = |i: usize| {
        let threads = 2 + i % 2;
        match i % 3 {
            0 => frame_comes_back(
                &old[64..64 + 900_000],
                &FrameOptions { threads, ..FrameOptions::default() },
            ),
            1 => {
                let mut wz = Vec::new();
                let options = Options { base: base.clone(), threads, ..Options::default() };
                compress(new.as_slice(), &mut wz, &options).unwrap();
                assert!(restored(&wz, &base, threads).unwrap() == new);
            }
            _ => {
                let mut wz = Vec::new();
                let options = Options { threads, ..Options::default() };
                compress(old.as_slice(), &mut wz, &options).unwrap();
                let options = DecodeOptions { threads, ..DecodeOptions::default() };
                let archive = Archive::open_with(wz.as_slice(), options.clone()).unwrap();
                assert!(old.ends_with(&archive.tensor("w").unwrap().read().unwrap()));
                decompress(wz.as_slice(), io::sink(), &options).unwrap();
            }
        }
    };
    two_threads().install(|| (0..18).into_par_iter().for_each(tasks));
}

#[test]
fn scales_are_read_while_other_blocks_are_coded() {
    // Numbers of many blocks at level max, and the scales of each 16 bytes.
    let (rows, row) = (1200, 4000);
    let noise = |seed: u64, count: usize| {
        let byte = |w: f32| (w * 2000.0) as i32 as u8 & 0x37;
        weights(seed, count).into_iter().map(byte).collect::<Vec<u8>>()
    };
    let file = model(&[
        ("a_blocks", "U8", &[rows, row / 16, 16], noise(1, rows * row)),
        ("a_scales", "U8", &[rows, row / 16], noise(2, rows * row / 16)),
    ]);
    let (source, meanwhile) = Yielding::new(&file);
    let (level, source) = (Level::Max, Some(Arc::new(source) as _));
    let options = Options { level, source, threads: 3, ..Options::default() };
    let mut wz = Vec::new();
    compress(file.as_slice(), &mut wz, &options).unwrap();
    assert!(meanwhile.load(Relaxed) > 0, "nothing was done meanwhile");
    assert!(comes_back(&wz, &file));
}

#[test]
fn bases_are_read_while_other_blocks_are_coded() {
    let w = weights(1, 2_000_000);
    let old = model(&[("w", "BF16", &[2000, 1000], bf16(&w))]);
    let new = model(&[("w", "BF16", &[2000, 1000], bf16(&trained(&w, 2)))]);
    let (source, meanwhile) = Yielding::new(&old);
    let mut base = Base::new();
    base.add("old.safetensors", source).unwrap();
    let options = Options { base: base.clone(), threads: 3, ..Options::default() };
    let mut wz = Vec::new();
    compress(new.as_slice(), &mut wz, &options).unwrap();
    let before = meanwhile.load(Relaxed);
    assert!(before > 0, "nothing was done meanwhile");
    for threads in [1, 3] {
        assert!(restored(&wz, &base, threads).unwrap() == new);
    }
    assert!(meanwhile.load(Relaxed) > before, "nothing was done meanwhile");
}

#[test]
fn an_archive_is_compressed_again_by_the_threads_that_read_it() {
    let w = weights(1, 1_000_000);
    let old = model(&[("w", "BF16", &[1000, 1000], bf16(&w))]);
    let new = model(&[("w", "BF16", &[1000, 1000], bf16(&trained(&w, 2)))]);
    let coded = |file: &[u8], base: &Base| {
        let mut wz = Vec::new();
        let options = Options { base: base.clone(), threads: 4, ..Options::default() };
        compress(file, &mut wz, &options).unwrap();
        wz
    };
    // A chain of two, whose first is an archive that the same pool reads.
    let wz = coded(&new, &of(&[("old.wz", &coded(&old, &Base::new()))]));
    let base = of(&[("old.wz", &coded(&old, &Base::new()))]);
    let options = DecodeOptions { base, threads: 4, ..DecodeOptions::default() };
    let archive = Arc::new(Archive::open_with(wz, options).unwrap());
    for level in [Level::Default, Level::Max] {
        let options = Options {
            level,
            threads: 4,
            layout: Some(archive.layout().unwrap()),
            source: Some(Arc::clone(&archive) as _),
            ..Options::default()
        };
        let mut again = Vec::new();
        compress(archive.reader(), &mut again, &options).unwrap();
        assert!(restored(&again, &Base::new(), 4).unwrap() == new);
    }
}
