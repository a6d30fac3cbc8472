//! Tells the CPU what will be read soon: its own guesses end at each page.

/// Asks for `bytes` to be brought near; changes nothing but time.
#[inline]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub fn prefetch(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in bytes.chunks(64) {
        // SAFETY: SSE is part of x86-64, and a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
}

/// Asks for `bytes` to be brought near; changes nothing but time.
#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub fn prefetch(_: &[u8]) {}
