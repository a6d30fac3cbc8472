//! `wz tune`: what can be typed, and what it means.

use super::high::{Ui, resolve_ui};
use super::low::{LevelArg, ThreadsArg, UiArgs, at_least_one};
use super::path::local;
use crate::tune::evaluation::Evaluation;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::PathBuf;
use weightzip::Level;
use weightzip::lossy::tune::{Direction, Knob, Options, Tolerance};

pub(super) const HELP: &str = "\
The command runs without a shell, once for each model that is tried: {model} is a file or a folder, as FILE is, with
the same name in another place. Its score is the last number in the last line that it prints to stdout which is not
empty; one that is not finite is outside the tolerance. A command that fails, or prints no number, ends the search.

First one bound for all tensors is bisected, then groups of tensors, those whose names differ by numbers only, are
loosened one by one. The smallest result whose score, as it was measured, is within the tolerance becomes a
file of rules for `wz compress --lossy @FILE.rules.toml`. Vectors, such as norms and biases, stay as they are.

Each measure goes to a log as soon as it is there. The same command again, also after Ctrl-C or with more
evaluations, goes on from there; a log of another model, command or level is refused. Rounded models are removed
after they were evaluated.

JSON: {command, file, bytes, groups, knob, level, tolerance, direction, original {compressed, ratio, score}, best
{rules, compressed, ratio, score}, output, log, trials [{rules, compressed, ratio, score, within}]}; or error. ratio is
compressed / bytes. best and output are null if nothing that is rounded is within the tolerance and smaller.";

#[derive(Args)]
pub(super) struct LowTune {
    /// A model file, or a folder with some
    #[arg(value_name = "FILE", value_parser = local())]
    input: PathBuf,
    /// The command that prints a model's score, such as 'python eval.py {model}'
    #[arg(long, value_name = "COMMAND", value_parser = Evaluation::parse)]
    eval: Evaluation,
    /// How much worse than the original's a score may be: a percentage of that, or a difference such as 0.001
    #[arg(long, default_value = "0.1%", value_parser = tolerance)]
    tolerance: (String, Tolerance),
    /// Which scores are better
    #[arg(long, default_value = Direction::Higher.name(), value_parser = direction())]
    direction: Direction,
    /// What is turned: abs rounds to multiples of a power of two, rel to so many mantissa bits
    #[arg(long, default_value = Knob::Absolute.name(), value_parser = knob())]
    knob: Knob,
    #[command(flatten)]
    level: LevelArg,
    /// Most evaluations, with those that are in the log
    #[arg(long, value_name = "N", default_value_t = Options::default().max_evaluations, value_parser = at_least_one)]
    max_evaluations: usize,
    /// Where to write the rules; FILE.rules.toml if not given
    #[arg(short, long, value_name = "OUT", value_parser = local())]
    output: Option<PathBuf>,
    /// Where to write a plot of size against score
    #[arg(long, value_name = "OUT.svg", value_parser = local())]
    plot: Option<PathBuf>,
    /// Replace rules and a plot that are already there
    #[arg(short, long)]
    force: bool,
    /// Where to keep measures; FILE.tune.jsonl if not given
    #[arg(long, value_name = "LOG", value_parser = local())]
    log: Option<PathBuf>,
    /// The folder for rounded models, one at a time; that of FILE if not given
    #[arg(long, value_name = "DIR", value_parser = local())]
    work: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadsArg,
    #[command(flatten)]
    ui: UiArgs,
}

/// What `wz tune` is to do.
pub(crate) struct Tune {
    pub(crate) input: PathBuf,
    pub(crate) eval: Evaluation,
    pub(crate) options: Options,
    /// The tolerance as it was given.
    pub(crate) tolerance: String,
    pub(crate) level: Level,
    pub(crate) threads: usize,
    pub(crate) output: Option<PathBuf>,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) force: bool,
    pub(crate) log: Option<PathBuf>,
    pub(crate) work: Option<PathBuf>,
    pub(crate) ui: Ui,
}

pub(super) fn resolve(a: LowTune) -> Tune {
    let (text, tolerance) = a.tolerance;
    let (knob, direction, max_evaluations) = (a.knob, a.direction, a.max_evaluations);
    Tune {
        input: a.input,
        eval: a.eval,
        options: Options { knob, tolerance, direction, max_evaluations },
        tolerance: text,
        level: a.level.level,
        threads: a.threads.count(),
        output: a.output,
        plot: a.plot,
        force: a.force,
        log: a.log,
        work: a.work,
        ui: resolve_ui(&a.ui),
    }
}

fn tolerance(text: &str) -> Result<(String, Tolerance), String> {
    let tolerance = text.parse().map_err(|e: weightzip::Error| e.message().to_owned())?;
    Ok((text.to_owned(), tolerance))
}

fn direction() -> impl TypedValueParser<Value = Direction> {
    PossibleValuesParser::new(Direction::ALL.map(Direction::name))
        .try_map(|name| Direction::from_name(&name))
}

fn knob() -> impl TypedValueParser<Value = Knob> {
    PossibleValuesParser::new(Knob::ALL.map(Knob::name)).try_map(|name| Knob::from_name(&name))
}
