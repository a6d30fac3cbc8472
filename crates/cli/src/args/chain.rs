//! `wz chain`: what can be typed, and what it means.

use super::high::{Ui, resolve_ui, usage};
use super::low::{LevelArg, ThreadsArg, UiArgs, at_least_one};
use super::path::local;
use crate::escape;
use crate::lossy::LossyArgs;
use clap::{ArgGroup, Args, Subcommand};
use std::path::PathBuf;
use weightzip::chain::{AddOptions, MAX_DEPTH, PruneOptions};

const STORE_HELP: &str = "\
A store is a folder of ordinary .wz files, one for each step. What is coded against what is read from
the files, and `wz decompress`, verify, cat and inspect take each of them. The file wz-chain.json, which
the first `wz chain add` writes, marks the folder and names the steps; other files are left alone.";

const ADOPT_HELP: &str = "\
For a folder without wz-chain.json, as earlier versions made it, and for steps that were moved here. Each
name needs a number of its own. What isn't named is no step: it is never removed, nor coded against.

JSON: {command, adopted [file], steps}; or error. steps is how many the store has.";

const ADD_HELP: &str = "\
Each file becomes STORE/NAME.wz, coded against the step before it. The step is the last number in the
name, before the suffix: step-00100.safetensors is step 100. A step must be beyond all that are there;
of several files the lowest comes first, and if one fails the later ones aren't added. With --lossy it
becomes NAME.lossy.wz; each step is rounded from the checkpoint itself, so errors don't add up.

A step stands alone, as a keyframe, if it is the first one, every --keyframe-every steps, where --max-depth
says so, and where the step before makes it less than 3 % smaller. With --shallow, of 16 steps none needs more than 4
others, instead of 15. A file gets its name when it is on disk and was decoded again: a crash leaves the store
as it was. If the step before is damaged, it is named, the new one stands alone, and the exit code is 1.

JSON: as that of `wz compress`, with the action added; or error.";

const LIST_JSON: &str = "\
The depth of a step is how many other files must be read, one behind the other, to restore it.

Steps that can't be read are listed as damaged, and the exit code is 1. Without wz-chain.json every .wz whose name
has a number is listed.

JSON: {store, marked, steps [{step, file, bytes, compressed, ratio, keyframe, bases [step], missing [file], depth}],
damaged [{step, file, error}], bytes, compressed, ratio}; or error. missing names what is no step of the store.";

const PRUNE_HELP: &str = "\
With --keep-last or --keep-every, steps that neither of them keeps go; the last one stays, unless --remove
names it. A step that stays and is coded against one that goes is first coded against the nearest
earlier one that stays and --max-depth allows, or as a keyframe, read back and replaced; removal comes after that. Wherever that is
stopped, each step that is there can be restored, and pruning again does the rest.

Only files that wz-chain.json names are removed. A step that any .wz of the folder needs stays. So does what can't be
restored, with all that it may need; it doesn't count as one of the last N, and the exit code is 1.

JSON: {command, dry_run, rebased [{step, base}], removed [step], held [{step, by}], damaged [{step, error}],
compressed_before, compressed_after}; or error. base is null for a keyframe, by is the file that needs a step.";

#[derive(Subcommand)]
pub(super) enum LowChain {
    /// Add checkpoints, each coded against the one before
    #[command(after_help = [STORE_HELP, ADD_HELP].join("\n\n"))]
    Add(LowAdd),
    /// Make steps of .wz files that are in the folder
    #[command(after_help = [STORE_HELP, ADOPT_HELP].join("\n\n"))]
    Adopt(LowAdopt),
    /// List the steps of a store
    #[command(after_help = [STORE_HELP, LIST_JSON].join("\n\n"))]
    List(LowList),
    /// Remove steps, without breaking later ones
    #[command(after_help = [STORE_HELP, PRUNE_HELP].join("\n\n"))]
    Prune(LowPrune),
}

#[derive(Args)]
pub(super) struct LowAdd {
    /// The store's folder; made if there is none
    #[arg(value_parser = local())]
    store: PathBuf,
    /// Checkpoints: model files
    #[arg(required = true, value_name = "FILE", value_parser = local())]
    files: Vec<PathBuf>,
    #[command(flatten)]
    level: LevelArg,
    /// Let one of N steps stand alone; 0: only where it must
    #[arg(long, value_name = "N", default_value_t = AddOptions::default().keyframe_every)]
    keyframe_every: usize,
    /// Let a step need at most N others, one behind the other
    #[arg(long, value_name = "N", default_value_t = AddOptions::default().max_depth, value_parser = depth)]
    max_depth: usize,
    /// Code a step against one further back than the last, if that makes it at most 6 % larger
    #[arg(long)]
    shallow: bool,
    #[command(flatten)]
    lossy: LossyArgs,
    #[command(flatten)]
    threads: ThreadsArg,
    /// Store the originals' SHA-256 too
    #[arg(long)]
    sha256: bool,
    #[command(flatten)]
    ui: UiArgs,
}

