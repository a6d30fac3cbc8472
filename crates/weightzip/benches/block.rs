//! Wall time of the block codec per kind of data: `cargo bench -p weightzip --bench block`.

mod common;

use common::{Kind, Sample};
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

#[divan::bench(args = Kind::ALL)]
fn encode(bencher: Bencher, kind: Kind) {
    let mut sample = Sample::new(kind, 1);
    bencher.counter(BytesCount::of_slice(&sample.data)).bench_local(|| sample.encode());
}

#[divan::bench(args = Kind::ALL)]
fn decode(bencher: Bencher, kind: Kind) {
    let mut sample = Sample::new(kind, 1);
    bencher.counter(BytesCount::of_slice(&sample.data)).bench_local(|| sample.decode());
}
