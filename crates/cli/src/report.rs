//! What a command says: lines on stderr for people, one JSON object on stdout for programs.

use crate::args::Ui;
use crate::base::{self, Need};
use crate::escape;
use crate::estimate::Estimate;
use crate::lossy::LossyEntry;
use crate::screen::Screen;
use anyhow::Result;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// How a command that ran to its end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Done,
    /// Some files failed, and it was said which.
    SomeFailed,
}

/// The JSON object of compress, decompress and verify.
#[derive(Serialize)]
struct Object<'a> {
    command: &'a str,
    files: &'a [Entry],
    /// How many of them failed.
    failed: usize,
}

/// A file in it.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Done(Box<FileEntry>),
    Failed(Failed),
}

/// A file that failed.
#[derive(Serialize)]
pub(crate) struct Failed {
    file: String,
    error: Failure,
}

impl Failed {
    pub(crate) fn new(file: &Path, error: &anyhow::Error) -> Self {
        Self { file: plain(file), error: failure(error) }
    }
}

impl Entry {
    fn done(&self) -> Option<&FileEntry> {
        match self {
            Self::Done(entry) => Some(entry),
            Self::Failed(_) => None,
        }
    }
}

/// What is known of a file that went well.
#[derive(Default, Serialize)]
pub(crate) struct FileEntry {
    pub(crate) file: String,
    /// Absent for stdout and for verify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    /// `compressed`, `restored`, `verified`, `copied`, `left` (as it is) or `skipped` (already complete);
    /// of a dry run `compress`, `copy`, `leave` or `skip`.
    pub(crate) action: &'static str,
    /// Bytes of the original.
    pub(crate) bytes: u64,
    /// Absent for a file that was not coded.
    #[serde(flatten)]
    pub(crate) coded: Option<CodedEntry>,
    /// Of what would be compressed, and of what saves too little for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) estimate: Option<Estimate>,
    pub(crate) seconds: f64,
    pub(crate) warnings: Vec<String>,
}

/// What coding told.
#[derive(Serialize)]
pub(crate) struct CodedEntry {
    /// Bytes of the whole .wz.
    pub(crate) compressed: u64,
    /// compressed / bytes; null for an empty original.
    pub(crate) ratio: Option<f64>,
    pub(crate) format: &'static str,
    pub(crate) tensors: u64,
    pub(crate) blake3: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    /// What it can't be restored without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) needs: Vec<Need>,
    /// What was lost, if it is near-lossless.
    #[serde(skip_serializing_if = "Option::is_none")]
    lossy: Option<LossyEntry>,
    /// Whether the source was removed.
    pub(crate) removed: bool,
    /// In the order in which data pass them, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<Stage>,
}

/// How long a stage took.
#[derive(Serialize)]
struct Stage {
    name: &'static str,
    seconds: f64,
}

/// An error in JSON: the kind is one of the library's five, `io` included, or `refused`.
#[derive(Serialize)]
struct Failure {
    kind: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    offset: Option<u64>,
    tensor: Option<String>,
}

impl Stage {
    fn new((name, time): (&'static str, Duration)) -> Self {
        Self { name, seconds: time.as_secs_f64() }
    }
}

impl FileEntry {
    /// The entry of a file that was coded.
    pub(crate) fn coded(
        file: &Path,
        action: &'static str,
        summary: &weightzip::Summary,
        time: Duration,
    ) -> Self {
        Self {
            file: plain(file),
            action,
            bytes: summary.original_bytes,
            coded: Some(CodedEntry {
                compressed: summary.compressed_bytes,
                ratio: crate::human::ratio(summary.compressed_bytes, summary.original_bytes),
                format: summary.format.name(),
                tensors: summary.tensors,
                blake3: crate::human::hex(&summary.blake3),
                sha256: summary.sha256.map(|h| crate::human::hex(&h)),
                needs: base::needs(&summary.bases),
                lossy: summary.losses.as_deref().map(LossyEntry::new),
                removed: false,
                stages: summary.stages.iter().flat_map(|s| s.named()).map(Stage::new).collect(),
            }),
            seconds: time.as_secs_f64(),
            warnings: summary.warnings.clone(),
            ..Self::default()
        }
    }

    /// Adds where the result went and whether the source is gone.
    pub(crate) fn to(mut self, output: Option<&Path>, removed: bool) -> Self {
        self.output = output.map(plain);
        if let Some(coded) = &mut self.coded {
            coded.removed = removed;
        }
        self
    }
}

/// Collects what happens to each file.
pub(crate) struct Report {
    command: &'static str,
    ui: Ui,
    entries: Vec<Entry>,
    failed: usize,
}

impl Report {
    pub(crate) fn new(command: &'static str, ui: Ui) -> Self {
        Self { command, ui, entries: Vec::new(), failed: 0 }
    }

    pub(crate) fn ui(&self) -> Ui {
        self.ui
    }

    /// A file that went well; its warnings are printed, and its stages.
    pub(crate) fn done(&mut self, file: &Path, entry: FileEntry) {
        for warning in &entry.warnings {
            warn(file, warning);
        }
        for Stage { name, seconds } in entry.coded.iter().flat_map(|c| &c.stages) {
            self.line(&format!("{name:>8} {seconds:8.3} s"));
        }
        self.entries.push(Entry::Done(Box::new(entry)));
    }

    /// How many files there are so far.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// The files that went well, without the first so many of all.
    pub(crate) fn done_after(&self, count: usize) -> Vec<&FileEntry> {
        let entries = self.entries.iter().skip(count);
        entries.filter_map(Entry::done).collect()
    }

