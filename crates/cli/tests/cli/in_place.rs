//! `--in-place`: one file at a time, each safe before its source goes.

use crate::common::{Scratch, model, modified, noise, other_model, past, set_modified};
use std::fs;
use std::os::unix::fs::symlink;

fn repository() -> Scratch {
    let dir = Scratch::new();
    let source = dir.write("repo/a.safetensors", model());
    dir.write("repo/sub/b.safetensors", other_model());
    dir.write("repo/config.json", "{}");
    dir.write("repo/notes.wz", "not a model");
    set_modified(&source);
    dir
}

const PACKED: [&str; 5] =
    ["a.safetensors.wz", "config.json", "notes.wz.wz", "sub/", "sub/b.safetensors.wz"];
const PLAIN: [&str; 5] = ["a.safetensors", "config.json", "notes.wz", "sub/", "sub/b.safetensors"];

#[test]
fn a_folder_is_replaced_and_comes_back() {
    let dir = repository();
    let run = dir.wz(&["compress", "repo", "--in-place"]).ok();
    assert!(run.stderr.contains("repo (3 compressed, 0 copied): "), "{}", run.stderr);
    assert_eq!(dir.names("repo"), PACKED);
    assert_eq!(modified(&dir.path("repo/a.safetensors.wz")), past());
    let run = dir.wz(&["decompress", "repo", "--in-place"]).ok();
    assert!(run.stderr.contains("repo (3 restored, 0 copied): "), "{}", run.stderr);
    assert_eq!(dir.names("repo"), PLAIN);
    assert!(
        dir.read("repo/a.safetensors") == model()
            && dir.read("repo/sub/b.safetensors") == other_model()
    );
    assert_eq!(dir.read("repo/notes.wz"), b"not a model");
    assert_eq!(modified(&dir.path("repo/a.safetensors")), past());
}

#[test]
fn a_rerun_goes_on_where_the_last_one_stopped() {
    let dir = repository();
    dir.wz(&["compress", "repo/a.safetensors"]).ok(); // stopped just before the source was removed
    dir.wz(&["compress", "repo/sub/b.safetensors", "--rm"]).ok(); // finished
    let run = dir.wz(&["compress", "repo", "--in-place"]).ok();
    assert!(
        run.stderr.contains("repo (1 compressed, 0 copied, 3 already complete): "),
        "{}",
        run.stderr
    );
    assert_eq!(dir.names("repo"), PACKED);
    let run = dir.wz(&["compress", "repo", "--in-place"]).ok();
    assert!(
        run.stderr.contains("repo (0 compressed, 0 copied, 3 already complete)"),
        "{}",
        run.stderr
    );
    assert_eq!(dir.names("repo"), PACKED);

    dir.wz(&["decompress", "repo/a.safetensors.wz"]).ok();
    dir.wz(&["decompress", "repo", "--in-place"]).ok();
    assert_eq!(dir.names("repo"), PLAIN);
}

#[test]
fn nothing_is_lost_when_both_names_hold_something() {
    let dir = repository();
    dir.wz(&["compress", "repo/a.safetensors"]).ok();
    dir.write("repo/a.safetensors", other_model());
    for args in [&["compress", "repo", "--in-place"][..], &["compress", "repo", "--in-place", "-f"]]
    {
        dir.wz(args).fails(&["a.safetensors.wz already exists and holds something else"]);
        assert!(dir.read("repo/a.safetensors") == other_model());
    }
    dir.wz(&["decompress", "repo", "--in-place"])
        .fails(&["a.safetensors already exists and holds something else"]);
    assert!(dir.read("repo/a.safetensors") == other_model());
    dir.wz(&["verify", "repo/a.safetensors.wz"]).ok();
}

#[test]
fn a_damaged_file_stays_and_the_rest_is_done() {
    let dir = repository();
    dir.wz(&["compress", "repo", "--in-place"]).ok();
    let mut bytes = dir.read("repo/a.safetensors.wz");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    dir.write("repo/a.safetensors.wz", &bytes);
    dir.wz(&["decompress", "repo", "--in-place"])
        .fails(&["repo (2 restored, 0 copied, 1 failed)", "wz: repo/a.safetensors.wz: corrupt"]);
    assert_eq!(
        dir.names("repo"),
        ["a.safetensors.wz", "config.json", "notes.wz", "sub/", "sub/b.safetensors"]
    );
    assert!(dir.read("repo/a.safetensors.wz") == bytes);
}

