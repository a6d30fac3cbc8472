//! `--base`, and where bases are looked for.

use crate::common::{Scratch, Tensor, WZ, noise, safetensors};
use std::fs::File;
use std::process::Command;

/// A model whose weights are noise, but for those of every `step`th place.
fn model(step: usize) -> Vec<u8> {
    let mut weights = noise(40_000);
    weights.iter_mut().step_by(step).for_each(|byte| *byte ^= 1);
    safetensors(&[
        Tensor("w", "F32", &[100, 100], weights),
        Tensor("ids", "U8", &[600], noise(600)),
    ])
}

/// `old.safetensors`, `new.safetensors`, and `new.safetensors.wz`, which needs the old one.
fn delta() -> Scratch {
    let dir = Scratch::new();
    dir.write("old.safetensors", model(usize::MAX));
    dir.write("new.safetensors", model(100));
    let run = dir.wz(&["compress", "new.safetensors", "--base", "old.safetensors"]).ok();
    assert!(run.stderr.contains("needs base old.safetensors, 2 tensors"), "{}", run.stderr);
    assert!(run.stderr.contains("without it this file cannot be restored"), "{}", run.stderr);
    assert!(dir.read("new.safetensors.wz").len() < 8000);
    dir
}

#[test]
fn a_base_is_found_beside_the_file_in_the_search_path_or_where_it_is_said_to_be() {
    let dir = delta();
    dir.wz(&["verify", "new.safetensors.wz"]).ok();
    let restored = |args: &[&str], search: &str| {
        let mut command = Command::new(WZ);
        command.args(["decompress", "new.safetensors.wz", "-f", "-o", "out"]).args(args);
        command.current_dir(dir.path(""));
        let output = command.env("WEIGHTZIP_BASE_PATH", search).output().unwrap();
        output.status.success() && dir.read("out") == model(100)
    };
    assert!(restored(&[], ""));
    std::fs::create_dir(dir.path("models")).unwrap();
    std::fs::rename(dir.path("old.safetensors"), dir.path("models/old.safetensors")).unwrap();
    assert!(!restored(&[], ""));
    assert!(restored(&[], "nowhere:models"));
    assert!(restored(&["--base", "models/old.safetensors"], ""));
    assert!(restored(&["--base", "models"], ""));
    // Compressed, and under another name.
    dir.wz(&["compress", "models/old.safetensors", "-o", "models/else.wz"]).ok();
    std::fs::remove_file(dir.path("models/old.safetensors")).unwrap();
    assert!(!restored(&[], "models"));
    assert!(restored(&["--base", "models/else.wz"], ""));
    let rows = ["cat", "new.safetensors.wz", "w", "--rows", "7:9", "--base", "models/else.wz"];
    let wanted = &model(100)[model(100).len() - 40_600..][7 * 400..9 * 400];
    assert!(dir.wz(&rows).ok().stdout == wanted);
}

#[test]
fn without_its_base_a_file_is_listed_and_not_restored() {
    let dir = delta();
    std::fs::remove_file(dir.path("old.safetensors")).unwrap();
    for args in
        [&["decompress", "new.safetensors.wz", "-o", "out"][..], &["verify", "new.safetensors.wz"]]
    {
        dir.wz(args).fails(&[
            "base model not found: old.safetensors, blake3",
            "pass --base or set WEIGHTZIP_BASE_PATH",
        ]);
    }
    dir.wz(&["cat", "new.safetensors.wz", "w"]).fails(&["base model not found"]);
    let run = dir.wz(&["inspect", "new.safetensors.wz"]).ok();
    let told = String::from_utf8(run.stdout).unwrap();
    assert!(told.contains("needs base old.safetensors, 2 tensors"), "{told}");
    assert!(told.contains("sparse"), "{told}");
    assert!(
        run.stderr.contains("warning: invalid argument: base model not found"),
        "{}",
        run.stderr
    );
    let run = dir.wz(&["inspect", "--json", "new.safetensors.wz"]).ok();
    let told: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(told["archive"]["needs"][0]["tensors"], 2);
    // One with the right name and other bytes is not taken.
    dir.write("old.safetensors", model(3));
    dir.wz(&["verify", "new.safetensors.wz"])
        .fails(&["other models of this name: old.safetensors"]);
}

