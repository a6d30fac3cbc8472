//! `wz tune`: the rules for the smallest file whose score stays close to the original's.

pub(crate) mod evaluation;
mod plot;
mod show;

use crate::args::Tune;
use crate::output::Output;
use crate::progress::Bar;
use crate::report::{InFile, Status, fail, say};
use crate::{escape, space};
use anyhow::{Context, Result, bail};
use plot::Plot;
use show::Shown;
use std::io::Write;
use std::path::{Path, PathBuf};
use weightzip::lossy::Rules;
use weightzip::lossy::tune::{Found, Key, Log, Measured, Model, Search};
use weightzip::output::{Scratch, folder_of};

/// What the names of folders for rounded models begin with.
const PREFIX: &str = ".wz-tune-";

/// Where things go.
struct Places {
    rules: PathBuf,
    log: PathBuf,
    work: PathBuf,
}

impl Places {
    fn of(args: &Tune) -> Result<Self> {
        let name = args.input.file_name();
        let name = name.context("has no name to append to; name the model, not `.` or `..`")?;
        let beside = |suffix: &str| {
            let mut name = name.to_owned();
            name.push(suffix);
            args.input.with_file_name(name)
        };
        Ok(Self {
            rules: args.output.clone().unwrap_or_else(|| beside(".rules.toml")),
            log: args.log.clone().unwrap_or_else(|| beside(".tune.jsonl")),
            work: args.work.clone().unwrap_or_else(|| folder_of(&args.input).to_owned()),
        })
    }
}

/// Carries out tune.
pub(crate) fn run(args: &Tune) -> Result<Status> {
    let in_file = || InFile(args.input.clone());
    let places = Places::of(args).with_context(in_file)?;
    // What can't be written is said before the work, not after it.
    let rules_file = Output::create(&places.rules, args.force, false)?;
    let plot_file = args.plot.as_ref().map(|path| Output::create(path, args.force, false));
    let plot_file = plot_file.transpose()?;
    let model = Model::open(&args.input).with_context(in_file)?;
    let (bytes, knob) = (model.bytes(), args.options.knob);
    // One copy, and its .wz.
    let needed = |likely| if likely { bytes / 2 * 3 } else { bytes.saturating_mul(2) };
    space::check_for(&places.work, "--work", needed)?;
    let key = Key::new(model.blake3(), &args.eval.text, args.level);
    let mut log = Log::open(&places.log, &key)?;
    let steps = model.steps(knob).with_context(in_file)?;
    let search = Search::new(model.tensors(), steps, args.options);
    if !args.ui.quiet && !args.ui.json {
        let (expected, most) = (search.expected(), args.options.max_evaluations);
        let known = log.len();
        say(&format!(
            "{}: {} groups of tensors, about {expected} evaluations, at most {most}; {known} are in the log",
            escape::path(&args.input),
            search.groups()
        ));
    }
    let found = measure_all(args, &model, &search, &mut log, &places.work)?;

    let shown = Shown { args, found: &found, bytes, groups: search.groups(), log: &places.log };
    let plot = Plot::of(&found, &args.options, bytes);
    if let (Some(file), Some(plot)) = (plot_file, &plot) {
        save(file, &plot.svg()?)?;
    }
    if found.best.is_some() {
        save(rules_file, &shown.rule_file())?;
    }
    let rules = found.best.is_some().then_some(places.rules.as_path());
    shown.print(rules, plot.as_ref())?;
    if rules.is_none() {
        fail(&format!(
            "{}: no rounded model is smaller and keeps the score; compress it without --lossy, or allow more with --tolerance",
            escape::path(&args.input)
        ));
        return Ok(Status::SomeFailed);
    }
    Ok(Status::Done)
}

fn measure_all(
    args: &Tune,
    model: &Model,
    search: &Search,
    log: &mut Log,
    work: &Path,
) -> Result<Found> {
    let bar = Bar::of_steps(args.ui, "evaluations", search.expected());
    search.run(&mut |rules| {
        bar.message(name_of(rules));
        if let Some(known) = log.get(rules) {
            bar.step();
            return Ok(known);
        }
        let measured = measure(args, model, rules, work)?;
        if rules.is_empty() && !measured.score.is_finite() {
            bail!(
                "the original's score is {}, and nothing can be compared with that; let the evaluation print a finite number",
                measured.score
            );
        }
        log.add(rules, measured)?;
        bar.step();
        Ok(measured)
    })
}

/// Size and score of the model as these rules leave it.
fn measure(args: &Tune, model: &Model, rules: &Rules, work: &Path) -> Result<Measured> {
    let scratch = Scratch::create(work, PREFIX)?;
    let (path, bytes) =
        model.write(rules, args.level, args.threads, scratch.path(), &|_| Ok(()))?;
    let score = args.eval.score(&path);
    let score = score.with_context(|| format!("can't evaluate {}", name_of(rules)))?;
    Ok(Measured { bytes, score })
}

/// What a model that is rounded by these rules is called.
fn name_of(rules: &Rules) -> String {
    match rules.is_empty() {
        true => "the original".to_owned(),
        false => escape::text(&rules.to_string()),
    }
}

fn save(output: Output, text: &str) -> Result<()> {
    output.file()?.write_all(text.as_bytes()).context("can't write")?;
    output.seal(None)?;
    output.commit()
}
