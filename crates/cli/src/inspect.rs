//! `wz inspect`: tensors, ratios, hashes, and the compressibility group of the model.

use crate::args::Inspect;
use crate::base::{self, Need};
use crate::job;
use crate::lossy::{LossRow, LossyEntry};
use crate::report::{InFile, Status, plain, print_json, say};
use crate::source::SourceFile;
use crate::table::{self, Align};
use crate::{escape, human, needs};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use weightzip::{Archive, Base, ByteGroups, Coding, DecodeOptions, Dtype, Kind, Span};

/// Everything that is printed; also the JSON object.
#[derive(Serialize)]
struct Inspection {
    file: String,
    format: &'static str,
    /// Bytes of the original.
    bytes: u64,
    /// Bytes of the whole .wz, or what it is likely to be.
    compressed: u64,
    ratio: Option<f64>,
    /// Whether sizes and codings are estimates: true for a plain file, false for a .wz.
    estimated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<ArchiveInfo>,
    tensors: Vec<TensorRow>,
    /// The compressibility group of the dtype with the most bytes, if the paper has one for it.
    group: Option<&'static str>,
    byte_groups: Vec<GroupRow>,
    warnings: Vec<String>,
}

/// What only a .wz says.
#[derive(Serialize)]
struct ArchiveInfo {
    writer: String,
    wire_version: String,
    level: String,
    blake3: String,
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs: Vec<Need>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lossy: Option<LossyEntry>,
}

#[derive(Serialize)]
struct TensorRow {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    bytes: u64,
    compressed: u64,
    ratio: Option<f64>,
    codings: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<LossRow>,
}

#[derive(Serialize)]
struct GroupRow {
    dtype: &'static str,
    tensors: u64,
    bytes: u64,
    /// What Zstd with byte grouping leaves, 1 is everything.
    remains: f64,
    /// The same by byte group, top byte first.
    groups: Vec<f64>,
    group: Option<&'static str>,
}

/// What a pipe can't be.
const AT_RANDOM: &str = "not a regular file; it has to be read at random";

/// Carries out inspect.
pub(crate) fn run(args: &Inspect) -> Result<Status> {
    if let Some(base) = &args.needs {
        return needs::run(&args.file, base, args.json);
    }
    let inspection = look(args).context(InFile(args.file.clone()))?;
    if args.json {
        print_json(&inspection)?;
        return Ok(Status::Done);
    }
    for warning in &inspection.warnings {
        say(&format!("{}: warning: {}", escape::path(&args.file), escape::text(warning)));
    }
    let mut stdout = io::stdout().lock();
    for line in inspection.lines(&args.file) {
        writeln!(stdout, "{line}")?;
    }
    stdout.flush()?;
    Ok(Status::Done)
}

fn look(args: &Inspect) -> Result<Inspection> {
    let path = args.file.as_path();
    let source = SourceFile::open(path)?;
    source.size().context(AT_RANDOM)?;
    let mut inspection = if weightzip::is_weightzip(&job::prefix(path)?) {
        ensure!(args.dtype.is_none(), "a .wz says what its numbers are; leave out --dtype");
        look_at_archive(source.file(), args.base.of_file(Some(path))?)?
    } else {
        look_at_plain(&source, args.dtype)?
    };
    inspection.file = plain(path);
    Ok(inspection)
}

