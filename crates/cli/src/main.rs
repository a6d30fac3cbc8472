//! `wz`: compresses AI model files without losing a bit.

mod args;
mod bench;
mod cat;
mod code;
mod demo;
mod docs;
mod escape;
mod folder;
mod human;
mod inspect;
mod interrupt;
mod job;
mod output;
mod progress;
mod remove;
mod report;
mod source;
mod space;
mod table;
mod verify;
mod walk;

use args::Command;
use report::Status;
use std::process::ExitCode;

/// Everything was done.
const DONE: u8 = 0;
/// Something failed.
const FAILED: u8 = 1;
/// The command line was wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(error) => {
            // Help that nobody reads is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { DONE });
        }
    };
    let json = command.json();
    match run(&command) {
        Ok(Status::Done) => ExitCode::from(DONE),
        Ok(Status::SomeFailed) => ExitCode::from(FAILED),
        Err(error) if report::is_broken_pipe(&error) => ExitCode::from(DONE),
        Err(error) => {
            report::command_failed(&error, json);
            ExitCode::from(FAILED)
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
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => demo::run(args).map(|()| Status::Done),
        Command::Completions(shell) => docs::completions(*shell),
        Command::Man(command) => docs::man(command.as_deref()),
    }
}
