//! Small numbers beside their scales.

use super::Vector;
use super::ok::{compressed, numbers, safetensors};
use super::parts::Parts;
use crate::codec::Coding;
use crate::container::section::{self, Section};
use crate::{Dtype, Kind, Level, Options};
use std::sync::Arc;

/// Bytes of a scale: 16, or 8, two numbers in each; in rows of 32 and 64 scales.
const ROWS: usize = 64;
const ROW: usize = 512;

/// Two numbers in a byte, the smaller the larger their scale, and a scale for `each` bytes.
fn pair(each: usize, scale: impl Fn(u32) -> u8) -> [Vec<u8>; 2] {
    let mut random = numbers();
    let mut below = |n: u32| (random.next().unwrap() >> 8) % n;
    let (mut bytes, mut scales) = (Vec::new(), Vec::new());
    for _ in 0..ROWS * ROW / each {
        let larger = below(4);
        scales.push(scale(larger));
        let mut number = || below(8 - 2 * larger) + below(3) + 3;
        bytes.extend((0..each).map(|_| (number() | number() << 4).to_le_bytes()[0]));
    }
    [bytes, scales]
}

/// MX's numbers before their scales, and NVIDIA's behind them.
fn file() -> Vec<u8> {
    let [mx, exponents] = pair(16, |larger| (120 + larger).to_le_bytes()[0]);
    let [nv, floats] = pair(8, |larger| (0x30 + 6 * larger).to_le_bytes()[0]);
    safetensors(&[
        ("mx_blocks", Dtype::U8, &[64, 32, 16], mx),
        ("mx_scales", Dtype::U8, &[64, 32], exponents),
        ("nv_scale", Dtype::F8E4M3, &[64, 64], floats),
        ("nv", Dtype::F4, &[64, 1024], nv),
    ])
}

fn packed(file: &[u8]) -> Vec<u8> {
    let source: Option<Arc<_>> = Some(Arc::new(file.to_vec()));
    let source = source.map(|source| source as _);
    compressed(file, &Options { threads: 1, level: Level::Max, source, ..Options::default() })
}

pub(super) fn ok() -> Vec<Vector> {
    let file = file();
    vec![Vector {
        name: "scaled",
        shows: "numbers whose scales are tensors behind and before them",
        wz: packed(&file),
        outcome: Ok(file),
        is_frame: false,
        bases: &[],
    }]
}

pub(super) fn errors() -> Vec<Vector> {
    let wz = packed(&file());
    let corrupt = |name, shows, edit: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::of_file(&wz);
        edit(&mut parts);
        let outcome = Err(Kind::Corruption);
        Vector { name, shows, wz: parts.join(), outcome, is_frame: false, bases: &[] }
    };
    let block = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| {
        let is_scaled = |s: &Section| s.kind == section::BLOCK && s.sub == Coding::Scaled.wire_id();
        corrupt(name, shows, &|parts| {
            let (_, payload) = parts.sections.iter_mut().find(|(s, _)| is_scaled(s)).unwrap();
            assert_eq!(payload[4..12], [4, 8, 16, 0, 0, 2, 0, 0]);
            edit(payload);
        })
    };
    // The segment of numbers ends with what its base is: scales, of 16 bytes each.
    let part = |name, shows, edit: &dyn Fn(&mut u8)| {
        corrupt(name, shows, &|parts| {
            let is_of_scales = |(s, p): &&mut (Section, Vec<u8>)| {
                s.kind == section::SEGMENT && p.ends_with(&[1, 16])
            };
            let (_, payload) = parts.sections.iter_mut().find(is_of_scales).unwrap();
            edit(payload.last_mut().unwrap());
        })
    };
    vec![
        block("scaled_width", "numbers of five bits", &|p| p[4] = 5),
        block("scaled_exponent", "scales of nine exponent bits", &|p| p[5] = 9),
        block("scaled_no_exponent", "scales of none", &|p| p[5] = 0),
        block("scaled_run", "scales of no bytes", &|p| p[6] = 0),
        block("scaled_zero", "a bit that must be zero", &|p| p[7] = 1),
        block("scaled_row", "rows of no whole scales", &|p| p[8] = 8),
        block("scaled_count", "another number of symbols", &|p| p[32] ^= 1),
        block("scaled_room", "numbers that their bits have no room for", &|p| {
            p[32 + 4] = p[32 + 4].wrapping_add(16);
        }),
        block("scaled_short", "no symbols", &|p| p.truncate(40)),
        part("scales_none", "scales of no bytes each", &|each| *each = 0),
        part("scales_many", "scales of 65 bytes each", &|each| *each = 65),
        part("scales_part", "a part of a scale", &|each| *each = 12),
        part("scales_outside", "more scales than there are", &|each| *each = 8),
    ]
}
