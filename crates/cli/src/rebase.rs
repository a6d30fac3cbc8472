//! `wz rebase`: the same original, coded against another base, or against none.

use crate::args::Rebase;
use crate::output::{Output, folder_of};
use crate::progress::Bar;
use crate::report::{FileEntry, InFile, Report, Status};
use crate::source::SourceFile;
use crate::{code, escape, space};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{self, Read};
use std::time::Instant;
use weightzip::{Archive, DecodeOptions, Level, Options, Summary};

/// Bytes that are decoded at once.
const CHUNK: u64 = 16 << 20;

/// Carries out rebase.
pub(crate) fn run(args: &Rebase) -> Result<Status> {
    let (start, mut report) = (Instant::now(), Report::new("rebase", args.ui));
    let summary = rebase(args).context(InFile(args.file.clone()))?;
    let target = args.output.as_deref().unwrap_or(&args.file);
    let entry = FileEntry::coded(&args.file, "rebased", &summary, start.elapsed());
    report.done(&args.file, entry.to(Some(target), false));
    let (label, time) = (escape::path(target), start.elapsed());
    let (original, compressed) = (summary.original_bytes, summary.compressed_bytes);
    report.line(&code::line(&label, true, original, compressed, time));
    report.needs(target, &summary.bases);
    report.finish()
}

fn rebase(args: &Rebase) -> Result<Summary> {
    let source = SourceFile::open(&args.file)?;
    let metadata = source.metadata().context("not a regular file; it has to be read at random")?;
    let mut new = args.base.named()?;
    let file = fs::canonicalize(&args.file).context("can't open")?;
    if new.files().any(|base| base == file) {
        bail!("a base that is this file, or needs it; name another one with --base");
    }
    let options =
        DecodeOptions { base: args.base.of_file(Some(&args.file))?, ..DecodeOptions::default() };
    let archive = Archive::open_with(source.file(), options)?;
    archive.check_bases()?;
    if !new.is_empty() {
        new.compare_with(&archive)?;
    }
    let info = archive.info();
    // What stands alone takes more than what has a base.
    let target = args.output.as_deref().unwrap_or(&args.file);
    space::check(folder_of(target), |_| info.original_bytes)?;
    let output = Output::create(target, args.force || args.output.is_none(), true)?;
    let bar = Bar::new(args.ui, escape::path(&args.file), Some(info.original_bytes));
    let options = Options {
        level: Level::from_name(&info.level).unwrap_or_default(),
        base: new.clone(),
        sha256: info.sha256.is_some(),
        progress: Some(bar.callback()),
        ..Options::default()
    };
    let original = Original { archive: &archive, at: 0, buffer: Vec::new(), start: 0 };
    let summary = weightzip::compress(original, output.file()?, &options)?;
    ensure!(
        summary.blake3 == info.blake3,
        "what it decodes to has another hash than it states; nothing was changed"
    );
    output.seal(Some(metadata))?;
    bar.message(format!("{}, reading back", escape::path(target)));
    let written = File::open(output.path()).context("can't read the result back")?;
    let options = DecodeOptions { base: new, ..DecodeOptions::default() };
    let read_back = weightzip::decompress(written, io::sink(), &options)?;
    ensure!(
        read_back.blake3 == info.blake3,
        "the result, read back from disk, holds something else; nothing was changed"
    );
    source.check_unchanged()?;
    output.commit()?;
    Ok(summary)
}

/// What a .wz was made of, from front to back.
struct Original<'a> {
    archive: &'a Archive<&'a File>,
    /// How much was decoded.
    at: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was given.
    start: usize,
}

impl Read for Original<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.buffer.len() {
            let left = (self.archive.info().original_bytes - self.at).min(CHUNK);
            self.buffer.resize(usize::try_from(left).map_err(io::Error::other)?, 0);
            self.archive.read_at(self.at, &mut self.buffer).map_err(io::Error::other)?;
            self.at += left;
            self.start = 0;
        }
        let rest = &self.buffer[self.start..];
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.start += len;
        Ok(len)
    }
}
