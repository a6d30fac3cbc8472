//! Groups as plain arrays: what every operation means, written so that the compiler can vectorise
//! it with whatever the target has.

use crate::moves::MOVES;
use crate::rans::{LOW, SLOT_BITS, Shares, Slots};
use crate::simd::{GROUP, Simd};
use crate::strip::{array, array_mut};

/// The level that every CPU has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

type Bytes = [u8; GROUP];

/// A bit per byte.
type Mask = [u8; 8];

#[inline(always)]
fn map2(a: Bytes, b: Bytes, each: impl Fn(u8, u8) -> u8) -> Bytes {
    let mut out = a;
    out.iter_mut().zip(&b).for_each(|(a, &b)| *a = each(*a, b));
    out
}

/// The group as eight words, for what can be done to eight bytes at once.
#[inline(always)]
fn words(v: &Bytes) -> [u64; 8] {
    let mut words = [0; 8];
    for (word, eight) in words.iter_mut().zip(v.as_chunks().0) {
        *word = u64::from_le_bytes(*eight);
    }
    words
}

#[inline(always)]
fn from_words(words: [u64; 8]) -> Bytes {
    let mut v = [0; GROUP];
    for (eight, word) in v.as_chunks_mut().0.iter_mut().zip(words) {
        *eight = word.to_le_bytes();
    }
    v
}

