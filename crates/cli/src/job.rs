//! One file from source to target: read, write, check, name, and remove the source if asked to.

use crate::args::{Input, Where};
use crate::base::BaseArgs;
use crate::estimate::{Estimate, WORTH};
use crate::output::Output;
use crate::progress::Bar;
use crate::source::SourceFile;
use crate::{escape, lossy, remove, space, stdio};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use weightzip::chain::Lock;
use weightzip::output::folder_of;
use weightzip::{Archive, Base, DecodeOptions, Options, Summary};

/// Bytes that tell a .wz.
const PREFIX: u64 = 16;

/// Which way the bytes go.
pub(crate) enum Coder {
    Compress(Options),
    Decompress(DecodeOptions),
}

/// What to do with each file.
pub(crate) struct Job {
    pub(crate) coder: Coder,
    /// What files may be coded against.
    pub(crate) base: BaseArgs,
    /// Replace what is there.
    pub(crate) force: bool,
    /// Remove the source when the result is safe.
    pub(crate) remove: bool,
    /// Percent that a file must save, if somebody said so.
    pub(crate) min_saving: Option<f64>,
    /// Write nothing, only say what would be done.
    pub(crate) dry_run: bool,
}

impl Coder {
    /// Codes a stream. `source` is where it comes from, if that is known.
    pub(crate) fn run(
        &self,
        reader: impl Read,
        writer: impl Write,
        source: Option<&SourceFile>,
        bar: &Bar,
        base: Base,
    ) -> weightzip::Result<Summary> {
        let progress = Some(bar.callback());
        match self {
            Self::Compress(o) => {
                let (mut lossy, mut layout) = (o.lossy.clone(), None);
                let again = source.and_then(SourceFile::at_random);
                if let Some(source) = source {
                    layout = source.layout()?.cloned();
                    if let Some(layout) = layout.as_ref().filter(|_| lossy.need_a_look()) {
                        lossy.look_at(source.file(), &layout.spans)?;
                    }
                }
                let options = Options { progress, base, source: again, layout, lossy, ..o.clone() };
                weightzip::compress(reader, writer, &options)
            }
            Self::Decompress(o) => {
                let source = source.and_then(SourceFile::at_random);
                let options = DecodeOptions { progress, base, source, ..o.clone() };
                weightzip::decompress(reader, writer, &options)
            }
        }
    }

    /// What the bar counts to for a regular file: bytes of the original.
    pub(crate) fn original_size(&self, source: &SourceFile) -> Option<u64> {
        match self {
            Self::Compress(_) => source.size(),
            Self::Decompress(_) => original_size(source.file()),
        }
    }

    /// The most bytes that the result takes.
    pub(crate) fn worst_case(&self, source: &SourceFile) -> u64 {
        self.original_size(source).unwrap_or(0)
    }

    /// The bytes that the result is likely to take: what to go by where the worst case does not fit.
    pub(crate) fn likely(&self, source: &SourceFile) -> u64 {
        let worst = self.worst_case(source);
        match self {
            Self::Compress(options) => {
                Estimate::of(source, options).map_or(worst, |estimate| {
                    // A tenth to spare.
                    (estimate.compressed + estimate.compressed / 10).min(worst)
                })
            }
            Self::Decompress(_) => worst,
        }
    }
}

impl Job {
    /// Holds the lock of the store that the result will lie in, so that nobody removes a base before the result says that it
    /// needs it.
    fn keep_bases(&self, base: &Base, target: &Path) -> Result<Vec<Lock>> {
        if !matches!(self.coder, Coder::Compress(_)) || base.files().next().is_none() {
            return Ok(Vec::new());
        }
        let held = Lock::of_stores([target])?;
        ensure!(
            base.files().all(Path::exists),
            "another process has just removed the base; name another one with --base"
        );
        Ok(held)
    }

    /// Whether results are near-lossless.
    pub(crate) fn is_lossy(&self) -> bool {
        matches!(&self.coder, Coder::Compress(options) if !options.lossy.is_empty())
    }

    /// Percent that a file of a folder must save to be compressed; 0 if that is not known beforehand.
    pub(crate) fn min_saving_in_folders(&self) -> f64 {
        if self.is_lossy() || !self.base.is_empty() {
            return 0.0;
        }
        self.min_saving.unwrap_or(WORTH)
    }

    /// What a file is likely to save.
    pub(crate) fn estimate(&self, path: &Path) -> Result<Estimate> {
        let Coder::Compress(options) = &self.coder else {
            bail!("only compressing saves anything")
        };
        Estimate::of(&SourceFile::open(path)?, options)
    }

    /// Whether somebody said what files' numbers are.
    pub(crate) fn has_dtype(&self) -> bool {
        matches!(&self.coder, Coder::Compress(options) if options.dtype.is_some())
    }

    /// The name of a compressed file.
    pub(crate) fn with_suffix(&self, path: &Path) -> PathBuf {
        if self.is_lossy() { lossy::with_suffix(path) } else { with_suffix(path) }
    }

