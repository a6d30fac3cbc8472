//! `wz chain list`: the steps of a store.

use crate::args::ChainList;
use crate::report::{Status, plain, print_json};
use crate::table::{self, Align};
use crate::{escape, human};
use anyhow::Result;
use serde::Serialize;
use std::io::{self, Write};
use weightzip::chain::{Chain, Step};

/// Everything that is printed; also the JSON object.
#[derive(Serialize)]
struct Listing {
    store: String,
    steps: Vec<Row>,
    /// Bytes of all originals, and of all .wz.
    bytes: u64,
    compressed: u64,
    ratio: Option<f64>,
}

#[derive(Serialize)]
struct Row {
    step: u64,
    file: String,
    bytes: u64,
    compressed: u64,
    ratio: Option<f64>,
    keyframe: bool,
    bases: Vec<u64>,
    /// What it is coded against that isn't in the store.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    depth: usize,
}

/// Carries out list.
pub(crate) fn run(args: &ChainList) -> Result<Status> {
    let chain = Chain::open(&args.store)?;
    let steps: Vec<Row> = chain.steps().iter().map(Row::of).collect();
    let sum = |of: fn(&Row) -> u64| steps.iter().map(of).fold(0, u64::saturating_add);
    let (bytes, compressed) = (sum(|row| row.bytes), sum(|row| row.compressed));
    let (store, ratio) = (plain(&args.store), ratio(compressed, bytes));
    let listing = Listing { store, steps, bytes, compressed, ratio };
    if args.json {
        print_json(&listing)?;
        return Ok(Status::Done);
    }
    let mut stdout = io::stdout().lock();
    for line in listing.lines() {
        writeln!(stdout, "{line}")?;
    }
    stdout.flush()?;
    Ok(Status::Done)
}

fn ratio(compressed: u64, bytes: u64) -> Option<f64> {
    human::ratio(compressed, bytes).map(|ratio| human::round(ratio, 4))
}

impl Row {
    fn of(step: &Step) -> Self {
        let (bytes, compressed) = (step.info.original_bytes, step.info.compressed_bytes);
        Self {
            step: step.number,
            file: plain(step.path.file_name().unwrap_or_default().as_ref()),
            bytes,
            compressed,
            ratio: ratio(compressed, bytes),
            keyframe: step.is_keyframe(),
            bases: step.bases.clone(),
            missing: step.missing.clone(),
            depth: step.depth,
        }
    }

    fn cells(&self) -> [String; 7] {
        let bases = self.bases.iter().map(u64::to_string);
        let missing = self.missing.iter().map(|name| format!("{} (missing)", escape::text(name)));
        let on: Vec<String> = bases.chain(missing).collect();
        [
            self.step.to_string(),
            human::bytes(self.bytes),
            human::bytes(self.compressed),
            human::percent(self.ratio),
            if self.keyframe { "keyframe".to_owned() } else { on.join(", ") },
            self.depth.to_string(),
            escape::text(&self.file),
        ]
    }
}

impl Listing {
    fn lines(&self) -> Vec<String> {
        let heading = [
            ("step", Align::Right),
            ("original", Align::Right),
            ("size", Align::Right),
            ("ratio", Align::Right),
            ("base", Align::Left),
            ("depth", Align::Right),
            ("file", Align::Left),
        ];
        let mut lines = match self.steps.is_empty() {
            true => Vec::new(),
            false => table::lines(heading, &self.steps.iter().map(Row::cells).collect::<Vec<_>>()),
        };
        let (original, size) = (human::bytes(self.bytes), human::bytes(self.compressed));
        let (steps, ratio) = (super::steps(self.steps.len()), human::percent(self.ratio));
        lines.push(format!("{steps}, {original} -> {size} ({ratio})"));
        lines
    }
}
