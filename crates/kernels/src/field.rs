//! Floats as exponent and residual. The residual is the mantissa with the sign bit on top of it
//! (spec: "Floats"). Elements are worked on as byte planes, 64 at a time.

use crate::simd::{GROUP, Simd, deinterleave, interleave, kernel};
use crate::strip::{Strips, array_mut};
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
    /// 1 to 11.
    pub exponent_bits: u32,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
}

impl Float {
    const BF16: Self = Self { bytes: 2, exponent_bits: 8, big_endian: false };
    const F16: Self = Self { bytes: 2, exponent_bits: 5, big_endian: false };
    const F32: Self = Self { bytes: 4, exponent_bits: 8, big_endian: false };
    const E4M3: Self = Self { bytes: 1, exponent_bits: 4, big_endian: false };

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
    #[inline]
    pub fn exponent(self, data: &[u8], i: usize) -> u16 {
        match self.bytes {
            1 => self.exponent_of::<u8>(&data[i..]),
            2 => self.exponent_of::<u16>(&data[2 * i..]),
            4 => self.exponent_of::<u32>(&data[4 * i..]),
            _ => self.exponent_of::<u64>(&data[8 * i..]),
        }
    }

    #[inline(always)]
    fn exponent_of<T: Word>(self, bytes: &[u8]) -> u16 {
        let mask = (1 << self.exponent_bits) - 1;
        T::bits(bytes, self.big_endian, self.mantissa_bits()) & mask
    }
}

/// Counts the exponents in `data`: of all elements, or of 64 in every 256 if there are so many
/// that these tell enough. Returns how many elements stand behind one that was counted.
pub fn count_exponents(float: Float, data: &[u8], counts: &mut [u32; EXPONENTS]) -> u32 {
    match (float.bytes, float.exponent_bits) {
        (1, _) => count_words::<u8, 256>(float, data, counts),
        (2, ..=8) => count_words::<u16, 256>(float, data, counts),
        (4, ..=8) => count_words::<u32, 256>(float, data, counts),
        (2, _) => count_words::<u16, EXPONENTS>(float, data, counts),
        (4, _) => count_words::<u32, EXPONENTS>(float, data, counts),
        _ => count_words::<u64, EXPONENTS>(float, data, counts),
    }
}

/// Groups of which one is counted, in a large block.
const STRETCH: usize = 4;

/// Elements from which on a block is large.
const LARGE: usize = 1 << 14;

fn count_words<T: Word, const E: usize>(
    float: Float,
    data: &[u8],
    counts: &mut [u32; EXPONENTS],
) -> u32 {
    // Four tables, so that equal neighbours don't wait for each other.
    let mut lanes = [[0u32; E]; 4];
    let large = data.len() / T::BYTES >= LARGE;
    if large {
        for (i, stretch) in data.chunks_exact(STRETCH * GROUP * T::BYTES).enumerate() {
            // Another place in each stretch, lest rows of a round length show the same columns.
            let place = (i.wrapping_mul(0x9E37_79B9) >> 16) % STRETCH;
            count_into::<T, E>(
                float,
                &stretch[place * GROUP * T::BYTES..][..GROUP * T::BYTES],
                &mut lanes,
            );
        }
    } else {
        count_into::<T, E>(float, data, &mut lanes);
    }
    for (e, count) in counts.iter_mut().take(E).enumerate() {
        *count += lanes.iter().map(|lane| lane[e]).sum::<u32>();
    }
    if large { 4 } else { 1 }
}

#[inline(always)]
fn count_into<T: Word, const E: usize>(float: Float, data: &[u8], lanes: &mut [[u32; E]; 4]) {
    let mut fours = data.chunks_exact(4 * T::BYTES);
    for four in &mut fours {
        for (lane, bytes) in lanes.iter_mut().zip(four.chunks_exact(T::BYTES)) {
            lane[usize::from(float.exponent_of::<T>(bytes)) % E] += 1;
        }
    }
    for bytes in fours.remainder().chunks_exact(T::BYTES) {
        lanes[0][usize::from(float.exponent_of::<T>(bytes)) % E] += 1;
    }
}

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
    /// Those of elements whose exponent is not zero.
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
        self.unranked |= simd.eq(found, simd.splat(NO_RANK)) & present;
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
    table: S::Table,
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
                    zero |= u64::from(exponent == 0) << i;
                }
                return (zero, simd.load(&ranks), top);
            }
            (simd.select(simd.splat(1), simd.shr(b[q], 7), simd.shl(next, 1)), top)
        };
        let ranks = simd.sub(simd.splat(NO_RANK), simd.lookup(&self.table, exponents));
        (simd.eq(exponents, simd.splat(0)), ranks, top)
    }
}

