//! Any bytes as a `.wz` whose checksums were made right, and blocks that are not checked: what
//! checksums hide from `decode_any`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightzip_fuzz::{read_at_random, repair, restore};

fuzz_target!(|bytes: &[u8]| {
    let mut wz = bytes.to_vec();
    repair::checksums(&mut wz);
    let streamed = restore(wz.as_slice(), false);
    let read = read_at_random(&wz, false);
    if let Ok((original, _)) = streamed {
        assert!(read.as_ref() == Ok(&original), "random access differs: {:?}", read.err());
    }
});
