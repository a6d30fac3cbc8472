//! `wz chain`: a folder of checkpoints, each coded against the one before.

mod add;
mod list;
mod prune;

use crate::args::Chain;
use crate::report::Status;
use anyhow::Result;

/// Carries out one of its commands.
pub(crate) fn run(args: &Chain) -> Result<Status> {
    match args {
        Chain::Add(args) => add::run(args),
        Chain::List(args) => list::run(args),
        Chain::Prune(args) => prune::run(args),
    }
}

/// `1 step`, `2 steps`
fn steps(count: usize) -> String {
    format!("{count} {}", if count == 1 { "step" } else { "steps" })
}
