//! Groups in two registers of AVX2. What it lacks, bytes that expand, compress or look up across
//! lanes, is done by shuffles.

use super::{ONES_BEFORE, PLACES, intrinsics};
use crate::level::Avx2;
use crate::rans::{SLOT_BITS, Shares, Slots};
use crate::simd::{GROUP, Simd};
use crate::strip::{array, array_mut};
use std::arch::x86_64::*;

/// Bits of a slot, as shifts and masks take them.
const BITS: i32 = SLOT_BITS.cast_signed();

type Bytes = [__m256i; 2];

/// An intrinsic of two registers for each half of two groups.
macro_rules! halves {
    ($intrinsic:ident, $a:expr, $b:expr) => {
        intrinsics! { [$intrinsic($a[0], $b[0]), $intrinsic($a[1], $b[1])] }
    };
}

/// The bytes, pairs or fours of two groups in turn, by two intrinsics that do so in each lane.
macro_rules! zip {
    ($self:expr, $low:ident, $high:ident, $a:expr, $b:expr) => {{
        let (low, high) = (halves!($low, $a, $b), halves!($high, $a, $b));
        ($self.join(low[0], high[0]), $self.join(low[1], high[1]))
    }};
}

/// 256 bytes, sixteen by sixteen, from the first sixteen that are in use to the last.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    parts: &'a [[u8; 16]],
    /// The place of the first byte of `parts`.
    start: u8,
}

impl Avx2 {
    /// 0xFF where the mask has ones.
    #[inline(always)]
    fn mask(self, mask: u64) -> Bytes {
        let [a, b, c, d, e, f, g, h] = mask.to_le_bytes();
        [self.half_mask([a, b, c, d]), self.half_mask([e, f, g, h])]
    }

    #[inline(always)]
    fn half_mask(self, mask: [u8; 4]) -> __m256i {
        intrinsics! {
            let all = _mm256_set1_epi32(i32::from_le_bytes(mask));
            let byte = _mm256_setr_epi64x(
                0,
                0x0101_0101_0101_0101,
                0x0202_0202_0202_0202,
                0x0303_0303_0303_0303,
            );
            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64.cast_signed());
            let bits = _mm256_and_si256(_mm256_shuffle_epi8(all, byte), bit);
            _mm256_cmpeq_epi8(bits, bit)
        }
    }

    /// `v`, where the mask is set with the first bytes of `low` in the low half, of `high` in the
    /// high half.
    #[inline(always)]
    fn expand_halves(self, v: __m256i, mask: __m256i, low: &[u8; 16], high: &[u8; 16]) -> __m256i {
        intrinsics! {
            // Minus how many are set up to each byte: in its eight, then in its half.
            let eights = _mm256_add_epi8(mask, _mm256_slli_epi64::<8>(mask));
            let eights = _mm256_add_epi8(eights, _mm256_slli_epi64::<16>(eights));
            let eights = _mm256_add_epi8(eights, _mm256_slli_epi64::<32>(eights));
            let last = _mm256_setr_epi64x(-1, 0x0707_0707_0707_0707, -1, 0x0707_0707_0707_0707);
            let upto = _mm256_add_epi8(eights, _mm256_shuffle_epi8(eights, last));
            // Of those that are set, the first one takes byte 0.
            let from = _mm256_xor_si256(upto, _mm256_set1_epi8(-1));
            let next = _mm256_inserti128_si256::<1>(
                _mm256_castsi128_si256(_mm_loadu_si128(low.as_ptr().cast())),
                _mm_loadu_si128(high.as_ptr().cast()),
            );
            _mm256_blendv_epi8(v, _mm256_shuffle_epi8(next, from), mask)
        }
    }

    /// How many of the first 16, 32, 48 and 64 are set.
    #[inline(always)]
    fn counts(self, mask: Bytes) -> [usize; 4] {
        let [low, high] =
            intrinsics! { [_mm256_movemask_epi8(mask[0]), _mm256_movemask_epi8(mask[1])] };
        let [a, b, c, d] =
            [low & 0xFFFF, low, high & 0xFFFF, high].map(|bits| bits.count_ones() as usize);
        [a, b, b + c, b + d]
    }

    /// Lower and higher halves of the lanes of `low` and `high`, in order.
    #[inline(always)]
    fn join(self, low: __m256i, high: __m256i) -> Bytes {
        intrinsics! {
            [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)]
        }
    }

    /// Even and odd units, which a shuffle by `order` brings to the halves of each lane.
    #[inline(always)]
    fn unzip(self, a: Bytes, b: Bytes, order: &[u8; 16]) -> (Bytes, Bytes) {
        let (a, b) = (self.sort(a, order), self.sort(b, order));
        ([a[0], b[0]], [a[1], b[1]])
    }

    #[inline(always)]
    fn sort(self, v: Bytes, order: &[u8; 16]) -> Bytes {
        intrinsics! {
            let order = _mm256_broadcastsi128_si256(_mm_loadu_si128(order.as_ptr().cast()));
            let (low, high) = (_mm256_shuffle_epi8(v[0], order), _mm256_shuffle_epi8(v[1], order));
            self.join(
                _mm256_permute4x64_epi64::<0b11_01_10_00>(low),
                _mm256_permute4x64_epi64::<0b11_01_10_00>(high),
            )
        }
    }
}

