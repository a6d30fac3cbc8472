//! A store of checkpoints, through the library.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use common::safetensors;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weightzip::chain::{AddOptions, Chain, MARK, MAX_DEPTH, PruneOptions};
use weightzip::{Archive, Base, DecodeOptions, Dtype, Kind, Options};

/// A checkpoint of noise, of which each step changes one value.
fn model(step: u64) -> Vec<u8> {
    let mut state = 7u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    let mut weights: Vec<u8> = (0..4000).map(next).collect();
    (0..step as usize).for_each(|i| weights[i * 40 % 4000] ^= 1);
    safetensors(&[("w", Dtype::F32, &[1000], &weights)])
}

fn one_thread() -> AddOptions {
    AddOptions { threads: 1, ..AddOptions::default() }
}

fn restored(chain: &Chain, step: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    chain.open_step(step).unwrap().reader().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_chain_is_as_deep_as_can_be_read_and_no_deeper() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::create(&folder.path().join("store")).unwrap();
    let options = AddOptions { keyframe_every: 0, ..one_thread() };
    for step in 0..=MAX_DEPTH as u64 + 2 {
        chain.add(&format!("s-{step}"), model(step).as_slice(), &options).unwrap();
    }
    let depths: Vec<usize> = chain.steps().iter().map(|step| step.depth).collect();
    let wanted: Vec<usize> = (0..=MAX_DEPTH).chain([0, 1]).collect();
    assert_eq!(depths, wanted);
    let deepest = MAX_DEPTH as u64;
    assert!(restored(&chain, deepest) == model(deepest));
    // Its keyframe goes: the next one takes its place, and all that need it are as deep as before.
    chain.prune(&PruneOptions { remove: vec![0], ..PruneOptions::default() }).unwrap();
    assert_eq!(chain.step(deepest).unwrap().depth, MAX_DEPTH - 1);
    assert!(restored(&chain, deepest) == model(deepest));
    // The next keyframe goes: its dependent moves to the last step that isn't too deep.
    let options = PruneOptions { remove: vec![deepest + 1], threads: 1, ..PruneOptions::default() };
    let plan = chain.prune(&options).unwrap();
    assert_eq!(plan.rebase, [(deepest + 2, Some(16))]);
}

/// A checkpoint of which each step has other low bits.
fn restless(step: u64) -> Vec<u8> {
    let mut state = step;
    let next = |i: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        0x3F00_0000 | i.wrapping_mul(2_654_435_761) >> 9 & !0xFF | u32::from(state.to_be_bytes()[0])
    };
    let weights: Vec<u8> = (0..1000).map(next).flat_map(u32::to_le_bytes).collect();
    safetensors(&[("w", Dtype::F32, &[1000], &weights)])
}

#[test]
fn shallow_steps_need_few_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::create(&folder.path().join("store")).unwrap();
    let options = AddOptions { shallow: true, ..one_thread() };
    for step in 0..20 {
        chain.add(&format!("s-{step}"), restless(step).as_slice(), &options).unwrap();
    }
    for (i, step) in (0..20u64).zip(chain.steps()) {
        let place = i % 16;
        assert_eq!(step.depth, place.count_ones() as usize, "{i}");
        let base = (place > 0).then(|| i - place + (place & (place - 1)));
        assert_eq!(step.bases, base.into_iter().collect::<Vec<_>>(), "{i}");
        assert!(restored(&chain, i) == restless(i));
    }
    let prune = PruneOptions { remove: vec![0], max_depth: 1, ..PruneOptions::default() };
    let plan = chain.prune(&prune).unwrap();
    assert_eq!(plan.rebase, [(1, None), (2, Some(1)), (4, Some(1)), (8, Some(1))]);
    assert!(chain.steps().iter().all(|step| step.depth <= 4));
    assert!((1..20).all(|i| restored(&chain, i) == restless(i)));
    // Of the last eight there are never deeper ones, whichever is their keyframe.
    for step in 20..60 {
        chain.add(&format!("s-{step}"), restless(step).as_slice(), &options).unwrap();
        let options = PruneOptions {
            keep_last: Some(8),
            max_depth: 1,
            threads: 1,
            ..PruneOptions::default()
        };
        chain.prune(&options).unwrap();
        assert!(chain.steps().iter().all(|step| step.depth <= 3), "{step}");
    }
    assert!((52..60).all(|i| restored(&chain, i) == restless(i)));
}

