//! Packed integers (spec: "Packed") that every decoder must restore or refuse.

use super::File;
use crate::codec::Coding;
use crate::container::table::Entry;
use crate::vectors::Vector;
use crate::vectors::ok::{bell, numbers};
use crate::{Dtype, Hints, Level, encode_block};
use weightzip_kernels::strip::packed_len;

/// Words in rows of so many, their integers around a number that is the channel's, or that of a lane's group.
fn words(row: usize, rows: usize, across: bool) -> Vec<u8> {
    let (mut values, random): (_, Vec<u32>) = (bell(), numbers().take(9999).collect());
    let integer = |word: usize, place: usize, value: f32| {
        let (channel, lane) = match across {
            true => (word / row, place * row + word % row),
            false => (word / row * 8 + place, word % row),
        };
        let of_group = random[(lane * 31 + channel / 32) % random.len()] >> 16;
        let of_channel = random[channel + 5000] >> 16;
        let size = 40.0 + 10.0 * (of_group % 4) as f32 + 10.0 * (of_channel % 3) as f32;
        let around = if across { of_group % 9 } else { 2 + of_channel % 5 };
        (value * size + 4.0 + around as f32).round().clamp(0.0, 15.0) as u32
    };
    let mut word = |word: usize| {
        (0..8).fold(0, |bits, place| {
            bits | integer(word, place, values.next().unwrap_or(0.0)) << (4 * place)
        })
    };
    (0..row * rows).flat_map(|n| word(n).to_le_bytes()).collect()
}

fn of(row: usize, data: Vec<u8>) -> File {
    let (layout, mut payload) = (Dtype::I32.record_layout(), Vec::new());
    let hints = Hints { level: Level::Default, row };
    let block = encode_block(&layout, None, hints, &data, &mut payload).unwrap();
    assert_eq!(block.coding, Coding::Packed);
    let blocks = vec![(Entry::of(&block).unwrap(), block.payload.to_vec())];
    File { layout, row: row as u64, contexts: Vec::new(), blocks, data }
}

pub(in crate::vectors) fn ok() -> Vec<Vector> {
    let restored = |file: File, name, shows, shown: &dyn Fn(&[u8]) -> bool| {
        assert!(shown(&file.blocks[0].1), "{name}: {:?}", &file.blocks[0].1[..32]);
        Vector {
            name,
            shows,
            wz: file.to_wz(),
            outcome: Ok(file.data),
            is_frame: false,
            bases: &[],
        }
    };
    let shows_lanes = "integers of four bits whose lanes lean, in rows that don't fill groups";
    vec![
        restored(
            of(64, words(64, 72, false)),
            "packed",
            "integers of four bits, some channels mirrored",
            &|p| p[7] == 0 && p[12] == 4,
        ),
        restored(of(72, words(72, 64, true)), "packed_across", shows_lanes, &|p| p[7] == 3),
    ]
}

pub(in crate::vectors) fn errors() -> Vec<Vector> {
    let plain = of(64, words(64, 72, false));
    let refused = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut file = plain.clone();
        edit(&mut file.blocks[0].1);
        file.corrupt(name, shows)
    };
    let tables = 1 + plain.blocks[0].1[16..22].iter().filter(|bound| **bound < 255).count();
    let used = usize::from(plain.blocks[0].1[13]) + 1;
    let states = 32 + packed_len(72 * 8, 4) + packed_len(used * tables, 6);
    let mut wide = plain.clone();
    wide.layout = Dtype::I64.record_layout();
    wide.data.extend_from_within(..);
    vec![
        refused("packed_unknown", "unknown bits in the preamble of packed integers", &|p| {
            p[15] = 1
        }),
        refused("packed_flags", "unknown flags", &|p| p[7] |= 4),
        refused("packed_row_short", "rows of 31 words", &|p| p[4] = 31),
        refused("packed_row_long", "a row of more words than there are", &|p| p[6] = 1),
        refused("packed_group_none", "groups of no channels", &|p| p[8..10].fill(0)),
        refused("packed_group_long", "groups of more than 1024 channels", &|p| {
            p[8..10].copy_from_slice(&[1, 4]);
        }),
        refused("packed_centre", "a centre that no integer reaches", &|p| p[10] = 31),
        refused("packed_code_width", "codes of 5 bits", &|p| p[12] = 5),
        refused("packed_symbols", "a symbol that is no integer of four bits", &|p| p[13] = 16),
        refused("packed_bounds", "bounds that descend", &|p| p[16] = 254),
        refused("packed_padding", "unknown bits behind its bounds", &|p| p[31] = 1),
        refused("packed_short", "codes that go on behind the end", &|p| p.truncate(40)),
        refused("packed_few_words", "a word too few", &|p| p.truncate(p.len() - 2)),
        refused("packed_many_words", "a word too many", &|p| p.extend([0, 0])),
        refused("packed_end", "a state that ends elsewhere", &|p| p[states + 7] ^= 0x40),
        wide.corrupt("packed_of_eight", "records of eight bytes"),
    ]
}
