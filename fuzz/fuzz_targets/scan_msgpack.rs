//! Flax's files, as they are and with bytes as a value, or in an array, between two sound arrays.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightzip_fuzz::arrange::{extension, flax};
use weightzip_fuzz::check_spans;

fuzz_target!(|bytes: &[u8]| {
    check_spans(bytes);
    check_spans(&flax(bytes));
    check_spans(&flax(&extension(bytes)));
});
