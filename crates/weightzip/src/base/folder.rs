//! The models in a folder.

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// What model files are called.
const SUFFIXES: [&str; 2] = ["safetensors", "wz"];

/// A file itself; of a folder, the models in it and in the folders in it, in order of their paths. Links are
/// followed.
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let files = models_in(path).map_err(|e| Error::io("can't read the folder", e))?;
    if files.is_empty() {
        return Err(Error::argument(
            "no models in this folder: their names end in .safetensors or .wz",
        ));
    }
    Ok(files)
}

fn models_in(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders, mut seen) = (Vec::new(), vec![root.to_owned()], HashSet::new());
    while let Some(folder) = folders.pop() {
        // A link may lead to a folder that it is in.
        if !seen.insert(folder.canonicalize()?) {
            continue;
        }
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if is_unfinished(&path) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if is_model(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Whether this is what a writer of ours is still at work on, or was when it was killed.
fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".wz-"))
}

fn is_model(path: &Path) -> bool {
    // What a link to nothing stands for would be missed: opening it says so.
    path.extension().is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix == *known))
        && path.metadata().map_or(true, |metadata| metadata.is_file())
}
