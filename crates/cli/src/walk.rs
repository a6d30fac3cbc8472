//! The files and folders of a folder, each looked at before anything is opened.

use crate::cache::{self, Blobs};
use anyhow::{Context, Result, anyhow};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;
use weightzip::output::is_temporary;

/// A file or folder under the root.
pub(crate) struct Entry {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its place under the root.
    pub(crate) relative: PathBuf,
    /// Of what a link points to.
    pub(crate) metadata: Metadata,
    /// Where it really is.
    pub(crate) real: PathBuf,
    /// How it is reached.
    pub(crate) through: Through,
}

/// How a walk comes to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// By its own name.
    Name,
    /// By a link to it.
    Link,
    /// By a link to a folder that it is in.
    FolderLink,
}

/// What is in a folder.
pub(crate) struct Tree {
    /// Folders, each before what is in it; the root comes first.
    pub(crate) folders: Vec<Entry>,
    /// Regular files, by name.
    pub(crate) files: Vec<Entry>,
    /// What can't be taken along, and why.
    pub(crate) refused: Vec<(PathBuf, anyhow::Error)>,
}

/// Lists `root`. Links are followed as long as they stay inside; those of a hub's snapshot may also
/// lead to the files of its repository.
pub(crate) fn walk(root: &Path) -> Result<Tree> {
    let real_root = fs::canonicalize(root).context("can't open")?;
    let blobs = cache::blobs(&real_root);
    let mut tree = Tree { folders: Vec::new(), files: Vec::new(), refused: Vec::new() };
    let mut entries = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
    while let Some(found) = entries.next() {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                tree.refused.push((path, reason(error)));
                continue;
            }
        };
        // Those of other runs, or what is left of them.
        if found.depth() > 0 && is_temporary(found.file_name()) {
            if found.file_type().is_dir() {
                entries.skip_current_dir();
            }
            continue;
        }
        match look(&found, root, &real_root, blobs.as_ref()) {
            Ok(entry) if entry.metadata.is_dir() => tree.folders.push(entry),
            Ok(entry) => tree.files.push(entry),
            Err(error) => {
                if found.file_type().is_dir() {
                    entries.skip_current_dir();
                }
                tree.refused.push((found.into_path(), error));
            }
        }
    }
    Ok(tree)
}

fn look(
    found: &walkdir::DirEntry,
    root: &Path,
    real_root: &Path,
    blobs: Option<&Blobs>,
) -> Result<Entry> {
    let path = found.path();
    let metadata = found.metadata()?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(anyhow!("a {}, not a regular file", special(&metadata)));
    }
    let relative = path.strip_prefix(root)?.to_owned();
    let real = fs::canonicalize(path)?;
    let is_blob = metadata.is_file() && blobs.is_some_and(|blobs| cache::is_blob(&real, blobs));
    if !real.starts_with(real_root) && !is_blob {
        return Err(anyhow!(
            "a link that leaves the folder; copy what it points to, or remove the link"
        ));
    }
    let through = match found.path_is_symlink() {
        true if !relative.as_os_str().is_empty() => Through::Link,
        _ if real == real_root.join(&relative) => Through::Name,
        _ => Through::FolderLink,
    };
    Ok(Entry { path: path.to_owned(), relative, metadata, real, through })
}

fn reason(error: walkdir::Error) -> anyhow::Error {
    if error.loop_ancestor().is_some() {
        return anyhow!("a link to a folder that it is in; remove the link");
    }
    match error.into_io_error() {
        Some(e) if e.kind() == std::io::ErrorKind::NotFound => {
            anyhow!("a link to nothing; remove it")
        }
        Some(e) => anyhow::Error::from(e).context("can't open"),
        None => anyhow!("can't be listed"),
    }
}

#[cfg(unix)]
fn special(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(not(unix))]
fn special(_: &Metadata) -> &'static str {
    "special file"
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_inside_and_only_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        fs::write(root.join("a/file"), "x").unwrap();
        symlink("a/file", root.join("link")).unwrap();
        symlink("a", root.join("linked")).unwrap();
        symlink("..", root.join("a/b/loop")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("nothing", root.join("gone")).unwrap();
        let tree = walk(&root).unwrap();
        let files: Vec<_> =
            tree.files.iter().map(|f| (f.relative.to_str().unwrap(), f.through)).collect();
        assert_eq!(
            files,
            [
                ("a/file", Through::Name),
                ("link", Through::Link),
                ("linked/file", Through::FolderLink)
            ]
        );
        let refused: Vec<_> = tree
            .refused
            .iter()
            .map(|(p, e)| (p.strip_prefix(&root).unwrap().to_str().unwrap(), e.to_string()))
            .collect();
        for (name, why) in [
            ("a/b/loop", "it is in"),
            ("linked/b/loop", "it is in"),
            ("out", "leaves"),
            ("up", "leaves"),
            ("gone", "nothing"),
        ] {
            assert!(
                refused.iter().any(|(p, e)| *p == name && e.contains(why)),
                "{name}: {refused:?}"
            );
        }
        assert_eq!(refused.len(), 5);
    }
}
