//! Any records as frames, made and restored side by side by a pool whose threads wait for another: the same as one by one.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::LazyLock;
use weightzip::{FrameOptions, Level, RecordLayout, compress_frame, decompress_frame_into};
use weightzip_fuzz::arrange::{any_layout, rest_repeated};

static POOL: LazyLock<ThreadPool> = LazyLock::new(|| {
    ThreadPoolBuilder::new().num_threads(2).build().expect("two threads can start")
});

fuzz_target!(|bytes: &[u8]| {
    let _ = run(Unstructured::new(bytes));
});

fn run(mut u: Unstructured) -> Result<()> {
    let layout = any_layout(&mut u)?;
    let (level, row) = (*u.choose(Level::ALL)?, u.int_in_range(0..=999)?);
    let tasks = u.int_in_range(2..=6)?;
    let mut data = rest_repeated(u)?;
    // More than a block, so that each frame waits for a pool.
    data = data.repeat((1 << 20) / data.len().max(1) + 1);
    let size = usize::from(layout.bytes());
    data.truncate(data.len().min(3 << 20) / size * size);
    let options = |threads| FrameOptions { threads, level, row, ..FrameOptions::default() };
    let alone = frame(&layout, &data, &options(1));
    POOL.install(|| {
        (0..tasks).into_par_iter().for_each(|_| {
            let made = frame(&layout, &data, &options(2));
            assert!(made == alone, "threads change the frame");
            let mut out = vec![0xFF; data.len()];
            decompress_frame_into(&made, &mut out, &options(2)).expect("own frames decode");
            assert!(out == data, "a frame decodes to other bytes");
        });
    });
    Ok(())
}

fn frame(layout: &RecordLayout, data: &[u8], options: &FrameOptions) -> Vec<u8> {
    let mut frame = Vec::new();
    compress_frame(layout, data, options, &mut frame).expect("records can be coded");
    frame
}
