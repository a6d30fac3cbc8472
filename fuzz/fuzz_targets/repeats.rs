//! Tensors that equal an earlier one, or nearly: they are stored once, and all come back.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::Level;
use weightzip_fuzz::arrange::{any_dtype, rest_repeated, safetensors, tensor};
use weightzip_fuzz::repeat_and_restore;

/// Bytes of a tensor that is looked for again, and some more.
const ENOUGH: usize = 40 << 10;

fuzz_target!(|bytes: &[u8]| {
    let _ = run(Unstructured::new(bytes));
});

fn run(mut u: Unstructured) -> Result<()> {
    let (dtype, row) = (any_dtype(&mut u)?, u.int_in_range(1..=1 << 14)?);
    let (level, at) = (*u.choose(Level::ALL)?, u.int_in_range(0..=ENOUGH - 1)?);
    // Which of them have another byte.
    let differ: [bool; 4] = u.arbitrary()?;
    let data = rest_repeated(u)?;
    let data: Vec<u8> = data.iter().copied().cycle().take(ENOUGH).collect();
    let tensors = differ.map(|differs| {
        let mut data = data.clone();
        if let Some(byte) = data.get_mut(at).filter(|_| differs) {
            *byte ^= 1;
        }
        tensor(dtype, row, &data)
    });
    repeat_and_restore(&safetensors(&tensors, ""), level);
    Ok(())
}
