//! The folder: which files are steps, what they are coded against, and what else needs them.

use super::mark::Mark;
use super::{Damaged, Step, graph};
use crate::archive::Archive;
use crate::container::bases::BaseTensor;
use crate::container::directory::Hash;
use crate::container::footer::Info;
use crate::container::header::{LEN, is_weightzip};
use crate::container::stream::Stream;
use crate::error::{Error, Result};
use crate::options::Limits;
use crate::source::Source;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

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

/// What a folder has.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// The steps, in order.
    pub(super) steps: Vec<Step>,
    /// Steps that can't be read.
    pub(super) damaged: Vec<Damaged>,
    /// What else can't be restored without tensors that steps may have.
    pub(super) dependents: Vec<Dependent>,
}

/// A file that needs tensors, but doesn't say which step has them.
#[derive(Clone, Debug)]
pub(super) struct Dependent {
    pub(super) path: PathBuf,
    /// If it is a step: earlier ones alone may be its bases.
    pub(super) number: Option<u64>,
    /// The BLAKE3 of each tensor; `None` if it can't be read, and so may need any.
    pub(super) tensors: Option<Vec<Hash>>,
}

/// Reads what a folder has. Steps are the files that its mark has; without a mark, each `.wz` with a number.
pub(super) fn read(folder: &Path, mark: Option<&Mark>) -> Result<Contents> {
    let cant_read = |e| Error::io(format!("can't read {}", folder.display()), e);
    let (mut contents, mut found) = (Contents::default(), Vec::new());
    for entry in fs::read_dir(folder).map_err(cant_read)? {
        let path = entry.map_err(cant_read)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(".wz").and_then(|name| step_of(name).ok());
        let number = number.filter(|_| mark.is_none_or(|mark| mark.names(name)));
        match look(&path, number.is_some() && mark.is_some()) {
            Look::Other => {}
            Look::Archive(info, bases) => {
                let is_step = mark.is_none_or(|mark| mark.has(name, &info.blake3));
                match number.filter(|_| is_step) {
                    Some(number) => found.push((Step::new(number, path, *info), bases)),
                    None if bases.is_empty() => {}
                    None => contents.dependents.push(Dependent::new(path, None, &bases)),
                }
            }
            Look::Unreadable(why, tensors) => {
                if let Some(number) = number {
                    contents.damaged.push(Damaged::new(number, &path, &why));
                }
                contents.dependents.push(Dependent { path, number, tensors });
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| (a.number, &a.path).cmp(&(b.number, &b.path)));
    contents.damaged.sort_by_key(|damaged| damaged.number);
    let (steps, bases): (Vec<Step>, Vec<Vec<BaseTensor>>) = found.into_iter().unzip();
    contents.steps = steps;
    check_numbers(&contents)?;
    contents.link(&bases)?;
    Ok(contents)
}

/// Fails if a number is that of two steps.
fn check_numbers(contents: &Contents) -> Result<()> {
    let whole = contents.steps.iter().map(|step| (step.number, &step.path));
    let damaged = contents.damaged.iter().map(|step| (step.number, &step.path));
    let mut all: Vec<_> = whole.chain(damaged).collect();
    all.sort();
    let twice = all.windows(2).find(|pair| pair[0].0 == pair[1].0);
    let Some(&[(number, one), (_, other)]) = twice else { return Ok(()) };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(Error::argument(format!(
        "{} and {} are both step {number}; move one of them to another folder",
        name(one),
        name(other)
    )))
}

/// What a file is.
enum Look {
    /// No `.wz`.
    Other,
    /// A `.wz` that says this of itself, and what it is coded against.
    Archive(Box<Info>, Vec<BaseTensor>),
    /// A `.wz` that can't be read; what its first section says it needs, if that can be.
    Unreadable(Error, Option<Vec<Hash>>),
}

/// Looks at a file, which is a `.wz` if somebody said so, or its first bytes do.
fn look(path: &Path, is_named: bool) -> Look {
    let file = match open_regular(path) {
        Ok(Some(file)) => file,
        Ok(None) => return Look::Other,
        Err(e) if is_named || path.extension().is_some_and(|e| e == "wz") => {
            return Look::Unreadable(Error::io("can't open", e), None);
        }
        Err(_) => return Look::Other,
    };
    let mut start = [0; LEN];
    let is_archive = Source::read_at(&file, 0, &mut start).is_ok() && is_weightzip(&start);
    if !is_archive && !is_named {
        return Look::Other;
    }
    match Archive::open(&file) {
        Ok(archive) => Look::Archive(Box::new(archive.info().clone()), archive.bases().to_vec()),
        Err(e) => Look::Unreadable(e, needed_by(&file).ok()),
    }
}

/// The BLAKE3 of each tensor that a file is coded against, as its first section has it.
fn needed_by(file: &File) -> Result<Vec<Hash>> {
    let mut stream = Stream::new(file, Limits::default())?;
    stream.next()?;
    Ok(stream.into_bases().iter().map(|tensor| tensor.blake3).collect())
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

impl Dependent {
    fn new(path: PathBuf, number: Option<u64>, bases: &[BaseTensor]) -> Self {
        let tensors = Some(bases.iter().map(|tensor| tensor.blake3).collect());
        Self { path, number, tensors }
    }
}

impl Contents {
    /// Finds which steps each one is coded against, by their names, and how deep it is.
    fn link(&mut self, bases: &[Vec<BaseTensor>]) -> Result<()> {
        let steps = &mut self.steps;
        let places = steps.iter().enumerate().map(|(i, step)| (step.name().to_owned(), i));
        let places: HashMap<String, usize> = places.collect();
        let mut linked = vec![Vec::new(); steps.len()];
        for (i, tensors) in bases.iter().enumerate() {
            for tensor in tensors {
                let name = &*tensor.file;
                match places.get(name.strip_suffix(".wz").unwrap_or(name)) {
                    Some(&base) if base != i => linked[i].push(base),
                    _ if steps[i].missing.iter().any(|known| known == name) => {}
                    _ => steps[i].missing.push(name.to_owned()),
                }
            }
            linked[i].sort_unstable();
            linked[i].dedup();
            if !steps[i].missing.is_empty() {
                let (path, number) = (steps[i].path.clone(), Some(steps[i].number));
                self.dependents.push(Dependent::new(path, number, tensors));
            }
        }
        let depths = graph::depths(&linked);
        let depths = depths.ok_or_else(|| Error::corrupt("steps of this store need each other"))?;
        for (i, depth) in depths.into_iter().enumerate() {
            let numbers = linked[i].iter().map(|&base| steps[base].number).collect();
            (steps[i].bases, steps[i].depth) = (numbers, depth);
        }
        Ok(())
    }
}

/// An error about a file.
pub(super) fn in_file(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
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
}
