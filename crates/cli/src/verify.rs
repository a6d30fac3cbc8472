//! `wz verify`: decodes everything to nowhere.

use crate::args::{Input, Verify};
use crate::progress::Bar;
use crate::report::{FileEntry, InFile, Report, Status};
use crate::source::{self, SourceFile};
use crate::{code, escape, human, job, stdio, walk};
use anyhow::{Context, Result, bail, ensure};
use std::io;
use std::path::Path;
use std::time::Instant;
use weightzip::{Archive, DecodeOptions, Summary};

/// Carries out verify.
pub(crate) fn run(args: &Verify) -> Result<Status> {
    let mut report = Report::new("verify", args.ui);
    for input in &args.inputs {
        match input {
            Input::Path(path) if path.is_dir() => folder(args, path, &mut report)?,
            _ => one(args, input, &mut report)?,
        }
    }
    report.finish()
}

/// Every .wz in a folder.
fn folder(args: &Verify, dir: &Path, report: &mut Report) -> Result<()> {
    let tree = match walk::walk(dir) {
        Ok(tree) => tree,
        Err(error) => return report.failed(dir, error),
    };
    for entry in &tree.files {
        if job::without_suffix(&entry.relative).is_some() {
            one(args, &Input::Path(entry.path.clone()), report)?;
        }
    }
    for (path, error) in tree.refused {
        report.failed(&path, error)?;
    }
    Ok(())
}

fn one(args: &Verify, input: &Input, report: &mut Report) -> Result<()> {
    let name = code::name(input);
    let start = Instant::now();
    match check(args, input) {
        Ok(summary) => {
            let time = start.elapsed();
            report.done(name, FileEntry::coded(name, "verified", &summary, time));
            let against = match (&args.against, &summary.losses) {
                (None, _) => "",
                (Some(_), None) => ", identical to the original",
                (Some(_), Some(_)) => ", bound kept against the original",
            };
            report.line(&format!(
                "{}: {} verified{against}, {}",
                escape::path(name),
                human::bytes(summary.original_bytes),
                human::rate(summary.original_bytes, time)
            ));
            report.losses(name, &summary);
            report.needs(name, &summary.bases);
            Ok(())
        }
        Err(error) => report.failed(name, error),
    }
}

fn check(args: &Verify, input: &Input) -> Result<Summary> {
    let source = match input {
        Input::Stdin => None,
        Input::Path(path) => {
            ensure!(!source::is_named_pipe(path), "a named pipe; use `wz verify - < PIPE`");
            Some(SourceFile::open(path)?)
        }
    };
    let known = source.as_ref().and_then(|s| Archive::open(s.file()).ok());
    let total = known.as_ref().map(|archive| archive.info().original_bytes);
    let bar = Bar::new(args.ui, escape::path(code::name(input)), total);
    // A SHA-256 is slow, so it is computed if there is something to compare it with.
    let sha256 = args.sha256.is_some() || known.is_some_and(|a| a.info().sha256.is_some());
    let progress = Some(bar.callback());
    let base = args.base.of_file(match input {
        Input::Path(path) if path.is_file() => Some(path),
        _ => None,
    })?;
    let again = source.as_ref().and_then(SourceFile::at_random);
    let options = DecodeOptions { progress, sha256, base, source: again, ..args.options.clone() };
    let summary = match &source {
        None => weightzip::decompress(stdio::data_stdin()?, io::sink(), &options),
        Some(source) => weightzip::decompress(source.file(), io::sink(), &options),
    }?;
    if let (Some(wanted), Some(found)) = (args.sha256, summary.sha256)
        && wanted != found
    {
        bail!("the original has SHA-256 {}, not the one that was given", human::hex(&found));
    }
    if let (Some(against), Some(source)) = (&args.against, &source) {
        drop(bar);
        compare(args, source, against).context(InFile(against.clone()))?;
    }
    Ok(summary)
}

/// Compares with what the .wz was made from.
fn compare(args: &Verify, wz: &SourceFile, original: &Path) -> Result<()> {
    let original = SourceFile::open_at_random(original)?;
    let bar = Bar::new(args.ui, "comparing".to_owned(), original.size());
    let options =
        DecodeOptions { base: args.base.of_file(Some(wz.path()))?, ..args.options.clone() };
    Archive::open_with(wz.file(), options)?.check_against(original.file(), &*bar.callback())?;
    original.check_unchanged()
}
