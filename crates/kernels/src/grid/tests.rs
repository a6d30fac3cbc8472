//! Each level against the definition, and against numbers that are rounded.

use super::formats::{as_f32, as_f64};
use super::*;
use crate::GROUP;
use crate::level::{Level, at_each_level};
use crate::round::{Step, round};
use crate::strip::packed_len;

const FORMATS: [(usize, u32); 4] = [(2, 5), (2, 8), (4, 8), (8, 11)];

fn float((bytes, exponent_bits): (usize, u32)) -> Float {
    Float { bytes, exponent_bits, top_bits: 0, big_endian: false }
}

/// Takes apart and puts together again, at this level and without SIMD.
fn check(level: Level, float: Float, grid: Grid, base: &[u8], data: &[u8]) -> usize {
    let count = data.len() / float.bytes;
    let parts = |level| {
        let mut symbols = vec![0x55; count.next_multiple_of(GROUP)];
        let mut packed = vec![0x55; packed_len(count, grid.low)];
        let far = split(level, float, grid, base, data, &mut symbols, &mut packed);
        (symbols, packed, far)
    };
    let (symbols, packed, far) = parts(level);
    let scalar = parts(Level::Scalar);
    assert!(symbols == scalar.0 && packed == scalar.1 && far == scalar.2);
    let mut out = vec![0x55; data.len()];
    merge(level, float, grid, base, &symbols, &packed, &mut out);
    let elements = data.chunks(float.bytes).zip(out.chunks(float.bytes));
    for ((old, new), symbol) in elements.zip(&symbols) {
        assert!(*symbol == FAR || old == new, "{float:?} {grid:?}: {old:?} became {new:?}");
    }
    assert_eq!(symbols.iter().filter(|symbol| **symbol == FAR).count(), far);
    far
}

fn what_is_on_the_grid_comes_back(level: Level) {
    arbtest::arbtest(|u| {
        let float = float(*u.choose(&FORMATS)?);
        let count = u.int_in_range(1..=300)?;
        let mut bytes = || {
            let mut data = vec![0; count * float.bytes];
            u.fill_buffer(&mut data)?;
            // Numbers of a size, mostly.
            let near = u.int_in_range(-12..=12)? + if float.bytes == 8 { 0x3FE } else { 0x7E };
            if float.exponent_bits > 5 {
                for (i, x) in
                    data.chunks_exact_mut(float.bytes).enumerate().filter(|(i, _)| i % 9 > 0)
                {
                    let exponent = near + (i % 7) as i32;
                    let top = exponent << (15 - float.exponent_bits) | i32::from(x[0] & 1) << 15;
                    x[float.bytes - 2] = top.to_le_bytes()[0] | x[0] & 0xF;
                    x[float.bytes - 1] = top.to_le_bytes()[1];
                }
            }
            Ok::<_, arbtest::arbitrary::Error>(data)
        };
        let (mut data, base) = (bytes()?, bytes()?);
        let powers = powers(float);
        let power = match u.arbitrary()? {
            true => u.int_in_range(-30..=12)?.clamp(*powers.start(), *powers.end()),
            false => u.int_in_range(powers)?,
        };
        let grid = Grid { power, low: u.int_in_range(0..=enough_low(float))? };
        round(Level::Scalar, float, Step::Absolute(power), &mut data);
        let base = if u.arbitrary()? { &base[..] } else { &[] };
        check(level, float, grid, base, &data);
        assert_eq!(finest(level, float, &data), finest(Level::Scalar, float, &data));
        assert!(
            finest(level, float, &data)
                .is_none_or(|finest| finest >= power || has_large(float, &data))
        );
        Ok(())
    });
}

/// Whether there is a number that rounding may have left as it was.
fn has_large(float: Float, data: &[u8]) -> bool {
    let last = (1 << float.exponent_bits) - 2;
    (0..data.len() / float.bytes).any(|i| float.exponent(data, i) >= last)
}