#[test]
fn chains_are_followed_and_removal_waits_for_the_base() {
    let dir = delta();
    dir.write("newer.safetensors", model(50));
    let steps = ["compress", "newer.safetensors", "--base", "new.safetensors.wz", "--rm"];
    dir.wz(&steps).ok();
    assert!(std::fs::metadata(dir.path("newer.safetensors")).is_err());
    dir.wz(&["decompress", "newer.safetensors.wz"]).ok();
    assert!(dir.read("newer.safetensors") == model(50));
    // The first of the chain is gone: the next one will do, if it stands alone.
    std::fs::remove_file(dir.path("old.safetensors")).unwrap();
    dir.wz(&["verify", "newer.safetensors.wz"]).ok();
    std::fs::remove_file(dir.path("new.safetensors")).unwrap();
    dir.wz(&["verify", "newer.safetensors.wz"]).fails(&["base model not found: old.safetensors"]);
    dir.wz(&["compress", "newer.safetensors", "-f", "--base", "nowhere"])
        .fails(&["base nowhere", "can't open"]);
}

#[test]
fn a_folder_is_compressed_against_a_folder() {
    let dir = Scratch::new();
    for (folder, step) in [("old", usize::MAX), ("new", 100)] {
        std::fs::create_dir(dir.path(folder)).unwrap();
        dir.write(&format!("{folder}/a.safetensors"), model(step));
        dir.write(&format!("{folder}/config.json"), b"{}");
    }
    let run = dir.wz(&["compress", "new", "-o", "packed", "--base", "old"]).ok();
    assert!(run.stderr.contains("new: needs base a.safetensors, 2 tensors"), "{}", run.stderr);
    dir.wz(&["verify", "packed", "--base", "old"]).ok();
    dir.wz(&["verify", "packed"]).fails(&["base model not found: a.safetensors"]);
    dir.wz(&["decompress", "packed", "-o", "again", "--base", "old"]).ok();
    assert!(dir.read("again/a.safetensors") == model(100));
}

#[test]
fn contents_tell_where_names_do_not_but_a_pipe_has_only_names() {
    let dir = delta();
    let renamed = safetensors(&[
        Tensor("ids", "F32", &[100, 100], noise(40_000)),
        Tensor("another", "U8", &[600], noise(600)),
    ]);
    dir.write("renamed.safetensors", renamed.clone());
    let run = dir.wz(&["compress", "renamed.safetensors", "--base", "old.safetensors"]).ok();
    assert!(run.stderr.contains("needs base old.safetensors, 2 tensors"), "{}", run.stderr);
    assert!(dir.read("renamed.safetensors.wz").len() < 2000);
    dir.wz(&["decompress", "renamed.safetensors.wz", "-o", "out"]).ok();
    assert!(dir.read("out") == renamed);
    // So does a file that goes to stdout, and one that is rebased.
    let run =
        dir.wz(&["compress", "renamed.safetensors", "-o", "-", "--base", "old.safetensors"]).ok();
    assert!(run.stdout == dir.read("renamed.safetensors.wz"));
    dir.wz(&["compress", "renamed.safetensors", "-o", "moved.wz"]).ok();
    dir.wz(&["rebase", "moved.wz", "--base", "old.safetensors"]).ok();
    assert!(dir.read("moved.wz") == run.stdout);
    let mut piped = Command::new(WZ);
    piped.args(["compress", "-", "-o", "piped.wz", "--base", "old.safetensors"]);
    piped.current_dir(dir.path("")).stdin(File::open(dir.path("renamed.safetensors")).unwrap());
    let output = piped.output().unwrap();
    assert!(output.status.success());
    assert!(!String::from_utf8(output.stderr).unwrap().contains("needs base"));
    assert!(dir.read("piped.wz").len() > 30_000);
}