impl Avx2 {
    /// Where the shares of symbols are.
    #[inline(always)]
    fn places_of(
        self,
        shares: &Shares,
        contexts: &[u8; GROUP],
        symbols: &[u8; GROUP],
    ) -> [u16; GROUP] {
        let mut places = [0; GROUP];
        let parts = contexts.as_chunks::<16>().0.iter().zip(symbols.as_chunks::<16>().0);
        for (to, (context, symbol)) in places.as_chunks_mut::<16>().0.iter_mut().zip(parts) {
            let (low, high) = to.split_at_mut(8);
            intrinsics! {
                // A table that there is: never out of bounds.
                let mask = _mm_set1_epi8(shares.mask().cast_signed());
                let context = _mm_and_si128(_mm_loadu_si128(context.as_ptr().cast()), mask);
                let symbol = _mm_loadu_si128(symbol.as_ptr().cast());
                _mm_storeu_si128(low.as_mut_ptr().cast(), _mm_unpacklo_epi8(symbol, context));
                _mm_storeu_si128(high.as_mut_ptr().cast(), _mm_unpackhi_epi8(symbol, context));
            }
        }
        places
    }

    /// The inverses and the places of eight shares: an entry of 64 bits has both.
    #[inline(always)]
    fn shares_at(self, shares: &Shares, at: &[u16; 8]) -> (__m256i, __m256i) {
        let entries = shares.entries.as_ptr();
        intrinsics! {
            let [e0, e1, e2, e3, e4, e5, e6, e7] = at.map(|at| entries.add(at.into()).cast::<f64>());
            let a = _mm256_set_m128d(_mm_loadh_pd(_mm_load_sd(e4), e5), _mm_loadh_pd(_mm_load_sd(e0), e1));
            let b = _mm256_set_m128d(_mm_loadh_pd(_mm_load_sd(e6), e7), _mm_loadh_pd(_mm_load_sd(e2), e3));
            let (a, b) = (_mm256_castpd_ps(a), _mm256_castpd_ps(b));
            let inverses = _mm256_shuffle_ps::<0b10_00_10_00>(a, b);
            let places = _mm256_shuffle_ps::<0b11_01_11_01>(a, b);
            (_mm256_castps_si256(inverses), _mm256_castps_si256(places))
        }
    }

    /// 32 words of less than 256 from the `i`th register on, as bytes.
    #[inline(always)]
    fn narrow(self, v: &[__m256i; 8], i: usize) -> __m256i {
        intrinsics! {
            let (low, high) = (_mm256_packus_epi32(v[i], v[i + 1]), _mm256_packus_epi32(v[i + 2], v[i + 3]));
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order)
        }
    }
}

/// `n` of the mask's ones come before byte `8 i`.
#[inline(always)]
fn ones_before(mask: u64, i: usize) -> usize {
    (mask & ((1u64 << (8 * i)) - 1)).count_ones() as usize
}

impl Simd for Avx2 {
    type Bytes = Bytes;
    type Mask = Bytes;
    type Table<'a> = Table<'a>;
    type Lanes = [__m256i; 8];

