//! weightzip and what it is compared with, behind one small trait.

use anyhow::{Context, Result, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::io::Cursor;
use weightzip::{DecodeOptions, Options};

/// A codec of whole buffers.
pub(super) trait Codec {
    /// Appends the coded `input` to `output`.
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()>;
    /// Fills `output`, which has exactly the decoded size.
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<()>;
}

/// This library on one thread; like the others it does not read its output back.
pub(super) struct Weightzip;

impl Codec for Weightzip {
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        let options = Options { threads: 1, verify: false, ..Options::default() };
        weightzip::compress(input, output, &options)?;
        Ok(())
    }

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<()> {
        let options = DecodeOptions { threads: 1, ..DecodeOptions::default() };
        weightzip::decompress(input, output, &options)?;
        Ok(())
    }
}

/// zlib at its default level.
pub(super) struct Zlib {
    encoder: Compress,
    decoder: Decompress,
}

impl Zlib {
    pub(super) fn new() -> Self {
        Self { encoder: Compress::new(Compression::new(6), true), decoder: Decompress::new(true) }
    }
}

impl Codec for Zlib {
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        self.encoder.reset();
        // Deflate grows what it can't compress by 5 bytes per 16 KiB at most.
        output.reserve(input.len() + input.len() / 1024 + 64);
        let status = self.encoder.compress_vec(input, output, FlushCompress::Finish)?;
        ensure!(status == Status::StreamEnd, "zlib needs more room than its bound");
        Ok(())
    }

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<()> {
        self.decoder.reset(true);
        let status = self.decoder.decompress(input, output, FlushDecompress::Finish)?;
        ensure!(status == Status::StreamEnd, "zlib did not reach its end");
        Ok(())
    }
}

/// zstd at its default level.
pub(super) struct Zstd {
    encoder: zstd::bulk::Compressor<'static>,
    decoder: zstd::bulk::Decompressor<'static>,
}

impl Zstd {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            encoder: zstd::bulk::Compressor::new(3)?,
            decoder: zstd::bulk::Decompressor::new()?,
        })
    }
}

impl Codec for Zstd {
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        output.reserve(zstd::zstd_safe::compress_bound(input.len()));
        let mut end = Cursor::new(output);
        end.set_position(end.get_ref().len() as u64);
        self.encoder.compress_to_buffer(input, &mut end)?;
        Ok(())
    }

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<()> {
        self.decoder.decompress_to_buffer(input, output)?;
        Ok(())
    }
}

/// Byte grouping in front of another codec: byte 0 of every element, then byte 1 of every element,
/// and so on, each group coded on its own.
pub(super) struct Grouped<C> {
    codec: C,
    groups: Vec<Vec<u8>>,
}

impl<C: Codec> Grouped<C> {
    pub(super) fn new(codec: C, element_bytes: usize) -> Self {
        Self { codec, groups: vec![Vec::new(); element_bytes] }
    }
}

const LENGTH_BYTES: usize = 8;

impl<C: Codec> Codec for Grouped<C> {
    fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        let step = self.groups.len();
        for (first, group) in self.groups.iter_mut().enumerate() {
            group.clear();
            group.extend(input.iter().skip(first).step_by(step));
            let start = output.len();
            output.extend([0; LENGTH_BYTES]);
            self.codec.encode(group, output)?;
            let length = output.len() - start - LENGTH_BYTES;
            output[start..start + LENGTH_BYTES].copy_from_slice(&(length as u64).to_le_bytes());
        }
        Ok(())
    }

    fn decode(&mut self, mut input: &[u8], output: &mut [u8]) -> Result<()> {
        let step = self.groups.len();
        for (first, group) in self.groups.iter_mut().enumerate() {
            let (length, rest) =
                input.split_first_chunk().context("a group's length is missing")?;
            let length = usize::try_from(u64::from_le_bytes(*length))?;
            let (coded, rest) = rest.split_at_checked(length).context("a group is cut off")?;
            input = rest;
            group.resize((output.len() + step - 1 - first) / step, 0);
            self.codec.decode(coded, group)?;
            for (to, from) in output.iter_mut().skip(first).step_by(step).zip(group.iter()) {
                *to = *from;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rival_restores_any_length() {
        for length in [0, 1, 2, 3, 4, 5, 1000, 70_001] {
            let input: Vec<u8> =
                (0..length).map(|i: u32| (i.wrapping_mul(i) % 251).to_le_bytes()[0]).collect();
            let mut codecs: [Box<dyn Codec>; 5] = [
                Box::new(Zlib::new()),
                Box::new(Grouped::new(Zlib::new(), 2)),
                Box::new(Zstd::new().unwrap()),
                Box::new(Grouped::new(Zstd::new().unwrap(), 2)),
                Box::new(Grouped::new(Zstd::new().unwrap(), 4)),
            ];
            for codec in &mut codecs {
                let (mut coded, mut decoded) = (Vec::new(), vec![0xA5; input.len()]);
                codec.encode(&input, &mut coded).unwrap();
                codec.decode(&coded, &mut decoded).unwrap();
                assert_eq!(decoded, input);
            }
        }
    }
}
