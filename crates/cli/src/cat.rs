//! `wz cat`: the bytes of one tensor, or of some of its rows.

use crate::args::{Cat, Where};
use crate::output::Output;
use crate::report::{InFile, Status};
use crate::source::SourceFile;
use crate::{escape, near, place, stdio};
use anyhow::{Context, Result, anyhow, bail};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use weightzip::{Archive, DecodeOptions, Kind};

/// Bytes that are decoded at once.
const CHUNK: u64 = 16 << 20;

/// Columns of a name in a message.
const SHOWN: usize = 200;

/// Carries out cat.
pub(crate) fn run(args: &Cat) -> Result<Status> {
    write(args).context(InFile(args.file.clone()))?;
    Ok(Status::Done)
}

fn write(args: &Cat) -> Result<()> {
    let source = SourceFile::open_at_random(&args.file)?;
    let base = args.base.of_file(Some(&args.file))?;
    let options = DecodeOptions { base, ..DecodeOptions::default() };
    let archive = Archive::open_with(source.file(), options)?;
    let rows = match find(&archive, args) {
        Err(e) if e.kind() == Kind::InvalidArgument => {
            return Err(unknown(&archive, args, e));
        }
        found => found?,
    };
    match &args.to {
        Where::Path(target) => {
            let target = match place::is_folder(target) {
                true => &place::in_folder(target, &place::of_tensor(&args.tensor))?,
                false => target,
            };
            let output = Output::create(target, args.force, false)?;
            copy(&archive, &args.tensor, rows, output.file()?)?;
            output.seal(None)?;
            output.commit()
        }
        _ => copy(&archive, &args.tensor, rows, stdio::data_stdout()?),
    }
}

/// What to say of a tensor that isn't there, or of rows that it doesn't have.
fn unknown(archive: &Archive<&File>, args: &Cat, error: weightzip::Error) -> anyhow::Error {
    if archive.tensors().any(|tensor| tensor.info().name == args.tensor) {
        return anyhow::Error::from(error).context("no such rows; `wz inspect` lists shapes");
    }
    let names: Vec<_> = archive.tensors().map(|tensor| tensor.info().name.clone()).collect();
    let near = near::near(&args.tensor, names.iter().map(String::as_str));
    let near: Vec<_> = near.into_iter().map(|name| escape::name(name, SHOWN)).collect();
    let name = escape::name(&args.tensor, SHOWN);
    match near.as_slice() {
        [] => anyhow!("there is no tensor \"{name}\"; `wz inspect` lists them"),
        near => anyhow!("there is no tensor \"{name}\"; near it: {}", near.join(", ")),
    }
}

/// The bytes of the original that have the rows; nothing if the whole tensor is asked for.
fn find(archive: &Archive<&File>, args: &Cat) -> weightzip::Result<Option<Range<u64>>> {
    let tensor = archive.tensor(&args.tensor)?;
    let Some((first, last)) = args.rows else { return Ok(None) };
    let count = tensor.info().shape.first().copied().unwrap_or(0);
    Ok(Some(tensor.rows(first..last.unwrap_or(count))?.range()))
}

/// Writes a tensor, which is compared with its BLAKE3, or some rows of it.
fn copy(
    archive: &Archive<&File>,
    tensor: &str,
    rows: Option<Range<u64>>,
    mut writer: impl Write,
) -> Result<()> {
    let Some(rows) = rows else { return Ok(archive.tensor(tensor)?.write_to(writer)?) };
    let (mut buffer, mut at) = (Vec::new(), rows.start);
    while at < rows.end {
        let Ok(bytes) = usize::try_from(CHUNK.min(rows.end - at)) else { bail!("chunk too large") };
        buffer.resize(bytes, 0);
        archive.read_at(at, &mut buffer).map_err(|e| e.in_tensor(tensor))?;
        writer.write_all(&buffer).context("can't write")?;
        at += buffer.len() as u64;
    }
    Ok(writer.flush()?)
}
