//! Caches of model hubs: other programs look for their files there, so they are read and never written.

use crate::escape;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders, one in the other, that programs keep shared model files in.
const CACHES: &[[&str; 2]] = &[
    [".cache", "huggingface"],
    [".cache", "modelscope"],
    [".cache", "torch"],
    [".ollama", "models"],
    ["huggingface", "hub"],
];

/// What the folders of repositories begin with in a cache of Hugging Face's hub. Each has its files'
/// bytes in `blobs`, and for each commit a folder of links to them in `snapshots`.
const REPOSITORIES: &[&str] = &["models--", "datasets--", "spaces--"];

/// Refuses to write or remove files and folders inside a cache.
pub(crate) fn check(path: &Path) -> Result<()> {
    if is_in_one(&fs::canonicalize(path)?) {
        bail!(
            "inside a model cache, where other programs look for it; write elsewhere with -o and remove the model with the cache's own tool"
        );
    }
    Ok(())
}

/// Refuses a result in a folder that is a cache, or in one.
pub(crate) fn check_target(folder: &Path) -> Result<()> {
    let real = fs::canonicalize(folder).context("can't write there")?;
    ensure!(
        !is_in_one(&real) && repository(&real).is_none() && !has_repositories(&real),
        "the result would be in a model cache, which is for other programs; name another folder with -o"
    );
    Ok(())
}

/// Whether a real path is in a cache.
fn is_in_one(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().map(|p| p.to_string_lossy()).collect();
    let repository = parts
        .windows(2)
        .any(|w| w[0].starts_with("models--") && (w[1] == "blobs" || w[1] == "snapshots"));
    repository || parts.windows(2).any(|w| CACHES.iter().any(|c| w[0] == c[0] && w[1] == c[1]))
}

/// The folder of a hub's repository that a real path is, or is in.
fn repository(path: &Path) -> Option<&Path> {
    let is_named = |name: &str| REPOSITORIES.iter().any(|start| name.starts_with(start));
    path.ancestors().find(|path| {
        path.file_name().is_some_and(|name| is_named(&name.to_string_lossy()))
            && path.join("snapshots").is_dir()
    })
}

/// Where links of a snapshot may lead to: the files of its repository, which may be on another disk. `real`: the snapshot,
/// or a folder in it.
pub(crate) fn blobs(real: &Path) -> Option<Blobs> {
    let repository = repository(real)?;
    let folder =
        real.starts_with(repository.join("snapshots")).then(|| repository.join("blobs"))?;
    let folder = fs::canonicalize(folder).ok()?;
    let is_elsewhere = !folder.starts_with(repository);
    Some(Blobs { folder, is_elsewhere })
}

/// The folder of a repository's files.
pub(crate) struct Blobs {
    folder: PathBuf,
    /// A link leads there: only what a hub has named is the repository's.
    is_elsewhere: bool,
}

/// Whether a real path is one of a repository's files.
pub(crate) fn is_blob(real: &Path, blobs: &Blobs) -> bool {
    let name = real.file_name().unwrap_or_default().as_encoded_bytes();
    let is_hash = matches!(name.len(), 40 | 64) && name.iter().all(u8::is_ascii_hexdigit);
    real.starts_with(&blobs.folder) && (is_hash || !blobs.is_elsewhere)
}

/// The snapshot that a repository's folder in a cache stands for: that of `main`, or else the only
/// one. Any other folder stands for itself.
pub(crate) fn snapshot(dir: &Path) -> Result<PathBuf> {
    let real = fs::canonicalize(dir).context("can't open")?;
    let Some(repository) = repository(&real) else {
        ensure!(!has_repositories(&real), "a cache of many models; name one of the folders in it");
        return Ok(dir.to_owned());
    };
    let snapshots = repository.join("snapshots");
    if real != repository && real != snapshots {
        return Ok(dir.to_owned());
    }
    let main = fs::read_to_string(repository.join("refs").join("main")).unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&snapshots).context("can't list its snapshots")? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == main.trim()) {
            return Ok(path);
        }
        found.extend(path.is_dir().then_some(path));
    }
    match found.as_slice() {
        [only] => Ok(only.clone()),
        _ => bail!(
            "a cache with {} snapshots and no main branch; name one of those in {}",
            found.len(),
            escape::path(&snapshots)
        ),
    }
}

/// Whether it is a cache itself.
fn has_repositories(dir: &Path) -> bool {
    let is_one = |path: PathBuf| repository(&path) == Some(path.as_path());
    fs::read_dir(dir).is_ok_and(|entries| entries.flatten().any(|entry| is_one(entry.path())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_known_by_their_folders() {
        for path in [
            "/home/a/.cache/huggingface/hub/models--x--y/blobs/1234",
            "/data/hf/models--x--y/snapshots/1234/model.safetensors",
            "/data/huggingface/hub/version.txt",
            "/home/a/.ollama/models/blobs/sha256-12",
        ] {
            assert!(is_in_one(Path::new(path)), "{path}");
        }
        for path in [
            "/home/a/models/x.safetensors",
            "/home/a/huggingface/x",
            "/data/models--x--y/x",
            "/snapshots/x",
        ] {
            assert!(!is_in_one(Path::new(path)), "{path}");
        }
    }
}
