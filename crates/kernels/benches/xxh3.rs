//! XXH3-64 per level, beside the crate that is its oracle and beside copying, on a block in cache:
//! `cargo bench -p weightzip-kernels --bench xxh3`.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use weightzip_kernels::level::Level;
use weightzip_kernels::xxh3::xxh3_64_at;

const BLOCK: usize = 128 << 10;

fn main() {
    divan::main();
}

/// Each level of this CPU by its name.
#[divan::bench(args = Level::all().into_iter().map(Level::name))]
fn xxh3(bencher: Bencher, name: &str) {
    let data = [7u8; BLOCK];
    let level = Level::all().into_iter().find(|l| l.name() == name).unwrap_or(Level::Scalar);
    bencher.counter(BytesCount::new(BLOCK)).bench(|| xxh3_64_at(level, black_box(&data)));
}

#[divan::bench]
fn xxhash_rust(bencher: Bencher) {
    let data = [7u8; BLOCK];
    bencher.counter(BytesCount::new(BLOCK)).bench(|| xxhash_rust::xxh3::xxh3_64(black_box(&data)));
}

#[divan::bench]
fn memcpy(bencher: Bencher) {
    let (data, mut out) = (vec![7u8; BLOCK], vec![0; BLOCK]);
    bencher
        .counter(BytesCount::new(BLOCK))
        .bench_local(|| black_box(&mut out).copy_from_slice(black_box(&data)));
}