    #[inline(always)]
    fn load(self, bytes: &[u8; GROUP]) -> Bytes {
        let (low, high) = bytes.split_at(32);
        intrinsics! {
            [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())]
        }
    }
    #[inline(always)]
    fn store(self, v: Bytes, bytes: &mut [u8; GROUP]) {
        let (low, high) = bytes.split_at_mut(32);
        intrinsics! {
            _mm256_storeu_si256(low.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(high.as_mut_ptr().cast(), v[1]);
        }
    }
    #[inline(always)]
    fn splat(self, byte: u8) -> Bytes {
        [intrinsics! { _mm256_set1_epi8(byte.cast_signed()) }; 2]
    }
    #[inline(always)]
    fn and(self, a: Bytes, b: Bytes) -> Bytes {
        halves!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn or(self, a: Bytes, b: Bytes) -> Bytes {
        halves!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn xor(self, a: Bytes, b: Bytes) -> Bytes {
        halves!(_mm256_xor_si256, a, b)
    }
    #[inline(always)]
    fn deposit(self, bits: u64, mask: u64) -> u64 {
        intrinsics! { _pdep_u64(bits, mask) }
    }
    #[inline(always)]
    fn extract(self, bits: u64, mask: u64) -> u64 {
        intrinsics! { _pext_u64(bits, mask) }
    }
    #[inline(always)]
    fn select(self, mask: Bytes, a: Bytes, b: Bytes) -> Bytes {
        let kept = halves!(_mm256_andnot_si256, mask, b);
        self.or(self.and(mask, a), kept)
    }
    #[inline(always)]
    fn add(self, a: Bytes, b: Bytes) -> Bytes {
        halves!(_mm256_add_epi8, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Bytes, b: Bytes) -> Bytes {
        halves!(_mm256_sub_epi8, a, b)
    }
    #[inline(always)]
    fn min(self, a: Bytes, b: Bytes) -> Bytes {
        halves!(_mm256_min_epu8, a, b)
    }
    #[inline(always)]
    fn shl(self, v: Bytes, n: u32) -> Bytes {
        intrinsics! {
            let n = _mm_cvtsi32_si128(n.cast_signed());
            [_mm256_sll_epi16(v[0], n), _mm256_sll_epi16(v[1], n)]
        }
    }
    #[inline(always)]
    fn shr(self, v: Bytes, n: u32) -> Bytes {
        intrinsics! {
            let n = _mm_cvtsi32_si128(n.cast_signed());
            [_mm256_srl_epi16(v[0], n), _mm256_srl_epi16(v[1], n)]
        }
    }
    #[inline(always)]
    fn eq(self, a: Bytes, b: Bytes) -> Bytes {
        halves!(_mm256_cmpeq_epi8, a, b)
    }
    #[inline(always)]
    fn bits(self, mask: Bytes) -> u64 {
        let [low, high] =
            intrinsics! { [_mm256_movemask_epi8(mask[0]), _mm256_movemask_epi8(mask[1])] };
        u64::from(high.cast_unsigned()) << 32 | u64::from(low.cast_unsigned())
    }
    #[inline(always)]
    fn keep(self, v: Bytes, mask: u64) -> Bytes {
        self.and(v, self.mask(mask))
    }
    #[inline(always)]
    fn spread1(self, bits: u64) -> Bytes {
        self.and(self.mask(bits), self.splat(1))
    }
    #[inline(always)]
    fn spread2(self, bytes: &[u8; 16]) -> Bytes {
        let codes = intrinsics! {
            let all = _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast()));
            [
                _mm256_srlv_epi64(all, _mm256_setr_epi64x(0, 0, 2, 2)),
                _mm256_srlv_epi64(all, _mm256_setr_epi64x(4, 4, 6, 6)),
            ]
        };
        self.and(codes, self.splat(3))
    }
    #[inline(always)]
    fn spread4(self, bytes: &[u8; 32]) -> Bytes {
        let codes = intrinsics! {
            let all = _mm256_loadu_si256(bytes.as_ptr().cast());
            [all, _mm256_srli_epi64::<4>(all)]
        };
        self.and(codes, self.splat(15))
    }
    #[inline(always)]
    fn gather1(self, v: Bytes) -> u64 {
        self.bits(self.eq(self.and(v, self.splat(1)), self.splat(1)))
    }
    #[inline(always)]
    fn gather2(self, v: Bytes, bytes: &mut [u8; 16]) {
        intrinsics! {
            let low = _mm256_sllv_epi64(v[0], _mm256_setr_epi64x(0, 0, 2, 2));
            let high = _mm256_sllv_epi64(v[1], _mm256_setr_epi64x(4, 4, 6, 6));
            let both = _mm256_or_si256(low, high);
            let all = _mm_or_si128(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), all);
        }
    }
    #[inline(always)]
    fn gather4(self, v: Bytes, bytes: &mut [u8; 32]) {
        intrinsics! {
            let all = _mm256_or_si256(v[0], _mm256_slli_epi64::<4>(v[1]));
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), all);
        }
    }
    #[inline(always)]
    fn expand(self, v: Bytes, mask: Bytes, next: &[u8; GROUP], out: &mut [u8; GROUP]) -> usize {
        let [quarter, half, three, all] = self.counts(mask);
        let low = self.expand_halves(v[0], mask[0], array(next, 0), array(next, quarter));
        let high = self.expand_halves(v[1], mask[1], array(next, half), array(next, three));
        self.store([low, high], out);
        all
    }
    #[inline(always)]
    fn compress(self, v: Bytes, mask: Bytes, out: &mut [u8; GROUP]) -> usize {
        let mask = self.bits(mask);
        let mut bytes = [0; GROUP];
        self.store(v, &mut bytes);
        for (i, (eight, octet)) in
            bytes.as_chunks::<8>().0.iter().zip(mask.to_le_bytes()).enumerate()
        {
            let to = &mut out[ones_before(mask, i)..][..8];
            let places = &PLACES[usize::from(octet)];
            intrinsics! {
                let places = _mm_loadl_epi64(places.as_ptr().cast());
                let moved = _mm_shuffle_epi8(_mm_loadl_epi64(eight.as_ptr().cast()), places);
                _mm_storel_epi64(to.as_mut_ptr().cast(), moved);
            }
        }
        mask.count_ones() as usize
    }
    #[inline(always)]
    fn table(self, bytes: &[u8; 256], used: usize) -> Table<'_> {
        let parts = &bytes.as_chunks::<16>().0[..used.min(256).div_ceil(16)];
        let first = parts.iter().position(|part| *part != [0; 16]).unwrap_or(parts.len());
        Table { parts: &parts[first..], start: u8::try_from(16 * first).unwrap_or(0) }
    }
    #[inline(always)]
    fn lookup(self, table: Table<'_>, v: Bytes) -> Bytes {
        let mut found = self.splat(0);
        let mut from = self.sub(v, self.splat(table.start));
        for part in table.parts {
            let part = intrinsics! {
                _mm256_broadcastsi128_si256(_mm_loadu_si128(part.as_ptr().cast()))
            };
            for (found, from) in found.iter_mut().zip(&mut from) {
                intrinsics! {
                    // Places from 16 on get their top bit set, which makes the shuffle give zero.
                    let place = _mm256_adds_epu8(*from, _mm256_set1_epi8(0x70));
                    *found = _mm256_or_si256(*found, _mm256_shuffle_epi8(part, place));
                    *from = _mm256_sub_epi8(*from, _mm256_set1_epi8(16));
                }
            }
        }
        found
    }
    #[inline(always)]
    fn lookup16(self, table: &[u8; 16], v: Bytes) -> Bytes {
        intrinsics! {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            [_mm256_shuffle_epi8(table, v[0]), _mm256_shuffle_epi8(table, v[1])]
        }
    }
    #[inline(always)]
    fn load_lanes(self, states: &[u32; GROUP]) -> [__m256i; 8] {
        let mut lanes = [intrinsics! { _mm256_setzero_si256() }; 8];
        for (lanes, part) in lanes.iter_mut().zip(states.as_chunks::<8>().0) {
            *lanes = intrinsics! { _mm256_loadu_si256(part.as_ptr().cast()) };
        }
        lanes
    }
    #[inline(always)]
    fn store_lanes(self, lanes: [__m256i; 8], states: &mut [u32; GROUP]) {
        for (lanes, part) in lanes.into_iter().zip(states.as_chunks_mut::<8>().0) {
            intrinsics! { _mm256_storeu_si256(part.as_mut_ptr().cast(), lanes) }
        }
    }
    #[inline(always)]
    fn pop(
        self,
        lanes: &mut [__m256i; 8],
        slots: &Slots,
        contexts: &[u8; GROUP],
        words: &[u8; 2 * GROUP],
    ) -> (Bytes, usize) {
        let (mut found, mut used) = (*lanes, 0);
        for (i, context) in contexts.as_chunks::<8>().0.iter().enumerate() {
            let x = lanes[i];
            intrinsics! {
                let context = _mm256_cvtepu8_epi32(_mm_loadl_epi64(context.as_ptr().cast()));
                // A table that there is: never out of bounds.
                let mask = _mm256_set1_epi32(i32::from(slots.mask()) << BITS);
                let table = _mm256_and_si256(_mm256_slli_epi32::<BITS>(context), mask);
                let at = _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi32((1 << BITS) - 1)), table);
                let slot = _mm256_i32gather_epi32::<4>(slots.entries.as_ptr().cast(), at);
                found[i] = _mm256_and_si256(slot, _mm256_set1_epi32(0xFF));
                let share = _mm256_and_si256(_mm256_srli_epi32::<8>(slot), _mm256_set1_epi32(0xFFF));
                let x = _mm256_mullo_epi32(_mm256_srli_epi32::<BITS>(x), share);
                let x = _mm256_add_epi32(x, _mm256_srli_epi32::<20>(slot));
                let hungry = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(x), _mm256_setzero_si256());
                let mask = _mm256_movemask_ps(_mm256_castsi256_ps(hungry)).cast_unsigned();
                let next: &[u8; 16] = array(words, 2 * used);
                let next = _mm256_cvtepu16_epi32(_mm_loadu_si128(next.as_ptr().cast()));
                let from = _mm_loadl_epi64(ONES_BEFORE[mask as usize & 0xFF].as_ptr().cast());
                let next = _mm256_permutevar8x32_epi32(next, _mm256_cvtepu8_epi32(from));
                let fed = _mm256_or_si256(_mm256_slli_epi32::<16>(x), next);
                lanes[i] = _mm256_blendv_epi8(x, fed, hungry);
                used += mask.count_ones() as usize;
            }
        }
        ([self.narrow(&found, 0), self.narrow(&found, 4)], used)
    }
    #[inline(always)]
    fn push(
        self,
        lanes: &mut [__m256i; 8],
        shares: &Shares,
        contexts: &[u8; GROUP],
        symbols: &[u8; GROUP],
        words: &mut [u8; 2 * GROUP],
    ) -> usize {
        let mut left = GROUP;
        let places = self.places_of(shares, contexts, symbols);
        for (i, at) in places.as_chunks::<8>().0.iter().enumerate().rev() {
            let (inverse, place) = self.shares_at(shares, at);
            intrinsics! {
                let width = _mm256_and_si256(place, _mm256_set1_epi32(0xFFFF));
                let x = lanes[i];
                let fits = _mm256_cmpgt_epi32(width, _mm256_srli_epi32::<{ 32 - BITS }>(x));
                let fits_mask = _mm256_movemask_ps(_mm256_castsi256_ps(fits)).cast_unsigned();
                let full = (!fits_mask & 0xFF) as usize;
                let n = full.count_ones() as usize;
                // The words' places, the last ones of the eight.
                let from = u64::from_le_bytes(PLACES[full]) << ((64 - 8 * n) & 63);
                let from = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(from.cast_signed()));
                let low = _mm256_and_si256(_mm256_permutevar8x32_epi32(x, from), _mm256_set1_epi32(0xFFFF));
                let low = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
                let to: &mut [u8; 16] = array_mut(words, 2 * left - 16);
                _mm_storeu_si128(to.as_mut_ptr().cast(), low);
                left -= n;
                let x = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(x), x, fits);
                let even = _mm256_srli_epi64::<32>(_mm256_mul_epu32(x, inverse));
                let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(x), _mm256_srli_epi64::<32>(inverse));
                let quotient = _mm256_blend_epi32::<0b1010_1010>(even, odd);
                let rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, width));
                let less = _mm256_cmpgt_epi32(width, rest);
                let more = _mm256_add_epi32(_mm256_set1_epi32(1), less);
                let quotient = _mm256_add_epi32(quotient, more);
                let rest = _mm256_sub_epi32(rest, _mm256_andnot_si256(less, width));
                let start = _mm256_add_epi32(_mm256_srli_epi32::<16>(place), rest);
                lanes[i] = _mm256_add_epi32(_mm256_slli_epi32::<BITS>(quotient), start);
            }
        }
        GROUP - left
    }
    #[inline(always)]
    fn zip8(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        zip!(self, _mm256_unpacklo_epi8, _mm256_unpackhi_epi8, a, b)
    }
    #[inline(always)]
    fn zip16(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        zip!(self, _mm256_unpacklo_epi16, _mm256_unpackhi_epi16, a, b)
    }
    #[inline(always)]
    fn zip32(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        zip!(self, _mm256_unpacklo_epi32, _mm256_unpackhi_epi32, a, b)
    }
    #[inline(always)]
    fn unzip8(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        self.unzip(a, b, &[0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15])
    }
    #[inline(always)]
    fn unzip16(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        self.unzip(a, b, &[0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15])
    }
    #[inline(always)]
    fn unzip32(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        self.unzip(a, b, &[0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15])
    }
}
