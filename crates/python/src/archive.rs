//! Open `.wz` files. Names and shapes go to Python as they are: the package makes objects of them.

use crate::base::{self, Bases};
use crate::errors::{invalid, raised};
use crate::frame::too_large;
use crate::interrupt::{self, Call, Desk};
use crate::lossy;
use crate::memory::{self, Buffer, Memory};
use crate::source::Input;
use crate::threads;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyTuple};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use weightzip::{DecodeOptions, Error};

pub(crate) type Core = weightzip::Archive<Input>;

/// Bytes from which on blocks are decoded side by side, each once, with nothing kept for later.
const LARGE: u64 = 4 << 20;

/// An open `.wz`.
#[pyclass(frozen, module = "weightzip._weightzip")]
pub(crate) struct Archive {
    /// None once it is closed.
    opened: RwLock<Option<Arc<Opened>>>,
    name: Option<String>,
}

struct Opened {
    input: Input,
    core: Core,
}

/// Opens a `.wz`: a path, a file-like object with `seek` and `read`, or anything with a buffer. What a
/// path needs beside `base`, a path or many of models, is looked for as by [`weightzip::Base::find_for`].
#[pyfunction]
#[pyo3(signature = (file, *, base = None, require_lossless = false))]
pub(crate) fn open(
    py: Python<'_>,
    file: &Bound<'_, PyAny>,
    base: Option<&Bound<'_, PyAny>>,
    require_lossless: bool,
) -> PyResult<Archive> {
    let (input, name) = Input::open(file)?;
    let bases = Bases::of(base)?;
    let call = Call { progress: None, total: 0, has_errands: input.has_errands() };
    // Its own bytes, which the name has only if they are text.
    let path: Option<PathBuf> = match input {
        Input::File(_) => Some(file.extract()?),
        _ => None,
    };
    let core = interrupt::run(py, &call, |desk| {
        let mut base = bases.load()?;
        path.as_deref().map_or(Ok(()), |path| base.find_for(path))?;
        let threads = threads::for_call();
        let options = DecodeOptions { threads, base, require_lossless, ..DecodeOptions::default() };
        input.during(&desk, || Core::open_with(input.clone(), options))
    })?;
    let core = core.map_err(|e| raised(py, &e, name.as_deref()))?;
    Ok(Archive::new(input, core, name))
}