    /// A line about something that went well.
    pub(crate) fn line(&self, line: &str) {
        if !self.ui.quiet && !self.ui.json {
            say(line);
        }
    }

    /// A line about a file that needs nothing.
    pub(crate) fn remark(&self, file: &Path, remark: &str) {
        if !self.ui.json {
            warn(file, remark);
        }
    }

    /// A line about what was lost.
    pub(crate) fn losses(&self, file: &Path, summary: &weightzip::Summary) {
        if let Some(losses) = &summary.losses {
            let line = LossyEntry::new(losses).line();
            self.line(&format!("{}: near-lossless, {line}", escape::path(file)));
        }
    }

    /// Lines about what a file can't be restored without.
    pub(crate) fn needs(&self, file: &Path, bases: &[weightzip::BaseTensor]) {
        for line in base::lines(&base::needs(bases)) {
            self.line(&format!("{}: {line}", escape::path(file)));
        }
    }

    /// A file that failed; the rest goes on, unless nobody reads any more.
    pub(crate) fn failed(&mut self, file: &Path, error: anyhow::Error) -> Result<()> {
        if is_broken_pipe(&error) {
            return Err(error);
        }
        tell_failure(file, &error);
        self.failed += 1;
        self.entries.push(Entry::Failed(Failed::new(file, &error)));
        Ok(())
    }

    /// Prints the JSON object if it was asked for.
    pub(crate) fn finish(self) -> Result<Status> {
        if self.ui.json {
            let Self { command, entries, failed, .. } = &self;
            print_json(&Object { command, files: entries, failed: *failed })?;
        }
        Ok(if self.failed == 0 { Status::Done } else { Status::SomeFailed })
    }
}

/// Tells of a command that failed as a whole; `json` as `{"error": {...}}` too.
pub(crate) fn command_failed(error: &anyhow::Error, json: bool) {
    fail(&message(error));
    if json {
        // Nothing is left to be told if this fails too.
        let _ = print_json(&serde_json::json!({ "error": failure(error) }));
    }
}

/// The file that an error is about, as context of it.
#[derive(Debug)]
pub(crate) struct InFile(pub(crate) std::path::PathBuf);

impl std::fmt::Display for InFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&escape::path(&self.0))
    }
}

/// Whether the reader of our output went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    io_error(error).is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// One line on stderr. A stderr that is closed is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// One line about something that failed.
pub(crate) fn fail(line: &str) {
    say(&format!("{} {line}", Screen::stderr().error("wz:")));
}

/// One line about a file that failed.
pub(crate) fn tell_failure(file: &Path, error: &anyhow::Error) {
    fail(&format!("{}: {}", escape::path(file), message(error)));
}

/// One line about something in a file that somebody should know.
pub(crate) fn warn(file: &Path, warning: &str) {
    let sign = Screen::stderr().warning("warning:");
    say(&format!("{}: {sign} {}", escape::path(file), escape::text(warning)));
}

/// One JSON object on stdout, in ASCII: exact for programs, harmless on a terminal.
pub(crate) fn print_json(object: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(object)?;
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The chain of an error in one line, with the next step where the system's word has none.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let part = cause.to_string();
        // The library's errors end with their cause already.
        if parts.last().is_none_or(|last| !last.contains(&part)) {
            parts.push(part);
        }
    }
    let line = escape::text(&parts.join(": "));
    match io_error(error).map(io::Error::kind) {
        Some(io::ErrorKind::FileTooLarge) => {
            line + "; the system or the file system allows no larger one (see `ulimit -f`), write elsewhere with -o"
        }
        Some(io::ErrorKind::StorageFull) => line + "; free some space or write elsewhere with -o",
        _ => line,
    }
}

fn failure(error: &anyhow::Error) -> Failure {
    let known = error.chain().find_map(|e| e.downcast_ref::<weightzip::Error>());
    let kind = match known.map(weightzip::Error::kind) {
        Some(weightzip::Kind::Compatibility) => "compatibility",
        Some(weightzip::Kind::Corruption) => "corruption",
        Some(weightzip::Kind::InsufficientData) => "insufficient_data",
        Some(weightzip::Kind::InvalidArgument) => "invalid_argument",
        Some(weightzip::Kind::Io) => "io",
        None if io_error(error).is_some() => "io",
        None => "refused",
    };
    Failure {
        kind,
        message: message(error),
        file: error.downcast_ref::<InFile>().map(|f| plain(&f.0)),
        offset: known.and_then(weightzip::Error::offset),
        tensor: known.and_then(weightzip::Error::tensor).map(str::to_owned),
    }
}

fn io_error(error: &anyhow::Error) -> Option<&io::Error> {
    error.chain().find_map(|e| e.downcast_ref::<io::Error>())
}

/// A path in JSON; what is not UTF-8 is replaced.
pub(crate) fn plain(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_of_the_library_keeps_its_place() {
        let error = weightzip::Error::new(weightzip::Kind::Corruption, "check differs")
            .at(12)
            .in_tensor("w\u{1b}");
        let error = anyhow::Error::from(error).context(InFile("x.wz".into()));
        let told = failure(&error);
        assert_eq!(
            (told.kind, told.offset, told.tensor.as_deref()),
            ("corruption", Some(12), Some("w\u{1b}"))
        );
        assert_eq!(told.file.as_deref(), Some("x.wz"));
        assert!(!told.message.contains('\u{1b}'));
    }

    #[test]
    fn the_cause_is_not_said_twice() {
        let cause = io::Error::other("disk on fire");
        let error = Err::<(), _>(weightzip::Error::io("reading", cause))
            .context("can't go on")
            .unwrap_err();
        assert_eq!(message(&error), "can't go on: i/o error: reading: disk on fire");
    }
}