/// Eight copies of a byte.
const fn eight(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The low bits of eight bytes.
#[inline(always)]
fn low_bits(word: u64) -> u8 {
    // The multiplication gathers them in the top byte.
    (word & eight(1)).wrapping_mul(0x0102_0408_1020_4080).to_le_bytes()[7]
}

/// Units of `K` bytes of `a` and `b` in turn.
#[inline(always)]
fn zip<const K: u32>(a: &Bytes, b: &Bytes) -> (Bytes, Bytes) {
    let (a, b, mut out) = (words(a), words(b), [[0; 8]; 2]);
    for (i, out) in out.as_flattened_mut().iter_mut().enumerate() {
        let half = 32 * (i % 2);
        *out = apart::<K>(a[i / 2] >> half) | apart::<K>(b[i / 2] >> half) << (8 * K);
    }
    (from_words(out[0]), from_words(out[1]))
}

/// The even and the odd units of `K` bytes.
#[inline(always)]
fn unzip<const K: u32>(a: &Bytes, b: &Bytes) -> (Bytes, Bytes) {
    let (from, mut even, mut odd) = ([words(a), words(b)], [0; 8], [0; 8]);
    for (i, pair) in from.as_flattened().as_chunks::<2>().0.iter().enumerate() {
        even[i] = together::<K>(pair[0]) | together::<K>(pair[1]) << 32;
        odd[i] = together::<K>(pair[0] >> (8 * K)) | together::<K>(pair[1] >> (8 * K)) << 32;
    }
    (from_words(even), from_words(odd))
}

/// Moves the units of `K` bytes of the low half to the even places; zeros between them.
#[inline(always)]
fn apart<const K: u32>(word: u64) -> u64 {
    let mut word = word & 0xFFFF_FFFF;
    if K <= 2 {
        word = (word | word << 16) & 0x0000_FFFF_0000_FFFF;
    }
    if K == 1 {
        word = (word | word << 8) & 0x00FF_00FF_00FF_00FF;
    }
    word
}

/// Moves the units of `K` bytes at the even places to the low half; undoes [`apart`].
#[inline(always)]
fn together<const K: u32>(mut word: u64) -> u64 {
    if K == 1 {
        word &= 0x00FF_00FF_00FF_00FF;
        word |= word >> 8;
    }
    if K <= 2 {
        word &= 0x0000_FFFF_0000_FFFF;
        word |= word >> 16;
    }
    word & 0xFFFF_FFFF
}

impl Simd for Scalar {
    type Bytes = Bytes;
    type Mask = Mask;
    type Table<'a> = &'a [u8; 256];
    type Lanes = [u32; GROUP];

    #[inline(always)]
    fn load(self, bytes: &Bytes) -> Bytes {
        *bytes
    }
    #[inline(always)]
    fn store(self, v: Bytes, bytes: &mut Bytes) {
        *bytes = v;
    }
    #[inline(always)]
    fn splat(self, byte: u8) -> Bytes {
        [byte; GROUP]
    }
    #[inline(always)]
    fn and(self, a: Bytes, b: Bytes) -> Bytes {
        map2(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: Bytes, b: Bytes) -> Bytes {
        map2(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn xor(self, a: Bytes, b: Bytes) -> Bytes {
        map2(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn deposit(self, mut bits: u64, mut mask: u64) -> u64 {
        if mask == u64::MAX {
            return bits;
        }
        let mut out = 0;
        while mask != 0 {
            let lowest = mask & mask.wrapping_neg();
            out |= lowest & (bits & 1).wrapping_neg();
            bits >>= 1;
            mask ^= lowest;
        }
        out
    }
    #[inline(always)]
    fn extract(self, bits: u64, mut mask: u64) -> u64 {
        if mask == u64::MAX {
            return bits;
        }
        let (mut out, mut place) = (0, 0);
        while mask != 0 {
            let at = mask.trailing_zeros();
            out |= (bits >> at & 1) << place;
            place += 1;
            mask &= mask - 1;
        }
        out
    }
    #[inline(always)]
    fn select(self, mask: Bytes, a: Bytes, b: Bytes) -> Bytes {
        let mut out = b;
        for ((out, a), mask) in out.iter_mut().zip(&a).zip(&mask) {
            *out = *out & !mask | a & mask;
        }
        out
    }
    #[inline(always)]
    fn add(self, a: Bytes, b: Bytes) -> Bytes {
        map2(a, b, u8::wrapping_add)
    }
    #[inline(always)]
    fn sub(self, a: Bytes, b: Bytes) -> Bytes {
        map2(a, b, u8::wrapping_sub)
    }
    #[inline(always)]
    fn min(self, a: Bytes, b: Bytes) -> Bytes {
        map2(a, b, u8::min)
    }
    #[inline(always)]
    fn shl(self, v: Bytes, n: u32) -> Bytes {
        let mut words = words(&v);
        for word in &mut words {
            *word <<= n;
        }
        from_words(words)
    }
    #[inline(always)]
    fn shr(self, v: Bytes, n: u32) -> Bytes {
        let mut words = words(&v);
        for word in &mut words {
            *word >>= n;
        }
        from_words(words)
    }
    #[inline(always)]
    fn eq(self, a: Bytes, b: Bytes) -> Mask {
        let (mut equal, b) = (words(&a), words(&b));
        for (a, b) in equal.iter_mut().zip(b) {
            // The top bit of each byte becomes one where it differs.
            let differs = *a ^ b;
            *a = !(((differs & eight(0x7F)) + eight(0x7F)) | differs) >> 7;
        }
        equal.map(low_bits)
    }
    #[inline(always)]
    fn bits(self, mask: Mask) -> u64 {
        u64::from_le_bytes(mask)
    }
    #[inline(always)]
    fn keep(self, v: Bytes, mask: u64) -> Bytes {
        let (mut kept, ones) = (words(&v), words(&self.spread1(mask)));
        for (word, ones) in kept.iter_mut().zip(ones) {
            *word &= ones * 0xFF;
        }
        from_words(kept)
    }
    #[inline(always)]
    fn spread1(self, bits: u64) -> Bytes {
        let mut out = [0; 8];
        for (out, byte) in out.iter_mut().zip(bits.to_le_bytes()) {
            // Eight copies of the byte, of which each keeps its own bit.
            let bits = eight(byte) & 0x8040_2010_0804_0201;
            *out = bits.wrapping_add(eight(0x7F)) >> 7 & eight(1);
        }
        from_words(out)
    }
    #[inline(always)]
    fn spread2(self, bytes: &[u8; 16]) -> Bytes {
        let (parts, _) = bytes.as_chunks();
        let (low, high) = (u64::from_le_bytes(parts[0]), u64::from_le_bytes(parts[1]));
        let part = |word: u64, i: u32| word >> (2 * i) & eight(3);
        from_words([
            part(low, 0),
            part(high, 0),
            part(low, 1),
            part(high, 1),
            part(low, 2),
            part(high, 2),
            part(low, 3),
            part(high, 3),
        ])
    }
    #[inline(always)]
    fn spread4(self, bytes: &[u8; 32]) -> Bytes {
        let (mut out, (parts, _)) = ([0; 8], bytes.as_chunks());
        for (i, part) in parts.iter().enumerate() {
            let word = u64::from_le_bytes(*part);
            (out[i], out[i + 4]) = (word & eight(15), word >> 4 & eight(15));
        }
        from_words(out)
    }
    #[inline(always)]
    fn gather1(self, v: Bytes) -> u64 {
        u64::from_le_bytes(words(&v).map(low_bits))
    }
    #[inline(always)]
    fn gather2(self, v: Bytes, bytes: &mut [u8; 16]) {
        let w = words(&v);
        let (to, _) = bytes.as_chunks_mut();
        to[0] = (w[0] | w[2] << 2 | w[4] << 4 | w[6] << 6).to_le_bytes();
        to[1] = (w[1] | w[3] << 2 | w[5] << 4 | w[7] << 6).to_le_bytes();
    }
    #[inline(always)]
    fn gather4(self, v: Bytes, bytes: &mut [u8; 32]) {
        let w = words(&v);
        for (i, to) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
            *to = (w[i] | w[i + 4] << 4).to_le_bytes();
        }
    }
    #[inline(always)]
    fn expand(self, v: Bytes, mask: Mask, next: &Bytes, out: &mut Bytes) -> usize {
        let mut used = 0;
        for ((word, bits), to) in words(&v).into_iter().zip(mask).zip(out.as_chunks_mut().0) {
            let moves = &MOVES[usize::from(bits)];
            let found = moves.up(u64::from_le_bytes(*array(next, used)));
            *to = (word & !moves.set | found & moves.set).to_le_bytes();
            used += moves.count;
        }
        used
    }
    #[inline(always)]
    fn compress(self, v: Bytes, mask: Mask, out: &mut Bytes) -> usize {
        let mut used = 0;
        for (word, bits) in words(&v).into_iter().zip(mask) {
            let moves = &MOVES[usize::from(bits)];
            *array_mut(out, used) = moves.down(word).to_le_bytes();
            used += moves.count;
        }
        used
    }
    #[inline(always)]
    fn table(self, bytes: &[u8; 256], _: usize) -> &[u8; 256] {
        bytes
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 256], v: Bytes) -> Bytes {
        // Put together in registers: bytes that are written one by one are slow to read as words.
        let mut words = words(&v);
        for word in &mut words {
            let mut found = 0;
            for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
                found |= u64::from(table[usize::from(byte)]) << (8 * i);
            }
            *word = found;
        }
        from_words(words)
    }
    #[inline(always)]
    fn lookup16(self, table: &[u8; 16], v: Bytes) -> Bytes {
        v.map(|byte| table[usize::from(byte & 15)])
    }
    #[inline(always)]
    fn load_lanes(self, states: &[u32; GROUP]) -> [u32; GROUP] {
        *states
    }
    #[inline(always)]
    fn store_lanes(self, lanes: [u32; GROUP], states: &mut [u32; GROUP]) {
        *states = lanes;
    }
    #[inline(always)]
    fn pop(
        self,
        lanes: &mut [u32; GROUP],
        slots: &Slots,
        contexts: &Bytes,
        words: &[u8; 2 * GROUP],
    ) -> (Bytes, usize) {
        let (mut symbols, mut used, words) = ([0; GROUP], 0, words.as_chunks::<2>().0);
        for ((x, &context), symbol) in lanes.iter_mut().zip(contexts).zip(&mut symbols) {
            let slot = slots.find(context, *x);
            *symbol = slot.symbol();
            *x = slot.share() * (*x >> SLOT_BITS) + slot.offset();
            if *x < LOW {
                *x = *x << 16 | u32::from(u16::from_le_bytes(words[used]));
                used += 1;
            }
        }
        (symbols, used)
    }
    #[inline(always)]
    fn push(
        self,
        lanes: &mut [u32; GROUP],
        shares: &Shares,
        contexts: &Bytes,
        symbols: &Bytes,
        words: &mut [u8; 2 * GROUP],
    ) -> usize {
        let (mut left, words) = (GROUP, words.as_chunks_mut::<2>().0);
        for ((x, &context), &symbol) in lanes.iter_mut().zip(contexts).zip(symbols).rev() {
            let share = shares.of(context, symbol);
            if *x >> (32 - SLOT_BITS) >= share.width() {
                left -= 1;
                [words[left][0], words[left][1], ..] = x.to_le_bytes();
                *x >>= 16;
            }
            *x = share.next_state(*x);
        }
        GROUP - left
    }
    #[inline(always)]
    fn zip8(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        zip::<1>(&a, &b)
    }
    #[inline(always)]
    fn zip16(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        zip::<2>(&a, &b)
    }
    #[inline(always)]
    fn zip32(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        zip::<4>(&a, &b)
    }
    #[inline(always)]
    fn unzip8(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        unzip::<1>(&a, &b)
    }
    #[inline(always)]
    fn unzip16(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        unzip::<2>(&a, &b)
    }
    #[inline(always)]
    fn unzip32(self, a: Bytes, b: Bytes) -> (Bytes, Bytes) {
        unzip::<4>(&a, &b)
    }
}
