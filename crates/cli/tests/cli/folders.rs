//! Folders, from one to another.

use crate::common::{Scratch, bf16, model, modified, noise, other_model, past, set_modified};
use std::fs;

const INDEX: &str = r#"{"weight_map": {"a.weight": "model-1.safetensors"}}"#;

/// A sharded repository with a little of everything.
fn repository() -> Scratch {
    let dir = Scratch::new();
    dir.write("repo/model-1.safetensors", model());
    dir.write("repo/sub/model-2.safetensors", other_model());
    dir.write("repo/broken.safetensors", &model()[..5000]);
    dir.write("repo/model.safetensors.index.json", INDEX);
    dir.write("repo/notes.wz", "not a model");
    dir.write("repo/empty.txt", "");
    fs::create_dir_all(dir.path("repo/nothing/in/here")).unwrap();
    set_modified(&dir.path("repo/sub/model-2.safetensors"));
    set_modified(&dir.path("repo/model.safetensors.index.json"));
    set_modified(&dir.path("repo/sub"));
    dir
}

/// Both folders have the same names, bytes and times.
fn assert_same(dir: &Scratch, a: &str, b: &str) {
    assert_eq!(dir.names(a), dir.names(b));
    for name in dir.names(a) {
        let (a, b) = (format!("{a}/{name}"), format!("{b}/{name}"));
        if !name.ends_with('/') {
            assert!(dir.read(&a) == dir.read(&b), "{name}");
        }
        assert_eq!(modified(&dir.path(&a)), modified(&dir.path(&b)), "{name}");
    }
}

#[test]
fn a_repository_comes_back() {
    let dir = repository();
    let run = dir.wz(&["compress", "repo"]).ok();
    assert!(run.stderr.contains("repo (4 compressed, 2 copied): "), "{}", run.stderr);
    assert!(run.stderr.contains("broken.safetensors: warning: "), "{}", run.stderr);
    let packed = [
        "broken.safetensors.wz",
        "empty.txt",
        "model-1.safetensors.wz",
        "model.safetensors.index.json",
        "notes.wz.wz",
        "nothing/",
        "nothing/in/",
        "nothing/in/here/",
        "sub/",
        "sub/model-2.safetensors.wz",
    ];
    assert_eq!(dir.names("repo.wz"), packed);
    assert_eq!(dir.read("repo.wz/model.safetensors.index.json"), INDEX.as_bytes());
    assert_eq!(modified(&dir.path("repo.wz/sub/model-2.safetensors.wz")), past());
    assert_eq!(modified(&dir.path("repo.wz/sub")), past());
    fs::rename(dir.path("repo"), dir.path("original")).unwrap();
    let run = dir.wz(&["decompress", "repo.wz/"]).ok();
    assert!(run.stderr.contains("repo.wz/ (4 restored, 2 copied): "), "{}", run.stderr);
    assert_same(&dir, "original", "repo");
    dir.wz(&["decompress", "repo.wz", "-o", "elsewhere"]).ok();
    assert_same(&dir, "original", "elsewhere");
}

#[test]
fn json_lists_every_file() {
    let dir = repository();
    let json = dir.wz(&["compress", "repo", "-o", "out", "--json"]).ok().json();
    assert_eq!((&json["command"], &json["failed"]), (&"compress".into(), &0.into()));
    let files = json["files"].as_array().unwrap();
    let actions: Vec<_> = files
        .iter()
        .map(|f| (f["file"].as_str().unwrap(), f["action"].as_str().unwrap()))
        .collect();
    assert!(actions.contains(&("repo/model-1.safetensors", "compressed")), "{actions:?}");
    assert!(actions.contains(&("repo/empty.txt", "copied")), "{actions:?}");
    assert_eq!(actions.len(), 6);
}

#[test]
fn a_rerun_skips_what_is_complete() {
    let dir = repository();
    dir.wz(&["compress", "repo"]).ok();
    let first = modified(&dir.path("repo.wz"));
    fs::remove_file(dir.path("repo.wz/sub/model-2.safetensors.wz")).unwrap();
    fs::remove_file(dir.path("repo.wz/empty.txt")).unwrap();
    let run = dir.wz(&["compress", "repo"]).ok();
    assert!(
        run.stderr.contains("repo (1 compressed, 1 copied, 4 already complete): "),
        "{}",
        run.stderr
    );
    assert_eq!(modified(&dir.path("repo.wz")), first);
    let run = dir.wz(&["compress", "repo", "--json"]).ok();
    assert!(run.json()["files"].as_array().unwrap().iter().all(|f| f["action"] == "skipped"));
    // A source that changed since is not complete, and its old result is not replaced unasked.
    dir.write("repo/empty.txt", "no longer");
    dir.wz(&["compress", "repo"]).fails(&["wz: repo/empty.txt: repo.wz/empty.txt already exists"]);
    dir.wz(&["compress", "repo", "-f"]).ok();
    assert_eq!(dir.read("repo.wz/empty.txt"), b"no longer");
}

