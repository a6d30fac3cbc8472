//! XXH3 with seed 0 and the default secret, as its authors define it: of 64 bits, the hash of every
//! block, and of 128, that of what a block has for a base.
//!
//! Short inputs are left to the `xxhash-rust` crate. It chooses its instructions when it is built;
//! for long inputs they are chosen here, when the program runs.

#![allow(unsafe_code)]

use crate::level::{Level, level};
use crate::scalar::Scalar;
use crate::simd::kernel;

/// Inputs of up to this length have formulas of their own.
const SHORT: usize = 240;

const STRIPE: usize = 64;
const BLOCK: usize = STRIPE * (SECRET.len() - STRIPE) / 8;

const PRIME32_1: u64 = 0x9E37_79B1;
const PRIME32_2: u64 = 0x85EB_CA77;
const PRIME32_3: u64 = 0xC2B2_AE3D;
const PRIME64_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME64_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME64_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME64_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME64_5: u64 = 0x27D4_EB2F_1656_67C5;
const PRIME_MX1: u64 = 0x1656_6791_9E37_79F9;

const SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
];

/// A stripe as words, or the running sums, one for each of its words.
type Lanes = [u64; 8];

/// What the stripes of a block are mixed with, one after the other.
const STRIPE_KEYS: [Lanes; BLOCK / STRIPE] = {
    let mut keys = [[0; 8]; BLOCK / STRIPE];
    let mut n = 0;
    while n < keys.len() {
        keys[n] = secret_at(8 * n);
        n += 1;
    }
    keys
};
const LAST_STRIPE_KEY: Lanes = secret_at(SECRET.len() - STRIPE - 7);
const SCRAMBLE_KEY: Lanes = secret_at(SECRET.len() - STRIPE);
const MERGE_KEY: Lanes = secret_at(11);
const HIGH_MERGE_KEY: Lanes = secret_at(SECRET.len() - STRIPE - 11);

const fn secret_at(start: usize) -> Lanes {
    let mut words = [0; 8];
    let mut i = 0;
    while i < STRIPE {
        words[i / 8] |= (SECRET[start + i] as u64) << (i % 8 * 8);
        i += 1;
    }
    words
}

/// The XXH3-64 of `data`.
pub fn xxh3_64(data: &[u8]) -> u64 {
    xxh3_64_at(level(), data)
}

kernel! {
    /// [`xxh3_64`] with the instructions of a level.
    pub fn xxh3_64_at(data: &[u8]) -> u64 = hash
}

#[inline(always)]
fn hash<M: Mixer>(mixer: M, data: &[u8]) -> u64 {
    hash_rest(mixer, Running::default(), data)
}

/// The XXH3-128 of `data`.
pub fn xxh3_128(data: &[u8]) -> u128 {
    xxh3_128_at(level(), data)
}

kernel! {
    /// [`xxh3_128`] with the instructions of a level.
    pub fn xxh3_128_at(data: &[u8]) -> u128 = hash_128
}

#[inline(always)]
fn hash_128<M: Mixer>(mixer: M, data: &[u8]) -> u128 {
    hash_rest_128(mixer, Running::default(), data)
}

/// A hash of which the first part is computed while its bytes are in cache for something else.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    sums: Lanes,
    done: usize,
}

impl Default for Running {
    /// Of no bytes yet.
    fn default() -> Self {
        let sums = [
            PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1,
        ];
        Self { sums, done: 0 }
    }
}

impl Running {
    /// What is added must be a multiple of so many bytes.
    pub const UNIT: usize = BLOCK;

    /// Adds bytes; the data's last one must not be among them.
    ///
    /// # Panics
    /// If they are not a multiple of [`UNIT`](Self::UNIT).
    pub fn add(&mut self, level: Level, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks();
        assert!(rest.is_empty());
        self.sums = add_blocks_at(level, &self.sums, blocks);
        self.done += bytes.len();
    }

