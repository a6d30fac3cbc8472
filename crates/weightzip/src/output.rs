//! Safe writing: a temporary file in the target's folder, synced, then renamed.

use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::pipeline::decompress;
use crate::source::at_random;
use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{NamedTempFile, TempDir};

/// What the names of temporary files end in.
pub(crate) const SUFFIX: &str = ".tmp";

/// Files and folders that exist under a temporary name now.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The files and folders that [`Output`]s and [`Scratch`]es of this process have under a temporary name now, for
/// whoever ends the process by a signal. None is made while this is held.
pub fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that gets its name only when it is complete. Dropped before, it leaves nothing.
///
/// ```
/// use std::io::Write;
/// use weightzip::output::Output;
/// let folder = tempfile::tempdir()?;
/// let target = folder.path().join("model.bin");
/// let output = Output::create(&target, ".draft-", false)?;
/// output.file()?.write_all(b"weights")?;
/// assert!(!target.exists());
/// output.seal(None)?;
/// output.commit(false)?;
/// assert_eq!(std::fs::read(&target)?, b"weights");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Output {
    temp: Option<NamedTempFile>,
    path: PathBuf,
    target: PathBuf,
}

impl Output {
    /// Starts `target` under a temporary name in its folder: `prefix`, six letters or digits, `.tmp`. With
    /// `private`, nobody else can read it before it is sealed.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io) if the folder takes no file.
    pub fn create(target: &Path, prefix: &str, private: bool) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix).suffix(SUFFIX);
        #[cfg(unix)]
        if !private {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        #[cfg(not(unix))]
        let _ = private;
        // Held, so that a signal never comes between a file's creation and its entry.
        let mut unfinished = unfinished();
        let folder = folder_of(target);
        let cant_write = |e| Error::io(format!("can't write in {}", folder.display()), e);
        let temp = builder.tempfile_in(folder).map_err(cant_write)?;
        let path = temp.path().to_owned();
        unfinished.push(path.clone());
        Ok(Self { temp: Some(temp), path, target: target.to_owned() })
    }

    /// Where the bytes are until [`commit`](Self::commit).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to write to.
    ///
    /// # Errors
    /// None before [`commit`](Self::commit).
    pub fn file(&self) -> Result<&File> {
        let temp = self.temp.as_ref().ok_or_else(finished)?;
        Ok(temp.as_file())
    }

    /// Gives the file the mode and the modification time of another one, and brings everything to disk.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io).
    pub fn seal(&self, like: Option<&Metadata>) -> Result<()> {
        let file = self.file()?;
        if let Some(like) = like {
            let cant_set = |e| Error::io("can't set the time", e);
            let modified = like.modified().map_err(cant_set)?;
            // Write access may go with the mode, so the times come first.
            file.set_times(FileTimes::new().set_modified(modified)).map_err(cant_set)?;
            let set = file.set_permissions(like.permissions());
            set.map_err(|e| Error::io("can't set the mode", e))?;
        }
        file.sync_all().map_err(|e| Error::io("can't bring the result to disk", e))
    }

    /// Decodes what was written, which must be a `.wz` of the original with this BLAKE3.
    ///
    /// # Errors
    /// [`Corruption`](crate::Kind::Corruption) if it is of another one, and what [`decompress`] reports.
    pub fn read_back(&self, blake3: &[u8; 32], options: &DecodeOptions) -> Result<()> {
        let written = File::open(&self.path);
        let written = written.map_err(|e| Error::io("can't read the result back", e))?;
        let options = DecodeOptions { source: at_random(&written), ..options.clone() };
        match decompress(written, io::sink(), &options)?.blake3 == *blake3 {
            true => Ok(()),
            false => Err(Error::corrupt(
                "the result, read back from disk, holds something else; nothing was changed",
            )),
        }
    }

    /// Gives the file its name, and brings that to disk.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is a file of that name and not `replace`,
    /// else [`Io`](crate::Kind::Io).
    pub fn commit(mut self, replace: bool) -> Result<()> {
        let temp = self.temp.take().ok_or_else(finished)?;
        let named = match replace {
            true => temp.persist(&self.target),
            false => temp.persist_noclobber(&self.target),
        };
        let target = self.target.display();
        match named {
            Ok(_) => sync_folder(folder_of(&self.target)),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::argument(format!("{target} already exists")))
            }
            Err(e) => Err(Error::io(format!("can't write {target}"), e.error)),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // The file goes first: a signal in between finds it on the list.
        drop(self.temp.take());
        unfinished().retain(|path| *path != self.path);
    }
}

/// A folder for files of the moment, gone with all that is in it when dropped.
pub struct Scratch {
    temp: Option<TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// Makes one in a folder, private, under a temporary name: `prefix`, six letters or digits, `.tmp`.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io) if the folder takes none.
    pub fn create(folder: &Path, prefix: &str) -> Result<Self> {
        let mut unfinished = unfinished();
        let temp = tempfile::Builder::new().prefix(prefix).suffix(SUFFIX).tempdir_in(folder);
        let cant_write = |e| Error::io(format!("can't write in {}", folder.display()), e);
        let temp = temp.map_err(cant_write)?;
        let path = temp.path().to_owned();
        unfinished.push(path.clone());
        Ok(Self { temp: Some(temp), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.temp.take());
        unfinished().retain(|path| *path != self.path);
    }
}

fn finished() -> Error {
    Error::argument("already finished")
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Brings a folder's names to disk.
///
/// # Errors
/// [`Io`](crate::Kind::Io).
pub fn sync_folder(folder: &Path) -> Result<()> {
    // Other systems write names through.
    #[cfg(unix)]
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| {
        Error::io(format!("can't bring the folder {} to disk", folder.display()), e)
    })?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Removes a file, and brings that to disk.
///
/// # Errors
/// [`Io`](crate::Kind::Io).
pub fn remove(file: &Path) -> Result<()> {
    let removed = fs::remove_file(file);
    removed.map_err(|e| Error::io(format!("can't remove {}", file.display()), e))?;
    sync_folder(folder_of(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_dropped_scratch_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path(), ".x-").unwrap();
        fs::write(scratch.path().join("file"), "x").unwrap();
        let path = scratch.path().to_owned();
        assert!(unfinished().contains(&path));
        drop(scratch);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(!unfinished().contains(&path));
    }

    #[test]
    fn a_dropped_output_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::create(&dir.path().join("x"), ".x-", true).unwrap();
        output.file().unwrap().write_all(b"half").unwrap();
        assert!(unfinished().contains(&output.path));
        let path = output.path.clone();
        drop(output);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(!unfinished().contains(&path));
    }

    #[test]
    fn what_appears_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        let output = Output::create(&target, ".x-", true).unwrap();
        fs::write(&target, "other").unwrap();
        assert!(output.commit(false).unwrap_err().to_string().contains("already exists"));
        assert_eq!(fs::read(&target).unwrap(), b"other");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_written_must_hold_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::create(&dir.path().join("x"), ".x-", true).unwrap();
        let options = crate::Options { threads: 1, ..Default::default() };
        let summary = crate::compress(&[7; 1000][..], output.file().unwrap(), &options).unwrap();
        output.read_back(&summary.blake3, &DecodeOptions::default()).unwrap();
        let other = output.read_back(&[0; 32], &DecodeOptions::default()).unwrap_err();
        assert_eq!(other.kind(), crate::Kind::Corruption);
    }
}
