//! Payloads within payloads as a block: an error, or bytes that depend on nothing that the buffer held before, however they nest.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::{Block, Dtype, Given, RecordLayout, decode_block_into};
use weightzip_fuzz::nest::any_payload;
use xxhash_rust::xxh3::xxh3_64;

fuzz_target!(|bytes: &[u8]| {
    let _ = run(Unstructured::new(bytes));
});

fn run(mut u: Unstructured) -> Result<()> {
    let layout = match u.int_in_range(0..=2)? {
        0 => RecordLayout::opaque(),
        1 => u.choose(&[Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64])?.record_layout(),
        _ => u.choose(Dtype::ALL)?.record_layout(),
    };
    let records = u.int_in_range(1..=2000)?;
    let base = vec![u.arbitrary()?; records * usize::from(layout.bytes())];
    let (coding, payload) = any_payload(&mut u, &layout, records, &base)?;
    let given = Given { context: None, base: Some(&base) };
    let mut block = Block { coding, records: records as u32, check: 0, payload: &payload };
    let mut first = vec![0; base.len()];
    let _ = decode_block_into(&layout, given, &block, &mut first);
    // If all that was wrong is the checksum, there is nothing wrong now.
    block.check = xxh3_64(&first);
    if decode_block_into(&layout, given, &block, &mut first).is_ok() {
        let mut second = vec![0xFF; first.len()];
        let again = decode_block_into(&layout, given, &block, &mut second);
        again.expect("a block that decodes does so again");
        assert!(first == second, "a decoded block depends on what the buffer held");
    }
    Ok(())
}
