//! The model that is tuned, a file or a folder, and its copies with rounded tensors.

use super::super::look::{NOTHING, float_of, measure};
use super::super::{Bound, Rules};
use super::Knob;
use crate::error::{Error, Result};
use crate::formats;
use crate::options::{DecodeOptions, Level, Options, Watch};
use crate::output::folder_of;
use crate::pipeline::{compress, decompress};
use crate::runner::Runner;
use crate::span::{Span, TensorInfo};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// What the names of a folder's files that are rounded end in.
const SUFFIX: &str = "safetensors";

/// Steps of the finest grid below the smallest tensor's typical number: next to nothing is lost.
const FINEST: i32 = 20;

/// Steps of the coarsest grid above the largest tensor's typical number: everything is lost.
const COARSEST: i32 = 3;

/// A model file, or a folder with some.
pub struct Model {
    path: PathBuf,
    /// What is rounded.
    files: Vec<ModelFile>,
    /// Places under the folder of what is not, and of folders, each before what is in it.
    others: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

struct ModelFile {
    path: PathBuf,
    /// Its place under the folder; empty if there is none.
    relative: PathBuf,
    size: u64,
    spans: Vec<Span>,
    blake3: [u8; 32],
}

impl Model {
    /// Reads a model file, or all of a folder whose names end in `.safetensors`, to know their tensors and hashes. Links are followed.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is nothing that can be rounded, else
    /// [`Io`](crate::Kind::Io).
    pub fn open(path: &Path) -> Result<Self> {
        let mut model =
            Self { path: path.to_owned(), files: vec![], others: vec![], folders: vec![] };
        if path.is_dir() {
            model.list()?;
        } else {
            model.files.push(ModelFile::open(path, PathBuf::new())?);
        }
        let all = Rules::all(Bound::Relative(0));
        if model.tensors().all(|(tensor, _)| all.of(&tensor) == Bound::Exact) {
            return Err(Error::argument(
                "no tensors that can be rounded: floats with two dimensions or more; compress it without loss",
            ));
        }
        Ok(model)
    }

    fn list(&mut self) -> Result<()> {
        for entry in WalkDir::new(&self.path).min_depth(1).follow_links(true).sort_by_file_name() {
            let entry = entry.map_err(|e| Error::io("can't list the folder", e.into()))?;
            let outside = || Error::argument("the folder moved while it was listed");
            let relative = entry.path().strip_prefix(&self.path).map_err(|_| outside())?;
            let relative = relative.to_owned();
            if entry.file_type().is_dir() {
                self.folders.push(relative);
            } else if entry.path().extension().is_some_and(|e| e.eq_ignore_ascii_case(SUFFIX)) {
                self.files.push(ModelFile::open(entry.path(), relative)?);
            } else {
                self.others.push(relative);
            }
        }
        Ok(())
    }

    /// Tensors with their bytes, of all files.
    pub fn tensors(&self) -> impl Iterator<Item = (TensorInfo, u64)> {
        let spans = self.files.iter().flat_map(|file| &file.spans);
        spans.filter_map(|span| Some((span.tensor.clone()?, span.range.end - span.range.start)))
    }

    /// Bytes of the files that are rounded.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// A hash of the files that are rounded: a file's own BLAKE3; for a folder that of names and hashes.
    pub fn blake3(&self) -> [u8; 32] {
        if let [ModelFile { blake3, relative, .. }] = &self.files[..]
            && relative.as_os_str().is_empty()
        {
            return *blake3;
        }
        let mut all = blake3::Hasher::new();
        for file in &self.files {
            let name = file.relative.as_os_str().as_encoded_bytes();
            all.update(&(name.len() as u64).to_le_bytes()).update(name).update(&file.blake3);
        }
        *all.finalize().as_bytes()
    }

    /// The positions of a knob between which something happens: from next to nothing lost to everything.
    /// Reads all tensors for [`Knob::Absolute`].
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io) if the model can't be read.
    pub fn steps(&self, knob: Knob) -> Result<RangeInclusive<i32>> {
        let all = Rules::all(Bound::Relative(0));
        let suits = |span: &&Span| span.tensor.as_ref().is_some_and(|t| all.of(t) != Bound::Exact);
        if knob == Knob::Relative {
            let spans = self.files.iter().flat_map(|file| &file.spans).filter(suits);
            let most = spans.filter_map(|span| Some(float_of(span)?.mantissa_bits())).max();
            let most = i32::try_from(most.unwrap_or(1)).unwrap_or(1);
            return Ok(1 - most.max(1)..=0);
        }
        let mut sizes: Vec<(&ModelFile, &Span, Option<i32>)> = Vec::new();
        for file in &self.files {
            sizes.extend(file.spans.iter().filter(suits).map(|span| (file, span, None)));
        }
        Runner::new(0)?.try_each(&mut sizes, |(file, span, size)| {
            *size = typical(&file.source()?, span)?;
            Ok(())
        })?;
        let known = || sizes.iter().filter_map(|(.., size)| *size);
        let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
        Ok(least.saturating_sub(FINEST).max(NOTHING)..=most.saturating_add(COARSEST).min(1023))
    }

