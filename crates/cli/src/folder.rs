//! Folders: model files are coded, everything else is copied, and one failure leaves the rest done.

mod choice;
mod plan;
mod settings;

use crate::code::{self, Way};
use crate::job::{self, Coder, Job};
use crate::progress::Bar;
use crate::report::{FileEntry, Report, plain};
use crate::screen::Screen;
use crate::walk::{self, Entry, Tree};
use crate::{cache, escape, overview, remove, space};
use anyhow::{Context, Result, bail, ensure};
use plan::{Plan, Step, Task};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use weightzip::output::{folder_of, keep_rights, keep_times, sync_folder};
use weightzip::{BaseTensor, Summary};

/// What happened to a file.
enum Did {
    Coded(Summary),
    Copied(u64),
    /// As it is, for it would save too little.
    Left,
    /// As it is, for the result came out no smaller.
    Larger,
    Skipped,
}

/// Sums for the closing line.
#[derive(Default)]
struct Totals {
    coded: u64,
    copied: u64,
    left: u64,
    skipped: u64,
    original: u64,
    compressed: u64,
    /// What the results can't be restored without.
    bases: Vec<BaseTensor>,
}

/// Where a folder's results go.
pub(crate) struct Target<'a> {
    /// Another folder; in place if there is none.
    pub(crate) place: Option<&'a Path>,
    /// Whether somebody has asked for it.
    pub(crate) chosen: bool,
}

/// Codes the folder `dir`. With `full` each of its files has a row in the table.
pub(crate) fn run(
    job: &Job,
    dir: &Path,
    target: Target<'_>,
    full: bool,
    report: &mut Report,
) -> Result<()> {
    let start = Instant::now();
    let Target { place: to, chosen } = target;
    // A base that can't be read fails before anything is done, also if all is finished.
    job.base.named()?;
    match to {
        _ if job.dry_run => {}
        Some(to) => check_target(job, dir, to)?,
        None => cache::check(dir)?,
    }
    let mut tree = match job.coder {
        Coder::Compress(_) => walk::walk(&cache::snapshot(dir)?)?,
        Coder::Decompress(_) => walk::walk(dir)?,
    };
    let refused = std::mem::take(&mut tree.refused);
    let mut plan = match to {
        Some(to) => Plan::to_folder(job, &tree, to, chosen),
        None => Plan::in_place(job, &tree),
    };
    plan.failures.extend(refused);
    if job.dry_run {
        return tell(job, plan, to.is_none(), report);
    }
    check_space(job, &plan.steps, to, dir)?;
    if let Some(to) = to {
        for folder in &tree.folders {
            let path = to.join(&folder.relative);
            fs::create_dir_all(&path)
                .with_context(|| format!("can't make {}", escape::path(&path)))?;
        }
    }
    for (path, remark) in &plan.remarks {
        report.remark(path, remark);
    }
    let before = report.count();
    let totals = work(job, &mut plan, to.is_none(), dir, report);
    finish_folders(&tree, to, &mut plan.failures);

    if matches!(job.coder, Coder::Compress(_)) {
        let lines = overview::lines(&report.done_after(before), full, Screen::stderr());
        lines.iter().for_each(|line| report.line(line));
        say_what_is_left(job, &plan, report);
    }
    report.line(&totals.line(job, dir, plan.failures.len(), start));
    if matches!(job.coder, Coder::Compress(_)) {
        report.needs(dir, &totals.bases);
    }
    for (path, error) in plan.failures {
        report.failed(&path, error)?;
    }
    Ok(())
}

/// What would be done, of a dry run.
fn tell(job: &Job, plan: Plan<'_>, in_place: bool, report: &mut Report) -> Result<()> {
    for step in plan.steps {
        let action = match step.task {
            _ if step.is_done(job, in_place) => "skip",
            Task::Code => "compress",
            Task::Copy => "copy",
            Task::Leave => "leave",
        };
        let (file, bytes) = (&step.entry.path, step.entry.metadata.len());
        let entry = FileEntry {
            file: plain(file),
            action,
            bytes,
            warnings: step.remark(job, in_place).into_iter().collect(),
            estimate: step.estimate,
            ..FileEntry::default()
        };
        report.done(file, entry);
    }
    for (path, error) in plan.failures {
        report.failed(&path, error)?;
    }
    Ok(())
}

