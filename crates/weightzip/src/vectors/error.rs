//! Files that every decoder must refuse.

use super::parts::Parts;
use super::{Vector, ok};
use crate::Kind;
use crate::container::section;
use weightzip_kernels::xxh3::xxh3_64;

pub(super) fn vectors() -> Vec<Vector> {
    let base = ok::shared_ranks().wz;
    let bad = |name, shows, kind, wz| {
        let outcome = Err(kind);
        Vector { name, shows, wz, outcome, is_frame: false, bases: &[] }
    };
    let edit = |name, shows, kind, edit: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::of_file(&base);
        edit(&mut parts);
        bad(name, shows, kind, parts.join())
    };
    let flip = |name, shows, at: usize| {
        let mut wz = base.clone();
        wz[at] ^= 0x40;
        bad(name, shows, Kind::Corruption, wz)
    };
    let version = |major: u8, minor: u8, flags: u8| {
        let mut wz = base.clone();
        wz[8..11].copy_from_slice(&[major, minor, flags]);
        let check = xxh3_64(&wz[..12]).to_le_bytes();
        wz[12..16].copy_from_slice(&check[..4]);
        wz
    };
    use Kind::{Compatibility, Corruption, InsufficientData};
    vec![
        bad("version_newer", "format version 0.2", Compatibility, version(0, 2, 0)),
        bad("version_stable", "format version 1.0", Compatibility, version(1, 0, 0)),
        bad("frame_as_file", "a frame where a file should be", Compatibility, version(0, 1, 1)),
        bad("header_flags", "unknown flags in the file header", Compatibility, version(0, 1, 8)),
        bad("cut_in_header", "ends within the file header", InsufficientData, base[..12].to_vec()),
        bad("cut_in_block", "ends within a block", InsufficientData, base[..400].to_vec()),
        bad(
            "cut_in_footer",
            "ends within the footer",
            InsufficientData,
            base[..base.len() - 100].to_vec(),
        ),
        bad(
            "cut_in_tail",
            "ends within the tail",
            InsufficientData,
            base[..base.len() - 7].to_vec(),
        ),
        bad(
            "bytes_behind",
            "a byte behind the tail",
            Corruption,
            [base.as_slice(), b"\0"].concat(),
        ),
        flip("flip_header", "a flipped bit in the file header", 9),
        flip("flip_segment", "a flipped bit in a segment's row length", 36),
        flip("flip_payload", "a flipped bit in a block's residuals", 600),
        flip("flip_footer", "a flipped bit in the footer", base.len() - 150),
        flip("flip_tail", "a flipped bit in the tail", base.len() - 30),
        edit("unknown_section", "a critical section of unknown type", Compatibility, &|p| {
            p.sections[0].0.kind = 0xC7
        }),
        edit("unknown_context", "a critical context of unknown type", Compatibility, &|p| {
            p.nth(section::CONTEXT, 0).0.sub = 0xC7
        }),
        edit("unknown_coding", "a block coding of unknown type", Compatibility, &|p| {
            p.nth(section::BLOCK, 0).0.sub = 0xC7
        }),
        edit("unknown_role", "a field role of unknown type", Compatibility, &|p| {
            p.nth(section::SEGMENT, 0).1[17] = 9
        }),
        edit("unknown_dtype", "a dtype of unknown type", Compatibility, &|p| {
            let page = &mut p.nth(section::DIRECTORY, 0).1;
            let dtype = page.windows(6).position(|w| w == b"part.0").unwrap() - 6;
            page[dtype] = 200;
        }),
        edit("exponent_of_int", "exponent bits in a field that is no float", Corruption, &|p| {
            p.nth(section::SEGMENT, 0).1[17] = 1;
        }),
        edit("sub_of_table", "a sub where there is none", Corruption, &|p| {
            p.nth(section::TABLE, 0).0.sub = 1;
        }),
        edit("unused_preamble", "a preamble with bits that nothing uses", Corruption, &|p| {
            p.nth(section::BLOCK, 0).1[9] ^= 0x80;
        }),
        edit("named_cut_span", "a tensor that its segment has not in full", Corruption, &|p| {
            // The segment section states a byte more than there is.
            p.nth(section::SEGMENT, 0).1[21] += 1;
        }),
        edit("footer_flags", "unknown flags in the footer", Compatibility, &|p| {
            p.nth(section::FOOTER, 0).1[16] = 8
        }),
        edit(
            "no_context",
            "a block that wants a rank table its segment doesn't have",
            Corruption,
            &|p| {
                p.nth(section::CONTEXT, 0).0.sub = 0x01;
            },
        ),
        edit("ranks_twice", "a rank table with an exponent twice", Corruption, &|p| {
            let table = &mut p.nth(section::CONTEXT, 0).1;
            table[1] = table[0];
        }),
        edit(
            "record_count",
            "a block that states other records than its table entry",
            Corruption,
            &|p| p.nth(section::BLOCK, 0).1[0] ^= 1,
        ),
        edit("block_too_large", "a block that would decode to more than 8 MiB", Corruption, &|p| {
            p.nth(section::BLOCK, 0).1[3] = 1
        }),
        edit("payload_too_large", "a payload larger than what it decodes to", Corruption, &|p| {
            p.nth(section::BLOCK, 0).1.resize(2600 + 32, 0);
        }),
        edit("escapes", "a plane with other escapes than stated", Corruption, &|p| {
            p.nth(section::BLOCK, 0).1[16] ^= 1
        }),
        edit("table_disagrees", "a block table unlike the blocks before it", Corruption, &|p| {
            p.nth(section::TABLE, 0).1[9] ^= 1
        }),
        edit(
            "directory_disagrees",
            "a directory unlike the segments before it",
            Corruption,
            &|p| p.nth(section::DIRECTORY, 0).1[9] ^= 0x20,
        ),
        edit("shape_disagrees", "a tensor whose shape doesn't fill its bytes", Corruption, &|p| {
            let page = &mut p.nth(section::DIRECTORY, 0).1;
            let shape = page.windows(6).position(|w| w == b"part.0").unwrap() - 4;
            page[shape] ^= 1;
        }),
        edit("footer_disagrees", "a footer unlike the directory before it", Corruption, &|p| {
            p.nth(section::FOOTER, 0).1[8] ^= 1
        }),
        edit("wrong_hash", "another BLAKE3 of the original", Corruption, &|p| {
            p.nth(section::FOOTER, 0).1[24] ^= 1
        }),
        edit("wrong_tensor_hash", "another BLAKE3 of a tensor", Corruption, &|p| {
            let page = &mut p.nth(section::DIRECTORY, 0).1;
            let hash = page.windows(6).position(|w| w == b"part.0").unwrap() + 6;
            page[hash] ^= 1;
        }),
        edit("misplaced_table", "a block table without a segment", Corruption, &|p| {
            let table = p.sections.iter().position(|(s, _)| s.kind == section::TABLE).unwrap();
            let copy = p.sections[table].clone();
            p.sections.insert(table + 1, copy);
        }),
    ]
}
