//! What was lost when the original was made (spec: "Losses").

use super::wire::{Fields, put_string, put_varint};
use crate::error::{Error, Result};
use crate::lossy::{Bound, step_from_wire, step_to_wire};

/// What rounding did to a file, of which a `.wz` holds what came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// BLAKE3 of the file before.
    pub source_blake3: [u8; 32],
    /// The rules that were asked for, as on the command line.
    pub rules: String,
    /// The tensors that were rounded, in file order.
    pub tensors: Vec<Loss>,
}

/// What rounding did to a tensor. Numbers that are not finite stay as they are, and don't count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Which one of the file's tensors, from 0.
    pub tensor: u64,
    /// What its numbers were rounded to: [`Absolute`](Bound::Absolute) or [`Relative`](Bound::Relative).
    pub bound: Bound,
    /// The largest difference.
    pub absolute: f64,
    /// The largest difference, as a part of the number.
    pub relative: f64,
    /// The root of the mean square of differences.
    pub rmse: f64,
    /// The root of the mean square of the numbers.
    pub rms: f64,
}

impl Loss {
    /// How far the tensor is above the noise, in decibels: infinitely far if nothing changed.
    pub fn snr(&self) -> f64 {
        20.0 * (self.rms / self.rmse).log10()
    }
}

impl Losses {
    /// What was lost of a tensor, by its place in the file; `None` if nothing was rounded.
    pub fn of(&self, tensor: u64) -> Option<&Loss> {
        let found = self.tensors.binary_search_by_key(&tensor, |loss| loss.tensor).ok()?;
        self.tensors.get(found)
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend(self.source_blake3);
        put_string(out, &self.rules);
        put_varint(out, self.tensors.len() as u64);
        let mut next = 0;
        for loss in &self.tensors {
            put_varint(out, loss.tensor - next);
            next = loss.tensor + 1;
            let (kind, number) = loss.bound.step().map(step_to_wire).unwrap_or_default();
            out.push(kind);
            out.extend(number.to_le_bytes());
            for number in [loss.absolute, loss.relative, loss.rmse, loss.rms] {
                out.extend(number.to_le_bytes());
            }
        }
    }

    pub(crate) fn read_from(payload: &[u8]) -> Result<Self> {
        let mut from = Fields::of("the list of losses", payload);
        let (source_blake3, rules) = (from.array()?, from.string()?);
        let count = from.count(38)?;
        let (mut tensors, mut next) = (Vec::with_capacity(count), 0u64);
        for _ in 0..count {
            let tensor = next.checked_add(from.varint()?);
            let tensor =
                tensor.filter(|&n| n < u64::MAX).ok_or_else(|| from.bad("counts too far"))?;
            next = tensor + 1;
            let (kind, number) = (from.u8()?, i32::from_le_bytes(from.array()?));
            let bound = Bound::of(step_from_wire(kind, number)?);
            let mut number = || {
                let number = f64::from_le_bytes(from.array()?);
                let bad =
                    || Error::corrupt("an error that rounding made is no number, or negative");
                (number >= 0.0 && number.is_sign_positive()).then_some(number).ok_or_else(bad)
            };
            let (absolute, relative, rmse, rms) = (number()?, number()?, number()?, number()?);
            tensors.push(Loss { tensor, bound, absolute, relative, rmse, rms });
        }
        from.finish()?;
        Ok(Self { source_blake3, rules, tensors })
    }

    /// Refuses losses of tensors that a file of so many doesn't have.
    pub(crate) fn check(&self, tensors: u64) -> Result<()> {
        match self.tensors.last().is_none_or(|last| last.tensor < tensors) {
            true => Ok(()),
            false => Err(Error::corrupt("the list of losses has tensors that the file hasn't")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_list_comes_back() {
        arbtest::arbtest(|u| {
            let (mut losses, mut tensor) = (Losses::default(), 0);
            for _ in 0..u.int_in_range(0..=5)? {
                tensor += u.int_in_range(1..=300)?;
                let bound = match u.arbitrary()? {
                    true => Bound::Absolute(u.int_in_range(-1074..=1023)?),
                    false => Bound::Relative(u.int_in_range(0..=52)?),
                };
                let mut number = || Ok(f64::from(u.arbitrary::<u32>()?) / 7.0);
                let (absolute, relative, rmse, rms) = (number()?, number()?, number()?, number()?);
                losses.tensors.push(Loss { tensor, bound, absolute, relative, rmse, rms });
            }
            let mut out = Vec::new();
            losses.write_to(&mut out);
            assert_eq!(Losses::read_from(&out).unwrap(), losses);
            assert!(losses.check(tensor + 1).is_ok());
            assert_eq!(losses.check(tensor).is_ok(), losses.tensors.is_empty());
            let at = u.choose_index(out.len())?;
            out[at] ^= u.int_in_range(1..=255)? as u8;
            let _ = Losses::read_from(&out);
            Ok(())
        });
    }

    #[test]
    fn errors_that_are_none_are_refused() {
        let loss = Loss {
            tensor: 0,
            bound: Bound::Relative(3),
            absolute: 1.0,
            relative: 1.0,
            rmse: 1.0,
            rms: 10.0,
        };
        assert!((loss.snr() - 20.0).abs() < 1e-12);
        for rms in [f64::NAN, -1.0, -0.0] {
            let losses = Losses { tensors: vec![Loss { rms, ..loss }], ..Losses::default() };
            let mut out = Vec::new();
            losses.write_to(&mut out);
            assert!(Losses::read_from(&out).is_err());
        }
    }
}
