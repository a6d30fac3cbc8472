//! Groups in one register of AVX-512, with VBMI for bytes across lanes and VBMI2 to expand and
//! compress them.

use super::intrinsics;
use crate::level::Avx512;
use crate::rans::{SLOT_BITS, Shares, Slots};
use crate::simd::{GROUP, Simd};
use crate::strip::{array, array_mut};
use std::arch::x86_64::*;

/// Bits of a slot, as shifts and masks take them.
const BITS: i32 = SLOT_BITS.cast_signed();

/// Bytes of a group in order of a permutation: which byte of two registers comes where.
const fn order<const K: usize>(zip: bool, half: usize) -> [u8; GROUP] {
    let mut order = [0; GROUP];
    let mut i = 0;
    while i < GROUP {
        let (unit, byte) = (i / K + half * if zip { GROUP / K } else { 0 }, i % K);
        let from = if zip {
            // Units come from both in turn.
            unit / 2 * K + byte + (unit % 2) * GROUP
        } else {
            (2 * unit + half) * K + byte
        };
        #[allow(clippy::cast_possible_truncation, reason = "less than 128")]
        {
            order[i] = from as u8;
        }
        i += 1;
    }
    order
}

impl Avx512 {
    /// Two halves of a permutation of the bytes of `a` and `b`.
    #[inline(always)]
    fn permute(
        self,
        a: __m512i,
        b: __m512i,
        first: &[u8; GROUP],
        second: &[u8; GROUP],
    ) -> (__m512i, __m512i) {
        let (first, second) = (self.load(first), self.load(second));
        intrinsics! {
            (_mm512_permutex2var_epi8(a, first, b), _mm512_permutex2var_epi8(a, second, b))
        }
    }

    #[inline(always)]
    fn zip<const K: usize>(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        self.permute(a, b, const { &order::<K>(true, 0) }, const { &order::<K>(true, 1) })
    }

    #[inline(always)]
    fn unzip<const K: usize>(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        self.permute(a, b, const { &order::<K>(false, 0) }, const { &order::<K>(false, 1) })
    }
}

/// A register's bytes in memory.
#[repr(C, packed)]
struct Unaligned(__m512i);

/// 256 bytes in registers, of which some may not be in use.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    parts: [__m512i; 4],
    used: usize,
}

impl Simd for Avx512 {
    type Bytes = __m512i;
    type Mask = u64;
    type Table<'a> = Table;
    type Lanes = [__m512i; 4];

