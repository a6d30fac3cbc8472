//! `wz rebase`: the same original, coded against another base, or against none.

use crate::args::Rebase;
use crate::code::{self, Way};
use crate::output::Output;
use crate::progress::Bar;
use crate::report::{FileEntry, InFile, Report, Status};
use crate::source::SourceFile;
use crate::{escape, space};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use weightzip::chain::Lock;
use weightzip::output::folder_of;
use weightzip::{Archive, DecodeOptions, Level, Options, Summary};

/// Carries out rebase.
pub(crate) fn run(args: &Rebase) -> Result<Status> {
    let (start, mut report) = (Instant::now(), Report::new("rebase", args.ui));
    let summary = rebase(args).context(InFile(args.file.clone()))?;
    let target = args.output.as_deref().unwrap_or(&args.file);
    let entry = FileEntry::coded(&args.file, "rebased", &summary, start.elapsed());
    report.done(&args.file, entry.to(Some(target), false));
    let (label, time) = (escape::path(target), start.elapsed());
    let (original, compressed) = (summary.original_bytes, summary.compressed_bytes);
    report.line(&code::line(&label, Way::packing(&summary), original, compressed, time));
    report.needs(target, &summary.bases);
    report.finish()
}

fn rebase(args: &Rebase) -> Result<Summary> {
    let target = args.output.as_deref().unwrap_or(&args.file);
    let mut new = args.base.named()?;
    // Until the result has its name, nobody may remove what it needs from a store.
    let _held = Lock::of_stores([&args.file, target].into_iter().chain(new.files()))?;
    ensure!(
        new.files().all(Path::exists),
        "another process has just removed the base; name another one with --base"
    );
    let source = SourceFile::open_at_random(&args.file)?;
    let file = fs::canonicalize(&args.file).context("can't open")?;
    if new.files().any(|base| base == file) {
        bail!("a base that is this file, or needs it; name another one with --base");
    }
    let options =
        DecodeOptions { base: args.base.of_file(Some(&args.file))?, ..DecodeOptions::default() };
    let archive = Arc::new(Archive::open_with(source.file().try_clone()?, options)?);
    archive.check_bases()?;
    let layout = archive.layout()?;
    if !new.is_empty() {
        new.compare_with(&*archive, &layout.spans)?;
    }
    let info = archive.info();
    // What stands alone takes more than what has a base.
    space::check(folder_of(target), |_| info.original_bytes)?;
    let output = Output::create(target, args.force || args.output.is_none(), true)?;
    let bar = Bar::new(args.ui, escape::path(&args.file), Some(info.original_bytes));
    let options = Options {
        level: Level::from_name(&info.level).unwrap_or_default(),
        base: new.clone(),
        source: Some(Arc::clone(&archive) as _),
        layout: Some(layout),
        sha256: info.sha256.is_some(),
        losses: info.losses.clone(),
        progress: Some(bar.callback()),
        ..Options::default()
    };
    let summary = weightzip::compress(archive.reader(), output.file()?, &options)?;
    ensure!(
        summary.blake3 == info.blake3,
        "what it decodes to has another hash than it states; nothing was changed"
    );
    output.seal_like(source.file())?;
    bar.message(format!("{}, reading back", escape::path(target)));
    let options = DecodeOptions { base: new, ..DecodeOptions::default() };
    output.read_back(&info.blake3, &options)?;
    source.check_unchanged()?;
    output.commit()?;
    Ok(summary)
}
