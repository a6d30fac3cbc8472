//! Palettes, and blocks of which many records are zero, well and badly made.

use super::Vector;
use super::ok::{bell, bf16, compressed, numbers, safetensors};
use super::parts::Parts;
use crate::codec::Coding;
use crate::container::section::{self, Section};
use crate::{Dtype, Kind, Level, Options};

/// Rows of 128 elements.
const ROWS: u64 = 40;
const ROW: usize = 128;
const SHAPE: &[u64] = &[ROWS, ROW as u64];

/// A matrix that was quantised: `code` says what number an element is when it is divided by its scale, which
/// tiles of so many rows and columns have.
fn quantised(
    dtype: Dtype,
    [height, width]: [usize; 2],
    most: f32,
    code: impl Fn(f32) -> f32,
) -> Vec<u8> {
    let elements: Vec<f32> = bell().take(ROWS as usize * ROW).collect();
    let tile = |i: usize| i / ROW / height * ROW + i % ROW / width;
    let mut scales = vec![0f32; elements.len()];
    for (i, element) in elements.iter().enumerate() {
        scales[tile(i)] = scales[tile(i)].max(element.abs() / most);
    }
    let value = |(i, element): (usize, &f32)| {
        let value = code(element / scales[tile(i)]) * scales[tile(i)];
        match dtype {
            Dtype::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
            Dtype::Bf16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        }
    };
    elements.iter().enumerate().flat_map(value).collect()
}

/// The nearest float of so many mantissa bits.
fn short(value: f32, bits: u32) -> f32 {
    let drop = 23 - bits;
    f32::from_bits((value.to_bits() + (1 << (drop - 1))) >> drop << drop)
}

/// Positive integers, but for some.
fn integers() -> Vec<u8> {
    quantised(Dtype::F16, [1, ROW], 7.0, |x| x.round() + 0.0)
}

/// Elements of 16 values, which are others in each row, or the same in all.
fn listed(is_each: bool) -> Vec<u8> {
    let values = bf16(16 * ROWS as usize);
    let place = |(i, n): (usize, u32)| {
        let row = if is_each { i / ROW } else { 0 };
        2 * (16 * row + (n % 4 + (n >> 8) % 4 * (n >> 16) % 4 * 3) as usize % 16)
    };
    let count = ROWS as usize * ROW;
    let places = numbers().take(count).enumerate().map(place);
    places.flat_map(|at| [values[at], values[at + 1]]).collect()
}

/// BF16, of which one in so many is not zero.
fn zeros(one_in: u32) -> Vec<u8> {
    let mut data = bf16(ROWS as usize * ROW);
    let records = data.as_chunks_mut::<2>().0.iter_mut().zip(numbers());
    records.filter(|(_, n)| n % one_in > 0).for_each(|(record, _)| *record = [0; 2]);
    data
}

fn of_level(level: Level, dtype: Dtype, data: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let file = safetensors(&[("x", dtype, SHAPE, data)]);
    (compressed(&file, &Options { threads: 1, level, ..Options::default() }), file)
}

/// The payload of a file's block of a coding.
fn payload_of(coding: Coding, parts: &mut Parts) -> &mut Vec<u8> {
    let is_it = |s: &Section| s.kind == section::BLOCK && s.sub == coding.wire_id();
    &mut parts.sections.iter_mut().find(|(s, _)| is_it(s)).unwrap().1
}

pub(super) fn ok() -> Vec<Vector> {
    use Coding::{Palette, Zeros};
    let vector = |coding, name, shows, level, dtype, data| {
        let (wz, file) = of_level(level, dtype, data);
        payload_of(coding, &mut Parts::of_file(&wz));
        Vector { name, shows, wz, outcome: Ok(file), is_frame: false, bases: &[] }
    };
    let e4m3 = |dtype| quantised(dtype, [16, 64], 448.0, |x| short(x, 3));
    let e5m2 = quantised(Dtype::F32, [1, 32], 57344.0, |x| short(x, 2));
    let mask: Vec<u8> =
        numbers().take(ROWS as usize * ROW).map(|n| u8::from(n < 1 << 28)).collect();
    use Dtype::{Bf16, Bool, F16, F32};
    use Level::{Default, Max};
    vec![
        vector(
            Palette,
            "palette_integers",
            "integers times a scale for each row",
            Default,
            F16,
            integers(),
        ),
        vector(
            Palette,
            "palette_e4m3",
            "F8_E4M3 times a scale for each tile",
            Default,
            Bf16,
            e4m3(Bf16),
        ),
        vector(Palette, "palette_e4m3_max", "the same at level max", Max, F32, e4m3(F32)),
        vector(
            Palette,
            "palette_e5m2",
            "F8_E5M2 times a scale for 32 elements",
            Default,
            F32,
            e5m2,
        ),
        vector(Palette, "palette_listed", "16 values", Default, Bf16, listed(false)),
        vector(
            Palette,
            "palette_listed_rows",
            "16 values for each row",
            Default,
            Bf16,
            listed(true),
        ),
        vector(Zeros, "zeros", "half of the records are zero", Default, Bf16, zeros(2)),
        vector(Zeros, "zeros_max", "most are, at level max", Max, Bf16, zeros(40)),
        vector(Zeros, "zeros_mask", "most of a mask's are", Default, Bool, mask),
    ]
}

