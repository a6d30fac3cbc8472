//! A file being read, and whether it stayed the same.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use weightzip::{Layout, Source};

/// What a pipe can't be.
const AT_RANDOM: &str =
    "not a regular file, and it has to be read at random; write it to a file first";

/// An open source and what it was when it was opened.
pub(crate) struct SourceFile {
    path: PathBuf,
    file: File,
    before: Metadata,
    /// Known when it was asked for.
    layout: OnceLock<Layout>,
}

impl SourceFile {
    /// Opens a file, or a named pipe, which has no size.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).context("can't open")?;
        let before = file.metadata()?;
        if before.is_dir() {
            bail!("a folder, where a file is needed");
        }
        Ok(Self { path: path.to_owned(), file, before, layout: OnceLock::new() })
    }

    /// Opens a file that has to be read at random. A pipe is refused before it is opened: that would wait for a writer.
    pub(crate) fn open_at_random(path: &Path) -> Result<Self> {
        let there = fs::metadata(path).context("can't open")?;
        ensure!(there.is_file() || there.is_dir(), AT_RANDOM);
        Self::open(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What to read from.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The file again, if it can be read at random.
    pub(crate) fn at_random(&self) -> Option<Arc<dyn Source + Send>> {
        weightzip::at_random(&self.file)
    }

    /// What it holds, as it says itself or a file beside it; none if it can't be read at random.
    pub(crate) fn layout(&self) -> weightzip::Result<Option<&Layout>> {
        if self.size().is_none() || self.layout.get().is_some() {
            return Ok(self.layout.get());
        }
        let layout = weightzip::scan_file(&self.path, &self.file)?;
        Ok(Some(self.layout.get_or_init(|| layout)))
    }

    /// [`layout`](Self::layout) of a file that is read at random.
    pub(crate) fn known_layout(&self) -> Result<&Layout> {
        self.layout()?.context(AT_RANDOM)
    }

    /// Reads the file; its end is an error if it changed meanwhile.
    pub(crate) fn reader(&self) -> impl Read {
        Reader(self)
    }

    /// Size, mode and mtime, if it is a regular file.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.before.is_file().then_some(&self.before)
    }

    /// Size in bytes, if it is a regular file.
    pub(crate) fn size(&self) -> Option<u64> {
        self.metadata().map(Metadata::len)
    }

    /// Fails if the file is not what it was, under its name too.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let Some(before) = self.metadata() else { return Ok(()) };
        let stamp = |m: &Metadata| Ok::<_, std::io::Error>((m.len(), m.modified()?));
        let open = stamp(&self.file.metadata()?)?;
        let named = fs::metadata(&self.path).and_then(|m| stamp(&m)).ok();
        if open != stamp(before)? || named != Some(open) {
            bail!(
                "changed while it was read; nothing was kept, try again when nobody writes to it"
            );
        }
        Ok(())
    }
}

/// Whether opening it would wait for a writer, who may never come. The pipes of a shell's `<(...)` have one.
#[cfg(unix)]
pub(crate) fn is_named_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_pipe = fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo());
    // Those without a name are found through /dev/fd, which leads to no path.
    is_pipe && fs::canonicalize(path).is_ok()
}

/// Other systems have none in folders.
#[cfg(not(unix))]
pub(crate) fn is_named_pipe(_: &Path) -> bool {
    false
}

struct Reader<'a>(&'a SourceFile);

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (&self.0.file).read(buf)?;
        if n == 0 && !buf.is_empty() {
            self.0.check_unchanged().map_err(io::Error::other)?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "12345").unwrap();
        let source = SourceFile::open(&path).unwrap();
        assert!(source.check_unchanged().is_ok());
        File::options().write(true).open(&path).unwrap().set_len(3).unwrap();
        assert!(source.check_unchanged().is_err());
        let read = source.reader().read_to_end(&mut Vec::new());
        assert!(read.unwrap_err().to_string().contains("changed while it was read"));

        let source = SourceFile::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        assert!(source.check_unchanged().is_err());
    }
}