    /// What a file is, or may be, coded against; `path` if it has one. What can be read at random is
    /// compared with its base.
    fn base_of(&self, path: Option<&Path>, source: Option<&SourceFile>) -> Result<Base> {
        if let Coder::Decompress(_) = self.coder {
            return self.base.of_file(path);
        }
        let mut base = self.base.named()?;
        if let Some(source) = source.filter(|_| !base.is_empty())
            && let Some(layout) = source.layout()?
        {
            base.compare_with(source.file(), &layout.spans)?;
        }
        Ok(base)
    }

    /// Refuses to replace or remove what the result can't be restored without.
    fn spare(&self, base: &Base, source: Option<&Path>, target: &Path) -> Result<()> {
        let Coder::Compress(_) = self.coder else { return Ok(()) };
        let is_base = |path: &Path| {
            let path = std::fs::canonicalize(path);
            path.is_ok_and(|path| base.files().any(|base| base == path))
        };
        ensure!(
            !is_base(target),
            "the result would replace its base, or what that needs; name another one with -o"
        );
        ensure!(
            !self.remove || !source.is_some_and(is_base),
            "this is the base, or what that needs; it can be coded against it, but not removed"
        );
        Ok(())
    }

    /// Reads a result, coded against this base, back from disk and compares: it must hold the source's bytes.
    fn read_back(&self, result: File, base: Base, source: &Path, summary: &Summary) -> Result<()> {
        let same = match self.coder {
            Coder::Compress(_) => {
                decoded(result, base).context("the result does not read back")? == hash(source)?
            }
            Coder::Decompress(_) => {
                hash_of(result).context("can't read the result")? == summary.blake3
            }
        };
        ensure!(
            same,
            "the result, read back from disk, differs from the source; nothing was removed"
        );
        Ok(())
    }

    /// Whether a .wz holds exactly the bytes of `original`; both are read from disk.
    pub(crate) fn holds(&self, wz: &Path, original: &Path) -> Result<bool> {
        let base = self.base.of_file(Some(wz))?;
        let decoded = decoded(open(wz)?, base)
            .with_context(|| format!("{} does not read back", escape::path(wz)))?;
        Ok(decoded == hash(original)?)
    }
}

/// BLAKE3 of what a .wz holds, read from disk.
fn decoded(wz: File, base: Base) -> weightzip::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let source = weightzip::at_random(&wz);
    let options = DecodeOptions { base, source, ..DecodeOptions::default() };
    weightzip::decompress(from_disk(wz), &mut hasher, &options)?;
    Ok(hasher.finalize())
}

/// Codes `source` to `target`, safely. `None` if that would replace the source by something that is no smaller.
pub(crate) fn file(job: &Job, source: &Path, target: &Path, bar: &Bar) -> Result<Option<Summary>> {
    if job.remove {
        remove::check(source)?;
    }
    ensure!(
        !is_same(source, target),
        "source and result are the same file; name another one with -o"
    );
    let input = SourceFile::open(source)?;
    space::check(folder_of(target), |likely| {
        if likely { job.coder.likely(&input) } else { job.coder.worst_case(&input) }
    })?;
    let output = Output::create(target, job.force, input.metadata().is_some())?;
    let base = job.base_of(Some(source), Some(&input))?;
    job.spare(&base, Some(source), target)?;
    let _held = job.keep_bases(&base, target)?;
    let coded = job.coder.run(input.file(), output.file()?, Some(&input), bar, base.clone());
    // A source that shrinks makes other errors; this one is the cause.
    input.check_unchanged()?;
    let mut summary = coded?;
    // Restoring would take what ends in .wz for a result, so that gets another one in any case.
    let must_shrink = job.remove && without_suffix(source).is_none();
    let is_compressed = matches!(job.coder, Coder::Compress(_));
    if must_shrink && is_compressed && summary.compressed_bytes >= summary.original_bytes {
        return Ok(None);
    }
    seal(&output, Some(&input), &mut summary)?;
    if job.remove {
        bar.message(format!("{}, reading back", escape::path(source)));
        job.read_back(output.reopen()?, base, source, &summary)?;
        input.check_unchanged()?;
    }
    output.commit()?;
    if job.remove {
        weightzip::output::remove(source)?;
    }
    Ok(Some(summary))
}

/// What is said of a file that was not replaced.
pub(crate) fn stays(source: &Path) -> String {
    format!("{}: would become no smaller; left as it is", escape::path(source))
}

/// Finishes a result, which gets what its source has besides its bytes; timed.
fn seal(output: &Output, source: Option<&SourceFile>, summary: &mut Summary) -> Result<()> {
    let start = Instant::now();
    match source.filter(|source| source.metadata().is_some()) {
        Some(source) => output.seal_like(source.file())?,
        None => output.seal(None)?,
    }
    summary.stages.iter_mut().for_each(|stages| stages.sync = start.elapsed());
    Ok(())
}

/// Copies `source` to `target`, with the same care.
pub(crate) fn copy(source: &Path, target: &Path, force: bool, bar: &Bar) -> Result<u64> {
    let input = SourceFile::open(source)?;
    let output = Output::create(target, force, true)?;
    let bytes =
        io::copy(&mut bar.reading(input.file()), &mut output.file()?).context("can't copy")?;
    input.check_unchanged()?;
    output.seal_like(input.file())?;
    output.commit()?;
    Ok(bytes)
}

