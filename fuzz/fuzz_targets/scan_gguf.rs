//! GGUF files, as they are and with changed bytes: the spans cover the file, and it comes back.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::Dtype;
use weightzip_fuzz::arrange::{Tensor, gguf, tensor};
use weightzip_fuzz::check_spans;

fuzz_target!(|bytes: &[u8]| {
    check_spans(bytes);
    if let Ok(file) = nearly_valid(Unstructured::new(bytes)) {
        check_spans(&file);
    }
});

/// A file in which some bytes may differ, and which may end early.
fn nearly_valid(mut u: Unstructured) -> Result<Vec<u8>> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        let (dtype, row) = (*u.choose(Dtype::ALL)?, u.int_in_range(1..=600)?);
        let data: Vec<u8> = u.arbitrary()?;
        tensors.push(tensor(dtype, row, &data.repeat(u.int_in_range(1..=64)?)));
    }
    let changes: Vec<(u16, u8)> = u.arbitrary()?;
    let mut file = gguf(&tensors, u.arbitrary()?);
    for (at, xor) in changes {
        let at = usize::from(at) % file.len();
        file[at] ^= xor;
    }
    if u.ratio(1, 4)? {
        file.truncate(u.int_in_range(0..=file.len())?);
    }
    Ok(file)
}
