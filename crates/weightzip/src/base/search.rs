//! Where bases are looked for: under their names, in folders. A name is a hint, never a path.

use super::folder::files_of;
use super::found::too_deep;
use super::places::Places;
use super::{Base, MAX_DEPTH};
use crate::archive::Archive;
use crate::container::bases::BaseTensor;
use crate::container::header::{self, is_weightzip};
use crate::container::section;
use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::source::{Source, open_at_random};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most files that are looked for on behalf of one `.wz`.
const MOST_FILES: usize = 4096;

/// Most files that are loaded for one name: the right one is among those that have one of its tensors.
const MOST_COPIES: usize = 8;

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
    /// `.wz`, that have a tensor of the right BLAKE3. They are looked for beside it, in the folders of the environment variable
    /// `WEIGHTZIP_BASE_PATH`, in those below them, and in the cache of Hugging Face's hub. What isn't
    /// found is missed when it is used; the error says where it was looked for.
    ///
    /// # Errors
    /// If something is missing, and a file that might have it can't be read.
    pub fn find_for(&mut self, path: &Path) -> Result<()> {
        if self.suffices(path) {
            return Ok(());
        }
        let mut search = Search { base: std::mem::take(self), ..Search::default() };
        search.places.add_parent(path);
        search.seen.extend(std::fs::canonicalize(path));
        for found in search.locate(&wanted(path)) {
            search.trouble = search.load(&found).err().or(search.trouble.take());
        }
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
        let read = open_at_random(path).and_then(|file| Source::read_at(&file, 0, &mut start));
        if read.is_err() || !is_weightzip(&start) || start[header::LEN] != section::BASES {
            return true;
        }
        let options = DecodeOptions { base: self.clone(), ..DecodeOptions::default() };
        let file = open_at_random(path).ok();
        let archive = file.and_then(|file| Archive::open_with(file, options).ok());
        archive.is_none_or(|archive| archive.check_bases().is_ok())
    }
}

/// Loads models after those that they need.
#[derive(Default)]
struct Search {
    base: Base,
    places: Places,
    /// What was loaded, and what is never a base: without links.
    seen: HashSet<PathBuf>,
    /// Why a file that was found could not be loaded: another one may do instead.
    trouble: Option<Error>,
}

/// What is to be done with a file: to find what it needs, and then to add it.
enum Step {
    Open(PathBuf),
    Add(PathBuf, PathBuf),
}

