//! What `wz tune` says at the end: the table, the plot, the rules, the JSON object.

use super::name_of;
use super::plot::Plot;
use crate::args::Tune;
use crate::report::{plain, print_json};
use crate::screen::Screen;
use crate::table::{self, Align};
use crate::{escape, human};
use anyhow::Result;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use weightzip::lossy::tune::{Found, Trial};

/// Characters of rules in the table: the JSON object has all.
const SHOWN: usize = 70;

/// A search that has ended.
pub(super) struct Shown<'a> {
    pub(super) args: &'a Tune,
    pub(super) found: &'a Found,
    /// Of the original.
    pub(super) bytes: u64,
    pub(super) groups: usize,
    pub(super) log: &'a Path,
}

/// The JSON object.
#[derive(Serialize)]
struct Object<'a> {
    command: &'static str,
    file: String,
    bytes: u64,
    groups: usize,
    knob: &'static str,
    level: &'static str,
    tolerance: &'a str,
    direction: &'static str,
    original: Option<Entry>,
    best: Option<Entry>,
    output: Option<String>,
    log: String,
    trials: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    rules: String,
    compressed: u64,
    ratio: Option<f64>,
    /// Null if it is not a number.
    score: f64,
    within: bool,
}

impl Shown<'_> {
    /// The rules as a file, with what they are of.
    pub(super) fn rule_file(&self) -> String {
        let Some(best) = self.found.best() else { return String::new() };
        format!(
            "# {} by wz tune, tolerance {}:\n# {}\n{}",
            escape::path(&self.args.input),
            self.args.tolerance,
            self.outcome(best),
            best.rules.to_toml()
        )
    }

    /// Prints everything; `rules` is where they are, if there are some.
    pub(super) fn print(&self, rules: Option<&Path>, plot: Option<&Plot>) -> Result<()> {
        if self.args.ui.json {
            return print_json(&self.object(rules));
        }
        if self.args.ui.quiet {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let mut lines = self.table();
        if let Some(plot) = plot.filter(|_| stdout.is_terminal()) {
            lines.push(String::new());
            lines.extend(plot.lines());
        }
        if let (Some(best), Some(rules)) = (self.found.best(), rules) {
            lines.extend([String::new(), self.outcome(best), self.next(rules)]);
        }
        for line in lines {
            writeln!(stdout, "{line}")?;
        }
        Ok(stdout.flush()?)
    }

    fn table(&self) -> Vec<String> {
        let heading = [
            ("rules", Align::Left),
            ("size", Align::Right),
            ("ratio", Align::Right),
            ("score", Align::Right),
            ("within", Align::Left),
        ];
        let row = |(place, trial): (usize, &Trial)| {
            let within = match (self.found.best == Some(place), trial.within) {
                (true, _) => "yes, the result",
                (_, true) => "yes",
                _ => "no",
            };
            [
                shortened(&name_of(&trial.rules)),
                human::bytes(trial.measured.bytes),
                human::percent(self.ratio(trial)),
                trial.measured.score.to_string(),
                within.to_owned(),
            ]
        };
        let rows: Vec<_> = self.found.trials.iter().enumerate().map(row).collect();
        table::lines(heading, &rows, Screen::stdout())
    }

    /// `28.4 % of the original, 84.1 % without loss; score 0.9312, the original's is 0.9316`
    fn outcome(&self, best: &Trial) -> String {
        let size = human::percent(self.ratio(best));
        let Some(original) = self.found.trials.first() else { return size };
        format!(
            "{size} of the original, {} without loss; score {}, the original's is {}",
            human::percent(self.ratio(original)),
            best.measured.score,
            original.measured.score
        )
    }

    /// The line to run.
    fn next(&self, rules: &Path) -> String {
        let quoted = |text: String| match shlex::try_quote(&text) {
            Ok(quoted) => quoted.into_owned(),
            Err(_) => text,
        };
        let (input, rules) = (escape::path(&self.args.input), escape::path(rules));
        let mut line =
            format!("wz compress {} --lossy {}", quoted(input), quoted(format!("@{rules}")));
        if self.args.level != weightzip::Level::default() {
            line += &format!(" --level {}", self.args.level.name());
        }
        line
    }

    fn object(&self, rules: Option<&Path>) -> Object<'_> {
        let Self { args, found, bytes, groups, log } = self;
        Object {
            command: "tune",
            file: plain(&args.input),
            bytes: *bytes,
            groups: *groups,
            knob: args.options.knob.name(),
            level: args.level.name(),
            tolerance: &args.tolerance,
            direction: args.options.direction.name(),
            original: found.trials.first().map(|trial| self.entry(trial)),
            best: found.best().map(|trial| self.entry(trial)),
            output: rules.map(plain),
            log: plain(log),
            trials: found.trials.iter().map(|trial| self.entry(trial)).collect(),
        }
    }

    fn entry(&self, trial: &Trial) -> Entry {
        Entry {
            rules: trial.rules.to_string(),
            compressed: trial.measured.bytes,
            ratio: self.ratio(trial).map(|ratio| human::round(ratio, 4)),
            score: trial.measured.score,
            within: trial.within,
        }
    }

    fn ratio(&self, trial: &Trial) -> Option<f64> {
        human::ratio(trial.measured.bytes, self.bytes)
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
