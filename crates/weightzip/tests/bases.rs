//! Files that are coded against others.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

use std::sync::Mutex;
use weightzip::{
    Archive, Base, Coding, DecodeOptions, Kind, Level, Options, Source, Summary, compress,
    decompress,
};

/// A safetensors file of tensors with a name, a dtype, a shape and their bytes.
fn model(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::<u8>::new());
    for (name, dtype, shape, bytes) in tensors {
        let end = data.len() + bytes.len();
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{},{end}]}}"#,
            data.len()
        ));
        data.extend(bytes);
    }
    let json = format!("{{{}}}", entries.join(","));
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file.extend(data);
    file
}

/// Numbers without pattern, the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::from_be_bytes(self.0.to_be_bytes()[..4].try_into().unwrap())
    }

    /// A float near 0 that looks like a weight.
    fn weight(&mut self) -> f32 {
        (0..4).map(|_| self.next() as f32 / u32::MAX as f32 - 0.5).sum::<f32>() * 0.04
    }
}

fn weights(seed: u64, count: usize) -> Vec<f32> {
    let mut noise = Noise(seed);
    (0..count).map(|_| noise.weight()).collect()
}

/// What little training does.
fn trained(weights: &[f32], seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    weights.iter().map(|w| w + noise.weight() * 0.01).collect()
}

fn bf16(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|w| w.to_le_bytes()[2..].to_vec()).collect()
}

fn f32s(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|w| w.to_le_bytes()).collect()
}

const ROWS: usize = 3000;
const ROW: usize = 100;

/// A model, one trained from it, and the base with the first one.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let (w, x) = (weights(1, ROWS * ROW), weights(2, 50_000));
    let (new_w, mut new_x) = (trained(&w, 3), trained(&x, 4));
    new_x[700..].copy_from_slice(&x[700..]);
    let ids: Vec<u8> = (0..90_000u32).flat_map(|i| (i * 7).to_le_bytes()).collect();
    let mut new_ids = ids.clone();
    new_ids[40_001] ^= 1;
    let small = |seed| bf16(&weights(seed, 300));
    let of = |w: &[f32], x: &[f32], ids: Vec<u8>, small_seed| {
        model(&[
            ("w", "BF16", &[ROWS, ROW], bf16(w)),
            ("x", "F32", &[x.len()], f32s(x)),
            ("frozen", "BF16", &[ROWS, ROW], bf16(&weights(9, ROWS * ROW))),
            ("ids", "I32", &[90_000], ids),
            ("small.a", "BF16", &[300], small(5)),
            ("small.b", "BF16", &[300], small(small_seed)),
        ])
    };
    (of(&w, &x, ids, 6), of(&new_w, &new_x, new_ids, 7))
}

fn against(base: &Base, new: &[u8], level: Level, threads: usize) -> (Vec<u8>, Summary) {
    let mut wz = Vec::new();
    let options = Options { base: base.clone(), level, threads, ..Options::default() };
    let summary = compress(new, &mut wz, &options).unwrap();
    (wz, summary)
}

fn restored(wz: &[u8], base: &Base, threads: usize) -> weightzip::Result<Vec<u8>> {
    let mut out = Vec::new();
    let options = DecodeOptions { base: base.clone(), threads, ..DecodeOptions::default() };
    decompress(wz, &mut out, &options).map(|_| out)
}

fn of(models: &[(&str, &[u8])]) -> Base {
    let mut base = Base::new();
    models.iter().for_each(|(name, model)| base.add(name, model.to_vec()).unwrap());
    base
}

fn of_one(model: &[u8]) -> Base {
    of(&[("old.safetensors", model)])
}

#[test]
fn a_model_comes_back_from_its_base_and_takes_less() {
    let (old, new) = pair();
    let base = of(&[("old.safetensors", &old)]);
    for &level in Level::ALL {
        let (alone, _) = against(&Base::new(), &new, level, 1);
        let (wz, summary) = against(&base, &new, level, 1);
        assert_eq!(wz, against(&base, &new, level, 3).0);
        assert!(wz.len() < alone.len() * 2 / 3, "{} {}", wz.len(), alone.len());
        assert_eq!(summary.bases.len(), 6);
        assert!(summary.bases.iter().all(|base| &*base.file == "old.safetensors"));
        // From the plain base, from a compressed one, and from one in other files.
        let compressed = against(&Base::new(), &old, Level::Max, 1).0;
        for base in [&base, &of(&[("elsewhere.wz", &compressed)])] {
            for threads in [1, 3] {
                assert!(restored(&wz, base, threads).unwrap() == new);
            }
        }
        let options = DecodeOptions { base: base.clone(), ..DecodeOptions::default() };
        let archive = Archive::open_with(wz, options).unwrap();
        let codings = |name| archive.tensor(name).unwrap().stored().unwrap().codings;
        assert_eq!(codings("w"), [Coding::Difference]);
        assert_eq!(codings("frozen"), [Coding::Xor]);
        assert_eq!(codings("ids"), [Coding::Xor]);
        assert!(archive.tensor("frozen").unwrap().stored().unwrap().bytes < 400);
    }
}

