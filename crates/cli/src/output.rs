//! Safe writing: a temporary file in the target's folder, synced, then renamed.

use crate::{escape, interrupt};
use anyhow::{Context, Result, bail};
use std::fs::{self, File, FileTimes, Metadata};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file that gets its name only when it is complete.
pub(crate) struct Output {
    temp: Option<NamedTempFile>,
    path: PathBuf,
    target: PathBuf,
    force: bool,
}

impl Output {
    /// Starts `target`. With `private`, nobody else can read it before it is sealed.
    pub(crate) fn create(target: &Path, force: bool, private: bool) -> Result<Self> {
        check_target(target, force)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".wz-").suffix(".tmp");
        #[cfg(unix)]
        if !private {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        #[cfg(not(unix))]
        let _ = private;
        let mut unfinished = interrupt::unfinished();
        let temp = builder
            .tempfile_in(folder_of(target))
            .with_context(|| format!("can't write in {}", escape::path(folder_of(target))))?;
        let path = temp.path().to_owned();
        unfinished.push(path.clone());
        Ok(Self { temp: Some(temp), path, target: target.to_owned(), force })
    }

    /// Where the bytes are until [`Output::commit`].
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What to write to.
    pub(crate) fn file(&self) -> Result<&File> {
        Ok(self.temp.as_ref().context("already finished")?.as_file())
    }

    /// Gives the file the mode and mtime of its source and brings everything to disk.
    pub(crate) fn seal(&self, like: Option<&Metadata>) -> Result<()> {
        let file = self.file()?;
        if let Some(like) = like {
            // Write access may go with the mode, so the times come first.
            file.set_times(FileTimes::new().set_modified(like.modified()?))
                .context("can't set the time")?;
            file.set_permissions(like.permissions()).context("can't set the mode")?;
        }
        file.sync_all().context("can't bring the result to disk")
    }

    /// Gives the file its name.
    pub(crate) fn commit(mut self) -> Result<()> {
        let temp = self.temp.take().context("already finished")?;
        let named = if self.force {
            temp.persist(&self.target)
        } else {
            temp.persist_noclobber(&self.target)
        };
        match named {
            Ok(_) => sync_folder(folder_of(&self.target)),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => bail!(exists(&self.target)),
            Err(e) => {
                Err(e.error).with_context(|| format!("can't write {}", escape::path(&self.target)))
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // The file goes first: a signal in between finds it on the list.
        drop(self.temp.take());
        interrupt::finished(&self.path);
    }
}

/// Refuses what must not be replaced.
fn check_target(target: &Path, force: bool) -> Result<()> {
    let Ok(there) = fs::symlink_metadata(target) else { return Ok(()) };
    let what = fs::metadata(target).unwrap_or(there);
    if what.is_dir() {
        bail!("{} is a folder; name the file to write with -o", escape::path(target));
    }
    // Renaming over a device or pipe would remove it for everyone.
    if !what.is_file() && !what.is_symlink() {
        bail!("{} is not a regular file; write to it with `-o - >`", escape::path(target));
    }
    if !force {
        bail!(exists(target));
    }
    Ok(())
}

fn exists(target: &Path) -> String {
    format!("{} already exists; -f replaces it, -o writes elsewhere", escape::path(target))
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Brings a folder's names to disk.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|f| f.sync_all());
    synced.with_context(|| format!("can't bring the folder {} to disk", escape::path(folder)))
}

/// Other systems write names through.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

/// Stdout for data that is not text.
pub(crate) fn data_stdout() -> Result<impl Write> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        bail!("this is binary data and stdout is a terminal; use -o or a pipe");
    }
    Ok(stdout.lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_output_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::create(&dir.path().join("x"), false, true).unwrap();
        output.file().unwrap().write_all(b"half").unwrap();
        assert!(interrupt::unfinished().contains(&output.path));
        let path = output.path.clone();
        drop(output);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(!interrupt::unfinished().contains(&path));
    }

    #[test]
    fn what_appears_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        let output = Output::create(&target, false, true).unwrap();
        fs::write(&target, "other").unwrap();
        assert!(output.commit().unwrap_err().to_string().contains("already exists"));
        assert_eq!(fs::read(&target).unwrap(), b"other");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
