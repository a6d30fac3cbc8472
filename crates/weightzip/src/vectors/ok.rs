//! Files that every decoder must restore.

use super::Vector;
use crate::codec::Context;
use crate::coded::Coded;
use crate::container::directory::Entry;
use crate::container::footer::Footer;
use crate::container::header::Flags;
use crate::container::section;
use crate::container::segment::Segment;
use crate::container::writer::Writer;
use crate::formats::tests::msgpack::{array, map};
use crate::formats::tests::{archive, checkpoint, dict, npy, tensor as tensor_in};
use crate::record::{ByteOrder, Field, RecordLayout};
use crate::{Dtype, Format, FrameOptions, Hints, Options, TensorInfo, compress, plan};

/// Numbers from a linear congruential generator.
pub(super) fn numbers() -> impl Iterator<Item = u32> {
    let next = |s: &u64| {
        Some(s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(1), next).map(|s| (s >> 32) as u32)
}

pub(super) fn bell() -> impl Iterator<Item = f32> {
    let mut uniform = numbers().map(|n| n as f32 / u32::MAX as f32 - 0.5);
    std::iter::from_fn(move || Some(uniform.by_ref().take(4).sum::<f32>() * 0.05))
}

pub(super) fn bf16(count: usize) -> Vec<u8> {
    bell().take(count).flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect()
}

pub(super) type Tensor<'a> = (&'a str, Dtype, &'a [u64], Vec<u8>);

pub(super) fn safetensors(tensors: &[Tensor<'_>]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend(bytes);
        entries.push(format!(
            "{name:?}:{{\"dtype\":{:?},\"shape\":{shape:?},\"data_offsets\":{offsets:?}}}",
            dtype.name()
        ));
    }
    let json = format!("{{{}}}", entries.join(","));
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &data].concat()
}

pub(super) fn compressed(file: &[u8], options: &Options) -> Vec<u8> {
    let mut wz = Vec::new();
    compress(file, &mut wz, options).unwrap();
    wz
}

fn whole(name: &'static str, shows: &'static str, file: Vec<u8>) -> Vector {
    Vector {
        name,
        shows,
        wz: compressed(&file, &Options { threads: 1, ..Options::default() }),
        outcome: Ok(file),
        is_frame: false,
        bases: &[],
    }
}

fn one(
    name: &'static str,
    shows: &'static str,
    dtype: Dtype,
    shape: &[u64],
    data: Vec<u8>,
) -> Vector {
    whole(name, shows, safetensors(&[("x", dtype, shape, data)]))
}

/// A file of segments that an encoder would cut otherwise: `blocks` of each, with a context or not.
fn cut_by_hand(
    name: &'static str,
    shows: &'static str,
    segments: &[(RecordLayout, bool, Vec<Vec<u8>>)],
) -> Vector {
    let (mut wz, mut original) = (Vec::new(), Vec::new());
    let mut writer = Writer::new(&mut wz, Flags::default()).unwrap();
    for (i, (layout, shared, blocks)) in segments.iter().enumerate() {
        let context = if *shared {
            Context::of_first_block(layout, Hints::default(), &blocks[0])
        } else {
            None
        };
        let data = blocks.concat();
        let bytes = data.len() as u64;
        let segment =
            Segment { layout: layout.clone(), row: 0, spans: vec![bytes], base: Vec::new() };
        writer.begin_segment(&segment, context.as_ref()).unwrap();
        for block in blocks {
            put_block(&mut writer, layout, context.as_ref(), block);
        }
        writer.end_segment(vec![tensor(&format!("part.{i}"), &data)]).unwrap();
        writer.close_page();
        original.extend(data);
    }
    writer.finish(footer(&original, segments.len() as u64)).unwrap();
    Vector { name, shows, wz, outcome: Ok(original), is_frame: false, bases: &[] }
}

/// What the directory says of a tensor of bytes.
pub(super) fn tensor(name: &str, data: &[u8]) -> Entry {
    let bytes = data.len() as u64;
    let info = TensorInfo { name: name.to_owned(), dtype: Dtype::U8, shape: vec![bytes] };
    Entry { bytes, tensor: Some((info, *blake3::hash(data).as_bytes())) }
}

/// The footer of a file that is made by hand.
pub(super) fn footer(original: &[u8], tensors: u64) -> Footer {
    Footer {
        writer: "by hand".to_owned(),
        level: "default".to_owned(),
        format: Format::Opaque,
        original_bytes: original.len() as u64,
        tensors,
        blake3: *blake3::hash(original).as_bytes(),
        sha256: None,
        bases: None,
        losses: None,
        pages: Vec::new(),
    }
}

