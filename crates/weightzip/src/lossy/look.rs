//! A look at tensors before they are rounded, for bounds that depend on what is in them.

use super::{Bound, Rules};
use crate::error::{Error, Result};
use crate::runner::Runner;
use crate::source::Source;
use crate::span::Span;
use weightzip_kernels::field::Float;
use weightzip_kernels::round::{Errors, Step, round};

/// Bytes that are looked at in one go: whole elements of all dtypes.
const PIECE: u64 = 1 << 20;

/// No number is as small as half of this: rounding to it changes nothing.
pub(super) const NOTHING: i32 = -1074;

impl Rules {
    /// Whether some tensors have to be looked at, for [`look_at`](Self::look_at), before they can be rounded.
    pub fn need_a_look(&self) -> bool {
        self.bounds().any(|bound| matches!(bound, Bound::Snr(_)))
    }

    /// Finds what signal-to-noise ratios mean for the tensors of a file with these spans. Reads these about four times, with as many threads as
    /// there are cores.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io) if the source can't be read.
    pub fn look_at<S: Source + ?Sized>(&mut self, source: &S, spans: &[Span]) -> Result<()> {
        let wanted = spans.iter().filter_map(|span| match self.of(span.tensor.as_ref()?) {
            Bound::Snr(decibels) => Some((span, decibels, Bound::Exact)),
            _ => None,
        });
        let mut tensors: Vec<_> = wanted.collect();
        Runner::new(0)?.try_each(&mut tensors, |(span, decibels, bound)| {
            *bound = coarsest(source, span, *decibels)?;
            Ok(())
        })?;
        let found = tensors.into_iter().filter_map(|(span, _, bound)| {
            span.tensor.as_ref().map(|tensor| (tensor.name.clone(), bound))
        });
        self.seen = found.collect();
        Ok(())
    }
}

/// The coarsest grid that leaves a tensor so far above the noise.
fn coarsest<S: Source + ?Sized>(source: &S, span: &Span, decibels: f64) -> Result<Bound> {
    let measure = |power| measure(source, span, power);
    let Errors { signal, .. } = measure(NOTHING)?;
    if signal == 0.0 || !signal.is_finite() {
        return Ok(Bound::Exact);
    }
    let noise = signal / 10f64.powf(decibels / 10.0);
    let bytes = span.range.end - span.range.start;
    let float = float_of(span).map_or(1, |float| float.bytes as u64);
    // Errors that are spread evenly over a step have a twelfth of its square on average.
    #[allow(clippy::cast_precision_loss, reason = "a first guess")]
    let step = (12.0 * noise * float as f64 / bytes as f64).sqrt();
    #[allow(clippy::cast_possible_truncation, reason = "no number has more")]
    let guess = step.log2().clamp(f64::from(NOTHING + 1), 1000.0).floor() as i32;
    let mut power = guess;
    if measure(power)?.noise <= noise {
        while power < 1000 && measure(power + 1)?.noise <= noise {
            power += 1;
        }
    } else {
        // Half of a step is the largest error there is, so that this ends soon.
        while power > NOTHING && measure(power)?.noise > noise {
            power -= 1;
        }
    }
    Ok(Bound::Absolute(power))
}

pub(super) fn float_of(span: &Span) -> Option<Float> {
    span.tensor.as_ref()?.dtype.record_layout().floats()
}

/// What rounding to multiples of this power of two would do to a tensor.
pub(super) fn measure<S: Source + ?Sized>(source: &S, span: &Span, power: i32) -> Result<Errors> {
    let mut errors = Errors::default();
    let Some(float) = float_of(span) else { return Ok(errors) };
    let (level, mut piece, mut at) = (weightzip_kernels::level(), Vec::new(), span.range.start);
    while at < span.range.end {
        piece.resize(usize::try_from((span.range.end - at).min(PIECE)).unwrap_or(0), 0);
        source.read_at(at, &mut piece).map_err(|e| Error::io("can't read the input", e))?;
        errors.add(&round(level, float, Step::Absolute(power), &mut piece));
        at += piece.len() as u64;
    }
    Ok(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_coarser_grid_would_be_too_noisy() {
        arbtest::arbtest(|u| {
            let scale = 2f32.powi(u.int_in_range(-30..=10)?);
            let count = u.int_in_range(8..=300)?;
            let numbers: Vec<f32> = (0..count)
                .map(|_| {
                    Ok((f32::from(u.arbitrary::<i16>()?) + f32::from(u.arbitrary::<i8>()?) / 256.0)
                        * scale)
                })
                .collect::<Result<_, arbtest::arbitrary::Error>>()?;
            let json = format!(
                r#"{{"w":{{"dtype":"F32","shape":[{count},1],"data_offsets":[0,{}]}}}}"#,
                4 * count
            );
            let mut file = (json.len() as u64).to_le_bytes().to_vec();
            file.extend(json.as_bytes());
            file.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
            let decibels = f64::from(u.int_in_range(0u8..=100)?);
            let mut rules = Rules::default();
            rules.add(&format!("snr={decibels}dB")).unwrap();
            assert!(rules.need_a_look());
            let layout = crate::scan(&file[..]).unwrap();
            rules.look_at(&file[..], &layout.spans).unwrap();
            let span = layout.spans.iter().find(|span| span.tensor.is_some()).unwrap();
            let Bound::Absolute(power) = rules.of(span.tensor.as_ref().unwrap()) else {
                assert!(numbers.iter().all(|n| *n == 0.0));
                return Ok(());
            };
            let snr = |power| {
                let Errors { noise, signal, .. } = measure(&file[..], span, power).unwrap();
                10.0 * (signal / noise).log10()
            };
            assert!(snr(power) >= decibels, "{} {decibels}", snr(power));
            assert!(snr(power + 1) < decibels || power >= 1000);
            Ok(())
        });
    }
}
