//! ONNX models, as they are and with bytes as a graph, or as a tensor, of one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightzip_fuzz::arrange::{field, onnx};
use weightzip_fuzz::check_spans;

fuzz_target!(|bytes: &[u8]| {
    check_spans(bytes);
    check_spans(&onnx(bytes));
    check_spans(&onnx(&field(0x2A, bytes)));
});
