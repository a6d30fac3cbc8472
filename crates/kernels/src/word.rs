//! The unsigned integers that hold one element.

use std::ops::{BitAnd, BitOr, BitOrAssign, Shl, Shr};

/// An element of 1, 2, 4 or 8 bytes, seen as an unsigned integer.
pub trait Word:
    Copy
    + Default
    + Eq
    + Send
    + Sync
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitOrAssign
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
    + From<u8>
{
    /// Bytes per element.
    const BYTES: usize;
    /// Bits per element.
    const BITS: u32;

    /// The low eight bits.
    fn low_byte(self) -> u8;
    /// The low sixteen bits.
    fn low_u16(self) -> u16;
    /// The low bits of `value`.
    fn truncate(value: u64) -> Self;
    /// Widens without loss.
    fn widen(self) -> u64;
    /// The element in `BYTES` bytes, least significant byte first.
    fn load_le(bytes: &[u8]) -> Self;
    /// Writes the element to `BYTES` bytes, least significant byte first.
    fn store_le(self, bytes: &mut [u8]);
    /// Reverses the byte order.
    #[must_use]
    fn swap(self) -> Self;

    /// A value with the low `bits` bits set (all of them from `BITS` on).
    fn ones(bits: u32) -> Self {
        if bits >= 64 { Self::truncate(u64::MAX) } else { Self::truncate((1u64 << bits) - 1) }
    }
}

macro_rules! words {
    ($($t:ty),*) => {$(
        #[allow(clippy::cast_possible_truncation, reason = "taking the low bits is what these are for")]
        impl Word for $t {
            const BYTES: usize = size_of::<$t>();
            const BITS: u32 = <$t>::BITS;

            #[inline(always)]
            fn low_byte(self) -> u8 {
                self as u8
            }
            #[inline(always)]
            fn low_u16(self) -> u16 {
                self as u16
            }
            #[inline(always)]
            fn truncate(value: u64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn widen(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn load_le(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(bytes);
                <$t>::from_le_bytes(raw)
            }
            #[inline(always)]
            fn store_le(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            #[inline(always)]
            fn swap(self) -> Self {
                self.swap_bytes()
            }
        }
    )*};
}

words!(u8, u16, u32, u64);
