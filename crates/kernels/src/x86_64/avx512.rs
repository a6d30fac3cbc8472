//! Groups in one register of AVX-512, with VBMI for bytes across lanes and VBMI2 to expand and
//! compress them.

use super::intrinsics;
use crate::level::Avx512;
use crate::simd::{GROUP, Simd};
use std::arch::x86_64::*;

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
