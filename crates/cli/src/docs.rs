//! `wz completions` and `wz man`: from the one definition of the command line.

use crate::args;
use crate::report::Status;
use anyhow::{Context, Result};
use std::io::{self, Write};

/// The completion script of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "wz", &mut script);
    print(&script)
}

/// The manual page of `wz`, or of one of its commands.
pub(crate) fn man(command: &[String]) -> Result<Status> {
    let mut page = args::command();
    page.build();
    for name in command {
        let found = page.find_subcommand(name).cloned();
        page = found.with_context(|| format!("no command {name:?}; `wz --help` lists them"))?;
    }
    let name = page.get_display_name().unwrap_or("wz").to_owned();
    let mut roff = Vec::new();
    clap_mangen::Man::new(page)
        .title(name.to_uppercase())
        .source(concat!("wz ", env!("CARGO_PKG_VERSION")))
        .render(&mut roff)?;
    print(&roff)
}

fn print(bytes: &[u8]) -> Result<Status> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(Status::Done)
}
