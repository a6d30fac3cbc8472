//! `wz` as a program of its own.

use std::process::ExitCode;

/// Runs before main: the runtime opens what is closed, and then nobody can tell.
#[ctor::ctor(unsafe)]
fn note_closed() {
    weightzip_cli::note_closed();
}

fn main() -> ExitCode {
    ExitCode::from(weightzip_cli::main(std::env::args_os()))
}
