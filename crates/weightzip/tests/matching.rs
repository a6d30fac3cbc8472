//! Which tensors of a base are taken for which new ones.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use common::models::{against, bf16, f32s, model, of, restored, trained, weights};
use weightzip::{Archive, Base, BaseTensor, DecodeOptions, Level};

const ROWS: usize = 3000;
const ROW: usize = 100;

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
    let model_of = |dtype, rows: usize, w: &[f32]| {
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
        let base = of(&[("old.safetensors", &model_of(old, ROWS - 10, &w))]);
        for (file, small) in [
            (model_of(new_dtype, ROWS - 10, &w), old == "F32"),
            (model_of(new_dtype, ROWS, &new), false),
        ] {
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
    base.compare_with(new, &weightzip::scan(new).unwrap().spans).unwrap();
    let alone = against(&Base::new(), new, Level::Default, 1).0;
    let (wz, summary) = against(&base, new, Level::Default, 1);
    assert!(restored(&wz, &of(models), 1).unwrap() == new);
    let named = |base: &BaseTensor| format!("{} of {}", base.name, base.file);
    (summary.bases.iter().map(named).collect(), wz.len() < alone.len() * 3 / 4)
}

/// Layers of a matrix and a norm, one of each seed, some training later if they are BF16 and not FP32.
fn layers(seeds: impl Iterator<Item = u64>, dtype: &str, name: impl Fn(u64) -> String) -> Vec<u8> {
    let mut tensors = Vec::new();
    for (i, seed) in (0..).zip(seeds) {
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
    // More values than a palette has.
    let value = bf16(&weights(1, 400));
    let names: Vec<String> = (0..2 * COUNT).map(|i| i.to_string()).collect();
    let of = |names: &[String]| {
        let tensors: Vec<_> =
            names.iter().map(|name| (name.as_str(), "BF16", &[400][..], value.clone())).collect();
        model(&tensors)
    };
    let (old, new) = (of(&names[..COUNT]), of(&names[COUNT..]));
    let start = std::time::Instant::now();
    let (needs, small) = compared(&[("old", &old)], &new);
    // Not every one with every other in full: some seconds on a slow machine.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert_eq!((needs, small), (vec!["0 of old".to_owned()], true));
}
