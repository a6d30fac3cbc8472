//! Bases that ask for more than there is time for.

use super::Base;
use crate::codec::{Coding, encode_as};
use crate::container::bases::{BaseTensor, Bases};
use crate::container::directory::Entry;
use crate::container::footer::Footer;
use crate::container::header::Flags;
use crate::container::segment::{BasePart, How, PartBase, Segment};
use crate::container::table;
use crate::container::writer::Writer;
use crate::{Archive, DecodeOptions, Dtype, Format, Kind, Limits, TensorInfo, decompress};

const TENSORS: usize = 64;
const BYTES: usize = 128 << 10;
const PART: usize = BYTES / TENSORS;

fn info(number: usize) -> TensorInfo {
    TensorInfo { name: number.to_string(), dtype: Dtype::U8, shape: vec![BYTES as u64] }
}

/// The first model: each tensor has another value.
fn plain() -> Vec<Vec<u8>> {
    (0..TENSORS).map(|number| vec![number as u8; BYTES]).collect()
}

/// A model whose tensors have a part of each tensor of another one, and the file that says so.
fn woven(of: &[Vec<u8>], name: &str) -> (Vec<Vec<u8>>, Vec<u8>) {
    let part = |number: usize, part: usize| &of[(number + part) % TENSORS][part * PART..][..PART];
    let tensor = |number| (0..TENSORS).flat_map(|i| part(number, i)).copied().collect();
    let tensors: Vec<Vec<u8>> = (0..TENSORS).map(tensor).collect();
    let listed = of.iter().enumerate().map(|(number, bytes)| BaseTensor {
        file: name.into(),
        name: number.to_string(),
        bytes: BYTES as u64,
        blake3: *blake3::hash(bytes).as_bytes(),
    });
    let bases = Bases { tensors: listed.collect(), repeated: Vec::new() };
    let mut wz = Vec::new();
    let mut writer = Writer::new(&mut wz, Flags::default()).unwrap();
    let bases = Some(writer.bases(&bases).unwrap());
    let layout = Dtype::U8.record_layout();
    for (number, data) in tensors.iter().enumerate() {
        let base = (0..TENSORS).map(|part| {
            let (number, offset) = ((number + part) % TENSORS, (part * PART) as u64);
            let from = PartBase { number, offset, how: How::Same };
            BasePart { bytes: PART as u64, from: Some(from) }
        });
        let (spans, base) = (vec![BYTES as u64], base.collect());
        writer
            .begin_segment(&Segment { layout: layout.clone(), row: 0, spans, base }, None)
            .unwrap();
        let payload = encode_as(Coding::Xor, &layout, data, BYTES as u32, data).unwrap();
        let entry = table::Entry {
            len: payload.len() as u32,
            coding: Coding::Xor,
            records: BYTES as u32,
            check: weightzip_kernels::xxh3::xxh3_64(data),
        };
        let mut section = vec![0; entry.section().whole_len()];
        entry.section().write_to(&payload, &mut section);
        writer.blocks(&[entry], &section).unwrap();
        let tensor = Some((info(number), *blake3::hash(data).as_bytes()));
        writer.end_segment(vec![Entry { bytes: BYTES as u64, tensor }]).unwrap();
    }
    let footer = Footer {
        writer: String::new(),
        level: String::new(),
        format: Format::Opaque,
        original_bytes: (TENSORS * BYTES) as u64,
        tensors: TENSORS as u64,
        blake3: *blake3::hash(&tensors.concat()).as_bytes(),
        sha256: None,
        bases,
        losses: None,
        pages: Vec::new(),
    };
    writer.finish(footer).unwrap();
    (tensors, wz)
}

#[test]
fn a_chain_of_bases_with_many_parts_ends_within_its_budget() {
    let json = (0..TENSORS).map(|number| {
        let (start, end) = (number * BYTES, (number + 1) * BYTES);
        format!(r#""{number}":{{"dtype":"U8","shape":[{BYTES}],"data_offsets":[{start},{end}]}}"#)
    });
    let json = format!("{{{}}}", json.collect::<Vec<_>>().join(","));
    let mut tensors = plain();
    let file = [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &tensors.concat()].concat();
    let mut first = Vec::new();
    crate::compress(file.as_slice(), &mut first, &crate::Options::default()).unwrap();
    let mut base = Base::new();
    base.add("0.wz", first).unwrap();
    // Each link alone would take 64 times the work of the one before.
    let mut last = Vec::new();
    for link in 1..=4 {
        (tensors, last) = woven(&tensors, &format!("{}.wz", link - 1));
        assert!(last.len() < 64 << 10, "{}", last.len());
        base.add(&format!("{link}.wz"), last.clone()).unwrap();
    }
    let options = DecodeOptions { base, threads: 2, ..DecodeOptions::default() };
    let refused = decompress(last.as_slice(), std::io::sink(), &options).unwrap_err();
    assert_eq!(refused.kind(), Kind::Corruption);
    assert!(refused.message().contains("too much of its bases must be decoded"), "{refused}");
    let archive = Archive::open_with(last, options).unwrap();
    let refused = archive.read_at(0, &mut vec![0; 1 << 20]).unwrap_err();
    assert!(refused.message().contains("too much of its bases must be decoded"), "{refused}");
}

#[test]
fn a_budget_can_be_raised_and_a_little_is_free() {
    let tensors = plain();
    let mut base = Base::new();
    for (number, bytes) in tensors.iter().enumerate() {
        // Each tensor lies in a file of its own.
        let json = format!(
            r#"{{"{number}":{{"dtype":"U8","shape":[{BYTES}],"data_offsets":[0,{BYTES}]}}}}"#
        );
        let file = [&(json.len() as u64).to_le_bytes(), json.as_bytes(), bytes].concat();
        let mut wz = Vec::new();
        crate::compress(file.as_slice(), &mut wz, &crate::Options::default()).unwrap();
        base.add(&format!("{number}.wz"), wz).unwrap();
    }
    let (woven, wz) = woven(&tensors, "0.wz");
    let restored = |limits| {
        let mut out = Vec::new();
        let options = DecodeOptions { base: base.clone(), limits, ..DecodeOptions::default() };
        decompress(wz.as_slice(), &mut out, &options).map(|_| out)
    };
    // Each base keeps its only block, so nothing is decoded twice.
    assert!(restored(Limits::default()).unwrap() == woven.concat());
    let strict = Limits { base_work: 0, ..Limits::default() };
    assert!(restored(strict).unwrap() == woven.concat());
}
