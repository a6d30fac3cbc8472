//! Near-lossless files: what they hold, what they say of it, and what they can't be taken for.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use common::models::{bf16, f32s, model, of, trained, weights};
use common::{any_safetensors, decompress, options, safetensors};
use std::sync::Arc;
use weightzip::chain::{AddOptions, Chain, PruneOptions};
use weightzip::lossy::{Bound, Losses, Rules};
use weightzip::{Archive, DecodeOptions, Dtype, Kind, Level, Options, Summary};

fn rules(rules: &[&str]) -> Rules {
    let mut all = Rules::default();
    rules.iter().for_each(|rule| all.add(rule).unwrap());
    all
}

fn rounded(file: &[u8], lossy: Rules, threads: usize) -> weightzip::Result<(Vec<u8>, Summary)> {
    let mut out = Vec::new();
    let summary = weightzip::compress(file, &mut out, &Options { lossy, ..options(threads) })?;
    Ok((out, summary))
}

/// Matrices large and small, of more than one dtype, and what is not rounded by default.
fn sample() -> Vec<u8> {
    let (large, small) = (weights(1, 200_000), weights(2, 1200));
    model(&[
        ("a.weight", "F32", &[400, 500], f32s(&large)),
        ("b.bias", "F32", &[1200], f32s(&small)),
        ("c.weight", "BF16", &[30, 40], bf16(&small)),
        ("d.ids", "I32", &[40, 30], f32s(&small)),
        ("e.weight", "F32", &[2, 600], f32s(&small)),
        ("f.weight", "F32", &[0, 7], Vec::new()),
    ])
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn what_is_rounded_is_within_its_bound_and_the_rest_is_the_same() {
    let file = sample();
    let (wz, summary) = rounded(&file, rules(&["abs=2^-12", "e*:rel=2^-4"]), 1).unwrap();
    let archive = Archive::open(&wz[..]).unwrap();
    let (before, losses) = (weightzip::scan(&file[..]).unwrap(), summary.losses.unwrap());
    assert_eq!(losses.source_blake3, *blake3::hash(&file).as_bytes());
    assert_eq!(losses.rules, "abs=2^-12 e*:rel=2^-4");
    assert_eq!(archive.info().losses.as_deref(), Some(&*losses));
    let touched: Vec<u64> = losses.tensors.iter().map(|loss| loss.tensor).collect();
    assert_eq!(touched, [0, 2, 4, 5]);
    for (i, span) in before.spans.iter().filter(|span| span.tensor.is_some()).enumerate() {
        let name = &span.tensor.as_ref().unwrap().name;
        let old = &file[span.range.start as usize..span.range.end as usize];
        let new = archive.tensor(name).unwrap().read().unwrap();
        let loss = losses.of(i as u64);
        if loss.is_none() {
            assert_eq!(old, new, "{name}");
            continue;
        }
        let loss = loss.unwrap();
        let (old, new) = match name.as_str() {
            "c.weight" => (widened(old), widened(&new)),
            _ => (floats(old), floats(&new)),
        };
        let pairs = || old.iter().zip(&new).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let largest = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert_eq!(loss.absolute, largest, "{name}");
        match loss.bound {
            Bound::Absolute(power) => {
                assert!(largest > 0.0 || old.is_empty());
                assert!(largest <= 2f64.powi(power - 1));
                assert!(new.iter().all(|x| (f64::from(*x) * 2f64.powi(-power)).fract() == 0.0));
            }
            Bound::Relative(bits) => {
                let worst = 2f64.powi(-1 - bits as i32);
                assert!(pairs().all(|(a, b)| (a - b).abs() <= worst * a.abs()));
                assert!(loss.relative > 0.0 && loss.relative <= worst);
            }
            other => panic!("{other}"),
        }
        let noise: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
        assert!((loss.rmse - (noise / old.len().max(1) as f64).sqrt()).abs() < 1e-9);
    }
}

fn widened(bytes: &[u8]) -> Vec<f32> {
    let bits = bytes.chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
    bits.map(f32::from_bits).collect()
}

#[test]
fn what_comes_back_is_the_same_however_it_was_made_and_rounding_it_again_changes_nothing() {
    arbtest::arbtest(|u| {
        let file = any_safetensors(u)?;
        let rule = *u.choose(&["abs=2^-9", "rel=2^-3", "abs=2^2", "*:rel=2^0", "*:abs=2^-20"])?;
        let (wz, summary) = rounded(&file, rules(&[rule]), 1).unwrap();
        let (parallel, _) = rounded(&file, rules(&[rule]), 3).unwrap();
        assert!(wz == parallel);
        let (restored, told) = decompress(&wz).unwrap();
        assert_eq!(told.losses, summary.losses);
        assert_eq!(restored.len(), file.len());
        let archive = Archive::open(&wz[..]).unwrap();
        archive.check_against(&file[..], &|_| ()).unwrap();
        let (again, summary) = rounded(&restored, rules(&[rule]), 1).unwrap();
        assert!(summary.losses.unwrap().tensors.iter().all(|loss| loss.absolute == 0.0));
        assert!(decompress(&again).unwrap().0 == restored);
        Ok(())
    })
    .budget_ms(3000);
}

#[test]
fn it_is_not_taken_for_a_lossless_one() {
    let file = sample();
    let (wz, _) = rounded(&file, rules(&["abs=2^-12"]), 1).unwrap();
    let strict = || DecodeOptions { require_lossless: true, ..DecodeOptions::default() };
    let mut out = Vec::new();
    let refused = weightzip::decompress(&wz[..], &mut out, &strict()).unwrap_err();
    assert!(refused.to_string().contains("near-lossless") && out.is_empty());
    assert_eq!(refused.kind(), Kind::InvalidArgument);
    assert!(Archive::open_with(&wz[..], strict()).is_err());
    let lossless = common::compress(&file);
    assert!(weightzip::decompress(&lossless[..], &mut out, &strict()).unwrap().losses.is_none());
    // A file in which nothing was found to round says so, too: it was made by rules.
    let (wz, summary) = rounded(b"abc", rules(&["abs=2^-12"]), 1).unwrap();
    assert!(summary.losses.unwrap().tensors.is_empty());
    assert!(Archive::open_with(&wz[..], strict()).is_err());
}

#[test]
fn only_its_own_source_is_its_source() {
    let file = sample();
    let (wz, _) = rounded(&file, rules(&["abs=2^-12"]), 1).unwrap();
    let archive = Archive::open(&wz[..]).unwrap();
    let done = std::cell::Cell::new(0);
    archive.check_against(&file[..], &|bytes| done.set(done.get() + bytes)).unwrap();
    assert_eq!(done.get(), file.len() as u64);
    let layout = weightzip::scan(&file[..]).unwrap();
    for span in layout.spans.iter().filter(|span| !span.range.is_empty()) {
        let mut other = file.clone();
        // Of the floats the exponent.
        other[span.range.start as usize + 3] ^= 4;
        let error = archive.check_against(&other[..], &|_| ()).unwrap_err();
        assert_eq!(error.tensor(), span.tensor.as_ref().map(|tensor| tensor.name.as_str()));
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
    // A change that rounding hides shows in the errors, or in the hash.
    let mut other = file.clone();
    other[layout.spans[1].range.start as usize] ^= 1;
    assert_eq!(archive.check_against(&other[..], &|_| ()).unwrap_err().kind(), Kind::Corruption);
    assert!(archive.check_against(&file[1..], &|_| ()).is_err());
    let lossless = common::compress(&file);
    Archive::open(&lossless[..]).unwrap().check_against(&file[..], &|_| ()).unwrap();
}

#[test]
fn what_was_lost_is_told_again_and_not_of_two_roundings() {
    let file = sample();
    let (wz, summary) = rounded(&file, rules(&["abs=2^-12"]), 1).unwrap();
    let (restored, _) = decompress(&wz).unwrap();
    let mut again = Vec::new();
    let losses = summary.losses.clone();
    let carried = Options { losses, level: Level::Max, ..options(1) };
    let told = weightzip::compress(&restored[..], &mut again, &carried).unwrap();
    assert_eq!(told.losses, summary.losses);
    Archive::open(&again[..]).unwrap().check_against(&file[..], &|_| ()).unwrap();
    let both = Options { lossy: rules(&["abs=2^-9"]), ..carried };
    assert!(weightzip::compress(&restored[..], &mut again, &both).is_err());
    // Losses of tensors that there aren't.
    let losses = Some(Arc::new(Losses {
        tensors: summary.losses.unwrap().tensors.clone(),
        ..Losses::default()
    }));
    assert!(
        weightzip::compress(&b"abc"[..], &mut again, &Options { losses, ..options(1) }).is_err()
    );
}

#[test]
fn what_can_not_be_rounded_as_it_should_is_refused() {
    let file = sample();
    let cut = &file[..file.len() - 5000];
    let error = rounded(cut, rules(&["abs=2^-12"]), 1).unwrap_err();
    assert_eq!((error.kind(), error.tensor()), (Kind::InsufficientData, Some("e.weight")));
    let mut snr = rules(&["snr=40dB"]);
    let error = rounded(&file, snr.clone(), 1).unwrap_err();
    assert_eq!(error.tensor(), Some("a.weight"));
    snr.look_at(&file[..], &weightzip::scan(&file[..]).unwrap().spans).unwrap();
    let (_, summary) = rounded(&file, snr, 1).unwrap();
    let losses = summary.losses.unwrap();
    assert_eq!(losses.rules, "snr=40dB");
    for loss in losses.tensors.iter().filter(|loss| loss.rms > 0.0) {
        assert!((40.0..47.0).contains(&loss.snr()), "{}", loss.snr());
    }
}

#[test]
fn a_chain_rounds_each_step_from_the_checkpoint_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::create(&folder.path().join("store")).unwrap();
    let mut options =
        AddOptions { threads: 1, lossy: rules(&["abs=2^-14"]), ..AddOptions::default() };
    options.keyframe_every = 0;
    let mut state = weights(5, 100_000);
    let mut files = Vec::new();
    for step in 0..4u64 {
        let file = safetensors(&[("w", Dtype::F32, &[100, 1000], &f32s(&state))]);
        let summary = chain.add(&format!("s-{step}"), &file[..], &options).unwrap();
        let loss = summary.summary.losses.unwrap().tensors[0];
        assert!(loss.absolute <= 2f64.powi(-15), "{step}");
        files.push(file);
        let next = trained(&state, step);
        state = state.iter().zip(next).map(|(old, new)| old + (new - old) / 8.0).collect();
    }
    assert!(chain.steps()[3].depth > 0);
    let check = |chain: &Chain| {
        for step in chain.steps() {
            let archive = chain.open_step(step.number).unwrap();
            archive.check_against(&files[step.number as usize][..], &|_| ()).unwrap();
        }
    };
    check(&chain);
    chain.prune(&PruneOptions { remove: vec![0, 2], ..PruneOptions::default() }).unwrap();
    check(&chain);
    assert_eq!(chain.steps().len(), 2);
}

#[test]
fn a_rounded_file_next_to_a_base_comes_back() {
    let (old, new) = (weights(1, 200_000), trained(&weights(1, 200_000), 3));
    let file = |w: &[f32]| model(&[("w", "F32", &[400, 500], f32s(w))]);
    let (old, new) = (file(&old), file(&new));
    let (base, lossy) = (of(&[("old", &old)]), rules(&["abs=2^-14"]));
    let mut wz = Vec::new();
    let options = Options { base: base.clone(), lossy, ..options(1) };
    weightzip::compress(&new[..], &mut wz, &options).unwrap();
    let options = DecodeOptions { base, threads: 1, ..DecodeOptions::default() };
    let archive = Archive::open_with(&wz[..], options).unwrap();
    archive.check_against(&new[..], &|_| ()).unwrap();
    assert!(!archive.bases().is_empty());
}