#[test]
fn files_with_other_names_are_left_alone() {
    let dir = repository();
    symlink("a.safetensors", dir.path("repo/link.safetensors")).unwrap();
    fs::hard_link(dir.path("repo/sub/b.safetensors"), dir.path("outside")).unwrap();
    let run = dir
        .wz(&["compress", "repo", "--in-place"])
        .fails(&["repo (1 compressed, 0 copied, 3 failed)"]);
    for (name, why) in [
        ("a.safetensors", "lead nowhere"),
        ("link.safetensors", "lead nowhere"),
        ("sub/b.safetensors", "hard link"),
    ] {
        assert!(
            run.stderr
                .lines()
                .any(|l| l.starts_with(&format!("wz: repo/{name}: ")) && l.contains(why)),
            "{name}: {}",
            run.stderr
        );
    }
    assert_eq!(
        dir.names("repo"),
        [
            "a.safetensors",
            "config.json",
            "link.safetensors",
            "notes.wz.wz",
            "sub/",
            "sub/b.safetensors"
        ]
    );
}

#[test]
fn names_that_follow_one_another_find_room() {
    let dir = Scratch::new();
    for name in ["x", "x.wz", "x.wz.wz", "x.wz.wz.wz"] {
        dir.write(&format!("repo/{name}"), name);
    }
    dir.wz(&["compress", "repo", "--in-place"]).ok();
    assert_eq!(dir.names("repo"), ["x", "x.wz.wz", "x.wz.wz.wz", "x.wz.wz.wz.wz"]);
    dir.wz(&["decompress", "repo", "--in-place"]).ok();
    for name in ["x", "x.wz", "x.wz.wz", "x.wz.wz.wz"] {
        assert_eq!(dir.read(&format!("repo/{name}")), name.as_bytes());
    }
}

#[test]
fn a_damaged_result_is_not_taken_for_finished() {
    let dir = repository();
    dir.wz(&["compress", "repo", "--in-place"]).ok();
    let whole = dir.read("repo/a.safetensors.wz");
    dir.write("repo/a.safetensors.wz", &whole[..whole.len() - 20]);
    dir.wz(&["compress", "repo", "--in-place"])
        .fails(&["wz: repo/a.safetensors.wz: a .wz that is damaged"]);
    assert!(!dir.exists("repo/a.safetensors.wz.wz"));
}

#[test]
fn caches_and_files_are_refused() {
    let dir = Scratch::new();
    dir.write(".cache/huggingface/hub/models--a/snapshots/1/m.safetensors", model());
    dir.wz(&["compress", ".cache/huggingface", "--in-place"]).fails(&["model cache"]);
    dir.write("m", model());
    dir.wz(&["compress", "m", "--in-place"]).fails(&["--in-place is for folders"]);
    dir.wz_with_stdin(&["verify", "m"], Vec::new()).fails(&[]);
    assert!(
        dir.exists("m") && dir.exists(".cache/huggingface/hub/models--a/snapshots/1/m.safetensors")
    );
}

#[test]
fn nothing_is_replaced_by_something_larger() {
    let dir = Scratch::new();
    dir.write("repo/tiny.safetensors", noise(100));
    dir.write("alone.bin", noise(100));
    let run = dir.wz(&["compress", "repo", "--in-place", "--min-saving", "0"]).ok();
    for line in [
        "repo/tiny.safetensors: would become no smaller; left as it is",
        "repo (0 compressed, 0 copied, 1 left as they are)",
    ] {
        assert!(run.stderr.contains(line), "{}", run.stderr);
    }
    let run = dir.wz(&["compress", "alone.bin", "--rm", "-f", "--json"]).ok();
    assert_eq!(run.json()["files"][0]["action"], "left");
    assert_eq!(dir.names(""), ["alone.bin", "repo/", "repo/tiny.safetensors"]);
}
