//! Files for tests.
#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "each test binary uses its part"
)]

pub(crate) mod crowds;
pub(crate) mod models;

use arbtest::arbitrary::{Result, Unstructured};
use std::fmt::Write as _;
use weightzip::{DecodeOptions, Dtype, Level, Options, Summary};

/// A safetensors file of `tensors`, whose data follow one another.
pub(crate) fn safetensors(tensors: &[(&str, Dtype, &[u64], &[u8])]) -> Vec<u8> {
    let (mut json, mut data) = ("{".to_owned(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let comma = if data.is_empty() && json.len() == 1 { "" } else { "," };
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend(*bytes);
        write!(
            json,
            "{comma}{}:{{\"dtype\":{:?},\"shape\":{shape:?},\"data_offsets\":{offsets:?}}}",
            serde_json::to_string(name).unwrap(),
            dtype.name()
        )
        .unwrap();
    }
    json.push('}');
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &data].concat()
}

/// Any safetensors file: a few tensors of any dtype and shape, small, empty, or of several blocks.
pub(crate) fn any_safetensors(u: &mut Unstructured) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for i in 0..u.int_in_range(0..=6)? {
        // Blocks of quantised numbers are not for safetensors, nor is every complex number.
        let is_plain = |d: &&Dtype| d.bytes_of(&[8]).is_some() && **d != Dtype::C128;
        let dtypes: Vec<_> = Dtype::ALL.iter().filter(is_plain).collect();
        let dtype = **u.choose(&dtypes)?;
        let mut shape: Vec<u64> = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            shape.push(u.int_in_range(0..=40)?);
        }
        if u.ratio(1, 6)? {
            shape.insert(0, u.int_in_range(100..=3000)?);
        }
        shape.push(8);
        let size = usize::try_from(dtype.bytes_of(&shape).unwrap()).unwrap().min(1 << 22);
        if dtype.bytes_of(&shape) != Some(size as u64) {
            shape = vec![0];
        }
        let size = usize::try_from(dtype.bytes_of(&shape).unwrap()).unwrap();
        let pattern: Vec<u8> = u.arbitrary()?;
        let data: Vec<u8> =
            pattern.iter().chain(&[0x3D, 0x80]).cycle().take(size).copied().collect();
        tensors.push((format!("layer.{i}.weight"), dtype, shape, data));
    }
    let tensors: Vec<_> =
        tensors.iter().map(|(n, d, s, b)| (n.as_str(), *d, s.as_slice(), b.as_slice())).collect();
    Ok(safetensors(&tensors))
}

pub(crate) fn options(threads: usize) -> Options {
    Options { threads, ..Options::default() }
}

pub(crate) fn compress(file: &[u8]) -> Vec<u8> {
    compress_at(Level::Default, file)
}

pub(crate) fn compress_at(level: Level, file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    weightzip::compress(file, &mut out, &Options { level, ..options(1) }).unwrap();
    out
}

pub(crate) fn decompress(wz: &[u8]) -> weightzip::Result<(Vec<u8>, Summary)> {
    let mut out = Vec::new();
    let options = DecodeOptions { threads: 1, ..DecodeOptions::default() };
    weightzip::decompress(wz, &mut out, &options).map(|summary| (out, summary))
}

/// A small file with every kind of span and coding in it.
pub(crate) fn sample() -> Vec<u8> {
    let bf16: Vec<u8> =
        (0..2000u32).flat_map(|i| (0x3C00u16 + (i * i % 521) as u16).to_le_bytes()).collect();
    let f16: Vec<u8> =
        (0..1500u32).flat_map(|i| ((i * 8 % 977 * 8) as u16).to_le_bytes()).collect();
    let ints: Vec<u8> = (0..300u64).flat_map(u64::to_le_bytes).collect();
    safetensors(&[
        ("a.scale", Dtype::F32, &[], &1.5f32.to_le_bytes()),
        ("a.weight", Dtype::Bf16, &[50, 40], &bf16),
        ("b.mask", Dtype::Bool, &[1024], &[1; 1024]),
        ("c.half", Dtype::F16, &[1500], &f16),
        ("d.empty", Dtype::F32, &[0, 3], &[]),
        ("d.ids", Dtype::I64, &[300], &ints),
    ])
}
