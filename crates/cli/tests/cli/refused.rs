//! Systems that can't do everything: results are whole, and it is said once.

use crate::common::{Run, Scratch, Tensor, WZ, bf16, model, other_model, safetensors};
use crate::crash::program;
use std::process::Command;

/// `wz` on a system that can't do some things.
fn without(dir: &Scratch, refused: &str, args: &[&str]) -> Run {
    let mut command = Command::new(program());
    command.env("REFUSE", refused).args(["0", WZ]).args(args).current_dir(dir.path(""));
    let output = command.output().unwrap();
    Run::of(&format!("{} without {refused}", args.join(" ")), output)
}

const ALL: &str = "tmpfile links noreplace mode owner times folder-sync free threads";

/// What may be missing, alone and together, and what `wz` may say of it.
const SYSTEMS: &[(&str, &[&str])] = &[
    ("tmpfile", &[]),
    ("links", &[]),
    ("tmpfile noreplace", &[]),
    ("tmpfile noreplace links", &[]),
    ("mode", &["the mode"]),
    ("owner", &[]),
    ("times", &["the modification time"]),
    ("coarse", &[]),
    ("folder-sync", &["sync a folder"]),
    ("free", &[]),
    ("threads", &[]),
    (ALL, &["the mode", "the modification time", "sync a folder"]),
];

/// Each warning was said once in a run, and nothing else.
fn said_once(run: &Run, warnings: &[&str]) {
    let lines: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("wz: ")).collect();
    assert!(lines.iter().all(|line| line.starts_with("wz: warning: can't ")), "{lines:?}");
    assert!(lines.len() <= warnings.len(), "{lines:?}");
    for line in &lines {
        assert!(warnings.iter().any(|warning| line.contains(warning)), "{lines:?}");
    }
}

#[test]
fn files_are_whole_on_systems_that_cant_do_everything() {
    for (refused, warnings) in SYSTEMS {
        let dir = Scratch::new();
        dir.write("m.safetensors", model());
        set_mode(&dir, "m.safetensors", 0o640);
        let wz = |args: &[&str]| without(&dir, refused, args).ok();
        said_once(&wz(&["compress", "m.safetensors"]), warnings);
        let again = without(&dir, refused, &["compress", "m.safetensors"]);
        again.fails(&["m.safetensors.wz already exists"]);
        wz(&["compress", "m.safetensors", "-f"]);
        std::fs::remove_file(dir.path("m.safetensors")).unwrap();
        wz(&["decompress", "m.safetensors.wz"]);
        assert!(dir.read("m.safetensors") == model(), "{refused}");
        wz(&["cat", "m.safetensors.wz", "b.bias", "-o", "bias"]);
        wz(&["compress", "m.safetensors", "-f", "--rm"]);
        assert_eq!(dir.names(""), ["bias", "m.safetensors.wz"], "{refused}");
        dir.wz(&["verify", "m.safetensors.wz"]).ok();
    }
}

#[test]
fn folders_are_whole_on_systems_that_cant_do_everything() {
    for (refused, warnings) in SYSTEMS {
        let dir = Scratch::new();
        dir.write("repo/a.safetensors", model());
        dir.write("repo/sub/b.safetensors", other_model());
        dir.write("repo/config.json", "{}");
        set_mode(&dir, "repo/sub", 0o711);
        let wz = |args: &[&str]| without(&dir, refused, args).ok();
        let run = wz(&["compress", "repo"]);
        said_once(&run, warnings);
        if warnings.len() == 1 {
            assert!(run.stderr.contains(warnings[0]), "{refused}: {}", run.stderr);
        }
        if !refused.contains("times") {
            let rerun = wz(&["compress", "repo"]);
            assert!(rerun.stderr.contains("3 already complete"), "{refused}: {}", rerun.stderr);
        }
        wz(&["compress", "repo", "--in-place"]);
        wz(&["decompress", "repo", "--in-place"]);
        wz(&["decompress", "repo.wz", "-o", "back"]);
        for folder in ["repo", "back"] {
            let names = ["a.safetensors", "config.json", "sub/", "sub/b.safetensors"];
            assert_eq!(dir.names(folder), names, "{refused}");
            assert!(dir.read(&format!("{folder}/a.safetensors")) == model());
            assert!(dir.read(&format!("{folder}/sub/b.safetensors")) == other_model());
        }
    }
}

#[test]
fn chains_are_whole_on_systems_that_cant_do_everything() {
    let step = |seed: usize| {
        let weights = bf16(40_000)[seed * 2..][..60_000].to_vec();
        safetensors(&[Tensor("w", "BF16", &[100, 300], weights)])
    };
    for (refused, _) in SYSTEMS {
        let dir = Scratch::new();
        for number in 1..4 {
            let name = format!("step-{number}.safetensors");
            dir.write(&name, step(number));
            without(&dir, refused, &["chain", "add", "store", &name]).ok();
        }
        without(&dir, refused, &["chain", "prune", "store", "--keep-last", "1"]).ok();
        dir.wz(&["decompress", "store/step-3.safetensors.wz", "-o", "back"]).ok();
        assert!(dir.read("back") == step(3), "{refused}");
    }
}

#[test]
fn reruns_know_times_that_are_stored_coarser() {
    let dir = Scratch::new();
    dir.write("repo/a.safetensors", model());
    dir.write("repo/config.json", "{}");
    without(&dir, "coarse", &["compress", "repo"]).ok();
    let kept = crate::common::modified(&dir.path("repo.wz/config.json"));
    let kept = kept.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(kept.as_nanos() % 2_000_000_000, 0);
    let rerun = dir.wz(&["compress", "repo"]).ok();
    assert!(rerun.stderr.contains("2 already complete"), "{}", rerun.stderr);
}

fn set_mode(dir: &Scratch, name: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}
