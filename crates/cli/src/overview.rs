//! A table of files: what was done with each, or would be, and what it saves.

use crate::human;
use crate::report::FileEntry;
use crate::screen::Screen;
use crate::table::{self, Align};
use std::cmp::Reverse;

/// Sizes of some files.
#[derive(Default)]
struct Sum {
    files: usize,
    bytes: u64,
    after: u64,
}

impl Sum {
    fn add(&mut self, entry: &FileEntry) {
        self.files += 1;
        self.bytes += entry.bytes;
        self.after += match (&entry.coded, &entry.estimate) {
            (Some(coded), _) => coded.compressed,
            (None, Some(estimate)) if entry.action == "compress" => estimate.compressed,
            _ => entry.bytes,
        };
    }

    fn row(&self, label: String, action: &str) -> [String; 6] {
        let saving = human::saving(human::ratio(self.after, self.bytes));
        let sizes = [self.bytes, self.after].map(human::bytes);
        let [bytes, after] = sizes;
        [label, String::new(), bytes, after, saving, action.to_owned()]
    }
}

/// Lines of the table. Files of which there is nothing to tell share one, and so do the smaller ones of too many
/// unless it is to be `full`; the total is the last.
pub(crate) fn lines(entries: &[&FileEntry], full: bool, screen: Screen) -> Vec<String> {
    let (mut told, mut others, mut all) = (Vec::new(), Sum::default(), Sum::default());
    for entry in entries {
        all.add(entry);
        match row(entry) {
            Some(row) => told.push((entry, row)),
            None => others.add(entry),
        }
    }
    let mut smaller = Sum::default();
    if !full && told.len() > table::ROWS {
        told.sort_by_key(|(entry, _)| Reverse(entry.bytes));
        told.drain(table::ROWS..).for_each(|(entry, _)| smaller.add(entry));
    }
    let mut rows: Vec<_> = told.into_iter().map(|(_, row)| row).collect();
    if smaller.files > 0 {
        let label = format!("{} smaller files (--table full)", smaller.files);
        rows.push(smaller.row(label, ""));
    }
    match others.files {
        0 => {}
        1 => rows.push(others.row("1 other file".to_owned(), "-")),
        n => rows.push(others.row(format!("{n} other files"), "-")),
    }
    rows.push(all.row("total".to_owned(), ""));
    let heading = [
        ("file", Align::Left),
        ("format", Align::Left),
        ("size", Align::Right),
        (".wz", Align::Right),
        ("saves", Align::Right),
        ("", Align::Left),
    ];
    table::lines(heading, &rows, screen)
}

fn row(entry: &FileEntry) -> Option<[String; 6]> {
    let (format, compressed, saving) = match (&entry.coded, &entry.estimate) {
        (Some(coded), _) => (coded.format.to_owned(), coded.compressed, human::saving(coded.ratio)),
        (None, Some(estimate)) => {
            let format = format!("{} {}", estimate.format, estimate.dtypes.join(", "));
            (format.trim_end().to_owned(), estimate.compressed, estimate.saving())
        }
        (None, None) => return None,
    };
    Some([
        table::name(&entry.file),
        format,
        human::bytes(entry.bytes),
        human::bytes(compressed),
        saving,
        entry.action.to_owned(),
    ])
}
