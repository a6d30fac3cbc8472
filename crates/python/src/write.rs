//! Writing a `.wz` from an original in pieces.

use crate::base::{self, Bases};
use crate::errors::{at_path, raised};
use crate::frame::dtype_of;
use crate::interrupt::{self, Call, Desk};
use crate::lossy;
use crate::memory::Buffer;
use crate::threads;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyBlockingIOError, PyOSError, PyRuntimeWarning};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PyTuple};
use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weightzip::output::{self, Output};
use weightzip::{Base, Dtype, Error, Kind, Level, Options, Source, Summary};

/// What the names of unfinished files begin with, where they must have one.
const PREFIX: &str = ".wz-";

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes of parts that are fetched at a time: small ones add up.
const FETCH_BYTES: usize = 8 << 20;

/// Compresses the parts, one behind another, into a `.wz`: a path, which has it only when it is
/// complete, or a file-like object with `write`. `base` is a path, or many, of models that tensors may be
/// coded against, `lossy` a rule or several of how they may be rounded,
/// `dtype` what the numbers of an original without a known format are. Returns format, bytes of the original and of the
/// `.wz`, tensors, BLAKE3, the names of the files that the `.wz` needs, and what was lost.
#[pyfunction]
#[pyo3(signature = (parts, file, level = "default", *, base = None, lossy = None, dtype = None, progress = None))]
#[allow(clippy::too_many_arguments, reason = "those of Python's function, which has their names")]
pub(crate) fn write<'py>(
    py: Python<'py>,
    parts: &Bound<'py, PyAny>,
    file: &Bound<'py, PyAny>,
    level: &str,
    base: Option<&Bound<'py, PyAny>>,
    lossy: Option<&Bound<'py, PyAny>>,
    dtype: Option<&str>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (lossy, dtype) =
        (lossy::Order::of(lossy)?, dtype.map(|name| dtype_of(py, name)).transpose()?);
    let order = Order { level, bases: Bases::of(base)?, lossy, dtype, progress };
    let summary = if file.hasattr("write")? {
        let file = Arc::new(file.clone().unbind());
        let name = file.bind(py).getattr_opt("name")?.and_then(|name| name.extract().ok());
        code(py, parts, order, name, |reader, desk, options| {
            let writer = FileLike { object: file, desk: desk.clone() };
            let mut writer = BufWriter::with_capacity(WRITE_BYTES, writer);
            let summary = weightzip::compress(reader, &mut writer, options)?;
            writer.flush().map_err(unwritable)?;
            Ok(summary)
        })?
    } else {
        let path: PathBuf = file.extract()?;
        let target = Target::create(&path).map_err(|e| unwritable_at(e, &path))?;
        let name = Some(path.display().to_string());
        code(py, parts, order, name, |reader, _, options| {
            target.spare(&options.base)?;
            let summary = {
                let mut writer = BufWriter::with_capacity(WRITE_BYTES, target.file()?);
                let summary = weightzip::compress(reader, &mut writer, options)?;
                writer.flush().map_err(unwritable)?;
                summary
            };
            target.finish()?;
            Ok(summary)
        })?
    };
    for warning in output::warnings() {
        let warning = CString::new(warning)?;
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &warning, 1)?;
    }
    told(py, &summary)
}

/// What was written: format, sizes and tensors, BLAKE3, the names of the files that it needs, and what was lost.
pub(crate) fn told<'py>(py: Python<'py>, summary: &Summary) -> PyResult<Bound<'py, PyAny>> {
    let sizes = (summary.original_bytes, summary.compressed_bytes, summary.tensors);
    let needs = PyTuple::new(py, base::names(&summary.bases))?;
    let losses = lossy::told(py, summary.losses.as_deref());
    (summary.format.name(), sizes, PyBytes::new(py, &summary.blake3), needs, losses)
        .into_bound_py_any(py)
}