/// The level, whether there is a SHA-256, and the base of a result.
fn made(dir: &Scratch, file: &str) -> (String, bool, bool) {
    let json = dir.wz(&["inspect", file, "--json"]).ok().json();
    let archive = &json["archive"];
    let level = archive["level"].as_str().unwrap().to_owned();
    (level, archive["sha256"].is_string(), archive["needs"].is_array())
}

#[test]
fn a_rerun_says_what_is_made_otherwise_and_makes_it_again_with_force() {
    let dir = repository();
    dir.write("base/model-1.safetensors", model());
    let one = "repo.wz/model-1.safetensors.wz";
    dir.wz(&["compress", "repo"]).ok();
    for (args, how, expected) in [
        (&["--level", "max"][..], "at level default, not max", ("max", false, false)),
        (&["--sha256"], "at level max, not default, without a SHA-256", ("default", true, false)),
        (&["--base", "base"], "with nothing of a base", ("default", false, true)),
        (&[], "next to the base model-1.safetensors", ("default", false, false)),
    ] {
        let before = made(&dir, one);
        let rerun = |more: &[&str]| dir.wz(&[&["compress", "repo"], args, more].concat()).ok();
        let said = format!("repo/model-1.safetensors: warning: finished {how}; -f makes it again");
        let run = rerun(&[]);
        assert!(run.stderr.contains(&said), "{how}: {}", run.stderr);
        assert!(run.stderr.contains("already complete"), "{how}: {}", run.stderr);
        assert_eq!(made(&dir, one), before, "{how}");
        let json = rerun(&["--json"]).json();
        let entry = json["files"].as_array().unwrap().iter().find(|f| f["output"] == one).unwrap();
        assert!(entry["action"] == "skipped" && !entry["warnings"].as_array().unwrap().is_empty());
        rerun(&["-f"]);
        let (level, sha256, needs) = expected;
        assert_eq!(made(&dir, one), (level.to_owned(), sha256, needs), "{how}");
    }
    let run = dir.wz(&["compress", "repo"]).ok();
    assert!(!run.stderr.contains("finished"), "{}", run.stderr);
    // More than was asked for is no difference.
    dir.wz(&["compress", "repo", "--sha256", "-f"]).ok();
    let run = dir.wz(&["compress", "repo"]).ok();
    assert!(!run.stderr.contains("finished"), "{}", run.stderr);
    // In place the source is gone.
    dir.wz(&["compress", "repo", "--in-place"]).ok();
    let run = dir.wz(&["compress", "repo", "--in-place", "--level", "max", "-f"]).ok();
    let said = "model-1.safetensors.wz: warning: finished at level default, not max; restore it";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

#[test]
fn a_copy_that_somebody_changed_stays() {
    let dir = repository();
    dir.write("repo/README.md", "# Model\n");
    dir.write("repo/config.json", "{}");
    dir.wz(&["compress", "repo"]).ok();
    dir.write("repo.wz/README.md", "# Model\n\nmy words\n");
    fs::remove_file(dir.path("repo.wz/config.json")).unwrap();
    dir.write("repo.wz/config.json", "{}");
    for args in [&["compress", "repo"][..], &["compress", "repo", "-f"]] {
        let run = dir.wz(args).ok();
        let said = "repo/README.md: warning: repo.wz/README.md was changed after it was copied";
        assert!(run.stderr.contains(said), "{}", run.stderr);
        assert_eq!(dir.read("repo.wz/README.md"), b"# Model\n\nmy words\n");
        // The same bytes at another time are no change.
        assert!(!run.stderr.contains("config.json"), "{}", run.stderr);
    }
    fs::remove_file(dir.path("repo.wz/README.md")).unwrap();
    dir.wz(&["compress", "repo"]).ok();
    assert_eq!(dir.read("repo.wz/README.md"), b"# Model\n");
}

#[test]
fn restoring_into_what_exists_wants_force() {
    let dir = repository();
    dir.wz(&["compress", "repo"]).ok();
    dir.write("repo/empty.txt", "my work");
    dir.wz(&["decompress", "repo.wz"]).fails(&["wz: repo.wz: repo already exists; -f"]);
    assert_eq!(dir.read("repo/empty.txt"), b"my work");
    let run = dir.wz(&["decompress", "repo.wz", "-f"]).ok();
    assert!(run.stderr.contains("(0 restored, 1 copied, 5 already complete)"), "{}", run.stderr);
    assert_eq!(dir.read("repo/empty.txt"), b"");
}

#[test]
fn one_failure_leaves_the_others_done() {
    let dir = repository();
    dir.wz(&["compress", "repo"]).ok();
    let mut bytes = dir.read("repo.wz/model-1.safetensors.wz");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    dir.write("repo.wz/model-1.safetensors.wz", bytes);
    dir.write("repo.wz/fake.wz", "not a .wz");
    let run =
        dir.wz(&["decompress", "repo.wz", "-o", "back"]).fails(&["3 restored, 2 copied, 2 failed"]);
    let listed: Vec<_> = run.stderr.lines().filter(|l| l.starts_with("wz: ")).collect();
    assert_eq!(listed.len(), 2, "{}", run.stderr);
    assert!(listed[0].starts_with("wz: repo.wz/fake.wz: "), "{listed:?}");
    assert!(listed[1].starts_with("wz: repo.wz/model-1.safetensors.wz: corrupt"), "{listed:?}");
    assert!(dir.read("back/sub/model-2.safetensors") == other_model());
    assert!(!dir.exists("back/model-1.safetensors") && !dir.exists("back/fake"));
    dir.wz(&["verify", "repo.wz"]).fails(&["fake.wz", "model-1.safetensors.wz: corrupt"]);
    dir.wz(&["verify", "repo.wz/sub"]).ok();
}

#[test]
fn nothing_restored_is_nothing_verified() {
    let dir = Scratch::new();
    dir.write("repo.wz/model.safetensors.wz", "not a .wz");
    dir.write("repo.wz/config.json", "{}");
    let run = dir.wz(&["decompress", "repo.wz"]).fails(&["(0 restored, 1 copied, 1 failed)\n"]);
    assert!(!run.stderr.contains("verified"), "{}", run.stderr);
}

#[test]
fn source_and_result_are_kept_apart() {
    let dir = repository();
    for to in ["repo", "repo/inside", "."] {
        dir.wz(&["compress", "repo", "-o", to]).fails(&["can't lie in one another"]);
    }
    dir.wz(&["compress", "repo/", "-o", "-"]).fails(&["a folder can't go to stdout"]);
    dir.wz(&["compress", "repo", "--rm"]).fails(&["--in-place"]);
    dir.wz(&["compress", "."]).fails(&["name the result with -o"]);
    dir.wz(&["decompress", "repo"]).fails(&["doesn't end in .wz"]);
    dir.write("file", "x");
    dir.wz(&["compress", "repo", "-o", "file"]).fails(&["file already exists and is not a folder"]);
    assert_eq!(
        dir.names("").iter().filter(|n| n.ends_with(".wz")).collect::<Vec<_>>(),
        ["repo/notes.wz"]
    );
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_come_back() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = Scratch::new();
    let name = OsStr::from_bytes(b"w\xff\x1b[31m.safetensors");
    fs::create_dir(dir.path("repo")).unwrap();
    fs::write(dir.path("repo").join(name), model()).unwrap();
    let json = dir.wz(&["compress", "repo", "--json"]).ok();
    assert!(json.stdout.is_ascii() && !json.stdout.contains(&0x1b));
    let run = dir.wz(&["decompress", "repo.wz", "-o", "back"]).ok();
    assert!(!run.stderr.contains('\x1b'), "{}", run.stderr);
    assert!(fs::read(dir.path("back").join(name)).unwrap() == model());
    let run = dir.wz(&["verify", "repo.wz"]).ok();
    assert!(run.stderr.starts_with(r"repo.wz/w\xff\u{1b}[31m.safetensors.wz: "), "{}", run.stderr);
}

#[test]
fn what_is_compressed_is_chosen_by_contents_not_by_names() {
    let dir = Scratch::new();
    let weights = || bf16(600_000);
    let coded = [
        "checkpoint.pth.tar",
        "model.data-00000-of-00001",
        "model.hdf5",
        "model.joblib",
        "model.onnx_data_1",
        "model.pt2",
        "model.sft",
        "yolo.weights",
        "a1b2c3",
    ];
    for name in coded {
        dir.write(&format!("repo/{name}"), weights());
    }
    // What saves nothing, is read as it is, or is small.
    let text = "a text of many words, again and again; ".repeat(50_000);
    let pieces = b"\x0A\x0E\x0A\x05<unk>\x15\0\0\0\0".repeat(200_000);
    dir.write("repo/image.png", noise(1 << 21));
    dir.write("repo/table.parquet", noise(1 << 21));
    dir.write("repo/tokenizer.json", text);
    dir.write("repo/tokenizer.model", pieces);
    dir.write("repo/small", bf16(1000));
    let dry = dir.wz(&["compress", "--dry-run", "--json", "repo"]).ok().json();
    let run = dir.wz(&["compress", "repo"]).ok();
    assert!(run.stderr.contains("repo (9 compressed, 5 copied): "), "{}", run.stderr);
    assert!(!run.stderr.contains("stay as they are"), "{}", run.stderr);
    let planned = dry["files"].as_array().unwrap().iter().filter(|f| f["action"] == "compress");
    assert_eq!(planned.count(), coded.len());
    let packed = dir.names("repo.wz");
    for name in coded {
        assert!(packed.contains(&format!("{name}.wz")), "{name}: {packed:?}");
    }
    dir.wz(&["decompress", "repo.wz", "-o", "back"]).ok();
    assert_same(&dir, "repo", "back");

    dir.wz(&["compress", "repo", "--in-place"]).ok();
    let run = dir.wz(&["compress", "repo", "--in-place"]).ok();
    assert!(run.stderr.contains("(0 compressed, 0 copied, 9 already complete)"), "{}", run.stderr);
    dir.wz(&["decompress", "repo", "--in-place"]).ok();
    assert_same(&dir, "repo", "back");
}
