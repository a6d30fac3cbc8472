//! Memory of a scan, and of what goes on with it, is a small multiple of the file, whatever that says.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use common::crowds::{BUILDERS, Item};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use weightzip::{Archive, Options};

/// The system's allocator, which knows how much is taken.
struct Peak;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code, reason = "an allocator is unsafe by its interface")]
// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Peak {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = TAKEN.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(taken, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static PEAK: Peak = Peak;

/// Most memory that `work` takes at once, in bytes.
fn peak<T>(work: impl FnOnce() -> T) -> usize {
    let before = TAKEN.load(Relaxed);
    MOST.store(before, Relaxed);
    drop(work());
    MOST.load(Relaxed) - before
}

/// Memory that any file may take, and for each of its bytes: what docs/RELIABILITY.md says.
const ANY: usize = 128 << 20;
const EACH: usize = 8;

#[test]
fn empty_tensors_take_memory_as_their_file_does() {
    let items: Vec<Item> = (0..200_000).map(|i| (format!("{i:x}"), Vec::new())).collect();
    for (what, build) in BUILDERS {
        let file = build(&items);
        let most = ANY + EACH * file.len();
        let (mut wz, options) = (Vec::new(), Options { threads: 1, ..Options::default() });
        let scanned = peak(|| weightzip::scan(&file).unwrap());
        let compressed = peak(|| weightzip::compress(&file[..], &mut wz, &options).unwrap());
        let opened = peak(|| Archive::open(&wz[..]).unwrap());
        println!("{what}: {} bytes, {scanned} {compressed} {opened}", file.len());
        for (did, taken) in [("scan", scanned), ("compress", compressed), ("open", opened)] {
            assert!(taken <= most, "{did} of {what}: {taken} bytes for {}", file.len());
        }
    }
}
