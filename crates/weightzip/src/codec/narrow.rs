//! Narrowing (spec: "Residual chunks"): per 1 Ki elements, bits that are zero in all of them are
//! not stored. Finds values that hold fewer bits than their dtype, such as BF16 stored as FP32.

use crate::error::{Error, Result};
use weightzip_kernels::field::Found;

/// What is left out of a chunk's residuals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Narrowing {
    /// Low mantissa bits that are not stored.
    pub(super) dropped: u32,
    /// The sign is not stored: no element is negative.
    pub(super) unsigned: bool,
    /// Elements whose exponent is zero have their dropped bits in the block's subnormal strips.
    /// (A short format's subnormals have fewer zeros than its other values: 16-bit floats that
    /// hold BF16 values are the case that matters.)
    pub(super) keeps_subnormals: bool,
}

impl Narrowing {
    /// The narrowing that saves most, of a chunk of `count` elements.
    pub(super) fn best(found: &Found, count: usize, mantissa_bits: u32) -> Self {
        let zeros = |word: u64| word.trailing_zeros().min(mantissa_bits);
        let (in_all, in_normal) = (zeros(found.all), zeros(found.normal));
        let keeps_subnormals =
            (in_normal - in_all) as usize * count > in_normal as usize * found.zeros;
        Self {
            dropped: if keeps_subnormals { in_normal } else { in_all },
            unsigned: found.all >> mantissa_bits == 0,
            keeps_subnormals,
        }
    }

    /// Bits per element that are stored.
    pub(super) fn width(self, mantissa_bits: u32) -> u32 {
        mantissa_bits - self.dropped + u32::from(!self.unsigned)
    }

    /// Bits 0 to 5: dropped; bit 6: unsigned; bit 7: keeps subnormals.
    pub(super) fn to_wire(self) -> u8 {
        let dropped = self.dropped.to_le_bytes()[0];
        dropped | u8::from(self.unsigned) << 6 | u8::from(self.keeps_subnormals) << 7
    }

    pub(super) fn from_wire(byte: u8, mantissa_bits: u32) -> Result<Self> {
        let dropped = u32::from(byte & 63);
        if dropped > mantissa_bits {
            return Err(Error::corrupt(format!(
                "a chunk drops {dropped} of {mantissa_bits} mantissa bits"
            )));
        }
        Ok(Self { dropped, unsigned: byte >> 6 & 1 == 1, keeps_subnormals: byte >> 7 == 1 })
    }
}
