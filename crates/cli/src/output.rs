//! What is written where, and what is never replaced; the library does it safely.

use crate::escape;
use anyhow::{Result, anyhow, bail};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use weightzip::Kind;

/// What the names of unfinished files begin with.
const PREFIX: &str = ".wz-";

/// A file that gets its name only when it is complete.
pub(crate) struct Output {
    output: weightzip::output::Output,
    target: PathBuf,
    force: bool,
}

impl Output {
    /// Starts `target`. With `private`, nobody else can read it before it is sealed.
    pub(crate) fn create(target: &Path, force: bool, private: bool) -> Result<Self> {
        check_target(target, force)?;
        let output = weightzip::output::Output::create(target, PREFIX, private)?;
        Ok(Self { output, target: target.to_owned(), force })
    }

    /// Gives the file its name.
    pub(crate) fn commit(self) -> Result<()> {
        self.output.commit(self.force).map_err(|e| match e.kind() {
            Kind::InvalidArgument => anyhow!(exists(&self.target)),
            _ => e.into(),
        })
    }
}

impl Deref for Output {
    type Target = weightzip::output::Output;

    fn deref(&self) -> &Self::Target {
        &self.output
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_appears_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        let output = Output::create(&target, false, true).unwrap();
        fs::write(&target, "other").unwrap();
        assert!(output.commit().unwrap_err().to_string().contains("-f replaces it"));
        assert_eq!(fs::read(&target).unwrap(), b"other");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
