//! Safe writing: a temporary file in the target's folder, synced, then renamed.

mod advice;
mod temporary;

pub use advice::{keep_rights, keep_times, warnings};
pub use temporary::is_temporary;

use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::pipeline::decompress;
use crate::source::at_random;
use std::fs::{self, File, Metadata};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;
use temporary::Temporary;

/// What the names of temporary files end in.
pub(crate) const SUFFIX: &str = ".tmp";

/// The most links that lead to one another.
const MAX_LINKS: usize = 40;

/// Files and folders that exist under a temporary name now.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The files and folders that [`Output`]s and [`Scratch`]es of this process have under a temporary name now, for
/// whoever ends the process by a signal. None is made, and none gets its name, while this is held.
pub fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that gets its name only when it is complete. Dropped before, it leaves nothing; killed before, it leaves
/// nothing where the system has files without a name, and else a file that the next one in its folder removes.
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
    temp: Option<Temporary>,
    /// Its temporary name, if it has one.
    path: Option<PathBuf>,
    prefix: String,
    target: PathBuf,
    /// The file of that name, if there is one.
    replaced: Option<Metadata>,
}

impl Output {
    /// Starts `target` in its folder; if it must have a temporary name, that is `prefix`, six letters or digits, `.tmp`. With
    /// `private`, nobody else can read it before it is sealed.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the name is too long, [`Io`](crate::Kind::Io) if the
    /// folder takes no file.
    pub fn create(target: &Path, prefix: &str, private: bool) -> Result<Self> {
        let there = fs::symlink_metadata(target);
        if there.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::InvalidFilename) {
            let target = target.display();
            return Err(Error::argument(format!(
                "{target}: the name is too long; write to another one"
            )));
        }
        let replaced = there.ok().filter(Metadata::is_file);
        let folder = folder_of(target);
        // Held, so that a signal never comes between a file's creation and its entry.
        let mut unfinished = unfinished();
        let temp = Temporary::create(folder, prefix, private || replaced.is_some());
        let temp =
            temp.map_err(|e| Error::io(format!("can't write in {}", folder.display()), e))?;
        let path = temp.path().map(Path::to_owned);
        unfinished.extend(path.clone());
        let (prefix, target) = (prefix.to_owned(), target.to_owned());
        Ok(Self { temp: Some(temp), path, prefix, target, replaced })
    }

    /// What to write to.
    ///
    /// # Errors
    /// None before [`commit`](Self::commit).
    pub fn file(&self) -> Result<&File> {
        let temp = self.temp.as_ref().ok_or_else(finished)?;
        Ok(temp.file())
    }

    /// The file from its start, to be read. Shares its position with [`file`](Self::file).
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io).
    pub fn reopen(&self) -> Result<File> {
        let again = self.file()?.try_clone();
        let again = again.and_then(|mut file| file.rewind().map(|()| file));
        again.map_err(|e| Error::io("can't read the result back", e))
    }

    /// Gives the file the modification time, the owner and the mode of another one, or the owner and the mode of the file that it replaces;
    /// and brings everything to disk. What the system refuses of them is among the [`warnings`].
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io).
    pub fn seal(&self, like: Option<&Metadata>) -> Result<()> {
        self.seal_as(like, None)
    }

    /// [`seal`](Self::seal), with the attributes and the access list of an open file too.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io).
    pub fn seal_like(&self, source: &File) -> Result<()> {
        let like = source.metadata().map_err(|e| Error::io("can't read the source's mode", e))?;
        self.seal_as(Some(&like), Some(source))
    }

    fn seal_as(&self, like: Option<&Metadata>, source: Option<&File>) -> Result<()> {
        let file = self.file()?;
        if let Some(like) = like {
            keep_times(file, like);
        }
        if let Some(like) = like.or(self.replaced.as_ref()) {
            keep_rights(file, like, source);
        }
        file.sync_all().map_err(|e| Error::io("can't bring the result to disk", e))
    }

    /// Decodes what was written, which must be a `.wz` of the original with this BLAKE3.
    ///
    /// # Errors
    /// [`Corruption`](crate::Kind::Corruption) if it is of another one, and what [`decompress`] reports.
    pub fn read_back(&self, blake3: &[u8; 32], options: &DecodeOptions) -> Result<()> {
        let written = self.reopen()?;
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
        let target = self.target.display();
        match temp.publish(&self.prefix, &self.target, replace) {
            Ok(()) => sync_folder(folder_of(&self.target)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::argument(format!("{target} already exists")))
            }
            Err(e) => Err(Error::io(format!("can't write {target}"), e)),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // The file goes first: a signal in between finds it on the list.
        drop(self.temp.take());
        unfinished().retain(|path| Some(path) != self.path.as_ref());
    }
}

/// A folder for files of the moment, gone with all that is in it when dropped; what a killed process has left goes with the next.
pub struct Scratch {
    temp: Option<TempDir>,
    path: PathBuf,
    _lock: Option<File>,
}

impl Scratch {
    /// Makes one in a folder, private, under a temporary name: `prefix`, six letters or digits, `.tmp`.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io) if the folder takes none.
    pub fn create(folder: &Path, prefix: &str) -> Result<Self> {
        let mut unfinished = unfinished();
        let made = temporary::folder(folder, prefix);
        let cant_write = |e| Error::io(format!("can't write in {}", folder.display()), e);
        let (temp, lock) = made.map_err(cant_write)?;
        let path = temp.path().to_owned();
        unfinished.push(path.clone());
        Ok(Self { temp: Some(temp), path, _lock: lock })
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

/// Follows links to what they lead to, also where that doesn't exist yet.
pub fn resolved(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(to) = fs::read_link(&path) else { break };
        path = folder_of(&path).join(to);
    }
    path
}

/// Fsyncs a folder, so that its names survive a crash. A system that can't is among the [`warnings`].
///
/// # Errors
/// [`Io`](crate::Kind::Io) if the disk fails or is full.
pub fn sync_folder(folder: &Path) -> Result<()> {
    // Other systems write names through.
    #[cfg(unix)]
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(e) if is_of_the_disk(&e) => {
            let what = format!("can't bring the folder {} to disk", folder.display());
            return Err(Error::io(what, e));
        }
        done => advice::take("sync a folder", done),
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Whether it is a fault of a disk, and no system that can't.
#[cfg(unix)]
fn is_of_the_disk(error: &io::Error) -> bool {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    is_full || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
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
        let path = output.path.clone();
        assert!(path.iter().all(|path| unfinished().contains(path)));
        drop(output);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(path.iter().all(|path| !unfinished().contains(path)));
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
