//! `wz chain list`: the steps of a store.

use crate::args::ChainList;
use crate::report::{Status, plain, print_json, say};
use crate::screen::Screen;
use crate::table::{self, Align};
use crate::{escape, human};
use anyhow::Result;
use serde::Serialize;
use std::io::{self, Write};
use weightzip::chain::{Chain, Damaged, MARK, Step};

/// Bases of a step that are told; the JSON object has all.
const BASES: usize = 4;

/// Everything that is printed; also the JSON object.
#[derive(Serialize)]
struct Listing {
    store: String,
    /// Whether the folder is marked as a store. If not, every .wz with a number is listed.
    marked: bool,
    steps: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<DamagedRow>,
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

/// A step that can't be read.
#[derive(Serialize)]
struct DamagedRow {
    step: u64,
    file: String,
    error: String,
}

/// Carries out list.
pub(crate) fn run(args: &ChainList) -> Result<Status> {
    let chain = Chain::open(&args.store)?;
    let steps: Vec<Row> = chain.steps().iter().map(Row::of).collect();
    let sum = |of: fn(&Row) -> u64| steps.iter().map(of).fold(0, u64::saturating_add);
    let (bytes, compressed) = (sum(|row| row.bytes), sum(|row| row.compressed));
    let (store, ratio) = (plain(&args.store), ratio(compressed, bytes));
    let damaged: Vec<DamagedRow> = chain.damaged().iter().map(DamagedRow::of).collect();
    let marked = chain.is_marked();
    let listing = Listing { store, marked, steps, damaged, bytes, compressed, ratio };
    if args.json {
        print_json(&listing)?;
    } else {
        let mut stdout = io::stdout().lock();
        for line in listing.lines() {
            writeln!(stdout, "{line}")?;
        }
        stdout.flush()?;
    }
    for damaged in chain.damaged() {
        super::tell_damage(damaged, "put a copy of it there, or remove it");
    }
    if !marked && !listing.steps.is_empty() {
        say(&format!(
            "wz: {} has no {MARK}, so these may not all be steps; name those that are with wz chain adopt",
            escape::path(&args.store)
        ));
    }
    Ok(if listing.damaged.is_empty() { Status::Done } else { Status::SomeFailed })
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
        let missing = self.missing.iter().map(|name| format!("{} (missing)", table::name(name)));
        let (count, more) = (self.bases.len() + self.missing.len(), |n| format!("{n} more"));
        let rest = count.checked_sub(BASES).filter(|rest| *rest > 0).map(more);
        let on: Vec<String> = bases.chain(missing).take(BASES).chain(rest).collect();
        [
            self.step.to_string(),
            human::bytes(self.bytes),
            human::bytes(self.compressed),
            human::percent(self.ratio),
            if self.keyframe { "keyframe".to_owned() } else { on.join(", ") },
            self.depth.to_string(),
            table::name(&self.file),
        ]
    }
}

impl DamagedRow {
    fn of(damaged: &Damaged) -> Self {
        let file = plain(damaged.path.file_name().unwrap_or_default().as_ref());
        Self { step: damaged.number, file, error: damaged.error().to_string() }
    }

    fn cells(&self) -> [String; 7] {
        let [none, damaged] = ["-", "damaged"].map(str::to_owned);
        let (step, file) = (self.step.to_string(), table::name(&self.file));
        [step, none.clone(), none.clone(), none.clone(), damaged, none, file]
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
        let whole = self.steps.iter().map(|row| (row.step, row.cells()));
        let damaged = self.damaged.iter().map(|row| (row.step, row.cells()));
        let mut rows: Vec<_> = whole.chain(damaged).collect();
        rows.sort_by_key(|(step, _)| *step);
        let rows: Vec<_> = rows.into_iter().map(|(_, cells)| cells).collect();
        let mut lines = match rows.is_empty() {
            true => Vec::new(),
            false => table::lines(heading, &rows, Screen::stdout()),
        };
        let (original, size) = (human::bytes(self.bytes), human::bytes(self.compressed));
        let (steps, ratio) = (super::steps(self.steps.len()), human::percent(self.ratio));
        lines.push(format!("{steps}, {original} -> {size} ({ratio})"));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_names_does_not_make_the_table_wide() {
        let missing = vec!["n".repeat(1 << 16); 1000];
        let (file, bases) = ("s-1.safetensors.wz".to_owned(), vec![1, 2]);
        let row = Row {
            step: 3,
            file,
            bytes: 4000,
            compressed: 1000,
            ratio: None,
            keyframe: false,
            bases,
            missing,
            depth: 1,
        };
        let listing = Listing {
            store: "s".to_owned(),
            marked: true,
            steps: vec![row],
            damaged: Vec::new(),
            bytes: 4000,
            compressed: 1000,
            ratio: None,
        };
        let shown = listing.lines().join("\n");
        assert!(shown.len() < 1500 && shown.contains(", 998 more"), "{shown}");
    }
}