#[pymethods]
impl Archive {
    /// What it was opened by, if that has a name.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Lets go of the file. Calls that are under way end as they would have.
    fn close(&self, py: Python<'_>) {
        let opened = self.opened.write().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(opened));
    }

    /// Every tensor: name, dtype, shape, bytes, and offset in the original.
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let opened = self.opened(py)?;
        opened.core.tensors().map(|tensor| described(py, &tensor)).collect()
    }

    /// Format, bytes of the original and of this, tensors, BLAKE3, SHA-256, level, writer, and names of the
    /// files that it needs, and what was lost.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let opened = self.opened(py)?;
        let info = opened.core.info();
        let sizes = (info.original_bytes, info.compressed_bytes, info.tensors);
        (
            info.format.name(),
            sizes,
            PyBytes::new(py, &info.blake3),
            info.sha256.map(|hash| PyBytes::new(py, &hash)),
            &info.level,
            &info.writer,
            PyTuple::new(py, base::names(opened.core.bases()))?,
            lossy::told(py, info.losses.as_deref()),
        )
            .into_bound_py_any(py)
    }

    /// The bytes that tensors take in the `.wz`.
    fn stored(&self, py: Python<'_>, names: Vec<String>) -> PyResult<Vec<u64>> {
        self.call(py, None, 0, |core, _| {
            names.iter().map(|name| Ok(core.tensor(name)?.stored()?.bytes)).collect()
        })
    }

    /// A tensor's bytes, in memory of their own.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyMemoryView>> {
        let range = self.range(py, |core| Ok(core.tensor(name)?.range()))?;
        self.read_range(py, range, Some(name))
    }

    /// A tensor's bytes, into a buffer of exactly their length.
    fn read_into(&self, py: Python<'_>, name: &str, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let range = self.range(py, |core| Ok(core.tensor(name)?.range()))?;
        self.read_ranges_into(py, vec![(name, range)], &mut [Buffer::of(out)?], None)
    }

    /// Some rows of a tensor, in memory of their own.
    fn rows<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        start: i64,
        stop: i64,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let rows = counted(py, start)?..counted(py, stop)?;
        let range = self.range(py, |core| Ok(core.tensor(name)?.rows(rows)?.range()))?;
        self.read_range(py, range, Some(name))
    }

    /// Some rows of a tensor, into a buffer of exactly their length.
    fn rows_into(
        &self,
        py: Python<'_>,
        name: &str,
        start: i64,
        stop: i64,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let rows = counted(py, start)?..counted(py, stop)?;
        let range = self.range(py, |core| Ok(core.tensor(name)?.rows(rows)?.range()))?;
        self.read_ranges_into(py, vec![(name, range)], &mut [Buffer::of(out)?], None)
    }

    /// Bytes of the original file.
    #[pyo3(signature = (start = 0, stop = None))]
    fn original<'py>(
        &self,
        py: Python<'py>,
        start: i64,
        stop: Option<i64>,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let all = self.opened(py)?.core.info().original_bytes;
        let start = counted(py, start)?;
        let stop = stop.map_or(Ok(all), |stop| counted(py, stop))?;
        if start > stop || stop > all {
            let why = format!("bytes {start}:{stop} are not in 0:{all}");
            return Err(invalid(py, &why));
        }
        self.read_range(py, start..stop, None)
    }

    /// The bytes of many tensors, each in memory of its own: of all if no names are given.
    #[pyo3(signature = (names = None, *, progress = None))]
    fn read_many<'py>(
        &self,
        py: Python<'py>,
        names: Option<Vec<String>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let opened = self.opened(py)?;
        let wanted = match &names {
            Some(names) => named(&opened.core, names.iter().map(String::as_str)),
            None => Ok(opened.core.tensors().map(|t| (&*t.info().name, t.range())).collect()),
        };
        let wanted = wanted.map_err(|e| raised(py, &e, self.name()))?;
        let total = wanted.iter().map(|(_, range)| range.end - range.start).sum();
        let outs = self.call(py, progress, total, |core, desk| {
            let lens: Result<Vec<_>, _> = wanted.iter().map(|(_, r)| len_of(core, r)).collect();
            let mut outs = weightzip::rooms(lens?);
            let parts = wanted.iter().zip(&mut outs).map(|((_, r), out)| (r.start, &mut out[..]));
            core.read_many(parts, &|bytes| desk.advance(bytes))?;
            Ok(outs)
        })?;
        let dict = PyDict::new(py);
        for ((name, _), out) in wanted.iter().zip(outs) {
            dict.set_item(name, Memory::view(py, out)?)?;
        }
        Ok(dict)
    }

    /// The bytes of many tensors, each into a buffer of exactly their length.
    #[pyo3(signature = (outs, *, progress = None))]
    fn read_many_into(
        &self,
        py: Python<'_>,
        outs: Vec<(String, Bound<'_, PyAny>)>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let opened = self.opened(py)?;
        let wanted = named(&opened.core, outs.iter().map(|(name, _)| name.as_str()));
        let wanted = wanted.map_err(|e| raised(py, &e, self.name()))?;
        let buffers: PyResult<Vec<_>> = outs.iter().map(|(_, out)| Buffer::of(out)).collect();
        self.read_ranges_into(py, wanted, &mut buffers?, progress)
    }
}

/// A row or byte as Python says it.
fn counted(py: Python<'_>, number: i64) -> PyResult<u64> {
    let why = || invalid(py, &format!("rows and bytes are counted from 0 on, not from {number}"));
    u64::try_from(number).map_err(|_| why())
}

fn described<'py>(
    py: Python<'py>,
    tensor: &weightzip::Tensor<'_, Input>,
) -> PyResult<Bound<'py, PyAny>> {
    let info = tensor.info();
    let shape = PyTuple::new(py, &info.shape)?;
    (&info.name, info.dtype.name(), shape, tensor.bytes(), tensor.range().start)
        .into_bound_py_any(py)
}

