//! Blocks of *steps* and of *sparse* records, well and badly made.

use super::Vector;
use super::bases::{BASE, ByHand, by_hand};
use crate::Kind;
use crate::codec::Coding;

pub(super) fn ok() -> Vec<Vector> {
    vec![
        by_hand(Coding::Steps).vector("steps", "steps, and elements that are far"),
        sparse(100).vector("sparse", "few records differ, and a gap of more than 254"),
        sparse(200).vector("sparse_few", "values without a base, for there are few"),
    ]
}

pub(super) fn errors() -> Vec<Vector> {
    [step_errors(), sparse_errors()].concat()
}

/// Elements of which one in so many differs from the base, and more at the end.
fn sparse(one_in: usize) -> ByHand {
    let mut file = by_hand(Coding::Sparse);
    for i in 0..file.data.len() / 2 {
        if (i % one_in != 0 || (1000..1800).contains(&i)) && i < 2880 {
            file.data[2 * i..2 * i + 2].copy_from_slice(&file.base[2 * i..2 * i + 2]);
        }
    }
    file.code(Coding::Sparse);
    file
}

/// `file`, edited.
fn broken(
    mut file: ByHand,
    name: &'static str,
    shows: &'static str,
    edit: &dyn Fn(&mut Vec<u8>),
) -> Vector {
    edit(&mut file.payload);
    let (wz, outcome) = (file.to_wz(), Err(Kind::Corruption));
    Vector { name, shows, wz, outcome, is_frame: false, bases: BASE }
}

fn put_u32(payload: &mut [u8], at: usize, edit: impl Fn(u32) -> u32) {
    let to = &mut payload[at..at + 4];
    let n = u32::from_le_bytes(to.try_into().unwrap());
    to.copy_from_slice(&edit(n).to_le_bytes());
}

fn step_errors() -> Vec<Vector> {
    let bad = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| {
        broken(by_hand(Coding::Steps), name, shows, edit)
    };
    // Of the body: how many bytes extra bits take, escapes of the planes, numbers of extra bits.
    let extra = |payload: &[u8]| {
        let widths = u16::from_le_bytes([payload[4], payload[5]]);
        36 + 4 * (0..6).filter(|plane| widths >> (2 * plane) & 3 > 0).count()
    };
    vec![
        bad("steps_widths", "widths behind the last plane", &|p| p[4] &= !3),
        bad("steps_tail", "tail codes of 9 bits", &|p| p[6] = 9),
        bad("steps_fixed", "more fixed bits than are below a rank", &|p| p[8] = 9),
        bad("steps_exponents", "17 numbers of extra bits", &|p| p[10] = 16),
        bad("steps_unknown_bits", "unknown bits in the preamble", &|p| p[11] = 1),
        bad("steps_far_many", "more far elements than elements", &|p| {
            put_u32(p, 12, |_| 2917);
        }),
        bad("steps_far_less", "a far element less than there are", &|p| put_u32(p, 12, |n| n - 1)),
        bad("steps_extra_many", "more bytes of extra bits than elements", &|p| {
            put_u32(p, 32, |_| 2917);
        }),
        bad("steps_extra_less", "a byte less of extra bits", &|p| put_u32(p, 32, |n| n - 1)),
        bad("steps_extra_bits", "8 extra bits", &|p| {
            let at = extra(p);
            p[at] = 8;
        }),
        bad("steps_other_bits", "an exponent with fewer extra bits", &|p| {
            let (at, last) = (extra(p), usize::from(p[10]));
            let most = (at..=at + last).max_by_key(|i| p[*i]).unwrap();
            p[most] -= 1;
        }),
        bad("steps_grow", "more escapes than elements", &|p| put_u32(p, 36, |_| 2917)),
        bad("steps_escapes", "an escape less than there are", &|p| put_u32(p, 36, |n| n - 1)),
        bad("steps_behind", "something behind the last strip", &|p| p.extend([0; 16])),
        bad("steps_cut", "ends within its header", &|p| p.truncate(34)),
    ]
}

fn sparse_errors() -> Vec<Vector> {
    let bad = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| broken(sparse(100), name, shows, edit);
    // Places of few bytes are raw: behind the preamble, the hash and their own preamble.
    const PLACES: usize = 48;
    let mut unknown =
        bad("sparse_unknown_coding", "values in a coding that isn't known", &|p| p[5] = 0xFF);
    unknown.outcome = Err(Kind::Compatibility);
    vec![
        unknown,
        bad("sparse_unknown_bits", "unknown bits in the preamble", &|p| p[13] = 1),
        bad("sparse_places_base", "places that need a base", &|p| p[4] = 0x86),
        bad("sparse_values_sparse", "values that are sparse", &|p| p[5] = 0x89),
        bad("sparse_places_long", "places behind the end", &|p| put_u32(p, 8, |_| 1 << 30)),
        bad("sparse_places_short", "places shorter than a preamble", &|p| put_u32(p, 8, |_| 8)),
        bad("sparse_places_many", "more bytes of places than records", &|p| {
            put_u32(p, 32, |_| 2917);
        }),
        bad("sparse_place_outside", "a place behind the last record", &|p| p[PLACES + 1] += 1),
        bad("sparse_last_goes_on", "places that end with 255", &|p| {
            let places = u32::from_le_bytes(p[8..12].try_into().unwrap()) as usize;
            p[32 + places - 1] = 255;
        }),
        bad("sparse_values_less", "a value less than there are places", &|p| {
            let places = u32::from_le_bytes(p[8..12].try_into().unwrap()) as usize;
            let at = 32 + places.next_multiple_of(16);
            put_u32(p, at, |n| n - 1);
        }),
        bad("sparse_behind", "something behind the values", &|p| p.extend([0, 0])),
        bad("sparse_cut", "ends without values", &|p| {
            let places = u32::from_le_bytes(p[8..12].try_into().unwrap()) as usize;
            p.truncate(32 + places.next_multiple_of(16));
        }),
    ]
}