/// Compresses the parts, one behind another, into a `.wz` in memory.
#[pyfunction]
#[pyo3(signature = (parts, level = "default", *, base = None, lossy = None, dtype = None, progress = None))]
pub(crate) fn write_bytes<'py>(
    py: Python<'py>,
    parts: &Bound<'py, PyAny>,
    level: &str,
    base: Option<&Bound<'py, PyAny>>,
    lossy: Option<&Bound<'py, PyAny>>,
    dtype: Option<&str>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (lossy, dtype) =
        (lossy::Order::of(lossy)?, dtype.map(|name| dtype_of(py, name)).transpose()?);
    let order = Order { level, bases: Bases::of(base)?, lossy, dtype, progress };
    let bytes = code(py, parts, order, None, |reader, _, options| {
        let mut bytes = Vec::new();
        weightzip::compress(reader, &mut bytes, options)?;
        Ok(bytes)
    })?;
    Ok(PyBytes::new(py, &bytes))
}

/// How parts are to be compressed.
pub(crate) struct Order<'a> {
    pub(crate) level: &'a str,
    pub(crate) bases: Bases,
    pub(crate) lossy: lossy::Order,
    pub(crate) dtype: Option<Dtype>,
    pub(crate) progress: Option<Py<PyAny>>,
}

/// Does `work` with a reader of the parts, interruptibly.
pub(crate) fn code<T: Send>(
    py: Python<'_>,
    parts: &Bound<'_, PyAny>,
    order: Order<'_>,
    name: Option<String>,
    work: impl FnOnce(Parts, &Desk, &Options) -> weightzip::Result<T> + Send,
) -> PyResult<T> {
    let Order { level, bases, lossy, dtype, progress } = order;
    let level = Level::from_name(level).map_err(|e| raised(py, &e, None))?;
    let threads = threads::for_call();
    let total = if progress.is_some() { bytes_of(parts)? } else { 0 };
    let whole = only_part(parts)?.map(Arc::new);
    let iterator = Arc::new(parts.try_iter()?.unbind());
    let call = Call { progress: progress.as_ref(), total, has_errands: true };
    let result = interrupt::run(py, &call, |desk| {
        let (base, lossy) = (bases.load()?, lossy.rules()?);
        let layout = whole.as_ref().map(weightzip::scan).transpose()?;
        let source = whole.clone().map(|whole| whole as Arc<dyn Source + Send>);
        let options =
            Options { level, threads, base, source, layout, lossy, dtype, ..Options::default() };
        let parts = Parts {
            iterator,
            desk: desk.clone(),
            fetched: VecDeque::new(),
            at: 0,
            used: Vec::new(),
        };
        work(parts, &desk, &options)
    })?;
    result.map_err(|e| raised(py, &e, name.as_deref()))
}

/// The bytes of all parts; 0 if they can only be gone through once.
fn bytes_of(parts: &Bound<'_, PyAny>) -> PyResult<u64> {
    if !(parts.is_instance_of::<PyList>() || parts.is_instance_of::<PyTuple>()) {
        return Ok(0);
    }
    parts.try_iter()?.map(|part| Ok(Buffer::of(&part?)?.len() as u64)).sum()
}

/// The one part of a list or tuple: it can be read at random, wherever its directory is.
fn only_part(parts: &Bound<'_, PyAny>) -> PyResult<Option<Buffer>> {
    let is_one = (parts.is_instance_of::<PyList>() || parts.is_instance_of::<PyTuple>())
        && parts.len()? == 1;
    if is_one { Buffer::of(&parts.get_item(0)?).map(Some) } else { Ok(None) }
}

fn unwritable(error: io::Error) -> Error {
    Error::io("can't write the output", error)
}

/// Reads parts one behind another.
pub(crate) struct Parts {
    iterator: Arc<Py<PyIterator>>,
    desk: Desk,
    fetched: VecDeque<Buffer>,
    /// How much of the first one was read.
    at: usize,
    /// Given back with the next errand: letting go of a buffer takes Python.
    used: Vec<Buffer>,
}

impl Parts {
    /// Gets more parts; false if there are none.
    fn fetch(&mut self) -> io::Result<bool> {
        let (iterator, used) = (Arc::clone(&self.iterator), std::mem::take(&mut self.used));
        self.fetched = self.desk.run(move |py| {
            drop(used);
            let (mut fetched, mut bytes) = (VecDeque::new(), 0);
            let mut iterator = iterator.bind(py).clone();
            while bytes < FETCH_BYTES
                && let Some(part) = iterator.next()
            {
                let part = Buffer::of(&part?)?;
                bytes += part.len();
                fetched.push_back(part);
            }
            Ok(fetched)
        })?;
        Ok(!self.fetched.is_empty())
    }
}

