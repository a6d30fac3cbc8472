//! `--rm` and `--in-place`: when a source may be removed.

use anyhow::{Result, bail};
use std::fs;
use std::path::Path;

/// Folders, one in the other, that programs keep shared model files in.
const CACHES: &[[&str; 2]] = &[
    [".cache", "huggingface"],
    [".cache", "modelscope"],
    [".cache", "torch"],
    [".ollama", "models"],
    ["huggingface", "hub"],
];

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
    check_cache(source)
}

/// Refuses files and folders inside a model cache.
pub(crate) fn check_cache(path: &Path) -> Result<()> {
    if in_cache(&fs::canonicalize(path)?) {
        bail!(
            "inside a model cache, where other programs look for it; write elsewhere with -o and remove the model with the cache's own tool"
        );
    }
    Ok(())
}

fn in_cache(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().map(|p| p.to_string_lossy()).collect();
    let repository = parts
        .windows(2)
        .any(|w| w[0].starts_with("models--") && (w[1] == "blobs" || w[1] == "snapshots"));
    repository || parts.windows(2).any(|w| CACHES.iter().any(|c| w[0] == c[0] && w[1] == c[1]))
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
            assert!(in_cache(Path::new(path)), "{path}");
        }
        for path in [
            "/home/a/models/x.safetensors",
            "/home/a/huggingface/x",
            "/data/models--x--y/x",
            "/snapshots/x",
        ] {
            assert!(!in_cache(Path::new(path)), "{path}");
        }
    }
}
