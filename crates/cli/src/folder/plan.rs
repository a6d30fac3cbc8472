//! What is to be done with each file of a folder: its new name, and whether that is done already.

use super::choice::{self, has_suffix};
use super::settings;
use crate::estimate::{Estimate, WORTH};
use crate::job::{self, Coder, Job};
use crate::source::SourceFile;
use crate::walk::{Entry, Through, Tree};
use crate::{card, escape, lossy};
use anyhow::{Result, anyhow, bail};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// One file's part of the work.
pub(super) struct Step<'a> {
    pub(super) entry: &'a Entry,
    pub(super) target: PathBuf,
    pub(super) task: Task,
    /// What coding it is likely to save, if that mattered.
    pub(super) estimate: Option<Estimate>,
    /// The name of a result that must not be there too: restoring would make the same file of both.
    pub(super) other: Option<PathBuf>,
    /// Known when it was asked for.
    there: OnceCell<There>,
}

/// What has a result's name already.
enum There {
    Nothing,
    /// The result.
    Finished,
    /// One that is as good, but made in another way, which is said.
    MadeOtherwise(String),
    /// A copy that somebody has changed since.
    Edited,
    /// Something else, or the result of what the source was before.
    Other,
}

/// Copies up to this size are compared byte by byte with their source.
const SMALL: u64 = 1 << 20;

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Code,
    Copy,
    /// In place, what would be copied.
    Leave,
}

/// What is to be done, and what is already known to be done or impossible.
#[derive(Default)]
pub(super) struct Plan<'a> {
    pub(super) steps: Vec<Step<'a>>,
    /// How many files need nothing.
    pub(super) finished: u64,
    pub(super) failures: Vec<(PathBuf, anyhow::Error)>,
    /// What is to be known of files that need nothing.
    pub(super) remarks: Vec<(PathBuf, String)>,
}

impl<'a> Plan<'a> {
    /// Every file, each to its name under `to`.
    pub(super) fn to_folder(job: &Job, tree: &'a Tree, to: &Path, chosen: bool) -> Self {
        // Other files tell these names, so they stay where the folder's says what it is, or somebody does.
        let is_told = chosen || lossy::marked(to) == to;
        let rounded = if is_told { lossy::unmarked } else { lossy::marked };
        let step = |entry: &'a Entry| {
            let plain = to.join(&entry.relative);
            match coded_name(job, entry, &entry.relative, rounded) {
                Some(name) => Step::choose(job, entry, to.join(name), Some(plain)),
                None => Step::new(entry, plain, Task::Copy, None),
            }
        };
        Self { steps: tree.files.iter().map(step).collect(), ..Self::default() }
    }

    /// The files to be replaced. Not those that are finished, nor what is reached a second time through a link.
    pub(super) fn in_place(job: &Job, tree: &'a Tree) -> Self {
        let is_link = |e: &&Entry| e.through == Through::Link;
        let linked: HashSet<&Path> =
            tree.files.iter().filter(is_link).map(|e| e.real.as_path()).collect();
        let mut plan = Self::default();
        for entry in tree.files.iter().filter(|e| e.through != Through::FolderLink) {
            let Some(target) = coded_name(job, entry, &entry.path, lossy::marked) else { continue };
            match is_result(job, &entry.path) {
                Ok(true) => {
                    plan.finished += 1;
                    let how = settings::difference(job, &entry.path);
                    let remark = |how| format!("finished {how}; restore it to compress it again");
                    plan.remarks.extend(how.map(|how| (entry.path.clone(), remark(how))));
                }
                Ok(false) if linked.contains(entry.real.as_path()) => {
                    let why = anyhow!(
                        "a link in the folder would lead nowhere; write to another folder with -o"
                    );
                    plan.failures.push((entry.path.clone(), why));
                }
                Ok(false) => {
                    let step = Step::choose(job, entry, target, None);
                    // Of a file that may be anything nobody expects that it is compressed.
                    if step.task != Task::Leave || choice::is_named(&entry.path) {
                        plan.steps.push(step);
                    }
                }
                Err(error) => plan.failures.push((entry.path.clone(), error)),
            }
        }
        if matches!(job.coder, Coder::Compress(_)) {
            // `x.wz.wz` makes room before `x.wz` takes its name; restoring goes the other way.
            plan.steps.reverse();
            // What describes the files beside it goes after them.
            let is_model = |step: &Step<'_>| has_suffix(&step.entry.path, "onnx");
            plan.steps.sort_by_key(is_model);
        }
        plan
    }
}

