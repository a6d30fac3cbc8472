//! Who may change a store, and what a crash has left in it.

use super::mark::MARK;
use crate::error::{Error, Result};
use crate::output::{SUFFIX, folder_of};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// What the names of unfinished steps begin with. Nothing but a chain makes such files, and none without the lock.
pub(super) const PREFIX: &str = ".wz-chain-";

/// Held by whoever changes a store, or writes a file that needs one of its steps.
pub struct Lock {
    /// The folder. Nothing where the system has no locks: then two that change a store at once are not kept apart.
    held: Option<File>,
}

impl Lock {
    /// Locks the stores that these files lie in, or would: none of their steps goes meanwhile.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io), also while another process changes one of them.
    pub fn of_stores<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Vec<Self>> {
        let folders = files.into_iter().filter_map(|file| fs::canonicalize(folder_of(file)).ok());
        let folders: BTreeSet<PathBuf> = folders.collect();
        let stores = folders.iter().filter(|folder| folder.join(MARK).exists());
        stores.map(|folder| Self::take(folder)).collect()
    }

    pub(super) fn take(folder: &Path) -> Result<Self> {
        let cant_lock = |e| Error::io(format!("can't lock {}", folder.display()), e);
        if !cfg!(unix) {
            return Ok(Self { held: None });
        }
        let file = File::open(folder).map_err(cant_lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { held: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(cant_lock(io::Error::new(
                io::ErrorKind::WouldBlock,
                "another process is changing this store; try again when it is done",
            ))),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                Ok(Self { held: None })
            }
            Err(TryLockError::Error(e)) => Err(cant_lock(e)),
        }
    }

    /// Removes what a crash has left: while this is held, nobody is writing it any more.
    pub(super) fn clean(&self, folder: &Path) {
        let entries = fs::read_dir(folder).ok().filter(|_| self.held.is_some());
        let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        for leftover in files.filter(is_leftover) {
            // What can't be removed is in nobody's way.
            let _ = fs::remove_file(leftover);
        }
    }
}

fn is_leftover(path: &PathBuf) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let random = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == 6 && random.bytes().all(|b| b.is_ascii_alphanumeric())
    }) && fs::symlink_metadata(path).is_ok_and(|there| there.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_leftovers_are_cleaned_and_only_by_who_has_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let others = [".wz-abc123.tmp", ".wz-chain-abc.tmp", ".wz-chain-abc12-.tmp", "x.tmp"];
        for name in others.iter().chain(&[".wz-chain-aB12cd.tmp"]) {
            fs::write(dir.path().join(name), "half").unwrap();
        }
        Lock { held: None }.clean(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
        let lock = Lock::take(dir.path()).unwrap();
        lock.clean(dir.path());
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        if cfg!(unix) {
            let refused = Lock::take(dir.path()).map(drop).unwrap_err();
            assert!(refused.to_string().contains("another process"), "{refused}");
        }
    }

    #[test]
    fn stores_are_locked_once_each_and_other_folders_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["store", "other"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("store").join(MARK), "").unwrap();
        let names = ["store/a", "store/../store/b", "other/c", "nowhere/d"];
        let files = names.map(|name| dir.path().join(name));
        let held = Lock::of_stores(files.iter().map(PathBuf::as_path)).unwrap();
        assert_eq!(held.len(), 1);
        if cfg!(unix) {
            assert!(Lock::of_stores([files[0].as_path()]).is_err());
        }
    }
}