fn every_f16_and_bf16_comes_back(level: Level) {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for format in [(2, 5), (2, 8)] {
        let float = float(format);
        for power in (-24..=6).step_by(3) {
            let (mut data, low) = (all.clone(), 24);
            round(level, float, Step::Absolute(power), &mut data);
            let far = check(level, float, Grid { power, low }, &[], &data);
            let value = |bits: [u8; 2]| match format.1 {
                5 => half::f16::from_le_bytes(bits).to_f64(),
                _ => half::bf16::from_le_bytes(bits).to_f64(),
            };
            // What would have become infinite was not rounded.
            let (step, limit) = (2f64.powi(power), 2f64.powi(30 + power));
            let values = data.as_chunks().0.iter().map(|bits| value(*bits));
            assert_eq!(
                far,
                values.filter(|x| x.is_nan() || x.abs() >= limit || x % step != 0.0).count()
            );
        }
    }
}

/// As the spec has it: whatever symbols and strips say, each level makes the same of it.
fn any_parts_give_the_same_elements(level: Level) {
    arbtest::arbtest(|u| {
        let float = float(*u.choose(&FORMATS)?);
        let count = u.int_in_range(1usize..=300)?;
        let low = u.int_in_range(0..=most_low(float))?;
        let grid = Grid { power: u.int_in_range(powers(float))?, low };
        let mut symbols = vec![0; count.next_multiple_of(GROUP)];
        let mut packed = vec![0; packed_len(count, low)];
        let mut base = vec![0; count * float.bytes];
        u.fill_buffer(&mut symbols)?;
        u.fill_buffer(&mut packed)?;
        u.fill_buffer(&mut base)?;
        let base = if u.arbitrary()? { &base[..] } else { &[] };
        let merged = |level| {
            let mut out = vec![0x55; count * float.bytes];
            merge(level, float, grid, base, &symbols, &packed, &mut out);
            out
        };
        assert!(merged(level) == merged(Level::Scalar));
        Ok(())
    });
}

at_each_level!(
    what_is_on_the_grid_comes_back,
    every_f16_and_bf16_comes_back,
    any_parts_give_the_same_elements,
);

#[test]
fn floats_of_integers_are_found_without_rounding() {
    let found = |steps: u32| {
        let top = steps.checked_ilog2().unwrap_or(0);
        let mantissa = (steps << (31 - top) << 1) >> 9;
        if steps == 0 { 0 } else { (127 + top) << 23 | mantissa }
    };
    // All that a float holds, and of each larger size some with all bits set or few.
    let large = (24..31).flat_map(|top| {
        (0..=24).flat_map(move |bit| [1u32 << top | 1 << bit, (2u32 << top) - 1 - (1 << bit)])
    });
    for steps in (0..1 << 24).chain(large).chain([i32::MAX.cast_unsigned()]) {
        assert_eq!(as_f32(steps), found(steps), "{steps}");
    }
    for steps in [0, 1, 2, 3, 5 << 40, (1 << 53) - 1, 1 << 62] {
        assert_eq!(as_f64(steps), (steps as f64).to_bits());
    }
    assert_eq!(as_f64((1 << 54) - 1), (((1u64 << 53) - 1) as f64 * 2.0).to_bits());
}

#[test]
fn places_are_as_the_spec_says() {
    let floats = [0.0f32, -0.0, 0.25, -0.25, 0.5, 0.75, 1e9, f32::NAN];
    let data: Vec<u8> = floats.into_iter().flat_map(f32::to_le_bytes).collect();
    let (mut symbols, grid) = ([9; GROUP], Grid { power: -2, low: 0 });
    let far = split(Level::Scalar, float((4, 8)), grid, &[], &data, &mut symbols, &mut []);
    assert_eq!((&symbols[..10], far), (&[0, 1, 2, 3, 4, 6, FAR, FAR, 0, 0][..], 2));
    assert_eq!(finest(Level::Scalar, float((4, 8)), &data), Some(-2));
}
