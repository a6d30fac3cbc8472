//! NumPy arrays and archives of them, as they are and with bytes as one member of an archive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightzip_fuzz::arrange::zip;
use weightzip_fuzz::check_spans;

fuzz_target!(|bytes: &[u8]| {
    check_spans(bytes);
    check_spans(&zip(&[("a.npy", bytes), ("b", b"other"), ("c.npy", bytes)]));
});
