//! Any bytes as a `.wz`: an error, or the same bytes from every reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightzip_fuzz::{Dribble, read_at_random, restore};

fuzz_target!(|wz: &[u8]| {
    let streamed = restore(wz, true);
    let piped = restore(Dribble::new(wz), true);
    assert!(piped == streamed, "a pipe and a file differ: {:?}, {:?}", piped.err(), streamed.err());
    let read = read_at_random(wz, true);
    if let Ok((original, _)) = streamed {
        assert!(read.as_ref() == Ok(&original), "random access differs: {:?}", read.err());
    }
});
