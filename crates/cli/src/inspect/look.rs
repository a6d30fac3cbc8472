//! What is found in one file.

use super::role::{self, Role, RoleRow};
use crate::args::Inspect;
use crate::base::{self, Need};
use crate::human;
use crate::job;
use crate::lossy::{LossRow, LossyEntry};
use crate::report::plain;
use crate::source::SourceFile;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::fs::File;
use std::path::Path;
use weightzip::{Archive, Base, ByteGroups, Coding, DecodeOptions, Dtype, Kind, Span};

/// Everything that is printed of a file; also the JSON object.
#[derive(Serialize)]
pub(super) struct Inspection {
    pub(super) file: String,
    pub(super) format: &'static str,
    /// Bytes of the original.
    pub(super) bytes: u64,
    /// Bytes of the whole .wz, or what it is likely to be.
    pub(super) compressed: u64,
    pub(super) ratio: Option<f64>,
    /// Whether sizes and codings are estimates: true for a plain file, false for a .wz.
    pub(super) estimated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) archive: Option<ArchiveInfo>,
    pub(super) tensors: Vec<TensorRow>,
    /// Sums of the tensors by what they are for.
    pub(super) roles: Vec<RoleRow>,
    /// The compressibility group of the dtype with the most bytes, if the paper has one for it.
    pub(super) group: Option<&'static str>,
    pub(super) byte_groups: Vec<GroupRow>,
    pub(super) warnings: Vec<String>,
}

/// What only a .wz says.
#[derive(Serialize)]
pub(super) struct ArchiveInfo {
    pub(super) writer: String,
    pub(super) wire_version: String,
    pub(super) level: String,
    pub(super) blake3: String,
    pub(super) sha256: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) needs: Vec<Need>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lossy: Option<LossyEntry>,
}

#[derive(Serialize)]
pub(super) struct TensorRow {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    pub(super) shape: Vec<u64>,
    pub(super) role: Role,
    pub(super) bytes: u64,
    pub(super) compressed: u64,
    pub(super) ratio: Option<f64>,
    pub(super) codings: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<LossRow>,
}

#[derive(Serialize)]
pub(super) struct GroupRow {
    pub(super) dtype: &'static str,
    pub(super) tensors: u64,
    pub(super) bytes: u64,
    /// What Zstd with byte grouping leaves, 1 is everything.
    pub(super) remains: f64,
    /// The same by byte group, top byte first.
    pub(super) groups: Vec<f64>,
    pub(super) group: Option<&'static str>,
}

/// Looks at a model file or a .wz.
pub(super) fn look(args: &Inspect, path: &Path) -> Result<Inspection> {
    look_at(args, &SourceFile::open_at_random(path)?)
}

/// The same of a file that is open.
pub(super) fn look_at(args: &Inspect, source: &SourceFile) -> Result<Inspection> {
    let path = source.path();
    let mut inspection = if weightzip::is_weightzip(&job::prefix(path)?) {
        ensure!(args.dtype.is_none(), "a .wz says what its numbers are; leave out --dtype");
        look_at_archive(source.file(), args.base.of_file(Some(path))?)?
    } else {
        look_at_plain(source, args.dtype)?
    };
    inspection.file = plain(path);
    Ok(inspection)
}

fn look_at_plain(source: &SourceFile, dtype: Option<Dtype>) -> Result<Inspection> {
    let file = source.file();
    let mut layout = source.known_layout()?.clone();
    if let Some(dtype) = dtype {
        layout = layout.of_numbers(dtype)?;
    }
    let estimates = weightzip::estimate(file, &layout.spans)?;
    let rows = layout.spans.iter().zip(&estimates);
    let tensors = rows.filter_map(|(span, e)| TensorRow::new(span, e.bytes, &e.codings)).collect();
    let bytes = file.metadata()?.len();
    let compressed = estimates.iter().map(|e| e.bytes).sum();
    let groups = weightzip::byte_groups(file, &layout.spans)?;
    let found = Inspection::new(layout.format.name(), bytes, compressed, tensors, &groups);
    Ok(Inspection { estimated: true, warnings: layout.warnings, ..found })
}

fn look_at_archive(file: &File, base: Base) -> Result<Inspection> {
    let options = DecodeOptions { base, ..DecodeOptions::default() };
    let archive = Archive::open_with(file, options)?;
    let (mut tensors, mut spans) = (Vec::new(), Vec::new());
    let losses = archive.info().losses.clone();
    for (tensor, number) in archive.tensors().zip(0..) {
        let stored = tensor.stored()?;
        let span = Span::tensor(tensor.range(), tensor.info().clone());
        let loss = losses.as_ref().and_then(|losses| losses.of(number)).map(LossRow::new);
        let row = TensorRow::new(&span, stored.bytes, &stored.codings);
        tensors.extend(row.map(|row| TensorRow { loss, ..row }));
        spans.push(span);
    }
    let mut warnings = Vec::new();
    let groups = match weightzip::byte_groups(&archive, &spans) {
        // Without its base a file can still be listed.
        Err(e) if e.kind() == Kind::InvalidArgument && !archive.bases().is_empty() => {
            warnings.push(e.to_string());
            Vec::new()
        }
        groups => groups?,
    };
    let info = archive.info();
    let (bytes, compressed) = (info.original_bytes, info.compressed_bytes);
    let found = Inspection::new(info.format.name(), bytes, compressed, tensors, &groups);
    let told = ArchiveInfo {
        writer: info.writer.clone(),
        wire_version: info.version.to_string(),
        level: info.level.clone(),
        blake3: human::hex(&info.blake3),
        sha256: info.sha256.map(|h| human::hex(&h)),
        needs: base::needs(archive.bases()),
        lossy: losses.as_deref().map(LossyEntry::new),
    };
    Ok(Inspection { archive: Some(told), warnings, ..found })
}

/// `compressed / bytes` for JSON that stays readable.
pub(super) fn ratio(compressed: u64, bytes: u64) -> Option<f64> {
    human::ratio(compressed, bytes).map(|r| human::round(r, 4))
}

impl TensorRow {
    fn new(span: &Span, compressed: u64, codings: &[Coding]) -> Option<Self> {
        let info = span.tensor.as_ref()?;
        let bytes = span.range.end - span.range.start;
        Some(Self {
            name: info.name.clone(),
            dtype: info.dtype.name(),
            shape: info.shape.clone(),
            role: Role::of(&info.name),
            bytes,
            compressed,
            ratio: ratio(compressed, bytes),
            codings: codings.iter().map(|c| c.name()).collect(),
            loss: None,
        })
    }
}

impl Inspection {
    fn new(
        format: &'static str,
        bytes: u64,
        compressed: u64,
        tensors: Vec<TensorRow>,
        groups: &[ByteGroups],
    ) -> Self {
        let row = |g: &ByteGroups| GroupRow {
            dtype: g.dtype.name(),
            tensors: g.tensors,
            bytes: g.bytes,
            remains: human::round(g.remains, 4),
            groups: g.groups.iter().map(|x| human::round(*x, 4)).collect(),
            group: g.group.map(|c| c.name()),
        };
        Self {
            file: String::new(),
            format,
            bytes,
            compressed,
            ratio: ratio(compressed, bytes),
            estimated: false,
            archive: None,
            roles: role::totals(&tensors),
            tensors,
            group: groups.iter().find_map(|g| g.group).map(|c| c.name()),
            byte_groups: groups.iter().map(row).collect(),
            warnings: Vec::new(),
        }
    }
}
