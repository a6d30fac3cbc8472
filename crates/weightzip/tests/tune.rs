//! The search for rules, against made-up scores and on files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail a test")]

use arbtest::arbitrary::{Result as Drawn, Unstructured};
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use weightzip::lossy::tune::{
    Direction, Found, Knob, Measured, Model, Options, Search, Tolerance, Trial,
};
use weightzip::lossy::{Bound, Rules};
use weightzip::{Dtype, Level, TensorInfo};

const ROLES: [&str; 4] = ["attn.q", "attn.k", "mlp.up", "mlp.down"];
const LAYERS: usize = 3;
const FINEST: i32 = -24;
const COARSEST: i32 = 2;

/// A model whose sizes and scores are known without one.
struct MadeUp {
    tensors: Vec<(TensorInfo, u64)>,
    /// How much a tensor's errors cost.
    weights: Vec<f64>,
    noise: f64,
    original: f64,
    direction: Direction,
}

impl MadeUp {
    fn new(weight_of: impl Fn(usize, usize) -> f64) -> Self {
        let (mut tensors, mut weights) = (Vec::new(), Vec::new());
        for layer in 0..LAYERS {
            for (role, name) in ROLES.iter().enumerate() {
                let name = format!("h.{layer}.{name}.weight");
                tensors.push((TensorInfo { name, dtype: Dtype::F32, shape: vec![64, 64] }, 16384));
                weights.push(weight_of(role, layer));
            }
        }
        let norm = TensorInfo { name: "norm.weight".into(), dtype: Dtype::F32, shape: vec![64] };
        tensors.push((norm, 256));
        weights.push(f64::INFINITY);
        Self { tensors, weights, noise: 0.0, original: 0.9, direction: Direction::Higher }
    }

    fn drawn(u: &mut Unstructured<'_>) -> Drawn<Self> {
        let mut weights = [0.0; ROLES.len()];
        for weight in &mut weights {
            *weight = 4f64.powi(u.int_in_range(-2..=14)?);
        }
        let mut model = Self::new(|role, _| weights[role]);
        if u.arbitrary()? {
            model.noise = 0.001;
        }
        model.direction = *u.choose(&Direction::ALL)?;
        Ok(model)
    }

    fn measure(&self, rules: &Rules) -> Measured {
        let (mut bits, mut cost) = (0.0, 0.0);
        for ((tensor, bytes), weight) in self.tensors.iter().zip(&self.weights) {
            let (left, error) = match rules.of(tensor) {
                Bound::Absolute(power) => (f64::from(-power).clamp(0.2, 24.0), 4f64.powi(power)),
                Bound::Relative(bits) => (f64::from(bits) + 3.0, 4f64.powi(-bits.cast_signed())),
                _ => (26.0, 0.0),
            };
            bits += left * *bytes as f64;
            cost += if error > 0.0 { error * weight } else { 0.0 };
        }
        let hash = blake3::hash(rules.to_string().as_bytes());
        let luck = f64::from(hash.as_bytes()[0]) / 255.0 - 0.5;
        let luck = if rules.is_empty() { 0.0 } else { luck * self.noise };
        let score = match self.direction {
            Direction::Higher => self.original - cost + luck,
            Direction::Lower => self.original + cost - luck,
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "test data")]
        Measured { bytes: bits as u64, score }
    }

    fn tune(&self, tolerance: Tolerance, max_evaluations: usize) -> Found {
        let options =
            Options { tolerance, direction: self.direction, max_evaluations, ..Options::default() };
        let search = Search::new(self.tensors.clone(), FINEST..=COARSEST, options);
        assert_eq!(search.groups(), ROLES.len());
        assert!(search.expected() <= max_evaluations);
        let Ok(found) = search.run(&mut |rules| Ok::<_, Infallible>(self.measure(rules)));
        found
    }
}

/// The smallest of trials that have one bound for all.
fn best_uniform(found: &Found) -> Option<&Trial> {
    let uniform = |t: &&Trial| !t.rules.is_empty() && !t.rules.to_string().contains(':');
    found.trials.iter().filter(uniform).filter(|t| t.within).min_by_key(|t| t.measured.bytes)
}

