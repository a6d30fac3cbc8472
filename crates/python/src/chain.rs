//! A folder of checkpoints, each coded against the one before.

use crate::archive::{Archive, Core};
use crate::base::Bases;
use crate::errors::raised;
use crate::interrupt::{self, Call};
use crate::lossy;
use crate::source::Input;
use crate::threads;
use crate::write::{self, Order};
use pyo3::prelude::*;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use weightzip::chain::{AddOptions, Chain as Store, PruneOptions};
use weightzip::{DecodeOptions, Error, Level};

/// A store. Each call reads the folder anew: several threads may make them, and others change what is there.
#[pyclass(frozen, module = "weightzip._weightzip")]
pub(crate) struct Chain {
    folder: PathBuf,
    level: Level,
    keyframe_every: usize,
}

/// A step: number, name, steps that it is coded against, how many are needed one behind the other, bytes of the
/// original and of the `.wz`.
type Row = (u64, String, Vec<u64>, usize, u64, u64);

#[pymethods]
impl Chain {
    /// Opens the store in a folder, which is made if there is none.
    #[new]
    #[pyo3(signature = (folder, level = "default", *, keyframe_every = 16))]
    fn new(py: Python<'_>, folder: PathBuf, level: &str, keyframe_every: usize) -> PyResult<Self> {
        let level = Level::from_name(level).map_err(|e| raised(py, &e, None))?;
        let chain = Self { folder, level, keyframe_every };
        chain.long(py, || Store::create(&chain.folder).map(drop))?;
        Ok(chain)
    }

    /// The steps, in order.
    fn steps(&self, py: Python<'_>) -> PyResult<Vec<Row>> {
        let chain = self.long(py, || Store::open(&self.folder))?;
        let rows = chain.steps().iter().map(|step| {
            let (name, bases, info) = (step.name().to_owned(), step.bases.clone(), &step.info);
            (step.number, name, bases, step.depth, info.original_bytes, info.compressed_bytes)
        });
        Ok(rows.collect())
    }

    /// Adds a checkpoint of this name, given in parts, as [`Store::add`] does, shallow. Returns what `write` does.
    #[pyo3(signature = (name, parts, *, progress = None))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        parts: &Bound<'py, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (bases, lossy) = (Bases::of(None)?, lossy::Order::of(None)?);
        let order = Order { level: self.level.name(), bases, lossy, dtype: None, progress };
        let summary = write::code(py, parts, order, self.name(), |reader, _, options| {
            let add = AddOptions {
                level: self.level,
                threads: options.threads,
                layout: options.layout.clone(),
                keyframe_every: self.keyframe_every,
                shallow: true,
                ..AddOptions::default()
            };
            Store::open(&self.folder)?.add(name, reader, &add)
        })?;
        write::told(py, &summary)
    }

    /// Removes all but the last steps, as [`Store::prune`] does, and none is deeper for it; returns which. A signal waits
    /// for its end.
    fn prune(&self, py: Python<'_>, keep_last: usize) -> PyResult<Vec<u64>> {
        let (keep_last, threads) = (Some(keep_last), threads::for_call());
        let options = PruneOptions { keep_last, max_depth: 1, threads, ..PruneOptions::default() };
        let done = self.long(py, || Store::open(&self.folder)?.prune(&options))?;
        Ok(done.remove)
    }

    /// Opens a step, with all that it is coded against.
    fn open_step(&self, py: Python<'_>, number: u64) -> PyResult<Archive> {
        let threads = threads::for_call();
        let (input, core, name) = self.long(py, || {
            let chain = Store::open(&self.folder)?;
            let (path, base) = (&chain.step(number)?.path, chain.base_of(number)?);
            let cant_open = |e| Error::io(format!("can't open {}", path.display()), e);
            let input = Input::File(Arc::new(File::open(path).map_err(cant_open)?));
            let options = DecodeOptions { threads, base, ..DecodeOptions::default() };
            let core = Core::open_with(input.clone(), options)?;
            Ok((input, core, path.display().to_string()))
        })?;
        Ok(Archive::new(input, core, Some(name)))
    }
}

impl Chain {
    fn name(&self) -> Option<String> {
        Some(self.folder.display().to_string())
    }

    /// Does what takes time beside the calling thread.
    fn long<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce() -> weightzip::Result<T> + Send,
    ) -> PyResult<T> {
        let call = Call { progress: None, total: 0, has_errands: true };
        let result = interrupt::run(py, &call, |_| work())?;
        result.map_err(|e| raised(py, &e, self.name().as_deref()))
    }
}
