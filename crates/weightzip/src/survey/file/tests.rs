//! Estimates beside what files take.

use super::*;
use crate::{Dtype, Options, TensorInfo, compress, scan};

/// Numbers below others, one after another.
fn random(mut state: u64) -> impl FnMut(u32) -> u32 {
    move |n| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let [a, b, ..] = state.to_be_bytes();
        (u32::from(u16::from_be_bytes([a, b])) * n) >> 16
    }
}

/// A safetensors file of tensors of rows of so many numbers.
fn safetensors(dtype: Dtype, row: usize, tensors: &[Vec<u8>]) -> Vec<u8> {
    let tensors: Vec<_> = tensors.iter().map(|data| (dtype, data)).collect();
    mixed(row, &tensors)
}

/// The same, each tensor of its own dtype.
fn mixed(row: usize, tensors: &[(Dtype, &Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut all) = (serde_json::Map::new(), Vec::new());
    for (i, (dtype, data)) in tensors.iter().enumerate() {
        let (start, rows) = (all.len(), data.len() / dtype.bytes() / row);
        all.extend_from_slice(data);
        let dtype = dtype.name().to_uppercase();
        let entry = serde_json::json!({"dtype": dtype, "shape": [rows, row], "data_offsets": [start, all.len()]});
        header.insert(format!("t{i:03}"), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &all].concat()
}

/// Tensors that are unlike one another: exponents of 1 to 64 values.
fn model(tensors: usize, count: usize) -> Vec<u8> {
    let mut below = random(1);
    let mut tensor = |i: usize| {
        let mut float = || {
            let exponent = 0x30 + below(1 << (i % 7));
            (below(2) << 15 | exponent << 7 | below(128)).to_le_bytes()
        };
        (0..count).flat_map(|_| float().into_iter().take(2).collect::<Vec<_>>()).collect()
    };
    let tensors: Vec<_> = (0..tensors).map(&mut tensor).collect();
    safetensors(Dtype::Bf16, 256, &tensors)
}

/// Integers of four bits, eight to a word: groups of 16 rows and channels differ in how large theirs are.
fn packed(rows: usize, row: usize, seed: u64) -> Vec<u8> {
    let mut below = random(seed);
    let channels: Vec<u32> = (0..8 * rows).map(|_| 1 + below(3)).collect();
    let mut groups: Vec<u32> = Vec::new();
    let mut data = Vec::new();
    for i in 0..rows {
        if i % 16 == 0 {
            groups = (0..row).map(|_| 1 + below(3)).collect();
        }
        for group in &groups {
            let mut integer = |place: usize| {
                let spread = channels[8 * i + place] + group;
                8 - spread + below(spread + 1) + below(spread + 1)
            };
            let word: u32 = (0..8).map(|place| integer(place) << (4 * place)).sum();
            data.extend(word.to_le_bytes());
        }
    }
    data
}

/// Small integers, larger ones in some tensors than in others.
fn integers(tensors: usize, count: usize) -> Vec<u8> {
    let mut below = random(1);
    let mut tensor = |i: usize| {
        let most = 2 << (i % 7);
        (0..count).map(|_| below(most).wrapping_sub(below(most)).to_le_bytes()[0]).collect()
    };
    let tensors: Vec<_> = (0..tensors).map(&mut tensor).collect();
    safetensors(Dtype::I8, 384, &tensors)
}

/// Floats that are integers times a scale for each row.
fn scaled(rows: usize) -> Vec<u8> {
    let mut below = random(1);
    let mut data = Vec::new();
    for _ in 0..rows {
        let scale = (below(1 << 15) + 9999) as f32 / 65_536.0;
        let mut integer = || below(8) as f32 - below(8) as f32;
        (0..384).for_each(|_| data.extend((integer() * scale).to_le_bytes()));
    }
    safetensors(Dtype::F32, 384, &[data])
}

/// Floats of which most are zero, in some rows more than in others.
fn sparse(rows: usize) -> Vec<u8> {
    let mut below = random(1);
    let mut data = Vec::new();
    for _ in 0..rows {
        let of = 2 + below(20);
        let mut float = || if below(of) > 0 { 0 } else { 0x3D00_0000 + below(1 << 15) * 777 };
        (0..384).for_each(|_| data.extend(float().to_le_bytes()));
    }
    safetensors(Dtype::F32, 384, &[data])
}

/// A GGUF file of blocks of two scales and 32 integers of four bits each.
fn blocks(count: usize) -> Vec<u8> {
    const Q4_1: u32 = 3;
    let mut below = random(1);
    let mut data = Vec::new();
    for _ in 0..count {
        let scale = 0x2800 + below(0x400) + below(0x400);
        let least = 0x8000 + scale + 0xB00 + below(0x100);
        data.extend((scale | least << 16).to_le_bytes());
        let mut integer = || below(8) + below(9);
        (0..16).for_each(|_| data.extend(&(integer() | integer() << 4).to_le_bytes()[..1]));
    }
    let header: [&[u8]; 9] = [
        b"GGUF\x03\0\0\0",
        &1u64.to_le_bytes(),
        &0u64.to_le_bytes(),
        &1u64.to_le_bytes(),
        b"t",
        &1u32.to_le_bytes(),
        &(32 * count as u64).to_le_bytes(),
        &Q4_1.to_le_bytes(),
        &0u64.to_le_bytes(),
    ];
    let mut file = header.concat();
    file.resize(file.len().next_multiple_of(32), 0);
    [file, data].concat()
}

#[test]
fn estimates_come_near_and_read_little() {
    let (long, other) = (packed(512, 500, 0), vec![1; 1000]);
    let short: Vec<_> = (1..40).map(|seed| packed(8, 500, seed << 32)).collect();
    let between = short.iter().flat_map(|short| [(Dtype::I32, short), (Dtype::U8, &other)]);
    let between: Vec<_> = between.chain([(Dtype::I32, &long)]).collect();
    let files = [
        (safetensors(Dtype::I32, 1024, &[packed(512, 1024, 1)]), 0.15, 0.003),
        // Short blocks have no packed integers, long ones do.
        (mixed(500, &between), 0.16, 0.005),
        (integers(48, 384 << 10), 0.02, 0.004),
        (scaled(6 << 10), 0.03, 0.003),
        (sparse(8 << 10), 0.03, 0.01),
        (blocks(400 << 10), 0.04, 0.003),
        (model(84, 160 << 10), 0.02, 0.003),
        // Of few tensors, few blocks tell what a block takes.
        (model(8, 40 << 10), 0.5, 0.01),
        (model(3, 1 << 10), 1.0, 0.001),
    ];
    for (i, (file, most, near)) in files.into_iter().enumerate() {
        let spans = scan(file.as_slice()).unwrap().spans;
        for &level in Level::ALL {
            let estimate = estimate_file(file.as_slice(), &spans, level).unwrap();
            let options = Options { level, threads: 1, ..Options::default() };
            let real = compress(file.as_slice(), std::io::sink(), &options).unwrap();
            let of = |bytes: u64| bytes as f64 / file.len() as f64;
            let off = of(estimate.bytes) - of(real.compressed_bytes);
            assert!(off.abs() < near + 512.0 / file.len() as f64, "{i} {level:?}: {off}");
            assert!(of(estimate.read) <= most, "{i}: {}", estimate.read);
            let again = estimate_file(file.as_slice(), &spans, level).unwrap();
            assert_eq!(again, estimate);
        }
    }
}

#[test]
fn equal_tensors_count_once() {
    let (file, count) = (model(1, 2 << 20), (2 << 20) * 2);
    let data = &file[file.len() - count..];
    let entry = |name: &str, start: usize| {
        let end = start + count;
        format!(r#""{name}":{{"dtype":"BF16","shape":[8192,256],"data_offsets":[{start},{end}]}}"#)
    };
    let header = format!("{{{},{}}}", entry("a", 0), entry("b", count));
    let header_len = (header.len() as u64).to_le_bytes();
    let file = [&header_len, header.as_bytes(), data, data].concat();
    let spans = scan(file.as_slice()).unwrap().spans;
    let estimate = estimate_file(file.as_slice(), &spans, Level::Default).unwrap();
    let source: std::sync::Arc<dyn Source + Send> = std::sync::Arc::new(file.clone());
    let options = Options { threads: 1, source: Some(source), ..Options::default() };
    let real = compress(file.as_slice(), std::io::sink(), &options).unwrap().compressed_bytes;
    assert!(real < file.len() as u64 / 2, "{real}");
    assert!(estimate.bytes.abs_diff(real) < file.len() as u64 / 100, "{estimate:?} {real}");
}

#[test]
fn what_is_read_is_bounded_however_large_the_file_is() {
    struct Zeros;
    impl Source for Zeros {
        fn size(&self) -> std::io::Result<u64> {
            Ok(1 << 50)
        }
        fn read_at(&self, _: u64, buf: &mut [u8]) -> std::io::Result<()> {
            buf.fill(0);
            Ok(())
        }
    }
    let info = TensorInfo { name: "t".into(), dtype: Dtype::F32, shape: vec![1 << 28, 1 << 20] };
    let spans = [Span::tensor(0..1 << 50, info), Span::opaque(1 << 50..1 << 50)];
    let estimate = estimate_file(&Zeros, &spans, Level::Default).unwrap();
    assert!(estimate.read <= MOST + (64 << 10), "{}", estimate.read);
    // Blocks of zeros, each with its header and its entry.
    assert!(estimate.bytes < 1 << 37, "{}", estimate.bytes);
    assert_eq!(estimate_file([].as_slice(), &[], Level::Max).unwrap().read, 0);
}
