//! Files whose numbers, or their names, are described by another file beside them: data that ONNX models keep in
//! a file of its own, and the files of PyTorch's distributed checkpoints.
//!
//! What is said there counts as far as it fits the file. It becomes part of the `.wz`, so that restoring needs
//! neither file.

use super::tensors::{Extent, Tensors, name_of};
use super::warnings::{Warnings, quoted};
use super::{Format, Found, Layout, Trouble, distcp, onnx, scan, torch, zip};
use crate::error::Result;
use crate::span::Span;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

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
    for Model { path, tensors } in models_of(folder).iter() {
        for tensor in tensors {
            match place(&tensor.location, name) {
                Place::Here => match tensor.span(size) {
                    Ok(span) => spans.push(span),
                    Err(why) => warnings.add(|| ignored(path, &tensor.info.name, why)),
                },
                Place::Elsewhere => {}
                Place::Outside => warnings.add(|| {
                    ignored(path, &tensor.info.name, "its file would be out of the folder")
                }),
            }
        }
    }
    let spans = apart(spans, &mut warnings);
    if spans.is_empty() {
        let warnings = layout.warnings.into_iter().chain(warnings.finish()).collect();
        return Layout { warnings, ..layout };
    }
    let mut tensors = Tensors::new(Extent::File(size));
    spans.into_iter().for_each(|span| tensors.add(span));
    Layout::of_tensors(Format::Onnx, tensors, warnings)
}

fn ignored(model: &Path, tensor: &str, why: &str) -> String {
    let model = model.file_name().unwrap_or_default();
    format!("what {model:?} says of tensor {} is ignored: {why}", quoted(tensor))
}

/// A model, and what it has in other files.
struct Model {
    path: PathBuf,
    tensors: Vec<onnx::External>,
}

/// A model's path, bytes and time, by which a change is seen.
type Stamp = (PathBuf, u64, Option<SystemTime>);

/// What a folder had when it was looked at, and its models.
type Known = (Vec<Stamp>, Arc<[Model]>);

/// The models of the folder that was looked at last: all its files of data are described by them.
static LAST: Mutex<Option<Known>> = Mutex::new(None);

/// The models in a folder, by name. Reads them once for all files of data beside them.
fn models_of(folder: &Path) -> Arc<[Model]> {
    let stamps = stamps(folder);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, models)) = last.as_ref().filter(|(known, _)| *known == stamps) {
        return Arc::clone(models);
    }
    // What is no model, or a damaged one, says so when it is looked at itself.
    let model = |(path, ..): &Stamp| {
        let tensors = tensors_of(path).ok()??;
        (!tensors.is_empty()).then(|| Model { path: path.clone(), tensors })
    };
    let models: Arc<[Model]> = stamps.iter().filter_map(model).collect();
    *last = (!models.is_empty()).then(|| (stamps, Arc::clone(&models)));
    models
}

/// The files in a folder whose names are those of models, by name.
fn stamps(folder: &Path) -> Vec<Stamp> {
    let stamp = |path: PathBuf| {
        let is_named = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("onnx"));
        let there = is_named.then(|| fs::metadata(&path).ok()).flatten()?;
        there.is_file().then(|| (path, there.len(), there.modified().ok()))
    };
    // A path that leads from another folder is another one.
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut stamps: Vec<_> = entries.filter_map(|entry| stamp(entry.path())).collect();
    stamps.sort();
    stamps.truncate(MAX_MODELS);
    stamps
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
                format!("tensor {} overlaps another one and is ignored", quoted(name_of(span)))
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
