//! Frames: one buffer of numbers, without names.

use crate::errors::{invalid, raised};
use crate::interrupt::{self, Call, Desk};
use crate::memory::{self, Buffer, Memory};
use crate::threads;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use std::io;
use std::ops::Range;
use weightzip::{Dtype, Error, FrameOptions, Level, Source};

/// Compresses a buffer of numbers into a frame.
///
/// `data` is anything contiguous with a buffer; it is never changed, and may be by others meanwhile.
/// `dtype` is what its numbers are, by their names in safetensors, in any case ("bf16", "F8_E4M3").
/// `row` is how many of them are in a row, if they are those of a matrix: level "max" makes use of
/// it. `progress` is called with the bytes done and all bytes.
#[pyfunction]
#[pyo3(signature = (data, dtype, level = "default", *, row = 0, progress = None))]
pub(crate) fn compress<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    dtype: &str,
    level: &str,
    row: u64,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let level = Level::from_name(level).map_err(|e| raised(py, &e, None))?;
    let layout = dtype_of(py, dtype)?.record_layout();
    let data = Buffer::of(data)?;
    let options = FrameOptions { level, row, ..options() };
    // On this thread, where the allocator may have memory of an earlier call.
    let mut frame = Vec::with_capacity(data.len());
    run(py, progress, data.len() as u64, |desk| {
        let input = Input { data: &data, desk: &desk };
        weightzip::compress_frame(&layout, &input, &options, &mut frame)
    })?;
    Ok(PyBytes::new(py, &frame))
}

/// Decompresses a frame into memory of its own.
#[pyfunction]
#[pyo3(signature = (frame, *, progress = None))]
pub(crate) fn decompress<'py>(
    py: Python<'py>,
    frame: &Bound<'py, PyAny>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyMemoryView>> {
    let frame = Buffer::of(frame)?;
    let bytes = len_of(py, &frame)?;
    let options = options();
    let out = run(py, progress, bytes, |desk| {
        let len = usize::try_from(bytes);
        let mut out = weightzip::zeroed(len.map_err(|_| too_large())?);
        let watch = |bytes| desk.advance(bytes);
        let frame = frame.whole().map_err(unreadable)?;
        weightzip::decompress_frame_watched(&frame, &mut out, &options, &watch)?;
        Ok(out)
    })?;
    Memory::view(py, out.into())
}

/// Decompresses a frame into a writable buffer of exactly its length.
///
/// Every block is checked. No other thread may touch `out` meanwhile, and it has no meaning if this
/// raises.
#[pyfunction]
#[pyo3(signature = (frame, out, *, progress = None))]
pub(crate) fn decompress_into(
    py: Python<'_>,
    frame: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
    progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    let frame = Buffer::of(frame)?;
    let mut outs = [Buffer::of(out)?];
    let outs = memory::outputs(py, &mut outs, Some(&frame))?;
    let options = options();
    let bytes = outs.iter().map(|out| out.len() as u64).sum();
    run(py, progress, bytes, |desk| {
        let watch = |bytes| desk.advance(bytes);
        let frame = frame.whole().map_err(unreadable)?;
        outs.into_iter()
            .try_for_each(|out| weightzip::decompress_frame_watched(&frame, out, &options, &watch))
    })
}

/// How many bytes a frame decompresses to.
#[pyfunction]
pub(crate) fn frame_len(py: Python<'_>, frame: &Bound<'_, PyAny>) -> PyResult<u64> {
    len_of(py, &Buffer::of(frame)?)
}

fn len_of(py: Python<'_>, frame: &Buffer) -> PyResult<u64> {
    let frame = frame.whole().map_err(unreadable);
    frame.and_then(|frame| weightzip::frame_len(&frame)).map_err(|e| raised(py, &e, None))
}

/// Does work on frames, interruptibly.
fn run<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    total: u64,
    work: impl FnOnce(Desk) -> weightzip::Result<T> + Send,
) -> PyResult<T> {
    let call = Call { progress: progress.as_ref(), total, has_errands: false };
    interrupt::run(py, &call, work)?.map_err(|e| raised(py, &e, None))
}

fn options() -> FrameOptions {
    FrameOptions { threads: threads::for_call(), ..FrameOptions::default() }
}

pub(crate) fn dtype_of(py: Python<'_>, name: &str) -> PyResult<Dtype> {
    Dtype::from_name(&name.to_ascii_uppercase()).ok_or_else(|| {
        let names = "the names are those of safetensors, such as bf16 and f8_e4m3";
        invalid(py, &format!("there is no dtype {name:?}: {names}"))
    })
}

pub(crate) fn too_large() -> Error {
    Error::new(weightzip::Kind::InvalidArgument, "this doesn't fit in memory")
}

fn unreadable(error: io::Error) -> Error {
    Error::io("can't read the input", error)
}

/// Numbers to be compressed, for a call with a desk. Never lent: each block is copied before anyone
/// looks at it.
struct Input<'a> {
    data: &'a Buffer,
    desk: &'a Desk,
}

impl Source for Input<'_> {
    fn size(&self) -> io::Result<u64> {
        self.data.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.desk.advance(buf.len() as u64)?;
        self.data.read_at(offset, buf)
    }

    fn lend(&self, range: Range<u64>) -> Option<&[u8]> {
        let lent = self.data.lend(range.clone())?;
        self.desk.advance(range.end - range.start).ok()?;
        Some(lent)
    }
}