#[test]
fn the_result_is_within_tolerance_and_no_larger_than_by_the_knob_alone() {
    arbtest::arbtest(|u| {
        let model = MadeUp::drawn(u)?;
        let (tolerance, most) = match u.arbitrary()? {
            true => (Tolerance::Relative(0.001), 0.001 * model.original),
            false => (Tolerance::Absolute(0.02), 0.02),
        };
        let evaluations = u.int_in_range(1..=70)?;
        let found = model.tune(tolerance, evaluations);
        assert!(found.trials.len() <= evaluations);
        assert!(found.trials[0].rules.is_empty());
        let original = found.trials[0].measured;
        for (place, trial) in found.trials.iter().enumerate() {
            assert_eq!(model.measure(&trial.rules), trial.measured);
            let worse = match model.direction {
                Direction::Higher => original.score - trial.measured.score,
                Direction::Lower => trial.measured.score - original.score,
            };
            assert_eq!(trial.within, worse <= most);
            let text = trial.rules.to_string();
            assert!(found.trials[..place].iter().all(|t| t.rules.to_string() != text));
        }
        match (found.best(), best_uniform(&found)) {
            (Some(best), uniform) => {
                assert!(best.within && best.measured.bytes < original.bytes);
                assert!(uniform.is_none_or(|u| best.measured.bytes <= u.measured.bytes));
            }
            (None, uniform) => {
                assert!(uniform.is_none_or(|u| u.measured.bytes >= original.bytes));
            }
        }
        // The same again, and more evaluations go on from there.
        let more = model.tune(tolerance, evaluations + 5);
        for (a, b) in found.trials.iter().zip(&more.trials) {
            assert_eq!(a.rules, b.rules);
        }
        assert!(more.trials.len() >= found.trials.len());
        Ok(())
    });
}

#[test]
fn a_sensitive_group_stays_fine_while_others_get_coarser() {
    let model = MadeUp::new(|role, _| if role == 2 { 4000.0 } else { 0.1 });
    let found = model.tune(Tolerance::Relative(0.001), 60);
    let best = found.best().unwrap();
    let uniform = best_uniform(&found).unwrap();
    assert!(best.measured.bytes * 4 < uniform.measured.bytes * 3, "{}", best.rules);
    let bound = |role: usize| match best.rules.of(&model.tensors[role].0) {
        Bound::Absolute(power) => power,
        other => panic!("{other}"),
    };
    assert!(bound(0) >= bound(2) + 5 && bound(1) >= bound(2) + 5, "{}", best.rules);
    // What the ideal division of the same loss would give is not much smaller.
    let most = 0.9 * 0.001;
    let mut ideal = u64::MAX;
    for sensitive in FINEST..=COARSEST {
        for other in FINEST..=COARSEST {
            let mut rules = Rules::all(Bound::Absolute(other));
            rules.set("*.mlp.up.*", Bound::Absolute(sensitive));
            let measured = model.measure(&rules);
            if measured.score >= 0.9 - most {
                ideal = ideal.min(measured.bytes);
            }
        }
    }
    assert!(best.measured.bytes <= ideal + ideal / 20, "{} {ideal}", best.measured.bytes);
    assert!(found.trials.len() < 40, "{}", found.trials.len());
}

#[test]
fn scores_that_are_never_or_always_close_end_the_search_early() {
    let never = MadeUp::new(|_, _| 1e30).tune(Tolerance::Absolute(0.001), 60);
    assert!(never.best.is_none() && never.trials.len() < 8);
    let model = MadeUp::new(|_, _| 0.0);
    let always = model.tune(Tolerance::Absolute(0.0), 60);
    let coarsest = model.measure(&Rules::all(Bound::Absolute(COARSEST)));
    assert_eq!(always.best().unwrap().measured, coarsest);
    assert!(always.trials.len() < 8);
    let mut none = MadeUp::new(|_, _| 0.0);
    none.original = f64::NAN;
    let none = none.tune(Tolerance::Absolute(1.0), 60);
    assert!(none.best.is_none() && none.trials.len() == 1);
}

#[test]
fn a_score_that_is_no_number_is_outside() {
    let model = MadeUp::new(|_, _| 1.0);
    let search = Search::new(model.tensors.clone(), FINEST..=COARSEST, Options::default());
    let Ok(found) = search.run(&mut |rules| {
        let measured = model.measure(rules);
        let is_coarse = match rules.of(&model.tensors[0].0) {
            Bound::Absolute(power) => power > -12,
            _ => false,
        };
        let score = if is_coarse { f64::NAN } else { 0.9 };
        Ok::<_, Infallible>(Measured { score, ..measured })
    });
    let best = found.best().unwrap();
    assert!(found.trials.iter().any(|t| t.measured.score.is_nan()));
    assert!(found.trials.iter().all(|t| t.within != t.measured.score.is_nan()));
    assert_eq!(best.rules.of(&model.tensors[0].0), Bound::Absolute(-12));
}

#[test]
fn what_measuring_fails_with_comes_out() {
    let model = MadeUp::new(|_, _| 1.0);
    let search = Search::new(model.tensors.clone(), FINEST..=COARSEST, Options::default());
    let mut count = 0;
    let failed = search.run(&mut |rules| {
        count += 1;
        if count < 3 { Ok(model.measure(rules)) } else { Err("broken") }
    });
    assert_eq!((failed.unwrap_err(), count), ("broken", 3));
}

