//! `wz chain`: a folder of checkpoints, each coded against the one before.

mod add;
mod adopt;
mod list;
mod prune;

use crate::args::Chain;
use crate::escape;
use crate::report::{Status, say};
use anyhow::Result;
use weightzip::chain::Damaged;

/// Carries out one of its commands.
pub(crate) fn run(args: &Chain) -> Result<Status> {
    match args {
        Chain::Add(args) => add::run(args),
        Chain::Adopt(args) => adopt::run(args),
        Chain::List(args) => list::run(args),
        Chain::Prune(args) => prune::run(args),
    }
}

/// Says that a step can't be restored, and what then.
fn tell_damage(damaged: &Damaged, then: &str) {
    say(&format!(
        "wz: {}: {}; {then}",
        escape::path(&damaged.path),
        escape::text(&damaged.error().to_string())
    ));
}

/// `1 step`, `2 steps`
fn steps(count: usize) -> String {
    format!("{count} {}", if count == 1 { "step" } else { "steps" })
}
