//! Files that repeat some of themselves.

use super::Vector;
use super::ok::{bf16, compressed, footer, safetensors, tensor};
use crate::codec::{Coding, encode_as, encode_block};
use crate::container::bases::Bases;
use crate::container::footer::Footer;
use crate::container::header::Flags;
use crate::container::segment::{BasePart, How, PartBase, Segment};
use crate::container::table::Entry;
use crate::container::writer::Writer;
use crate::{Dtype, Hints, Kind, Options, RecordLayout};
use std::ops::Range;
use std::sync::Arc;

pub(super) fn ok() -> Vec<Vector> {
    let tied = bf16(40_000);
    let file = safetensors(&[
        ("embed", Dtype::Bf16, &[400, 100], tied.clone()),
        ("norm", Dtype::Bf16, &[100], bf16(100)),
        ("head", Dtype::Bf16, &[400, 100], tied),
    ]);
    let source: Option<Arc<_>> = Some(Arc::new(file.clone()));
    let options =
        Options { threads: 1, source: source.map(|source| source as _), ..Options::default() };
    let wz = compressed(&file, &options);
    let tied = Vector {
        name: "repeated",
        shows: "two equal tensors, the second of which repeats the first",
        wz,
        outcome: Ok(file),
        is_frame: false,
        bases: &[],
    };
    vec![
        tied,
        by_hand().vector(
            "repeated_by_hand",
            "a base that begins within a repeated range, which has two segments, and ends within the block",
            None,
        ),
    ]
}

/// A file of three segments of one block each.
struct ByHand {
    flags: Flags,
    bases: Bases,
    segments: [Part; 3],
}

/// A segment: what it is coded against, if it has base parts, and equals.
struct Part {
    data: Vec<u8>,
    base: Vec<BasePart>,
}

/// Both first segments are repeated by the third from their 101st byte on; then it has 50 zeros.
fn by_hand() -> ByHand {
    let noise = bf16(400);
    let (first, second) = (noise[..500].to_vec(), noise[300..].to_vec());
    let data = [&first[100..], &second, &[0; 50]].concat();
    let from = PartBase { number: 0, offset: 100, how: How::Same };
    let base = vec![BasePart { bytes: 900, from: Some(from) }];
    ByHand {
        flags: Flags { repeats: true, ..Flags::default() },
        bases: Bases { tensors: Vec::new(), repeated: single(0..1000) },
        segments: [
            Part { data: first, base: Vec::new() },
            Part { data: second, base: Vec::new() },
            Part { data, base },
        ],
    }
}

/// A list of one range.
fn single(range: Range<u64>) -> Vec<Range<u64>> {
    Vec::from([range])
}

impl ByHand {
    fn to_wz(&self) -> Vec<u8> {
        let mut wz = Vec::new();
        let mut writer = Writer::new(&mut wz, self.flags).unwrap();
        let bases = (!self.bases.is_empty()).then(|| writer.bases(&self.bases).unwrap());
        let layout = RecordLayout::opaque();
        for (name, Part { data, base }) in ["a", "b", "c"].iter().zip(&self.segments) {
            let spans = vec![data.len() as u64];
            let segment = Segment { layout: layout.clone(), row: 0, spans, base: base.clone() };
            writer.begin_segment(&segment, None).unwrap();
            let (coding, payload) = match base.is_empty() {
                true => {
                    let mut payload = Vec::new();
                    let hints = Hints::default();
                    let block = encode_block(&layout, None, hints, data, &mut payload).unwrap();
                    (block.coding, block.payload.to_vec())
                }
                false => {
                    let records = data.len() as u32;
                    let coded = encode_as(Coding::Xor, &layout, data, records, data).unwrap();
                    (Coding::Xor, coded)
                }
            };
            let entry = Entry {
                len: payload.len() as u32,
                coding,
                records: data.len() as u32,
                check: weightzip_kernels::xxh3::xxh3_64(data),
            };
            let mut section = vec![0; entry.section().whole_len()];
            entry.section().write_to(&payload, &mut section);
            writer.blocks(&[entry], &section).unwrap();
            writer.end_segment(vec![tensor(name, data)]).unwrap();
        }
        writer.finish(Footer { bases, ..footer(&self.original(), 3) }).unwrap();
        wz
    }

    fn original(&self) -> Vec<u8> {
        self.segments.iter().flat_map(|part| part.data.clone()).collect()
    }

    fn vector(self, name: &'static str, shows: &'static str, refused: Option<Kind>) -> Vector {
        let outcome = refused.map_or_else(|| Ok(self.original()), Err);
        Vector { name, shows, wz: self.to_wz(), outcome, is_frame: false, bases: &[] }
    }
}

pub(super) fn errors() -> Vec<Vector> {
    let corrupt = |name, shows, edit: &dyn Fn(&mut ByHand)| {
        let mut file = by_hand();
        edit(&mut file);
        file.vector(name, shows, Some(Kind::Corruption))
    };
    vec![
        corrupt("repeats_untold", "repeated ranges that the file header doesn't tell of", &|f| {
            f.flags.repeats = false;
        }),
        corrupt("repeats_none", "a file header that tells of repeated ranges, and none", &|f| {
            f.bases = Bases::default();
            f.segments[2] = Part { data: vec![7; 300], base: Vec::new() };
        }),
        corrupt("repeats_later", "a range that ends behind the start of what repeats it", &|f| {
            f.bases.repeated = single(0..1001);
        }),
        corrupt("repeats_outside", "a part that leaves its range", &|f| {
            f.bases.repeated = single(0..999);
        }),
        corrupt("repeats_parts", "another part beside a repeated range", &|f| {
            f.segments[2].base.push(BasePart { bytes: 50, from: None });
        }),
        corrupt("repeats_repeated", "a range in a segment that has a base", &|f| {
            let from = PartBase { number: 1, offset: 0, how: How::Same };
            f.bases.repeated.push(0..500);
            f.segments[1].data = f.segments[0].data.clone();
            f.segments[1].base = vec![BasePart { bytes: 500, from: Some(from) }];
            f.segments[2].data =
                [&f.segments[0].data[100..], &f.segments[0].data, &[0; 50]].concat();
        }),
    ]
}