impl<'a> Step<'a> {
    fn new(entry: &'a Entry, target: PathBuf, task: Task, other: Option<PathBuf>) -> Self {
        Self { entry, target, task, estimate: None, other, there: OnceCell::new() }
    }

    /// Codes a file to `coded`; or, if that saves too little, copies it to `plain`, or leaves it where it is.
    fn choose(job: &Job, entry: &'a Entry, coded: PathBuf, plain: Option<PathBuf>) -> Self {
        let code = Step::new(entry, coded, Task::Code, None);
        // Restoring would take what ends in .wz for a result.
        if matches!(job.coder, Coder::Decompress(_)) || job::without_suffix(&entry.path).is_some() {
            return code;
        }
        let asked = job.min_saving_in_folders();
        // What may be anything must save something, whatever was asked for.
        let is_named = choice::is_named(&entry.path);
        let least = if is_named { asked } else { asked.max(WORTH) };
        let in_place = plain.is_none();
        let is_there = fs::symlink_metadata(&code.target).is_ok();
        if (least == 0.0 && !job.dry_run) || (is_there && (in_place || code.is_finished(job))) {
            return Step { other: plain, ..code };
        }
        let (task, target) = match &plain {
            Some(plain) => (Task::Copy, plain.clone()),
            None => (Task::Leave, entry.path.clone()),
        };
        let other = (!in_place).then(|| code.target.clone());
        let copy = Step::new(entry, target, task, other);
        if !in_place && copy.is_finished(job) {
            return copy;
        }
        // What can't be read fails when it is coded.
        let estimate = job.estimate(&entry.path).ok();
        match estimate.as_ref().is_some_and(|estimate| estimate.saves_less(least)) {
            // Only of models somebody wants to know why they stay.
            true => Step { estimate: estimate.filter(|_| is_named), ..copy },
            false => Step { estimate, other: plain, ..code },
        }
    }

    /// Whether an earlier run made a result, whatever it was asked for.
    fn is_finished(&self, job: &Job) -> bool {
        matches!(self.there(job), There::Finished | There::MadeOtherwise(_) | There::Edited)
    }

    /// Whether nothing is to be done.
    pub(super) fn is_done(&self, job: &Job, in_place: bool) -> bool {
        let is_made = match self.there(job) {
            There::Finished | There::Edited => true,
            There::MadeOtherwise(_) => !job.force,
            There::Nothing | There::Other => false,
        };
        !in_place && is_made
    }

    /// What is to be known of a result that stays as it is.
    pub(super) fn remark(&self, job: &Job, in_place: bool) -> Option<String> {
        match self.there(job) {
            _ if in_place => None,
            There::MadeOtherwise(how) if !job.force => {
                Some(format!("finished {how}; -f makes it again"))
            }
            There::Edited => Some(format!(
                "{} was changed after it was copied, and stays; remove it to have it copied again",
                escape::path(&self.target)
            )),
            _ => None,
        }
    }

    fn there(&self, job: &Job) -> &There {
        self.there.get_or_init(|| self.look(job))
    }

    /// A result that is there has its name, so it is whole; it is this source's if the time and the size say so.
    fn look(&self, job: &Job) -> There {
        let Ok(there) = fs::symlink_metadata(&self.target) else { return There::Nothing };
        let source = &self.entry.metadata;
        if !there.is_file() {
            return There::Other;
        }
        let times = there.modified().ok().zip(source.modified().ok());
        let is_of_its_time = times.is_none_or(|(there, source)| is_time(there, source));
        if self.task != Task::Code {
            return match is_of_its_time && there.len() == source.len() {
                true => There::Finished,
                false => self.look_at_copy(job, &there),
            };
        }
        let original = |path: &Path| File::open(path).ok().and_then(|f| job::original_size(&f));
        let is_result = is_of_its_time
            && match &job.coder {
                Coder::Compress(options) => {
                    original(&self.target) == Some(source.len())
                        && lossy::is_by(&self.target, &options.lossy)
                }
                Coder::Decompress(_) => original(&self.entry.path) == Some(there.len()),
            };
        match is_result {
            false => There::Other,
            true => settings::difference(job, &self.target)
                .map_or(There::Finished, There::MadeOtherwise),
        }
    }