fn put_block(
    writer: &mut Writer<&mut Vec<u8>>,
    layout: &RecordLayout,
    context: Option<&Context>,
    data: &[u8],
) {
    let (mut coded, mut section) = (Coded::default(), Vec::new());
    let plan = plan::Segment::nameless(layout, data.len() as u64, &FrameOptions::default());
    coded.encode(&plan, context.into(), data).unwrap();
    coded.append_to(&mut section);
    writer.blocks(&[coded.entry], &section).unwrap();
}

/// A BF16 tensor whose two blocks share a rank table.
pub(super) fn shared_ranks() -> Vector {
    let data = bf16(2600);
    let blocks = vec![data[..2600].to_vec(), data[2600..].to_vec()];
    let layout = Dtype::Bf16.record_layout();
    cut_by_hand(
        "shared_ranks",
        "two blocks and their segment's rank table; two directory pages",
        &[(layout.clone(), true, blocks), (layout, false, vec![bf16(700)])],
    )
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = dtypes();
    let f32s = |values: &mut dyn Iterator<Item = f32>| {
        values.flat_map(f32::to_le_bytes).collect::<Vec<_>>()
    };
    let short = |v: f32| half::bf16::from_f32(v).to_f32();
    let narrow = f32s(&mut bell().enumerate().take(5000).map(|(i, v)| match i / 1024 {
        0 => short(v),
        1 => v.abs(),
        2 => 0.0,
        3 => half::f16::from_f32(v).to_f32(),
        _ => v,
    }));
    let clean: Vec<u8> = bell()
        .take(3000)
        .flat_map(|v| half::f16::from_f32(short(v * 0.02)).to_le_bytes())
        .collect();
    let sample = safetensors(&[
        ("a.scale", Dtype::F32, &[], 1.5f32.to_le_bytes().to_vec()),
        ("a.weight", Dtype::Bf16, &[40, 50], bf16(2000)),
        ("b.none", Dtype::F16, &[0, 7], Vec::new()),
        ("c.weight", Dtype::Bf16, &[30, 10], bf16(300)),
        ("d.weight", Dtype::Bf16, &[300], bf16(300)),
    ]);
    let big_endian = |bits: u8, exponent| {
        RecordLayout::new(u16::from(bits / 8), ByteOrder::Big, vec![Field::float(bits, exponent)])
            .unwrap()
    };
    let swapped: Vec<u8> = bf16(1500).chunks(2).flat_map(|b| [b[1], b[0]]).collect();
    vectors.extend([
        whole("empty", "a file of no bytes", Vec::new()),
        whole("opaque_zstd", "bytes of which nothing is known", b"abc".repeat(15)),
        whole(
            "opaque_raw",
            "bytes that don't get smaller",
            numbers().take(300).map(|n| n.to_be_bytes()[0]).collect(),
        ),
        one(
            "constant",
            "one record, many times",
            Dtype::F32,
            &[600],
            1f32.to_le_bytes().repeat(600),
        ),
        one("no_tensors_with_elements", "a tensor of no elements", Dtype::F32, &[3, 0], Vec::new()),
        one(
            "narrow_chunks",
            "FP32 chunks that hold BF16, positive, zero, FP16 and full values",
            Dtype::F32,
            &[5000],
            narrow,
        ),
        one(
            "subnormals",
            "FP16 that holds BF16 values: subnormals keep their low bits",
            Dtype::F16,
            &[3000],
            clean,
        ),
        whole(
            "many_spans",
            "a scalar, an empty tensor, and tensors that share a block",
            sample.clone(),
        ),
        whole(
            "cut_short",
            "a safetensors file that ends within a tensor",
            sample[..sample.len() - 333].to_vec(),
        ),
        whole(
            "too_long",
            "a safetensors file with bytes behind it",
            [&sample, b"more".as_slice()].concat(),
        ),
        whole(
            "numpy",
            "an archive of arrays: tensors with opaque bytes between them, one by columns",
            archive(&[
                ("small.npy", &npy("<f4", false, "(3,)", &[7; 12])),
                ("columns.npy", &npy("<i8", true, "(2, 1)", &[1; 16])),
                ("large.npy", &npy("<u2", false, "(300,)", &[9; 600])),
            ]),
        ),
        whole(
            "checkpoint",
            "a PyTorch checkpoint: two storages, of which one has a name and a shape",
            checkpoint(
                &dict(&[
                    ("w", tensor_in("0", 200, 0, &[20, 10], &[10, 1])),
                    ("part", tensor_in("1", 200, 0, &[9], &[1])),
                ]),
                &[("0", &bf16(200)), ("1", &bf16(200))],
            ),
        ),
        whole(
            "flax",
            "a Flax file: tensors at odd offsets with bytes between them, one without dimensions",
            map(&[
                ("params", map(&[("w", array("bfloat16", &[20, 10], &bf16(200)))])),
                ("step", array("int32", &[], &[7; 4])),
                ("wide", array("float32", &[100], &f32s(&mut bell().take(100)))),
            ]),
        ),
        Vector {
            name: "sha256",
            shows: "a footer with the original's SHA-256",
            wz: compressed(&sample, &Options { sha256: true, ..Options::default() }),
            outcome: Ok(sample),
            is_frame: false,
            bases: &[],
        },
        shared_ranks(),
        cut_by_hand(
            "big_endian",
            "most significant byte first",
            &[
                (big_endian(16, 8), false, vec![swapped]),
                (
                    big_endian(32, 8),
                    false,
                    vec![
                        f32s(&mut bell().take(900))
                            .chunks(4)
                            .flat_map(|b| [b[3], b[2], b[1], b[0]])
                            .collect(),
                    ],
                ),
            ],
        ),
        skippable(),
    ]);
    vectors
}