#[test]
fn what_an_unrelated_base_was_given_for_needs_nothing() {
    let dir = Scratch::new();
    let bytes = noise(80_000);
    for (name, bytes) in
        [("old.safetensors", &bytes[..40_000]), ("new.safetensors", &bytes[40_000..])]
    {
        dir.write(name, safetensors(&[Tensor("w", "U8", &[100, 400], bytes.to_vec())]));
    }
    let run = dir.wz(&["compress", "new.safetensors", "--base", "old.safetensors"]).ok();
    assert!(!run.stderr.contains("needs base"), "{}", run.stderr);
    std::fs::remove_file(dir.path("old.safetensors")).unwrap();
    dir.wz(&["verify", "new.safetensors.wz"]).ok();
}

#[test]
fn a_delta_moves_to_another_base_or_stands_alone() {
    let dir = delta();
    let before = dir.read("new.safetensors.wz");
    dir.write("other.safetensors", model(200));
    let rebase = ["rebase", "new.safetensors.wz", "--base", "other.safetensors", "-o", "moved.wz"];
    let run = dir.wz(&rebase).ok();
    assert!(
        run.stderr.contains("moved.wz: needs base other.safetensors, 2 tensors"),
        "{}",
        run.stderr
    );
    assert!(dir.read("new.safetensors.wz") == before);
    dir.wz(&rebase).fails(&["moved.wz already exists"]);
    // In place, and alone.
    let run = dir.wz(&["rebase", "new.safetensors.wz"]).ok();
    assert!(!run.stderr.contains("needs base"), "{}", run.stderr);
    std::fs::remove_file(dir.path("old.safetensors")).unwrap();
    dir.wz(&["verify", "new.safetensors.wz"]).ok();
    dir.wz(&["decompress", "-f", "moved.wz", "-o", "out"]).ok();
    assert!(dir.read("out") == model(100));
    // Back onto another: it takes less again.
    let alone = dir.read("new.safetensors.wz").len();
    let run =
        dir.wz(&["rebase", "--json", "new.safetensors.wz", "--base", "other.safetensors"]).ok();
    assert_eq!(run.json()["files"][0]["action"], "rebased");
    assert_eq!(run.json()["files"][0]["needs"][0]["file"], "other.safetensors");
    assert!(dir.read("new.safetensors.wz").len() < alone / 3);
    dir.wz(&["verify", "new.safetensors.wz"]).ok();
}

#[test]
fn a_delta_is_not_moved_onto_what_needs_it() {
    let dir = delta();
    dir.write("newer.safetensors", model(50));
    dir.wz(&["compress", "newer.safetensors", "--base", "new.safetensors.wz"]).ok();
    for file in ["new.safetensors", "newer.safetensors"] {
        std::fs::remove_file(dir.path(file)).unwrap();
    }
    let before = dir.read("new.safetensors.wz");
    for base in ["newer.safetensors.wz", "new.safetensors.wz"] {
        dir.wz(&["rebase", "new.safetensors.wz", "--base", base])
            .fails(&["a base that is this file, or needs it"]);
    }
    // Its base is gone.
    std::fs::remove_file(dir.path("old.safetensors")).unwrap();
    dir.wz(&["rebase", "new.safetensors.wz"]).fails(&["base model not found: old.safetensors"]);
    assert!(dir.read("new.safetensors.wz") == before);
}

