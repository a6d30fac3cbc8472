//! Bases: models that others are coded against (spec: "Bases").
//!
//! [`matching`] finds what a new model's tensors may be coded against, by name, or with [`contents`] by
//! [`sketch`]es of what they hold. [`found`] finds again, by BLAKE3, what an encoder has named, among what was given or what [`search`] finds in the files of [`places`], and
//! [`cast`] makes floats of another kind of it. What a model itself has twice, [`mod@repeats`] finds, and [`mod@scales`] what its small
//! numbers are multiplied with. [`work`] bounds what is decoded of a chain.

mod cast;
mod contents;
mod folder;
mod found;
mod matching;
mod places;
mod repeats;
mod scales;
mod search;
mod sketch;
#[cfg(test)]
mod tests;
mod work;

pub(crate) use found::{Found, Sure};
pub(crate) use matching::matched;
pub(crate) use repeats::{alike, repeats};
pub(crate) use scales::{Paired, Scales, paired, scales, spread};
pub(crate) use work::{BaseBytes, Plain, Work};

use crate::archive::Archive;
use crate::container::directory::Hash;
use crate::container::header::is_weightzip;
use crate::error::{Error, Result};
use crate::formats::{self, Layout};
use crate::options::DecodeOptions;
use crate::source::Source;
use crate::span::{Span, TensorInfo};
use contents::Matches;
use sketch::Sketch;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Models that are at hand as bases. A copy shares them.
#[derive(Clone, Default)]
pub struct Base {
    models: Vec<Arc<Model>>,
    /// The files that were loaded.
    files: Vec<PathBuf>,
    /// What each tensor of the model that these were compared with is coded against.
    contents: Option<Arc<Matches>>,
    /// Where one was looked for that was not found, for people.
    looked: Option<Arc<str>>,
}

/// A model, compressed or not.
struct Model {
    /// Its file's name, for people.
    name: Arc<str>,
    /// Its bytes, decompressed.
    bytes: Box<dyn BaseBytes + Send>,
    tensors: Vec<BaseTensor>,
    /// How many models it needs, one behind the other, to be read.
    depth: usize,
}

/// A tensor of a model.
struct BaseTensor {
    info: TensorInfo,
    range: Range<u64>,
    /// Known when it was asked for, or a directory says it.
    blake3: OnceLock<Hash>,
    /// Known when it was asked for.
    sketch: OnceLock<Sketch>,
}

impl Base {
    /// No models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The files that [`load`](Self::load) and [`find_for`](Self::find_for) have added, without links.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Adds a model, which may be a `.wz`; `name` is its file's name, without folders. If it is itself coded
    /// against a base, that must have been added before. Reads its header or directory only.
    ///
    /// # Errors
    /// As [`Archive::open`] or [`scan`](crate::scan); and if it lacks its own base.
    pub fn add(&mut self, name: &str, source: impl Source + Send + 'static) -> Result<()> {
        self.add_scanned(name, source, |source| formats::scan(source))
    }

    /// The same of a file, whose tensors another one beside it may name.
    fn add_file(&mut self, path: &Path, file: File) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.add_scanned(&name, file, |file| formats::scan_file(path, file))
    }

    fn add_scanned<S: Source + Send + 'static>(
        &mut self,
        name: &str,
        source: S,
        scan: impl FnOnce(&S) -> Result<Layout>,
    ) -> Result<()> {
        let mut magic = [0; 8];
        let size = source.size().map_err(cant_read)?;
        if size >= magic.len() as u64 {
            source.read_at(0, &mut magic).map_err(cant_read)?;
        }
        let model = match is_weightzip(&magic) {
            true => self.archived(name, source)?,
            false => Model::plain(name, scan(&source)?.spans, source),
        };
        self.models.push(Arc::new(model));
        self.contents = None;
        Ok(())
    }

    fn archived(&self, name: &str, source: impl Source + Send + 'static) -> Result<Model> {
        // Whoever reads a base's blocks has threads of his own.
        let options = DecodeOptions { threads: 1, base: self.clone(), ..DecodeOptions::default() };
        let archive = Archive::open_with(source, options)?;
        let depth = archive.find_bases()?.depth()?;
        let known = |tensor: crate::Tensor<'_, _>| BaseTensor {
            info: tensor.info().clone(),
            range: tensor.range(),
            blake3: OnceLock::from(tensor.blake3()),
            sketch: OnceLock::new(),
        };
        let tensors = archive.tensors().map(known).collect();
        Ok(Model { name: name.into(), bytes: Box::new(Original(archive)), tensors, depth })
    }
}

impl Model {
    fn plain(name: &str, spans: Vec<Span>, source: impl Source + Send + 'static) -> Self {
        let tensors = spans.into_iter().filter_map(|span| {
            let (info, range) = (span.tensor?, span.range);
            let (blake3, sketch) = (OnceLock::new(), OnceLock::new());
            Some(BaseTensor { info, range, blake3, sketch })
        });
        let tensors = tensors.collect();
        Self { name: name.into(), bytes: Box::new(Plain(source)), tensors, depth: 0 }
    }

    /// A look at a tensor's contents; reads a little of it the first time.
    fn sketch<'a>(&self, tensor: &'a BaseTensor) -> Result<&'a Sketch> {
        if let Some(known) = tensor.sketch.get() {
            return Ok(known);
        }
        let read = Sketch::read(&*self.bytes, tensor.range.start, &tensor.info);
        let sketch = read.map_err(|e| cant_read(e).in_tensor(&tensor.info.name))?;
        Ok(tensor.sketch.get_or_init(|| sketch))
    }

    /// The BLAKE3 of a tensor; reads all of it the first time.
    fn blake3(&self, tensor: &BaseTensor) -> Result<Hash> {
        if let Some(known) = tensor.blake3.get() {
            return Ok(*known);
        }
        let hash = blake3_of(&*self.bytes, tensor.range.clone());
        let hash = hash.map_err(|e| cant_read(e).in_tensor(&tensor.info.name))?;
        Ok(*tensor.blake3.get_or_init(|| hash))
    }
}

/// The BLAKE3 of a range.
fn blake3_of<S: Source + ?Sized>(source: &S, range: Range<u64>) -> io::Result<Hash> {
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; READ]);
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let part = &mut buffer[..left.min(READ)];
        source.read_at(at, part)?;
        hasher.update(part);
        at += part.len() as u64;
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The longest chain of bases: each takes stack while it is read.
pub const MAX_DEPTH: usize = 64;

/// Bytes that are hashed at a time.
const READ: usize = 1 << 20;

/// What went wrong with a base: if it is an archive, that has said it already.
fn cant_read(error: io::Error) -> Error {
    const DOING: &str = "can't read the base";
    match error.downcast::<Error>() {
        Ok(inner) => Error::new(inner.kind(), format!("{DOING}: {}", inner.message())),
        Err(error) => Error::io(DOING, error),
    }
}

/// What an archive was made of.
struct Original<S>(Archive<S>);

impl<S: Source> Source for Original<S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.info().original_bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf).map_err(io::Error::other)
    }
}

impl<S: Source> BaseBytes for Original<S> {
    fn read_for(&self, work: &Work, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.fill_from(offset, buf, Some(work)).map_err(io::Error::other)
    }
}
