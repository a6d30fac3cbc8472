//! Memory for large outputs, on huge pages where the system has them: a page fault for each 4 KiB
//! takes longer than decoding them.

#![allow(unsafe_code)]

/// Bytes from which on huge pages are asked for.
const LARGE: usize = 4 << 20;

/// So many zeros.
pub fn zeroed(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if len >= LARGE {
        advise(&mut bytes);
    }
    bytes
}

/// Asks for huge pages; advice only, which a system may not take.
#[cfg(target_os = "linux")]
fn advise(bytes: &mut [u8]) {
    use rustix::mm::{Advice, madvise};
    const PAGE: usize = 4096;
    let skip = bytes.as_ptr().align_offset(PAGE);
    let Some(pages) = bytes.get_mut(skip..) else { return };
    let len = pages.len() / PAGE * PAGE;
    // SAFETY: the range lies in `bytes`, and this advice changes no contents.
    let _ = unsafe { madvise(pages.as_mut_ptr().cast(), len, Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &mut [u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_zero_and_may_be_written() {
        for len in [0, 1, LARGE, LARGE + 12_345] {
            let mut bytes = zeroed(len);
            assert!(bytes.len() == len && bytes.iter().all(|&b| b == 0));
            bytes.fill(7);
            assert!(bytes.iter().all(|&b| b == 7));
        }
    }
}
