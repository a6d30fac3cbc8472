//! Floats as exponent and residual. The residual is the mantissa with the sign bit on top of it
//! (spec: "Floats").

use crate::Word;

/// Exponents that a float of up to 11 exponent bits can have.
pub const EXPONENTS: usize = 1 << 11;

/// Where a float's bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Float {
    /// 1 to 11.
    pub exponent_bits: u32,
    /// The word's bits less the exponent and one for the sign.
    pub mantissa_bits: u32,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
}

impl Float {
    #[inline(always)]
    fn load<T: Word>(self, bytes: &[u8]) -> T {
        let word = T::load_le(bytes);
        if self.big_endian { word.swap() } else { word }
    }

    #[inline(always)]
    fn exponent<T: Word>(self, word: T) -> usize {
        let mask = (1u16 << self.exponent_bits) - 1;
        usize::from((word >> self.mantissa_bits).low_u16() & mask)
    }

    #[inline(always)]
    fn residual<T: Word>(self, word: T) -> T {
        let sign = word >> (T::BITS - 1) << self.mantissa_bits;
        word & T::ones(self.mantissa_bits) | sign
    }
}

/// Counts the exponents of the elements in `data`.
pub fn count_exponents<T: Word>(data: &[u8], float: Float, counts: &mut [u32; EXPONENTS]) {
    // Four tables, so that equal neighbours don't wait for each other.
    let mut lanes = [[0u32; EXPONENTS]; 4];
    let exponent = |bytes: &[u8]| float.exponent::<T>(float.load(bytes)) % EXPONENTS;
    let mut fours = data.chunks_exact(4 * T::BYTES);
    for four in &mut fours {
        for (lane, bytes) in lanes.iter_mut().zip(four.chunks_exact(T::BYTES)) {
            lane[exponent(bytes)] += 1;
        }
    }
    for bytes in fours.remainder().chunks_exact(T::BYTES) {
        lanes[0][exponent(bytes)] += 1;
    }
    for (e, count) in counts.iter_mut().enumerate() {
        *count += lanes.iter().map(|lane| lane[e]).sum::<u32>();
    }
}

/// Splits `data` into `rank_of[exponent]` and the residual of each element.
pub fn split<T: Word>(
    data: &[u8],
    float: Float,
    rank_of: &[u8; EXPONENTS],
    ranks: &mut [u8],
    residuals: &mut [T],
) {
    for ((bytes, rank), residual) in data.chunks_exact(T::BYTES).zip(ranks).zip(residuals) {
        let word: T = float.load(bytes);
        *rank = rank_of[float.exponent(word) % EXPONENTS];
        *residual = float.residual(word);
    }
}

/// Puts elements together again: `exponent_of[rank]` and the residual.
pub fn merge<T: Word>(
    ranks: &[u8],
    residuals: &[T],
    float: Float,
    exponent_of: &[u16; 256],
    out: &mut [u8],
) {
    let placed = exponent_of.map(|e| T::truncate(u64::from(e)) << float.mantissa_bits);
    let mask = T::ones(float.mantissa_bits);
    for ((bytes, &rank), &residual) in out.chunks_exact_mut(T::BYTES).zip(ranks).zip(residuals) {
        let sign = residual >> float.mantissa_bits << (T::BITS - 1);
        let word = residual & mask | placed[usize::from(rank)] | sign;
        if float.big_endian { word.swap() } else { word }.store_le(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Word>(data: &[u8], float: Float) {
        let n = data.len() / T::BYTES;
        let data = &data[..n * T::BYTES];
        let mut counts = [0; EXPONENTS];
        count_exponents::<T>(data, float, &mut counts);
        assert_eq!(counts.iter().sum::<u32>() as usize, n);
        let (mut rank_of, mut exponent_of) = ([0; EXPONENTS], [0; 256]);
        let seen = (0..EXPONENTS).filter(|&e| counts[e] > 0);
        for (rank, e) in seen.take(256).enumerate() {
            rank_of[e] = u8::try_from(rank).unwrap();
            exponent_of[rank] = u16::try_from(e).unwrap();
        }
        let (mut ranks, mut residuals) = (vec![0; n], vec![T::default(); n]);
        split(data, float, &rank_of, &mut ranks, &mut residuals);
        let mut out = vec![0xAA; data.len()];
        merge(&ranks, &residuals, float, &exponent_of, &mut out);
        assert_eq!(out, data);
    }

    #[test]
    fn merge_undoes_split() {
        arbtest::arbtest(|u| {
            let big_endian = u.arbitrary()?;
            let data: Vec<u8> = u.arbitrary()?;
            let float = |bits: u32, exponent_bits: u32| Float {
                exponent_bits,
                mantissa_bits: bits - 1 - exponent_bits,
                big_endian,
            };
            round_trip::<u8>(&data, float(8, 4));
            round_trip::<u8>(&data, float(8, 7));
            round_trip::<u16>(&data, float(16, 8));
            round_trip::<u16>(&data, float(16, 5));
            round_trip::<u32>(&data, float(32, 8));
            round_trip::<u64>(&data[..data.len().min(2000)], float(64, 11));
            Ok(())
        });
    }
}
