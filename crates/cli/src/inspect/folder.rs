//! Several files, or the models of folders, together.

use super::look::{self, Inspection, ratio};
use super::role::{self, RoleRow};
use super::{print, print_warnings, tensors};
use crate::args::Inspect;
use crate::report::{Failed, Status, print_json, tell_failure};
use crate::screen::Screen;
use crate::source::SourceFile;
use crate::table::{self, Align};
use crate::walk::{self, Entry};
use crate::{cache, escape, human, job};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Everything that is printed; also the JSON object.
#[derive(Default, Serialize)]
struct Models {
    files: Vec<Model>,
    /// Files of the folders that have no tensors.
    others: usize,
    /// Sums of what could be read.
    bytes: u64,
    compressed: u64,
    ratio: Option<f64>,
    roles: Vec<RoleRow>,
    failed: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Model {
    Read(Box<Inspection>),
    Failed(Failed),
}

/// Inspects files, and the models in folders.
pub(super) fn run(args: &Inspect, paths: &[PathBuf]) -> Result<Status> {
    let mut models = Models::default();
    for path in paths {
        if let Err(error) = models.add(args, path) {
            models.fail(path, &error);
        }
    }
    models.sum();
    if args.json {
        print_json(&models)?;
    } else {
        models.print(args)?;
    }
    Ok(if models.failed == 0 { Status::Done } else { Status::SomeFailed })
}

impl Models {
    /// Adds a file, or the models in a folder.
    fn add(&mut self, args: &Inspect, path: &Path) -> Result<()> {
        if !path.is_dir() {
            self.files.push(Model::Read(Box::new(look::look(args, path)?)));
            return Ok(());
        }
        ensure!(args.dtype.is_none(), "--dtype is for files, and a folder's may differ; name them");
        let tree = walk::walk(&cache::snapshot(path)?)?;
        for entry in &tree.files {
            match in_folder(args, entry) {
                Ok(Some(found)) => self.files.push(Model::Read(Box::new(found))),
                Ok(None) => self.others += 1,
                Err(error) => self.fail(&entry.path, &error),
            }
        }
        for (path, error) in tree.refused {
            self.fail(&path, &error);
        }
        Ok(())
    }

    fn fail(&mut self, path: &Path, error: &anyhow::Error) {
        tell_failure(path, error);
        self.failed += 1;
        self.files.push(Model::Failed(Failed::new(path, error)));
    }

    fn read(&self) -> impl Iterator<Item = &Inspection> {
        self.files.iter().filter_map(|model| match model {
            Model::Read(inspection) => Some(&**inspection),
            Model::Failed(_) => None,
        })
    }

    fn sum(&mut self) {
        let sum = |of: fn(&Inspection) -> u64| self.read().map(of).sum();
        let (bytes, compressed) = (sum(|model| model.bytes), sum(|model| model.compressed));
        let roles = role::totals(self.read().flat_map(|model| &model.tensors));
        (self.bytes, self.compressed, self.roles) = (bytes, compressed, roles);
        self.ratio = ratio(compressed, bytes);
    }

    fn print(&self, args: &Inspect) -> Result<()> {
        let screen = Screen::stdout();
        for model in self.read() {
            print_warnings(Path::new(&model.file), model);
        }
        if args.list.full {
            for model in self.read() {
                let mut lines = model.lines(&escape::text(&model.file), &args.list, screen);
                lines.push(String::new());
                print(lines)?;
            }
        }
        print(self.file_lines(args.list.full, screen))?;
        let is_estimated = self.read().any(|model| model.estimated);
        if !args.list.full {
            let found: Vec<_> = self.read().flat_map(Inspection::found).collect();
            print(tensors::lines(&found, &args.list, is_estimated, screen))?;
        }
        print(role::lines(&self.roles, is_estimated, screen))
    }

    /// A row for each file, or for the largest ones.
    fn file_lines(&self, is_full: bool, screen: Screen) -> Vec<String> {
        let mut models: Vec<_> = self.read().collect();
        let mut rest = Vec::new();
        if !is_full && models.len() > table::ROWS {
            models.sort_by_key(|model| std::cmp::Reverse(model.bytes));
            rest = models.split_off(table::ROWS);
        }
        let mut rows: Vec<_> = models
            .iter()
            .map(|model| row(table::name(&model.file), model.kind(), &[*model]))
            .collect();
        if !rest.is_empty() {
            rows.push(row(format!("{} smaller files", rest.len()), String::new(), &rest));
        }
        if self.others > 0 {
            let label = match self.others {
                1 => "1 file without tensors".to_owned(),
                n => format!("{n} files without tensors"),
            };
            let mut row = [const { String::new() }; 6];
            row[0] = label;
            rows.push(row);
        }
        rows.push(row("total".to_owned(), String::new(), &self.read().collect::<Vec<_>>()));
        let is_estimated = self.read().any(|model| model.estimated);
        let (size, ratio) = if is_estimated { ("~.wz", "~ratio") } else { (".wz", "ratio") };
        let heading = [
            ("file", Align::Left),
            ("format", Align::Left),
            ("tensors", Align::Right),
            ("size", Align::Right),
            (size, Align::Right),
            (ratio, Align::Right),
        ];
        table::lines(heading, &rows, screen)
    }
}

/// What is known of a file in a folder; nothing if it is a file without tensors.
fn in_folder(args: &Inspect, entry: &Entry) -> Result<Option<Inspection>> {
    let source = SourceFile::open_at_random(&entry.path)?;
    let layout = source.known_layout()?;
    let has_tensors = layout.spans.iter().any(|span| span.tensor.is_some());
    let is_model = has_tensors || !layout.warnings.is_empty();
    if is_model || weightzip::is_weightzip(&job::prefix(&entry.path)?) {
        return look::look_at(args, &source).map(Some);
    }
    Ok(None)
}

/// A row of some files together.
fn row(label: String, kind: String, models: &[&Inspection]) -> [String; 6] {
    let sum = |of: fn(&Inspection) -> u64| models.iter().map(|model| of(model)).sum();
    let (bytes, compressed) = (sum(|model| model.bytes), sum(|model| model.compressed));
    let tensors: usize = models.iter().map(|model| model.tensors.len()).sum();
    [
        label,
        kind,
        tensors.to_string(),
        human::bytes(bytes),
        human::bytes(compressed),
        human::percent(ratio(compressed, bytes)),
    ]
}
