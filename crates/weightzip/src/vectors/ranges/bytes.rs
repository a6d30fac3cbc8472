//! Range-coded bytes (spec: "Bytes") that every decoder must restore or refuse.

use super::File;
use crate::codec::Coding;
use crate::container::table::Entry;
use crate::record::RecordLayout;
use crate::vectors::Vector;
use crate::vectors::ok::{bell, numbers};
use crate::{Dtype, Hints, Level, encode_block};
use weightzip_kernels::strip::packed_len;

/// Where the states start.
fn states(payload: &[u8]) -> usize {
    16 + packed_len(usize::from(payload[5]) + 1, 6)
}

fn count(payload: &[u8]) -> u32 {
    u32::from_le_bytes(payload[8..12].try_into().unwrap())
}

fn of(layout: &RecordLayout, data: Vec<u8>) -> File {
    let (hints, mut payload) = (Hints { level: Level::Max, row: 0 }, Vec::new());
    let block = encode_block(layout, None, hints, &data, &mut payload).unwrap();
    assert_eq!(block.coding, Coding::Bytes);
    let blocks = vec![(Entry::of(&block).unwrap(), block.payload.to_vec())];
    File { layout: layout.clone(), row: 0, contexts: Vec::new(), blocks, data }
}

/// Integers of both signs, most of them zero and some large.
fn integers() -> Vec<u8> {
    let of = |(i, v): (usize, f32)| if i % 2500 == 77 { 60 } else { (v * 60.0) as i8 };
    bell().take(6500).enumerate().map(of).map(i8::cast_unsigned).collect()
}

pub(in crate::vectors) fn ok() -> Vec<Vector> {
    let skewed = numbers().take(6000).map(|n| 7 + u8::from(n.is_multiple_of(8))).collect();
    let opaque = RecordLayout::opaque();
    let restored = |file: File, name, shows, shown: &dyn Fn(&[u8]) -> bool| {
        assert!(shown(&file.blocks[0].1), "{name}");
        Vector {
            name,
            shows,
            wz: file.to_wz(),
            outcome: Ok(file.data),
            is_frame: false,
            bases: &[],
        }
    };
    let i8s = Dtype::I8.record_layout();
    vec![
        restored(of(&i8s, integers()), "bytes", "8-bit integers, some escape", &|p| count(p) > 0),
        restored(of(&opaque, skewed), "bytes_few_values", "opaque bytes, none escapes", &|p| {
            p[6] == 0 && count(p) == 0
        }),
    ]
}

pub(in crate::vectors) fn errors() -> Vec<Vector> {
    let plain = of(&Dtype::I8.record_layout(), integers());
    let refused = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut file = plain.clone();
        edit(&mut file.blocks[0].1);
        file.corrupt(name, shows)
    };
    let states = states(&plain.blocks[0].1);
    let mut wide = plain.clone();
    wide.layout = Dtype::I16.record_layout();
    wide.data.extend_from_within(..);
    vec![
        refused("bytes_unknown", "unknown bits in the preamble of bytes", &|p| p[7] = 1),
        refused("bytes_escape_width", "escape codes of 9 bits", &|p| p[6] = 9),
        refused("bytes_escape_count", "more escapes than bytes", &|p| p[9] = 0x1A),
        refused("bytes_unknown_end", "unknown bits at the end of the preamble", &|p| p[15] = 1),
        refused("bytes_short", "no more than a preamble and the beginning of its weights", &|p| {
            p.truncate(20)
        }),
        refused("bytes_few_words", "a word too few", &|p| p.truncate(p.len() - 2)),
        refused("bytes_many_words", "a word too many", &|p| p.extend([0, 0])),
        refused("bytes_end", "a state that ends elsewhere", &|p| p[states + 7] ^= 0x40),
        refused("bytes_few_escapes", "too few escapes", &|p| p[8] -= 1),
        refused("bytes_many_escapes", "too many escapes", &|p| p[8] += 1),
        wide.corrupt("bytes_of_two", "records of two bytes"),
    ]
}
