//! The mark of a store: a file in its folder that names its steps. What it doesn't name is someone else's.

use super::lock::PREFIX;
use crate::container::directory::Hash;
use crate::error::{Error, Result};
use crate::output::Output;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// The name of the file that marks a folder as a store.
pub const MARK: &str = "wz-chain.json";

/// The only version so far.
const VERSION: u32 = 1;

/// Which files of a folder are steps of its store.
#[derive(Serialize, Deserialize)]
pub(super) struct Mark {
    /// Of this file's layout.
    version: u32,
    /// Names of files, and the BLAKE3 of what each one restores, in hex: a file that someone put in a step's place
    /// is no step.
    steps: BTreeMap<String, String>,
}

impl Mark {
    /// Of a store without steps.
    pub(super) fn new() -> Self {
        Self { version: VERSION, steps: BTreeMap::new() }
    }

    /// Reads a folder's mark, if it has one.
    pub(super) fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MARK);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format!("can't read {}", path.display()), e)),
        };
        let path = path.display();
        let mark: Self = serde_json::from_slice(&bytes).map_err(|e| {
            Error::corrupt(format!(
                "{path} is damaged: {e}; remove it, then name the store's steps with wz chain adopt"
            ))
        })?;
        match mark.version {
            VERSION => Ok(Some(mark)),
            _ => Err(Error::incompatible(format!("{path} is of a later version of weightzip"))),
        }
    }

    /// Whether a file of this name is a step, if it restores what it should.
    pub(super) fn names(&self, name: &str) -> bool {
        self.steps.contains_key(name)
    }

    /// Whether a file of this name that restores this is a step.
    pub(super) fn has(&self, name: &str, blake3: &Hash) -> bool {
        self.steps.get(name).is_some_and(|known| *known == hex(blake3))
    }

    /// Makes a step of a file.
    pub(super) fn add(&mut self, name: &str, blake3: &Hash) {
        self.steps.insert(name.to_owned(), hex(blake3));
    }

    /// Writes the mark: to disk, and as a whole. Names without a file are left out.
    pub(super) fn save(&mut self, folder: &Path, but: Option<&str>) -> Result<()> {
        let is_there = |name: &str| fs::symlink_metadata(folder.join(name)).is_ok();
        self.steps.retain(|name, _| is_there(name) || but == Some(name));
        let output = Output::create(&folder.join(MARK), PREFIX, false)?;
        let cant_write = |e| Error::io(format!("can't write {MARK}"), e);
        let text = serde_json::to_vec_pretty(self).map_err(|e| cant_write(e.into()))?;
        output.file()?.write_all(&[&text[..], b"\n"].concat()).map_err(cant_write)?;
        output.seal(None)?;
        output.commit(true)
    }
}

fn hex(hash: &Hash) -> String {
    blake3::Hash::from(*hash).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn a_mark_comes_back_without_names_that_have_no_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Mark::load(dir.path()).unwrap().is_none());
        let mut mark = Mark::new();
        for name in ["there-1.wz", "gone-2.wz", "line\nbreak-3.wz", "soon-4.wz"] {
            mark.add(name, &[7; 32]);
        }
        fs::write(dir.path().join("there-1.wz"), "").unwrap();
        fs::write(dir.path().join("line\nbreak-3.wz"), "").unwrap();
        mark.save(dir.path(), Some("soon-4.wz")).unwrap();
        let read = Mark::load(dir.path()).unwrap().unwrap();
        assert_eq!(
            read.steps.keys().collect::<Vec<_>>(),
            ["line\nbreak-3.wz", "soon-4.wz", "there-1.wz"]
        );
        assert!(read.has("there-1.wz", &[7; 32]) && !read.has("there-1.wz", &[8; 32]));
        assert!(!read.names("gone-2.wz"));
    }

    #[test]
    fn a_damaged_or_later_mark_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        for (text, kind) in [
            ("", Kind::Corruption),
            ("{}", Kind::Corruption),
            (r#"{"version": 2, "steps": {}}"#, Kind::Compatibility),
        ] {
            fs::write(dir.path().join(MARK), text).unwrap();
            let error = Mark::load(dir.path()).map(drop).unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(MARK), "{error}");
        }
    }
}
