//! `base=`: the models that a file is, or may be, coded against.

use crate::errors::{at_path, raised};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use weightzip::{Base, BaseTensor};

/// The files and folders that were named.
pub(crate) struct Bases(Vec<PathBuf>);

impl Bases {
    /// None, a path, or many.
    pub(crate) fn of(base: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(base) = base else { return Ok(Self(Vec::new())) };
        let paths = match base.extract() {
            Ok(path) => vec![path],
            Err(_) => many(base).ok_or_else(|| wrong_type(base))?,
        };
        let py = base.py();
        let missing = |path: &PathBuf| fs::metadata(path).err().map(|e| at_path(e, path));
        py.detach(|| paths.iter().find_map(missing)).map_or(Ok(Self(paths)), Err)
    }

    /// Loads them, each after what it needs itself.
    pub(crate) fn load(&self) -> weightzip::Result<Base> {
        let mut base = Base::new();
        self.0.iter().try_for_each(|path| base.load(path))?;
        Ok(base)
    }
}

fn many(base: &Bound<'_, PyAny>) -> Option<Vec<PathBuf>> {
    let paths = base.try_iter().ok()?;
    paths.map(|path| path.ok()?.extract().ok()).collect()
}

fn wrong_type(base: &Bound<'_, PyAny>) -> PyErr {
    let found = base.get_type().qualname().map_or_else(|_| String::new(), |name| name.to_string());
    PyTypeError::new_err(format!("base is a path or a list of paths, not {found}"))
}

/// The files that `base=` stands for, without links, and those that these need themselves.
#[pyfunction]
pub(crate) fn base_files(py: Python<'_>, base: &Bound<'_, PyAny>) -> PyResult<Vec<PathBuf>> {
    let bases = Bases::of(Some(base))?;
    let loaded = py.detach(|| bases.load()).map_err(|e| raised(py, &e, None))?;
    Ok(loaded.files().map(PathBuf::from).collect())
}

/// The names of the files that have these tensors.
pub(crate) fn names(tensors: &[BaseTensor]) -> Vec<&str> {
    let mut seen = HashSet::new();
    tensors.iter().map(|tensor| &*tensor.file).filter(|file| seen.insert(*file)).collect()
}
