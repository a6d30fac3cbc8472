//! Reads many small tensors by name, in file order, from a `.wz` in memory.
//!
//!     cargo run --release -p weightzip --example many
//!
//! Prints the microseconds that a tensor takes: the median of nine runs, each on a freshly opened
//! archive.

use std::error::Error;
use std::time::Instant;
use weightzip::{Archive, Options, compress};

const TENSORS: usize = 100_000;
const ELEMENTS: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let mut state = 1u32;
    let mut file = safetensors_header().into_bytes();
    let start = (file.len() as u64).to_le_bytes();
    file.splice(0..0, start);
    for _ in 0..TENSORS * ELEMENTS {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, _, low, high] = state.to_le_bytes();
        file.extend([low, 0x3C | high & 3]);
    }
    let mut wz = Vec::new();
    compress(file.as_slice(), &mut wz, &Options::default())?;

    let mut micros = Vec::new();
    let mut out = [0; 2 * ELEMENTS];
    for _ in 0..9 {
        let archive = Archive::open(wz.as_slice())?;
        let begin = Instant::now();
        for i in 0..TENSORS {
            archive.tensor(&name(i))?.read_into(&mut out)?;
        }
        micros.push(begin.elapsed().as_secs_f64() * 1e6 / TENSORS as f64);
    }
    micros.sort_by(f64::total_cmp);
    println!("{:.2} µs per tensor", micros[micros.len() / 2]);
    Ok(())
}

fn name(i: usize) -> String {
    format!("layer.{i}.bias")
}

fn safetensors_header() -> String {
    let size = 2 * ELEMENTS;
    let entry = |i| {
        let (start, end) = (i * size, (i + 1) * size);
        let name = name(i);
        format!(
            r#""{name}":{{"dtype":"BF16","shape":[{ELEMENTS}],"data_offsets":[{start},{end}]}}"#
        )
    };
    format!("{{{}}}", (0..TENSORS).map(entry).collect::<Vec<_>>().join(","))
}
