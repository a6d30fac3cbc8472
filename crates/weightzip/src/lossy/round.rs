//! Rounds tensors on their way into a file, and keeps account of what that does.

use super::{Bound, Rules};
use crate::container::losses::{Loss, Losses};
use crate::error::{Error, Result};
use crate::plan;
use std::ops::Range;
use weightzip_kernels::field::Float;
use weightzip_kernels::round::{Errors, Step, round};

/// A tensor to be rounded, in its segment.
#[derive(Clone, Debug)]
pub(crate) struct Rounding {
    /// Its bytes, counted from the segment's start.
    pub(crate) bytes: Range<u64>,
    float: Float,
    step: Step,
    /// Its place in the [`Account`].
    account: usize,
}

/// What rounding did to each tensor so far.
#[derive(Default)]
pub(crate) struct Account {
    tensors: Vec<Rounded>,
}

struct Rounded {
    name: String,
    /// Which one of the file's tensors it is.
    tensor: u64,
    step: Step,
    float: Float,
    bytes: u64,
    /// How many of them were seen.
    seen: u64,
    errors: Errors,
}

/// What rounding did to a part of a tensor: its place in the account, how many bytes.
pub(crate) type Part = (usize, u64, Errors);

impl Account {
    /// Tells the segments which of their tensors are to be rounded.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if a tensor would have to be looked at first.
    pub(crate) fn open(rules: &Rules, segments: &mut [plan::Segment]) -> Result<Self> {
        let (mut account, mut tensor) = (Self::default(), 0);
        for segment in segments {
            let mut start = 0;
            for span in &segment.spans {
                let bytes = span.range.end - span.range.start;
                if let Some(info) = &span.tensor {
                    let bound = rules.of(info);
                    let step = bound.step();
                    if step.is_none() && bound != Bound::Exact {
                        let why = "a signal-to-noise ratio takes a look at the tensor first; from what can't be read twice, use abs or rel";
                        return Err(Error::argument(why).in_tensor(&info.name));
                    }
                    if let (Some(step), Some(float)) = (step, info.dtype.record_layout().floats()) {
                        let place = account.tensors.len();
                        segment.rounding.push(Rounding {
                            bytes: start..start + bytes,
                            float,
                            step,
                            account: place,
                        });
                        let (name, errors) = (info.name.clone(), Errors::default());
                        let rounded = Rounded { name, tensor, step, float, bytes, seen: 0, errors };
                        account.tensors.push(rounded);
                    }
                    tensor += 1;
                }
                start += bytes;
            }
        }
        Ok(account)
    }

    /// Adds up; parts of a tensor in order.
    pub(crate) fn add(&mut self, parts: &[Part]) {
        for (place, bytes, errors) in parts {
            let rounded = &mut self.tensors[*place];
            rounded.seen += bytes;
            rounded.errors.add(errors);
        }
    }

    /// What the file says of it.
    ///
    /// # Errors
    /// [`InsufficientData`](crate::Kind::InsufficientData) if there was not all of a tensor.
    pub(crate) fn close(self, rules: &Rules, source_blake3: [u8; 32]) -> Result<Losses> {
        let tensors = self.tensors.into_iter().map(Rounded::close).collect::<Result<_>>()?;
        Ok(Losses { source_blake3, rules: rules.to_string(), tensors })
    }
}

impl Rounded {
    fn close(self) -> Result<Loss> {
        let Self { name, tensor, step, float, bytes, seen, errors } = self;
        if seen < bytes {
            let why =
                "the file ends within a tensor that is to be rounded; compress it without loss";
            return Err(Error::short(why).in_tensor(&name));
        }
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let count = (bytes / float.bytes as u64).max(1) as f64;
        let Errors { absolute, relative, noise, signal } = errors;
        let (rmse, rms) = ((noise / count).sqrt(), (signal / count).sqrt());
        Ok(Loss { tensor, bound: Bound::of(step), absolute, relative, rmse, rms })
    }
}

/// Rounds the bytes from `start` of a segment on: whole elements.
pub(crate) fn round_part(rounding: &[Rounding], start: u64, data: &mut [u8]) -> Vec<Part> {
    let end = start + data.len() as u64;
    let first = rounding.partition_point(|tensor| tensor.bytes.end <= start);
    let level = weightzip_kernels::level();
    let overlaps = rounding[first..].iter().take_while(|tensor| tensor.bytes.start < end);
    let parts = overlaps.map(|tensor| {
        let at = |at: u64| usize::try_from(at.clamp(start, end) - start).unwrap_or(usize::MAX);
        let data = &mut data[at(tensor.bytes.start)..at(tensor.bytes.end)];
        (tensor.account, data.len() as u64, round(level, tensor.float, tensor.step, data))
    });
    parts.collect()
}