#[test]
fn without_its_base_nothing_is_written_and_the_error_says_what_is_missing() {
    let (old, new) = pair();
    let base = of(&[("old.safetensors", &old)]);
    let (wz, summary) = against(&base, &new, Level::Default, 1);
    let missing = |base: &Base| {
        let mut out = Vec::new();
        let options = DecodeOptions { base: base.clone(), ..DecodeOptions::default() };
        let error = decompress(wz.as_slice(), &mut out, &options).unwrap_err();
        assert!(out.is_empty());
        assert_eq!(error.kind(), Kind::InvalidArgument);
        error.to_string()
    };
    let hash = blake3::Hash::from(summary.bases[0].blake3).to_hex();
    let none = missing(&Base::new());
    assert!(none.contains("base model not found: old.safetensors, blake3"), "{none}");
    assert!(none.contains(hash.as_str()), "{none}");
    // One bit of `w` differs: both hashes are named.
    let mut other = old.clone();
    let header = 8 + u64::from_le_bytes(old[..8].try_into().unwrap()) as usize;
    other[header + 5000] ^= 1;
    let differs = missing(&of(&[("old.safetensors", &other)]));
    assert!(differs.contains(hash.as_str()), "{differs}");
    assert!(differs.contains("has another of this name: blake3"), "{differs}");
    // A part is refused by its blocks' own hashes, but what doesn't use the base can be read.
    let options =
        DecodeOptions { base: of(&[("old.safetensors", &other)]), ..DecodeOptions::default() };
    let archive = Archive::open_with(wz.clone(), options).unwrap();
    let error = archive.tensor("w").unwrap().read().unwrap_err();
    assert!(error.to_string().contains("other bytes"), "{error}");
    assert!(archive.tensor("x").unwrap().read().is_ok());
    let alone = Archive::open(wz).unwrap();
    assert_eq!(alone.bases().len(), 6);
    let error = alone.tensor("w").unwrap().read().unwrap_err();
    assert!(error.to_string().contains("base model not found"), "{error}");
}

#[test]
fn names_shapes_and_dtypes_may_have_changed() {
    let w = weights(1, 500 * ROW);
    let new = trained(&w, 2);
    let grown: Vec<f32> = new.iter().copied().chain(weights(8, 40 * ROW)).collect();
    let base = of(&[(
        "a.safetensors",
        &model(&[
            ("module.w", "BF16", &[500, ROW], bf16(&w)),
            ("grown", "BF16", &[500, ROW], bf16(&w)),
            ("shrunk", "BF16", &[500, ROW], bf16(&w)),
            ("turned", "BF16", &[500, ROW], bf16(&w)),
            ("cast", "F32", &[500, ROW], f32s(&w)),
            ("1.twice", "BF16", &[500, ROW], bf16(&w)),
        ]),
    )]);
    let file = model(&[
        ("model.w", "BF16", &[500, ROW], bf16(&new)),
        ("grown", "BF16", &[540, ROW], bf16(&grown)),
        ("shrunk", "BF16", &[450, ROW], bf16(&new[..450 * ROW])),
        ("turned", "BF16", &[ROW, 500], bf16(&new)),
        ("cast", "BF16", &[500, ROW], bf16(&new)),
    ]);
    let (wz, summary) = against(&base, &file, Level::Default, 1);
    let named: Vec<_> = summary.bases.iter().map(|base| base.name.as_str()).collect();
    assert_eq!(named, ["module.w", "grown", "shrunk", "cast"]);
    assert!(restored(&wz, &base, 1).unwrap() == file);
}