#[test]
fn a_base_is_neither_replaced_nor_removed() {
    let dir = delta();
    dir.wz(&["compress", "old.safetensors"]).ok();
    let kept = dir.read("old.safetensors.wz");
    let onto = ["-f", "--base", "old.safetensors.wz", "-o", "old.safetensors.wz"];
    dir.wz(&[&["compress", "new.safetensors"], &onto[..]].concat())
        .fails(&["would replace its base", "name another one with -o"]);
    // Nor what the base needs; nor through a pipe.
    dir.write("newer.safetensors", model(50));
    let onto = ["-f", "--base", "new.safetensors.wz", "-o", "old.safetensors"];
    dir.wz(&[&["compress", "newer.safetensors"], &onto[..]].concat())
        .fails(&["would replace its base, or what that needs"]);
    let mut command = Command::new(WZ);
    command.args(["compress", "-"]).args(onto).current_dir(dir.path(""));
    command.stdin(File::open(dir.path("newer.safetensors")).unwrap());
    assert!(!command.output().unwrap().status.success());
    dir.wz(&["compress", "old.safetensors", "--base", ".", "--rm", "-o", "x.wz"])
        .fails(&["coded against it, but not removed"]);
    assert!(dir.read("old.safetensors") == model(usize::MAX));
    assert!(dir.read("old.safetensors.wz") == kept);
    assert!(!dir.path("x.wz").exists());
}

#[test]
fn who_needs_a_base_is_listed() {
    let dir = delta();
    std::fs::create_dir(dir.path("many")).unwrap();
    std::fs::rename(dir.path("new.safetensors.wz"), dir.path("many/delta.wz")).unwrap();
    dir.wz(&["compress", "new.safetensors", "-o", "many/alone.wz"]).ok();
    dir.wz(&["compress", "old.safetensors", "-o", "base.wz"]).ok();
    // By its tensors, whatever form the base has.
    for base in ["old.safetensors", "base.wz"] {
        let run = dir.wz(&["inspect", "many", "--needs", base]).ok();
        let told = String::from_utf8(run.stdout).unwrap();
        assert_eq!(told, "many/delta.wz: needs 2 of its 2 base tensors from there\n");
    }
    let run = dir.wz(&["inspect", "many", "--needs", "base.wz", "--json"]).ok();
    assert_eq!(run.json()["files"][0]["in_base"], 2);
    let run = dir.wz(&["inspect", "many/delta.wz", "--needs", "new.safetensors"]).ok();
    // One tensor is the same in both.
    assert!(String::from_utf8(run.stdout).unwrap().contains("needs 1 of its 2"));
    dir.write("many/broken.wz", b"no");
    dir.wz(&["inspect", "many", "--needs", "base.wz"]).fails(&["broken.wz", "not a .wz file"]);
}

#[test]
fn a_base_is_found_in_the_cache_of_the_hub_by_what_it_holds() {
    let dir = delta();
    for (model_name, step) in [("models--a--other", 3), ("models--b--right", usize::MAX)] {
        let folder = dir.path("hub").join(model_name).join("snapshots/0a1b");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("old.safetensors"), model(step)).unwrap();
    }
    std::fs::remove_file(dir.path("old.safetensors")).unwrap();
    let verify = |variable: &str, value: &str| {
        let mut command = Command::new(WZ);
        command.args(["verify", "new.safetensors.wz"]).current_dir(dir.path(""));
        command.env_remove("HF_HUB_CACHE").env_remove("HF_HOME").env("HOME", dir.path("nowhere"));
        command.env(variable, dir.path(value)).output().unwrap().status.success()
    };
    assert!(verify("HF_HUB_CACHE", "hub"));
    assert!(verify("HF_HOME", ""));
    assert!(!verify("HF_HOME", "nowhere"));
}

