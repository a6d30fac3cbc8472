//! The command line in two steps: `low` is what was typed, `high` is what it means.

mod chain;
mod high;
mod low;
pub(crate) mod path;
mod tune;

pub(crate) use chain::{Chain, ChainAdd, ChainAdopt, ChainList, ChainPrune};
pub(crate) use high::{Bench, Cat, Code, Command, Input, Inspect, Rebase, Ui, Verify, Where};
pub(crate) use low::{List, Sort, command};
pub(crate) use tune::Tune;

use std::ffi::OsString;

/// Reads the command line, which begins with the program's name.
///
/// # Errors
/// A usage error, or a request for help or the version, as clap has them.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let low = <low::LowArgs as clap::Parser>::try_parse_from(line)?;
    high::resolve(low)
}