    /// The XXH3-64 of `data`, which starts with what was added.
    ///
    /// # Panics
    /// If more was added.
    pub fn xxh3_64(self, level: Level, data: &[u8]) -> u64 {
        hash_rest_at(level, self, data)
    }

    /// The XXH3-128 of `data`, which starts with what was added.
    ///
    /// # Panics
    /// If more was added.
    pub fn xxh3_128(self, level: Level, data: &[u8]) -> u128 {
        hash_rest_128_at(level, self, data)
    }
}

kernel! {
    /// The sums after some blocks more.
    pub fn add_blocks_at(sums: &Lanes, blocks: &[[u8; BLOCK]]) -> Lanes = add_blocks
}

#[inline(always)]
fn add_blocks<M: Mixer>(mixer: M, sums: &Lanes, blocks: &[[u8; BLOCK]]) -> Lanes {
    let mut sums = mixer.load(sums);
    for block in blocks {
        sums = mixer.scramble(add_stripes(mixer, sums, block));
    }
    mixer.store(sums)
}

kernel! {
    /// The XXH3-64 of `data`, some of which was added.
    pub fn hash_rest_at(running: Running, data: &[u8]) -> u64 = hash_rest
}

#[inline(always)]
fn hash_rest<M: Mixer>(mixer: M, running: Running, data: &[u8]) -> u64 {
    if data.len() <= SHORT {
        return xxhash_rust::xxh3::xxh3_64(data);
    }
    merge(&long(mixer, running, data), &MERGE_KEY, (data.len() as u64).wrapping_mul(PRIME64_1))
}

kernel! {
    /// The XXH3-128 of `data`, some of which was added.
    pub fn hash_rest_128_at(running: Running, data: &[u8]) -> u128 = hash_rest_128
}

#[inline(always)]
fn hash_rest_128<M: Mixer>(mixer: M, running: Running, data: &[u8]) -> u128 {
    if data.len() <= SHORT {
        return xxhash_rust::xxh3::xxh3_128(data);
    }
    let (sums, len) = (long(mixer, running, data), data.len() as u64);
    let low = merge(&sums, &MERGE_KEY, len.wrapping_mul(PRIME64_1));
    let high = merge(&sums, &HIGH_MERGE_KEY, !len.wrapping_mul(PRIME64_2));
    u128::from(high) << 64 | u128::from(low)
}

/// What differs between instruction sets: how the running sums are held and changed.
trait Mixer: Copy {
    type Sums: Copy;
    fn load(self, lanes: &Lanes) -> Self::Sums;
    fn add(self, sums: Self::Sums, stripe: &[u8; STRIPE], key: &Lanes) -> Self::Sums;
    fn scramble(self, sums: Self::Sums) -> Self::Sums;
    fn store(self, sums: Self::Sums) -> Lanes;
}

/// The running sums of more than [`SHORT`] bytes.
#[inline(always)]
fn long<M: Mixer>(mixer: M, running: Running, data: &[u8]) -> Lanes {
    // Less a byte, because a block that ends the data is not scrambled.
    let (blocks, rest) = data[running.done..data.len() - 1].as_chunks::<BLOCK>();
    let sums = mixer.load(&add_blocks(mixer, &running.sums, blocks));
    let mut sums = add_stripes(mixer, sums, rest);
    if let Some(last) = data.last_chunk() {
        sums = mixer.add(sums, last, &LAST_STRIPE_KEY);
    }
    mixer.store(sums)
}

/// Adds the whole stripes of a block. A loop, for a closure of `fold` is compiled without the level's instructions unless
/// all of it happens to be inlined, and then each one is a call.
#[inline(always)]
fn add_stripes<M: Mixer>(mixer: M, mut sums: M::Sums, block: &[u8]) -> M::Sums {
    for (stripe, key) in block.as_chunks().0.iter().zip(&STRIPE_KEYS) {
        sums = mixer.add(sums, stripe, key);
    }
    sums
}