#[test]
fn a_base_of_another_dtype_is_converted() {
    let w = weights(1, ROWS * ROW);
    // Subnormals in F16, which others are not.
    let w: Vec<f32> =
        w.iter().enumerate().map(|(i, w)| if i % 9 == 0 { w / 1e5 } else { *w }).collect();
    let cast = |w: &[f32], dtype: &str| -> Vec<u8> {
        match dtype {
            "F16" => w.iter().flat_map(|w| half::f16::from_f32(*w).to_le_bytes()).collect(),
            "BF16" => w.iter().flat_map(|w| half::bf16::from_f32(*w).to_le_bytes()).collect(),
            _ => f32s(w),
        }
    };
    // A few rows fewer in the base, and two in one block.
    let of = |dtype, rows: usize, w: &[f32]| {
        let small = [&w[..1000], &w[1000..3000]].map(|w| cast(w, dtype));
        let [a, b] = small;
        let w = cast(&w[..rows * ROW], dtype);
        model(&[("w", dtype, &[rows, ROW], w), ("a", dtype, &[1000], a), ("b", dtype, &[2000], b)])
    };
    let new = trained(&w, 2);
    for (old, new_dtype) in [
        ("F32", "BF16"),
        ("F32", "F16"),
        ("BF16", "F32"),
        ("F16", "F32"),
        ("BF16", "F16"),
        ("F16", "BF16"),
    ] {
        let base = of_one(&of(old, ROWS - 10, &w));
        for (file, small) in
            [(of(new_dtype, ROWS - 10, &w), old == "F32"), (of(new_dtype, ROWS, &new), false)]
        {
            let (alone, _) = against(&Base::new(), &file, Level::Default, 1);
            let (wz, summary) = against(&base, &file, Level::Default, 1);
            assert_eq!(summary.bases.len(), 3);
            assert_eq!(wz, against(&base, &file, Level::Default, 3).0);
            assert!(restored(&wz, &base, 3).unwrap() == file);
            assert!(
                wz.len() < alone.len() * 9 / 10,
                "{old} {new_dtype}: {} {}",
                wz.len(),
                alone.len()
            );
            assert!(!small || wz.len() < 2500, "{old} {new_dtype}: {}", wz.len());
            // Parts, the last rows without a base among them.
            let options = DecodeOptions { base: base.clone(), ..DecodeOptions::default() };
            let archive = Archive::open_with(wz, options).unwrap();
            for name in ["w", "a", "b"] {
                let tensor = archive.tensor(name).unwrap();
                let rows = tensor.info().shape[0];
                for rows in [0..1, 999.min(rows - 2)..rows - 1, rows - 11..rows] {
                    let rows = tensor.rows(rows).unwrap();
                    let mut part = vec![0; rows.bytes() as usize];
                    rows.read_into(&mut part).unwrap();
                    assert!(part == file[rows.range().start as usize..rows.range().end as usize]);
                }
            }
        }
    }
}

/// Compresses `new` against models that it was compared with; returns what it needs, and whether it takes
/// much less.
fn compared(models: &[(&str, &[u8])], new: &[u8]) -> (Vec<String>, bool) {
    let mut base = of(models);
    base.compare_with(new).unwrap();
    let alone = against(&Base::new(), new, Level::Default, 1).0;
    let (wz, summary) = against(&base, new, Level::Default, 1);
    assert!(restored(&wz, &of(models), 1).unwrap() == new);
    let named = |base: &weightzip::BaseTensor| format!("{} of {}", base.name, base.file);
    (summary.bases.iter().map(named).collect(), wz.len() < alone.len() * 3 / 4)
}

/// `count` layers of a matrix, a bias and a norm; `first` is the seed of the first layer, `names` says how each is called.
fn layers(seeds: impl Iterator<Item = u64>, dtype: &str, name: impl Fn(u64) -> String) -> Vec<u8> {
    let mut tensors = Vec::new();
    for (i, seed) in (0..).zip(seeds) {
        // Some training, so that nothing is the same.
        let w = trained(&weights(seed, 100 * ROW), seed + 50 * u64::from(dtype != "F32"));
        let norm: Vec<f32> = weights(seed + 1000, 400).iter().map(|w| 1.0 + w).collect();
        for (kind, shape, values) in [("w", vec![100, ROW], w), ("norm", vec![400], norm)] {
            let bytes = if dtype == "F32" { f32s(&values) } else { bf16(&values) };
            tensors.push((format!("{}.{kind}", name(i)), shape, bytes));
        }
    }
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), dtype, shape.as_slice(), bytes.clone()))
        .collect();
    model(&tensors)
}

