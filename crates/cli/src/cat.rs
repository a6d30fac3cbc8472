//! `wz cat`: the bytes of one tensor, or of some of its rows.

use crate::args::{Cat, Where};
use crate::output::Output;
use crate::report::{InFile, Status};
use crate::source::SourceFile;
use crate::stdio;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use weightzip::{Archive, DecodeOptions, Kind};

/// Bytes that are decoded at once.
const CHUNK: u64 = 16 << 20;

/// Carries out cat.
pub(crate) fn run(args: &Cat) -> Result<Status> {
    write(args).context(InFile(args.file.clone()))?;
    Ok(Status::Done)
}

fn write(args: &Cat) -> Result<()> {
    let source = SourceFile::open(&args.file)?;
    ensure!(source.size().is_some(), "not a regular file; it has to be read at random");
    let base = args.base.of_file(Some(&args.file))?;
    let options = DecodeOptions { base, ..DecodeOptions::default() };
    let archive = Archive::open_with(source.file(), options)?;
    let range = match find(&archive, args) {
        Err(e) if e.kind() == Kind::InvalidArgument => {
            return Err(
                anyhow::Error::from(e).context("no such tensor or rows; `wz inspect` lists them")
            );
        }
        found => found?,
    };
    match &args.to {
        Where::Path(target) => {
            let output = Output::create(target, args.force, false)?;
            copy(&archive, &args.tensor, range, output.file()?)?;
            output.seal(None)?;
            output.commit()
        }
        _ => copy(&archive, &args.tensor, range, stdio::data_stdout()?),
    }
}

/// The bytes of the original that are asked for.
fn find(archive: &Archive<&File>, args: &Cat) -> weightzip::Result<Range<u64>> {
    let tensor = archive.tensor(&args.tensor)?;
    let range = tensor.range();
    let Some((first, last)) = args.rows else { return Ok(range) };
    let count = tensor.info().shape.first().copied().unwrap_or(0);
    let rows = first..last.unwrap_or(count);
    let bytes = tensor.rows(rows)?.bytes();
    let row = (range.end - range.start).checked_div(count).unwrap_or(0);
    let start = range.start + first * row;
    Ok(start..start + bytes)
}

fn copy(
    archive: &Archive<&File>,
    tensor: &str,
    range: Range<u64>,
    mut writer: impl Write,
) -> Result<()> {
    let mut buffer = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let Ok(bytes) = usize::try_from(CHUNK.min(range.end - at)) else {
            bail!("chunk too large")
        };
        buffer.resize(bytes, 0);
        archive.read_at(at, &mut buffer).map_err(|e| e.in_tensor(tensor))?;
        writer.write_all(&buffer).context("can't write")?;
        at += buffer.len() as u64;
    }
    Ok(writer.flush()?)
}
