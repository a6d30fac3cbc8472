//! `weightzip._weightzip`: the compressor for Python, over anything with a buffer.
//!
//! Bytes only: which framework they come from is for the Python package to know. Other Python
//! threads run while data is coded.

mod archive;
mod base;
mod chain;
mod errors;
mod frame;
mod interrupt;
mod lossy;
mod memory;
mod source;
mod threads;
mod tune;
mod write;

use pyo3::prelude::*;
use std::ffi::OsString;

#[pymodule]
mod _weightzip {
    /// Of the package; the same as that of `wz`.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "what Python calls it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::{
        archive::{Archive, open},
        base::base_files,
        chain::Chain,
        cli,
        frame::{compress, decompress, decompress_into, frame_len},
        memory::Memory,
        simd_level,
        threads::{set_threads, threads},
        tune::tune,
        write::{write, write_bytes},
    };
}

/// The instruction set in use: "scalar", "avx2" or "avx512".
#[pyfunction]
fn simd_level() -> &'static str {
    weightzip::simd_level()
}

/// Does what the command line of `wz` says, which begins with the program's name; returns the exit
/// code. Takes over the process's signals.
#[pyfunction]
fn cli(py: Python<'_>, line: Vec<OsString>) -> u8 {
    py.detach(|| weightzip_cli::main(line))
}
