//! Free space, checked before the work starts.

use crate::{escape, human};
use anyhow::{Result, bail};
use std::path::Path;

/// Bytes that can still be written to `folder`'s file system, where the system says so. File systems that don't know
/// say 0; one that is full says it at the first write.
#[cfg(unix)]
fn free(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize).filter(|&free| free > 0)
}

/// Unknown elsewhere: a full disk shows when it is full.
#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

/// Fails if what is needed doesn't fit. `needed(false)` is the worst case; only if that doesn't fit
/// is `needed(true)`, what is likely, asked for.
pub(crate) fn check(folder: &Path, needed: impl Fn(bool) -> u64) -> Result<()> {
    check_for(folder, "-o", needed)
}

/// [`check`] for a folder that another option than `-o` names.
pub(crate) fn check_for(folder: &Path, option: &str, needed: impl Fn(bool) -> u64) -> Result<()> {
    compare(folder, option, free(folder), needed)
}

fn compare(
    folder: &Path,
    option: &str,
    free: Option<u64>,
    needed: impl Fn(bool) -> u64,
) -> Result<()> {
    let Some(free) = free.filter(|free| *free < needed(false)) else { return Ok(()) };
    let likely = needed(true);
    if free < likely {
        bail!(
            "not enough space in {}: about {} needed, {} free; free some or write elsewhere with {option}",
            escape::path(folder),
            human::bytes(likely),
            human::bytes(free)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_said_with_both_sizes() {
        let dir = Path::new("models");
        assert!(compare(dir, "-o", Some(10), |_| 10).is_ok());
        assert!(compare(dir, "-o", None, |_| 10).is_ok());
        assert!(compare(dir, "-o", Some(7), |likely| if likely { 6 } else { 10 }).is_ok());
        let error = compare(dir, "-o", Some(1_500_000), |_| 2_000_000_000).unwrap_err().to_string();
        assert!(error.contains("2.00 GB needed, 1.50 MB free"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn this_system_says_what_is_free() {
        assert!(free(Path::new(".")).is_some());
    }
}
