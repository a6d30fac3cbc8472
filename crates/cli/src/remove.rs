//! `--rm` and `--in-place`: when a source may be removed.

use crate::cache;
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;

/// Refuses sources that something else still reaches under another name.
pub(crate) fn check(source: &Path) -> Result<()> {
    let there = fs::symlink_metadata(source)?;
    if there.is_symlink() {
        bail!("a link, which is not removed; name the file that it points to, or keep the source");
    }
    if !there.is_file() {
        bail!("only a regular file can be removed; keep the source");
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&there) > 1 {
        bail!(
            "the file has another name (a hard link), so removing this one frees nothing; keep the source"
        );
    }
    cache::check(source)
}
