//! Small numbers (spec: "Record layout"): numbers of 1, 2, 4 or 8 bits that lie in runs of bytes, and the same as a byte
//! each. The numbers of a run are the lowest bits of each of its bytes, then the bits above these, and so on.

use crate::simd::{Simd, kernel};

kernel! {
    /// Adds the numbers of `width` bits in `packed`, in runs of so many bytes, to `numbers`: `shift` bits up,
    /// where there must be zeros. What is left of a run at the end is left out.
    pub fn spread(run: usize, width: u32, shift: u32, packed: &[u8], numbers: &mut [u8]) = spread_at
}

#[inline(always)]
fn spread_at<S: Simd>(
    _simd: S,
    run: usize,
    width: u32,
    shift: u32,
    packed: &[u8],
    numbers: &mut [u8],
) {
    match (run, width) {
        (1, 1) => spread_runs::<1, 1>(shift, packed, numbers),
        (1, 4) => {
            for (two, byte) in numbers.as_chunks_mut().0.iter_mut().zip(packed) {
                let [low, high] = two;
                *low |= (byte & 15) << shift;
                *high |= (byte >> 4) << shift;
            }
        }
        (16, 4) => spread_runs::<16, 4>(shift, packed, numbers),
        (32, 1) => spread_runs::<32, 1>(shift, packed, numbers),
        (32, 2) => spread_runs::<32, 2>(shift, packed, numbers),
        (32, 4) => spread_runs::<32, 4>(shift, packed, numbers),
        (64, 4) => spread_runs::<64, 4>(shift, packed, numbers),
        (1, 8) if shift == 0 => numbers.iter_mut().zip(packed).for_each(|(n, byte)| *n |= byte),
        _ => {
            let numbers = numbers.chunks_exact_mut(run * (8 / width as usize));
            for (bytes, numbers) in packed.chunks_exact(run).zip(numbers) {
                spread_run(width, shift, bytes, numbers);
            }
        }
    }
}

/// The compiler finds the instructions for a run that it knows.
#[inline(always)]
fn spread_runs<const RUN: usize, const WIDTH: u32>(shift: u32, packed: &[u8], numbers: &mut [u8]) {
    let numbers = numbers.chunks_exact_mut(RUN * (8 / WIDTH as usize));
    for (bytes, numbers) in packed.as_chunks::<RUN>().0.iter().zip(numbers) {
        spread_run(WIDTH, shift, bytes, numbers);
    }
}

#[inline(always)]
fn spread_run(width: u32, shift: u32, bytes: &[u8], numbers: &mut [u8]) {
    let mask = u8::MAX >> (8 - width);
    for (low, numbers) in (0..).step_by(width as usize).zip(numbers.chunks_exact_mut(bytes.len())) {
        for (number, byte) in numbers.iter_mut().zip(bytes) {
            *number |= (byte >> low & mask) << shift;
        }
    }
}

kernel! {
    /// Undoes [`spread`]: packs `width` bits of the numbers, from bit `shift` on.
    pub fn collect(run: usize, width: u32, shift: u32, numbers: &[u8], packed: &mut [u8]) = collect_at
}

#[inline(always)]
fn collect_at<S: Simd>(
    _simd: S,
    run: usize,
    width: u32,
    shift: u32,
    numbers: &[u8],
    packed: &mut [u8],
) {
    match (run, width) {
        (1, 1) => collect_runs::<1, 1>(shift, numbers, packed),
        (1, 4) => {
            for (byte, [low, high]) in packed.iter_mut().zip(numbers.as_chunks().0) {
                *byte = low >> shift & 15 | (high >> shift & 15) << 4;
            }
        }
        (16, 4) => collect_runs::<16, 4>(shift, numbers, packed),
        (32, 1) => collect_runs::<32, 1>(shift, numbers, packed),
        (32, 2) => collect_runs::<32, 2>(shift, numbers, packed),
        (32, 4) => collect_runs::<32, 4>(shift, numbers, packed),
        (64, 4) => collect_runs::<64, 4>(shift, numbers, packed),
        (1, 8) if shift == 0 => packed.iter_mut().zip(numbers).for_each(|(byte, n)| *byte = *n),
        _ => {
            let numbers = numbers.chunks_exact(run * (8 / width as usize));
            for (bytes, numbers) in packed.chunks_exact_mut(run).zip(numbers) {
                collect_run(width, shift, numbers, bytes);
            }
        }
    }
}

#[inline(always)]
fn collect_runs<const RUN: usize, const WIDTH: u32>(shift: u32, numbers: &[u8], packed: &mut [u8]) {
    let numbers = numbers.chunks_exact(RUN * (8 / WIDTH as usize));
    for (bytes, numbers) in packed.as_chunks_mut::<RUN>().0.iter_mut().zip(numbers) {
        collect_run(WIDTH, shift, numbers, bytes);
    }
}

#[inline(always)]
fn collect_run(width: u32, shift: u32, numbers: &[u8], bytes: &mut [u8]) {
    let mask = u8::MAX >> (8 - width);
    bytes.fill(0);
    for (low, numbers) in (0..).step_by(width as usize).zip(numbers.chunks_exact(bytes.len())) {
        for (byte, number) in bytes.iter_mut().zip(numbers) {
            *byte |= (number >> shift & mask) << low;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, at_each_level};

    fn numbers_come_back_and_are_in_order(level: Level) {
        arbtest::arbtest(|u| {
            let width = *u.choose(&[1, 2, 4, 8])?;
            let run = *u.choose(&[1, 2, 8, 16, 32, 64])?;
            let shift = u.int_in_range(0..=8 - width)?;
            let (each, runs) = (8 / width as usize, u.int_in_range(0..=9usize)?);
            let mut packed = vec![0; run * runs];
            u.fill_buffer(&mut packed)?;
            let mut numbers = vec![0; packed.len() * each];
            spread(level, run, width, shift, &packed, &mut numbers);
            for (i, &number) in numbers.iter().enumerate() {
                let (of_run, place) = (i / (run * each), i % (run * each));
                let byte = packed[of_run * run + place % run];
                let low = (place / run) as u32 * width;
                assert_eq!(number, (byte >> low & u8::MAX >> (8 - width)) << shift);
            }
            // Other bits beside them are left alone, and don't get in.
            let mut others = vec![0; numbers.len()];
            u.fill_buffer(&mut others)?;
            let mask = (u8::MAX >> (8 - width)) << shift;
            let with: Vec<u8> = numbers.iter().zip(&others).map(|(n, o)| n | o & !mask).collect();
            let mut back = vec![0x55; packed.len()];
            collect(level, run, width, shift, &with, &mut back);
            assert_eq!(back, packed);
            Ok(())
        });
    }

    at_each_level!(numbers_come_back_and_are_in_order);
}
