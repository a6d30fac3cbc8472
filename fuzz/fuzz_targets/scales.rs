//! Small numbers beside scales of any kind, before or behind them: all come back.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::{Dtype, Level};
use weightzip_fuzz::arrange::{Tensor, named, rest_repeated};
use weightzip_fuzz::repeat_and_restore;

/// Bytes of numbers whose scales are looked for, and some more.
const ENOUGH: usize = 40 << 10;

fuzz_target!(|bytes: &[u8]| {
    let _ = run(Unstructured::new(bytes));
});

fn run(mut u: Unstructured) -> Result<()> {
    let of_numbers = *u.choose(&[Dtype::U8, Dtype::F4, Dtype::F8E4M3, Dtype::I8])?;
    let of_scales = *u.choose(&[Dtype::U8, Dtype::F8E8M0, Dtype::F8E4M3])?;
    let (each, in_row) = (*u.choose(&[8, 16, 32, 64])?, u.int_in_range(1..=200)?);
    let (behind, kinds) = (u.arbitrary()?, u.int_in_range(1..=u8::MAX)?);
    let data = rest_repeated(u)?;
    let row = each * in_row;
    let rows = ENOUGH.div_ceil(row);
    let bytes = |len: usize| data.iter().copied().cycle().take(len).collect::<Vec<u8>>();
    let in_byte = of_numbers.block().0 as usize;
    let shape = |columns: usize| vec![rows as u64, columns as u64];
    let numbers: Tensor = (of_numbers, shape(row * in_byte), bytes(rows * row));
    let scales = bytes(rows * in_row).iter().map(|byte| byte % kinds).collect();
    let scales: Tensor = (of_scales, shape(in_row), scales);
    let mut tensors = [("w", numbers), ("w_scale", scales)];
    if behind {
        tensors.reverse();
    }
    repeat_and_restore(&named(&tensors, ""), Level::Max);
    Ok(())
}
