//! `wz chain add`: checkpoints become steps.

use crate::args::ChainAdd;
use crate::code::{self, Way};
use crate::job::{self, Coder};
use crate::progress::Bar;
use crate::report::{FileEntry, InFile, Report, Status, fail, say};
use crate::source::SourceFile;
use crate::{escape, space};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Instant;
use weightzip::chain::{AddOptions, Added, Chain, Step, step_of};
use weightzip::{Options, Summary};

/// Carries out add.
pub(crate) fn run(args: &ChainAdd) -> Result<Status> {
    let mut report = Report::new("chain add", args.ui);
    let files = in_order(args)?;
    let mut chain = Chain::create(&args.store)?;
    if !chain.is_marked() && !chain.steps().is_empty() {
        say(&format!(
            "wz: {} has {} that no wz chain add has written here; they are left alone, and wz chain adopt makes steps of them",
            escape::path(&args.store),
            super::steps(chain.steps().len()),
        ));
    }
    for (i, (_, name, file)) in files.iter().enumerate() {
        let start = Instant::now();
        match add(args, &mut chain, name, file) {
            Ok(added) => {
                told(&chain, file, &added.summary, start, &mut report);
                if let Some(damaged) = added.damaged {
                    report.failed(&damaged.path, damaged.error().into())?;
                    say(&format!("wz: {} stands alone for it, as a keyframe", escape::path(file)));
                }
            }
            Err(error) => {
                report.failed(file, error)?;
                let left = files.len() - i - 1;
                if left > 0 {
                    fail(&format!("{} after it: not added", super::steps(left)));
                }
                break;
            }
        }
    }
    report.finish()
}

/// The files by step, with their names.
fn in_order(args: &ChainAdd) -> Result<Vec<(u64, &str, &Path)>> {
    let step = |file| -> Result<_> {
        let name = Path::file_name(file).and_then(|name| name.to_str());
        let name = name.context("not a name of a file in UTF-8, which bases are known by")?;
        Ok((step_of(name)?, name, file))
    };
    let step = |file| step(file).context(InFile(file.to_owned()));
    let mut files: Vec<_> = args.files.iter().map(|f| step(f.as_path())).collect::<Result<_>>()?;
    files.sort_by_key(|(step, ..)| *step);
    Ok(files)
}

fn add(args: &ChainAdd, chain: &mut Chain, name: &str, file: &Path) -> Result<Added> {
    let source = SourceFile::open(file)?;
    let prefix = if source.size().is_some() { job::prefix(file)? } else { Vec::new() };
    ensure!(
        !weightzip::is_weightzip(&prefix),
        "already a .wz; restore it first with wz decompress"
    );
    let coder = Coder::Compress(Options::default());
    space::check(&args.store, |likely| {
        if likely { coder.likely(&source) } else { coder.worst_case(&source) }
    })?;
    // Each byte counts twice: it is read back, too.
    let bar =
        Bar::new(args.ui, escape::path(file), source.size().map(|size| size.saturating_mul(2)));
    let (mut lossy, layout) = (args.options.lossy.clone(), source.layout()?);
    if lossy.need_a_look() {
        let layout =
            layout.context("not a regular file; snr looks at tensors first, so it reads twice")?;
        lossy.look_at(source.file(), &layout.spans)?;
    }
    let options = AddOptions {
        source: source.at_random(),
        layout: layout.cloned(),
        lossy,
        like: source.metadata().cloned(),
        progress: Some(bar.callback()),
        ..args.options.clone()
    };
    Ok(chain.add(name, source.reader(), &options)?)
}

fn told(chain: &Chain, file: &Path, summary: &Summary, start: Instant, report: &mut Report) {
    let (time, step) = (start.elapsed(), chain.steps().last());
    let entry = FileEntry::coded(file, "added", summary, time);
    report.done(file, entry.to(step.map(|step| step.path.as_path()), false));
    if let Some(step) = step {
        let (original, compressed) = (summary.original_bytes, summary.compressed_bytes);
        let line = code::line(
            &escape::path(&step.path),
            Way::packing(summary),
            original,
            compressed,
            time,
        );
        report.line(&format!("{line}, {}", on(step)));
        report.losses(file, summary);
    }
}

/// What a step is coded against.
fn on(step: &Step) -> String {
    match step.bases.last() {
        Some(base) => format!("on step {base}"),
        None => "a keyframe".to_owned(),
    }
}
