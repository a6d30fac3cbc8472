//! Floats as exponent and residual. The residual is the mantissa with the sign bit on top of it
//! (spec: "Floats"). Elements are worked on as byte planes, 64 at a time.

mod count;
mod merge;
mod split;

pub use count::{COUNTED_WHOLE, count_exponents};
pub use merge::{Exponents, Residuals, merge};
pub use split::{Found, RankOf, split};

use crate::word::Word;

/// Exponents that a float of up to 11 exponent bits can have.
pub const EXPONENTS: usize = 1 << 11;

/// Elements that are split at a time, and share a narrowing (spec: "Planes").
pub const CHUNK: usize = 1024;

/// The rank of an exponent that has none.
pub const NO_RANK: u8 = u8::MAX;

/// Where a float's bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Float {
    /// 1, 2, 4 or 8.
    pub bytes: usize,
    /// 1 to 11, with `top_bits`.
    pub exponent_bits: u32,
    /// Mantissa bits that count as the lowest bits of the exponent.
    pub top_bits: u32,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
}

impl Float {
    pub(crate) const BF16: Self =
        Self { bytes: 2, exponent_bits: 8, top_bits: 0, big_endian: false };
    const F16: Self = Self { bytes: 2, exponent_bits: 5, top_bits: 0, big_endian: false };
    pub(crate) const F32: Self =
        Self { bytes: 4, exponent_bits: 8, top_bits: 0, big_endian: false };
    const E4M3: Self = Self { bytes: 1, exponent_bits: 4, top_bits: 0, big_endian: false };
    const WIDE_BF16: Self = Self { exponent_bits: 10, top_bits: 2, ..Self::BF16 };
    const WIDE_F16: Self = Self { exponent_bits: 7, top_bits: 2, ..Self::F16 };
    const WIDE_F32: Self = Self { exponent_bits: 10, top_bits: 2, ..Self::F32 };

    /// The bits that are neither exponent nor sign.
    #[inline(always)]
    pub fn mantissa_bits(self) -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "8 at most")]
        let bytes = self.bytes as u32;
        8 * bytes - 1 - self.exponent_bits
    }

    /// The byte that has the mantissa's top bits, and how many.
    #[inline(always)]
    fn top(self) -> (usize, u32) {
        ((self.mantissa_bits() / 8) as usize, self.mantissa_bits() % 8)
    }

    /// The exponent of element `i` of `data`.
    #[inline(always)]
    pub fn exponent(self, data: &[u8], i: usize) -> u16 {
        match self.bytes {
            1 => self.exponent_of::<u8>(&data[i..]),
            2 => self.exponent_of::<u16>(&data[2 * i..]),
            4 => self.exponent_of::<u32>(&data[4 * i..]),
            _ => self.exponent_of::<u64>(&data[8 * i..]),
        }
    }

    /// Whether an exponent is zero but for its top mantissa bits.
    #[inline(always)]
    pub fn is_zero(self, exponent: u16) -> bool {
        exponent >> self.top_bits == 0
    }

    #[inline(always)]
    fn exponent_of<T: Word>(self, bytes: &[u8]) -> u16 {
        let mask = (1 << self.exponent_bits) - 1;
        T::bits(bytes, self.big_endian, self.mantissa_bits()) & mask
    }
}

