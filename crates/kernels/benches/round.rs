//! Rounding, with what it measures: `cargo bench -p weightzip-kernels --bench round`.

use divan::Bencher;
use divan::counter::BytesCount;
use weightzip_kernels::field::Float;
use weightzip_kernels::level::level;
use weightzip_kernels::round::{Step, round};

/// Bytes of a block.
const BLOCK: usize = 512 << 10;

const F32: Float = Float { bytes: 4, exponent_bits: 8, top_bits: 0, big_endian: false };
const BF16: Float = Float { bytes: 2, ..F32 };

fn main() {
    divan::main();
}

/// Numbers within 0.1 of zero, the same each time.
fn weights() -> impl Iterator<Item = f32> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 40) as f32 / 16_777_216.0 - 0.5) * 0.2
    })
}

fn bench(bencher: Bencher<'_, '_>, float: Float, data: Vec<u8>) {
    bencher
        .counter(BytesCount::of_many::<u8>(BLOCK))
        .with_inputs(|| data.clone())
        .bench_local_refs(|data| round(level(), float, Step::Absolute(-14), data));
}

#[divan::bench]
fn f32(bencher: Bencher<'_, '_>) {
    bench(bencher, F32, weights().take(BLOCK / 4).flat_map(f32::to_le_bytes).collect());
}

#[divan::bench]
fn bf16(bencher: Bencher<'_, '_>) {
    let top = |w: f32| [w.to_le_bytes()[2], w.to_le_bytes()[3]];
    bench(bencher, BF16, weights().take(BLOCK / 2).flat_map(top).collect());
}
