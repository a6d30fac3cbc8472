//! `wz inspect`: tensors, ratios, hashes, and the compressibility group of a model; of several files and folders
//! what they have together.

mod folder;
mod look;
mod role;
mod show;
mod tensors;

use crate::args::Inspect;
use crate::report::{InFile, Status, print_json, warn};
use crate::screen::Screen;
use crate::{escape, needs};
use anyhow::{Context, Result};
use look::{Inspection, look};
use std::io::{self, Write};
use std::path::Path;

/// Carries out inspect.
pub(crate) fn run(args: &Inspect) -> Result<Status> {
    if let Some(base) = &args.needs {
        return needs::run(&args.files, base, args.json);
    }
    match args.files.as_slice() {
        [file] if !file.is_dir() => one(args, file),
        files => folder::run(args, files),
    }
}

fn one(args: &Inspect, file: &Path) -> Result<Status> {
    let inspection = look(args, file).context(InFile(file.to_owned()))?;
    if args.json {
        print_json(&inspection)?;
        return Ok(Status::Done);
    }
    print_warnings(file, &inspection);
    print(inspection.lines(&escape::path(file), &args.list, Screen::stdout()))?;
    Ok(Status::Done)
}

fn print_warnings(file: &Path, inspection: &Inspection) {
    for warning in &inspection.warnings {
        warn(file, warning);
    }
}

fn print(lines: impl IntoIterator<Item = String>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    for line in lines {
        writeln!(stdout, "{line}")?;
    }
    Ok(stdout.flush()?)
}