/// The tensors of these names: each name, and its bytes in the original.
fn named<'a>(
    core: &Core,
    names: impl Iterator<Item = &'a str>,
) -> weightzip::Result<Vec<(&'a str, Range<u64>)>> {
    names.map(|name| Ok((name, core.tensor(name)?.range()))).collect()
}

/// Bytes of a part of the original, if the file has what it takes to fill them.
fn len_of(core: &Core, range: &Range<u64>) -> weightzip::Result<usize> {
    core.locate(range.clone())?;
    usize::try_from(range.end - range.start).map_err(|_| too_large())
}

impl Archive {
    pub(crate) fn new(input: Input, core: Core, name: Option<String>) -> Self {
        Self { opened: RwLock::new(Some(Arc::new(Opened { input, core }))), name }
    }

    fn opened(&self, py: Python<'_>) -> PyResult<Arc<Opened>> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner).clone();
        opened.ok_or_else(|| invalid(py, "the archive is closed: open it again"))
    }

    fn range(
        &self,
        py: Python<'_>,
        find: impl FnOnce(&Core) -> weightzip::Result<Range<u64>>,
    ) -> PyResult<Range<u64>> {
        find(&self.opened(py)?.core).map_err(|e| raised(py, &e, self.name()))
    }

    /// Does work on the archive, interruptibly.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        progress: Option<Py<PyAny>>,
        total: u64,
        work: impl FnOnce(&Core, &Desk) -> weightzip::Result<T> + Send,
    ) -> PyResult<T> {
        let opened = self.opened(py)?;
        let Opened { input, core } = &*opened;
        let call = Call { progress: progress.as_ref(), total, has_errands: input.has_errands() };
        let result = interrupt::run(py, &call, |desk| input.during(&desk, || work(core, &desk)))?;
        result.map_err(|e| raised(py, &e, self.name()))
    }

    fn read_range<'py>(
        &self,
        py: Python<'py>,
        range: Range<u64>,
        name: Option<&str>,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let total = range.end - range.start;
        let out = self.call(py, None, total, |core, desk| {
            let len = len_of(core, &range).map_err(|e| in_tensor(e, name))?;
            let mut out = weightzip::zeroed(len);
            fill(core, desk, &range, name, &mut out)?;
            Ok(out)
        })?;
        Memory::view(py, out.into())
    }

    fn read_ranges_into(
        &self,
        py: Python<'_>,
        wanted: Vec<(&str, Range<u64>)>,
        outs: &mut [Buffer],
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        for ((name, range), out) in wanted.iter().zip(&*outs) {
            let (bytes, len) = (range.end - range.start, out.len());
            if bytes != len as u64 {
                let why = format!("{bytes} bytes don't fit a buffer of {len}");
                let error = Error::new(weightzip::Kind::InvalidArgument, why).in_tensor(name);
                return Err(raised(py, &error, self.name()));
            }
        }
        let opened = self.opened(py)?;
        let mut outs = memory::outputs(py, outs, opened.input.buffer())?;
        let total = wanted.iter().map(|(_, range)| range.end - range.start).sum();
        self.call(py, progress, total, |core, desk| match (&wanted[..], &mut outs[..]) {
            ([(name, range)], [out]) => fill(core, desk, range, Some(name), out),
            _ => {
                let starts = wanted.iter().map(|(_, range)| range.start);
                core.read_many(starts.zip(outs), &|bytes| desk.advance(bytes))
            }
        })
    }
}

/// Fills `out` with a part of the original.
fn fill(
    core: &Core,
    desk: &Desk,
    range: &Range<u64>,
    name: Option<&str>,
    out: &mut [u8],
) -> weightzip::Result<()> {
    if range.end - range.start >= LARGE {
        return core.read_many([(range.start, out)], &|bytes| desk.advance(bytes));
    }
    core.read_at(range.start, out).map_err(|e| in_tensor(e, name))?;
    desk.count(range.end - range.start);
    Ok(())
}

fn in_tensor(error: Error, name: Option<&str>) -> Error {
    match name {
        Some(name) => error.in_tensor(name),
        None => error,
    }
}