#[test]
fn equal_tensors_are_stored_once_where_a_file_can_be_read_at_random() {
    let dir = Scratch::new();
    let (table, rows) = (noise(400_000), [1000, 100]);
    let model = safetensors(&[
        Tensor("embed", "F32", &rows, table.clone()),
        Tensor("head", "F32", &rows, table),
    ]);
    dir.write("tied.safetensors", &model);
    dir.wz(&["compress", "tied.safetensors"]).ok();
    let wz = dir.read("tied.safetensors.wz");
    assert!(wz.len() < 420_000, "{}", wz.len());
    assert!(dir.wz_with_stdin(&["compress", "-"], model.clone()).ok().stdout.len() > 700_000);
    let estimate = dir.wz(&["compress", "--dry-run", "--json", "tied.safetensors"]).ok().json();
    let estimate = estimate["files"][0]["estimate"]["compressed"].as_u64().unwrap();
    assert!(estimate < 420_000, "{estimate}");

    dir.wz(&["verify", "tied.safetensors.wz"]).ok();
    assert!(dir.wz_with_stdin(&["decompress", "-"], wz.clone()).ok().stdout == model);
    assert!(dir.wz(&["decompress", "tied.safetensors.wz", "-o", "-"]).ok().stdout == model);
    assert!(
        dir.wz(&["cat", "tied.safetensors.wz", "head"]).ok().stdout
            == model[model.len() - 400_000..]
    );
    dir.wz(&["rebase", "tied.safetensors.wz", "-o", "again.wz"]).ok();
    assert!(dir.read("again.wz") == wz);
    dir.wz(&["chain", "add", "store", "tied.safetensors", "--json"]).fails(&["no step number"]);
    std::fs::copy(dir.path("tied.safetensors"), dir.path("step-1.safetensors")).unwrap();
    dir.wz(&["chain", "add", "store", "step-1.safetensors"]).ok();
    assert!(dir.read("store/step-1.safetensors.wz") == wz);
    dir.wz(&["compress", "--rm", "--force", "tied.safetensors"]).ok();
    assert!(!dir.path("tied.safetensors").exists());
}

#[test]
fn a_base_of_the_same_name_is_found_below_the_search_path_or_said_to_be_missing() {
    let dir = Scratch::new();
    dir.write("models/deep/down/model.safetensors", model(usize::MAX));
    dir.write("model.safetensors", model(100));
    let base = ["--base", "models/deep/down/model.safetensors"];
    dir.wz(&[&["compress", "model.safetensors"], &base[..]].concat()).ok();
    // Beside the file lies what it was made from, under the name of its base.
    let verify = |search: &str| {
        let mut command = Command::new(WZ);
        command.args(["verify", "model.safetensors.wz"]).current_dir(dir.path(""));
        command.env_remove("HF_HUB_CACHE").env_remove("HF_HOME").env("HOME", dir.path("nowhere"));
        let output = command.env("WEIGHTZIP_BASE_PATH", search).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (found, told) = verify("models");
    assert!(found, "{told}");
    let (found, told) = verify("");
    assert!(!found);
    for part in [
        "looked for model.safetensors and model.safetensors.wz in .",
        "WEIGHTZIP_BASE_PATH (not set)",
        "the hub's cache",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[cfg(unix)]
#[test]
fn named_pipes_are_refused_where_a_file_is_read_at_random() {
    let dir = delta();
    let pipe = dir.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    for args in [
        &["inspect", "pipe"][..],
        &["cat", "pipe", "w"],
        &["verify", "new.safetensors.wz", "--base", "pipe"],
        &["compress", "new.safetensors", "--base", "pipe", "-o", "x.wz"],
        &["inspect", "pipe", "--needs", "old.safetensors"],
    ] {
        dir.wz(args).fails(&["not a regular file"]);
    }
    // One under the name of a base is passed over.
    std::fs::remove_file(dir.path("old.safetensors")).unwrap();
    std::fs::rename(&pipe, dir.path("old.safetensors")).unwrap();
    dir.wz(&["verify", "new.safetensors.wz"]).fails(&["base model not found"]);
}

#[test]
fn a_tensor_that_is_printed_is_compared_with_its_blake3() {
    let dir = Scratch::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/error");
    let wz = std::fs::read(format!("{folder}/wrong_tensor_hash.wz")).unwrap();
    dir.write("bad.wz", wz);
    dir.wz(&["cat", "bad.wz", "part.0", "-o", "out"]).fails(&["differ from its BLAKE3", "part.0"]);
    assert!(!dir.exists("out"));
}
