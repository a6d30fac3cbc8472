//! Instructions that the block codec takes per kind of data, counted by valgrind, which knows no
//! AVX-512. `bench/instructions.py` runs this and compares with what is committed.
#![allow(missing_docs, clippy::exit, reason = "what gungraun's macros expand to")]

mod common;

use common::{Kind, Sample};
use gungraun::{LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

fn sample(kind: Kind) -> Sample {
    assert_eq!(weightzip::simd_level(), "avx2", "the committed counts are of AVX2");
    Sample::new(kind, 1)
}

// Samples are returned so that freeing them isn't counted.

#[library_benchmark(setup = sample)]
#[bench::bf16(Kind::Bf16)]
#[bench::f16(Kind::F16)]
#[bench::f32(Kind::F32)]
#[bench::bf16_as_f32(Kind::Bf16AsF32)]
#[bench::f64(Kind::F64)]
#[bench::f8_e4m3(Kind::F8E4M3)]
#[bench::max_bf16(Kind::MaxBf16)]
#[bench::max_f32(Kind::MaxF32)]
#[bench::delta_bf16(Kind::DeltaBf16)]
#[bench::delta_f32(Kind::DeltaF32)]
#[bench::delta_max_bf16(Kind::DeltaMaxBf16)]
#[bench::fixed_bf16(Kind::FixedBf16)]
#[bench::fixed_f32(Kind::FixedF32)]
fn encode(mut sample: Sample) -> Sample {
    sample.encode();
    sample
}

#[library_benchmark(setup = sample)]
#[bench::bf16(Kind::Bf16)]
#[bench::f16(Kind::F16)]
#[bench::f32(Kind::F32)]
#[bench::bf16_as_f32(Kind::Bf16AsF32)]
#[bench::f64(Kind::F64)]
#[bench::f8_e4m3(Kind::F8E4M3)]
#[bench::max_bf16(Kind::MaxBf16)]
#[bench::max_f32(Kind::MaxF32)]
#[bench::delta_bf16(Kind::DeltaBf16)]
#[bench::delta_f32(Kind::DeltaF32)]
#[bench::delta_max_bf16(Kind::DeltaMaxBf16)]
#[bench::fixed_bf16(Kind::FixedBf16)]
#[bench::fixed_f32(Kind::FixedF32)]
fn decode(mut sample: Sample) -> Sample {
    sample.decode();
    sample
}

library_benchmark_group!(name = block; benchmarks = encode, decode);
main!(
    config = LibraryBenchmarkConfig::default().env("WEIGHTZIP_SIMD", "avx2");
    library_benchmark_groups = block
);
