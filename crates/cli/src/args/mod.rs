//! The command line in two steps: `low` is what was typed, `high` is what it means.

mod high;
mod low;

pub(crate) use high::{Bench, Cat, Code, Command, Input, Inspect, Ui, Verify, Where};
pub(crate) use low::command;

/// Reads the command line.
///
/// # Errors
/// A usage error, or a request for help or the version, as clap has them.
pub(crate) fn parse() -> Result<Command, clap::Error> {
    let low = <low::LowArgs as clap::Parser>::try_parse()?;
    high::resolve(low)
}
