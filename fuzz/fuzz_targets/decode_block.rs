//! Any payload as a block: an error, or bytes that depend on nothing that the buffer held before.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::{
    Block, Coding, Context, Given, Hints, RecordLayout, decode_block_into, encode_block,
};
use weightzip_fuzz::arrange::{any_hints, any_layout, near, on_grid};
use xxhash_rust::xxh3::xxh3_64;

/// Most bytes that a block is claimed to have.
const MAX_BYTES: usize = 1 << 17;

fuzz_target!(|bytes: &[u8]| {
    let _ = run(Unstructured::new(bytes));
});

fn run(mut u: Unstructured) -> Result<()> {
    let (layout, hints) = (any_layout(&mut u)?, any_hints(&mut u)?);
    let size = usize::from(layout.bytes());
    let context = if u.arbitrary()? {
        let first: Vec<u8> = u.arbitrary()?;
        Context::of_first_block(&layout, hints, &first[..first.len() / size * size])
    } else {
        None
    };
    let coding = *u.choose(Coding::ALL)?;
    let (coding, records, payload, base) = if u.arbitrary()? {
        mutated(&mut u, &layout, hints, context.as_ref())?
    } else {
        let records = u.int_in_range(1..=MAX_BYTES / size)? as u32;
        let payload = [&records.to_le_bytes(), u.take_rest()].concat();
        let base = vec![0; records as usize * size];
        (coding, records, payload, base)
    };
    let given = Given { context: context.as_ref(), base: Some(&base) };
    let mut block = Block { coding, records, check: 0, payload: &payload };

    let mut first = vec![0; block.records as usize * size];
    let _ = decode_block_into(&layout, given, &block, &mut first);
    // If all that was wrong is the checksum, there is nothing wrong now.
    block.check = xxh3_64(&first);
    let mut second = vec![0xFF; first.len()];
    if decode_block_into(&layout, given, &block, &mut first).is_ok() {
        let again = decode_block_into(&layout, given, &block, &mut second);
        again.expect("a block that decodes does so again");
        assert!(first == second, "a decoded block depends on what the buffer held");
    }
    Ok(())
}

/// A block as the encoder makes it, with some bytes changed, and its base.
fn mutated(
    u: &mut Unstructured,
    layout: &RecordLayout,
    hints: Hints,
    context: Option<&Context>,
) -> Result<(Coding, u32, Vec<u8>, Vec<u8>)> {
    let size = usize::from(layout.bytes());
    let changes: Vec<(u16, u8)> = u.arbitrary()?;
    let times = u.int_in_range(1..=4)?;
    let kept = u.len() / 8;
    let mut data = u.bytes(u.len() - kept)?.repeat(times);
    data.truncate(data.len() / size * size);
    data.resize(data.len().max(size), 0);
    if u.arbitrary()? {
        on_grid(&mut data);
    }
    let mut payload = Vec::new();
    let base = near(u, &data)?;
    let given = Given { context, base: Some(&base) };
    let block = encode_block(layout, given, hints, &data, &mut payload);
    let Block { coding, records, .. } = block.expect("any records can be coded");
    for (at, xor) in changes {
        // Behind the record count, which would only be refused.
        let at = 4 + usize::from(at) % (payload.len() - 4);
        payload[at] ^= xor;
    }
    Ok((coding, records, payload, base))
}
