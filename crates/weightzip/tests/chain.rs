//! A store of checkpoints, through the library.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use common::safetensors;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weightzip::chain::{AddOptions, Chain, MAX_DEPTH, PruneOptions};
use weightzip::{Dtype, Kind};

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
    let error = chain.add("a-2.bin", Torn(100), &one_thread()).unwrap_err();
    assert!(error.kind() == Kind::Io && error.to_string().contains("torn"), "{error}");
    let argument = |name: &str, options: &AddOptions| {
        let error = chain.clone().add(name, model(2).as_slice(), options).unwrap_err();
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
    assert_eq!(names.len(), 1);
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
    let summary = one.add("a-1", model(1).as_slice(), &options).unwrap();
    assert_eq!(told.load(Ordering::Relaxed), summary.original_bytes * 2);
    other.add("b-2", model(2).as_slice(), &one_thread()).unwrap();
    assert_eq!(other.step(2).unwrap().bases, [1]);
    assert!(one.add("c-2", model(2).as_slice(), &one_thread()).is_err());
    assert_eq!(one.steps().len(), 2);
}
