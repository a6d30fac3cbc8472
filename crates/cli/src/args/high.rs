//! High-level arguments: what a valid command line means, ready to be carried out.

use super::chain::{self, Chain};
use super::low::{self, LowArgs, LowCommand, UiArgs, WriteArgs};
use super::tune::{self, Tune};
use crate::base::BaseArgs;
use crate::demo::DemoArgs;
use crate::escape;
use clap::error::ErrorKind;
use std::path::{Path, PathBuf};
use weightzip::{DecodeOptions, Dtype, Options};

/// How much to say, and in which shape.
#[derive(Clone, Copy)]
pub(crate) struct Ui {
    pub(crate) quiet: bool,
    pub(crate) json: bool,
}

/// Where data comes from.
pub(crate) enum Input {
    Stdin,
    Path(PathBuf),
}

/// Where a result goes.
#[derive(Clone)]
pub(crate) enum Where {
    /// Next to the source, under the name that follows from it.
    Beside,
    Stdout,
    Path(PathBuf),
    /// In the source's own folder, and the source is removed.
    InPlace,
}

/// Compress and decompress.
pub(crate) struct Code {
    pub(crate) inputs: Vec<Input>,
    pub(crate) to: Where,
    pub(crate) job: crate::job::Job,
    /// Print a text for the model card.
    pub(crate) card: bool,
    /// Write it into the README.md of each result.
    pub(crate) append_card: bool,
    /// Give each file a row, however many there are.
    pub(crate) full_table: bool,
    pub(crate) ui: Ui,
}

pub(crate) struct Verify {
    pub(crate) inputs: Vec<Input>,
    pub(crate) sha256: Option<[u8; 32]>,
    /// What it was made from.
    pub(crate) against: Option<PathBuf>,
    pub(crate) options: DecodeOptions,
    pub(crate) base: BaseArgs,
    pub(crate) ui: Ui,
}

pub(crate) struct Inspect {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) list: low::List,
    pub(crate) base: BaseArgs,
    /// What the numbers of a file without a known format are.
    pub(crate) dtype: Option<Dtype>,
    /// List what needs this model, instead.
    pub(crate) needs: Option<PathBuf>,
    pub(crate) json: bool,
}

pub(crate) struct Cat {
    pub(crate) file: PathBuf,
    pub(crate) tensor: String,
    pub(crate) rows: Option<(u64, Option<u64>)>,
    pub(crate) base: BaseArgs,
    pub(crate) to: Where,
    pub(crate) force: bool,
}

pub(crate) struct Rebase {
    pub(crate) file: PathBuf,
    pub(crate) base: BaseArgs,
    pub(crate) output: Option<PathBuf>,
    pub(crate) force: bool,
    pub(crate) ui: Ui,
}

pub(crate) struct Bench {
    pub(crate) file: PathBuf,
    pub(crate) options: Options,
    pub(crate) runs: usize,
    pub(crate) json: bool,
}

pub(crate) enum Command {
    Compress(Code),
    Decompress(Code),
    Verify(Verify),
    Inspect(Inspect),
    Cat(Cat),
    Rebase(Rebase),
    Chain(Chain),
    Tune(Box<Tune>),
    Bench(Bench),
    Demo(DemoArgs),
    Completions(clap_complete::Shell),
    Man(Vec<String>),
}

