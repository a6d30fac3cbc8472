//! Blocks of quantised numbers, well and badly made.

use super::Vector;
use super::ok::{compressed, numbers};
use super::parts::Parts;
use crate::codec::Coding;
use crate::container::section::{self, Section};
use crate::{Dtype, Kind, Level, Options};

/// A GGUF file of one tensor of each of these dtypes, with `rows` of `row` blocks.
fn gguf(rows: u64, row: u64, dtypes: &[Dtype]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((dtypes.len() as u64).to_le_bytes());
    file.extend(0u64.to_le_bytes());
    let (mut data, mut numbers) = (Vec::new(), numbers());
    for dtype in dtypes {
        let name = dtype.name();
        file.extend((name.len() as u64).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(2u32.to_le_bytes());
        let (elements, bytes) = dtype.block();
        file.extend([row * elements, rows].into_iter().flat_map(u64::to_le_bytes));
        file.extend((u32::from(dtype.wire_id()) - 64).to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        let layout = dtype.record_layout();
        for block in 0..rows * row {
            let start = data.len();
            // Half of the blocks have larger numbers, and smaller scales.
            let wide = block.is_multiple_of(2);
            for field in layout.fields() {
                let many = usize::from(field.count) * usize::from(field.width) / 8;
                let small = |n: u32| ((n >> 8) % 16 + (n >> 16) % 16) / if wide { 2 } else { 6 };
                let byte = |n: u32| (small(n) | small(n >> 4) << 4).to_le_bytes()[0];
                match many {
                    // A second float, the minimum, goes with the scale: larger, and negative.
                    2 => {
                        let random = numbers.next().unwrap().to_le_bytes()[3];
                        let top = 0x20 - u8::from(wide);
                        match data.get(start).copied() {
                            Some(scale) => data.extend([scale ^ random >> 5, top + 0x8C]),
                            None => data.extend([random, top]),
                        }
                    }
                    _ => data.extend(numbers.by_ref().take(many).map(byte)),
                }
            }
            assert_eq!(data.len() - start, bytes as usize);
        }
        data.resize(data.len().next_multiple_of(32), 0);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    [file, data].concat()
}

/// The same of Q4_1, whose numbers have one that is 0 and one that is 15 in each block, nearly.
fn with_peaks() -> Vec<u8> {
    let mut file = gguf(64, 30, &[Dtype::Q4_1]);
    let (_, size) = Dtype::Q4_1.block();
    let start = file.len() - (64 * 30 * size).next_multiple_of(32) as usize;
    let mut random = numbers();
    let mut below = |n: u32| (random.next().unwrap() >> 8) % n;
    for block in file[start..].chunks_exact_mut(size as usize) {
        let numbers = &mut block[4..];
        let mut number = || 1 + below(7) + below(8);
        numbers.fill_with(|| (number() + 16 * number()).to_le_bytes()[0]);
        let (low, high) = (below(16) as usize, below(16) as usize);
        numbers[low] &= 0xF0;
        if low != high {
            numbers[high] |= 0xF0;
        }
    }
    file
}

pub(super) fn ok() -> Vec<Vector> {
    use Dtype::{Mxfp4, Nvfp4, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5K, Q6K, Q8_0};
    let small = gguf(30, 10, &[Q4_0, Q4_1, Q5_0, Q8_0, Mxfp4, Nvfp4]);
    let large = gguf(7, 6, &[Q2K, Q3K, Q4K, Q5K, Q6K]);
    let vector = |name, shows, file: &Vec<u8>, level| {
        let wz = compressed(file, &Options { threads: 1, level, ..Options::default() });
        Vector { name, shows, wz, outcome: Ok(file.clone()), is_frame: false, bases: &[] }
    };
    vec![
        vector("fields", "blocks of quantised numbers, by field", &small, Level::Default),
        vector("fields_max", "their numbers as symbols", &small, Level::Max),
        vector(
            "fields_peaks",
            "numbers of which each block has two ends",
            &with_peaks(),
            Level::Max,
        ),
        vector("fields_large", "larger blocks with several scales", &large, Level::Default),
        vector("fields_large_max", "their numbers as symbols", &large, Level::Max),
    ]
}

/// A file of blocks at level max, in whose first payload something is changed.
fn bad(
    file: &[u8],
    name: &'static str,
    shows: &'static str,
    edit: &dyn Fn(&mut Vec<u8>),
) -> Vector {
    let level = Level::Max;
    let wz = compressed(file, &Options { threads: 1, level, ..Options::default() });
    let mut parts = Parts::of_file(&wz);
    let is_fields = |s: &Section| s.kind == section::BLOCK && s.sub == Coding::Fields.wire_id();
    let (_, payload) = parts.sections.iter_mut().find(|(s, _)| is_fields(s)).unwrap();
    assert_eq!((payload[4] & 1, payload[16 + 4 + 16]), (1, Coding::Bytes.wire_id()));
    edit(payload);
    let outcome = Err(Kind::Corruption);
    Vector { name, shows, wz: parts.join(), outcome, is_frame: false, bases: &[] }
}

pub(super) fn errors() -> Vec<Vector> {
    let (q4, q5, peaks) =
        (gguf(30, 10, &[Dtype::Q4_1]), gguf(30, 10, &[Dtype::Q5_0]), with_peaks());
    let of_peaks = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| {
        let both = |payload: &mut Vec<u8>| {
            assert_eq!(payload[4..6], [7, 32]);
            edit(payload);
        };
        bad(&peaks, name, shows, &both)
    };
    let bad = |name, shows, edit: &dyn Fn(&mut Vec<u8>)| bad(&q5, name, shows, edit);
    // Entries of scale, upper bits (or minimum) and numbers start at 16, 24 and 32, the scale's payload at 48:
    // where the next one starts.
    let second = |p: &[u8]| {
        let scale = u32::from_le_bytes([p[16], p[17], p[18], p[19]]) as usize;
        16 + (32 + scale).next_multiple_of(16)
    };
    vec![
        bad("fields_flags", "unknown flags", &|p| p[4] |= 8),
        bad("fields_zero", "a bit that must be zero", &|p| p[6] = 1),
        bad("fields_peaks_none", "peaks of no symbols", &|p| p[4] = 2),
        bad("fields_peaks_unused", "symbols of a peak that there isn't", &|p| p[12] = 1),
        of_peaks("fields_peaks_second", "a second peak without a first", &|p| p[4] = 5),
        of_peaks("fields_peaks_group", "groups that are no part of a block", &|p| p[5] = 64),
        of_peaks("fields_peaks_entry", "one entry of two peaks", &|p| p[4] = 3),
        of_peaks("fields_peaks_place", "a peak that is in no place", &|p| {
            // The second places' payload is the last: all the same now.
            let entry = &mut p[16 + 4 * 8..][..8];
            let len = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
            entry[..5].copy_from_slice(&[17, 0, 0, 0, Coding::Constant.wire_id()]);
            let at = p.len() - len;
            p.truncate(at + 4);
            p.extend([0; 12]);
            p.push(65);
        }),
        bad("fields_entry", "an entry with an unknown bit", &|p| p[21] = 4),
        bad("fields_offset", "an offset without another column", &|p| p[22] = 1),
        bad("fields_beside", "a column beside none", &|p| {
            p[20] = Coding::Difference.wire_id();
            p[21] = 1;
        }),
        bad("fields_both", "upper bits beside symbols", &|p| p[24 + 4] = Coding::Zstd.wire_id()),
        self::bad(&q4, "fields_hash", "a column whose base has another hash", &|p| {
            assert_eq!(p[24 + 4..][..2], [Coding::Difference.wire_id(), 3]);
            let at = second(p);
            p[at + 16] ^= 1;
        }),
        bad("fields_nested", "fields within fields", &|p| p[16 + 4] = Coding::Fields.wire_id()),
        bad("fields_based", "a column against a base", &|p| p[16 + 4] = Coding::Xor.wire_id()),
        bad("fields_symbols", "symbols of another coding", &|p| {
            p[32 + 4] = Coding::Ranks.wire_id()
        }),
        bad("fields_short", "a payload of more bytes than there are", &|p| p[32 + 2] += 1),
        bad("fields_long", "bytes behind the last payload", &|p| p.push(0)),
        bad("fields_count", "another number of symbols", &|p| {
            let at = second(p);
            p[at] += 1;
        }),
        bad("fields_tables", "more tables than there may be", &|p| {
            let at = second(p);
            p[at + 7] = 8;
        }),
        bad("fields_bounds", "bounds that descend", &|p| {
            let at = second(p);
            assert!(p[at + 7] > 0);
            p[at + 16] = 255;
        }),
        bad("fields_room", "symbols that their fields have no room for", &|p| {
            let at = second(p);
            p[at + 4] = p[at + 4].wrapping_add(32);
        }),
    ]
}
