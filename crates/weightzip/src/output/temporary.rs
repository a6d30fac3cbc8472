//! A file without its name yet: one without any where the system has such files, else one with a temporary name.
//!
//! A temporary file is locked while it is written, so that what a killed process has left can be told from it.

use super::{SUFFIX, unfinished};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tempfile::{NamedTempFile, TempDir};

/// What the names of temporary files and folders begin with, whatever writes them.
const START: &str = ".wz-";

/// What those of folders for rounded models go on with.
const TUNE: &str = "tune-";

/// How often a new file is made anew whose lock somebody else has.
const ATTEMPTS: usize = 8;

/// A file that is being written.
pub(super) enum Temporary {
    /// Goes with the process, however that ends.
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Named(NamedTempFile),
}

impl Temporary {
    /// Makes one in a folder. With `private`, nobody else can read it.
    pub(super) fn create(folder: &Path, prefix: &str, private: bool) -> io::Result<Self> {
        clean(folder);
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed(folder, private) {
            return Ok(Self::Unnamed(file));
        }
        named(folder, prefix, private).map(Self::Named)
    }

    pub(super) fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Its temporary name, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(_) => None,
            Self::Named(file) => Some(file.path()),
        }
    }

    /// Gives it its name. `AlreadyExists` if there is a file of that name and not `replace`.
    pub(super) fn publish(self, prefix: &str, target: &Path, replace: bool) -> io::Result<()> {
        #[cfg(not(target_os = "linux"))]
        let _ = prefix;
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => link(&file, prefix, target, replace),
            Self::Named(file) => rename(file, target, replace),
        }
    }
}

/// A file without a name, where the file system has such and they can get one.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path, private: bool) -> Option<File> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let mode = Mode::from_raw_mode(if private { 0o600 } else { 0o666 });
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, folder, flags, mode).ok()?);
    fs::metadata(in_proc(&file)).ok()?;
    // For the moment in which it replaces another one.
    let _ = file.try_lock();
    Some(file)
}

/// Where an open file can be found that has no name.
#[cfg(target_os = "linux")]
fn in_proc(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Gives a name to a file without one. A file that is to be replaced is replaced by a second, temporary name.
#[cfg(target_os = "linux")]
fn link(file: &File, prefix: &str, target: &Path, replace: bool) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    let link_to = |path: &Path| {
        linkat(CWD, in_proc(file), CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    };
    // Held, so that no signal comes between the two names.
    let _unfinished = unfinished();
    let linked = link_to(target).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists if replace => {
            let mut builder = tempfile::Builder::new();
            let second = builder.prefix(prefix).suffix(SUFFIX);
            Ok(second.make_in(super::folder_of(target), link_to)?.persist(target)?)
        }
        _ => Err(error),
    });
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {}
        done => return done,
    }
    // Some systems have files without names, but give them none later.
    let copy = copied(file, super::folder_of(target), prefix)?;
    rename_held(copy, target, replace)
}

/// The same file, and with all that is known of it, under a temporary name.
#[cfg(target_os = "linux")]
fn copied(file: &File, folder: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    use std::io::Seek;
    let copy = named(folder, prefix, true)?;
    let mut from = file.try_clone()?;
    from.rewind()?;
    io::copy(&mut from, &mut copy.as_file())?;
    let like = file.metadata()?;
    super::advice::keep_times(copy.as_file(), &like);
    super::advice::keep_rights(copy.as_file(), &like, Some(file));
    copy.as_file().sync_all()?;
    Ok(copy)
}

/// A file under a temporary name, locked.
fn named(folder: &Path, prefix: &str, private: bool) -> io::Result<NamedTempFile> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if private { 0o600 } else { 0o666 });
    #[cfg(not(unix))]
    let _ = private;
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(SUFFIX);
    locked(|| builder.make_in(folder, |path| options.open(path)), |temp| lock(temp.as_file()))
}

/// A folder under a temporary name, private and locked as long as the file is open.
pub(super) fn folder(place: &Path, prefix: &str) -> io::Result<(TempDir, Option<File>)> {
    clean(place);
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(SUFFIX);
    locked(
        || {
            let temp = builder.tempdir_in(place)?;
            // Only unix opens folders.
            let opened = File::open(temp.path()).ok();
            Ok((temp, opened))
        },
        |(_, opened)| opened.as_ref().is_none_or(lock),
    )
}

/// What is made and has its lock: whoever cleans may have taken it in between.
fn locked<T>(make: impl Fn() -> io::Result<T>, lock: impl Fn(&T) -> bool) -> io::Result<T> {
    for _ in 0..ATTEMPTS {
        let made = make()?;
        if lock(&made) {
            return Ok(made);
        }
    }
    Err(io::Error::other("temporary files disappear; is another program removing them?"))
}

/// Locks what is new; false if whoever cleans was faster. Where the system has no locks, nobody cleans.
fn lock(file: &File) -> bool {
    // Elsewhere locks keep others from reading.
    if !cfg!(unix) {
        return true;
    }
    match file.try_lock() {
        Ok(()) => is_there(file),
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => true,
    }
}

