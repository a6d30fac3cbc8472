//! Near-lossless files: what may be rounded, what they are called, and what is said of them.

use crate::human;
use clap::Args;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use weightzip::Archive;
use weightzip::lossy::{Loss, Losses, Rules};

/// What may be rounded.
#[derive(Args)]
pub(crate) struct LossyArgs {
    /// Let tensors be rounded: abs=2^-14, rel=2^-7, snr=60dB or none; PATTERN:BOUND for those whose names
    /// fit; @FILE.toml for a file of rules. May be given more than once, the last that fits counts
    #[arg(long = "lossy", value_name = "RULE")]
    rules: Vec<String>,
}

/// What is said of it in the help of commands that take it.
pub(crate) const HELP: &str = "\
Near-lossless: with --lossy, floats are rounded before they are coded: to multiples of a power of two (abs,
off by half of it at most), to so many mantissa bits (rel), or to the coarsest such multiples that leave each
tensor so far above the noise (snr). Signs, infinities and NaNs stay. Integers and 8-bit floats stay as they
are, and so do tensors of one dimension or none, and the scales of quantised ones, unless a rule names
them. The result says so, and what errors were made: model.safetensors becomes model.safetensors.lossy.wz,
and that restores to model.lossy.safetensors.
";

impl LossyArgs {
    /// The rules, and those of the files that they name.
    pub(crate) fn rules(&self) -> weightzip::Result<Rules> {
        Rules::read(&self.rules)
    }
}

/// What is between a near-lossless file's name and `.wz`.
const MARK: &str = "lossy";

/// `model.safetensors` as what it is compressed to.
pub(crate) fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lossy.wz");
    name.into()
}

/// The name of a result without its `.wz`, and with its mark before the suffix: `model.lossy.safetensors`.
pub(crate) fn marked(without_wz: &Path) -> PathBuf {
    let plain = unmarked(without_wz);
    let Some(stem) = plain.file_stem() else { return plain };
    let mut name = stem.to_owned();
    name.push(".lossy");
    if let Some(suffix) = plain.extension() {
        name.push(".");
        name.push(suffix);
    }
    plain.with_file_name(name)
}

/// The name of a result without its `.wz` and its mark: `model.safetensors`.
pub(crate) fn unmarked(without_wz: &Path) -> PathBuf {
    let is_marked = without_wz.extension().is_some_and(|e| e == MARK);
    if is_marked { without_wz.with_extension("") } else { without_wz.to_owned() }
}

/// Whether a .wz was made by these rules.
pub(crate) fn is_by(wz: &Path, rules: &Rules) -> bool {
    let archive = fs::File::open(wz).ok().and_then(|file| Archive::open(file).ok());
    archive.is_some_and(|archive| match &archive.info().losses {
        Some(losses) => losses.rules == rules.to_string(),
        None => rules.is_empty(),
    })
}

/// What JSON says of a near-lossless file.
#[derive(Serialize)]
pub(crate) struct LossyEntry {
    rules: String,
    pub(crate) source_blake3: String,
    /// Tensors that were rounded.
    rounded: usize,
    max_abs: f64,
    max_rel: f64,
    /// The lowest of all; null if nothing changed.
    snr: Option<f64>,
}

impl LossyEntry {
    pub(crate) fn new(losses: &Losses) -> Self {
        let most = |of: fn(&Loss) -> f64| losses.tensors.iter().map(of).fold(0.0, f64::max);
        Self {
            rules: losses.rules.clone(),
            source_blake3: human::hex(&losses.source_blake3),
            rounded: losses.tensors.len(),
            max_abs: most(|loss| loss.absolute),
            max_rel: most(|loss| loss.relative),
            snr: changed(losses).map(Loss::snr).min_by(f64::total_cmp),
        }
    }

    /// `38 tensors rounded (abs=2^-14): errors up to 3.05e-5, at least 62.1 dB above the noise`
    pub(crate) fn line(&self) -> String {
        let tensors = if self.rounded == 1 { "tensor" } else { "tensors" };
        let line =
            format!("{} {tensors} rounded ({})", self.rounded, crate::escape::text(&self.rules));
        match self.snr {
            None => format!("{line}: nothing changed"),
            Some(snr) => format!(
                "{line}: errors up to {:.3e}, each tensor at least {snr:.1} dB above its noise",
                self.max_abs
            ),
        }
    }
}

fn changed(losses: &Losses) -> impl Iterator<Item = &Loss> {
    losses.tensors.iter().filter(|loss| loss.rmse > 0.0)
}

/// What JSON says of a tensor that was rounded.
#[derive(Serialize)]
pub(crate) struct LossRow {
    bound: String,
    max_abs: f64,
    max_rel: f64,
    rmse: f64,
    /// Null if nothing changed.
    snr: Option<f64>,
}

impl LossRow {
    pub(crate) fn new(loss: &Loss) -> Self {
        let Loss { bound, absolute: max_abs, relative: max_rel, rmse, .. } = *loss;
        let snr = (rmse > 0.0).then(|| loss.snr());
        Self { bound: bound.to_string(), max_abs, max_rel, rmse, snr }
    }

    /// How much noise there is to the signal: the more, the higher.
    pub(crate) fn noise(&self) -> f64 {
        self.snr.map_or(f64::NEG_INFINITY, |snr| -snr)
    }

    /// For a table: bound, largest errors, signal-to-noise ratio.
    pub(crate) fn cells(&self) -> [String; 4] {
        let snr = self.snr.map_or_else(|| "-".to_owned(), |snr| format!("{snr:.1} dB"));
        [self.bound.clone(), format!("{:.2e}", self.max_abs), format!("{:.2e}", self.max_rel), snr]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let path = Path::new("a/model.safetensors");
        let packed = with_suffix(path);
        assert_eq!(packed, Path::new("a/model.safetensors.lossy.wz"));
        let without = packed.with_extension("");
        assert_eq!(marked(&without), Path::new("a/model.lossy.safetensors"));
        assert_eq!(unmarked(&without), path);
        // One that was given another name.
        assert_eq!(marked(Path::new("m.safetensors")), Path::new("m.lossy.safetensors"));
        assert_eq!(marked(Path::new("weights.lossy")), Path::new("weights.lossy"));
    }
}
