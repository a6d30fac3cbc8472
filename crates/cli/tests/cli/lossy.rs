//! `--lossy`: what near-lossless files are called, what is said of them, and what they are refused for.

use crate::common::{Scratch, Tensor, safetensors};
use std::fs;

/// A matrix, a vector, and integers.
fn model(seed: u32) -> Vec<u8> {
    let weights = (0..20_000u32).map(|i| {
        let noise = (i ^ seed).wrapping_mul(2_654_435_761) >> 8;
        (f32::from(u16::try_from(noise >> 8).unwrap()) / 65_536.0 - 0.5) * 0.1
    });
    let bytes: Vec<u8> = weights.flat_map(f32::to_le_bytes).collect();
    let (few, ids) = (bytes[..4000].to_vec(), bytes[..400].to_vec());
    safetensors(&[
        Tensor("w", "F32", &[100, 200], bytes),
        Tensor("bias", "F32", &[1000], few),
        Tensor("ids", "I32", &[10, 10], ids),
    ])
}

fn scratch() -> Scratch {
    let dir = Scratch::new();
    dir.write("m.safetensors", model(1));
    dir
}

#[test]
fn a_near_lossless_file_says_so_in_its_name_and_in_all_that_is_said_of_it() {
    let dir = scratch();
    let run = dir.wz(&["compress", "m.safetensors", "--lossy", "abs=2^-12"]).ok();
    assert!(
        run.stderr.contains("bound kept") && !run.stderr.contains("verified"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("1 tensor rounded (abs=2^-12): errors up to "), "{}", run.stderr);
    assert_eq!(dir.names(""), ["m.safetensors", "m.safetensors.lossy.wz"]);
    dir.wz(&["compress", "m.safetensors"]).ok();
    let size = |name| dir.read(name).len();
    assert!(size("m.safetensors.lossy.wz") < size("m.safetensors.wz") * 3 / 4);

    let run = dir.wz(&["decompress", "m.safetensors.lossy.wz"]).ok();
    assert!(run.stderr.contains("near-lossless"), "{}", run.stderr);
    let restored = dir.read("m.lossy.safetensors");
    assert!(restored.len() == model(1).len() && restored != model(1));
    // Under another name it is the same.
    fs::rename(dir.path("m.safetensors.lossy.wz"), dir.path("n.safetensors.wz")).unwrap();
    dir.wz(&["decompress", "n.safetensors.wz"]).ok();
    assert!(dir.exists("n.lossy.safetensors") && !dir.exists("n.safetensors"));
}

#[test]
fn archives_in_a_folder_stay_as_they_are() {
    let dir = Scratch::new();
    dir.write("repo/m.safetensors", model(1));
    dir.write("repo/m.pt", b"PK\x03\x04 is how archives start");
    dir.wz(&["compress", "repo", "--lossy", "abs=2^-12"]).ok();
    assert_eq!(dir.read("repo.lossy.wz/m.pt"), dir.read("repo/m.pt"));
    assert!(dir.exists("repo.lossy.wz/m.safetensors.lossy.wz"));
}

#[test]
fn inspect_and_verify_tell_what_was_lost_and_whether_that_is_true() {
    let dir = scratch();
    dir.wz(&["compress", "m.safetensors", "--lossy", "abs=2^-12", "--lossy", "bias:rel=2^-4"]).ok();
    let shown =
        String::from_utf8(dir.wz(&["inspect", "m.safetensors.lossy.wz"]).ok().stdout).unwrap();
    assert!(shown.contains("lossy    2 tensors rounded (abs=2^-12 bias:rel=2^-4)"), "{shown}");
    assert!(shown.contains("source   blake3 ") && shown.contains("rel=2^-4"), "{shown}");
    let json = dir.wz(&["inspect", "--json", "m.safetensors.lossy.wz"]).ok().json();
    let loss = &json["tensors"][0]["loss"];
    assert_eq!(loss["bound"], "abs=2^-12");
    assert!(loss["max_abs"].as_f64().unwrap() <= 0.5f64.powi(13));
    assert!(json["tensors"][2].get("loss").is_none());
    let hash = blake3::hash(&model(1)).to_hex().to_string();
    assert_eq!(json["archive"]["lossy"]["source_blake3"], hash.as_str());

    let verify =
        |original: &str| dir.wz(&["verify", "m.safetensors.lossy.wz", "--against", original]);
    let run = verify("m.safetensors").ok();
    assert!(run.stderr.contains("bound kept against the original"), "{}", run.stderr);
    dir.write("other.safetensors", model(2));
    verify("other.safetensors").fails(&["another one", "tensor \"w\""]);
    verify("nowhere").fails(&["nowhere", "can't open"]);
    dir.wz(&["compress", "m.safetensors"]).ok();
    let run = dir.wz(&["verify", "m.safetensors.wz", "--against", "m.safetensors"]).ok();
    assert!(run.stderr.contains("identical to the original"), "{}", run.stderr);
}

#[test]
fn what_must_be_lossless_refuses_it() {
    let dir = scratch();
    dir.wz(&["compress", "m.safetensors", "--lossy", "abs=2^-12"]).ok();
    for command in ["decompress", "verify"] {
        dir.wz(&[command, "m.safetensors.lossy.wz", "--require-lossless"])
            .fails(&["near-lossless"]);
    }
    assert!(!dir.exists("m.lossy.safetensors"));
    let usage = |args: &[&str], word: &str| {
        let run = dir.wz(&[&["compress", "m.safetensors"], args].concat());
        assert!(run.code == Some(2) && run.stderr.contains(word), "{}", run.stderr);
    };
    usage(&["--lossy", "abs=2^-12", "--rm"], "can't take the place of its source");
    usage(&["--lossy", "abs=2^-12", "--print-card"], "identical");
    usage(&["--lossy", "abs=much"], "is not one of");
    usage(&["--lossy", "@nowhere.toml"], "nowhere.toml");
    assert_eq!(dir.read("m.safetensors"), model(1));
}

#[test]
fn rules_come_from_a_file_and_ratios_from_a_look() {
    let dir = scratch();
    dir.write("rules.toml", "default = \"snr=30dB\"\n[tensors]\n\"bi*\" = \"abs=2^-3\"\n");
    let args =
        ["compress", "m.safetensors", "--json", "--lossy", "@rules.toml", "--lossy", "ids:none"];
    let json = dir.wz(&args).ok().json();
    let lossy = &json["files"][0]["lossy"];
    assert_eq!(lossy["rules"], "snr=30dB bi*:abs=2^-3 ids:none");
    assert_eq!(lossy["rounded"], 2);
    let json = dir.wz(&["inspect", "--json", "m.safetensors.lossy.wz"]).ok().json();
    let snr = json["tensors"][0]["loss"]["snr"].as_f64().unwrap();
    assert!((30.0..36.1).contains(&snr), "{snr}");
    dir.write("wrong.toml", "default = 3");
    let run = dir.wz(&["compress", "m.safetensors", "--lossy", "@wrong.toml"]);
    assert!(run.code == Some(2) && run.stderr.contains("wrong.toml"), "{}", run.stderr);
    let stdin = ["compress", "-", "-o", "x.wz", "--lossy", "snr=30dB"];
    dir.wz_with_stdin(&stdin, model(1)).fails(&["use abs or rel"]);
    assert!(!dir.exists("x.wz"));
}

#[test]
fn a_folder_keeps_the_names_that_its_files_tell() {
    let dir = Scratch::new();
    dir.write("repo/model.safetensors", model(1));
    dir.write("repo/model.safetensors.index.json", "{}");
    let run = dir.wz(&["compress", "repo", "--lossy", "abs=2^-12"]).ok();
    assert!(run.stderr.contains("bound kept"), "{}", run.stderr);
    let packed = ["model.safetensors.index.json", "model.safetensors.lossy.wz"];
    assert_eq!(dir.names("repo.lossy.wz"), packed);
    // A rerun knows what is finished, and by which rules.
    dir.wz(&["compress", "repo", "--lossy", "abs=2^-12"]).ok();
    dir.wz(&["compress", "repo", "--lossy", "abs=2^-9"]).fails(&["already exists"]);
    fs::remove_dir_all(dir.path("repo")).unwrap();
    dir.wz(&["decompress", "repo.lossy.wz"]).ok();
    assert_eq!(dir.names("repo.lossy"), ["model.safetensors", "model.safetensors.index.json"]);
    dir.wz(&["decompress", "repo.lossy.wz", "-o", "chosen"]).ok();
    assert_eq!(dir.names("chosen"), ["model.safetensors", "model.safetensors.index.json"]);
    // Where the folder's name doesn't tell, the file's does.
    fs::rename(dir.path("repo.lossy.wz"), dir.path("plain.wz")).unwrap();
    dir.wz(&["decompress", "plain.wz"]).ok();
    assert_eq!(dir.names("plain"), ["model.lossy.safetensors", "model.safetensors.index.json"]);
    dir.wz(&["decompress", "plain.wz", "--in-place"]).ok();
    assert_eq!(dir.names("plain.wz"), ["model.lossy.safetensors", "model.safetensors.index.json"]);
}

#[test]
fn a_chain_and_another_base_keep_what_is_said() {
    let dir = Scratch::new();
    for step in 1..=3 {
        let mut file = model(1);
        let at = file.len() - 5000;
        file[at..].iter_mut().step_by(97 * step).for_each(|byte| *byte ^= 1);
        dir.write(&format!("s-{step}.safetensors"), file);
    }
    let files = ["s-1.safetensors", "s-2.safetensors", "s-3.safetensors"];
    let run =
        dir.wz(&[&["chain", "add", "store"], &files[..], &["--lossy", "abs=2^-12"]].concat()).ok();
    assert!(
        run.stderr.contains("bound kept") && run.stderr.contains("on step 2"),
        "{}",
        run.stderr
    );
    let names = files.map(|name| format!("{name}.lossy.wz"));
    assert_eq!(dir.names("store")[..3], names);
    let against = |name: &str| dir.wz(&["verify", name, "--against", "s-3.safetensors"]);
    against("store/s-3.safetensors.lossy.wz").ok();
    dir.wz(&["rebase", "store/s-3.safetensors.lossy.wz", "-o", "alone.wz"]).ok();
    fs::remove_dir_all(dir.path("store")).unwrap();
    against("alone.wz").ok();
}
