//! Floats on a grid, well and badly made.

use super::Vector;
use super::bases::{BASE, by_hand};
use super::ok::{bell, compressed, safetensors};
use super::parts::Parts;
use crate::codec::Coding;
use crate::container::section::{self, Section};
use crate::{Dtype, Kind, Level, Options};

/// Floats that are multiples of 2^-12, but for some that are far away or no number.
fn on_grid(count: usize) -> Vec<f32> {
    let mut floats: Vec<f32> = bell().take(count).map(|w| (w * 4096.0).round() / 4096.0).collect();
    floats[7] = f32::NAN;
    floats[70] = 1e20;
    floats[700] = -0.0;
    floats
}

fn model() -> Vec<u8> {
    let f32s: Vec<u8> = on_grid(3000).into_iter().flat_map(f32::to_le_bytes).collect();
    let coarse = |w: f32| (w * 256.0).round() / 256.0;
    let bf16 = |w| half::bf16::from_f32(coarse(w)).to_le_bytes();
    // Subnormal ones are among them.
    let f16 = |w: f32| half::f16::from_f32((w * 4096.0).round() / 16_777_216.0).to_le_bytes();
    let f64s = on_grid(1500).into_iter().map(|w| f64::from(w) * 2f64.powi(-30));
    safetensors(&[
        ("f32", Dtype::F32, &[60, 50], f32s),
        ("bf16", Dtype::Bf16, &[50, 40], on_grid(2000).into_iter().flat_map(bf16).collect()),
        ("f16", Dtype::F16, &[50, 40], bell().take(2000).flat_map(f16).collect()),
        ("f64", Dtype::F64, &[50, 30], f64s.flat_map(f64::to_le_bytes).collect()),
    ])
}

pub(super) fn ok() -> Vec<Vector> {
    let vector = |name, shows, level| {
        let file = model();
        let wz = compressed(&file, &Options { threads: 1, level, ..Options::default() });
        Vector { name, shows, wz, outcome: Ok(file), is_frame: false, bases: &[] }
    };
    vec![
        vector("fixed", "multiples of powers of two, and some that are not", Level::Default),
        vector("fixed_max", "the same at level max", Level::Max),
        delta().vector("fixed_delta", "multiples of a power of two next to a base that is not"),
    ]
}

/// Multiples of 2^-10, near what the base has.
fn delta() -> super::bases::ByHand {
    let mut file = by_hand(Coding::Difference);
    let round = |bits: &[u8]| {
        let value = half::bf16::from_le_bytes([bits[0], bits[1]]).to_f32();
        half::bf16::from_f32((value * 1024.0).round() / 1024.0).to_le_bytes()
    };
    file.data = file.data.chunks_exact(2).flat_map(round).collect();
    file.code(Coding::FixedDelta);
    file
}

pub(super) fn errors() -> Vec<Vector> {
    let wz = ok().swap_remove(0).wz;
    let bad = |name, shows, kind, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut parts = Parts::of_file(&wz);
        let is_fixed = |s: &Section| s.kind == section::BLOCK && s.sub == Coding::Fixed.wire_id();
        let (_, payload) = parts.sections.iter_mut().find(|(s, _)| is_fixed(s)).unwrap();
        edit(payload);
        let outcome = Err(kind);
        Vector { name, shows, wz: parts.join(), outcome, is_frame: false, bases: &[] }
    };
    let corrupt =
        |name, shows, edit: &dyn Fn(&mut Vec<u8>)| bad(name, shows, Kind::Corruption, edit);
    vec![
        corrupt("fixed_low_bits", "32 low bits in a step", &|p| p[5] = 32),
        corrupt("fixed_grid", "a grid that is finer than every number", &|p| {
            p[6..8].copy_from_slice(&(-150i16).to_le_bytes());
        }),
        corrupt("fixed_far_many", "more far elements than symbols say", &|p| p[8] += 1),
        corrupt("fixed_far_few", "fewer far elements than symbols say", &|p| p[8] -= 1),
        corrupt("fixed_zero", "a bit that must be zero", &|p| p[15] = 1),
        corrupt("fixed_with_base", "symbols that need a base", &|p| {
            p[4] = Coding::Xor.wire_id();
        }),
        corrupt(
            "fixed_within_fixed",
            "symbols that are fixed themselves: deeper than blocks nest",
            &|p| {
                p[4] = Coding::Fixed.wire_id();
            },
        ),
        corrupt("fixed_guess", "symbols that are a guess", &|p| p[4] = Coding::Guess.wire_id()),
        bad("fixed_unknown", "symbols of an unknown coding", Kind::Compatibility, &|p| p[4] = 0xC7),
        {
            let mut file = delta();
            file.payload[20] ^= 1;
            let outcome = Err(Kind::InvalidArgument);
            let (name, shows) = ("fixed_delta_other", "a block with another base's hash");
            Vector { name, shows, wz: file.to_wz(), outcome, is_frame: false, bases: BASE }
        },
    ]
}
