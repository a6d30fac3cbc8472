//! Frames that every decoder must restore or refuse.

use super::parts::Parts;
use super::{Vector, ok};
use crate::container::header;
use crate::container::section;
use crate::{Dtype, FrameOptions, Kind, RecordLayout, compress_frame};

fn vector(
    name: &'static str,
    shows: &'static str,
    wz: Vec<u8>,
    outcome: Result<Vec<u8>, Kind>,
) -> Vector {
    Vector { name, shows, wz, outcome, is_frame: true, bases: &[] }
}

fn one(name: &'static str, shows: &'static str, layout: &RecordLayout, data: Vec<u8>) -> Vector {
    let mut frame = Vec::new();
    compress_frame(layout, &data, &FrameOptions::default(), &mut frame).unwrap();
    vector(name, shows, frame, Ok(data))
}

/// The first segment of a file, as a frame.
fn shared_ranks() -> Vector {
    let file = ok::shared_ranks();
    let mut parts = Parts::of_file(&file.wz);
    let table = parts.sections.iter().position(|(s, _)| s.kind == section::TABLE).unwrap();
    parts.sections.truncate(table + 1);
    parts.header = header::of_frame();
    parts.tail.clear();
    let shows = "two blocks and their rank table";
    vector("frame_shared_ranks", shows, parts.join(), Ok(ok::bf16(2600)))
}

pub(super) fn ok() -> Vec<Vector> {
    let bf16 = Dtype::Bf16.record_layout();
    let bytes = RecordLayout::opaque();
    vec![
        one("frame_bf16", "escape planes", &bf16, ok::bf16(2000)),
        one("frame_opaque", "bytes of which nothing is known", &bytes, b"abc".repeat(15)),
        one("frame_empty", "no bytes, no blocks", &bf16, Vec::new()),
        shared_ranks(),
    ]
}

pub(super) fn errors() -> Vec<Vector> {
    use Kind::{Compatibility, Corruption, InsufficientData};
    let base = shared_ranks().wz;
    let bad = |name, shows, kind, wz| vector(name, shows, wz, Err(kind));
    let edit = |name, shows, kind, edit: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::of_frame(&base);
        edit(&mut parts);
        bad(name, shows, kind, parts.join())
    };
    let cut = |bytes: usize| base[..base.len() - bytes].to_vec();
    // The segment's span length is the varint that ends its payload: 5200.
    let span = |len: [u8; 2]| move |p: &mut Parts| p.sections[0].1[21..].copy_from_slice(&len);
    vec![
        bad(
            "file_as_frame",
            "a file where a frame should be",
            Compatibility,
            ok::shared_ranks().wz,
        ),
        bad("frame_cut_in_block", "a frame that ends within a block", InsufficientData, cut(500)),
        bad("frame_cut_in_table", "a frame that ends within its table", InsufficientData, cut(20)),
        bad("frame_without_table", "a frame without its table", InsufficientData, cut(48)),
        bad(
            "frame_bytes_behind",
            "a frame with bytes behind it",
            Corruption,
            [base.as_slice(), &[0; 16]].concat(),
        ),
        edit("frame_spans_none", "a frame that states no length", Corruption, &|p| {
            p.sections[0].1.truncate(20);
            p.sections[0].1.push(0);
        }),
        edit("frame_spans_two", "a frame of two spans", Corruption, &|p| {
            p.sections[0].1[20] = 2;
            p.sections[0].1.push(0);
        }),
        edit("frame_too_long", "a frame with more than it states", Corruption, &span([0xCE, 0x28])),
        edit(
            "frame_too_short",
            "a frame with less than it states",
            Corruption,
            &span([0xD2, 0x28]),
        ),
        edit("frame_unknown_section", "a frame with an unknown section", Corruption, &|p| {
            let table = p.sections[4].clone();
            p.sections.insert(1, table);
            p.sections[1].0.kind = 0x07;
        }),
        edit("frame_table_disagrees", "a frame with another table", Corruption, &|p| {
            p.nth(section::TABLE, 0).1[9] ^= 1
        }),
        edit("frame_flip", "a frame with a flipped bit in a block", Corruption, &|p| {
            p.nth(section::BLOCK, 1).1[200] ^= 0x40
        }),
    ]
}
