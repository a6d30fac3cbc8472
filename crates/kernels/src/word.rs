//! The unsigned integers that hold one element.

/// An element of 1, 2, 4 or 8 bytes, seen as an unsigned integer.
pub(crate) trait Word {
    /// Bytes per element.
    const BYTES: usize;

    /// Bits `shift` to `shift + 15` of the element at the start of `bytes`.
    fn bits(bytes: &[u8], big_endian: bool, shift: u32) -> u16;
}

macro_rules! words {
    ($($t:ty),*) => {$(
        impl Word for $t {
            const BYTES: usize = size_of::<$t>();

            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "the higher bits are not asked for")]
            fn bits(bytes: &[u8], big_endian: bool, shift: u32) -> u16 {
                let raw = &bytes[..size_of::<$t>()].as_chunks().0[0];
                let word = if big_endian { <$t>::from_be_bytes(*raw) } else { <$t>::from_le_bytes(*raw) };
                (word >> shift) as u16
            }
        }
    )*};
}

words!(u8, u16, u32, u64);