/// Codes a stream, or to one.
pub(crate) fn stream(job: &Job, input: &Input, to: &Where, bar: &Bar) -> Result<Summary> {
    let path = match input {
        Input::Stdin => None,
        Input::Path(path) => Some(path.as_path()),
    };
    let source = path.map(SourceFile::open).transpose()?;
    let mut reader: Box<dyn Read + '_> = match &source {
        None => Box::new(stdio::data_stdin()?),
        Some(source) => Box::new(source.file()),
    };
    let mut prefix = Vec::new();
    reader.by_ref().take(PREFIX).read_to_end(&mut prefix).context("can't read")?;
    refuse_twice(job, &prefix)?;
    let reader = prefix.as_slice().chain(reader);
    let base = job.base_of(path, source.as_ref())?;
    let summary = match to {
        Where::Path(target) => {
            let output = Output::create(target, job.force, false)?;
            job.spare(&base, path, target)?;
            let mut summary = job.coder.run(reader, output.file()?, source.as_ref(), bar, base)?;
            seal(&output, None, &mut summary)?;
            output.commit()?;
            summary
        }
        _ => {
            let mut writer = stdio::data_stdout()?;
            let summary = job.coder.run(reader, &mut writer, source.as_ref(), bar, base);
            if let Some(source) = &source {
                source.check_unchanged()?;
            }
            writer.flush().context("can't write to stdout")?;
            summary?
        }
    };
    Ok(summary)
}

/// Compressing a .wz again is nearly always a slip.
pub(crate) fn refuse_twice(job: &Job, prefix: &[u8]) -> Result<()> {
    if matches!(job.coder, Coder::Compress(_)) && !job.force && weightzip::is_weightzip(prefix) {
        bail!("already a .wz; use -f to compress it again");
    }
    Ok(())
}

/// The first bytes of a file.
pub(crate) fn prefix(path: &Path) -> Result<Vec<u8>> {
    let mut prefix = Vec::new();
    File::open(path)
        .context("can't open")?
        .take(PREFIX)
        .read_to_end(&mut prefix)
        .context("can't read")?;
    Ok(prefix)
}

/// `name` plus `.wz`.
pub(crate) fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".wz");
    name.into()
}

/// The name without its `.wz`, if it has one and something before it.
pub(crate) fn without_suffix(path: &Path) -> Option<PathBuf> {
    (path.extension()? == "wz").then(|| path.with_extension(""))
}

/// BLAKE3 of a file as it is on disk.
fn hash(path: &Path) -> Result<blake3::Hash> {
    hash_of(open(path)?).with_context(|| format!("can't read {}", escape::path(path)))
}

fn hash_of(file: File) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(from_disk(file))?;
    Ok(hasher.finalize())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("can't open {}", escape::path(path)))
}

/// A file of which the system drops first what it still holds in memory, where that can be asked for.
fn from_disk(file: File) -> File {
    #[cfg(target_os = "linux")]
    // Advice only: some file systems don't take it.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    file
}

/// The original's size as a .wz states it.
pub(crate) fn original_size(file: &File) -> Option<u64> {
    Archive::open(file).ok().map(|archive| archive.info().original_bytes)
}

/// Whether both names mean one file.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_come_and_go_one_at_a_time() {
        let path = Path::new("a/x.safetensors");
        assert_eq!(with_suffix(path), Path::new("a/x.safetensors.wz"));
        assert_eq!(without_suffix(&with_suffix(path)).unwrap(), path);
        assert_eq!(without_suffix(Path::new("x.wz.wz")).unwrap(), Path::new("x.wz"));
        assert_eq!(without_suffix(Path::new("a/.wz")), None);
        assert_eq!(without_suffix(Path::new("x.zst")), None);
    }

    #[test]
    fn a_result_holds_its_own_source_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let (source, other, packed) = (path("a"), path("b"), path("a.wz"));
        fs::write(&source, [1; 1000]).unwrap();
        fs::write(&other, [2; 1000]).unwrap();
        let coder = Coder::Compress(Options::default());
        let job = Job {
            coder,
            base: BaseArgs::default(),
            force: false,
            remove: false,
            min_saving: None,
            dry_run: false,
        };
        let ui = crate::args::Ui { quiet: true, json: false };
        let summary = file(&job, &source, &packed, &Bar::new(ui, String::new(), None)).unwrap();
        let summary = summary.unwrap();
        assert!(job.holds(&packed, &source).unwrap());
        assert!(!job.holds(&packed, &other).unwrap());
        let read_back = |of| job.read_back(File::open(&packed).unwrap(), Base::new(), of, &summary);
        assert!(read_back(&source).is_ok());
        assert!(read_back(&other).is_err());
        fs::write(&packed, [0; 100]).unwrap();
        assert!(job.holds(&packed, &source).is_err());
        let likely = job.coder.likely(&SourceFile::open(&source).unwrap());
        assert!(likely > 0 && likely < 1000, "{likely}");
    }
}
