//! Any bytes, and safetensors files with changed bytes: the spans cover the file, and it comes back.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip_fuzz::arrange::{Tensor, any_dtype, safetensors, tensor};
use weightzip_fuzz::check_spans;

fuzz_target!(|bytes: &[u8]| {
    check_spans(bytes);
    if let Ok(file) = nearly_valid(Unstructured::new(bytes)) {
        check_spans(&file);
    }
});

/// A safetensors file in which some bytes may differ, and which may end early or late.
fn nearly_valid(mut u: Unstructured) -> Result<Vec<u8>> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for _ in 0..u.int_in_range(0..=5)? {
        let (dtype, row) = (any_dtype(&mut u)?, u.int_in_range(1..=600)?);
        let data: Vec<u8> = u.arbitrary()?;
        tensors.push(tensor(dtype, row, &data.repeat(u.int_in_range(1..=8)?)));
    }
    let changes: Vec<(u16, u8)> = u.arbitrary()?;
    let mut file = safetensors(&tensors, u.arbitrary()?);
    for (at, xor) in changes {
        let at = usize::from(at) % file.len();
        file[at] ^= xor;
    }
    match u.int_in_range(0..=3)? {
        0 => file.truncate(u.int_in_range(0..=file.len())?),
        1 => file.extend(u.take_rest()),
        _ => {}
    }
    Ok(file)
}