impl Command {
    /// Whether a failure is told as JSON too.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Compress(c) | Self::Decompress(c) => c.ui.json,
            Self::Verify(v) => v.ui.json,
            Self::Inspect(i) => i.json,
            Self::Rebase(r) => r.ui.json,
            Self::Chain(c) => c.json(),
            Self::Tune(t) => t.ui.json,
            Self::Bench(b) => b.json,
            Self::Cat(_) | Self::Demo(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

pub(super) fn resolve(low: LowArgs) -> Result<Command, clap::Error> {
    Ok(match low.command {
        LowCommand::Compress(a) => {
            let options = Options {
                level: a.level.level,
                threads: a.threads.count(),
                dtype: a.dtype.dtype,
                lossy: a.lossy.rules().map_err(|e| usage(&escape::text(&e.to_string())))?,
                sha256: a.sha256,
                timings: a.timings.timings,
                ..Options::default()
            };
            let is_lossy = !options.lossy.is_empty();
            let stands_alone = !is_lossy && a.base.is_empty();
            let coder = crate::job::Coder::Compress(options);
            let mut code = code(a.inputs, a.write, a.ui, coder, a.base)?;
            code.card = a.print_card;
            code.append_card = a.append_card;
            code.full_table = a.table.is_full();
            code.job.min_saving = a.min_saving;
            code.job.dry_run = a.dry_run;
            if (a.dry_run || a.min_saving.is_some()) && !stands_alone {
                return Err(usage(
                    "--dry-run and --min-saving estimate lossless files without a base; leave out --base and --lossy",
                ));
            }
            if (a.dry_run || a.min_saving.is_some()) && matches!(code.to, Where::Stdout) {
                return Err(usage(
                    "--dry-run and --min-saving estimate before they write, not for a pipe; name a file or a folder",
                ));
            }
            if is_lossy && code.job.remove {
                return Err(usage(
                    "a near-lossless result can't take the place of its source: --lossy goes without --rm and --in-place",
                ));
            }
            if is_lossy && (code.card || code.append_card) {
                return Err(usage(
                    "the card promises identical files; leave out --print-card and --append-card",
                ));
            }
            let is_folder = |input: &Input| matches!(input, Input::Path(path) if path.is_dir());
            if code.append_card && !code.inputs.iter().all(is_folder) {
                return Err(usage(
                    "--append-card writes into the README.md of a folder's result; use --print-card for files",
                ));
            }
            if code.card && matches!(code.to, Where::Stdout) {
                return Err(usage("--print-card and the data can't both go to stdout; use -o"));
            }
            Command::Compress(code)
        }
        LowCommand::Decompress(a) => {
            let options = DecodeOptions {
                threads: a.threads.count(),
                require_lossless: a.lossless.require_lossless,
                timings: a.timings.timings,
                ..DecodeOptions::default()
            };
            Command::Decompress(code(
                a.inputs,
                a.write,
                a.ui,
                crate::job::Coder::Decompress(options),
                a.base,
            )?)
        }
        LowCommand::Verify(a) => Command::Verify(verify(a)?),
        LowCommand::Inspect(a) => {
            let dtype = a.dtype.dtype;
            Command::Inspect(Inspect {
                files: a.files,
                list: a.list.list(),
                base: a.base,
                dtype,
                needs: a.needs,
                json: a.json,
            })
        }
        LowCommand::Cat(a) => Command::Cat(Cat {
            file: a.file,
            tensor: a.tensor,
            rows: a.rows,
            base: a.base,
            to: a.output.map_or(Where::Stdout, place),
            force: a.force,
        }),
        LowCommand::Rebase(a) => Command::Rebase(Rebase {
            file: a.file,
            base: a.base,
            output: a.output,
            force: a.force,
            ui: resolve_ui(&a.ui),
        }),
        LowCommand::Chain { command } => Command::Chain(chain::resolve(command)?),
        LowCommand::Tune(a) => Command::Tune(Box::new(tune::resolve(*a))),
        LowCommand::Bench(a) => Command::Bench(Bench {
            file: a.file,
            options: Options {
                level: a.level.level,
                threads: low::bounded(a.threads),
                verify: false,
                ..Options::default()
            },
            runs: a.runs,
            json: a.json,
        }),
        LowCommand::Demo(a) => Command::Demo(a),
        LowCommand::Completions { shell } => Command::Completions(shell),
        LowCommand::Man { command } => Command::Man(command),
    })
}

fn code(
    inputs: Vec<PathBuf>,
    write: WriteArgs,
    ui: UiArgs,
    coder: crate::job::Coder,
    base: BaseArgs,
) -> Result<Code, clap::Error> {
    let inputs = resolve_inputs(inputs)?;
    let stdin = inputs.iter().any(|i| matches!(i, Input::Stdin));
    let to = match write.output {
        Some(out) if inputs.len() > 1 => several(out, &inputs)?,
        Some(out) => place(out),
        None if write.in_place => Where::InPlace,
        None if stdin => Where::Stdout,
        None => Where::Beside,
    };
    let stdout = matches!(to, Where::Stdout);
    if stdin && (write.in_place || write.rm) {
        return Err(usage("--rm and --in-place need a file or a folder, not stdin"));
    }
    if stdout && write.rm {
        return Err(usage("--rm needs a result on disk that can be read back, not stdout"));
    }
    if stdout && ui.json {
        return Err(usage("--json and the data can't both go to stdout; use -o"));
    }
    let remove = write.rm || write.in_place;
    let job = crate::job::Job {
        coder,
        base,
        force: write.force,
        remove,
        min_saving: None,
        dry_run: false,
    };
    let ui = resolve_ui(&ui);
    Ok(Code { inputs, to, job, card: false, append_card: false, full_table: false, ui })
}

/// Where several results go together: into a folder, each under its own name.
fn several(out: PathBuf, inputs: &[Input]) -> Result<Where, clap::Error> {
    if !crate::place::is_folder(&out) {
        return Err(usage(
            "-o takes one input, or a folder for several: end its name in a slash; without -o each result goes beside its source",
        ));
    }
    let mut names = std::collections::HashSet::new();
    let paths = inputs.iter().filter_map(|input| match input {
        Input::Path(path) => path.file_name(),
        Input::Stdin => None,
    });
    match paths.into_iter().find(|name| !names.insert(*name)) {
        Some(name) => Err(usage(&format!(
            "two inputs are called {}, and their results can't both be in one folder; leave out -o",
            escape::path(Path::new(name))
        ))),
        None => Ok(place(out)),
    }
}

fn verify(a: low::VerifyArgs) -> Result<Verify, clap::Error> {
    let inputs = resolve_inputs(a.inputs)?;
    let folder = inputs.iter().any(|i| matches!(i, Input::Path(p) if p.is_dir()));
    let (one, stdin) = (!folder && inputs.len() == 1, matches!(inputs[..], [Input::Stdin]));
    if a.sha256.is_some() && !one {
        return Err(usage("--sha256 is for one file"));
    }
    if a.against.is_some() && (!one || stdin) {
        return Err(usage("--against is for one file, which is read at random"));
    }
    let options = DecodeOptions {
        threads: a.threads.count(),
        require_lossless: a.lossless.require_lossless,
        sha256: a.sha256.is_some(),
        ..DecodeOptions::default()
    };
    Ok(Verify {
        inputs,
        sha256: a.sha256,
        against: a.against,
        options,
        base: a.base,
        ui: resolve_ui(&a.ui),
    })
}

fn resolve_inputs(inputs: Vec<PathBuf>) -> Result<Vec<Input>, clap::Error> {
    if inputs.len() > 1 && inputs.iter().any(|p| is_dash(p)) {
        return Err(usage("`-` can't be mixed with other inputs"));
    }
    Ok(inputs
        .into_iter()
        .map(|p| if is_dash(&p) { Input::Stdin } else { Input::Path(p) })
        .collect())
}

fn place(out: PathBuf) -> Where {
    if is_dash(&out) { Where::Stdout } else { Where::Path(out) }
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

pub(super) fn resolve_ui(ui: &UiArgs) -> Ui {
    Ui { quiet: ui.quiet, json: ui.json }
}

pub(super) fn usage(message: &str) -> clap::Error {
    super::command().error(ErrorKind::ArgumentConflict, message)
}
