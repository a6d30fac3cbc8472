//! `wz`: compresses AI model files without losing a bit.

mod args;
mod base;
mod bench;
mod cache;
mod card;
mod cat;
mod chain;
mod code;
mod demo;
mod docs;
mod escape;
mod estimate;
mod folder;
mod human;
mod inspect;
mod interrupt;
mod job;
mod lossy;
mod near;
mod needs;
mod output;
mod overview;
mod place;
mod progress;
mod rebase;
mod remove;
mod report;
mod screen;
mod source;
mod space;
mod stdio;
mod table;
mod tune;
mod verify;
mod walk;

pub use stdio::note_closed;

use args::Command;
use report::Status;
use std::ffi::OsString;
use std::io::Write;

/// Everything was done.
const DONE: u8 = 0;
/// Something failed.
const FAILED: u8 = 1;
/// The command line was wrong.
const USAGE: u8 = 2;

/// Does what a command line says, which begins with the program's name; returns the exit code.
///
/// Takes over signals, stdout and stderr: it is all that the process is for.
pub fn main(line: impl IntoIterator<Item = OsString>) -> u8 {
    let code = match args::parse(line) {
        Ok(command) => carry_out(&command),
        Err(error) => {
            // Help that nobody reads is no failure.
            let _ = error.print();
            if error.use_stderr() { USAGE } else { DONE }
        }
    };
    // The rest of an unfinished line; whoever reads may be gone.
    let _ = std::io::stdout().flush();
    code
}

fn carry_out(command: &Command) -> u8 {
    let done = run(command);
    for warning in weightzip::output::warnings() {
        report::say(&format!("wz: warning: {}", escape::text(&warning)));
    }
    match done {
        Ok(Status::Done) => DONE,
        Ok(Status::SomeFailed) => FAILED,
        Err(error) if report::is_broken_pipe(&error) => DONE,
        Err(error) => {
            report::command_failed(&error, command.json());
            FAILED
        }
    }
}

fn run(command: &Command) -> anyhow::Result<Status> {
    interrupt::install()?;
    match command {
        Command::Compress(args) | Command::Decompress(args) => code::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Rebase(args) => rebase::run(args),
        Command::Chain(args) => chain::run(args),
        Command::Tune(args) => tune::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => demo::run(args).map(|()| Status::Done),
        Command::Completions(shell) => docs::completions(*shell),
        Command::Man(command) => docs::man(command),
    }
}