/// Whether a file or folder has its name.
#[cfg(unix)]
fn is_there(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|there| there.nlink() > 0)
}

#[cfg(not(unix))]
fn is_there(_: &File) -> bool {
    true
}

/// Gives a file with a temporary name its own.
fn rename(file: NamedTempFile, target: &Path, replace: bool) -> io::Result<()> {
    let _unfinished = unfinished();
    rename_held(file, target, replace)
}

/// [`rename`] for who has the list of unfinished files.
fn rename_held(file: NamedTempFile, target: &Path, replace: bool) -> io::Result<()> {
    if replace {
        file.persist(target)?;
        return Ok(());
    }
    let refused = match file.persist_noclobber(target) {
        Ok(_) => return Ok(()),
        Err(refused) => refused,
    };
    if refused.error.kind() == io::ErrorKind::AlreadyExists {
        return Err(refused.error);
    }
    // Without hard links and renames that replace nothing, an empty file takes the name first.
    File::create_new(target)?;
    match refused.file.persist(target) {
        Ok(_) => Ok(()),
        Err(e) => {
            // Nobody has written into it yet.
            let _ = fs::remove_file(target);
            Err(e.error)
        }
    }
}

/// Whether a name is that of a temporary file or folder, which is nobody's work: `.wz-`, a purpose or none, six letters
/// or digits, `.tmp`.
pub fn is_temporary(name: &OsStr) -> bool {
    let is_purpose = |c: u8| c.is_ascii_lowercase() || c == b'-';
    name.to_str().and_then(between).is_some_and(|(purpose, _)| {
        purpose.is_empty() || (purpose.ends_with('-') && purpose.bytes().all(is_purpose))
    })
}

/// The purpose and the random part of a temporary name.
fn between(name: &str) -> Option<(&str, &str)> {
    let middle = name.strip_prefix(START)?.strip_suffix(SUFFIX)?;
    let (purpose, random) = middle.split_at_checked(middle.len().checked_sub(6)?)?;
    random.bytes().all(|b| b.is_ascii_alphanumeric()).then_some((purpose, random))
}

/// Removes what killed processes have left in a folder. Once for each folder: those that are large are not read for every file.
fn clean(folder: &Path) {
    static CLEANED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut cleaned = CLEANED.lock().unwrap_or_else(PoisonError::into_inner);
    if !cfg!(unix) || !cleaned.insert(folder.to_owned()) {
        return;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if let Some((purpose @ ("" | TUNE), _)) = between(name) {
            // What can't be removed is in nobody's way.
            let _ = remove_left(&path, purpose == TUNE);
        }
    }
}

/// Removes a file or folder of ours that nobody has locked.
#[cfg(unix)]
fn remove_left(path: &Path, is_folder: bool) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::os::unix::fs::MetadataExt;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let left = File::from(openat(CWD, path, flags, Mode::empty())?);
    let there = left.metadata()?;
    let is_ours = there.uid() == rustix::process::geteuid().as_raw();
    let is_one = if is_folder { there.is_dir() } else { there.is_file() };
    if !is_ours || !is_one || left.try_lock().is_err() {
        return Ok(());
    }
    match is_folder {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

#[cfg(not(unix))]
fn remove_left(_: &Path, _: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_known() {
        for name in [".wz-aB12cd.tmp", ".wz-chain-aB12cd.tmp", ".wz-tune-000000.tmp"] {
            assert!(is_temporary(name.as_ref()), "{name}");
        }
        for name in [
            ".wz-aB12c.tmp",
            ".wz-aB12cd.tmpx",
            "wz-aB12cd.tmp",
            ".wz-x.aB12cd.tmp",
            ".wz-my notes-1.tmp",
        ] {
            assert!(!is_temporary(name.as_ref()), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_left_goes_and_what_is_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let left = [".wz-aB12cd.tmp", ".wz-tune-aB12cd.tmp/x"];
        let others = [".wz-chain-aB12cd.tmp", ".wz-aB12cd.tmp.txt", "m.tmp", ".wz-folder.tmp/x"];
        for path in left.iter().chain(&others).map(|name| dir.path().join(name)) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "half").unwrap();
        }
        std::os::unix::fs::symlink("m.tmp", dir.path().join(".wz-aaaaaa.tmp")).unwrap();
        let written = named(dir.path(), START, false).unwrap();
        let (rounded, _lock) = folder(dir.path(), ".wz-tune-").unwrap();
        assert!(left.iter().all(|name| !dir.path().join(name).exists()));
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
        assert!(dir.path().join(".wz-aaaaaa.tmp").is_symlink());
        for path in [written.path(), rounded.path()] {
            remove_left(path, path == rounded.path()).unwrap();
            assert!(path.exists(), "{}", path.display());
        }
    }

    #[test]
    fn a_name_is_claimed_where_nothing_else_spares_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        let made = || named(dir.path(), START, true).unwrap();
        rename(made(), &target, false).unwrap();
        let refused = rename(made(), &target, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        rename(made(), &target, true).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
