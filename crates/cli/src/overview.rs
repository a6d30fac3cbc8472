//! A table of files: what was done with each, or would be, and what it saves.

use crate::report::FileEntry;
use crate::table::{self, Align};
use crate::{escape, human};

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

/// Lines of the table. Files of which there is nothing to tell share one; the total is the last.
pub(crate) fn lines(entries: &[&FileEntry]) -> Vec<String> {
    let (mut rows, mut others, mut all) = (Vec::new(), Sum::default(), Sum::default());
    for entry in entries {
        all.add(entry);
        match row(entry) {
            Some(row) => rows.push(row),
            None => others.add(entry),
        }
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
    table::lines(heading, &rows)
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
        escape::text(&entry.file),
        format,
        human::bytes(entry.bytes),
        human::bytes(compressed),
        saving,
        entry.action.to_owned(),
    ])
}