/// A byte with the low `bits` bits set.
#[inline(always)]
fn ones(bits: u32) -> u8 {
    ((1u16 << bits) - 1).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};
    use crate::strip::{Planes, pack, packed_len};
    use arbtest::arbitrary::{Result, Unstructured};

    fn any_float(u: &mut Unstructured) -> Result<Float> {
        let bytes = *u.choose(&[1, 2, 4, 8])?;
        let exponent_bits = u.int_in_range(1..=11.min(8 * bytes as u32 - 1))?;
        let top_bits = u.int_in_range(0..=exponent_bits - 1)?.min(2);
        Ok(Float { bytes, exponent_bits, top_bits, big_endian: u.arbitrary()? })
    }

    /// Up to a chunk of elements of at most 255 exponents, with zeros and low zeros among them.
    fn any_elements(u: &mut Unstructured, float: Float) -> Result<Vec<u8>> {
        let count = u.int_in_range(1..=CHUNK)?;
        let (mut data, keep) = (vec![0; count * float.bytes], u.int_in_range(0..=float.bytes)?);
        u.fill_buffer(&mut data)?;
        let seed = data.clone();
        for (i, element) in data.chunks_exact_mut(float.bytes).enumerate() {
            let from = i * 7 % (u.len() + 13);
            element.iter_mut().zip(seed.iter().cycle().skip(from)).for_each(|(to, b)| *to = *b);
            element[..keep].fill(0);
        }
        Ok(data)
    }

    /// Ranks by first occurrence; exponents behind the first 255 have none.
    fn ranks(float: Float, data: &[u8]) -> (RankOf, Vec<u16>) {
        let (mut rank_of, mut exponents) = (RankOf::none(), Vec::new());
        for i in 0..data.len() / float.bytes {
            let e = float.exponent(data, i);
            if rank_of.get(e) == NO_RANK && exponents.len() < usize::from(NO_RANK) {
                rank_of.set(e, exponents.len() as u8);
                exponents.push(e);
            }
        }
        (rank_of, exponents)
    }

    fn merge_undoes_split(level: Level) {
        arbtest::arbtest(|u| {
            let float = any_float(u)?;
            let data = any_elements(u, float)?;
            let count = data.len() / float.bytes;
            let (rank_of, exponents) = ranks(float, &data);
            let split_at = |level| {
                let (mut ranks, mut planes) = (vec![0; CHUNK], vec![0; 8 * CHUNK]);
                let found = split(level, float, &data, &rank_of, &mut ranks, &mut planes);
                (found, ranks, planes)
            };
            let (found, ranks, planes) = split_at(level);
            assert_eq!((found, ranks.clone(), planes.clone()), split_at(Level::Scalar));

            let zeros = (0..count).filter(|&i| float.is_zero(float.exponent(&data, i))).count();
            assert_eq!(found.zeros, zeros);
            for (i, &rank) in ranks[..count].iter().enumerate() {
                assert_eq!(rank, rank_of.get(float.exponent(&data, i)));
            }
            assert_eq!(found.unranked, ranks[..count].contains(&NO_RANK));
            if found.unranked {
                return Ok(());
            }
            let m = float.mantissa_bits();
            let dropped = (found.all & ((1 << m) - 1)).trailing_zeros().min(m);
            let width = m - dropped + u32::from(found.all >> m != 0);
            let planes = Planes { bytes: &planes[..((m / 8) as usize + 1) * CHUNK], len: CHUNK };
            let mut packed = vec![0; packed_len(count, width)];
            pack(level, planes, count, dropped, width, &mut packed);
            let residuals = Residuals { packed: &packed, width, dropped };
            let mut out = vec![0xAA; data.len()];
            let exponents = Exponents::new(float, &exponents);
            merge(level, float, &ranks, residuals, &exponents, &mut out);
            assert_eq!(out, data);
            Ok(())
        });
    }

    fn any_residuals_and_ranks_give_the_same_elements(level: Level) {
        arbtest::arbtest(|u| {
            let float = any_float(u)?;
            let (count, m) = (u.int_in_range(1..=CHUNK)?, float.mantissa_bits());
            let dropped = u.int_in_range(0..=m)?;
            let width = m - dropped + u.int_in_range(0..=1)?;
            let mut packed = vec![0; packed_len(count, width)];
            u.fill_buffer(&mut packed)?;
            let mut ranks = vec![0; CHUNK];
            u.fill_buffer(&mut ranks)?;
            let mut of = vec![0; u.int_in_range(0..=256)?];
            for e in &mut of {
                *e = u.int_in_range(0..=(1 << float.exponent_bits) - 1)?;
            }
            let exponents = Exponents::new(float, &of);
            let residuals = Residuals { packed: &packed, width, dropped };
            let merge_at = |level| {
                let mut out = vec![0xAA; count * float.bytes];
                merge(level, float, &ranks, residuals, &exponents, &mut out);
                out
            };
            let out = merge_at(level);
            assert_eq!(out, merge_at(Level::Scalar));
            for (i, &rank) in ranks[..count].iter().enumerate() {
                let wanted = of.get(usize::from(rank)).copied().unwrap_or(0);
                assert_eq!(float.exponent(&out, i), wanted);
            }
            Ok(())
        });
    }

    at_each_level!(merge_undoes_split, any_residuals_and_ranks_give_the_same_elements);
}
