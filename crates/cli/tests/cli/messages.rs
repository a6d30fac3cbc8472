//! What runs look like, as snapshots.

use crate::common::{Scratch, Tensor, model, noise, other_model, safetensors};
use crate::snapshot;

#[test]
fn help() {
    let dir = Scratch::new();
    snapshot!("help", dir.wz(&["--help"]).ok().shown());
    for command in
        ["compress", "decompress", "verify", "inspect", "cat", "rebase", "chain", "tune", "bench"]
    {
        let shown = dir.wz(&[command, "--help"]).ok().shown();
        snapshot!(format!("help_{command}"), shown);
    }
    for command in ["add", "adopt", "list", "prune"] {
        let shown = dir.wz(&["chain", command, "--help"]).ok().shown();
        snapshot!(format!("help_chain_{command}"), shown);
    }
}

#[test]
fn help_of_a_command_has_two_spellings() {
    let dir = Scratch::new();
    for command in [&["compress"][..], &["cat"], &["chain", "add"]] {
        let words = dir.wz(&[&["help"], command].concat()).ok().stdout;
        assert!(words == dir.wz(&[command, &["--help"]].concat()).ok().stdout, "{command:?}");
    }
    assert_eq!(dir.wz(&["help"]).ok().stdout, dir.wz(&["--help"]).ok().stdout);
}

#[test]
fn the_first_hour() {
    let dir = Scratch::new();
    dir.write("model.safetensors", model());
    let steps: [&[&str]; 9] = [
        &["compress", "model.safetensors"],
        &["compress", "model.safetensors"],
        &["compress", "model.safetensors.wz"],
        &["verify", "model.safetensors.wz"],
        &["decompress", "model.safetensors"],
        &["decompress", "model.safetensors.wz"],
        &["decompress", "model.safetensors.wz", "-o", "copy.safetensors"],
        &["cat", "model.safetensors.wz", "nope"],
        &["compress", "missing.safetensors"],
    ];
    let shown: Vec<_> = steps.iter().map(|args| dir.wz(args).shown()).collect();
    snapshot!("first_hour", shown.join("\n"));
}

#[test]
fn inspect() {
    let dir = Scratch::new();
    dir.write("model.safetensors", model());
    snapshot!("inspect_plain", dir.wz(&["inspect", "model.safetensors"]).ok().shown());
    dir.wz(&["compress", "model.safetensors", "--sha256"]).ok();
    snapshot!("inspect_wz", dir.wz(&["inspect", "model.safetensors.wz"]).ok().shown());
    dir.write("notes.txt", "no model");
    snapshot!("inspect_opaque", dir.wz(&["inspect", "notes.txt"]).ok().shown());
}

#[test]
fn json() {
    let dir = Scratch::new();
    dir.write("m", model());
    let mut shown = vec![
        dir.wz(&["compress", "m", "--sha256", "--json"]).ok().shown(),
        dir.wz(&["verify", "m.wz", "--json"]).ok().shown(),
        dir.wz(&["inspect", "m", "--json"]).ok().shown(),
        dir.wz(&["inspect", "m.wz", "--json"]).ok().shown(),
        dir.wz(&["decompress", "m.wz", "-o", "back", "--json"]).ok().shown(),
        dir.wz(&["decompress", "m.wz", "gone.wz", "--json"]).fails(&[]).shown(),
        dir.wz(&["inspect", "gone", "--json"]).fails(&[]).shown(),
    ];
    dir.write("repo/m.safetensors", other_model());
    dir.write("repo/config.json", "{}");
    shown.push(dir.wz(&["compress", "repo", "--json"]).ok().shown());
    snapshot!("json", shown.join("\n"));
}

#[test]
fn hostile_names_are_escaped() {
    let dir = Scratch::new();
    let name = "\u{1b}]0;owned\u{7}\u{202e}gnp\r\n../../etc/passwd";
    dir.write("m", safetensors(&[Tensor(name, "U8", &[64], noise(64))]));
    dir.wz(&["compress", "m"]).ok();
    let mut shown =
        vec![dir.wz(&["inspect", "m"]).ok().shown(), dir.wz(&["inspect", "m.wz"]).ok().shown()];
    let json = dir.wz(&["inspect", "m.wz", "--json"]).ok();
    assert_eq!(json.json()["tensors"][0]["name"], name);
    shown.push(json.shown());
    shown.push(dir.wz(&["cat", "m.wz", "\u{1b}[31m"]).fails(&[]).shown());
    #[cfg(unix)]
    {
        dir.write("\u{1b}[31mred\u{202e}.wz", "x");
        shown.push(dir.wz(&["verify", "\u{1b}[31mred\u{202e}.wz"]).fails(&[]).stderr);
    }
    for run in &shown[..3] {
        assert!(run.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{run:?}");
    }
    assert!(!shown[4].contains('\u{1b}'));
    assert_eq!(dir.wz(&["cat", "m.wz", name]).ok().stdout, noise(64));
    snapshot!("hostile", shown.join("\n").replace('\u{1b}', "<ESC>").replace('\u{202e}', "<RLO>"));
}

#[test]
fn completions_and_manual_pages() {
    let dir = Scratch::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = String::from_utf8(dir.wz(&["completions", shell]).ok().stdout).unwrap();
        assert!(script.contains("decompress") && script.contains("in-place"), "{shell}");
    }
    let page = String::from_utf8(dir.wz(&["man"]).ok().stdout).unwrap();
    assert!(page.contains(".TH WZ 1") && page.contains("Exit codes"), "{page}");
    let page = String::from_utf8(dir.wz(&["man", "cat"]).ok().stdout).unwrap();
    assert!(page.contains(".TH WZ-CAT 1") && page.contains("\\-\\-rows"), "{page}");
    let page = String::from_utf8(dir.wz(&["man", "chain", "add"]).ok().stdout).unwrap();
    assert!(page.contains(".TH WZ-CHAIN-ADD 1") && page.contains("keyframe"), "{page}");
    dir.wz(&["man", "paint"]).fails(&["no command \"paint\""]);
}