impl Search {
    /// Loads a file, and before it what it needs, and what that needs. Takes no more stack for a long chain.
    fn load(&mut self, path: &Path) -> Result<()> {
        let mut todo = vec![Step::Open(path.to_owned())];
        while let Some(step) = todo.pop() {
            let done = match step {
                Step::Open(path) => self.open(path, &mut todo),
                Step::Add(path, canonical) => self.add(&path, canonical),
            };
            match done {
                Err(error) if todo.is_empty() => return Err(error),
                Err(error) => self.trouble = Some(error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Has a file added after what it needs, unless it was seen.
    fn open(&mut self, path: PathBuf, todo: &mut Vec<Step>) -> Result<()> {
        let cant_open = |e| in_base(&path, &Error::io("can't open", e));
        let canonical = std::fs::canonicalize(&path).map_err(cant_open)?;
        if !self.seen.insert(canonical.clone()) {
            return Ok(());
        }
        if todo.iter().filter(|step| matches!(step, Step::Add(..))).count() > MAX_DEPTH {
            return Err(in_base(&path, &too_deep()));
        }
        self.places.add_parent(&path);
        let needed = if self.base.suffices(&path) { Vec::new() } else { wanted(&path) };
        todo.push(Step::Add(path, canonical));
        let needed = self.locate(&needed);
        todo.extend(needed.into_iter().rev().map(Step::Open));
        Ok(())
    }

    fn add(&mut self, path: &Path, canonical: PathBuf) -> Result<()> {
        let file = open_at_random(path);
        let file = file.map_err(|e| in_base(path, &Error::io("can't open", e)))?;
        let added = self.base.add_file(path, file);
        added.map_err(|e| self.trouble.take().unwrap_or_else(|| in_base(path, &e)))?;
        self.base.files.push(canonical);
        Ok(())
    }

    /// The files of these names that have these tensors, as far as they are there.
    fn locate(&mut self, wanted: &[BaseTensor]) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for tensor in wanted.iter().take(MOST_FILES) {
            let name = &*tensor.file;
            if Path::new(name).file_name() != Some(name.as_ref()) {
                continue;
            }
            let plain = name.strip_suffix(".wz").unwrap_or(name);
            let names = [plain.to_owned(), format!("{plain}.wz")];
            let (mut found, mut others) = (Vec::new(), Vec::new());
            let mut kinds = Places::KINDS.iter();
            while let Some(kind) = kinds.next().filter(|_| found.is_empty()) {
                for path in self.places.files(*kind, &names) {
                    // What needs it, or was loaded before and is not enough.
                    if std::fs::canonicalize(&path).is_ok_and(|path| self.seen.contains(&path)) {
                        continue;
                    }
                    if found.len() < MOST_COPIES && self.has(&path, tensor) {
                        found.push(path);
                    } else {
                        others.push(path);
                    }
                }
            }
            if found.is_empty() {
                let looked = self.places.told(&names, &others);
                self.base.looked.get_or_insert_with(|| looked.into());
            }
            all.extend(found);
        }
        all
    }

    /// Whether a file has a tensor: names are often no more than `model.safetensors`.
    fn has(&mut self, path: &Path, tensor: &BaseTensor) -> bool {
        match has(path, tensor) {
            Ok(has) => has,
            Err(error) => {
                self.trouble = Some(in_base(path, &error));
                false
            }
        }
    }
}

/// What went wrong with a base that was named.
fn in_base(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("base {}: {error}", path.display()))
}

/// A tensor of each file that a `.wz` needs; none if it is no `.wz`. The smallest of those that the `.wz` doesn't hold unchanged,
/// since what it was made from often lies beside it under the base's name.
fn wanted(path: &Path) -> Vec<BaseTensor> {
    let archive = open_at_random(path).ok().and_then(|file| Archive::open(file).ok());
    let Some(archive) = archive else { return Vec::new() };
    let own: HashSet<_> = archive.tensors().map(|tensor| tensor.blake3()).collect();
    let rank = |tensor: &BaseTensor| (own.contains(&tensor.blake3), tensor.bytes);
    let (mut numbers, mut best) = (HashMap::new(), Vec::<BaseTensor>::new());
    for tensor in archive.bases() {
        let number = *numbers.entry(Arc::clone(&tensor.file)).or_insert(best.len());
        match best.get_mut(number) {
            Some(found) if rank(found) <= rank(tensor) => {}
            Some(found) => found.clone_from(tensor),
            None => best.push(tensor.clone()),
        }
    }
    best
}

/// Whether a file has a tensor. A `.wz` says so, also if it needs bases itself; another one is hashed.
fn has(path: &Path, tensor: &BaseTensor) -> Result<bool> {
    let cant_open = |e| Error::io("can't open", e);
    let (file, mut start) = (open_at_random(path).map_err(cant_open)?, [0; header::LEN]);
    if Source::read_at(&file, 0, &mut start).is_ok() && is_weightzip(&start) {
        let archive = Archive::open(file)?;
        let is_it =
            |t: crate::Tensor<'_, _>| t.bytes() == tensor.bytes && t.blake3() == tensor.blake3;
        return Ok(archive.tensors().any(is_it));
    }
    let mut base = Base::new();
    base.add_file(path, file)?;
    Ok(base.count_of(std::slice::from_ref(tensor))? == 1)
}
