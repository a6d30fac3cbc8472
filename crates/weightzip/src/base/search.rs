//! Where bases are looked for: under their names, in folders. A name is a hint, never a path.

use super::Base;
use super::folder::files_of;
use crate::archive::Archive;
use crate::container::bases::BaseTensor;
use crate::container::header::{self, is_weightzip};
use crate::container::section;
use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::source::Source;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders in which bases are looked for, as in PATH.
const SEARCH: &str = "WEIGHTZIP_BASE_PATH";

impl Base {
    /// Adds a model's file, or every `.safetensors` and `.wz` in a folder and those in it; before a `.wz` that needs
    /// bases these, from where [`find_for`](Self::find_for) looks for them.
    ///
    /// # Errors
    /// As [`add`](Self::add), with the file's path; and if a folder has no models.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let files = files_of(path).map_err(|e| in_base(path, &e))?;
        let mut search = Search { base: std::mem::take(self), ..Search::default() };
        let loaded = files.iter().try_for_each(|file| search.load(file));
        *self = search.base;
        loaded
    }

    /// Adds what a `.wz` needs and these models don't have: files of those names, with or without
    /// `.wz`, beside it, in the folders of the environment variable `WEIGHTZIP_BASE_PATH`, and in the cache of
    /// Hugging Face's hub, where what has the name must have a tensor of the right BLAKE3, too. What isn't
    /// found is missed when it is used.
    ///
    /// # Errors
    /// If something is missing, and a file that might have it can't be read.
    pub fn find_for(&mut self, path: &Path) -> Result<()> {
        if self.suffices(path) {
            return Ok(());
        }
        let mut search = Search { base: std::mem::take(self), ..Search::default() };
        search.folders.extend(path.parent().map(Path::to_owned));
        search.seen.extend(std::fs::canonicalize(path));
        search.find(&wanted(path));
        *self = search.base;
        match search.trouble {
            Some(trouble) if !self.suffices(path) => Err(trouble),
            _ => Ok(()),
        }
    }

    /// Whether a file needs no other bases than these; so does what is no `.wz`.
    fn suffices(&self, path: &Path) -> bool {
        // The first section tells, so that a directory needn't be read for nothing.
        let mut start = [0; header::LEN + 1];
        let read = File::open(path).and_then(|file| Source::read_at(&file, 0, &mut start));
        if read.is_err() || !is_weightzip(&start) || start[header::LEN] != section::BASES {
            return true;
        }
        let options = DecodeOptions { base: self.clone(), ..DecodeOptions::default() };
        let archive = File::open(path).ok().and_then(|file| Archive::open_with(file, options).ok());
        archive.is_none_or(|archive| archive.check_bases().is_ok())
    }
}

/// Loads models after those that they need.
#[derive(Default)]
struct Search {
    base: Base,
    /// Where to look, before the folders of the environment.
    folders: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
    /// Why a file that was found could not be loaded: another one may do instead.
    trouble: Option<Error>,
}

impl Search {
    fn load(&mut self, path: &Path) -> Result<()> {
        let cant_open = |e| in_base(path, &Error::io("can't open", e));
        let canonical = std::fs::canonicalize(path).map_err(cant_open)?;
        if !self.seen.insert(canonical.clone()) {
            return Ok(());
        }
        self.folders.extend(path.parent().map(Path::to_owned));
        if !self.base.suffices(path) {
            self.find(&wanted(path));
        }
        let file = File::open(path).map_err(cant_open)?;
        let added = self.base.add_file(path, file);
        added.map_err(|e| self.trouble.take().unwrap_or_else(|| in_base(path, &e)))?;
        self.base.files.push(canonical);
        Ok(())
    }

    /// Loads the files of these names, as far as they are there.
    fn find(&mut self, wanted: &[BaseTensor]) {
        let searched = std::env::var_os(SEARCH).unwrap_or_default();
        for tensor in wanted {
            let name = &*tensor.file;
            if Path::new(name).file_name() != Some(name.as_ref()) {
                continue;
            }
            let plain = name.strip_suffix(".wz").unwrap_or(name);
            let spellings = [plain.to_owned(), format!("{plain}.wz")];
            let folders = self.folders.iter().cloned().chain(std::env::split_paths(&searched));
            let files = folders.flat_map(|folder| spellings.clone().map(|name| folder.join(name)));
            let mut found: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
            if found.is_empty() {
                let has = |path: &PathBuf| has(path, tensor);
                found.extend(cached(&spellings).find(has));
            }
            for path in found {
                self.trouble = self.load(&path).err().or(self.trouble.take());
            }
        }
    }
}

/// What went wrong with a base that was named.
fn in_base(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("base {}: {error}", path.display()))
}

/// The smallest tensor of each file that a `.wz` needs; none if it is no `.wz`.
fn wanted(path: &Path) -> Vec<BaseTensor> {
    let archive = File::open(path).ok().and_then(|file| Archive::open(file).ok());
    let (mut numbers, mut smallest) = (HashMap::new(), Vec::<BaseTensor>::new());
    for tensor in archive.iter().flat_map(|archive| archive.bases()) {
        let number = *numbers.entry(Arc::clone(&tensor.file)).or_insert(smallest.len());
        match smallest.get_mut(number) {
            Some(found) if found.bytes <= tensor.bytes => {}
            Some(found) => found.clone_from(tensor),
            None => smallest.push(tensor.clone()),
        }
    }
    smallest
}

/// Whether a file has a tensor: names in the cache are no more than `model.safetensors`.
fn has(path: &Path, tensor: &BaseTensor) -> bool {
    let mut base = Base::new();
    let added = File::open(path).is_ok_and(|file| base.add_file(path, file).is_ok());
    added && base.count_of(std::slice::from_ref(tensor)).is_ok_and(|count| count == 1)
}

/// Files of these names in the cache of Hugging Face's hub.
fn cached(names: &[String; 2]) -> impl Iterator<Item = PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let hub = variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME")?.join("hub")))
        .or_else(|| Some(variable("HOME")?.join(".cache/huggingface/hub")));
    let models = hub.and_then(|hub| std::fs::read_dir(hub).ok()).into_iter().flatten().flatten();
    let snapshots =
        models.filter_map(|model| std::fs::read_dir(model.path().join("snapshots")).ok());
    let folders = snapshots.flatten().flatten();
    let files = folders.flat_map(|folder| names.clone().map(|name| folder.path().join(name)));
    files.filter(|path| path.is_file())
}
