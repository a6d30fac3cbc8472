//! Tables: no name from a file makes them wide, and no number of files or tensors makes them long.

use crate::common::{Run, Scratch, Tensor, bf16, model, noise, safetensors};
use std::fs;
use std::path::Path;

fn lines(run: &Run) -> Vec<String> {
    String::from_utf8(run.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

/// Columns of a table's row, as far as two spaces part them.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// A name beyond what a format width may be, among many short ones.
fn hostile() -> Vec<u8> {
    let long = "n".repeat(1 << 17);
    let names: Vec<String> = (0..3000).map(|i| format!("t{i}x")).chain([long]).collect();
    let tensors = names.iter().map(|name| Tensor(name, "U8", &[1], noise(1)));
    safetensors(&tensors.collect::<Vec<_>>())
}

#[test]
fn a_long_name_widens_no_table() {
    let dir = Scratch::new();
    dir.write("m.safetensors", hostile());
    dir.wz(&["compress", "m.safetensors"]).ok();
    for file in ["m.safetensors", "m.safetensors.wz"] {
        let shown = dir.wz(&["inspect", file, "--table", "full"]).ok().stdout;
        assert!(shown.len() < 3000 * 500, "{file}: {}", shown.len());
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("nnn…nnn") && shown.contains("t2999x"), "{file}");
        let json = dir.wz(&["inspect", file, "--json"]).ok().json();
        let is_whole = |t: &serde_json::Value| t["name"].as_str().unwrap().len() == 1 << 17;
        assert!(json["tensors"].as_array().unwrap().iter().any(is_whole), "{file}");
    }
}

/// A width that is known at run time only may come from a file: `table` cuts and pads instead.
#[test]
fn no_format_string_has_a_width_at_run_time() {
    fn check(folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                check(&path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let is_width = |w: &[u8]| {
                    w[0].is_ascii_alphanumeric() && w[1] == b'$' && b"}.?x".contains(&w[2])
                };
                for (line, text) in (1..).zip(text.lines()) {
                    let found = text.as_bytes().windows(3).any(is_width);
                    assert!(!found, "{}:{line}: {text}", path.display());
                }
            }
        }
    }
    for name in ["cli", "python", "weightzip", "kernels"] {
        check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"));
    }
}

/// `layers` layers with two tensors each, an embedding and a norm.
fn transformer(layers: usize) -> Vec<u8> {
    let names: Vec<String> = (0..layers)
        .flat_map(|i| {
            [format!("layers.{i}.self_attn.q_proj.weight"), format!("layers.{i}.mlp.fc1.weight")]
        })
        .collect();
    let mut tensors = vec![
        Tensor("embed_tokens.weight", "BF16", &[64, 16], bf16(1024)),
        Tensor("norm.weight", "F32", &[16], noise(64)),
    ];
    tensors.extend(names.iter().map(|name| Tensor(name, "BF16", &[8, 8], bf16(64))));
    safetensors(&tensors)
}

#[test]
fn many_tensors_of_one_shape_share_a_row() {
    let dir = Scratch::new();
    dir.write("m.safetensors", transformer(50));
    let shown = lines(&dir.wz(&["inspect", "m.safetensors"]).ok());
    assert!(shown.len() < 30, "{shown:?}");
    let row = |name: &str| {
        let line = shown.iter().find(|line| line.starts_with(name)).unwrap();
        cells(line)[1..5].join(" | ")
    };
    assert_eq!(row("layers.*.self_attn.q_proj.weight"), "50 | BF16 | [8, 8] | 6.40 kB");
    assert_eq!(row("embed_tokens.weight"), "1 | BF16 | [64, 16] | 2.05 kB");
    assert!(shown.iter().any(|line| line.starts_with("102 tensors: ")), "{shown:?}");
    let full = lines(&dir.wz(&["inspect", "m.safetensors", "--table", "full"]).ok());
    assert!(full.iter().any(|line| line.starts_with("layers.49.mlp.fc1.weight ")), "{full:?}");

    let roles: Vec<_> = shown
        .iter()
        .skip_while(|line| !line.starts_with("role, by name"))
        .skip(1)
        .take(4)
        .map(|line| cells(line)[..3].join(" "))
        .collect();
    let expected =
        ["embedding 1 2.05 kB", "attention 50 6.40 kB", "mlp 50 6.40 kB", "norm 1 64 bytes"];
    assert_eq!(roles, expected);
    let json = dir.wz(&["inspect", "m.safetensors", "--json", "--top", "1"]).ok().json();
    assert_eq!(json["tensors"].as_array().unwrap().len(), 102);
    assert_eq!(json["tensors"][0]["role"], "embedding");
    assert_eq!(json["roles"][1]["tensors"], 50);
}

