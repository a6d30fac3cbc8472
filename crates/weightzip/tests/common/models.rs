//! Models that have something in common, and how they are coded against one another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weightzip::{Base, DecodeOptions, Level, Options, Source, Summary, compress, decompress};

/// A safetensors file of tensors with a name, a dtype, a shape and their bytes.
pub(crate) fn model(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::<u8>::new());
    for (name, dtype, shape, bytes) in tensors {
        let end = data.len() + bytes.len();
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{},{end}]}}"#,
            data.len()
        ));
        data.extend(bytes);
    }
    let json = format!("{{{}}}", entries.join(","));
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file.extend(data);
    file
}

/// Numbers without pattern, the same each time.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A float from 0 to 1.
    pub(crate) fn uniform(&mut self) -> f32 {
        self.next() as f32 / u32::MAX as f32
    }

    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::from_be_bytes(self.0.to_be_bytes()[..4].try_into().unwrap())
    }

    /// A float near 0 that looks like a weight.
    fn weight(&mut self) -> f32 {
        (0..4).map(|_| self.uniform() - 0.5).sum::<f32>() * 0.04
    }
}

pub(crate) fn weights(seed: u64, count: usize) -> Vec<f32> {
    let mut noise = Noise(seed);
    (0..count).map(|_| noise.weight()).collect()
}

/// What little training does.
pub(crate) fn trained(weights: &[f32], seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    weights.iter().map(|w| w + noise.weight() * 0.01).collect()
}

pub(crate) fn bf16(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|w| w.to_le_bytes()[2..].to_vec()).collect()
}

pub(crate) fn f32s(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|w| w.to_le_bytes()).collect()
}

pub(crate) fn against(base: &Base, new: &[u8], level: Level, threads: usize) -> (Vec<u8>, Summary) {
    let mut wz = Vec::new();
    let options = Options { base: base.clone(), level, threads, ..Options::default() };
    let summary = compress(new, &mut wz, &options).unwrap();
    (wz, summary)
}

pub(crate) fn restored(wz: &[u8], base: &Base, threads: usize) -> weightzip::Result<Vec<u8>> {
    let mut out = Vec::new();
    let options = DecodeOptions { base: base.clone(), threads, ..DecodeOptions::default() };
    decompress(wz, &mut out, &options).map(|_| out)
}

pub(crate) fn of(models: &[(&str, &[u8])]) -> Base {
    let mut base = Base::new();
    models.iter().for_each(|(name, model)| base.add(name, model.to_vec()).unwrap());
    base
}

/// Whether a file that is coded against some of itself comes back: from a pipe and at random, with one thread and several.
pub(crate) fn comes_back(wz: &[u8], file: &[u8]) -> bool {
    let again = Some(Arc::new(wz.to_vec()) as _);
    let ways = [(1, None), (3, None), (1, again.clone()), (3, again)];
    ways.into_iter().all(|(threads, source)| {
        let options = DecodeOptions { threads, source, ..DecodeOptions::default() };
        let mut out = Vec::new();
        decompress(wz, &mut out, &options).unwrap();
        out == file
    })
}

/// What changes after so many bytes were read of it.
pub(crate) struct Changing {
    bytes: Vec<u8>,
    left: AtomicU64,
}

impl Changing {
    pub(crate) fn new(bytes: &[u8], left: u64) -> Self {
        Self { bytes: bytes.to_vec(), left: left.into() }
    }
}

impl Source for Changing {
    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes.read_at(offset, buf)?;
        let left = self.left.load(Relaxed);
        self.left.store(left.saturating_sub(buf.len() as u64), Relaxed);
        if left == 0 {
            buf.iter_mut().for_each(|byte| *byte ^= 1);
        }
        Ok(())
    }
}
