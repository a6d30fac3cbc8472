//! Whether an archive is what it says it is of a source: the same, or rounded as it says.

use super::Archive;
use crate::container::losses::Loss;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::span::TensorInfo;
use std::ops::Range;
use weightzip_kernels::round::{Errors, round};

/// Bytes that are compared in one go: whole elements of all dtypes.
const PIECE: u64 = 8 << 20;

impl<S: Source> Archive<S> {
    /// Compares the original with the source that it was made from: all bytes must be the same, but for tensors
    /// that were rounded; of those each number must be the one that it is said to be rounded to. What is said of
    /// the errors is measured anew. `progress` is told of every finished piece, in bytes.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) that names the first tensor that differs, if the source is another;
    /// [`Corruption`](crate::Kind::Corruption) if the file says other errors than there are; else what
    /// [`decompress`](crate::decompress) and the source report.
    pub fn check_against<T: Source + ?Sized>(
        &self,
        source: &T,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let info = self.info();
        let size = source.size().map_err(|e| Error::io("can't read the source", e))?;
        if size != info.original_bytes {
            let has = info.original_bytes;
            return Err(Error::argument(format!(
                "the source has {size} bytes, the file restores to {has}: it is another one"
            )));
        }
        let (mut hasher, mut at, mut tensor) = (blake3::Hasher::new(), 0, 0);
        for span in self.segments.iter().flat_map(|segment| &segment.spans) {
            let range = at..at + span.bytes;
            at = range.end;
            let named = span.tensor.as_ref().map(|(info, _)| info);
            let loss = named.and_then(|_| info.losses.as_ref()?.of(tensor));
            tensor += u64::from(named.is_some());
            let same = self.compare(source, range, named.zip(loss), &mut hasher, progress);
            same.map_err(|e| match named {
                Some(info) => e.in_tensor(&info.name),
                None => e,
            })?;
        }
        let wanted = info.losses.as_ref().map_or(info.blake3, |losses| losses.source_blake3);
        match *hasher.finalize().as_bytes() == wanted {
            true => Ok(()),
            false => Err(Error::corrupt("the file states another BLAKE3 than its source has")),
        }
    }

    /// Compares a span.
    fn compare<T: Source + ?Sized>(
        &self,
        source: &T,
        range: Range<u64>,
        rounded: Option<(&TensorInfo, &Loss)>,
        hasher: &mut blake3::Hasher,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let step =
            rounded.map(|(info, loss)| (info.dtype.record_layout().floats(), loss.bound.step()));
        let step = match step {
            Some((Some(float), Some(step))) => Some((float, step)),
            Some(_) => return Err(Error::corrupt("a tensor that has no floats can't be rounded")),
            None => None,
        };
        let (mut errors, mut at) = (Errors::default(), range.start);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        while at < range.end {
            let len = usize::try_from((range.end - at).min(PIECE)).unwrap_or(usize::MAX);
            before.resize(len, 0);
            after.resize(len, 0);
            source.read_at(at, &mut before).map_err(|e| Error::io("can't read the source", e))?;
            self.fill_from(at, &mut after, None)?;
            hasher.update(&before);
            if let Some((float, step)) = step {
                errors.add(&round(weightzip_kernels::level(), float, step, &mut before));
            }
            if before != after {
                return Err(Error::argument(match step {
                    Some(_) => "the source's numbers, rounded, are others: it is another one",
                    None => "the source's bytes are others: it is another one",
                }));
            }
            at += len as u64;
            progress(len as u64);
        }
        match rounded.is_none_or(|(info, loss)| says(loss, &errors, range.end - range.start, info))
        {
            true => Ok(()),
            false => Err(Error::corrupt("the file states other errors than rounding made")),
        }
    }
}

/// Whether a loss states these errors: the largest ones exactly, sums but for the order in which they were made.
fn says(loss: &Loss, errors: &Errors, bytes: u64, info: &TensorInfo) -> bool {
    let floats = info.dtype.record_layout().floats();
    let count = bytes / floats.map_or(1, |float| float.bytes as u64);
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let root = |sum: f64| (sum / count.max(1) as f64).sqrt();
    let near = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-9 * a.max(b);
    loss.absolute == errors.absolute
        && loss.relative == errors.relative
        && near(loss.rmse, root(errors.noise))
        && near(loss.rms, root(errors.signal))
}
