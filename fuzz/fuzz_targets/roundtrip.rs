//! Any bytes as records of any layout, in blocks of any size, and as files: all come back.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::{
    Context, Given, Hints, Level, RecordLayout, decode_block_into, encode_block,
};
use weightzip_fuzz::arrange::{
    any_dtype, any_hints, any_layout, near, on_grid, rest_repeated, safetensors, tensor,
};
use weightzip_fuzz::compress_and_restore;

/// Blocks that are coded of one input.
const MAX_BLOCKS: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let _ = run(Unstructured::new(bytes));
});

fn run(mut u: Unstructured) -> Result<()> {
    match u.int_in_range(0..=2)? {
        0 => {
            let (layout, hints) = (any_layout(&mut u)?, any_hints(&mut u)?);
            let shared = u.arbitrary()?;
            let block = u.int_in_range(1..=usize::from(u16::MAX))?;
            let (with_base, mut steps) =
                (u.arbitrary::<bool>()?, Unstructured::new(u.bytes(u.len() / 8)?));
            let fixed = u.arbitrary()?;
            let mut data = rest_repeated(u)?;
            if fixed {
                on_grid(&mut data);
            }
            let base = near(&mut steps, &data)?;
            blocks(&layout, hints, shared, block, &data, with_base.then_some(&base));
        }
        1 => {
            let (dtype, row) = (any_dtype(&mut u)?, u.int_in_range(1..=1 << 18)?);
            let level = *u.choose(Level::ALL)?;
            let data = rest_repeated(u)?;
            compress_and_restore(&safetensors(&[tensor(dtype, row, &data)], ""), level);
        }
        _ => {
            compress_and_restore(&rest_repeated(u)?, Level::Default);
        }
    }
    Ok(())
}

/// Codes `data` in blocks of `records`, against a base or not, and decodes each into two buffers with different contents.
fn blocks(
    layout: &RecordLayout,
    hints: Hints,
    shared: bool,
    records: usize,
    data: &[u8],
    base: Option<&Vec<u8>>,
) {
    let size = usize::from(layout.bytes());
    let data = &data[..data.len() / size * size];
    let mut chunks = data.chunks(records * size).take(MAX_BLOCKS).peekable();
    let first = chunks.peek().filter(|_| shared);
    let context = first.and_then(|first| Context::of_first_block(layout, hints, first));
    let mut at = 0;
    for chunk in chunks {
        let base = base.map(|base| &base[at..at + chunk.len()]);
        at += chunk.len();
        let (given, mut payload) = (Given { context: context.as_ref(), base }, Vec::new());
        let block = encode_block(layout, given, hints, chunk, &mut payload);
        let block = block.expect("records can be coded");
        assert!(block.payload.len() <= chunk.len() + 16, "a block grew by more than its preamble");
        for fill in [0, 0xFF] {
            let mut out = vec![fill; chunk.len()];
            let decoded = decode_block_into(layout, given, &block, &mut out);
            decoded.expect("own blocks decode");
            assert!(out == chunk, "a {} block decodes to other bytes", block.coding.name());
        }
    }
}
