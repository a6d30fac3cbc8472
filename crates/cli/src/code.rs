//! `wz compress` and `wz decompress`: what goes where, and what is said about it.

use crate::args::{Code, Input, Where};
use crate::estimate::WORTH;
use crate::folder::{self, Target};
use crate::job::{self, Coder, Job};
use crate::progress::Bar;
use crate::report::{FileEntry, Report, Status, plain};
use crate::screen::Screen;
use crate::source::SourceFile;
use crate::{cache, card, escape, human, lossy, overview, place};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use weightzip::Summary;
use weightzip::output::folder_of;

/// Carries out compress or decompress.
pub(crate) fn run(args: &Code) -> Result<Status> {
    let command =
        if matches!(args.job.coder, Coder::Compress(_)) { "compress" } else { "decompress" };
    let mut report = Report::new(command, args.ui);
    for input in &args.inputs {
        if let Err(error) = one(args, input, &mut report) {
            report.failed(name(input), error)?;
        }
    }
    if args.job.dry_run && !args.ui.quiet && !args.ui.json {
        let mut stdout = io::stdout().lock();
        for line in overview::lines(&report.done_after(0), args.full_table, Screen::stdout()) {
            writeln!(stdout, "{line}")?;
        }
        stdout.flush()?;
    }
    let status = report.finish()?;
    if status == Status::Done && (args.card || args.append_card) {
        let results: Vec<_> = args.inputs.iter().filter_map(|input| result(args, input)).collect();
        if args.append_card {
            results.iter().try_for_each(|folder| card::append(folder))?;
        }
        if args.card {
            card::print(&results)?;
        }
    }
    Ok(status)
}

/// Where an input's result is, unless that is stdout.
fn result(args: &Code, input: &Input) -> Option<PathBuf> {
    let Input::Path(path) = input else { return None };
    match place(args, path).ok()? {
        Where::Path(out) => Some(out),
        Where::InPlace => Some(path.clone()),
        _ => None,
    }
}

/// Where the result of `source` goes: its name is known, unless it is stdout or in place.
fn place(args: &Code, source: &Path) -> Result<Where> {
    Ok(match &args.to {
        Where::Beside => Where::Path(beside(&args.job, source)?),
        Where::Path(out) if is_for_several(args, out, source) => {
            let name = default_name(&args.job, source)?;
            match args.job.dry_run {
                true => Where::Path(out.join(name)),
                false => Where::Path(place::in_folder(out, &name)?),
            }
        }
        other => other.clone(),
    })
}

/// Whether what `-o` names is a folder to put results into. A folder by itself becomes what is named.
fn is_for_several(args: &Code, out: &Path, source: &Path) -> bool {
    place::is_folder(out) && (args.inputs.len() > 1 || !source.is_dir())
}

fn one(args: &Code, input: &Input, report: &mut Report) -> Result<()> {
    let Input::Path(path) = input else {
        return streamed(args, input, report);
    };
    let there = fs::metadata(path).context("can't open")?;
    if there.is_dir() {
        let place = match place(args, path)? {
            Where::Stdout => bail!("a folder can't go to stdout; name a folder with -o"),
            Where::Path(out) => Some(out),
            Where::InPlace | Where::Beside => None,
        };
        ensure!(
            !args.job.has_dtype(),
            "--dtype is for files, and a folder's may differ; name them"
        );
        let chosen = matches!(args.to, Where::Path(_));
        if args.job.remove && place.is_some() {
            bail!("--rm is for files; --in-place replaces a folder's files one at a time");
        }
        let to = Target { place: place.as_deref(), chosen };
        return folder::run(&args.job, path, to, args.full_table, report);
    }
    if matches!(args.to, Where::InPlace) {
        bail!("--in-place is for folders; --rm removes a file once its result is safe");
    }
    if !there.is_file() {
        ensure!(!matches!(args.to, Where::Beside), "not a regular file; name the result with -o");
        ensure!(!args.job.remove, "not a regular file; leave out --rm");
        ensure!(
            !args.job.dry_run && args.job.min_saving.is_none(),
            "not a regular file, so nothing can be estimated; leave out --dry-run and --min-saving"
        );
        return streamed(args, input, report);
    }
    job::refuse_twice(&args.job, &job::prefix(path)?)?;
    if estimated(args, path, report)? {
        return Ok(());
    }
    match place(args, path)? {
        Where::Path(out) => to_file(args, path, &out, report),
        _ => streamed(args, input, report),
    }
}

/// Whether an estimate is all that a file gets: it was asked for, or tells that the file would save too little.
fn estimated(args: &Code, path: &Path, report: &mut Report) -> Result<bool> {
    let least = args.job.min_saving;
    if !args.job.dry_run && least.is_none() {
        return Ok(false);
    }
    let start = Instant::now();
    let estimate = args.job.estimate(path)?;
    let is_left = least.is_some_and(|least| estimate.saves_less(least));
    let action = match (args.job.dry_run, is_left) {
        (false, false) => return Ok(false),
        (false, true) => "left",
        (true, false) => "compress",
        (true, true) => "leave",
    };
    if let (false, Some(least)) = (args.job.dry_run, least) {
        let (file, saving) = (escape::path(path), estimate.saving());
        report.line(&format!("{file}: would save {saving}, less than {least} %; left as it is"));
    }
    let entry = FileEntry {
        file: plain(path),
        action,
        bytes: fs::metadata(path)?.len(),
        estimate: Some(estimate),
        seconds: start.elapsed().as_secs_f64(),
        ..FileEntry::default()
    };
    report.done(path, entry);
    Ok(true)
}