#[derive(Args)]
pub(super) struct LowAdopt {
    /// The store's folder
    store: PathBuf,
    /// Files in it
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    ui: UiArgs,
}

#[derive(Args)]
pub(super) struct LowList {
    /// The store's folder
    #[arg(value_parser = local())]
    store: PathBuf,
    /// Print one JSON object to stdout
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true))]
pub(super) struct LowPrune {
    /// The store's folder
    #[arg(value_parser = local())]
    store: PathBuf,
    /// Keep the last N steps
    #[arg(long, value_name = "N", group = "which", value_parser = at_least_one)]
    keep_last: Option<usize>,
    /// Keep the steps whose number is a multiple of K
    #[arg(long, value_name = "K", group = "which", value_parser = clap::value_parser!(u64).range(1..))]
    keep_every: Option<u64>,
    /// Remove this step; may be given more than once
    #[arg(long, value_name = "STEP", group = "which")]
    remove: Vec<u64>,
    /// Let a step that gets another base need at most N others, one behind the other
    #[arg(long, value_name = "N", default_value_t = PruneOptions::default().max_depth, value_parser = depth)]
    max_depth: usize,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    threads: ThreadsArg,
    #[command(flatten)]
    ui: UiArgs,
}

/// What `wz chain` is to do.
pub(crate) enum Chain {
    Add(Box<ChainAdd>),
    Adopt(ChainAdopt),
    List(ChainList),
    Prune(ChainPrune),
}

pub(crate) struct ChainAdd {
    pub(crate) store: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) options: AddOptions,
    pub(crate) ui: Ui,
}

pub(crate) struct ChainAdopt {
    pub(crate) store: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) ui: Ui,
}

pub(crate) struct ChainList {
    pub(crate) store: PathBuf,
    pub(crate) json: bool,
}

pub(crate) struct ChainPrune {
    pub(crate) store: PathBuf,
    pub(crate) options: PruneOptions,
    pub(crate) dry_run: bool,
    pub(crate) ui: Ui,
}

impl Chain {
    /// Whether a failure is told as JSON too.
    pub(super) fn json(&self) -> bool {
        match self {
            Self::Add(add) => add.ui.json,
            Self::Adopt(adopt) => adopt.ui.json,
            Self::List(list) => list.json,
            Self::Prune(prune) => prune.ui.json,
        }
    }
}

pub(super) fn resolve(low: LowChain) -> Result<Chain, clap::Error> {
    Ok(match low {
        LowChain::Add(a) => Chain::Add(Box::new(ChainAdd {
            store: a.store,
            files: a.files,
            options: AddOptions {
                level: a.level.level,
                threads: a.threads.count(),
                lossy: a.lossy.rules().map_err(|e| usage(&escape::text(&e.to_string())))?,
                sha256: a.sha256,
                keyframe_every: a.keyframe_every,
                max_depth: a.max_depth,
                shallow: a.shallow,
                ..AddOptions::default()
            },
            ui: resolve_ui(&a.ui),
        })),
        LowChain::Adopt(a) => {
            Chain::Adopt(ChainAdopt { store: a.store, files: a.files, ui: resolve_ui(&a.ui) })
        }
        LowChain::List(a) => Chain::List(ChainList { store: a.store, json: a.json }),
        LowChain::Prune(a) => Chain::Prune(ChainPrune {
            store: a.store,
            options: PruneOptions {
                keep_last: a.keep_last,
                keep_every: a.keep_every,
                remove: a.remove,
                max_depth: a.max_depth,
                threads: a.threads.count(),
                ..PruneOptions::default()
            },
            dry_run: a.dry_run,
            ui: resolve_ui(&a.ui),
        }),
    })
}

fn depth(text: &str) -> Result<usize, String> {
    let depth = at_least_one(text)?;
    if depth > MAX_DEPTH { Err(format!("at most {MAX_DEPTH}")) } else { Ok(depth) }
}
