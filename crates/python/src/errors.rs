//! Errors as Python's exceptions, whose classes are in python/weightzip/errors.py.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::io;
use std::path::Path;
use weightzip::{Error, Kind};

/// What the core reports, as an exception; `file` is the name of what was read or written.
pub(crate) fn raised(py: Python<'_>, error: &Error, file: Option<&str>) -> PyErr {
    exception(py, error, file).unwrap_or_else(|while_making| while_making)
}

fn exception(py: Python<'_>, error: &Error, file: Option<&str>) -> PyResult<PyErr> {
    let class = match error.kind() {
        Kind::Compatibility => "CompatibilityError",
        Kind::Corruption => "CorruptionError",
        Kind::InsufficientData => "InsufficientDataError",
        Kind::InvalidArgument => "InvalidArgumentError",
        Kind::Io => "ReadWriteError",
    };
    let source = std::error::Error::source(error);
    let message = match source {
        Some(source) => format!("{}: {source}", error.message()),
        None => error.message().to_owned(),
    };
    let place = PyDict::new(py);
    place.set_item("file", file)?;
    place.set_item("offset", error.offset())?;
    place.set_item("tensor", error.tensor())?;
    let class = py.import("weightzip.errors")?.getattr(class)?;
    let value = class.call((message,), Some(&place))?;
    let number =
        source.and_then(|s| s.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    if let (Kind::Io, Some(number)) = (error.kind(), number) {
        value.setattr("errno", number)?;
    }
    Ok(PyErr::from_value(value))
}

/// A caller's mistake.
pub(crate) fn invalid(py: Python<'_>, message: &str) -> PyErr {
    raised(py, &Error::new(Kind::InvalidArgument, message), None)
}

/// A file that can't be opened: the class that Python has for the reason, such as FileNotFoundError.
pub(crate) fn at_path(error: io::Error, path: &Path) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((number, text, path.as_os_str().to_owned()))
        }
        None => error.into(),
    }
}
