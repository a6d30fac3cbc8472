//! Elements to ranks and residuals.

use super::{CHUNK, EXPONENTS, Float, NO_RANK, ones};
use crate::simd::{GROUP, Simd, deinterleave, kernel};
use crate::strip::array_mut;

/// Ranks by exponent, ready for [`split`].
#[derive(Clone, Debug)]
pub struct RankOf {
    of: [u8; EXPONENTS],
    /// The first 256, inverted: what a level doesn't have to look up it gives as zero, so that
    /// zero stands for [`NO_RANK`].
    inverted: [u8; 256],
    /// The exponents that have a rank are less than this, or it is 256.
    used: usize,
}

impl RankOf {
    /// Exponents of which none has a rank.
    pub fn none() -> Self {
        Self { of: [NO_RANK; EXPONENTS], inverted: [!NO_RANK; 256], used: 0 }
    }

    /// The rank of an exponent, or [`NO_RANK`].
    pub fn get(&self, exponent: u16) -> u8 {
        self.of[usize::from(exponent) % EXPONENTS]
    }

    /// Gives `exponent` a rank.
    pub fn set(&mut self, exponent: u16, rank: u8) {
        let exponent = usize::from(exponent) % EXPONENTS;
        self.of[exponent] = rank;
        if let Some(inverted) = self.inverted.get_mut(exponent) {
            *inverted = !rank;
        }
        self.used = self.used.max((exponent + 1).min(256));
    }
}

/// What [`split`] found in a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// All residuals, combined by *or*.
    pub all: u64,
    /// Those of elements whose exponent is not [zero](Float::is_zero).
    pub normal: u64,
    /// Elements whose exponent is zero.
    pub zeros: usize,
    /// Whether an element has [`NO_RANK`].
    pub unranked: bool,
}

kernel! {
    /// Splits up to [`CHUNK`] elements into the ranks of their exponents and residuals, which go to byte
    /// planes of [`CHUNK`] bytes. `ranks` and the planes are written in whole groups; what fills
    /// the last one is an element of zero bits.
    ///
    /// # Panics
    /// If `ranks` or `planes` is too short.
    pub fn split(
        float: Float,
        data: &[u8],
        rank_of: &RankOf,
        ranks: &mut [u8],
        planes: &mut [u8],
    ) -> Found = split_at
}

#[inline(always)]
fn split_at<S: Simd>(
    simd: S,
    float: Float,
    data: &[u8],
    rank_of: &RankOf,
    ranks: &mut [u8],
    planes: &mut [u8],
) -> Found {
    // What is written as a constant is compiled for that format.
    match float {
        Float::BF16 => split_bytes::<S, 2>(simd, Float::BF16, data, rank_of, ranks, planes),
        Float::F16 => split_bytes::<S, 2>(simd, Float::F16, data, rank_of, ranks, planes),
        Float::F32 => split_bytes::<S, 4>(simd, Float::F32, data, rank_of, ranks, planes),
        Float::E4M3 => split_bytes::<S, 1>(simd, Float::E4M3, data, rank_of, ranks, planes),
        Float::WIDE_BF16 => {
            split_bytes::<S, 2>(simd, Float::WIDE_BF16, data, rank_of, ranks, planes)
        }
        Float::WIDE_F16 => split_bytes::<S, 2>(simd, Float::WIDE_F16, data, rank_of, ranks, planes),
        Float::WIDE_F32 => split_bytes::<S, 4>(simd, Float::WIDE_F32, data, rank_of, ranks, planes),
        Float { bytes: 1, .. } => split_bytes::<S, 1>(simd, float, data, rank_of, ranks, planes),
        Float { bytes: 2, .. } => split_bytes::<S, 2>(simd, float, data, rank_of, ranks, planes),
        Float { bytes: 4, .. } => split_bytes::<S, 4>(simd, float, data, rank_of, ranks, planes),
        _ => split_bytes::<S, 8>(simd, float, data, rank_of, ranks, planes),
    }
}

#[inline(always)]
fn split_bytes<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    data: &[u8],
    rank_of: &RankOf,
    ranks: &mut [u8],
    planes: &mut [u8],
) -> Found {
    let table = RankTable::new(simd, float, rank_of);
    let mut seen =
        Seen::<S, N> { all: [simd.splat(0); N], normal: [simd.splat(0); N], zeros: 0, unranked: 0 };
    let (groups, last) = data.as_chunks::<GROUP>().0.as_chunks::<N>();
    for (i, group) in groups.iter().enumerate() {
        seen.group(simd, &table, group, u64::MAX, i, ranks, planes);
    }
    let rest = data.len() - groups.len() * N * GROUP;
    if rest > 0 {
        let mut group = [[0; GROUP]; N];
        group.as_flattened_mut()[..rest].copy_from_slice(&data[data.len() - rest..]);
        let present = (1 << (rest / N)) - 1;
        seen.group(simd, &table, &group, present, groups.len(), ranks, planes);
    }
    debug_assert!(last.len() < N);
    Found {
        all: word_of(simd, &seen.all),
        normal: word_of(simd, &seen.normal),
        zeros: seen.zeros,
        unranked: seen.unranked != 0,
    }
}

