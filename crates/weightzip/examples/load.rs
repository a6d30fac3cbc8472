//! Loads every tensor of a `.wz` to memory of its own, as a program that uses the model does.
//!
//!     cargo run --release -p weightzip --example load -- FILE.wz [THREADS]
//!
//! Prints the seconds that it took, from opening the file on, and the bytes that were loaded.

use std::error::Error;
use std::fs::File;
use std::time::Instant;
use weightzip::{Archive, DecodeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: load FILE.wz [THREADS]")?;
    let threads = args.next().map_or(Ok(0), |n| n.parse())?;
    let start = Instant::now();
    let options = DecodeOptions { threads, ..DecodeOptions::default() };
    let archive = Archive::open_with(File::open(path)?, options)?;
    let tensors = archive.tensors().map(|tensor| tensor.read()).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = tensors.iter().map(Vec::len).sum();
    println!("{:.6} {bytes}", start.elapsed().as_secs_f64());
    Ok(())
}