fn merge(sums: &Lanes, key: &Lanes, start: u64) -> u64 {
    let mut hash = start;
    for i in [0, 2, 4, 6] {
        let mixed = sums[i] ^ key[i];
        let (low, high) = mixed.carrying_mul(sums[i + 1] ^ key[i + 1], 0);
        hash = hash.wrapping_add(low ^ high);
    }
    hash ^= hash >> 37;
    hash = hash.wrapping_mul(PRIME_MX1);
    hash ^ hash >> 32
}

impl Mixer for Scalar {
    type Sums = Lanes;

    #[inline(always)]
    fn load(self, lanes: &Lanes) -> Lanes {
        *lanes
    }

    #[inline(always)]
    fn add(self, mut sums: Lanes, stripe: &[u8; STRIPE], key: &Lanes) -> Lanes {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(stripe.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        for i in 0..8 {
            let mixed = words[i] ^ key[i];
            let product = (mixed & 0xFFFF_FFFF).wrapping_mul(mixed >> 32);
            sums[i] = sums[i].wrapping_add(product.wrapping_add(words[i ^ 1]));
        }
        sums
    }

    #[inline(always)]
    fn scramble(self, mut sums: Lanes) -> Lanes {
        for (sum, key) in sums.iter_mut().zip(SCRAMBLE_KEY) {
            *sum = (*sum ^ *sum >> 47 ^ key).wrapping_mul(PRIME32_1);
        }
        sums
    }

    #[inline(always)]
    fn store(self, sums: Lanes) -> Lanes {
        sums
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::*;
    use crate::level::{Avx2, Avx512};
    use std::arch::x86_64::*;

    /// Swaps the words of each pair.
    const SWAP: i32 = 0b01_00_11_10;

    impl Mixer for Avx2 {
        type Sums = [__m256i; 2];

        #[inline(always)]
        fn load(self, lanes: &Lanes) -> [__m256i; 2] {
            // SAFETY: both are 64 bytes without padding.
            unsafe { std::mem::transmute(*lanes) }
        }

        #[inline(always)]
        fn add(self, sums: [__m256i; 2], stripe: &[u8; STRIPE], key: &Lanes) -> [__m256i; 2] {
            #[target_feature(enable = "avx2")]
            #[inline]
            fn add(sum: __m256i, words: __m256i, key: __m256i) -> __m256i {
                let mixed = _mm256_xor_si256(words, key);
                let product = _mm256_mul_epu32(mixed, _mm256_srli_epi64::<32>(mixed));
                let swapped = _mm256_shuffle_epi32::<SWAP>(words);
                _mm256_add_epi64(sum, _mm256_add_epi64(product, swapped))
            }
            let key = self.load(key);
            // SAFETY: both are 64 bytes without padding, and the CPU has AVX2.
            unsafe {
                let words: [__m256i; 2] = std::mem::transmute(*stripe);
                [add(sums[0], words[0], key[0]), add(sums[1], words[1], key[1])]
            }
        }

        #[inline(always)]
        fn scramble(self, sums: [__m256i; 2]) -> [__m256i; 2] {
            #[target_feature(enable = "avx2")]
            #[inline]
            fn scramble(sum: __m256i, key: __m256i) -> __m256i {
                let sum = _mm256_xor_si256(sum, _mm256_srli_epi64::<47>(sum));
                let sum = _mm256_xor_si256(sum, key);
                let prime = _mm256_set1_epi64x(PRIME32_1.cast_signed());
                let low = _mm256_mul_epu32(sum, prime);
                let high = _mm256_mul_epu32(_mm256_srli_epi64::<32>(sum), prime);
                _mm256_add_epi64(low, _mm256_slli_epi64::<32>(high))
            }
            let key = self.load(&SCRAMBLE_KEY);
            // SAFETY: the CPU has AVX2.
            unsafe { [scramble(sums[0], key[0]), scramble(sums[1], key[1])] }
        }

        #[inline(always)]
        fn store(self, sums: [__m256i; 2]) -> Lanes {
            // SAFETY: both are 64 bytes without padding.
            unsafe { std::mem::transmute(sums) }
        }
    }

    impl Mixer for Avx512 {
        type Sums = __m512i;

        #[inline(always)]
        fn load(self, lanes: &Lanes) -> __m512i {
            // SAFETY: both are 64 bytes without padding.
            unsafe { std::mem::transmute(*lanes) }
        }

        #[inline(always)]
        fn add(self, sums: __m512i, stripe: &[u8; STRIPE], key: &Lanes) -> __m512i {
            // SAFETY: both are 64 bytes without padding, and the CPU has AVX-512 F.
            unsafe {
                let words: __m512i = std::mem::transmute(*stripe);
                let mixed = _mm512_xor_si512(words, self.load(key));
                let product = _mm512_mul_epu32(mixed, _mm512_srli_epi64::<32>(mixed));
                let swapped = _mm512_shuffle_epi32::<SWAP>(words);
                _mm512_add_epi64(sums, _mm512_add_epi64(product, swapped))
            }
        }

        #[inline(always)]
        fn scramble(self, sums: __m512i) -> __m512i {
            // SAFETY: the CPU has AVX-512 F and DQ.
            unsafe {
                let sum = _mm512_xor_si512(sums, _mm512_srli_epi64::<47>(sums));
                let sum = _mm512_xor_si512(sum, self.load(&SCRAMBLE_KEY));
                _mm512_mullo_epi64(sum, _mm512_set1_epi64(PRIME32_1.cast_signed()))
            }
        }

        #[inline(always)]
        fn store(self, sums: __m512i) -> Lanes {
            // SAFETY: both are 64 bytes without padding.
            unsafe { std::mem::transmute(sums) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_each_level;
    use xxhash_rust::xxh3::{xxh3_64 as oracle, xxh3_128 as oracle_128};

    /// Bytes without pattern, the same each time.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(step).take(len).collect()
    }

    fn like_the_oracle(level: Level) {
        let data = noise(70_000);
        let near = |unit: usize| (1..=68).flat_map(move |n| unit * n - 2..=unit * n + 2);
        for len in (0..=1100).chain(near(64)).chain(near(1024)) {
            // Another start each time, aligned or not.
            let data = &data[len % 67..][..len];
            assert_eq!(xxh3_64_at(level, data), oracle(data), "{len} bytes");
            assert_eq!(xxh3_128_at(level, data), oracle_128(data), "{len} bytes");
        }
        arbtest::arbtest(|u| {
            let start = u.int_in_range(0..=64)?;
            let data = &data[start..][..u.int_in_range(0..=5000)?];
            assert_eq!(xxh3_64_at(level, data), oracle(data), "{} bytes", data.len());
            assert_eq!(xxh3_128_at(level, data), oracle_128(data), "{} bytes", data.len());
            Ok(())
        });
        assert_eq!(xxh3_64_at(level, &[0; 5000]), oracle(&[0; 5000]));
        assert_eq!(xxh3_64_at(level, &[0xFF; 5000]), oracle(&[0xFF; 5000]));
    }

    fn what_was_added_counts(level: Level) {
        let data = noise(9000);
        for added in 0..8 {
            for len in [1, 1023, 1024, 1025, 1500].map(|more| added * Running::UNIT + more) {
                let (data, mut running) = (&data[..len], Running::default());
                let (first, second) = data.split_at(added / 2 * Running::UNIT);
                running.add(level, first);
                running.add(level, &second[..(added - added / 2) * Running::UNIT]);
                assert_eq!(running.xxh3_64(level, data), oracle(data), "{added} of {len} bytes");
                assert_eq!(
                    running.xxh3_128(level, data),
                    oracle_128(data),
                    "{added} of {len} bytes"
                );
            }
        }
    }

    at_each_level!(like_the_oracle, what_was_added_counts);
}