#[test]
fn renamed_and_renumbered_tensors_are_found_by_what_they_hold() {
    let old = layers(1..9, "BF16", |i| format!("layers.{i}"));
    let needs = |numbers: &[u64]| -> Vec<String> {
        let kinds = |i: &u64| ["w", "norm"].map(|kind| format!("layers.{i}.{kind} of old"));
        numbers.iter().flat_map(kinds).collect()
    };
    // Other names; in another order, so that names lie; two layers left out; another dtype.
    let renamed = layers(1..9, "BF16", |i| format!("model.h.{i}"));
    assert_eq!(compared(&[("old", &old)], &renamed), (needs(&[0, 1, 2, 3, 4, 5, 6, 7]), true));
    let turned = layers((1..9).rev(), "BF16", |i| format!("layers.{i}"));
    assert_eq!(compared(&[("old", &old)], &turned), (needs(&[7, 6, 5, 4, 3, 2, 1, 0]), true));
    let fewer = layers([1, 2, 5, 6].into_iter(), "F32", |i| format!("layers.{i}"));
    assert_eq!(compared(&[("old", &old)], &fewer).0, needs(&[0, 1, 4, 5]));
    // Names alone find what is called the same, and that is of no use.
    let (_, summary) = against(&of(&[("old", &old)]), &turned, Level::Default, 1);
    assert_eq!(summary.bases.len(), 16);
    // The nearest model has no precedence over one that is alike.
    let unrelated = layers(101..109, "BF16", |i| format!("layers.{i}"));
    let both = [("old", &old[..]), ("unrelated", &unrelated[..])];
    assert_eq!(compared(&both, &fewer).0, needs(&[0, 1, 4, 5]));
}

#[test]
fn a_base_may_be_in_more_or_fewer_files() {
    let (first, second) = (
        layers(1..4, "BF16", |i| format!("a.{i}")),
        layers(4..9, "BF16", |i| format!("a.{}", i + 3)),
    );
    let whole = layers(1..9, "BF16", |i| format!("b.{i}"));
    let (needs, small) = compared(&[("1", &first), ("2", &second)], &whole);
    assert_eq!((needs.len(), small), (16, true));
    assert_eq!((needs[0].as_str(), needs[15].as_str()), ("a.0.w of 1", "a.7.norm of 2"));
    for (part, count) in [(&first, 6), (&second, 10)] {
        let (needs, small) = compared(&[("whole", &whole)], part);
        assert_eq!((needs.len(), small), (count, true));
    }
}

#[test]
fn a_vocabulary_that_grew_is_found_under_another_name() {
    let w = weights(1, ROWS * ROW);
    let new = trained(&w, 2);
    let grown: Vec<f32> = new.iter().copied().chain(weights(8, 40 * ROW)).collect();
    let old = model(&[
        ("other", "BF16", &[ROWS, ROW], bf16(&weights(3, ROWS * ROW))),
        ("tokens", "BF16", &[ROWS, ROW], bf16(&w)),
    ]);
    for rows in [ROWS + 40, ROWS - 500] {
        let new = model(&[("embed", "BF16", &[rows, ROW], bf16(&grown[..rows * ROW]))]);
        assert_eq!(compared(&[("old", &old)], &new), (vec!["tokens of old".to_owned()], true));
    }
}

#[test]
fn what_is_not_alike_stands_alone_and_needs_nothing() {
    let ones = f32s(&[1.0; 5000]);
    let of = |seed| {
        model(&[
            ("w", "BF16", &[500, ROW], bf16(&weights(seed, 500 * ROW))),
            ("ones", "F32", &[5000], ones.clone()),
            ("few", "F32", &[9], f32s(&weights(5, 9))),
            ("bytes", "U8", &[9000], bf16(&weights(seed + 1, 4500))),
        ])
    };
    let (old, new) = (of(1), of(10));
    assert_eq!(compared(&[("old", &old)], &new), (Vec::new(), false));
    // Where something is alike, names tell of what nothing can be said.
    let (needs, small) = compared(&[("old", &old)], &of(1));
    assert_eq!((needs.len(), small), (4, true));
}

#[test]
fn a_file_that_is_cut_short_is_compared_as_far_as_it_goes() {
    let old = layers(1..9, "BF16", |i| format!("a.{i}"));
    let new = layers(1..9, "BF16", |i| format!("b.{i}"));
    let (needs, _) = compared(&[("old", &old)], &new[..new.len() / 2]);
    assert!((6..9).contains(&needs.len()), "{needs:?}");
    assert_eq!(compared(&[("old", &old)], b"no model"), (Vec::new(), false));
}

#[test]
fn thousands_of_equal_tensors_take_no_longer_than_others() {
    const COUNT: usize = 6000;
    let value = bf16(&weights(1, 100));
    let names: Vec<String> = (0..2 * COUNT).map(|i| i.to_string()).collect();
    let of = |names: &[String]| {
        let tensors: Vec<_> =
            names.iter().map(|name| (name.as_str(), "BF16", &[100][..], value.clone())).collect();
        model(&tensors)
    };
    let (old, new) = (of(&names[..COUNT]), of(&names[COUNT..]));
    let start = std::time::Instant::now();
    let (needs, small) = compared(&[("old", &old)], &new);
    // Not every one with every other in full: some seconds on a slow machine.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert_eq!((needs, small), (vec!["0 of old".to_owned()], true));
}

