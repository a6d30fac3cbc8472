//! The folder: which files are steps, who may change them, and what a crash has left.

use super::{Step, graph};
use crate::archive::Archive;
use crate::container::header::{LEN, is_weightzip};
use crate::error::{Error, Result};
use crate::output::SUFFIX;
use crate::source::Source;
use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// What the names of unfinished steps begin with. Nothing but a chain makes such files, and none without the lock.
pub(super) const PREFIX: &str = ".wz-chain-";

/// The step of a checkpoint: the last number in its file's name, before the suffix, and that of what is
/// near-lossless.
///
/// ```
/// use weightzip::chain::step_of;
/// assert_eq!(step_of("run3-step-00100.safetensors")?, 100);
/// assert!(step_of("model.safetensors").is_err());
/// # Ok::<(), weightzip::Error>(())
/// ```
///
/// # Errors
/// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is none, it is beyond 64 bits, or the name is a path.
pub fn step_of(name: &str) -> Result<u64> {
    let path = Path::new(name);
    if path.file_name() != Some(name.as_ref()) {
        return Err(Error::argument(format!("{name:?} is not the name of a file")));
    }
    let path = if path.extension().is_some_and(|e| e == "lossy") {
        path.with_extension("")
    } else {
        path.to_owned()
    };
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut runs = stem.rsplit(|c: char| !c.is_ascii_digit());
    let digits = runs.find(|run| !run.is_empty()).ok_or_else(|| {
        Error::argument(format!(
            "{name} has no step number in its name; name it like step-00100.safetensors"
        ))
    })?;
    let number = digits.parse();
    number.map_err(|_| Error::argument(format!("the step number of {name} is beyond 64 bits")))
}

/// Reads what a folder has: its steps, in order.
pub(super) fn read(folder: &Path) -> Result<Vec<Step>> {
    let cant_read = |e| Error::io(format!("can't read {}", folder.display()), e);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(cant_read)? {
        let path = entry.map_err(cant_read)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(".wz").and_then(|name| step_of(name).ok());
        if let Some(number) = number
            && let Some(step) = look(number, &path).map_err(|e| in_file(&path, &e))?
        {
            found.push(step);
        }
    }
    found.sort_by(|(a, _), (b, _)| (a.number, &a.path).cmp(&(b.number, &b.path)));
    let (mut steps, names): (Vec<Step>, Vec<Vec<String>>) = found.into_iter().unzip();
    let twice = steps.windows(2).find(|pair| pair[0].number == pair[1].number);
    if let Some([one, other]) = twice {
        let (number, one, other) = (one.number, one.name(), other.name());
        return Err(Error::argument(format!(
            "{one}.wz and {other}.wz are both step {number}; move one of them to another folder"
        )));
    }
    link(&mut steps, names)?;
    Ok(steps)
}

/// A step that isn't linked, and the names of what it is coded against; nothing if this is no `.wz`.
fn look(number: u64, path: &Path) -> Result<Option<(Step, Vec<String>)>> {
    let file = open_regular(path).map_err(|e| Error::io("can't open", e))?;
    let Some(file) = file else { return Ok(None) };
    let mut start = [0; LEN];
    if Source::read_at(&file, 0, &mut start).is_err() || !is_weightzip(&start) {
        return Ok(None);
    }
    let archive = Archive::open(file)?;
    let mut names: Vec<String> = Vec::new();
    for tensor in archive.bases() {
        if names.iter().all(|name| **name != *tensor.file) {
            names.push(tensor.file.to_string());
        }
    }
    let (bases, missing, info) = (Vec::new(), Vec::new(), archive.info().clone());
    Ok(Some((Step { number, path: path.to_owned(), bases, missing, depth: 0, info }, names)))
}

/// Opens a regular file; nothing if it is none, or gone meanwhile.
fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let there = fs::metadata(path);
    let opened = there.and_then(|there| there.is_file().then(|| File::open(path)).transpose());
    match opened {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened,
    }
}