/// Why model files were not compressed.
fn say_what_is_left(job: &Job, plan: &Plan<'_>, report: &Report) {
    let is_left = |step: &&Step<'_>| step.task != Task::Code && step.estimate.is_some();
    let count = plan.steps.iter().filter(is_left).count();
    if count > 0 {
        let least = job.min_saving_in_folders();
        let some = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        report.line(&format!(
            "{some} would save less than {least} % and stay as they are; --min-saving 0 compresses them"
        ));
    }
}

fn work(job: &Job, plan: &mut Plan<'_>, in_place: bool, dir: &Path, report: &mut Report) -> Totals {
    let mut totals = Totals { skipped: plan.finished, ..Totals::default() };
    let moved = plan.steps.iter().filter(|step| step.task != Task::Leave);
    let total = moved.map(|step| step.original_size(job)).sum();
    let bar = Bar::new(report.ui(), escape::path(dir), Some(total));
    for step in &plan.steps {
        let source = &step.entry.path;
        bar.message(escape::path(source));
        let start = Instant::now();
        match step.carry_out(job, in_place, &bar) {
            Ok(did) => {
                totals.add(&did);
                let entry = entry(job, step, &did, in_place, start);
                bar.pause(|| {
                    if let Did::Larger = did {
                        report.line(&job::stays(source));
                    }
                    report.done(source, entry);
                });
            }
            Err(error) => plan.failures.push((source.clone(), error)),
        }
    }
    totals
}

fn entry(job: &Job, step: &Step<'_>, did: &Did, in_place: bool, start: Instant) -> FileEntry {
    let (source, time) = (&step.entry.path, start.elapsed());
    let action = match job.coder {
        Coder::Compress(_) => "compressed",
        Coder::Decompress(_) => "restored",
    };
    let other = |action, bytes| FileEntry {
        file: plain(source),
        action,
        bytes,
        estimate: step.estimate.clone(),
        seconds: time.as_secs_f64(),
        ..FileEntry::default()
    };
    let mut entry = match did {
        Did::Coded(summary) => FileEntry::coded(source, action, summary, time),
        Did::Copied(bytes) => other("copied", *bytes),
        Did::Left | Did::Larger => other("left", step.entry.metadata.len()),
        Did::Skipped => other("skipped", step.original_size(job)),
    };
    if matches!(did, Did::Skipped) {
        entry.warnings.extend(step.remark(job, in_place));
    }
    let stays = step.task == Task::Leave || matches!(did, Did::Larger);
    let target = (!stays).then_some(step.target.as_path());
    entry.to(target, job.remove)
}

impl Step<'_> {
    fn carry_out(&self, job: &Job, in_place: bool, bar: &Bar) -> Result<Did> {
        let source = &self.entry.path;
        if self.task == Task::Leave {
            return Ok(Did::Left);
        }
        if in_place && fs::symlink_metadata(&self.target).is_ok() {
            self.finish_in_place(job)?;
            return Ok(Did::Skipped);
        }
        if self.is_done(job, in_place) {
            return Ok(Did::Skipped);
        }
        if let Some(other) = self.other.as_ref().filter(|other| fs::symlink_metadata(other).is_ok())
        {
            bail!(
                "{} is there too, from a run with other options; remove it or write elsewhere with -o",
                escape::path(other)
            );
        }
        if self.task == Task::Code {
            let coded = job::file(job, source, &self.target, bar)?;
            return Ok(coded.map_or(Did::Larger, Did::Coded));
        }
        Ok(Did::Copied(job::copy(source, &self.target, job.force, bar)?))
    }

    /// Both names are there: an earlier run stopped just before it removed the source, if the bytes are the same.
    fn finish_in_place(&self, job: &Job) -> Result<()> {
        let source = &self.entry.path;
        remove::check(source)?;
        let same = match job.coder {
            Coder::Compress(_) => job.holds(&self.target, source),
            Coder::Decompress(_) => job.holds(source, &self.target),
        };
        ensure!(
            same.unwrap_or(false),
            "{} already exists and holds something else; move one of them away",
            escape::path(&self.target)
        );
        Ok(weightzip::output::remove(source)?)
    }
}