/// Counts what is read of it.
struct Counted {
    bytes: Vec<u8>,
    read: &'static Mutex<usize>,
}

impl Source for Counted {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        *self.read.lock().unwrap() += buf.len();
        self.bytes.read_at(offset, buf)
    }
}

#[test]
fn some_rows_of_a_long_chain_read_little_of_each_base() {
    const DEPTH: usize = 10;
    let mut now = weights(1, ROWS * ROW);
    let step = |w: &[f32]| model(&[("w", "BF16", &[ROWS, ROW], bf16(w))]);
    let (mut base, mut chain) = (Base::new(), Vec::new());
    for depth in 0..DEPTH {
        let file = step(&now);
        let wz = against(&base, &file, Level::Default, 1).0;
        assert!(restored(&wz, &base, 1).unwrap() == file);
        base.add(&format!("step-{depth}.wz"), wz.clone()).unwrap();
        chain.push(wz);
        now = trained(&now, depth as u64 + 50);
    }
    let last = step(&now);
    let (wz, summary) = against(&base, &last, Level::Default, 1);
    // The newest step is the nearest.
    assert_eq!(*summary.bases[0].file, format!("step-{}.wz", DEPTH - 1));

    static READ: [Mutex<usize>; DEPTH] = [const { Mutex::new(0) }; DEPTH];
    let mut base = Base::new();
    for ((depth, bytes), read) in chain.into_iter().enumerate().zip(&READ) {
        base.add(&format!("{depth}"), Counted { bytes, read }).unwrap();
    }
    READ.iter().for_each(|read| *read.lock().unwrap() = 0);
    let options = DecodeOptions { base, threads: 1, ..DecodeOptions::default() };
    let archive = Archive::open_with(wz, options).unwrap();
    let mut rows = vec![0; 10 * ROW * 2];
    archive.tensor("w").unwrap().rows(1200..1210).unwrap().read_into(&mut rows).unwrap();
    let start = last.len() - 2 * ROWS * ROW;
    assert!(rows == last[start + 1200 * ROW * 2..][..rows.len()]);
    // A block has at most 128 Ki values here; what describes the segment comes on top.
    let largest = 2 * (128 << 10);
    for (depth, read) in READ.iter().enumerate() {
        let read = *read.lock().unwrap();
        assert!(read > 0 && read <= rows.len() + 2 * largest, "{read} bytes of base {depth}");
    }
}

#[test]
fn a_chain_has_an_end() {
    let w = weights(1, 3000);
    let (mut base, mut depth) = (Base::new(), 0);
    let error = loop {
        let file = model(&[("w", "BF16", &[30, ROW], bf16(&trained(&w, depth)))]);
        let mut wz = Vec::new();
        let options = Options { base: base.clone(), threads: 1, ..Options::default() };
        match compress(file.as_slice(), &mut wz, &options) {
            Ok(_) => assert!(restored(&wz, &base, 1).unwrap() == file),
            Err(error) => break error,
        }
        base.add(&format!("{depth}.wz"), wz).unwrap();
        depth += 1;
    };
    assert_eq!((depth, error.kind()), (65, Kind::InvalidArgument));
    assert!(error.to_string().contains("a chain of more than 64 bases"), "{error}");
}

#[test]
fn a_chain_without_its_first_step_is_refused_at_once() {
    let (old, new) = pair();
    let wz = against(&of(&[("old", &old)]), &new, Level::Default, 1).0;
    let error = Base::new().add("new.wz", wz).unwrap_err();
    assert!(error.to_string().contains("base model not found: old"), "{error}");
}

#[test]
fn a_broken_file_with_a_base_is_refused() {
    let w = weights(1, 3000);
    let base = of(&[("a", &model(&[("w", "BF16", &[30, ROW], bf16(&w))]))]);
    let new = model(&[("w", "BF16", &[30, ROW], bf16(&trained(&w, 2)))]);
    let (wz, _) = against(&base, &new, Level::Default, 1);
    for at in 0..wz.len() {
        let mut broken = wz.clone();
        broken[at] ^= 1 << (at % 8);
        // What only fills a payload up doesn't matter.
        assert!(restored(&broken, &base, 1).map_or(true, |found| found == new), "byte {at}");
        assert!(restored(&wz[..at], &base, 1).is_err(), "cut at {at}");
    }
}
