//! Files whose numbers, or their names, are described by another file beside them: data that ONNX models keep in
//! a file of its own, and the files of PyTorch's distributed checkpoints.
//!
//! What is said there counts as far as it fits the file. It becomes part of the `.wz`, so that restoring needs
//! neither file.

use super::{Format, Found, Layout, Trouble, Warnings, distcp, onnx, scan, torch, zip};
use crate::error::Result;
use crate::span::Span;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Most models beside a file that are looked at.
const MAX_MODELS: usize = 64;

/// Finds the spans of the file at `path`, as [`scan`] does. Where it does not say itself what its numbers are, or are
/// called, files beside it may: models whose names end in `.onnx`, or `.metadata` of a distributed checkpoint.
///
/// What such a file says that can't be is ignored, with a warning.
///
/// # Errors
/// As [`scan`].
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("weights.bin");
/// # std::fs::write(&path, [0; 100])?;
/// let file = std::fs::File::open(&path)?;
/// let layout = weightzip::scan_file(&path, &file)?;
/// assert_eq!(layout.spans.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn scan_file(path: &Path, file: &File) -> Result<Layout> {
    let layout = scan(file)?;
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(layout) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match layout.format {
        Format::Opaque => Ok(of_models(folder, name, layout)),
        Format::Pytorch if name.ends_with(".distcp") => of_metadata(folder, name, file, layout),
        _ => Ok(layout),
    }
}

/// Where a file is that another one tells of.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// It is the file that is looked at.
    Here,
    /// It is another one.
    Elsewhere,
    /// It has the name of this one, but not the folder.
    Outside,
}

/// Whether a path, from the folder of who tells it, leads to `name` in that folder.
pub(super) fn place(path: &str, name: &str) -> Place {
    let mut parts: Vec<_> = Path::new(path).components().collect();
    parts.retain(|part| *part != Component::CurDir);
    match &parts[..] {
        [Component::Normal(only)] if *only == name => Place::Here,
        [.., Component::Normal(last)] if *last == name => {
            let is_inside = parts.iter().all(|part| matches!(part, Component::Normal(_)));
            if is_inside { Place::Elsewhere } else { Place::Outside }
        }
        _ => Place::Elsewhere,
    }
}

/// The layout of a file of data, as models beside it have it.
fn of_models(folder: &Path, name: &str, layout: Layout) -> Layout {
    let (size, mut warnings) = (layout.end(), Warnings::default());
    let mut spans = Vec::new();
    for path in models_in(folder) {
        // What is no model, or a damaged one, says so when it is looked at itself.
        let Ok(Some(tensors)) = tensors_of(&path) else { continue };
        for tensor in tensors {
            match place(&tensor.location, name) {
                Place::Here => match tensor.span(size) {
                    Ok(span) => spans.push(span),
                    Err(why) => warnings.add(|| ignored(&path, &tensor.info.name, why)),
                },
                Place::Elsewhere => {}
                Place::Outside => warnings.add(|| {
                    ignored(&path, &tensor.info.name, "its file would be out of the folder")
                }),
            }
        }
    }
    let spans = apart(spans, &mut warnings);
    if spans.is_empty() {
        let warnings = layout.warnings.into_iter().chain(warnings.finish()).collect();
        return Layout { warnings, ..layout };
    }
    Layout::of_tensors(Format::Onnx, spans, size, warnings)
}

fn ignored(model: &Path, tensor: &str, why: &str) -> String {
    let model = model.file_name().unwrap_or_default();
    format!("what {model:?} says of tensor {tensor:?} is ignored: {why}")
}

/// The models in a folder, by name.
fn models_in(folder: &Path) -> Vec<PathBuf> {
    let is_model = |path: &PathBuf| {
        path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("onnx")) && is_file(path)
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut models: Vec<_> = entries.map(|entry| entry.path()).filter(is_model).collect();
    models.sort();
    models.truncate(MAX_MODELS);
    models
}

/// A pipe would never end.
fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| there.is_file())
}

fn tensors_of(model: &Path) -> Found<Option<Vec<onnx::External>>> {
    let open = || -> std::io::Result<_> {
        let file = File::open(model)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    let (file, size) = open().map_err(|e| Trouble::Unreadable(super::unreadable(e)))?;
    onnx::external(&file, size)
}

/// One span for each place, by place. Tensors may share theirs; one that overlaps another in any other way goes.
fn apart(mut spans: Vec<Span>, warnings: &mut Warnings) -> Vec<Span> {
    spans.sort_by_key(|span| (span.range.start, span.range.end));
    spans.dedup_by(|next, span| next.range == span.range);
    let mut end = 0;
    spans.retain(|span| {
        let fits = span.range.start >= end;
        match fits {
            true => end = span.range.end,
            false => warnings.add(|| {
                format!("tensor {:?} overlaps another one and is ignored", super::name_of(span))
            }),
        }
        fits
    });
    spans
}

/// The layout of a file of a distributed checkpoint, with the names that its metadata has.
fn of_metadata(folder: &Path, name: &str, file: &File, layout: Layout) -> Result<Layout> {
    let mut warnings = Warnings::default();
    let Some(metadata) = metadata(&folder.join(distcp::METADATA)) else { return Ok(layout) };
    let mut names = distcp::names(&metadata, name, &mut warnings).unwrap_or_else(|why| {
        warnings.add(|| format!("{} is ignored: {why}", distcp::METADATA));
        distcp::Names::new()
    });
    let named = match zip::scan(file, layout.end(), &mut names) {
        Ok(named) => named,
        Err(Trouble::Broken(_)) => layout,
        Err(Trouble::Unreadable(error)) => return Err(error),
    };
    if !names.is_empty() {
        let (metadata, count) = (distcp::METADATA, names.len());
        let some = if count == 1 { "a part".to_owned() } else { format!("{count} parts") };
        warnings.add(|| format!("{metadata} tells of {some} of this file that it doesn't have"));
    }
    let warnings = named.warnings.into_iter().chain(warnings.finish()).collect();
    Ok(Layout { warnings, ..named })
}

/// The metadata's bytes, if there are some and they can be read.
fn metadata(path: &Path) -> Option<Vec<u8>> {
    if !is_file(path) {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(torch::MAX_PICKLE + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= torch::MAX_PICKLE).then_some(bytes)
}