impl Read for Parts {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            let Some(part) = self.fetched.front() else {
                if filled > 0 || !self.fetch()? {
                    break;
                }
                continue;
            };
            let len = (part.len() - self.at).min(buf.len() - filled);
            part.read_at(self.at as u64, &mut buf[filled..][..len])?;
            filled += len;
            self.at += len;
            if self.at == part.len() {
                self.used.extend(self.fetched.pop_front());
                self.at = 0;
            }
        }
        self.desk.advance(filled as u64)?;
        Ok(filled)
    }
}

/// A Python object with `write`.
struct FileLike {
    object: Arc<Py<PyAny>>,
    desk: Desk,
}

impl Write for FileLike {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (object, bytes) = (Arc::clone(&self.object), bytes.to_vec());
        self.desk.run(move |py| {
            let object = object.bind(py);
            let answer = object.call_method1("write", (PyBytes::new(py, &bytes),))?;
            taken(object, &answer, bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many of so many bytes a call of `write` has taken, by what it returned.
fn taken(object: &Bound<'_, PyAny>, answer: &Bound<'_, PyAny>, len: usize) -> PyResult<usize> {
    let py = object.py();
    if answer.is_none() {
        // A raw file that would block took nothing; what is no raw file may say nothing.
        if !object.is_instance(&py.import("io")?.getattr("RawIOBase")?)? {
            return Ok(len);
        }
        let number: i32 = py.import("errno")?.getattr("EAGAIN")?.extract()?;
        let why = "the file is non-blocking and took nothing; make it blocking";
        return Err(PyBlockingIOError::new_err((number, why, 0)));
    }
    match answer.extract() {
        Ok(taken) if (1..=len).contains(&taken) => Ok(taken),
        _ => Err(PyOSError::new_err(format!(
            "write returned {} for {len} bytes; it must return how many it took, at least one",
            answer.repr()?
        ))),
    }
}

/// What a path leads to.
enum Target {
    /// A file that gets its name when it is complete. Dropped before, it leaves nothing.
    File { output: Box<Output>, path: PathBuf },
    /// A pipe or device, which a new name would only hide.
    Special(File),
}

impl Target {
    fn create(path: &Path) -> weightzip::Result<Self> {
        // A link stays, and what it leads to is made or replaced.
        let path = output::resolved(path);
        if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            return File::options().write(true).open(&path).map(Self::Special).map_err(unwritable);
        }
        // As a file of its own would be made, for everyone whom the umask allows.
        Ok(Self::File { output: Box::new(Output::create(&path, PREFIX, false)?), path })
    }

    /// Fails if a base is the file that this replaces: then nothing could be restored.
    fn spare(&self, base: &Base) -> weightzip::Result<()> {
        let Self::File { path, .. } = self else { return Ok(()) };
        if base.files().any(|file| file == path) {
            let why = "this file is the base, or the base needs it: write to another one";
            return Err(Error::new(Kind::InvalidArgument, why));
        }
        Ok(())
    }

    fn file(&self) -> weightzip::Result<&File> {
        match self {
            Self::File { output, .. } => output.file(),
            Self::Special(file) => Ok(file),
        }
    }

    fn finish(self) -> weightzip::Result<()> {
        match self {
            Self::File { output, .. } => {
                output.seal(None)?;
                output.commit(true)
            }
            Self::Special(_) => Ok(()),
        }
    }
}

/// A file that can't be begun: the class that Python has for the reason, such as FileNotFoundError.
fn unwritable_at(error: Error, path: &Path) -> PyErr {
    let source = std::error::Error::source(&error);
    match source.and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(e) => match e.raw_os_error() {
            Some(number) => at_path(io::Error::from_raw_os_error(number), path),
            None => io::Error::new(e.kind(), format!("{}: {e}", path.display())).into(),
        },
        None => Python::attach(|py| raised(py, &error, path.to_str())),
    }
}
