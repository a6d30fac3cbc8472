//! Floats of a record that go with others of it, such as the minimum of a block with its scale: one is
//! coded as how far it is from the other, moved by what most are apart and with the sign that most have.

use super::{bad, integers};
use crate::error::Result;
use crate::record::ByteOrder;
use weightzip_kernels::field::Float;

/// Flag: there is another column.
const BESIDE: u8 = 1;

/// Flag: most are negative.
const NEGATIVE: u8 = 2;

/// What makes a column's base of another column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    negative: bool,
    /// Added to the floats' bits, of which it has the upper 16.
    offset: i16,
}

impl Beside {
    pub(super) fn to_wire(self) -> [u8; 3] {
        let (sign, [low, high]) =
            (if self.negative { NEGATIVE } else { 0 }, self.offset.to_le_bytes());
        [BESIDE | sign, low, high]
    }

    pub(super) fn from_wire([how, low, high]: [u8; 3]) -> Result<Option<Self>> {
        let offset = i16::from_le_bytes([low, high]);
        match how {
            0 if offset == 0 => Ok(None),
            BESIDE | 3 => Ok(Some(Self { negative: how & NEGATIVE != 0, offset })),
            _ => Err(bad("has unknown bits in a column")),
        }
    }

    /// What suits most numbers of a column; `None` if they are too far apart.
    pub(super) fn of(float: Float, column: &[u8], like: &[u8]) -> Option<Self> {
        let (mut negative, mut apart, mut count) = (0usize, 0i64, 0i64);
        for (number, like) in values(float, column).zip(values(float, like)) {
            negative += usize::from(number >> (float.bytes * 8 - 1) == 1);
            let magnitude = |bits| i64::try_from(bits & below_sign(float)).unwrap_or(0);
            // Zeros have no size.
            if magnitude(number) > 0 && magnitude(like) > 0 {
                apart += magnitude(number) - magnitude(like);
                count += 1;
            }
        }
        let offset = (apart / count.max(1)) >> upper(float);
        let negative = 2 * negative > column.len() / float.bytes;
        Some(Self { negative, offset: i16::try_from(offset).ok()? })
    }

    /// Puts the base that another column makes in place of what is in `base`.
    pub(super) fn base(self, float: Float, like: &[u8], base: &mut Vec<u8>) {
        let sign = if self.negative { below_sign(float) + 1 } else { 0 };
        let offset = i64::from(self.offset) << upper(float);
        base.clear();
        for value in values(float, like) {
            let moved = value.wrapping_add_signed(offset) & below_sign(float) | sign;
            match float.big_endian {
                true => base.extend(&moved.to_be_bytes()[8 - float.bytes..]),
                false => base.extend(&moved.to_le_bytes()[..float.bytes]),
            }
        }
    }
}

/// Bits below the upper 16.
fn upper(float: Float) -> usize {
    (8 * float.bytes).saturating_sub(16)
}

/// All bits below the sign.
fn below_sign(float: Float) -> u64 {
    u64::MAX >> (65 - 8 * float.bytes)
}

/// The floats as integers.
fn values(float: Float, column: &[u8]) -> impl Iterator<Item = u64> {
    let order = if float.big_endian { ByteOrder::Big } else { ByteOrder::Little };
    integers(float.bytes, order, column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    #[test]
    fn a_base_has_the_sign_and_size_of_most() {
        let float = Dtype::F16.record_layout().floats().unwrap();
        let halves = |bits: &[u16]| bits.iter().flat_map(|b| b.to_le_bytes()).collect::<Vec<u8>>();
        let (scales, minima) = (halves(&[0x1000, 0x1100, 0]), halves(&[0x9C00, 0x9C82, 0x1234]));
        let beside = Beside::of(float, &minima, &scales).unwrap();
        assert_eq!(beside, Beside { negative: true, offset: 0xBC1 });
        let base = |beside: Beside, float, like: &[u8]| {
            let mut base = vec![1];
            beside.base(float, like, &mut base);
            base
        };
        assert_eq!(base(beside, float, &scales), halves(&[0x9BC1, 0x9CC1, 0x8BC1]));
        assert_eq!(Beside::from_wire(beside.to_wire()).unwrap(), Some(beside));
        // Beyond the last float the bits go round.
        let far = Beside { negative: false, offset: -2 };
        assert_eq!(base(far, float, &halves(&[0x0001])), halves(&[0x7FFF]));
        let single = Dtype::F32.record_layout().floats().unwrap();
        assert_eq!(base(far, single, &1.0f32.to_le_bytes()), 0x3F7E_0000u32.to_le_bytes());
        assert_eq!(Beside::from_wire([0, 0, 0]).unwrap(), None);
        assert!(Beside::from_wire([0, 1, 0]).is_err() && Beside::from_wire([4, 0, 0]).is_err());
        let big = Float { big_endian: true, ..float };
        assert_eq!(base(beside, big, &[0x10, 0x00]), [0x9B, 0xC1]);
    }
}