#[test]
fn a_step_that_is_far_from_earlier_ones_is_not_made_shallow() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::create(&folder.path().join("store")).unwrap();
    // Ever more of the noise has changed.
    let model = |step: u64| model(step * 10);
    for step in 0..9 {
        let options = AddOptions { shallow: true, ..one_thread() };
        chain.add(&format!("s-{step}"), model(step).as_slice(), &options).unwrap();
    }
    let bases: Vec<_> = chain.steps().iter().flat_map(|step| step.bases.clone()).collect();
    assert_eq!(bases, (0..8).collect::<Vec<_>>());
    assert!((0..9).all(|i| restored(&chain, i) == model(i)));
}

/// Reads a part, and fails.
struct Torn(usize);

impl Read for Torn {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.0);
        self.0 -= len;
        match len {
            0 => Err(io::Error::other("torn")),
            len => Ok(len),
        }
    }
}

#[test]
fn what_fails_leaves_the_store_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::create(folder.path()).unwrap();
    chain.add("a-1.bin", model(1).as_slice(), &one_thread()).unwrap();
    let error = chain.add("a-2.bin", Torn(100), &one_thread()).map(drop).unwrap_err();
    assert!(error.kind() == Kind::Io && error.to_string().contains("torn"), "{error}");
    let argument = |name: &str, options: &AddOptions| {
        let added = chain.clone().add(name, model(2).as_slice(), options);
        let error = added.map(drop).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    };
    argument("../a-2.bin", &one_thread());
    argument("a.bin", &one_thread());
    argument("a-1.bin", &one_thread());
    argument("a-2.bin", &AddOptions { max_depth: 0, ..one_thread() });
    argument("a-2.bin", &AddOptions { max_depth: MAX_DEPTH + 1, ..one_thread() });
    for options in [
        PruneOptions::default(),
        PruneOptions { keep_last: Some(0), ..PruneOptions::default() },
        PruneOptions { keep_every: Some(0), ..PruneOptions::default() },
        PruneOptions { remove: vec![2], ..PruneOptions::default() },
    ] {
        assert_eq!(chain.plan(&options).unwrap_err().kind(), Kind::InvalidArgument);
    }
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(names.len(), 2); // the step and the mark
    assert!(restored(&chain, 1) == model(1));
}

#[test]
fn another_one_that_adds_is_seen_and_progress_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Chain::create(folder.path()).unwrap();
    let mut other = one.clone();
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let progress = Arc::new(move |bytes| {
        count.fetch_add(bytes, Ordering::Relaxed);
    });
    let options = AddOptions { progress: Some(progress), ..one_thread() };
    let summary = one.add("a-1", model(1).as_slice(), &options).unwrap().summary;
    assert_eq!(told.load(Ordering::Relaxed), summary.original_bytes * 2);
    other.add("b-2", model(2).as_slice(), &one_thread()).unwrap();
    assert_eq!(other.step(2).unwrap().bases, [1]);
    assert!(one.add("c-2", model(2).as_slice(), &one_thread()).is_err());
    assert_eq!(one.steps().len(), 2);
}

/// Compresses a model into a folder by hand, next to a step of its store if one is given.
fn by_hand(folder: &Path, name: &str, model: &[u8], step: Option<(&Chain, u64)>) {
    let mut base = Base::new();
    if let Some((chain, number)) = step {
        base = chain.base_of(number).unwrap();
        let step = chain.step(number).unwrap();
        let name = step.path.file_name().unwrap().to_str().unwrap();
        base.add(name, File::open(&step.path).unwrap()).unwrap();
    }
    let options = Options { base, threads: 1, ..Options::default() };
    let file = File::create(folder.join(name)).unwrap();
    weightzip::compress(model, file, &options).unwrap();
}

/// Restores a file as anyone would who has nothing but its name.
fn by_name(path: &Path) -> weightzip::Result<Vec<u8>> {
    let (mut base, mut original) = (Base::new(), Vec::new());
    base.find_for(path)?;
    let options = DecodeOptions { threads: 1, base, ..DecodeOptions::default() };
    weightzip::decompress(File::open(path).unwrap(), &mut original, &options)?;
    Ok(original)
}

