//! Any bytes, and safetensors files with changed bytes: the spans cover the file, and it comes back.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::{Archive, Dtype, Level, TensorInfo};
use weightzip_fuzz::arrange::{Tensor, any_dtype, safetensors, tensor};
use weightzip_fuzz::compress_and_restore;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Ok(file) = nearly_valid(Unstructured::new(bytes)) {
        check(&file);
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

fn check(file: &[u8]) {
    let layout = weightzip::scan(file).expect("memory can be read");
    let mut at = 0;
    for span in &layout.spans {
        assert_eq!(span.range.start, at, "spans leave a gap or overlap: {:?}", layout.spans);
        at = span.range.end;
        if let Some(TensorInfo { dtype, shape, .. }) = &span.tensor {
            assert_eq!(dtype.bytes_of(shape), Some(span.range.end - span.range.start));
        }
    }
    assert_eq!(at, file.len() as u64, "spans don't cover the file");

    let (wz, summary) = compress_and_restore(file, Level::Default);
    assert_eq!((summary.format, &summary.warnings), (layout.format, &layout.warnings));
    let archive = Archive::open(wz.as_slice()).expect("own files open");
    let stored: Vec<_> = archive.tensors().map(|t| (t.info().clone(), t.range())).collect();
    let found = layout.spans.into_iter().filter_map(|s| s.tensor.map(|t| (t, s.range)));
    assert_eq!(stored, found.collect::<Vec<_>>(), "archive and file have other tensors");
}