/// A byte with the low `bits` bits set.
#[inline(always)]
fn ones(bits: u32) -> u8 {
    ((1u16 << bits) - 1).to_le_bytes()[0]
}

/// Exponents by rank, ready for [`merge`].
#[derive(Clone, Debug)]
pub struct Exponents {
    /// The exponents, if they are bytes; else the bits that come to an element's byte that has the
    /// mantissa's top bits.
    low: [u8; 256],
    /// The bits that come to the byte above, if exponents are more than bytes.
    high: [u8; 256],
    used: usize,
}

impl Exponents {
    /// Of the ranks from 0 on; those behind stand for exponent 0.
    ///
    /// # Panics
    /// If there are more than 256.
    pub fn new(float: Float, exponents: &[u16]) -> Self {
        let (_, p) = float.top();
        let (mut low, mut high) = ([0; 256], [0; 256]);
        for (i, &e) in exponents.iter().enumerate() {
            let placed = if float.exponent_bits > 8 { u32::from(e) << p } else { u32::from(e) };
            [low[i], high[i], ..] = placed.to_le_bytes();
        }
        Self { low, high, used: exponents.len() }
    }
}

/// Residuals as they are packed.
#[derive(Clone, Copy, Debug)]
pub struct Residuals<'a> {
    /// Their strips, [`packed_len`](crate::strip::packed_len) bytes.
    pub packed: &'a [u8],
    /// Bits per residual.
    pub width: u32,
    /// Low bits that were left out.
    pub dropped: u32,
}

kernel! {
    /// Puts elements together again, as many as `out` has: `exponents.of[rank]` and the residual.
    /// `ranks` has whole groups.
    ///
    /// # Panics
    /// If `ranks` or `residuals` is too short.
    pub fn merge(
        float: Float,
        ranks: &[u8],
        residuals: Residuals<'_>,
        exponents: &Exponents,
        out: &mut [u8],
    ) = merge_at
}

#[inline(always)]
fn merge_at<S: Simd>(
    simd: S,
    float: Float,
    ranks: &[u8],
    residuals: Residuals<'_>,
    exponents: &Exponents,
    out: &mut [u8],
) {
    let r = residuals;
    // What is written as a constant is compiled for that format.
    match float {
        Float::BF16 => merge_bytes::<S, 2>(simd, Float::BF16, ranks, r, exponents, out),
        Float::F16 => merge_bytes::<S, 2>(simd, Float::F16, ranks, r, exponents, out),
        Float::F32 => merge_bytes::<S, 4>(simd, Float::F32, ranks, r, exponents, out),
        Float::E4M3 => merge_bytes::<S, 1>(simd, Float::E4M3, ranks, r, exponents, out),
        Float { bytes: 1, .. } => merge_bytes::<S, 1>(simd, float, ranks, r, exponents, out),
        Float { bytes: 2, .. } => merge_bytes::<S, 2>(simd, float, ranks, r, exponents, out),
        Float { bytes: 4, .. } => merge_bytes::<S, 4>(simd, float, ranks, r, exponents, out),
        _ => merge_bytes::<S, 8>(simd, float, ranks, r, exponents, out),
    }
}

#[inline(always)]
fn merge_bytes<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    ranks: &[u8],
    residuals: Residuals<'_>,
    exponents: &Exponents,
    out: &mut [u8],
) {
    let Residuals { packed, width, dropped } = residuals;
    let full = float.mantissa_bits() + 1;
    if (width, dropped) == (full, 0) {
        // Again, so that all of it is constants.
        let residuals = Residuals { packed, width: full, dropped: 0 };
        merge_groups::<S, N>(simd, float, ranks, residuals, exponents, out);
    } else {
        merge_groups::<S, N>(simd, float, ranks, residuals, exponents, out);
    }
}

#[inline(always)]
fn merge_groups<S: Simd, const N: usize>(
    simd: S,
    float: Float,
    ranks: &[u8],
    residuals: Residuals<'_>,
    exponents: &Exponents,
    out: &mut [u8],
) {
    let strips = Strips::of(out.len() / N, residuals.width);
    let table = ExponentTable::new(simd, float, exponents);
    let (ranks, _) = ranks.as_chunks::<GROUP>();
    let groups = out.len() / (N * GROUP);
    for (i, ranks) in ranks[..groups].iter().enumerate() {
        let elements = merge_group::<S, N>(simd, &table, ranks, residuals, strips, i);
        for (k, &element) in elements.iter().enumerate() {
            simd.store(element, array_mut(out, (i * N + k) * GROUP));
        }
    }
    let rest = &mut out[groups * N * GROUP..];
    if !rest.is_empty() {
        let elements = merge_group::<S, N>(simd, &table, &ranks[groups], residuals, strips, groups);
        let mut group = [[0; GROUP]; N];
        for (to, from) in group.iter_mut().zip(elements) {
            simd.store(from, to);
        }
        rest.copy_from_slice(&group.as_flattened()[..rest.len()]);
    }
}