#[test]
fn whatever_is_pruned_all_that_is_left_can_be_restored_and_no_other_file_goes() {
    arbtest::arbtest(|u| {
        let folder = tempfile::tempdir().unwrap();
        let mut chain = Chain::create(folder.path()).unwrap();
        let mut foreign: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        let mut next = 0;
        for _ in 0..u.int_in_range(2..=8)? {
            if u.ratio(1, 3)? {
                let names = ["best.wz", "llama-7.wz", "gpt-2.bin.wz", "step-1.wz", "x.lossy.wz"];
                let (name, model) = (*u.choose(&names)?, model(u.int_in_range(0..=9)?));
                let taken = folder.path().join(name).exists();
                let steps: Vec<u64> = chain.steps().iter().map(|step| step.number).collect();
                if !taken {
                    let base = if steps.is_empty() { None } else { Some(*u.choose(&steps)?) };
                    by_hand(folder.path(), name, &model, base.map(|step| (&chain, step)));
                    foreign.push((folder.path().join(name), model));
                }
            }
            next += u.int_in_range(1..=3)?;
            let shallow = u.arbitrary()?;
            let options = AddOptions { shallow, keyframe_every: 4, ..one_thread() };
            let name = format!("s-{next}");
            chain.add(&name, model(next).as_slice(), &options).unwrap();
        }
        let steps: Vec<u64> = chain.steps().iter().map(|step| step.number).collect();
        let remove = steps.iter().copied().filter(|_| u.ratio(1, 2).unwrap_or(false)).collect();
        let keep_last = Some(u.int_in_range(1..=3)?);
        let max_depth = u.int_in_range(1..=MAX_DEPTH)?;
        let options =
            PruneOptions { keep_last, remove, max_depth, threads: 1, ..PruneOptions::default() };
        let planned = chain.plan(&options).unwrap();
        let done = chain.prune(&options).unwrap();
        assert_eq!((&done.remove, &done.held), (&planned.remove, &planned.held));
        for (path, model) in &foreign {
            assert!(by_name(path).unwrap() == *model, "{}", path.display());
        }
        for step in chain.steps() {
            assert!(by_name(&step.path).unwrap() == model(step.number), "{}", step.number);
        }
        assert_eq!(chain.steps().len() + done.remove.len(), steps.len());
        Ok(())
    });
}

