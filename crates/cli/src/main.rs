//! `wz` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(weightzip_cli::main(std::env::args_os()))
}
