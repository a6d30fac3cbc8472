//! Coding `zstd` (spec: "Zstd"): byte groups, as in the seed paper (arXiv 2404.15198), one frame.

use crate::error::{Error, Result};
use crate::record::RecordLayout;
use crate::scratch::{self, Kept};
use std::io;
use zstd::bulk::{Compressor, Decompressor};
use zstd::compress_bound;

/// The seed paper's level; higher ones gain little on what models carry beside weights.
const LEVEL: i32 = 3;

thread_local! {
    /// Each has a megabyte or so of its own, which a thread's blocks use one after another.
    static COMPRESSOR: Kept<Option<Compressor<'static>>> = const { scratch::none() };
    static DECOMPRESSOR: Kept<Option<Decompressor<'static>>> = const { scratch::none() };
}

/// Lets `work` use what is there, or else is made.
fn with<T, R>(
    there: &mut Option<T>,
    make: impl FnOnce() -> io::Result<T>,
    work: impl FnOnce(&mut T) -> io::Result<R>,
) -> io::Result<R> {
    let one = match there {
        Some(one) => one,
        None => there.insert(make()?),
    };
    work(one)
}

pub(super) fn encode(layout: &RecordLayout, data: &[u8], payload: &mut Vec<u8>) -> Result<()> {
    let size = usize::from(layout.bytes());
    let grouped;
    let input = if size == 1 {
        data
    } else {
        grouped = group(data, size);
        &grouped
    };
    let start = payload.len();
    payload.resize(start + compress_bound(input.len()), 0);
    let compress = |one: &mut Compressor<'_>| one.compress_to_buffer(input, &mut payload[start..]);
    let done = scratch::with(&COMPRESSOR, |there| with(there, || Compressor::new(LEVEL), compress));
    let len = done.map_err(|e| Error::io("zstd can't compress", e))?;
    payload.truncate(start + len);
    Ok(())
}

pub(super) fn decode(layout: &RecordLayout, body: &[u8], out: &mut [u8]) -> Result<()> {
    let size = usize::from(layout.bytes());
    let bad = |why: &str| Error::corrupt(format!("a zstd block {why}"));
    // Straight into memory of the right size: a frame that claims more just fails.
    let decode = |into: &mut [u8]| {
        let decompress = |one: &mut Decompressor<'_>| one.decompress_to_buffer(body, &mut *into);
        let done = scratch::with(&DECOMPRESSOR, |there| with(there, Decompressor::new, decompress));
        match done {
            Ok(n) if n == into.len() => Ok(()),
            Ok(n) => Err(bad(&format!("decodes to {n} bytes instead of {}", into.len()))),
            Err(e) => Err(bad(&format!("does not decode: {e}"))),
        }
    };
    if size == 1 {
        return decode(out);
    }
    let mut grouped = vec![0; out.len()];
    decode(&mut grouped)?;
    ungroup(&grouped, size, out);
    Ok(())
}

/// All first bytes of the records, then all second ones, and so on.
fn group(data: &[u8], size: usize) -> Vec<u8> {
    (0..size).flat_map(|byte| data.iter().skip(byte).step_by(size)).copied().collect()
}

fn ungroup(grouped: &[u8], size: usize, out: &mut [u8]) {
    let records = out.len() / size;
    for (byte, group) in grouped.chunks_exact(records).enumerate() {
        out.iter_mut().skip(byte).step_by(size).zip(group).for_each(|(o, &g)| *o = g);
    }
}
