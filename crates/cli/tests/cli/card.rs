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
fn a_card_is_written_into_the_readme_again_and_again() {
    let dir = repository();
    dir.write("repo/README.md", "---\nlicense: mit\n---\n# Model");
    let card = dir.wz(&["compress", "repo", "--append-card", "--print-card"]).ok().stdout;
    let card = String::from_utf8(card).unwrap();
    let readme = || String::from_utf8(dir.read("repo.wz/README.md")).unwrap();
    let first = readme();
    assert!(first.starts_with("---\nlicense: mit\n---\n# Model\n<!-- weightzip card"), "{first}");
    assert!(first.contains(&card), "{first}");
    // A second run finds nothing to do, nor does one that doesn't want the card.
    for args in [&["compress", "repo", "--append-card"][..], &["compress", "repo"]] {
        let run = dir.wz(args).ok();
        assert!(run.stderr.contains("5 already complete") && !run.stderr.contains("warning"));
        assert_eq!(readme(), first);
    }
    // What somebody adds stays, and the card follows the files.
    dir.write("repo.wz/README.md", format!("{first}\nmy words\n"));
    dir.write("repo/model-00003-of-00003.safetensors", model());
    let run = dir.wz(&["compress", "repo", "--append-card", "-f"]).ok();
    assert!(run.stderr.contains("README.md was changed after it was copied"), "{}", run.stderr);
    let second = readme();
    assert!(
        second.contains("model-00003-of-00003") && second.ends_with("\nmy words\n"),
        "{second}"
    );
    assert_eq!(second.matches("## Compressed with weightzip").count(), 1, "{second}");
    // Another README of the original takes the place of one that nobody changed.
    fs::remove_dir_all(dir.path("repo.wz")).unwrap();
    dir.wz(&["compress", "repo", "--append-card"]).ok();
    dir.write("repo/README.md", "# Another");
    dir.wz(&["compress", "repo"]).fails(&["repo.wz/README.md already exists"]);
    dir.wz(&["compress", "repo", "--append-card", "-f"]).ok();
    assert!(readme().starts_with("# Another\n<!-- weightzip card"), "{}", readme());
}

#[test]
fn a_card_goes_into_a_folder() {
    let dir = repository();
    for args in [
        &["compress", "repo/config.json", "--append-card"][..],
        &["compress", "repo", "--append-card", "--lossy", "abs=0.1"],
        &["compress", "repo", "--append-card", "--dry-run"],
    ] {
        let run = dir.wz(args);
        assert!(run.code == Some(2) && run.stderr.contains("--append-card"), "{}", run.stderr);
    }
    // There need be no README before; in place it is the folder's own.
    dir.wz(&["compress", "--in-place", "repo", "--append-card"]).ok();
    dir.wz(&["compress", "--in-place", "repo", "--append-card"]).ok();
    let readme = String::from_utf8(dir.read("repo/README.md")).unwrap();
    assert_eq!(readme.matches("## Compressed with weightzip").count(), 1, "{readme}");
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