/// A file of a tensor in whose block of a coding something is changed.
fn bad(
    coding: Coding,
    data: Vec<u8>,
    name: &'static str,
    shows: &'static str,
    edit: &dyn Fn(&mut Vec<u8>),
) -> Vector {
    let dtype =
        if coding == Coding::Palette && data == integers() { Dtype::F16 } else { Dtype::Bf16 };
    let mut parts = Parts::of_file(&of_level(Level::Default, dtype, data).0);
    edit(payload_of(coding, &mut parts));
    let outcome = Err(Kind::Corruption);
    Vector { name, shows, wz: parts.join(), outcome, is_frame: false, bases: &[] }
}

pub(super) fn errors() -> Vec<Vector> {
    let scaled = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| {
        bad(Coding::Palette, integers(), name, shows, edit)
    };
    let listed = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| {
        bad(Coding::Palette, listed(false), name, shows, edit)
    };
    let zeros =
        |name, shows, edit: &dyn Fn(&mut Vec<u8>)| bad(Coding::Zeros, zeros(2), name, shows, edit);
    // A block within the block, raw; the tables' starts at 16.
    let raw = |records: u32, bytes: &[u8]| [&records.to_le_bytes()[..], &[0; 12], bytes].concat();
    let tables = |p: &mut Vec<u8>, new: Vec<u8>| {
        let len = u32::from_le_bytes([p[12], p[13], p[14], p[15]]) as usize;
        let codes = p.split_off(16 + len.next_multiple_of(16));
        p[5] = Coding::Raw.wire_id();
        p[12..16].copy_from_slice(&(new.len() as u32).to_le_bytes());
        p.truncate(16);
        p.extend(&new);
        p.resize(p.len().next_multiple_of(16), 0);
        p.extend(codes);
    };
    let scale = |bits: u32| raw(ROWS as u32, &bits.to_le_bytes().repeat(ROWS as usize));
    vec![
        scaled("palette_dtype", "codes of another dtype", &|p| p[4] = Dtype::Bf16.wire_id()),
        scaled("palette_zero", "a bit that must be zero", &|p| p[7] = 1),
        scaled("palette_run", "runs of nothing", &|p| p[8..12].fill(0)),
        scaled("palette_run_long", "runs of more elements than there are", &|p| p[10] = 1),
        scaled("palette_tables", "a table less than there are runs", &|p| {
            tables(p, raw(ROWS as u32 - 1, &[0x3C; 4 * (ROWS as usize - 1)]));
        }),
        scaled("palette_scale_zero", "a scale of zero", &|p| tables(p, scale(0))),
        scaled("palette_scale_negative", "a negative scale", &|p| tables(p, scale(0xBC44_9BA6))),
        scaled("palette_scale_infinite", "an infinite scale", &|p| tables(p, scale(0x7F80_0000))),
        scaled("palette_nan", "codes that are no numbers", &|p| {
            p[4] = Dtype::F8E4M3.wire_id();
            p[6] = Coding::Constant.wire_id();
            let len = u32::from_le_bytes([p[12], p[13], p[14], p[15]]) as usize;
            p.truncate(16 + len.next_multiple_of(16));
            p.extend(raw(ROWS as u32 * ROW as u32, &[0x7F]));
        }),
        scaled("palette_nested", "codes of a coding that has blocks within", &|p| {
            p[6] = Coding::Zeros.wire_id();
        }),
        scaled("palette_based", "tables with a base", &|p| p[5] = Coding::Xor.wire_id()),
        scaled("palette_short", "tables behind the end", &|p| p[14] = 0x7F),
        listed("palette_none", "a table of no entries", &|p| {
            p[8..12].copy_from_slice(&[1, 0, 0, 0])
        }),
        listed("palette_missing", "a code that its table doesn't have", &|p| {
            tables(p, raw(2, &[0x3C; 4]));
        }),
        zeros("zeros_places", "places that are zeros themselves", &|p| {
            p[4] = Coding::Zeros.wire_id()
        }),
        zeros("zeros_values", "values that are zeros themselves", &|p| {
            p[5] = Coding::Zeros.wire_id()
        }),
        zeros("zeros_based", "values that need a base", &|p| p[5] = Coding::Xor.wire_id()),
        zeros("zeros_unknown_bits", "unknown bits in the preamble", &|p| p[13] = 1),
    ]
}