#[test]
fn tensors_are_sorted_and_the_first_are_listed_alone() {
    let dir = Scratch::new();
    dir.write("m.safetensors", model());
    let names = |args: &[&str]| {
        let shown = lines(&dir.wz(&[&["inspect", "m.safetensors"], args].concat()).ok());
        let rows = shown.iter().skip_while(|line| !line.starts_with("tensor ")).skip(1);
        let rows = rows.take_while(|line| line.contains('[')).map(|line| cells(line)[0].to_owned());
        rows.collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["a.weight", "b.bias", "c.zeros", "d.step", "e.none"]);
    assert_eq!(names(&["--sort", "size"]), ["a.weight", "c.zeros", "b.bias", "d.step", "e.none"]);
    assert_eq!(names(&["--sort", "ratio"])[0], "c.zeros");
    assert_eq!(names(&["--top", "2"]), ["a.weight", "c.zeros"]);
    assert_eq!(names(&["--top", "2", "--sort", "name"]), ["a.weight", "b.bias"]);
    let shown = lines(&dir.wz(&["inspect", "m.safetensors", "--top", "2"]).ok());
    assert!(shown.contains(&"2 of 5 tensors; --table full lists all".to_owned()), "{shown:?}");
}

#[test]
fn folders_and_several_files_are_inspected_together() {
    let dir = Scratch::new();
    dir.write("repo/model-1.safetensors", transformer(2));
    dir.write("repo/sub/model-2.safetensors", model());
    dir.write("repo/config.json", "{}");
    dir.wz(&["compress", "repo/sub/model-2.safetensors", "--rm"]).ok();
    let shown = lines(&dir.wz(&["inspect", "repo"]).ok());
    let start = |line: &String| cells(line).into_iter().take(2).collect::<Vec<_>>().join(" ");
    let rows: Vec<_> = shown[1..5].iter().map(start).collect();
    assert!(rows[0].starts_with("repo/model-1.safetensors safetensors BF16"), "{rows:?}");
    assert!(rows[1].starts_with("repo/sub/model-2.safetensors.wz safetensors BF16"), "{rows:?}");
    assert!(shown[3] == "1 file without tensors" && rows[3] == "total 11", "{rows:?}");
    assert!(shown.iter().any(|line| line.starts_with("layers.1.mlp.fc1.weight ")), "{shown:?}");
    assert!(shown.iter().any(|line| line.starts_with("attention ")), "{shown:?}");
    let top = lines(&dir.wz(&["inspect", "repo", "--top", "1"]).ok());
    let row = top.iter().find(|line| line.starts_with("a.weight ")).unwrap();
    assert_eq!(cells(row)[1], "repo/sub/model-2.safetensors.wz");

    let files = ["repo/model-1.safetensors", "repo/sub/model-2.safetensors.wz"];
    let json = dir.wz(&["inspect", files[0], files[1], "--json"]).ok().json();
    assert_eq!(json["files"][1]["file"], files[1]);
    assert_eq!(json["bytes"], transformer(2).len() + model().len());
    // What can't be read is said, and the rest is shown.
    let run = dir.wz(&["inspect", files[0], "gone", "--json"]).fails(&["wz: gone: can't open"]);
    assert_eq!(run.json()["failed"], 1);
    assert_eq!(run.json()["files"][1]["error"]["kind"], "io");
    assert_eq!(run.json()["files"][0]["roles"][0]["role"], "embedding");
}

#[test]
fn a_folder_of_many_files_has_a_short_table() {
    let dir = Scratch::new();
    for i in 0..60 {
        dir.write(&format!("repo/m{i:02}.npy"), bf16(2000 + 10 * i));
    }
    let dry = dir.wz(&["compress", "repo", "--dry-run", "--min-saving", "0"]).ok();
    let shown = lines(&dry);
    assert_eq!(shown.len(), 43, "{shown:?}");
    assert!(shown[1].starts_with("repo/m59.npy "), "{shown:?}");
    assert!(shown[41].starts_with("20 smaller files (--table full)  "), "{shown:?}");
    let args = ["compress", "repo", "--dry-run", "--min-saving", "0", "--table", "full"];
    let full = lines(&dir.wz(&args).ok());
    assert_eq!(full.len(), 62, "{full:?}");
    assert_eq!(cells(full.last().unwrap()), cells(shown.last().unwrap()));
    let inspected = lines(&dir.wz(&["inspect", "repo"]).ok());
    assert!(inspected.len() < 45, "{inspected:?}");
}
