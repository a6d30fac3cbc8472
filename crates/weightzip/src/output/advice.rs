//! What a file has besides its bytes: times, owner, mode, attributes. A system that refuses one of them makes the result no
//! worse, so it is told once, and the work goes on.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes, Metadata};
use std::io;
use std::sync::{Mutex, PoisonError};

/// What was refused, by what it is, each until it is told.
static REFUSED: Mutex<BTreeMap<&str, Option<String>>> = Mutex::new(BTreeMap::new());

/// What systems refused since this was last asked, in lines for people; each kind of thing once.
///
/// Times, owner, mode, attributes and the sync of a folder are advice: results have all their bytes without them.
pub fn warnings() -> Vec<String> {
    let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    refused.values_mut().filter_map(Option::take).collect()
}

/// Notes that something was refused.
pub(super) fn take(what: &'static str, done: io::Result<()>) {
    let Err(error) = done else { return };
    let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    refused
        .entry(what)
        .or_insert_with(|| Some(format!("can't {what}: {error}; the bytes are all there")));
}

/// Gives a file or folder the modification time of another one.
pub fn keep_times(file: &File, like: &Metadata) {
    let modified = like.modified();
    let set = modified.and_then(|time| file.set_times(FileTimes::new().set_modified(time)));
    take("set the modification time", set);
}

/// Gives a file or folder the owner, the group and the mode of another one, and the attributes and access list of `source`.
///
/// Of the mode only what says who reads, writes and executes: never setuid, setgid and sticky. Where the group or
/// the access list can't be kept, nobody gets more than both the group and others had.
#[cfg(unix)]
pub fn keep_rights(file: &File, like: &Metadata, source: Option<&File>) {
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    // Attributes take write access, which may go with the owner and the mode.
    source.inspect(|source| attributes::keep(source.as_fd(), file.as_fd()));
    let owned = keep_owner(file, like);
    let listed = source.is_none_or(|source| attributes::keep_access_list(source, file, owned));
    let mode = if owned && listed { like.mode() & 0o777 } else { least(like.mode()) };
    if file.metadata().is_ok_and(|there| there.mode() & 0o7777 == mode) {
        return;
    }
    take("set the mode", file.set_permissions(std::fs::Permissions::from_mode(mode)));
}

/// Other systems have no owners, and of the mode whether a file can be written.
#[cfg(not(unix))]
pub fn keep_rights(file: &File, like: &Metadata, _source: Option<&File>) {
    take("set the mode", file.set_permissions(like.permissions()));
}

/// Gives a file the owner and the group of another one; whether it has the group then.
#[cfg(unix)]
fn keep_owner(file: &File, like: &Metadata) -> bool {
    use rustix::fs::{Gid, Uid, fchown};
    use std::os::unix::fs::MetadataExt;
    let Ok(there) = file.metadata() else { return false };
    if there.uid() != like.uid() {
        let given = fchown(file, Some(Uid::from_raw(like.uid())), None);
        // Only root can, and nobody else expects it.
        if rustix::process::geteuid().is_root() {
            take("set the owner", given.map_err(Into::into));
        }
    }
    if there.gid() == like.gid() {
        return true;
    }
    let given = fchown(file, None, Some(Gid::from_raw(like.gid())));
    take("set the group", given.map_err(Into::into));
    given.is_ok()
}

/// The mode when the group is another one: group and others get what both of them had.
#[cfg(unix)]
fn least(mode: u32) -> u32 {
    let both = (mode >> 3) & mode & 0o007;
    mode & 0o700 | both << 3 | both
}

/// Extended attributes.
#[cfg(target_os = "linux")]
mod attributes {
    use super::take;
    use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
    use rustix::io::{Errno, Result};
    use std::fs::File;
    use std::os::fd::BorrowedFd;

    /// The most bytes of a list of names, and of a value.
    const LARGEST: usize = 64 << 10;

    const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

    /// Copies what users have attached. What the system has attached, such as capabilities, is never copied.
    pub(super) fn keep(source: BorrowedFd<'_>, file: BorrowedFd<'_>) {
        let mut names = vec![0; LARGEST];
        let Ok(len) = flistxattr(source, names.as_mut_slice()) else { return };
        let names = names[..len].split(|&byte| byte == 0);
        for name in names.filter(|name| name.starts_with(b"user.")) {
            let copied = copy(source, file, name);
            take("copy an extended attribute", copied.map_err(Into::into));
        }
    }

    /// Copies who else has access; false if that is lost.
    pub(super) fn keep_access_list(source: &File, file: &File, owned: bool) -> bool {
        let mut none = [0; LARGEST];
        if fgetxattr(source, ACCESS_LIST, none.as_mut_slice()).is_err() {
            return true;
        }
        let copied = match owned {
            true => {
                copy(std::os::fd::AsFd::as_fd(source), std::os::fd::AsFd::as_fd(file), ACCESS_LIST)
            }
            false => Err(Errno::PERM),
        };
        take("copy the access list", copied.map_err(Into::into));
        copied.is_ok()
    }

    fn copy(source: BorrowedFd<'_>, file: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let mut value = vec![0; LARGEST];
        let len = fgetxattr(source, name, value.as_mut_slice())?;
        fsetxattr(file, name, &value[..len], XattrFlags::empty())
    }
}

/// Other systems have other attributes.
#[cfg(all(unix, not(target_os = "linux")))]
mod attributes {
    use std::fs::File;
    use std::os::fd::BorrowedFd;

    pub(super) fn keep(_: BorrowedFd<'_>, _: BorrowedFd<'_>) {}

    pub(super) fn keep_access_list(_: &File, _: &File, _: bool) -> bool {
        true
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn another_group_gets_what_both_had() {
        for (mode, cut) in
            [(0o644, 0o644), (0o640, 0o600), (0o604, 0o600), (0o775, 0o755), (0o4755, 0o755)]
        {
            assert_eq!(least(mode), cut, "{mode:o}");
        }
    }

    #[test]
    fn what_is_refused_is_told_once() {
        let refused = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        take("do a thing of this test", refused());
        take("do a thing of this test", refused());
        let told = warnings().into_iter().filter(|line| line.contains("of this test")).count();
        assert_eq!(told, 1);
        take("do a thing of this test", refused());
        assert!(warnings().iter().all(|line| !line.contains("of this test")));
    }
}