    /// Writes the model as these rules leave it into an empty folder, under its own name, and returns where it is
    /// and the bytes of its `.wz`, or of all of them. Other files of a folder are copied: whoever uses the result can't
    /// harm the model.
    ///
    /// `watch` is told of bytes that were read, and may end the work.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the model is not what it was, else what
    /// [`compress`] and [`decompress`] report.
    pub fn write(
        &self,
        rules: &Rules,
        level: Level,
        threads: usize,
        folder: &Path,
        watch: &Watch<'_>,
    ) -> Result<(PathBuf, u64)> {
        // What is decoded is compared with the hash of what was encoded.
        let verify = rules.is_empty();
        let options =
            Options { level, threads, verify, lossy: rules.clone(), ..Options::default() };
        let whole = self.path.canonicalize();
        let whole = whole.map_err(|e| Error::io("can't find the model", e))?;
        // A link's own name says more than what it leads to.
        let name = self.path.file_name().or(whole.file_name()).unwrap_or("model".as_ref());
        let root = folder.join(name);
        if self.path.is_dir() {
            self.write_around(&root)?;
        }
        let mut bytes = 0;
        for file in &self.files {
            let target = match file.relative.as_os_str().is_empty() {
                true => root.clone(),
                false => root.join(&file.relative),
            };
            bytes += match rules.is_empty() {
                true => file.copy(&target, &options, watch)?,
                false => file.round(&target, &options, watch)?,
            };
        }
        Ok((root, bytes))
    }

    /// Folders, and what is not rounded.
    fn write_around(&self, root: &Path) -> Result<()> {
        let cant_write = |e| Error::io(format!("can't write in {}", root.display()), e);
        fs::create_dir(root).map_err(cant_write)?;
        for folder in &self.folders {
            fs::create_dir(root.join(folder)).map_err(cant_write)?;
        }
        for other in &self.others {
            copy(&self.path.join(other), &root.join(other)).map_err(cant_write)?;
        }
        Ok(())
    }
}

impl ModelFile {
    fn open(path: &Path, relative: PathBuf) -> Result<Self> {
        let cant_read = |e| Error::io(format!("can't read {}", path.display()), e);
        let mut file = File::open(path).map_err(cant_read)?;
        let mut whole = blake3::Hasher::new();
        whole.update_reader(&file).map_err(cant_read)?;
        file.rewind().map_err(cant_read)?;
        let mut prefix = Vec::new();
        file.by_ref().take(16).read_to_end(&mut prefix).map_err(cant_read)?;
        if crate::is_weightzip(&prefix) {
            let name = path.display();
            return Err(Error::argument(format!("{name} is a .wz; restore it first")));
        }
        Ok(Self {
            path: path.to_owned(),
            relative,
            size: file.metadata().map_err(cant_read)?.len(),
            spans: formats::scan(&file)?.spans,
            blake3: *whole.finalize().as_bytes(),
        })
    }

    fn source(&self) -> Result<File> {
        let opened = File::open(&self.path);
        opened.map_err(|e| Error::io(format!("can't read {}", self.path.display()), e))
    }

    /// The bytes of its `.wz`; `inner` is the file, or a copy.
    fn compress(
        &self,
        inner: File,
        writer: impl io::Write,
        options: &Options,
        watch: &Watch<'_>,
    ) -> Result<u64> {
        let options = Options { layout: Some(formats::scan(&inner)?), ..options.clone() };
        let summary = compress(Watched { inner, watch }, writer, &options)?;
        let source = summary.losses.as_ref().map_or(summary.blake3, |l| l.source_blake3);
        match source == self.blake3 {
            true => Ok(summary.compressed_bytes),
            false => Err(Error::argument(format!(
                "{} changed since it was first read; begin again when nobody writes to it",
                self.path.display()
            ))),
        }
    }

    /// Writes the file as it is, and returns the bytes of its `.wz`.
    fn copy(&self, target: &Path, options: &Options, watch: &Watch<'_>) -> Result<u64> {
        let cant_write = |e| Error::io(format!("can't write {}", target.display()), e);
        copy(&self.path, target).map_err(cant_write)?;
        let written = File::open(target).map_err(cant_write)?;
        self.compress(written, io::sink(), options, watch)
    }

    /// Writes the file as it comes back, and returns the bytes of its `.wz`.
    fn round(&self, target: &Path, options: &Options, watch: &Watch<'_>) -> Result<u64> {
        let cant_write = |e| Error::io(format!("can't write {}", target.display()), e);
        let mut packed = tempfile::tempfile_in(folder_of(target)).map_err(cant_write)?;
        let bytes = self.compress(self.source()?, &packed, options, watch)?;
        packed.rewind().map_err(cant_write)?;
        let rounded = File::create_new(target).map_err(cant_write)?;
        let decode = DecodeOptions { threads: options.threads, ..DecodeOptions::default() };
        decompress(packed, rounded, &decode)?;
        Ok(bytes)
    }
}

/// The exponent of a tensor's typical number; `None` if it has none but zeros.
fn typical(source: &File, span: &Span) -> Result<Option<i32>> {
    let bytes = span.range.end - span.range.start;
    let count = bytes / float_of(span).map_or(1, |float| float.bytes as u64);
    let signal = measure(source, span, NOTHING)?.signal;
    let typical = (signal / count.max(1) as f64).sqrt().log2();
    #[allow(clippy::cast_possible_truncation, reason = "the exponents of floats are small")]
    Ok(typical.is_finite().then(|| typical.floor() as i32))
}

/// Copies a regular file: a pipe would never end.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if fs::metadata(from)?.is_file() {
        io::copy(&mut File::open(from)?, &mut File::create_new(to)?)?;
    }
    Ok(())
}

/// Tells of what is read through it.
struct Watched<'a, R> {
    inner: R,
    watch: &'a Watch<'a>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        (self.watch)(n as u64)?;
        Ok(n)
    }
}
