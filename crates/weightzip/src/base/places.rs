//! The folders in which bases are looked for.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Folders in which bases are looked for, as in PATH.
const SEARCH: &str = "WEIGHTZIP_BASE_PATH";

/// How far below these folders is looked, and at how many files and folders.
const DEEPEST: usize = 8;
const MOST: usize = 100_000;

/// Most folders that are named to people.
const TOLD: usize = 3;

/// Folders that are looked at one kind after the other, until a base was found.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// Those of the files that need bases, and those of the environment.
    Named,
    /// Those below the ones of the environment.
    Below,
    /// The cache of Hugging Face's hub.
    Hub,
}

/// Where is looked; each place is read once.
#[derive(Default)]
pub(super) struct Places {
    /// Folders of files that need bases.
    parents: Vec<PathBuf>,
    /// The files below those of the environment, by name.
    below: Option<HashMap<OsString, Vec<PathBuf>>>,
    /// The hub's folders of revisions.
    revisions: Option<Vec<PathBuf>>,
}

impl Places {
    pub(super) const KINDS: [Place; 3] = [Place::Named, Place::Below, Place::Hub];

    /// Adds the folder of a file.
    pub(super) fn add_parent(&mut self, path: &Path) {
        let parent = path.parent().map(Path::to_owned);
        self.parents.extend(parent.filter(|parent| !self.parents.contains(parent)));
    }

    /// The files that have one of these names.
    pub(super) fn files(&mut self, place: Place, names: &[String; 2]) -> Vec<PathBuf> {
        let named = |folder: &PathBuf| names.each_ref().map(|name| folder.join(name));
        let paths: Vec<PathBuf> = match place {
            Place::Named => self.parents.iter().chain(&searched()).flat_map(named).collect(),
            Place::Below => {
                let below = self.below.get_or_insert_with(below);
                let files = names.iter().filter_map(|name| below.get(OsStr::new(name)));
                files.flatten().cloned().collect()
            }
            Place::Hub => {
                let revisions = self.revisions.get_or_insert_with(revisions);
                revisions.iter().flat_map(named).collect()
            }
        };
        paths.into_iter().filter(|path| path.is_file()).collect()
    }

    /// Where files of these names were looked for, and which of them were others.
    pub(super) fn told(&self, names: &[String; 2], others: &[PathBuf]) -> String {
        let some = |paths: &[PathBuf]| {
            let shown = paths.iter().take(TOLD).map(|path| match path.as_os_str().is_empty() {
                true => ".".to_owned(),
                false => path.display().to_string(),
            });
            let shown = shown.collect::<Vec<_>>().join(", ");
            let more = paths.len().saturating_sub(TOLD);
            if more > 0 { format!("{shown} and {more} more") } else { shown }
        };
        let searched = match searched() {
            none if none.is_empty() => format!("{SEARCH} (not set)"),
            folders => format!("{SEARCH} ({})", some(&folders)),
        };
        let hub = hub().map(|hub| format!(" and the hub's cache ({})", hub.display()));
        let [plain, packed] = names;
        let places = format!("{}, {searched}{}", some(&self.parents), hub.unwrap_or_default());
        let others = match others {
            [] => String::new(),
            others => format!("; other models of this name: {}", some(others)),
        };
        format!("looked for {plain} and {packed} in {places}{others}")
    }
}

/// The folders of the environment.
fn searched() -> Vec<PathBuf> {
    let searched = std::env::var_os(SEARCH).unwrap_or_default();
    std::env::split_paths(&searched).filter(|folder| !folder.as_os_str().is_empty()).collect()
}

/// The files below them.
fn below() -> HashMap<OsString, Vec<PathBuf>> {
    let mut files = HashMap::<_, Vec<_>>::new();
    let folders = searched();
    let walk = folders.iter().flat_map(|folder| {
        let walk = WalkDir::new(folder).min_depth(2).max_depth(DEEPEST).follow_links(true);
        walk.sort_by_file_name().into_iter()
    });
    for entry in walk.take(MOST).flatten().filter(|entry| entry.file_type().is_file()) {
        files.entry(entry.file_name().to_owned()).or_default().push(entry.into_path());
    }
    files
}

/// The cache of Hugging Face's hub.
fn hub() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME")?.join("hub")))
        .or_else(|| Some(variable("HOME")?.join(".cache/huggingface/hub")))
}

/// Its folders of revisions of models.
fn revisions() -> Vec<PathBuf> {
    let models = hub().and_then(|hub| std::fs::read_dir(hub).ok()).into_iter().flatten().flatten();
    let snapshots =
        models.filter_map(|model| std::fs::read_dir(model.path().join("snapshots")).ok());
    snapshots.flatten().flatten().map(|folder| folder.path()).take(MOST).collect()
}
