//! The levels of x86-64.
//!
//! A method may use the instructions of its level because `self` exists only where the CPU has
//! them (see [`level`](mod@crate::level)); it is inlined into functions that are compiled for them.

mod avx2;
mod avx512;

/// Uses intrinsics.
macro_rules! intrinsics {
    ($($body:tt)*) => {
        // SAFETY: `self` proves that the CPU has the instructions, and every pointer comes from a
        // reference to an array of the size that is read or written.
        unsafe { $($body)* }
    };
}
use intrinsics;

/// Where the ones of a byte are: `PLACES[byte][i]` is the place of its `i`th one; zeros follow.
static PLACES: [[u8; 8]; 256] = places();

/// How many ones of a byte come before each of its places.
static ONES_BEFORE: [[u8; 8]; 256] = ones_before();

const fn ones_before() -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 1;
        while bit < 8 {
            let one = if byte >> (bit - 1) & 1 == 1 { 1 } else { 0 };
            table[byte][bit] = table[byte][bit - 1] + one;
            bit += 1;
        }
        byte += 1;
    }
    table
}

const fn places() -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut ones) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte][ones] = bit;
                ones += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
}