fn to_file(args: &Code, source: &Path, target: &Path, report: &mut Report) -> Result<()> {
    let start = Instant::now();
    let total = SourceFile::open(source).ok().and_then(|s| args.job.coder.original_size(&s));
    let bar = Bar::new(args.ui, escape::path(source), total);
    let summary = job::file(&args.job, source, target, &bar)?;
    drop(bar);
    match summary {
        Some(summary) => say(args, source, &summary, start.elapsed(), Some(target), report),
        None => {
            report.line(&job::stays(source));
            let entry = FileEntry {
                file: plain(source),
                action: "left",
                bytes: fs::metadata(source)?.len(),
                seconds: start.elapsed().as_secs_f64(),
                ..FileEntry::default()
            };
            report.done(source, entry);
        }
    }
    Ok(())
}

fn streamed(args: &Code, input: &Input, report: &mut Report) -> Result<()> {
    let start = Instant::now();
    let size = match input {
        Input::Path(path) => fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| m.len()),
        Input::Stdin => None,
    };
    // What a .wz holds is not known before its end; a file's own size is.
    let total = size.filter(|_| matches!(args.job.coder, Coder::Compress(_)));
    let bar = Bar::new(args.ui, escape::path(name(input)), total);
    let to = match input {
        Input::Path(path) => place(args, path)?,
        Input::Stdin => args.to.clone(),
    };
    let target = if let Where::Path(out) = &to { Some(out.as_path()) } else { None };
    ensure!(
        !target.is_some_and(place::is_folder),
        "{} is a folder, and what comes from stdin has no name; name a file in it",
        escape::path(target.unwrap_or(Path::new("")))
    );
    let summary = job::stream(&args.job, input, &to, &bar)?;
    drop(bar);
    say(args, name(input), &summary, start.elapsed(), target, report);
    Ok(())
}

fn say(
    args: &Code,
    source: &Path,
    summary: &Summary,
    time: Duration,
    target: Option<&Path>,
    report: &mut Report,
) {
    let packing = matches!(args.job.coder, Coder::Compress(_));
    let action = if packing { "compressed" } else { "restored" };
    let entry = FileEntry::coded(source, action, summary, time).to(target, args.job.remove);
    report.done(source, entry);
    let way = if packing { Way::packing(summary) } else { Way::Restore };
    report.line(&line(
        &escape::path(source),
        way,
        summary.original_bytes,
        summary.compressed_bytes,
        time,
    ));
    let ratio = human::ratio(summary.compressed_bytes, summary.original_bytes);
    if way == Way::Pack && ratio.is_some_and(|ratio| (1.0 - ratio) * 100.0 < WORTH) {
        let (file, saving) = (escape::path(source), human::saving(ratio));
        report.line(&format!("{file}: saves {saving}: little to gain here"));
    }
    report.losses(source, summary);
    if packing {
        report.needs(source, &summary.bases);
    }
    if args.job.remove {
        report.line(&format!("{}: read back from disk, removed", escape::path(source)));
    }
}

/// What was done, and what is known of the result then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Compressed; what comes back is the same.
    Pack,
    /// Compressed; what comes back is rounded, within the bound.
    PackRounded,
    Restore,
}

impl Way {
    pub(crate) fn packing(summary: &Summary) -> Self {
        if summary.losses.is_some() { Self::PackRounded } else { Self::Pack }
    }
}

/// `model.safetensors: 1.20 MB -> 0.80 MB (66.5 %), verified, 1.2 GB/s`
pub(crate) fn line(
    label: &str,
    way: Way,
    original: u64,
    compressed: u64,
    time: Duration,
) -> String {
    let percent = human::percent(human::ratio(compressed, original));
    let (from, to, note) = match way {
        Way::Pack => (original, compressed, format!(" ({percent}), verified")),
        Way::PackRounded => (original, compressed, format!(" ({percent}), bound kept")),
        Way::Restore => (compressed, original, ", restored and verified".to_owned()),
    };
    format!(
        "{label}: {} -> {}{note}, {}",
        human::bytes(from),
        human::bytes(to),
        human::rate(original, time)
    )
}

/// The result's place when none is given: beside its source.
fn beside(job: &Job, source: &Path) -> Result<PathBuf> {
    let name = default_name(job, source)?;
    if matches!(job.coder, Coder::Compress(_)) && !job.dry_run {
        cache::check_target(folder_of(source))?;
    }
    Ok(source.with_file_name(name))
}

/// The result's name when none is given.
fn default_name(job: &Job, source: &Path) -> Result<PathBuf> {
    // A trailing slash, `.` and `..` have no name to append to.
    let name = source.file_name().map(PathBuf::from);
    match job.coder {
        Coder::Compress(_) => {
            let name = name.context("has no name to append .wz to; name the result with -o")?;
            Ok(job.with_suffix(&name))
        }
        Coder::Decompress(_) => {
            let name = name.and_then(|name| job::without_suffix(&name)).context(
                "the name doesn't end in .wz, so the original's name is unknown; give it with -o",
            )?;
            // A folder has its mark at the end already.
            let is_file = source.is_file() && weightzip::is_rounded(&job::prefix(source)?);
            Ok(if is_file { lossy::marked(&name) } else { name })
        }
    }
}

/// How an input is called.
pub(crate) fn name(input: &Input) -> &Path {
    match input {
        Input::Stdin => Path::new("stdin"),
        Input::Path(path) => path,
    }
}
