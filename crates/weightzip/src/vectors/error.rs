//! Files that every decoder must refuse.

use super::parts::Parts;
use super::{Vector, ok};
use crate::container::directory::Page;
use crate::container::footer::Footer;
use crate::container::header::{self, Flags};
use crate::container::section::{self, Section, padded_section};
use crate::container::segment::Segment;
use crate::container::wire::{put_string, put_varint};
use crate::container::{footer::PageRef, tail};
use crate::{Dtype, Kind, RecordLayout};
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
        bad(
            "segment_twice",
            "two directory pages that have the same segment",
            Corruption,
            segment_twice(&base),
        ),
        bad(
            "names_expand",
            "a directory page whose names have more than 16 times its bytes",
            Corruption,
            names_expand(),
        ),
    ]
}

/// A file whose only page comes again, for other tensors of the same bytes.
fn segment_twice(wz: &[u8]) -> Vec<u8> {
    let mut parts = Parts::of_file(wz);
    let mut sections = std::mem::take(&mut parts.sections);
    let (_, footer) = sections.pop().unwrap();
    let mut footer = Footer::read_from(&footer).unwrap();
    let (head, payload) = sections.last().unwrap().clone();
    let mut page = Page::read_from(&payload).unwrap();
    let original_at = footer.original_bytes;
    page.original_at = original_at;
    for span in page.segments.iter_mut().flat_map(|segment| &mut segment.spans) {
        span.tensor.iter_mut().for_each(|(tensor, _)| tensor.name.push_str(" again"));
    }
    let mut again = Vec::new();
    page.write_to(&mut again);
    let at = footer.pages[0].at + padded_section(footer.pages[0].len);
    let segments = page.segments.len() as u32;
    footer.pages.push(PageRef { at, original_at, len: again.len() as u32, segments });
    (footer.original_bytes, footer.tensors) = (2 * footer.original_bytes, 2 * footer.tensors);
    sections.push((head, again.clone()));
    parts.sections = sections;
    finish(parts, at + padded_section(again.len() as u32), &footer)
}

/// A file of 200 empty tensors, whose names take five bytes each and share 5000.
fn names_expand() -> Vec<u8> {
    const TENSORS: usize = 200;
    let spans = vec![0; TENSORS];
    let segment = Segment { layout: RecordLayout::opaque(), row: 0, spans, base: Vec::new() };
    let mut described = Vec::new();
    segment.write_to(&mut described);
    let mut page = vec![0; 8];
    for field in [1, 16, padded_section(described.len() as u32), 0, 0, 0, TENSORS as u64] {
        put_varint(&mut page, field);
    }
    for number in 0..TENSORS {
        page.extend([0, Dtype::U8.wire_id(), 1, 0]);
        put_varint(&mut page, if number == 0 { 0 } else { 5000 });
        let name = format!("{number:05}");
        put_string(&mut page, &if number == 0 { "n".repeat(5000) + &name } else { name });
        page.extend(blake3::hash(&[]).as_bytes());
    }
    let table_at = 16 + padded_section(described.len() as u32);
    let at = table_at + padded_section(0);
    let mut footer = ok::footer(&[], TENSORS as u64);
    footer.pages = vec![PageRef { at, original_at: 0, len: page.len() as u32, segments: 1 }];
    let footer_at = at + padded_section(page.len() as u32);
    let section = |kind, payload: Vec<u8>| (Section { kind, sub: 0, len: 0, check: 0 }, payload);
    let sections = vec![
        section(section::SEGMENT, described),
        section(section::TABLE, Vec::new()),
        section(section::DIRECTORY, page),
    ];
    let header = header::of_file(Flags::default());
    finish(Parts { header, sections, tail: Vec::new() }, footer_at, &footer)
}

/// Adds a footer, which will be at that byte, and a tail.
fn finish(mut parts: Parts, footer_at: u64, footer: &Footer) -> Vec<u8> {
    let mut payload = Vec::new();
    footer.write_to(&mut payload);
    parts.sections.push((Section { kind: section::FOOTER, sub: 0, len: 0, check: 0 }, payload));
    parts.tail.clear();
    tail::write_to(footer_at, &mut parts.tail);
    parts.join()
}
