//! What compressing a file would save, from a sample of it.

use crate::human;
use crate::source::SourceFile;
use anyhow::Result;
use serde::Serialize;
use weightzip::Options;

/// Percent that a file must save to be worth it.
pub(crate) const WORTH: f64 = 2.0;

/// What is likely to come out.
#[derive(Clone, Serialize)]
pub(crate) struct Estimate {
    /// Bytes of the whole .wz.
    pub(crate) compressed: u64,
    /// compressed / bytes; null for an empty original.
    ratio: Option<f64>,
    pub(crate) format: &'static str,
    /// Of its tensors, the one with the most bytes first; or what somebody says.
    pub(crate) dtypes: Vec<&'static str>,
}

impl Estimate {
    /// Looks at about 2 % of a file.
    pub(crate) fn of(source: &SourceFile, options: &Options) -> Result<Self> {
        let file = source.file();
        let mut layout = source.known_layout()?.clone();
        if let Some(dtype) = options.dtype {
            layout = layout.of_numbers(dtype)?;
        }
        let compressed = weightzip::estimate_file(file, &layout.spans, options.level)?.bytes;
        let mut dtypes: Vec<(&str, u64)> =
            options.dtype.iter().map(|dtype| (dtype.name(), 0)).collect();
        for span in &layout.spans {
            let Some(tensor) = &span.tensor else { continue };
            let (name, bytes) = (tensor.dtype.name(), span.range.end - span.range.start);
            match dtypes.iter_mut().find(|(dtype, _)| *dtype == name) {
                Some((_, sum)) => *sum += bytes,
                None => dtypes.push((name, bytes)),
            }
        }
        dtypes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let ratio = human::ratio(compressed, file.metadata()?.len()).map(|r| human::round(r, 4));
        let dtypes = dtypes.into_iter().map(|(name, _)| name).collect();
        Ok(Self { compressed, ratio, format: layout.format.name(), dtypes })
    }

    /// Whether it saves less than so many percent.
    pub(crate) fn saves_less(&self, percent: f64) -> bool {
        self.ratio.is_none_or(|ratio| (1.0 - ratio) * 100.0 < percent)
    }

    pub(crate) fn saving(&self) -> String {
        human::saving(self.ratio)
    }
}
