//! The text for a model card.

use crate::common::{Scratch, model, other_model};
use crate::snapshot;
use std::fs;

/// A sharded model of transformers and a part of a pipeline of diffusers.
fn repository() -> Scratch {
    let dir = Scratch::new();
    dir.write("repo/model-00001-of-00002.safetensors", model());
    dir.write("repo/model-00002-of-00002.safetensors", other_model());
    dir.write("repo/unet/diffusion_pytorch_model.safetensors", other_model());
    dir.write("repo/config.json", "{}");
    dir
}

#[test]
fn a_folder_gets_a_card() {
    let dir = repository();
    let run = dir.wz(&["compress", "repo", "--print-card"]).ok();
    assert!(run.stderr.contains("repo (3 compressed, 1 copied): "), "{}", run.stderr);
    let card = String::from_utf8(run.stdout.clone()).unwrap();
    let original = model().len() + 2 * other_model().len();
    let packed: Vec<u64> = dir
        .names("repo.wz")
        .iter()
        .filter(|name| name.ends_with(".wz"))
        .map(|name| fs::metadata(dir.path(&format!("repo.wz/{name}"))).unwrap().len())
        .collect();
    let kb = |n: u64| format!("{:.2} kB", n as f64 / 1e3);
    let together = packed.iter().sum();
    let sum = format!("| together | {} | {} |", kb(original as u64), kb(together));
    assert!(card.contains(&sum), "{sum}: {card}");
    let sizes = packed.iter().chain([&together]).map(|size| format!("| {} |", kb(*size)));
    snapshot!("card", sizes.fold(run.shown(), |shown, size| shown.replace(&size, "| [SIZE] |")));

    // Files that are finished are on the card of a second run.
    let again = dir.wz(&["compress", "repo", "--print-card", "--quiet"]).ok();
    assert!(again.stdout == run.stdout && again.stderr.is_empty(), "{}", again.stderr);
}

#[test]
fn the_hash_is_that_of_the_original() {
    let dir = Scratch::new();
    dir.write("m.safetensors", model());
    let card = dir.wz(&["compress", "m.safetensors", "-o", "out.wz", "--print-card"]).ok().stdout;
    let card = String::from_utf8(card).unwrap();
    assert!(card.contains(blake3::hash(&model()).to_hex().as_str()), "{card}");
    assert!(card.contains("| `out.wz` |") && !card.contains("together"), "{card}");
}

#[test]
fn in_place_too() {
    let dir = repository();
    let card = dir.wz(&["compress", "--in-place", "repo", "--print-card"]).ok().stdout;
    let again = dir.wz(&["compress", "--in-place", "repo", "--print-card"]).ok().stdout;
    assert!(card == again && !card.is_empty());
}

#[test]
fn a_run_that_failed_has_no_card() {
    let dir = repository();
    let run = dir.wz(&["compress", "repo", "missing", "--print-card"]).fails(&["missing"]);
    assert!(run.stdout.is_empty());
}

#[test]
fn stdout_holds_one_thing() {
    let dir = repository();
    for args in [
        &["compress", "-", "--print-card"][..],
        &["compress", "repo/config.json", "-o", "-", "--print-card"],
        &["compress", "repo", "--json", "--print-card"],
    ] {
        let run = dir.wz(args);
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stdout.is_empty() && run.stderr.contains("--print-card"), "{}", run.stderr);
    }
}

#[test]
fn nothing_compressed_is_said() {
    let dir = Scratch::new();
    dir.write("repo/config.json", "{}");
    dir.wz(&["compress", "repo", "--print-card"]).fails(&["there is no .wz among the results"]);
}