/// All bytes of each plane combined by *or*, as a word.
#[inline(always)]
fn word_of<S: Simd, const N: usize>(simd: S, planes: &[S::Bytes; N]) -> u64 {
    let mut word = [0; 8];
    for (byte, &plane) in word.iter_mut().zip(planes) {
        let mut bytes = [0; GROUP];
        simd.store(plane, &mut bytes);
        *byte = bytes.iter().fold(0, |all, byte| all | byte);
    }
    u64::from_le_bytes(word)
}

/// What was found so far.
struct Seen<S: Simd, const N: usize> {
    all: [S::Bytes; N],
    normal: [S::Bytes; N],
    zeros: usize,
    unranked: u64,
}

impl<S: Simd, const N: usize> Seen<S, N> {
    /// Splits group `i`, of which the elements in `present` are there.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "part of a kernel")]
    fn group(
        &mut self,
        simd: S,
        table: &RankTable<'_, S>,
        group: &[[u8; GROUP]; N],
        present: u64,
        i: usize,
        ranks: &mut [u8],
        planes: &mut [u8],
    ) {
        let (q, _) = table.float.top();
        let mut b = [simd.splat(0); N];
        for (b, part) in b.iter_mut().zip(group) {
            *b = simd.load(part);
        }
        b = deinterleave::<S, N>(simd, b);
        if table.float.big_endian {
            b.reverse();
        }
        let (zero, found, top) = table.split(simd, &b, group);
        simd.store(found, array_mut(ranks, i * GROUP));
        self.unranked |= simd.bits(simd.eq(found, simd.splat(NO_RANK))) & present;
        let zero = zero & present;
        self.zeros += zero.count_ones() as usize;
        b[q] = top;
        for (k, &byte) in b.iter().enumerate() {
            if k <= q {
                simd.store(byte, array_mut(planes, k * CHUNK + i * GROUP));
                self.all[k] = simd.or(self.all[k], byte);
                let normal = if zero == 0 { byte } else { simd.keep(byte, !zero) };
                self.normal[k] = simd.or(self.normal[k], normal);
            }
        }
    }
}

/// How ranks are looked up.
struct RankTable<'a, S: Simd> {
    float: Float,
    rank_of: &'a RankOf,
    table: S::Table<'a>,
}

impl<'a, S: Simd> RankTable<'a, S> {
    #[inline(always)]
    fn new(simd: S, float: Float, rank_of: &'a RankOf) -> Self {
        Self { float, rank_of, table: simd.table(&rank_of.inverted, rank_of.used) }
    }

    /// Where the exponents of a group are zero, their ranks, and the top bytes of the residuals.
    #[inline(always)]
    fn split<const N: usize>(
        &self,
        simd: S,
        b: &[S::Bytes; N],
        group: &[[u8; GROUP]; N],
    ) -> (u64, S::Bytes, S::Bytes) {
        let (bits, (q, p)) = (self.float.exponent_bits, self.float.top());
        let (low, residual) = (simd.splat(ones(p)), simd.splat(ones(p + 1)));
        let (exponents, top) = if p + bits == 7 {
            let sign = simd.and(simd.shr(b[q], 7 - p), residual);
            let exponents = simd.and(simd.shr(b[q], p), simd.splat(ones(bits)));
            (exponents, simd.select(low, b[q], sign))
        } else {
            let next = b[(q + 1).min(N - 1)];
            let sign = simd.and(simd.shr(next, 7 - p), residual);
            let top = simd.select(low, b[q], sign);
            if bits > 8 {
                // Too many for a table of bytes.
                let (mut zero, mut ranks) = (0, [0; GROUP]);
                for (i, rank) in ranks.iter_mut().enumerate() {
                    let exponent = self.float.exponent(group.as_flattened(), i);
                    *rank = self.rank_of.get(exponent);
                    zero |= u64::from(self.float.is_zero(exponent)) << i;
                }
                return (zero, simd.load(&ranks), top);
            }
            (simd.select(simd.splat(1), simd.shr(b[q], 7), simd.shl(next, 1)), top)
        };
        let ranks = simd.sub(simd.splat(NO_RANK), simd.lookup(self.table, exponents));
        let above = simd.and(exponents, simd.splat(!ones(self.float.top_bits)));
        (simd.bits(simd.eq(above, simd.splat(0))), ranks, top)
    }
}
