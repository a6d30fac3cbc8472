//! Files that are coded against a base, well and badly made.

use super::Vector;
use super::ok::{bell, bf16, compressed, footer, numbers, safetensors, tensor};
use crate::codec::{Coding, encode_as};
use crate::container::bases::{BaseTensor, Bases};
use crate::container::header::Flags;
use crate::container::segment::{BasePart, How, PartBase, Segment};
use crate::container::table::Entry;
use crate::container::writer::Writer;
use crate::{Base, Dtype, Kind, Level, Options, RecordLayout};

pub(super) const BASE: &[&str] = &["ok/base.wz"];

/// Weights after some training.
fn trained(count: usize) -> impl Iterator<Item = f32> {
    let steps = numbers().skip(9).map(|n| n as f32 / u32::MAX as f32 - 0.5);
    bell().take(count).zip(steps).map(|(w, step)| w + step * step * step * 0.01)
}

fn trained_bf16(count: usize) -> Vec<u8> {
    trained(count).flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect()
}

fn f32s(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

fn ids(changed: usize) -> Vec<u8> {
    (0..900)
        .map(|i: usize| (i * i) as u32 + u32::from(i == changed))
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// What the others are coded against.
fn base_model() -> Vec<u8> {
    let halves = bell().take(500).flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect();
    safetensors(&[
        ("w", Dtype::Bf16, &[60, 50], bf16(3000)),
        ("v", Dtype::F32, &[2100], f32s(bell().take(2100))),
        ("h", Dtype::F16, &[500], halves),
        ("ids", Dtype::U32, &[900], ids(usize::MAX)),
    ])
}

fn against_base(name: &'static str, shows: &'static str, level: Level, file: Vec<u8>) -> Vector {
    let mut base = Base::new();
    base.add("base.safetensors", base_model()).unwrap();
    let wz = compressed(&file, &Options { threads: 1, level, base, ..Options::default() });
    Vector { name, shows, wz, outcome: Ok(file), is_frame: false, bases: BASE }
}

pub(super) fn ok() -> Vec<Vector> {
    let base = base_model();
    let halves = trained(500).flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect();
    let trained_model = safetensors(&[
        ("w", Dtype::Bf16, &[60, 50], trained_bf16(3000)),
        ("v", Dtype::F32, &[2100], f32s(trained(2100))),
        ("h", Dtype::F16, &[500], halves),
        ("ids", Dtype::U32, &[900], ids(77)),
    ]);
    let grown = safetensors(&[
        ("model.w", Dtype::Bf16, &[70, 50], trained_bf16(3500)),
        ("other", Dtype::F32, &[300], f32s(bell().skip(5000).take(300))),
    ]);
    let halves = |v: f32| half::f16::from_f32(v).to_le_bytes();
    let converted = safetensors(&[
        ("w", Dtype::F32, &[60, 50], f32s(trained(3000))),
        ("v", Dtype::F16, &[2200], trained(2200).flat_map(halves).collect()),
        ("h", Dtype::Bf16, &[500], trained_bf16(500)),
    ]);
    let mut flipped = base.clone();
    let at = flipped.len() - 900 * 4 - 500 * 2 - 2100 * 4 - 100;
    // Another sign; a NaN; and 0 next to a large number.
    flipped[at..at + 6].copy_from_slice(&[0x30, 0xBF, 0xC1, 0x7F, 0, 0]);
    let plain = compressed(&base, &Options { threads: 1, ..Options::default() });
    let made = Vector {
        name: "base",
        shows: "a model that other vectors are coded against",
        wz: plain,
        outcome: Ok(base.clone()),
        is_frame: false,
        bases: &[],
    };
    vec![
        made,
        against_base(
            "delta",
            "differences of BF16, FP32 and FP16; xor",
            Level::Default,
            trained_model.clone(),
        ),
        against_base("delta_max", "the same at level max", Level::Max, trained_model),
        against_base("delta_same", "xor: nothing differs", Level::Default, base),
        against_base(
            "delta_grown",
            "more rows than the base has; a tensor that it lacks",
            Level::Default,
            grown,
        ),
        against_base("delta_far", "differences across zero, and escapes", Level::Default, flipped),
        by_hand(Coding::Difference).vector(
            "delta_by_hand",
            "a base part that starts within its tensor, behind one without a base",
        ),
        against_base(
            "delta_converted",
            "BF16 converted to FP32, FP32 to FP16, FP16 to BF16",
            Level::Default,
            converted,
        ),
        converted_by_hand().vector(
            "delta_converted_by_hand",
            "a converted base part within its tensor, behind one that needn't be",
        ),
    ]
}

/// A file of one segment with one block, made by hand.
#[derive(Clone)]
pub(super) struct ByHand {
    bases: Bases,
    parts: Vec<BasePart>,
    layout: RecordLayout,
    pub(super) data: Vec<u8>,
    /// What the block is coded against.
    pub(super) base: Vec<u8>,
    coding: Coding,
    pub(super) payload: Vec<u8>,
    footer_tells: bool,
}

fn of(tensor: usize, offset: u64) -> PartBase {
    PartBase { number: tensor, offset, how: How::Same }
}

/// 2900 elements of `w`, from the 101st of the base on, behind 16 that have no base.
pub(super) fn by_hand(coding: Coding) -> ByHand {
    let (old, skipped) = (bf16(3000), 32);
    let data = [&trained_bf16(16), &trained_bf16(3000)[200..]].concat();
    let base = [&vec![0; skipped][..], &old[200..][..data.len() - skipped]].concat();
    let base_tensor = BaseTensor {
        file: "base.safetensors".into(),
        name: "w".to_owned(),
        bytes: old.len() as u64,
        blake3: *blake3::hash(&old).as_bytes(),
    };
    let bases = Bases { tensors: vec![base_tensor], repeated: Vec::new() };
    let parts = vec![
        BasePart { bytes: skipped as u64, from: None },
        BasePart { bytes: (data.len() - skipped) as u64, from: Some(of(0, 200)) },
    ];
    let mut file = ByHand {
        bases,
        parts,
        layout: Dtype::Bf16.record_layout(),
        data,
        base,
        coding,
        payload: Vec::new(),
        footer_tells: true,
    };
    file.code(coding);
    file
}

/// The same, but behind the first 500 elements of `w` it goes on with `v` from its 101st on.
fn converted_by_hand() -> ByHand {
    let (mut file, old) = (by_hand(Coding::Difference), f32s(bell().take(2100)));
    file.bases.tensors.push(BaseTensor {
        file: "base.safetensors".into(),
        name: "v".to_owned(),
        bytes: old.len() as u64,
        blake3: *blake3::hash(&old).as_bytes(),
    });
    file.parts[1].bytes = 1000;
    let from = PartBase { how: How::Converted(Dtype::F32), ..of(1, 400) };
    file.parts.push(BasePart { bytes: 4000, from: Some(from) });
    file.base.truncate(1032);
    let v = bell().take(2100).skip(100).map(half::bf16::from_f32);
    file.base.extend(v.flat_map(half::bf16::to_le_bytes));
    file.data = [&file.data[..1032], &trained_bf16(2100)[200..]].concat();
    file.code(Coding::Difference);
    file
}

impl ByHand {
    pub(super) fn code(&mut self, coding: Coding) {
        let records = self.data.len() / usize::from(self.layout.bytes());
        let payload = encode_as(coding, &self.layout, &self.base, records as u32, &self.data);
        (self.coding, self.payload) = (coding, payload.unwrap());
    }

    pub(super) fn to_wz(&self) -> Vec<u8> {
        let mut wz = Vec::new();
        let mut writer = Writer::new(&mut wz, Flags::default()).unwrap();
        let len = (!self.bases.is_empty()).then(|| writer.bases(&self.bases).unwrap());
        let (layout, bytes) = (self.layout.clone(), self.data.len() as u64);
        let segment = Segment { layout, row: 0, spans: vec![bytes], base: self.parts.clone() };
        writer.begin_segment(&segment, None).unwrap();
        let entry = Entry {
            len: self.payload.len() as u32,
            coding: self.coding,
            records: (self.data.len() / usize::from(self.layout.bytes())) as u32,
            check: weightzip_kernels::xxh3::xxh3_64(&self.data),
        };
        let mut section = vec![0; entry.section().whole_len()];
        entry.section().write_to(&self.payload, &mut section);
        writer.blocks(&[entry], &section).unwrap();
        writer.end_segment(vec![tensor("w", &self.data)]).unwrap();
        let bases = len.filter(|_| self.footer_tells);
        writer.finish(crate::container::footer::Footer { bases, ..footer(&self.data, 1) }).unwrap();
        wz
    }

    pub(super) fn vector(self, name: &'static str, shows: &'static str) -> Vector {
        let wz = self.to_wz();
        Vector { name, shows, wz, outcome: Ok(self.data), is_frame: false, bases: BASE }
    }
}

pub(super) fn errors() -> Vec<Vector> {
    let bad = |name, shows, kind, edit: &dyn Fn(&mut ByHand)| {
        let mut file = by_hand(Coding::Difference);
        edit(&mut file);
        Vector { name, shows, wz: file.to_wz(), outcome: Err(kind), is_frame: false, bases: BASE }
    };
    let corrupt =
        |name, shows, edit: &dyn Fn(&mut ByHand)| bad(name, shows, Kind::Corruption, edit);
    // In the payload: the preamble, the base's hash, the counts.
    const COUNTS: usize = 32;
    let converted = |name, shows, kind, edit: &dyn Fn(&mut ByHand, &mut PartBase)| {
        let mut file = converted_by_hand();
        let mut from = file.parts[2].from.unwrap();
        edit(&mut file, &mut from);
        file.parts[2].from = Some(from);
        Vector { name, shows, wz: file.to_wz(), outcome: Err(kind), is_frame: false, bases: BASE }
    };
    use Kind::{Compatibility, Corruption};
    let mut alone = by_hand(Coding::Difference).vector("base_missing", "its base is not there");
    (alone.outcome, alone.bases) = (Err(Kind::InvalidArgument), &[]);
    let xor = |file: &mut ByHand| {
        file.data.clone_from(&file.base);
        file.code(Coding::Xor);
    };
    vec![
        alone,
        bad("base_other", "a base tensor that no base has", Kind::InvalidArgument, &|f| {
            f.bases.tensors[0].blake3[0] ^= 1;
        }),
        bad("base_block_other", "a block with another base's hash", Kind::InvalidArgument, &|f| {
            f.payload[20] ^= 1;
        }),
        corrupt("base_part_outside", "a base part that leaves its tensor", &|f| {
            f.parts[1].from = Some(of(0, 201));
        }),
        corrupt("base_part_unknown", "a base part of a tensor that is not listed", &|f| {
            f.parts[1].from = Some(of(1, 0));
        }),
        corrupt("base_part_long", "base parts of more bytes than the segment", &|f| {
            f.parts[0].bytes += 1;
        }),
        corrupt("base_parts_many", "4097 base parts", &|f| {
            let first = f.parts[0];
            f.parts = vec![BasePart { bytes: 1, ..first }; 4097];
            f.parts[4096].from = Some(of(0, 0));
        }),
        converted("base_dtype_unknown", "a base part of FP64", Compatibility, &|_, from| {
            from.how = How::Converted(Dtype::F64);
        }),
        converted(
            "base_dtype_same",
            "a base part converted to its own dtype",
            Corruption,
            &|_, from| {
                from.how = How::Converted(Dtype::Bf16);
            },
        ),
        converted(
            "base_dtype_of_ints",
            "a base part converted to integers",
            Corruption,
            &|f, _| {
                f.layout = Dtype::I16.record_layout();
            },
        ),
        converted(
            "base_dtype_offset",
            "a converted base part from within an element",
            Corruption,
            &|_, from| {
                from.offset -= 2;
            },
        ),
        converted(
            "base_dtype_bytes",
            "a converted base part that ends within a record",
            Corruption,
            &|f, _| {
                f.parts[2].bytes -= 1;
            },
        ),
        converted(
            "base_dtype_start",
            "a converted base part that starts within a record",
            Corruption,
            &|f, _| {
                f.parts[0].bytes -= 1;
            },
        ),
        converted(
            "base_dtype_outside",
            "a converted base part that leaves its tensor",
            Corruption,
            &|_, from| {
                from.offset += 4;
            },
        ),
        corrupt("base_parts_empty", "base parts, and none has a base", &|f| f.parts.truncate(1)),
        corrupt("base_none", "a block with a base in a segment without", &|f| {
            f.parts.clear();
            f.bases = Bases::default();
        }),
        corrupt("bases_unused", "bases, and no segment has one", &|f| {
            f.parts.clear();
            (f.coding, f.payload) = (Coding::Raw, vec![0; 16]);
            f.payload[..4].copy_from_slice(&2916u32.to_le_bytes());
            f.payload.extend(&f.data);
        }),
        corrupt("bases_untold", "bases that the footer doesn't tell of", &|f| {
            f.footer_tells = false
        }),
        corrupt("base_short_block", "a block of 240 bytes with a base", &|f| {
            f.data.truncate(240);
            f.parts[1].bytes = 240 - 32;
            f.payload[..4].copy_from_slice(&120u32.to_le_bytes());
        }),
        corrupt("difference_bounds", "bounds that descend", &|f| {
            f.payload[4..6].copy_from_slice(&[9, 8])
        }),
        corrupt("difference_unknown_bits", "unknown bits in the preamble", &|f| f.payload[13] = 1),
        corrupt("difference_width", "escape codes of 9 bits", &|f| f.payload[12] = 9),
        corrupt("difference_escapes", "more escape codes than elements", &|f| {
            f.payload[COUNTS..COUNTS + 4].copy_from_slice(&2917u32.to_le_bytes());
        }),
        corrupt("difference_raw_bytes", "more bytes of raw bits than of elements", &|f| {
            f.payload[COUNTS + 4..COUNTS + 8].copy_from_slice(&5833u32.to_le_bytes());
        }),
        corrupt("difference_zeros", "something where zeros are due", &|f| {
            f.payload[COUNTS + 8] = 1
        }),
        corrupt("difference_raw_less", "a byte less of raw bits", &|f| {
            let raw = u32::from_le_bytes(f.payload[COUNTS + 4..][..4].try_into().unwrap());
            f.payload[COUNTS + 4..COUNTS + 8].copy_from_slice(&(raw - 1).to_le_bytes());
        }),
        corrupt("difference_words", "a word too many", &|f| f.payload.extend([0, 0])),
        corrupt("difference_few_words", "a word too few", &|f| {
            f.payload.truncate(f.payload.len() - 2);
        }),
        corrupt("difference_cut", "ends within its weights", &|f| f.payload.truncate(60)),
        corrupt("xor_inner", "an xor block of a raw block", &|f| {
            xor(f);
            f.payload[4] = 0x80;
        }),
        corrupt("xor_unknown_bits", "unknown bits in the preamble of an xor block", &|f| {
            xor(f);
            f.payload[9] = 1;
        }),
        corrupt("xor_length", "an xor block of a record too much", &|f| {
            xor(f);
            f.payload.extend([0, 0]);
        }),
    ]
}