/// Finds which steps have these names, and how deep each one is.
fn link(steps: &mut [Step], names: Vec<Vec<String>>) -> Result<()> {
    let places = steps.iter().enumerate().map(|(i, step)| (step.name().to_owned(), i));
    let places: HashMap<String, usize> = places.collect();
    let mut bases = vec![Vec::new(); steps.len()];
    for (i, names) in names.into_iter().enumerate() {
        for name in names {
            match places.get(name.strip_suffix(".wz").unwrap_or(&name)) {
                Some(&base) if base != i => bases[i].push(base),
                _ => steps[i].missing.push(name),
            }
        }
        bases[i].sort_unstable();
        bases[i].dedup();
    }
    let depths = graph::depths(&bases);
    let depths = depths.ok_or_else(|| Error::corrupt("steps of this store need each other"))?;
    for (i, depth) in depths.into_iter().enumerate() {
        let numbers = bases[i].iter().map(|&base| steps[base].number).collect();
        (steps[i].bases, steps[i].depth) = (numbers, depth);
    }
    Ok(())
}

/// An error about a file.
pub(super) fn in_file(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Held by whoever changes a store.
pub(super) struct Lock {
    /// The folder. Nothing where the system has no locks: then two that change a store at once are not kept apart.
    held: Option<File>,
}

impl Lock {
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let cant_lock = |e| Error::io(format!("can't lock {}", folder.display()), e);
        if !cfg!(unix) {
            return Ok(Self { held: None });
        }
        let file = File::open(folder).map_err(cant_lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { held: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(cant_lock(io::Error::new(
                io::ErrorKind::WouldBlock,
                "another process is changing this store; try again when it is done",
            ))),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                Ok(Self { held: None })
            }
            Err(TryLockError::Error(e)) => Err(cant_lock(e)),
        }
    }

    /// Removes what a crash has left: while this is held, nobody is writing it any more.
    pub(super) fn clean(&self, folder: &Path) {
        let entries = fs::read_dir(folder).ok().filter(|_| self.held.is_some());
        let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        for leftover in files.filter(is_leftover) {
            // What can't be removed is in nobody's way.
            let _ = fs::remove_file(leftover);
        }
    }
}

fn is_leftover(path: &PathBuf) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let random = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == 6 && random.bytes().all(|b| b.is_ascii_alphanumeric())
    }) && fs::symlink_metadata(path).is_ok_and(|there| there.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_before_the_suffix_is_the_step() {
        for (name, step) in [
            ("step-00100.safetensors", 100),
            ("run3-epoch-7.bin", 7),
            ("12", 12),
            ("v2.5-7-final.pt2", 7),
            ("model-18446744073709551615.x", u64::MAX),
            ("Schritt9é.safetensors", 9),
            ("step-3.pt2.lossy", 3),
        ] {
            assert_eq!(step_of(name).unwrap(), step, "{name}");
        }
        for name in
            ["model.safetensors", "", "..", "a/step-1.x", "model.pt2", "a-18446744073709551616"]
        {
            assert_eq!(step_of(name).unwrap_err().kind(), crate::Kind::InvalidArgument, "{name}");
        }
    }

    #[test]
    fn only_its_own_leftovers_are_cleaned_and_only_by_who_has_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let others = [".wz-abc123.tmp", ".wz-chain-abc.tmp", ".wz-chain-abc12-.tmp", "x.tmp"];
        for name in others.iter().chain(&[".wz-chain-aB12cd.tmp"]) {
            fs::write(dir.path().join(name), "half").unwrap();
        }
        Lock { held: None }.clean(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
        let lock = Lock::take(dir.path()).unwrap();
        lock.clean(dir.path());
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        if cfg!(unix) {
            let refused = Lock::take(dir.path()).map(drop).unwrap_err();
            assert!(refused.to_string().contains("another process"), "{refused}");
        }
    }
}
