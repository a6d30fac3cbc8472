//! PyTorch checkpoints, as they are and with bytes as the pickle of a sound archive, or of two, and as what describes an
//! exported program.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightzip_fuzz::arrange::zip;
use weightzip_fuzz::check_spans;

fuzz_target!(|bytes: &[u8]| {
    check_spans(bytes);
    // The last quarter is what the rest may name.
    let (pickle, data) = bytes.split_at(bytes.len() - bytes.len() / 4);
    let members = [("a/data.pkl", pickle), ("a/data/0", data), ("a/data/1", &data[..data.len() / 2])];
    let archive = zip(&members);
    check_spans(&archive);
    check_spans(&[&archive[..], &archive].concat());
    let members = [
        ("a/data/weights/0", data),
        ("a/data/weights/_weights_config.json", pickle),
        ("a/archive_format", b"pt2"),
        ("a/data/sample_inputs/_.pt", &archive),
    ];
    check_spans(&zip(&members));
});