/// A file with a matrix and a vector of these numbers.
fn safetensors(numbers: &[f32]) -> Vec<u8> {
    let (count, end) = (numbers.len(), numbers.len() * 4);
    let json = format!(
        r#"{{"w":{{"dtype":"F32","shape":[{count},1],"data_offsets":[0,{end}]}},"b":{{"dtype":"F32","shape":[{count}],"data_offsets":[{end},{}]}}}}"#,
        2 * end
    );
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    for _ in 0..2 {
        file.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    }
    file
}

fn numbers(scale: f32) -> Vec<f32> {
    (0..5000u16).map(|i| (f32::from(i) * 0.37).sin() * scale).collect()
}

/// Writes a model as rules leave it, and returns where it is.
fn write(model: &Model, rules: &Rules, folder: &Path) -> (std::path::PathBuf, u64) {
    model.write(rules, Level::Default, 1, folder, &|_| Ok(())).unwrap()
}

#[test]
fn a_file_is_written_as_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, safetensors(&numbers(0.02))).unwrap();
    let model = Model::open(&path).unwrap();
    assert_eq!(model.blake3(), *blake3::hash(&fs::read(&path).unwrap()).as_bytes());
    assert_eq!(model.steps(Knob::Relative).unwrap(), -22..=0);
    // The typical number is 0.014, from 2^-7 on.
    assert_eq!(model.steps(Knob::Absolute).unwrap(), -27..=-4);
    let work = tempfile::tempdir().unwrap();
    let (original, all) = write(&model, &Rules::default(), work.path());
    // A copy: whoever evaluates it can't harm the model.
    assert!(original == work.path().join("model.safetensors") && all > 0);
    assert!(fs::read(&original).unwrap() == fs::read(&path).unwrap());
    assert!(!fs::symlink_metadata(&original).unwrap().is_symlink());
    let work = tempfile::tempdir().unwrap();
    let rules = Rules::all(Bound::Absolute(-10));
    let (rounded, fewer) = write(&model, &rules, work.path());
    assert!(fewer < all && rounded == work.path().join("model.safetensors"));
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
    let mut wz = Vec::new();
    let options = weightzip::Options { lossy: rules.clone(), ..Default::default() };
    let summary = weightzip::compress(&fs::read(&path).unwrap()[..], &mut wz, &options).unwrap();
    assert_eq!(summary.compressed_bytes, fewer);
    let mut restored = Vec::new();
    weightzip::decompress(&wz[..], &mut restored, &Default::default()).unwrap();
    assert!(restored == fs::read(&rounded).unwrap());
    // Stopped, and changed meanwhile.
    let stopped = model.write(&rules, Level::Default, 1, dir.path().join("x").as_path(), &|_| {
        Err(std::io::Error::other("enough"))
    });
    assert!(stopped.is_err());
    fs::write(&path, safetensors(&numbers(0.03))).unwrap();
    let work = tempfile::tempdir().unwrap();
    let changed = model.write(&rules, Level::Default, 1, work.path(), &|_| Ok(()));
    assert!(changed.unwrap_err().to_string().contains("changed since"));
}

#[test]
fn a_folder_is_written_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("model");
    fs::create_dir_all(root.join("unet")).unwrap();
    fs::write(root.join("a.safetensors"), safetensors(&numbers(0.02))).unwrap();
    fs::write(root.join("unet/b.safetensors"), safetensors(&numbers(1.0))).unwrap();
    fs::write(root.join("unet/config.json"), "{}").unwrap();
    let model = Model::open(&root).unwrap();
    assert_eq!(model.tensors().count(), 4);
    assert_eq!(model.steps(Knob::Absolute).unwrap(), -27..=2);
    let work = tempfile::tempdir().unwrap();
    let (rounded, _) = write(&model, &Rules::all(Bound::Absolute(-9)), work.path());
    assert_eq!(rounded, work.path().join("model"));
    fs::write(rounded.join("unet/config.json"), "changed by an evaluation").unwrap();
    assert_eq!(fs::read(root.join("unet/config.json")).unwrap(), b"{}");
    for name in ["a.safetensors", "unet/b.safetensors"] {
        let (before, after) =
            (fs::read(root.join(name)).unwrap(), fs::read(rounded.join(name)).unwrap());
        assert!(before.len() == after.len() && before != after);
    }
    let hash = model.blake3();
    fs::rename(root.join("a.safetensors"), root.join("c.safetensors")).unwrap();
    assert_ne!(Model::open(&root).unwrap().blake3(), hash);
}

#[test]
fn what_has_nothing_to_round_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path, words: &str| {
        let told = Model::open(path).err().unwrap().to_string();
        assert!(told.contains(words), "{told}");
    };
    refused(dir.path(), "no tensors that can be rounded");
    let path = dir.path().join("x");
    refused(&path, "can't read");
    fs::write(&path, "text").unwrap();
    refused(&path, "no tensors that can be rounded");
    let mut wz = Vec::new();
    let file = safetensors(&numbers(1.0));
    weightzip::compress(&file[..], &mut wz, &Default::default()).unwrap();
    fs::write(&path, wz).unwrap();
    refused(&path, "restore it first");
}
