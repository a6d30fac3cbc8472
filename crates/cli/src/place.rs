//! `-o FOLDER`: results go into it, under the names that they get when none is given.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Whether a name stands for a folder: one is there, or it ends in a slash.
pub(crate) fn is_folder(out: &Path) -> bool {
    let ends_in_slash = out.to_string_lossy().ends_with(std::path::is_separator);
    ends_in_slash || out.is_dir()
}

/// The place of `name` in a folder, which is made if there is none.
pub(crate) fn in_folder(folder: &Path, name: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).context("can't make the folder")?;
    Ok(folder.join(name))
}

/// A file's name for what a tensor holds: a name from a file is no path.
pub(crate) fn of_tensor(tensor: &str) -> PathBuf {
    /// Bytes of a name, for which any file system has room.
    const LONGEST: usize = 200;
    let safe = |c: char| if c.is_alphanumeric() || "._-+".contains(c) { c } else { '_' };
    let mut name: String = tensor.chars().map(safe).collect();
    while name.len() > LONGEST {
        name.pop();
    }
    // Neither hidden nor a folder.
    if name.starts_with('.') || name.is_empty() {
        name.insert(0, '_');
    }
    PathBuf::from(name + ".bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_makes_a_folder() {
        assert!(is_folder(Path::new("nowhere/")) && is_folder(Path::new(".")));
        assert!(!is_folder(Path::new("nowhere")));
    }

    #[test]
    fn names_of_tensors_are_no_paths() {
        for (name, file) in [
            ("model.0.weight", "model.0.weight.bin"),
            ("../../etc/passwd", "_.._.._etc_passwd.bin"),
            ("", "_.bin"),
            ("a\u{1b}[31m", "a__31m.bin"),
        ] {
            assert_eq!(of_tensor(name), Path::new(file));
        }
        assert!(of_tensor(&"型".repeat(10_000)).as_os_str().len() < 210);
    }
}