/// Changes a byte, so many before the end.
fn flip(path: &Path, before_end: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() - before_end;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// A store of four steps, one of which has a damaged byte so far before its end.
fn damaged(step: u64, before_end: usize) -> (tempfile::TempDir, Chain) {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::create(folder.path()).unwrap();
    for step in 1..=4 {
        chain.add(&format!("s-{step}"), model(step).as_slice(), &one_thread()).unwrap();
    }
    flip(&folder.path().join(format!("s-{step}.wz")), before_end);
    let chain = Chain::open(folder.path()).unwrap();
    (folder, chain)
}

/// A byte of the footer, which says what a file is; and one of a block.
const IN_FOOTER: usize = 60;
const IN_BLOCK: usize = 600;

#[test]
fn a_damaged_step_stops_nothing() {
    for (step, place) in [(1, IN_FOOTER), (1, IN_BLOCK), (4, IN_FOOTER)] {
        let (folder, mut chain) = damaged(step, place);
        assert_eq!(chain.damaged().len(), usize::from(place == IN_FOOTER), "{step}");
        let five = model(5);
        let source: Option<Arc<dyn weightzip::Source + Send>> = Some(Arc::new(five.clone()));
        let added = chain.add("s-5", five.as_slice(), &AddOptions { source, ..one_thread() });
        let named = added.unwrap().damaged.unwrap();
        assert!(named.to_string().contains("can't be restored"), "{named}");
        assert!(chain.step(5).unwrap().is_keyframe());
        assert!(restored(&chain, 5) == five);
        // The next one has nothing to do with it.
        let added = chain.add("s-6", model(6).as_slice(), &one_thread()).unwrap();
        assert!(added.damaged.is_none() && chain.step(6).unwrap().bases == [5]);
        // What can't be read stays, and so does what it may need; that what needs it goes is as it was asked.
        let keep = PruneOptions { keep_last: Some(1), threads: 1, ..PruneOptions::default() };
        let done = chain.prune(&keep).unwrap();
        assert!(restored(&chain, 6) == model(6));
        assert!(folder.path().join(format!("s-{step}.wz")).exists() || place == IN_BLOCK);
        assert_eq!(done.damaged.len(), usize::from(place == IN_FOOTER));
    }
}

#[test]
fn without_the_checkpoint_again_damage_is_an_error_that_names_the_step() {
    let (_folder, mut chain) = damaged(1, IN_BLOCK);
    let error = chain.add("s-5", model(5).as_slice(), &one_thread()).map(drop).unwrap_err();
    assert_eq!(error.kind(), Kind::Corruption);
    assert!(error.to_string().contains("step 4 can't be restored"), "{error}");
    assert!(error.to_string().contains("add this one as a keyframe"), "{error}");
}

#[test]
fn the_last_steps_that_stay_are_those_that_can_be_restored() {
    // Steps 3 and 4 need the damaged one, so 1 is the last one that is whole.
    let (folder, mut chain) = damaged(2, IN_FOOTER);
    let keep = PruneOptions { keep_last: Some(1), threads: 1, ..PruneOptions::default() };
    let done = chain.prune(&keep).unwrap();
    assert!(done.remove.is_empty() && done.damaged[0].number == 2, "{done:?}");
    assert!(restored(&chain, 1) == model(1));
    // The right file in its place makes all of them whole again.
    flip(&folder.path().join("s-2.wz"), IN_FOOTER);
    let chain = Chain::open(folder.path()).unwrap();
    assert!((1..=4).all(|step| restored(&chain, step) == model(step)));
}

#[test]
fn a_file_in_the_place_of_a_step_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::create(folder.path()).unwrap();
    for step in 1..=3 {
        let options = AddOptions { keyframe_every: 1, ..one_thread() };
        chain.add(&format!("s-{step}"), model(step).as_slice(), &options).unwrap();
    }
    by_hand(folder.path(), "s-1.wz", &model(77), None);
    let keep = PruneOptions { keep_last: Some(1), threads: 1, ..PruneOptions::default() };
    assert_eq!(chain.prune(&keep).unwrap().remove, [2]);
    assert!(by_name(&folder.path().join("s-1.wz")).unwrap() == model(77));
}

#[test]
fn a_folder_without_a_mark_is_read_and_not_pruned() {
    let folder = tempfile::tempdir().unwrap();
    for step in 1..=2 {
        by_hand(folder.path(), &format!("s-{step}.wz"), &model(step), None);
    }
    let mut chain = Chain::open(folder.path()).unwrap();
    assert!(!chain.is_marked() && restored(&chain, 2) == model(2));
    let keep = PruneOptions { keep_last: Some(1), threads: 1, ..PruneOptions::default() };
    for error in [chain.plan(&keep).unwrap_err(), chain.prune(&keep).unwrap_err()] {
        assert!(error.to_string().contains("name them with wz chain adopt"), "{error}");
    }
    chain.adopt(&["s-1.wz", "s-2.wz"]).unwrap();
    assert!(folder.path().join(MARK).exists());
    assert_eq!(chain.prune(&keep).unwrap().remove, [1]);
}

#[test]
fn what_is_stored_once_stays_so_when_it_is_pruned() {
    let tied = |step: u64| {
        let model = model(step);
        let weights = &model[model.len() - 4000..];
        let shape: &[u64] = &[1000];
        safetensors(&[("a", Dtype::F32, shape, weights), ("b", Dtype::F32, shape, weights)])
    };
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::create(folder.path()).unwrap();
    for step in 1..=2 {
        let source: Option<Arc<dyn weightzip::Source + Send>> = Some(Arc::new(tied(step)));
        let options = AddOptions { source, ..one_thread() };
        chain.add(&format!("s-{step}"), tied(step).as_slice(), &options).unwrap();
    }
    let before = chain.step(1).unwrap().info.compressed_bytes;
    chain.prune(&PruneOptions { remove: vec![1], threads: 1, ..PruneOptions::default() }).unwrap();
    let after = chain.step(2).unwrap().info.compressed_bytes;
    assert!(after < before + before / 8, "{before} {after}");
    let archive = Archive::open(File::open(&chain.step(2).unwrap().path).unwrap()).unwrap();
    assert_eq!(archive.tensors().count(), 2);
}