/// The elements of group `i`.
#[inline(always)]
fn merge_group<S: Simd, const N: usize>(
    simd: S,
    table: &ExponentTable<S>,
    ranks: &[u8; GROUP],
    residuals: Residuals<'_>,
    strips: Strips,
    i: usize,
) -> [S::Bytes; N] {
    let (q, _) = table.float.top();
    let (skipped, shift) = ((residuals.dropped / 8) as usize, residuals.dropped % 8);
    // The residuals' bytes without what was dropped, and a zero before them.
    let (mut stored, zero) = ([simd.splat(0); N], simd.splat(0));
    for (k, byte) in stored.iter_mut().enumerate() {
        if k < strips.whole() {
            *byte = strips.byte(simd, residuals.packed, k, i);
        } else if k == strips.whole() {
            *byte = strips.rest(simd, residuals.packed, i);
        }
    }
    let mut b = [zero; N];
    for (k, byte) in b.iter_mut().enumerate() {
        if k > q || k < skipped {
            continue;
        }
        *byte = stored[k - skipped];
        if shift > 0 {
            let below = if k > skipped { stored[k - skipped - 1] } else { zero };
            let low = simd.splat(ones(shift));
            *byte = simd.select(low, simd.shr(below, 8 - shift), simd.shl(*byte, shift));
        }
    }
    table.merge(simd, &mut b, simd.load(ranks));
    if table.float.big_endian {
        b.reverse();
    }
    interleave::<S, N>(simd, b)
}

/// How exponents are looked up.
struct ExponentTable<S: Simd> {
    float: Float,
    low: S::Table,
    high: S::Table,
}

impl<S: Simd> ExponentTable<S> {
    #[inline(always)]
    fn new(simd: S, float: Float, exponents: &Exponents) -> Self {
        let table = |bytes| simd.table(bytes, exponents.used);
        Self { float, low: table(&exponents.low), high: table(&exponents.high) }
    }

    /// Completes a group: `b` has the residuals and becomes the elements.
    #[inline(always)]
    fn merge<const N: usize>(&self, simd: S, b: &mut [S::Bytes; N], ranks: S::Bytes) {
        let (bits, (q, p)) = (self.float.exponent_bits, self.float.top());
        let (sign_bit, low_bits) = (simd.splat(0x80), simd.splat(ones(p)));
        let sign = simd.shl(b[q], 7 - p);
        let exponents = simd.lookup(&self.low, ranks);
        if p + bits == 7 {
            let high = simd.select(sign_bit, sign, simd.shl(exponents, p));
            b[q] = simd.select(low_bits, b[q], high);
        } else {
            let above = (q + 1).min(N - 1);
            let (low, high) = match bits {
                0..=8 => (simd.shl(exponents, p), simd.shr(exponents, 8 - p)),
                _ => (exponents, simd.lookup(&self.high, ranks)),
            };
            b[above] = simd.select(sign_bit, sign, high);
            b[q] = simd.select(low_bits, b[q], low);
        }
    }
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
        Ok(Float { bytes, exponent_bits, big_endian: u.arbitrary()? })
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

            let zeros = (0..count).filter(|&i| float.exponent(&data, i) == 0).count();
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

    #[test]
    fn a_large_block_is_counted_by_a_quarter_of_its_elements() {
        let float = Float { bytes: 2, exponent_bits: 8, big_endian: false };
        let data = |count: usize| -> Vec<u8> {
            (0..count).flat_map(|i| (0x3F00 + (i % 2 * 0x80) as u16).to_le_bytes()).collect()
        };
        for (count, counted, each) in [(LARGE - 1, LARGE - 1, 1), (LARGE, LARGE / 4, 4)] {
            let mut counts = [0; EXPONENTS];
            assert_eq!(count_exponents(float, &data(count), &mut counts), each);
            assert_eq!(counts.iter().sum::<u32>() as usize, counted);
            assert_eq!(counts[126] as usize, counted.div_ceil(2));
        }
    }
}
