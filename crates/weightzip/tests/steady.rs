//! Memory in steady state: buffers are used again, so a longer file takes no more allocations than
//! its index has entries.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weightzip::{
    DecodeOptions, Dtype, FrameOptions, Options, compress, compress_frame, decompress,
    decompress_frame_into,
};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "an allocator is unsafe by its interface")]
// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    work();
    ALLOCATIONS.load(Relaxed) - before
}

/// Records in a block of a tensor that is long enough.
const BLOCK: usize = 64 << 10;

/// One BF16 tensor of so many blocks, as a file.
fn file(blocks: usize) -> Vec<u8> {
    let elements = blocks * BLOCK;
    let bytes = elements * 2;
    let json = format!(
        "{{\"w\":{{\"dtype\":\"BF16\",\"shape\":[{elements}],\"data_offsets\":[0,{bytes}]}}}}"
    );
    let header = (json.len() as u64).to_le_bytes();
    [&header, json.as_bytes(), &weights(blocks)].concat()
}

fn weights(blocks: usize) -> Vec<u8> {
    let mixed = |i: usize| (i as u32).wrapping_mul(0x9E37_79B1) >> 7;
    (0..blocks * BLOCK)
        .flat_map(|i| [mixed(mixed(i) as usize) as u8, 0x3C + (i % 29 / 13) as u8])
        .collect()
}

/// Refuses growth by more than one allocation in eight blocks: what a pool's own queues take.
fn check(what: &str, threads: usize, few: u64, many: u64, more_blocks: u64) {
    let growth = many.saturating_sub(few);
    assert!(
        growth <= more_blocks / 8,
        "{what}, {threads} threads: {growth} for {more_blocks} blocks"
    );
}

/// All in one test: others would count too.
#[test]
fn more_blocks_take_no_more_allocations() {
    // All buffers are in use after the first few batches.
    let (few, many) = (128, 384);
    let more = 256;
    let files = [file(few), file(many)];
    for threads in [1, 2] {
        let options = Options { threads, ..Options::default() };
        let decode = DecodeOptions { threads, ..DecodeOptions::default() };
        let coded = files.each_ref().map(|file| {
            let mut wz = Vec::with_capacity(file.len() + 4096);
            compress(file.as_slice(), &mut wz, &options).unwrap();
            let mut again = Vec::with_capacity(file.len() + 4096);
            let count = allocations(|| {
                compress(file.as_slice(), &mut again, &options).unwrap();
            });
            assert!(wz == again);
            (wz, count)
        });
        check("compress", threads, coded[0].1, coded[1].1, more);
        let counts = coded.each_ref().map(|(wz, _)| {
            allocations(|| {
                decompress(wz.as_slice(), std::io::sink(), &decode).unwrap();
            })
        });
        check("decompress", threads, counts[0], counts[1], more);

        let options = FrameOptions { threads, ..FrameOptions::default() };
        let counts = [few, many].map(|blocks| {
            let (data, mut frame) = (weights(blocks), Vec::new());
            let mut out = vec![0; data.len()];
            let layout = Dtype::Bf16.record_layout();
            compress_frame(&layout, &data, &options, &mut frame).unwrap();
            decompress_frame_into(&frame, &mut out, &options).unwrap();
            let encode =
                allocations(|| compress_frame(&layout, &data, &options, &mut frame).unwrap());
            let decode = allocations(|| decompress_frame_into(&frame, &mut out, &options).unwrap());
            (encode, decode)
        });
        check("compress_frame", threads, counts[0].0, counts[1].0, more);
        check("decompress_frame_into", threads, counts[0].1, counts[1].1, more);
    }
}
