//! Files whose directory is at their end.

use crate::common::{Scratch, WZ};
use std::process::{Command, Stdio};

/// What torch wrote of a few tensors.
fn checkpoint() -> Vec<u8> {
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/scan_torch/checkpoint.pt");
    std::fs::read(seed).unwrap()
}

#[test]
fn a_checkpoint_is_the_same_from_a_file_a_pipe_and_another_archive() {
    let dir = Scratch::new();
    dir.write("step-1.pt", checkpoint());
    dir.wz(&["compress", "step-1.pt"]).ok();
    let wz = dir.read("step-1.pt.wz");
    let piped = dir.wz_with_stdin(&["compress", "-"], checkpoint()).ok().stdout;
    let to_stdout = dir.wz(&["compress", "step-1.pt", "-o", "-"]).ok().stdout;
    assert!(piped == wz && to_stdout == wz);
    dir.wz(&["rebase", "step-1.pt.wz", "-o", "again.wz"]).ok();
    assert!(dir.read("again.wz") == wz);
    dir.wz(&["chain", "add", "store", "step-1.pt"]).ok();
    assert!(dir.read("store/step-1.pt.wz") == wz);
    assert!(dir.wz(&["decompress", "step-1.pt.wz", "-o", "-"]).ok().stdout == checkpoint());
    for file in ["step-1.pt", "step-1.pt.wz"] {
        let json = dir.wz(&["inspect", file, "--json"]).ok().json();
        let tensors = json["tensors"].as_array().unwrap().iter();
        let names: Vec<_> = tensors.map(|tensor| tensor["name"].as_str().unwrap()).collect();
        assert_eq!(json["format"], "pytorch");
        assert_eq!(names, ["w", "half", "l.0"]);
    }
    let bytes = dir.wz(&["cat", "step-1.pt.wz", "half"]).ok().stdout;
    assert_eq!(bytes, [1f32.to_le_bytes(); 2].concat());
    dir.wz(&["compress", "step-1.pt", "--lossy", "abs=2^-4"]).fails(&["checksums", "safetensors"]);
}

#[test]
fn only_pipes_are_put_into_a_temporary_file() {
    let dir = Scratch::new();
    let source = dir.write("c.pt", checkpoint());
    let run = |args: &[&str], stdin: std::fs::File| {
        let mut wz = Command::new(WZ);
        wz.current_dir(dir.path("")).args(args).stdin(stdin).stdout(Stdio::null());
        wz.env("TMPDIR", dir.path("none")).output().unwrap()
    };
    let open = || std::fs::File::open(&source).unwrap();
    assert!(run(&["compress", "c.pt"], open()).status.success());
    let piped = run(&["compress", "-"], open());
    assert_eq!(piped.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("TMPDIR"));
}
