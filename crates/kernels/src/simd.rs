//! What a kernel is written in: a group of 64 bytes, and what can be done with it. A level is one
//! implementation of [`Simd`]; [`Scalar`](crate::scalar::Scalar) says what each operation means.

use crate::rans::{Shares, Slots};

/// Bytes in a group: one per element.
pub const GROUP: usize = 64;

/// Operations on groups. A value is the proof that the CPU has what they need.
pub(crate) trait Simd: Copy {
    /// 64 bytes.
    type Bytes: Copy;
    /// Some of the 64, in whatever form the level finds them.
    type Mask: Copy;
    /// A table as [`lookup`](Self::lookup) wants it.
    type Table<'a>: Copy;
    /// The states of an entropy coder's lanes.
    type Lanes: Copy;

    fn load(self, bytes: &[u8; GROUP]) -> Self::Bytes;
    fn store(self, v: Self::Bytes, bytes: &mut [u8; GROUP]);
    fn splat(self, byte: u8) -> Self::Bytes;

    fn and(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn xor(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// The bits of `a` where `mask` has ones, of `b` elsewhere.
    fn select(self, mask: Self::Bytes, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn add(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn sub(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn min(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Shifts each byte left by `n`, at most 8. The `n` low bits have no meaning afterwards.
    fn shl(self, v: Self::Bytes, n: u32) -> Self::Bytes;
    /// Shifts each byte right by `n`, at most 8. The `n` high bits have no meaning afterwards.
    fn shr(self, v: Self::Bytes, n: u32) -> Self::Bytes;

    /// Where both are equal.
    fn eq(self, a: Self::Bytes, b: Self::Bytes) -> Self::Mask;
    /// Bit `i` tells about byte `i`.
    fn bits(self, mask: Self::Mask) -> u64;
    /// `v`, with zero where the mask has no one.
    fn keep(self, v: Self::Bytes, mask: u64) -> Self::Bytes;
    /// The low bits of `bits`, in order, where the mask has ones; zeros elsewhere.
    fn deposit(self, bits: u64, mask: u64) -> u64;
    /// The bits of `bits` where the mask has ones, in order, from bit 0 on; undoes
    /// [`deposit`](Self::deposit).
    fn extract(self, bits: u64, mask: u64) -> u64;

    /// Bytes of 0 and 1 from bits.
    fn spread1(self, bits: u64) -> Self::Bytes;
    /// Codes of 2 bits: byte `j` has the codes `j`, `j + 16`, `j + 32`, `j + 48`.
    fn spread2(self, bytes: &[u8; 16]) -> Self::Bytes;
    /// Codes of 4 bits: byte `j` has the codes `j` and `j + 32`.
    fn spread4(self, bytes: &[u8; 32]) -> Self::Bytes;
    /// The low bits; undoes [`spread1`](Self::spread1).
    fn gather1(self, v: Self::Bytes) -> u64;
    /// Undoes [`spread2`](Self::spread2); no code may have more bits.
    fn gather2(self, v: Self::Bytes, bytes: &mut [u8; 16]);
    /// Undoes [`spread4`](Self::spread4); no code may have more bits.
    fn gather4(self, v: Self::Bytes, bytes: &mut [u8; 32]);

    /// Stores `v`, with the first bytes of `next`, in order, where the mask is set. Returns how many
    /// bytes these are.
    fn expand(
        self,
        v: Self::Bytes,
        mask: Self::Mask,
        next: &[u8; GROUP],
        out: &mut [u8; GROUP],
    ) -> usize;
    /// Moves the bytes where the mask is set to the start of `out`; the rest of `out` has no meaning
    /// afterwards. Returns how many bytes these are.
    fn compress(self, v: Self::Bytes, mask: Self::Mask, out: &mut [u8; GROUP]) -> usize;

    /// A table all of whose bytes from `used` on are zero.
    fn table(self, bytes: &[u8; 256], used: usize) -> Self::Table<'_>;
    /// `table[byte]` for each byte.
    fn lookup(self, table: Self::Table<'_>, v: Self::Bytes) -> Self::Bytes;

    /// `table[byte]` for each byte, all of which are less than 16.
    fn lookup16(self, table: &[u8; 16], v: Self::Bytes) -> Self::Bytes;

    fn load_lanes(self, states: &[u32; GROUP]) -> Self::Lanes;
    fn store_lanes(self, lanes: Self::Lanes, states: &mut [u32; GROUP]);
    /// Takes a symbol from each lane, found by the table that its context says, and lets those
    /// states that fell below [`LOW`](crate::rans::LOW) have a word each, in the order of lanes.
    /// Returns the symbols and how many words were taken.
    fn pop(
        self,
        lanes: &mut Self::Lanes,
        slots: &Slots,
        contexts: &[u8; GROUP],
        words: &[u8; 2 * GROUP],
    ) -> (Self::Bytes, usize);
    /// Undoes [`pop`](Self::pop): the words come to the end of `words`, what is before them has no
    /// meaning afterwards.
    fn push(
        self,
        lanes: &mut Self::Lanes,
        shares: &Shares,
        contexts: &[u8; GROUP],
        symbols: &[u8; GROUP],
        words: &mut [u8; 2 * GROUP],
    ) -> usize;

    /// The bytes of `a` and `b` in turn, `a[0]`, `b[0]`, `a[1]`, ...: first and second half.
    fn zip8(self, a: Self::Bytes, b: Self::Bytes) -> (Self::Bytes, Self::Bytes);
    /// [`zip8`](Self::zip8) with pairs of bytes.
    fn zip16(self, a: Self::Bytes, b: Self::Bytes) -> (Self::Bytes, Self::Bytes);
    /// [`zip8`](Self::zip8) with fours of bytes.
    fn zip32(self, a: Self::Bytes, b: Self::Bytes) -> (Self::Bytes, Self::Bytes);
    /// The even and the odd bytes of `a` followed by `b`; undoes [`zip8`](Self::zip8).
    fn unzip8(self, a: Self::Bytes, b: Self::Bytes) -> (Self::Bytes, Self::Bytes);
    /// [`unzip8`](Self::unzip8) with pairs of bytes.
    fn unzip16(self, a: Self::Bytes, b: Self::Bytes) -> (Self::Bytes, Self::Bytes);
    /// [`unzip8`](Self::unzip8) with fours of bytes.
    fn unzip32(self, a: Self::Bytes, b: Self::Bytes) -> (Self::Bytes, Self::Bytes);
}

/// Declares a kernel: a function that is compiled once per level from one generic body.
macro_rules! kernel {
    (
        $(#[$attribute:meta])*
        pub fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $returns:ty)? = $body:path
    ) => {
        $(#[$attribute])*
        #[allow(unsafe_code)]
        #[allow(clippy::too_many_arguments, reason = "a kernel takes what it works on")]
        pub fn $name(level: $crate::level::Level, $($arg: $type),*) $(-> $returns)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
            fn avx2(simd: $crate::level::Avx2, $($arg: $type),*) $(-> $returns)? {
                $body(simd, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
            fn avx512(simd: $crate::level::Avx512, $($arg: $type),*) $(-> $returns)? {
                $body(simd, $($arg),*)
            }
            match level {
                $crate::level::Level::Scalar => $body($crate::scalar::Scalar, $($arg),*),
                // SAFETY: the value exists only where the CPU has these instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::level::Level::Avx2(simd) => unsafe { avx2(simd, $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::level::Level::Avx512(simd) => unsafe { avx512(simd, $($arg),*) },
            }
        }
    };
}
pub(crate) use kernel;

/// Puts `N` byte planes (1, 2, 4 or 8) together to 64 elements of `N` bytes.
#[inline(always)]
pub(crate) fn interleave<S: Simd, const N: usize>(simd: S, planes: [S::Bytes; N]) -> [S::Bytes; N] {
    let (mut out, p) = (planes, &planes);
    match N {
        2 => (out[0], out[1]) = simd.zip8(p[0], p[1]),
        4 => {
            let ((a, b), (c, d)) = (simd.zip8(p[0], p[1]), simd.zip8(p[2], p[3]));
            (out[0], out[1]) = simd.zip16(a, c);
            (out[2], out[3]) = simd.zip16(b, d);
        }
        8 => {
            let (low, high) = (
                interleave::<S, 4>(simd, [p[0], p[1], p[2], p[3]]),
                interleave::<S, 4>(simd, [p[4], p[5], p[6], p[7]]),
            );
            for (i, (&low, high)) in low.iter().zip(high).enumerate() {
                (out[2 * i], out[2 * i + 1]) = simd.zip32(low, high);
            }
        }
        _ => {}
    }
    out
}

/// Takes 64 elements of `N` bytes apart; undoes [`interleave`].
#[inline(always)]
pub(crate) fn deinterleave<S: Simd, const N: usize>(
    simd: S,
    elements: [S::Bytes; N],
) -> [S::Bytes; N] {
    let (mut out, e) = (elements, &elements);
    match N {
        2 => (out[0], out[1]) = simd.unzip8(e[0], e[1]),
        4 => {
            let ((a, c), (b, d)) = (simd.unzip16(e[0], e[1]), simd.unzip16(e[2], e[3]));
            (out[0], out[1]) = simd.unzip8(a, b);
            (out[2], out[3]) = simd.unzip8(c, d);
        }
        8 => {
            let (mut low, mut high) = ([e[0]; 4], [e[0]; 4]);
            for i in 0..4 {
                (low[i], high[i]) = simd.unzip32(e[2 * i], e[2 * i + 1]);
            }
            let (low, high) = (deinterleave::<S, 4>(simd, low), deinterleave::<S, 4>(simd, high));
            out[..4].copy_from_slice(&low);
            out[4..].copy_from_slice(&high);
        }
        _ => {}
    }
    out
}