    /// A copy with another time or size. Copies have the time of their source, so one that was changed is newer than
    /// that, or than itself when it was made, where the system tells when that was.
    fn look_at_copy(&self, job: &Job, there: &Metadata) -> There {
        let source = &self.entry.metadata;
        if there.len().max(source.len()) <= SMALL
            && let (Ok(a), Ok(b)) = (fs::read(&self.target), fs::read(&self.entry.path))
            && card::without(&a) == card::without(&b)
        {
            return There::Finished;
        }
        let Ok(changed) = there.modified() else { return There::Other };
        let is_after = |time: std::io::Result<_>| time.is_ok_and(|time| changed >= time);
        let is_edited = is_after(source.modified()) || is_after(there.created());
        match (&job.coder, is_edited) {
            (Coder::Compress(_), true) => There::Edited,
            _ => There::Other,
        }
    }

    /// Bytes of the original.
    pub(super) fn original_size(&self, job: &Job) -> u64 {
        match self.task {
            Task::Code => {
                SourceFile::open(&self.entry.path).map_or(0, |s| job.coder.worst_case(&s))
            }
            Task::Copy | Task::Leave => self.entry.metadata.len(),
        }
    }

    /// Bytes that the result takes, at worst or likely.
    pub(super) fn space(&self, job: &Job, likely: bool) -> u64 {
        match SourceFile::open(&self.entry.path) {
            Ok(source) if self.task == Task::Code && likely => job.coder.likely(&source),
            _ => self.original_size(job),
        }
    }
}

/// Whether a time is another one as a file system keeps it, which may count in up to two seconds.
fn is_time(kept: SystemTime, time: SystemTime) -> bool {
    /// Nanoseconds.
    const UNITS: &[u128] = &[100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000];
    let away = kept.duration_since(time).unwrap_or_else(|e| e.duration()).as_nanos();
    let since = kept.duration_since(UNIX_EPOCH).unwrap_or_else(|e| e.duration()).as_nanos();
    away == 0 || UNITS.iter().any(|unit| since.is_multiple_of(*unit) && away < *unit)
}

/// The coded name of a file, or none if it is copied. `rounded` names what is restored near-lossless.
fn coded_name(
    job: &Job,
    entry: &Entry,
    name: &Path,
    rounded: fn(&Path) -> PathBuf,
) -> Option<PathBuf> {
    if let Coder::Compress(_) = job.coder {
        // Archives stay as they are where others are rounded; what can't be read fails later.
        let fits = || {
            !job.is_lossy()
                || job::prefix(&entry.path).map_or(true, |p| weightzip::can_be_rounded(&p))
        };
        return (choice::may_be_coded(entry) && fits()).then(|| job.with_suffix(name));
    }
    let restored = job::without_suffix(name)?;
    let is_rounded = job::prefix(&entry.path).is_ok_and(|prefix| weightzip::is_rounded(&prefix));
    Some(if is_rounded { rounded(&restored) } else { restored })
}

/// Whether a file is what compressing in place makes: a .wz with a name that it would give.
fn is_result(job: &Job, path: &Path) -> Result<bool> {
    let Coder::Compress(_) = job.coder else { return Ok(false) };
    let Some(original) = job::without_suffix(path) else { return Ok(false) };
    if !weightzip::is_weightzip(&job::prefix(path)?) {
        return Ok(false);
    }
    let is_named = choice::is_named(&original);
    match job::original_size(&File::open(path)?) {
        Some(size) => Ok(is_named || size >= choice::LARGE),
        None if is_named => bail!("a .wz that is damaged; move it away"),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_kept_in_larger_units() {
        let at = |nanos| UNIX_EPOCH + std::time::Duration::from_nanos(nanos);
        let time = at(1_600_000_001_123_456_789);
        for kept in [
            1_600_000_001_123_456_789,
            1_600_000_001_123_456_700,
            1_600_000_001_120_000_000,
            1_600_000_001_000_000_000,
            1_600_000_000_000_000_000,
            1_600_000_002_000_000_000,
        ] {
            assert!(is_time(at(kept), time), "{kept}");
        }
        for other in
            [1_600_000_001_123_456_788, 1_600_000_001_130_000_001, 1_600_000_003_000_000_000, 0]
        {
            assert!(!is_time(at(other), time), "{other}");
        }
    }
}