    #[inline(always)]
    fn load(self, bytes: &[u8; GROUP]) -> __m512i {
        intrinsics! { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store(self, v: __m512i, bytes: &mut [u8; GROUP]) {
        intrinsics! { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), v) }
    }
    #[inline(always)]
    fn splat(self, byte: u8) -> __m512i {
        intrinsics! { _mm512_set1_epi8(byte.cast_signed()) }
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics! { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics! { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics! { _mm512_xor_si512(a, b) }
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
    fn select(self, mask: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // mask ? a : b, as a truth table.
        intrinsics! { _mm512_ternarylogic_epi64::<0xCA>(mask, a, b) }
    }
    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics! { _mm512_add_epi8(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics! { _mm512_sub_epi8(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics! { _mm512_min_epu8(a, b) }
    }
    #[inline(always)]
    fn shl(self, v: __m512i, n: u32) -> __m512i {
        intrinsics! { _mm512_sll_epi16(v, _mm_cvtsi32_si128(n.cast_signed())) }
    }
    #[inline(always)]
    fn shr(self, v: __m512i, n: u32) -> __m512i {
        intrinsics! { _mm512_srl_epi16(v, _mm_cvtsi32_si128(n.cast_signed())) }
    }
    #[inline(always)]
    fn eq(self, a: __m512i, b: __m512i) -> u64 {
        intrinsics! { _mm512_cmpeq_epi8_mask(a, b) }
    }
    #[inline(always)]
    fn bits(self, mask: u64) -> u64 {
        mask
    }
    #[inline(always)]
    fn keep(self, v: __m512i, mask: u64) -> __m512i {
        intrinsics! { _mm512_maskz_mov_epi8(mask, v) }
    }
    #[inline(always)]
    fn spread1(self, bits: u64) -> __m512i {
        intrinsics! { _mm512_maskz_set1_epi8(bits, 1) }
    }
    #[inline(always)]
    fn spread2(self, bytes: &[u8; 16]) -> __m512i {
        intrinsics! {
            let all = _mm512_broadcast_i32x4(_mm_loadu_si128(bytes.as_ptr().cast()));
            let shifts = _mm512_set_epi64(6, 6, 4, 4, 2, 2, 0, 0);
            _mm512_and_si512(_mm512_srlv_epi64(all, shifts), _mm512_set1_epi8(3))
        }
    }
    #[inline(always)]
    fn spread4(self, bytes: &[u8; 32]) -> __m512i {
        intrinsics! {
            let all = _mm512_broadcast_i64x4(_mm256_loadu_si256(bytes.as_ptr().cast()));
            let shifts = _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0);
            _mm512_and_si512(_mm512_srlv_epi64(all, shifts), _mm512_set1_epi8(15))
        }
    }
    #[inline(always)]
    fn gather1(self, v: __m512i) -> u64 {
        intrinsics! { _mm512_test_epi8_mask(v, _mm512_set1_epi8(1)) }
    }
    #[inline(always)]
    fn gather2(self, v: __m512i, bytes: &mut [u8; 16]) {
        intrinsics! {
            let placed = _mm512_sllv_epi64(v, _mm512_set_epi64(6, 6, 4, 4, 2, 2, 0, 0));
            let halves = _mm256_or_si256(
                _mm512_castsi512_si256(placed),
                _mm512_extracti64x4_epi64::<1>(placed),
            );
            let all = _mm_or_si128(
                _mm256_castsi256_si128(halves),
                _mm256_extracti128_si256::<1>(halves),
            );
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), all);
        }
    }
    #[inline(always)]
    fn gather4(self, v: __m512i, bytes: &mut [u8; 32]) {
        intrinsics! {
            let high = _mm256_slli_epi64::<4>(_mm512_extracti64x4_epi64::<1>(v));
            let all = _mm256_or_si256(_mm512_castsi512_si256(v), high);
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), all);
        }
    }
    #[inline(always)]
    fn expand(self, v: __m512i, mask: u64, next: &[u8; GROUP], out: &mut [u8; GROUP]) -> usize {
        // The other form of the instruction, which loads, is slow on some CPUs: a volatile load
        // can't become part of it.
        let next = intrinsics! { std::ptr::read_volatile(next.as_ptr().cast::<Unaligned>()).0 };
        self.store(intrinsics! { _mm512_mask_expand_epi8(v, mask, next) }, out);
        mask.count_ones() as usize
    }
    #[inline(always)]
    fn compress(self, v: __m512i, mask: u64, out: &mut [u8; GROUP]) -> usize {
        // Through a register: compressing to memory is slow on some CPUs.
        let moved = intrinsics! { _mm512_maskz_compress_epi8(mask, v) };
        self.store(moved, out);
        mask.count_ones() as usize
    }
    #[inline(always)]
    fn table(self, bytes: &[u8; 256], used: usize) -> Table {
        let (parts, _) = bytes.as_chunks::<GROUP>();
        let [a, b, c, d] = [&parts[0], &parts[1], &parts[2], &parts[3]];
        Table { parts: [self.load(a), self.load(b), self.load(c), self.load(d)], used }
    }
    #[inline(always)]
    fn lookup(self, table: Table, v: __m512i) -> __m512i {
        let [a, b, c, d] = table.parts;
        intrinsics! {
            if table.used <= 64 {
                let inside = _mm512_cmplt_epu8_mask(v, _mm512_set1_epi8(64));
                return _mm512_maskz_permutexvar_epi8(inside, v, a);
            }
            let high = _mm512_movepi8_mask(v);
            if table.used <= 128 {
                return _mm512_maskz_permutex2var_epi8(!high, a, v, b);
            }
            let low = _mm512_permutex2var_epi8(a, v, b);
            _mm512_mask_blend_epi8(high, low, _mm512_permutex2var_epi8(c, v, d))
        }
    }
    #[inline(always)]
    fn lookup16(self, table: &[u8; 16], v: __m512i) -> __m512i {
        intrinsics! {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, v)
        }
    }
    #[inline(always)]
    fn load_lanes(self, states: &[u32; GROUP]) -> [__m512i; 4] {
        let mut lanes = [intrinsics! { _mm512_setzero_si512() }; 4];
        for (lanes, part) in lanes.iter_mut().zip(states.as_chunks::<16>().0) {
            *lanes = intrinsics! { _mm512_loadu_si512(part.as_ptr().cast()) };
        }
        lanes
    }
    #[inline(always)]
    fn store_lanes(self, lanes: [__m512i; 4], states: &mut [u32; GROUP]) {
        for (lanes, part) in lanes.into_iter().zip(states.as_chunks_mut::<16>().0) {
            intrinsics! { _mm512_storeu_si512(part.as_mut_ptr().cast(), lanes) }
        }
    }
    #[inline(always)]
    fn pop(
        self,
        lanes: &mut [__m512i; 4],
        slots: &Slots,
        contexts: &[u8; GROUP],
        words: &[u8; 2 * GROUP],
    ) -> (__m512i, usize) {
        let (mut symbols, mut used) = ([intrinsics! { _mm_setzero_si128() }; 4], 0);
        for (i, context) in contexts.as_chunks::<16>().0.iter().enumerate() {
            intrinsics! {
                let context = _mm512_cvtepu8_epi32(_mm_loadu_si128(context.as_ptr().cast()));
                let low = _mm512_and_si512(lanes[i], _mm512_set1_epi32((1 << BITS) - 1));
                // low | (context & mask) << BITS; a table that there is: never out of bounds.
                let table = _mm512_slli_epi32::<{ BITS as u32 }>(context);
                let mask = _mm512_set1_epi32(i32::from(slots.mask()) << BITS);
                let at = _mm512_ternarylogic_epi32::<0xF8>(low, table, mask);
                let slot = _mm512_i32gather_epi32::<4>(at, slots.entries.as_ptr().cast());
                symbols[i] = _mm512_cvtepi32_epi8(slot);
                let share = _mm512_and_si512(_mm512_srli_epi32::<8>(slot), _mm512_set1_epi32(0xFFF));
                let x = _mm512_mullo_epi32(_mm512_srli_epi32::<{ BITS as u32 }>(lanes[i]), share);
                let x = _mm512_add_epi32(x, _mm512_srli_epi32::<20>(slot));
                let hungry = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(1 << 16));
                let next: &[u8; 32] = array(words, 2 * used);
                let next = _mm512_cvtepu16_epi32(_mm256_loadu_si256(next.as_ptr().cast()));
                let next = _mm512_maskz_expand_epi32(hungry, next);
                lanes[i] = _mm512_mask_or_epi32(x, hungry, _mm512_slli_epi32::<16>(x), next);
                used += hungry.count_ones() as usize;
            }
        }
        intrinsics! {
            let low = _mm256_set_m128i(symbols[1], symbols[0]);
            let high = _mm256_set_m128i(symbols[3], symbols[2]);
            (_mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high), used)
        }
    }
    #[inline(always)]
    fn push(
        self,
        lanes: &mut [__m512i; 4],
        shares: &Shares,
        contexts: &[u8; GROUP],
        symbols: &[u8; GROUP],
        words: &mut [u8; 2 * GROUP],
    ) -> usize {
        let mut left = GROUP;
        let (contexts, symbols) = (contexts.as_chunks::<16>().0, symbols.as_chunks::<16>().0);
        for i in (0..4).rev() {
            intrinsics! {
                let context = _mm512_cvtepu8_epi32(_mm_loadu_si128(contexts[i].as_ptr().cast()));
                let symbol = _mm512_cvtepu8_epi32(_mm_loadu_si128(symbols[i].as_ptr().cast()));
                let table = _mm512_slli_epi32::<8>(context);
                let mask = _mm512_set1_epi32(i32::from(shares.mask()) << 8);
                let at = _mm512_ternarylogic_epi32::<0xF8>(symbol, table, mask);
                let entries = shares.entries.as_ptr().cast::<i32>();
                let inverse = _mm512_i32gather_epi32::<8>(at, entries);
                let place = _mm512_i32gather_epi32::<8>(at, entries.add(1));
                let width = _mm512_and_si512(place, _mm512_set1_epi32(0xFFFF));
                let x = lanes[i];
                let full = _mm512_cmpge_epu32_mask(_mm512_srli_epi32::<{ 32 - BITS as u32 }>(x), width);
                let n = full.count_ones();
                // To the end of the 16.
                #[allow(clippy::cast_possible_truncation, reason = "the upper half")]
                let last = (0xFFFF_0000u32 >> n) as u16;
                let out = _mm512_maskz_expand_epi32(last, _mm512_maskz_compress_epi32(full, x));
                let to: &mut [u8; 32] = array_mut(words, 2 * left - 32);
                _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(out));
                left -= n as usize;
                let x = _mm512_mask_srli_epi32::<16>(x, full, x);
                let even = _mm512_srli_epi64::<32>(_mm512_mul_epu32(x, inverse));
                let odd = _mm512_mul_epu32(
                    _mm512_srli_epi64::<32>(x),
                    _mm512_srli_epi64::<32>(inverse),
                );
                let quotient = _mm512_mask_blend_epi32(0xAAAA, even, odd);
                let rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, width));
                let more = _mm512_cmpge_epu32_mask(rest, width);
                let one = _mm512_set1_epi32(1);
                let quotient = _mm512_mask_add_epi32(quotient, more, quotient, one);
                let rest = _mm512_mask_sub_epi32(rest, more, rest, width);
                let start = _mm512_add_epi32(_mm512_srli_epi32::<16>(place), rest);
                lanes[i] = _mm512_add_epi32(_mm512_slli_epi32::<{ BITS as u32 }>(quotient), start);
            }
        }
        GROUP - left
    }
    #[inline(always)]
    fn zip8(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        self.zip::<1>(a, b)
    }
    #[inline(always)]
    fn zip16(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        self.zip::<2>(a, b)
    }
    #[inline(always)]
    fn zip32(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        self.zip::<4>(a, b)
    }
    #[inline(always)]
    fn unzip8(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        self.unzip::<1>(a, b)
    }
    #[inline(always)]
    fn unzip16(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        self.unzip::<2>(a, b)
    }
    #[inline(always)]
    fn unzip32(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        self.unzip::<4>(a, b)
    }
}
