//! Ranks and residuals to elements.

use super::{Float, ones};
use crate::simd::{GROUP, Simd, interleave, kernel};
use crate::strip::{Strips, array_mut};

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
        Float::WIDE_BF16 => merge_bytes::<S, 2>(simd, Float::WIDE_BF16, ranks, r, exponents, out),
        Float::WIDE_F16 => merge_bytes::<S, 2>(simd, Float::WIDE_F16, ranks, r, exponents, out),
        Float::WIDE_F32 => merge_bytes::<S, 4>(simd, Float::WIDE_F32, ranks, r, exponents, out),
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
    table: &ExponentTable<'_, S>,
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
struct ExponentTable<'a, S: Simd> {
    float: Float,
    low: S::Table<'a>,
    high: S::Table<'a>,
}

impl<'a, S: Simd> ExponentTable<'a, S> {
    #[inline(always)]
    fn new(simd: S, float: Float, exponents: &'a Exponents) -> Self {
        let table = |bytes| simd.table(bytes, exponents.used);
        Self { float, low: table(&exponents.low), high: table(&exponents.high) }
    }

    /// Completes a group: `b` has the residuals and becomes the elements.
    #[inline(always)]
    fn merge<const N: usize>(&self, simd: S, b: &mut [S::Bytes; N], ranks: S::Bytes) {
        let (bits, (q, p)) = (self.float.exponent_bits, self.float.top());
        let (sign_bit, low_bits) = (simd.splat(0x80), simd.splat(ones(p)));
        let sign = simd.shl(b[q], 7 - p);
        let exponents = simd.lookup(self.low, ranks);
        if p + bits == 7 {
            let high = simd.select(sign_bit, sign, simd.shl(exponents, p));
            b[q] = simd.select(low_bits, b[q], high);
        } else {
            let above = (q + 1).min(N - 1);
            let (low, high) = match bits {
                0..=8 => (simd.shl(exponents, p), simd.shr(exponents, 8 - p)),
                _ => (exponents, simd.lookup(self.high, ranks)),
            };
            b[above] = simd.select(sign_bit, sign, high);
            b[q] = simd.select(low_bits, b[q], low);
        }
    }
}