fn look_at_plain(source: &SourceFile, dtype: Option<Dtype>) -> Result<Inspection> {
    let file = source.file();
    let mut layout = source.layout()?.context(AT_RANDOM)?.clone();
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
    let found = Inspection::new(
        info.format.name(),
        info.original_bytes,
        info.compressed_bytes,
        tensors,
        &groups,
    );
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

impl TensorRow {
    fn new(span: &Span, compressed: u64, codings: &[Coding]) -> Option<Self> {
        let info = span.tensor.as_ref()?;
        let bytes = span.range.end - span.range.start;
        Some(Self {
            name: info.name.clone(),
            dtype: info.dtype.name(),
            shape: info.shape.clone(),
            bytes,
            compressed,
            ratio: human::ratio(compressed, bytes).map(|r| human::round(r, 4)),
            codings: codings.iter().map(|c| c.name()).collect(),
            loss: None,
        })
    }

    fn cells(&self) -> [String; 6] {
        let shape: Vec<_> = self.shape.iter().map(u64::to_string).collect();
        [
            escape::text(&self.name),
            self.dtype.to_owned(),
            format!("[{}]", shape.join(", ")),
            self.bytes.to_string(),
            human::percent(self.ratio),
            if self.codings.is_empty() { "-".to_owned() } else { self.codings.join("+") },
        ]
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
            ratio: human::ratio(compressed, bytes).map(|r| human::round(r, 4)),
            estimated: false,
            archive: None,
            tensors,
            group: groups.iter().find_map(|g| g.group).map(|c| c.name()),
            byte_groups: groups.iter().map(row).collect(),
            warnings: Vec::new(),
        }
    }

    fn lines(&self, path: &Path) -> Vec<String> {
        let mut out = vec![format!(
            "{}: {}, {} {}, {} bytes, {} {} bytes ({})",
            escape::path(path),
            self.format,
            self.tensors.len(),
            if self.tensors.len() == 1 { "tensor" } else { "tensors" },
            self.bytes,
            if self.estimated { "compressed about" } else { "compressed" },
            self.compressed,
            human::percent(self.ratio)
        )];
        if let Some(archive) = &self.archive {
            out.extend(archive.lines());
        }
        if !self.tensors.is_empty() {
            let (ratio, coding) = if self.estimated {
                ("ratio (est.)", "coding (est.)")
            } else {
                ("ratio", "coding")
            };
            let heading = [
                ("tensor", Align::Left),
                ("dtype", Align::Left),
                ("shape", Align::Left),
                ("bytes", Align::Right),
                (ratio, Align::Right),
                (coding, Align::Left),
            ];
            let rows: Vec<_> = self.tensors.iter().map(TensorRow::cells).collect();
            out.push(String::new());
            out.extend(table::lines(heading, &rows));
        }
        if self.tensors.iter().any(|tensor| tensor.loss.is_some()) {
            out.push(String::new());
            out.push("near-lossless: what rounding did".to_owned());
            out.extend(self.loss_lines());
        }
        if !self.byte_groups.is_empty() {
            out.push(String::new());
            out.push(format!(
                "compressibility group: {}",
                self.group.unwrap_or("none of the paper's")
            ));
            out.push(
                "zstd with byte grouping (arXiv 2404.15198, Table II), from a sample:".to_owned(),
            );
            out.extend(self.group_lines());
        }
        out
    }

    fn loss_lines(&self) -> Vec<String> {
        let heading = [
            ("tensor", Align::Left),
            ("bound", Align::Left),
            ("max abs", Align::Right),
            ("max rel", Align::Right),
            ("signal to noise", Align::Right),
        ];
        let row = |tensor: &TensorRow| {
            let [bound, max_abs, max_rel, snr] = tensor.loss.as_ref()?.cells();
            Some([escape::text(&tensor.name), bound, max_abs, max_rel, snr])
        };
        table::lines(heading, &self.tensors.iter().filter_map(row).collect::<Vec<_>>())
    }

    fn group_lines(&self) -> Vec<String> {
        let heading = [
            ("dtype", Align::Left),
            ("tensors", Align::Right),
            ("size", Align::Right),
            ("remains", Align::Right),
            ("group", Align::Left),
            ("per byte group, top byte first", Align::Left),
        ];
        let percent = |r: f64| human::percent(Some(r));
        let row = |g: &GroupRow| {
            let parts: Vec<_> = g.groups.iter().map(|x| percent(*x)).collect();
            [
                g.dtype.to_owned(),
                g.tensors.to_string(),
                human::bytes(g.bytes),
                percent(g.remains),
                g.group.unwrap_or("-").to_owned(),
                parts.join(", "),
            ]
        };
        table::lines(heading, &self.byte_groups.iter().map(row).collect::<Vec<_>>())
    }
}

impl ArchiveInfo {
    fn lines(&self) -> Vec<String> {
        let mut out = vec![
            format!("writer   {}", escape::text(&self.writer)),
            format!("version  {}", self.wire_version),
            format!("level    {}", escape::text(&self.level)),
            format!("blake3   {}", self.blake3),
        ];
        out.extend(self.sha256.iter().map(|h| format!("sha256   {h}")));
        if let Some(lossy) = &self.lossy {
            out.push(format!("lossy    {}", lossy.line()));
            out.push(format!("source   blake3 {}", lossy.source_blake3));
        }
        out.extend(base::lines(&self.needs));
        out
    }
}