/// One tensor of each float, and of integers.
fn dtypes() -> Vec<Vector> {
    let exotic: [u16; 8] = [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC1, 0xFFFF, 0x0001, 0x807F];
    let mut specials = bf16(2000);
    specials.extend(exotic.iter().flat_map(|v| v.to_le_bytes()));
    let byte = |shift: u32| {
        bell()
            .take(3000)
            .map(|v| (half::f16::from_f32(v * 8.0).to_bits() >> shift) as u8)
            .collect::<Vec<_>>()
    };
    vec![
        one("bf16", "escape planes", Dtype::Bf16, &[2000], bf16(2000)),
        one(
            "bf16_specials",
            "zeros, infinities, NaN payloads, subnormals",
            Dtype::Bf16,
            &[2008],
            specials,
        ),
        one(
            "f16",
            "11 residual bits: strips of 8, 2 and 1",
            Dtype::F16,
            &[60, 50],
            bell().take(3000).flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect(),
        ),
        one(
            "f32",
            "residuals of 3 bytes",
            Dtype::F32,
            &[2000],
            bell().take(2000).flat_map(f32::to_le_bytes).collect(),
        ),
        one(
            "f64",
            "exponents of 11 bits, residuals of 53",
            Dtype::F64,
            &[2000],
            bell().take(2000).flat_map(|v| (f64::from(v) / 3.0).to_le_bytes()).collect(),
        ),
        one(
            "c64",
            "a field that counts two",
            Dtype::C64,
            &[900],
            bell().take(1800).flat_map(f32::to_le_bytes).collect(),
        ),
        whole(
            "c128",
            "two floats of 64 bits, in a NumPy file",
            npy(
                "<c16",
                false,
                "(700,)",
                &bell()
                    .take(1400)
                    .flat_map(|v| (f64::from(v) / 3.0).to_le_bytes())
                    .collect::<Vec<u8>>(),
            ),
        ),
        whole(
            "big_endian_array",
            "big-endian records without a name, in a NumPy file",
            npy(
                ">f4",
                false,
                "(1200,)",
                &bell().take(1200).flat_map(f32::to_be_bytes).collect::<Vec<u8>>(),
            ),
        ),
        one("f8_e5m2", "3 residual bits", Dtype::F8E5M2, &[3000], byte(8)),
        one("f8_e4m3", "4 residual bits", Dtype::F8E4M3, &[3000], byte(7)),
        one(
            "i64",
            "byte groups",
            Dtype::I64,
            &[512],
            (0..512u64).flat_map(u64::to_le_bytes).collect(),
        ),
        one(
            "bool",
            "integers of one byte",
            Dtype::Bool,
            &[999],
            (0..999u32).map(|i| u8::from(i % 7 == 0)).collect(),
        ),
    ]
}

/// Sections and contexts that nobody knows but everybody may skip: made by hand, since the
/// directory must know where they shift the rest to.
fn skippable() -> Vector {
    let data = bf16(1000);
    let (mut wz, layout) = (Vec::new(), Dtype::Bf16.record_layout());
    let mut writer = Writer::new(&mut wz, Flags::default()).unwrap();
    writer.section(0x07, 0, |out| out.extend(b"a note")).unwrap();
    let segment = Segment { layout: layout.clone(), row: 0, spans: Vec::new(), base: Vec::new() };
    writer.begin_segment(&segment, None).unwrap();
    writer.section(section::CONTEXT, 0x33, |out| out.extend(b"a hint for some blocks")).unwrap();
    writer.open_blocks();
    put_block(&mut writer, &layout, None, &data);
    writer.end_segment(vec![Entry { bytes: data.len() as u64, tensor: None }]).unwrap();
    writer.section(0x7F, 9, |_| {}).unwrap();
    writer.finish(footer(&data, 0)).unwrap();
    Vector {
        name: "skippable",
        shows: "unknown sections and contexts without the critical bit",
        wz,
        outcome: Ok(data),
        is_frame: false,
        bases: &[],
    }
}
