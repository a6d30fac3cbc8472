//! Near-lossless: rules that come from Python, and what was lost, as Python has it.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use weightzip::Result;
use weightzip::lossy::{Losses, Rules};

/// A rule, or several, as on the command line of `wz`; not read yet.
#[derive(Clone)]
pub(crate) struct Order(Vec<String>);

impl Order {
    pub(crate) fn of(rules: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(rules) = rules else { return Ok(Self(Vec::new())) };
        if rules.is_instance_of::<PyString>() {
            return Ok(Self(vec![rules.extract()?]));
        }
        rules.try_iter()?.map(|rule| rule?.extract()).collect::<PyResult<_>>().map(Self)
    }

    /// The rules, and those of the files that they name.
    pub(crate) fn rules(&self) -> Result<Rules> {
        Rules::read(&self.0)
    }
}

/// Rules, the source's BLAKE3, and of each tensor that was rounded: its number, its bound, the largest errors, and the roots of
/// mean squares of errors and of numbers.
pub(crate) type Told<'py> = (String, Bound<'py, PyBytes>, Vec<(u64, String, f64, f64, f64, f64)>);

pub(crate) fn told<'py>(py: Python<'py>, losses: Option<&Losses>) -> Option<Told<'py>> {
    let losses = losses?;
    let tensors = losses.tensors.iter().map(|loss| {
        (loss.tensor, loss.bound.to_string(), loss.absolute, loss.relative, loss.rmse, loss.rms)
    });
    Some((losses.rules.clone(), PyBytes::new(py, &losses.source_blake3), tensors.collect()))
}
