//! `wz demo`: a small trained model, compressed, restored and compared, with every figure measured now.

mod classes;
mod codecs;
mod print;
mod speed;

use crate::report::print_json;
use anyhow::{Context, Result, ensure};
use classes::Class;
use codecs::{Codec, Grouped, Weightzip, Zlib, Zstd};
use serde::Serialize;
use speed::Figures;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use weightzip::{Archive, DecodeOptions, Options};

/// Show what wz does on a small trained model that ships inside it.
#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Print one JSON object to stdout
    #[arg(long)]
    json: bool,
}

/// A model file that is part of the program: the same weights in two number formats.
struct Model {
    name: &'static str,
    element_bytes: usize,
    bytes: &'static [u8],
}

const MODELS: [Model; 2] = [
    Model {
        name: "tiny_gpt_bf16.safetensors",
        element_bytes: 2,
        bytes: include_bytes!("../assets/tiny_gpt_bf16.safetensors"),
    },
    Model {
        name: "tiny_gpt_fp32.safetensors",
        element_bytes: 4,
        bytes: include_bytes!("../assets/tiny_gpt_fp32.safetensors"),
    },
];

/// Everything that is known about one model at the end.
#[derive(Serialize)]
struct Report {
    file: &'static str,
    bytes: usize,
    compressed: u64,
    classes: Vec<Class>,
    codecs: Vec<CodecReport>,
    memcpy_gbps: f64,
}

/// What one codec reaches on the whole file.
#[derive(Serialize)]
struct CodecReport {
    name: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    // With --json, stdout is for the one JSON object alone.
    let mut steps: Box<dyn Write> =
        if args.json { Box::new(io::sink()) } else { Box::new(io::stdout()) };
    writeln!(steps, "a byte-level gpt of half a million weights, trained on python's library")?;
    let mut reports = Vec::new();
    for model in &MODELS {
        writeln!(steps)?;
        let classes = round_trip(model, &mut steps)?;
        print::classes(&mut steps, &classes)?;
        print::measuring(&mut steps)?;
        let report = measure(model, classes)?;
        print::codecs(&mut steps, &report)?;
        reports.push(report);
    }
    print::notes(&mut steps)?;
    if args.json {
        print_json(&serde_json::json!({ "threads": 1, "models": reports }))?;
    }
    Ok(())
}

/// Compresses, verifies and restores the model as files, says so, and returns the sizes by class.
fn round_trip(model: &Model, steps: &mut impl Write) -> Result<Vec<Class>> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let original = folder.path().join(model.name);
    let packed = folder.path().join(format!("{}.wz", model.name));
    let restored = folder.path().join("restored.safetensors");
    fs::write(&original, model.bytes).context("writing the model")?;
    print::step(
        steps,
        "original",
        &format!("{}  {} bytes", model.name, print::count(model.bytes.len())),
    )?;

    let summary = weightzip::compress(open(&original)?, create(&packed)?, &Options::default())?;
    print::step(
        steps,
        "compressed",
        &format!("{}.wz  {} bytes", model.name, print::count(summary.compressed_bytes)),
    )?;

    weightzip::decompress(open(&packed)?, io::sink(), &DecodeOptions::default())?;
    print::step(steps, "verified", "every checksum holds")?;

    weightzip::decompress(open(&packed)?, create(&restored)?, &DecodeOptions::default())?;
    let bytes = fs::read(&restored).context("reading the restored model")?;
    print::step(steps, "restored", &format!("{} bytes", print::count(bytes.len())))?;

    ensure!(
        bytes == model.bytes,
        "{}: the restored bytes differ from the original, please report this",
        model.name
    );
    print::step(steps, "compared", "byte by byte: identical")?;
    classes::sizes(&Archive::open(open(&packed)?)?)
}

/// Sizes and speeds of every codec on the whole file.
fn measure(model: &Model, classes: Vec<Class>) -> Result<Report> {
    let size = model.element_bytes;
    let codecs: [(&'static str, Box<dyn Codec>); 5] = [
        ("weightzip", Box::new(Weightzip)),
        ("zlib level 6", Box::new(Zlib::new())),
        ("zlib level 6, grouped", Box::new(Grouped::new(Zlib::new(), size))),
        ("zstd level 3", Box::new(Zstd::new()?)),
        ("zstd level 3, grouped", Box::new(Grouped::new(Zstd::new()?, size))),
    ];
    let mut bench = speed::Bench::new(model.bytes);
    let mut reports = Vec::new();
    for (name, mut codec) in codecs {
        let figures = bench.codec(codec.as_mut()).with_context(|| format!("measuring {name}"))?;
        reports.push(CodecReport { name, figures });
    }
    let compressed = classes.iter().map(|class| class.after).sum();
    Ok(Report {
        file: model.name,
        bytes: model.bytes.len(),
        compressed,
        classes,
        codecs: reports,
        memcpy_gbps: bench.memcpy()?,
    })
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("creating {}", path.display()))
}
