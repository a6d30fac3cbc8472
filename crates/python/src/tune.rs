//! The search for rules, by a Python function's scores.

use crate::errors::{at_path, invalid, raised};
use crate::interrupt::{self, Call};
use crate::threads;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use weightzip::lossy::Rules;
use weightzip::lossy::tune::{Direction, Found, Key, Knob, Log, Measured, Model, Options, Search};
use weightzip::output::{Scratch, folder_of};
use weightzip::{Error, Level};

/// What the names of folders for rounded models begin with.
const PREFIX: &str = ".wz-tune-";

/// Searches for the rules by which the file is smallest and what `evaluate` returns for its path stays within the
/// tolerance. Returns bytes of the original, which of the trials is the result, its rules as TOML, and the trials:
/// rules, bytes of the `.wz`, score, whether that is within. The first trial is the original.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "those of Python's function, which has their names")]
pub(crate) fn tune<'py>(
    py: Python<'py>,
    path: PathBuf,
    evaluate: &Bound<'py, PyAny>,
    tolerance: &str,
    direction: &str,
    knob: &str,
    level: &str,
    max_evaluations: usize,
    log: Option<PathBuf>,
    work: Option<PathBuf>,
) -> PyResult<Bound<'py, PyAny>> {
    let core = |e: Error| raised(py, &e, None);
    let knob = Knob::from_name(knob).map_err(core)?;
    let direction = Direction::from_name(direction).map_err(core)?;
    let tolerance = tolerance.parse().map_err(core)?;
    let level = Level::from_name(level).map_err(core)?;
    if max_evaluations == 0 {
        return Err(invalid(py, "at least one evaluation is needed, that of the original"));
    }
    if !evaluate.is_callable() {
        return Err(PyTypeError::new_err("evaluate is not callable"));
    }
    fs::metadata(&path).map_err(|e| at_path(e, &path))?;
    let name = path.display().to_string();
    let (model, steps) = long(py, &name, || {
        let model = Model::open(&path)?;
        let steps = model.steps(knob)?;
        Ok((model, steps))
    })?;
    let key = Key::new(model.blake3(), &name_of(evaluate), level);
    let mut log = log.map(|path| Log::open(&path, &key)).transpose().map_err(core)?;
    let options = Options { knob, tolerance, direction, max_evaluations };
    let search = Search::new(model.tensors(), steps, options);
    let work = work.as_deref().unwrap_or(folder_of(&path));
    let found = search.run(&mut |rules| {
        if let Some(known) = log.as_ref().and_then(|log| log.get(rules)) {
            return Ok(known);
        }
        let measured = measure(py, &model, rules, level, work, evaluate)?;
        if rules.is_empty() && !measured.score.is_finite() {
            let why = format!(
                "the original's score is {}, and nothing can be compared with that",
                measured.score
            );
            return Err(invalid(py, &why));
        }
        log.as_mut().map_or(Ok(()), |log| log.add(rules, measured)).map_err(core)?;
        Ok(measured)
    })?;
    told(&model, &found).into_bound_py_any(py)
}

type Row = (String, u64, f64, bool);

fn told(model: &Model, found: &Found) -> (u64, usize, String, Vec<Row>) {
    let toml = found.best().map_or_else(String::new, |best| best.rules.to_toml());
    let rows = found.trials.iter().map(|trial| {
        (trial.rules.to_string(), trial.measured.bytes, trial.measured.score, trial.within)
    });
    (model.bytes(), found.best.unwrap_or(0), toml, rows.collect())
}

/// Size and score of the model as these rules leave it.
fn measure(
    py: Python<'_>,
    model: &Model,
    rules: &Rules,
    level: Level,
    work: &Path,
    evaluate: &Bound<'_, PyAny>,
) -> PyResult<Measured> {
    let scratch = Scratch::create(work, PREFIX).map_err(|e| raised(py, &e, None))?;
    let threads = threads::for_call();
    let call = Call { progress: None, total: model.bytes(), has_errands: true };
    let written = interrupt::run(py, &call, |desk| {
        model.write(rules, level, threads, scratch.path(), &|bytes| desk.advance(bytes))
    })?;
    let (path, bytes) = written.map_err(|e| raised(py, &e, None))?;
    let score = evaluate.call1((path.into_os_string(),))?.extract()?;
    Ok(Measured { bytes, score })
}

/// Does what takes time beside the calling thread.
fn long<T: Send>(
    py: Python<'_>,
    file: &str,
    work: impl FnOnce() -> weightzip::Result<T> + Send,
) -> PyResult<T> {
    let call = Call { progress: None, total: 0, has_errands: true };
    interrupt::run(py, &call, |_| work())?.map_err(|e| raised(py, &e, Some(file)))
}

/// What a log calls a function, or the class of an object that is called.
fn name_of(evaluate: &Bound<'_, PyAny>) -> String {
    let class = evaluate.get_type();
    qualified(evaluate).or_else(|| qualified(class.as_any())).unwrap_or_default()
}

fn qualified(of: &Bound<'_, PyAny>) -> Option<String> {
    let text = |name| of.getattr(name).ok()?.extract::<String>().ok();
    Some(format!("{}.{}", text("__module__")?, text("__qualname__")?))
}
