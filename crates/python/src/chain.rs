//! A folder of checkpoints, each coded against the one before.

use crate::archive::{Archive, Core};
use crate::base::Bases;
use crate::errors::{invalid, raised};
use crate::interrupt::{self, Call};
use crate::lossy;
use crate::source::Input;
use crate::threads;
use crate::write::{self, Order};
use pyo3::prelude::*;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use weightzip::chain::{AddOptions, Chain as Store, Damaged, PruneOptions};
use weightzip::{DecodeOptions, Error, Level};

/// A store. Each call reads the folder anew: several threads may make them, and others change what is there.
#[pyclass(frozen, module = "weightzip._weightzip")]
pub(crate) struct Chain {
    folder: PathBuf,
    level: Level,
    keyframe_every: usize,
    lossy: lossy::Order,
}

/// A step: number, name, steps that it is coded against, how many are needed one behind the other, bytes of the
/// original and of the `.wz`.
type Row = (u64, String, Vec<u64>, usize, u64, u64);

/// A step that can't be restored: its path, and why.
type Trouble = (String, String);

fn trouble(damaged: &Damaged) -> Trouble {
    (damaged.path.display().to_string(), damaged.to_string())
}

#[pymethods]
impl Chain {
    /// The store in a folder, which needn't be there before something is added.
    #[new]
    #[pyo3(signature = (folder, level = "default", *, keyframe_every = 16, lossy = None))]
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        level: &str,
        keyframe_every: usize,
        lossy: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let level = Level::from_name(level).map_err(|e| raised(py, &e, None))?;
        let lossy = lossy::Order::of(lossy)?;
        if lossy.rules().map_err(|e| raised(py, &e, None))?.need_a_look() {
            return Err(invalid(py, "snr looks at all tensors first; give the store abs= or rel="));
        }
        Ok(Self { folder, level, keyframe_every, lossy })
    }

    /// Makes the folder, if there is none.
    fn create(&self, py: Python<'_>) -> PyResult<()> {
        self.long(py, || Store::create(&self.folder).map(drop))
    }

    /// The last number of a step, damaged or not, that this store has written; none if the folder isn't marked as one.
    fn last(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        if !self.folder.exists() {
            return Ok(None);
        }
        let chain = self.long(py, || Store::open(&self.folder))?;
        let damaged = chain.damaged().iter().map(|damaged| damaged.number);
        let numbers = chain.steps().iter().map(|step| step.number).chain(damaged);
        Ok(numbers.max().filter(|_| chain.is_marked()))
    }

    /// The steps, in order; none if there is no folder.
    fn steps(&self, py: Python<'_>) -> PyResult<Vec<Row>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let chain = self.long(py, || Store::open(&self.folder))?;
        let rows = chain.steps().iter().map(|step| {
            let (name, bases, info) = (step.name().to_owned(), step.bases.clone(), &step.info);
            (step.number, name, bases, step.depth, info.original_bytes, info.compressed_bytes)
        });
        Ok(rows.collect())
    }

    /// Adds a checkpoint of this name, given in parts, as [`Store::add`] does, shallow; or as a keyframe, if `alone`. Returns
    /// what `write` does, and the damaged step that it would have been coded against.
    #[pyo3(signature = (name, parts, *, alone = false, progress = None))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        parts: &Bound<'py, PyAny>,
        alone: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Trouble>)> {
        let (bases, lossy) = (Bases::of(None)?, self.lossy.clone());
        let order = Order { level: self.level.name(), bases, lossy, dtype: None, progress };
        let added = write::code(py, parts, order, self.name(), |reader, _, options| {
            let add = AddOptions {
                level: self.level,
                threads: options.threads,
                layout: options.layout.clone(),
                lossy: options.lossy.clone(),
                keyframe_every: if alone { 1 } else { self.keyframe_every },
                shallow: true,
                ..AddOptions::default()
            };
            Store::open(&self.folder)?.add(name, reader, &add)
        })?;
        Ok((write::told(py, &added.summary)?, added.damaged.as_ref().map(trouble)))
    }

    /// Removes all but the last steps, and those whose number is a multiple of `keep_every`, as [`Store::prune`] does, and none
    /// is deeper for it; returns which, and what can't be restored. A signal waits for its end.
    #[pyo3(signature = (keep_last, keep_every = None))]
    fn prune(
        &self,
        py: Python<'_>,
        keep_last: usize,
        keep_every: Option<u64>,
    ) -> PyResult<(Vec<u64>, Vec<Trouble>)> {
        let (keep_last, threads) = (Some(keep_last), threads::for_call());
        let options = PruneOptions {
            keep_last,
            keep_every,
            max_depth: 1,
            threads,
            ..PruneOptions::default()
        };
        let done = self.long(py, || Store::open(&self.folder)?.prune(&options))?;
        Ok((done.remove, done.damaged.iter().map(trouble).collect()))
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
