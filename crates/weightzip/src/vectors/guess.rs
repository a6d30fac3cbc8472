//! Opaque bytes with floats in them, well and badly made.

use super::Vector;
use super::ok::{bell, bf16, compressed};
use super::parts::Parts;
use crate::codec::Coding;
use crate::container::section::{self, Section};
use crate::{Dtype, Kind, Level, Options};

/// A word, then BF16 numbers, and half a one.
fn dump() -> Vec<u8> {
    [b"begin", &bf16(3000)[..], b"!"].concat()
}

fn wz(level: Level) -> Vec<u8> {
    coded(&dump(), level)
}

fn coded(dump: &[u8], level: Level) -> Vec<u8> {
    compressed(dump, &Options { threads: 1, level, ..Options::default() })
}

/// Numbers of which two thirds are zero, and the others multiples of 2^-11.
fn pruned() -> Vec<u8> {
    let coarse = |w: f32| (w * 2048.0).round() / 2048.0;
    let weights = bell().take(6000).map(|w| if w.abs() < 0.03 { 0.0 } else { coarse(w) });
    weights.flat_map(f32::to_le_bytes).collect()
}

/// [`pruned`] numbers, whose payload an edit changes: that of *guess*, with that of *zeros* from byte 16 on.
fn nested(edit: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut parts = Parts::of_file(&coded(&pruned(), Level::Default));
    let (section, payload) = parts.nth(section::BLOCK, 0);
    let ids = |codings: [Coding; 4]| codings.map(Coding::wire_id);
    let places = u32::from_le_bytes(*payload[24..].first_chunk().unwrap()) as usize;
    let values = 32 + places.next_multiple_of(16);
    assert_eq!(
        [section.sub, payload[4], payload[21], payload[values + 4]],
        ids([Coding::Guess, Coding::Zeros, Coding::Fixed, Coding::Ranks])
    );
    edit(payload);
    parts.join()
}

pub(super) fn ok() -> Vec<Vector> {
    let vector = |name, shows, level| {
        let outcome = Ok(dump());
        Vector { name, shows, wz: wz(level), outcome, is_frame: false, bases: &[] }
    };
    vec![
        vector("guess", "opaque bytes that look like floats", Level::Default),
        vector("guess_max", "the same at level max", Level::Max),
        Vector {
            name: "nested",
            shows: "blocks within blocks, four deep",
            wz: nested(&|_| {}),
            outcome: Ok(pruned()),
            is_frame: false,
            bases: &[],
        },
    ]
}

pub(super) fn errors() -> Vec<Vector> {
    let wz = wz(Level::Default);
    let bad = |name, shows, kind, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut parts = Parts::of_file(&wz);
        let is_guess = |s: &Section| s.kind == section::BLOCK && s.sub == Coding::Guess.wire_id();
        let (_, payload) = parts.sections.iter_mut().find(|(s, _)| is_guess(s)).unwrap();
        // One byte before the floats, one behind.
        assert_eq!(payload[5..7], [Dtype::Bf16.wire_id(), 1]);
        edit(payload);
        let outcome = Err(kind);
        Vector { name, shows, wz: parts.join(), outcome, is_frame: false, bases: &[] }
    };
    let corrupt =
        |name, shows, edit: &dyn Fn(&mut Vec<u8>)| bad(name, shows, Kind::Corruption, edit);
    let values = |name, shows, coding: Coding| {
        let wz = nested(&|p| p[21] = coding.wire_id());
        let outcome = Err(Kind::Corruption);
        Vector { name, shows, wz, outcome, is_frame: false, bases: &[] }
    };
    vec![
        values("nested_deeper", "zeros within zeros: deeper than blocks nest", Coding::Zeros),
        values("nested_fields", "fields within zeros, where none can be", Coding::Fields),
        corrupt("guess_dtype", "a guess of other numbers", &|p| p[5] = Dtype::U8.wire_id()),
        corrupt("guess_head", "more bytes before the first float than it has", &|p| p[6] = 2),
        corrupt("guess_zero", "a bit that must be zero", &|p| p[7] = 1),
        corrupt("guess_padding", "padding that is not zero", &|p| p[16 + 3] = 1),
        corrupt("guess_based", "floats that need a base", &|p| p[4] = Coding::Xor.wire_id()),
        corrupt("guess_nested", "a guess within a guess", &|p| p[4] = Coding::Guess.wire_id()),
        corrupt("guess_count", "another number of floats", &|p| p[32] += 1),
        bad("guess_unknown", "floats of an unknown coding", Kind::Compatibility, &|p| p[4] = 0xC7),
    ]
}
