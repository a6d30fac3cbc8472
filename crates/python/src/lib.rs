//! `weightzip._weightzip`: the block codec for Python, over anything with a buffer.
//!
//! Bytes only: which framework they come from is for the Python package to know. Other Python
//! threads run while data is coded.

mod memory;

use memory::Memory;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use weightzip::{Dtype, FrameOptions, Kind};

create_exception!(
    weightzip,
    WeightzipError,
    PyException,
    "Compressed data is damaged, incomplete, or of a version that this one can't read."
);

#[pymodule]
mod _weightzip {
    #[pymodule_export]
    use super::{WeightzipError, compress, decompress_into, frame_len, simd_level};
}

/// Compresses a buffer of numbers into a frame.
///
/// `data` is anything contiguous with a buffer, `dtype` what its numbers are, by their names in
/// safetensors, in lower case ("bf16", "f8_e4m3"). `threads` is 0 for one per core; the frame does
/// not depend on it. No other thread may write to `data` meanwhile.
///
/// Raises ValueError if there is no such dtype or `data` ends within a number.
#[pyfunction]
#[pyo3(signature = (data, dtype, threads = 1))]
fn compress<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    dtype: &str,
    threads: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let layout = dtype_of(dtype)?.record_layout();
    let data = Memory::of(data)?;
    let options = FrameOptions { threads, ..FrameOptions::default() };
    let mut frame = Vec::with_capacity(data.bytes().len());
    py.detach(|| weightzip::compress_frame(&layout, data.bytes(), &options, &mut frame))
        .map_err(raised)?;
    Ok(PyBytes::new(py, &frame))
}

/// Decompresses a frame into a writable buffer of exactly its length.
///
/// Every block is checked. `threads` is 0 for one per core. `out` has no meaning if this raises,
/// and no other thread may touch it, or write to `frame`, meanwhile.
///
/// Raises WeightzipError if `frame` is damaged, ValueError if it is none, or if `out` is
/// read-only, of another length, or shares memory with `frame`.
#[pyfunction]
#[pyo3(signature = (frame, out, threads = 1))]
fn decompress_into(
    py: Python<'_>,
    frame: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
    threads: usize,
) -> PyResult<()> {
    let (frame, mut out) = (Memory::of(frame)?, Memory::of(out)?);
    let (frame, out) = memory::apart(&frame, &mut out)?;
    let options = FrameOptions { threads, ..FrameOptions::default() };
    py.detach(|| weightzip::decompress_frame_into(frame, out, &options)).map_err(raised)
}

/// How many bytes a frame decompresses to.
#[pyfunction]
fn frame_len(frame: &Bound<'_, PyAny>) -> PyResult<u64> {
    weightzip::frame_len(Memory::of(frame)?.bytes()).map_err(raised)
}

/// The instruction set in use: "scalar", "avx2" or "avx512".
#[pyfunction]
fn simd_level() -> &'static str {
    weightzip::simd_level()
}

fn dtype_of(name: &str) -> PyResult<Dtype> {
    Dtype::from_name(&name.to_ascii_uppercase()).ok_or_else(|| {
        PyValueError::new_err(format!(
            "there is no dtype {name:?}: the names are those of safetensors, such as bf16 and f8_e4m3"
        ))
    })
}

fn raised(error: weightzip::Error) -> PyErr {
    match error.kind() {
        Kind::InvalidArgument => PyValueError::new_err(error.to_string()),
        _ => WeightzipError::new_err(error.to_string()),
    }
}