/// Refuses a target that would mix with the source or with something else.
fn check_target(job: &Job, dir: &Path, to: &Path) -> Result<()> {
    let source = fs::canonicalize(dir)?;
    if let Coder::Compress(_) = job.coder {
        cache::check_target(folder_of(to))?;
    }
    let parent = fs::canonicalize(folder_of(to))
        .with_context(|| format!("can't write in {}", escape::path(folder_of(to))))?;
    let target =
        fs::canonicalize(to).unwrap_or_else(|_| parent.join(to.file_name().unwrap_or_default()));
    if target.starts_with(&source) || source.starts_with(&target) {
        bail!("the result and the source can't lie in one another; name another folder with -o");
    }
    let Ok(mut there) = fs::read_dir(to) else {
        ensure!(!to.exists(), "{} already exists and is not a folder", escape::path(to));
        return Ok(());
    };
    // A folder of results goes on by itself; a folder of originals may be someone's work.
    if matches!(job.coder, Coder::Decompress(_)) && !job.force && there.next().is_some() {
        bail!(
            "{} already exists; -f goes on there: finished files are skipped, others replaced",
            escape::path(to)
        );
    }
    Ok(())
}

/// In place, each source gives back its space before the next file starts.
fn check_space(job: &Job, steps: &[Step<'_>], to: Option<&Path>, dir: &Path) -> Result<()> {
    let needed = |likely| {
        let (mut used, mut peak) = (0i128, 0i128);
        for step in steps.iter().filter(|s| !s.is_done(job, to.is_none()) && s.task != Task::Leave)
        {
            used += i128::from(step.space(job, likely));
            peak = peak.max(used);
            if to.is_none() {
                used -= i128::from(step.entry.metadata.len());
            }
        }
        u64::try_from(peak).unwrap_or(u64::MAX)
    };
    space::check(to.map_or(dir, folder_of), needed)
}

/// Gives folders their time, owner and mode, the innermost first, now that nothing is written into them any more.
fn finish_folders(tree: &Tree, to: Option<&Path>, failures: &mut Vec<(PathBuf, anyhow::Error)>) {
    for folder in tree.folders.iter().rev() {
        let path = to.map_or_else(|| folder.path.clone(), |to| to.join(&folder.relative));
        if let Err(error) = finish_folder(folder, &path, to.is_none()) {
            failures.push((path, error));
        }
    }
}

fn finish_folder(folder: &Entry, path: &Path, in_place: bool) -> Result<()> {
    sync_folder(path)?;
    if cfg!(unix) {
        let finished = fs::File::open(path).context("can't open")?;
        keep_times(&finished, &folder.metadata);
        if !in_place {
            let source = fs::File::open(&folder.path).ok();
            keep_rights(&finished, &folder.metadata, source.as_ref());
        }
    }
    Ok(())
}

impl Totals {
    fn add(&mut self, did: &Did) {
        match did {
            Did::Coded(summary) => {
                self.coded += 1;
                self.original += summary.original_bytes;
                self.compressed += summary.compressed_bytes;
                self.bases.extend_from_slice(&summary.bases);
            }
            Did::Copied(bytes) => {
                self.copied += 1;
                self.original += bytes;
                self.compressed += bytes;
            }
            Did::Left | Did::Larger => self.left += 1,
            Did::Skipped => self.skipped += 1,
        }
    }

    /// `models (2 compressed, 3 copied, 1 failed): 1.20 MB -> 0.80 MB (66.5 %), verified, 1.2 GB/s`
    fn line(&self, job: &Job, dir: &Path, failed: usize, start: Instant) -> String {
        let way = match job.coder {
            Coder::Compress(_) if job.is_lossy() => Way::PackRounded,
            Coder::Compress(_) => Way::Pack,
            Coder::Decompress(_) => Way::Restore,
        };
        let coded = if way != Way::Restore { "compressed" } else { "restored" };
        let mut label =
            format!("{} ({} {coded}, {} copied", escape::path(dir), self.coded, self.copied);
        if self.left > 0 {
            label += &format!(", {} left as they are", self.left);
        }
        if self.skipped > 0 {
            label += &format!(", {} already complete", self.skipped);
        }
        if failed > 0 {
            label += &format!(", {failed} failed");
        }
        label.push(')');
        // Nothing was verified, then.
        if self.coded == 0 {
            return label;
        }
        code::line(&label, way, self.original, self.compressed, start.elapsed())
    }
}
