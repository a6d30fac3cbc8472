//! ONNX models, as they are and with bytes as a graph, or as a tensor, of one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightzip_fuzz::check_spans;

fuzz_target!(|bytes: &[u8]| {
    check_spans(bytes);
    check_spans(&model(bytes));
    check_spans(&model(&field(0x2A, bytes)));
});

/// A model of a version, and this graph.
fn model(graph: &[u8]) -> Vec<u8> {
    [&[0x08, 0x09], &field(0x3A, graph)[..]].concat()
}

/// A field of bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut len) = (vec![tag], bytes.len());
    while len > 0x7F {
        out.push((len & 0x7F) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [&out, bytes].concat()
}
