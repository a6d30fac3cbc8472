//! What is said before the work: `--dry-run`, and `--min-saving`.

use crate::common::{Run, Scratch, Tensor, bf16, model, noise, safetensors};
use crate::snapshot;

/// A model that shrinks, files that don't, and one that is none.
fn repository() -> Scratch {
    let dir = Scratch::new();
    dir.write("repo/model.safetensors", model());
    let eight_bits = [Tensor("q", "U8", &[512, 512], noise(512 * 512))];
    dir.write("repo/quantised.safetensors", safetensors(&eight_bits));
    dir.write("repo/scheduler.pt", noise(4000));
    dir.write("repo/pytorch_model.bin", bf16(300_000));
    dir.write("repo/config.json", "{}");
    dir
}

fn actions(run: &Run) -> Vec<(String, String)> {
    let json = run.json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let files = json["files"].as_array().unwrap().iter();
    files.map(|f| (text(&f["file"]), text(&f["action"]))).collect()
}

fn expected(actions: [&str; 5]) -> Vec<(String, String)> {
    let files = [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "quantised.safetensors",
        "scheduler.pt",
    ];
    files.iter().zip(actions).map(|(f, a)| (format!("repo/{f}"), a.to_owned())).collect()
}

#[test]
fn a_dry_run_tells_what_a_run_does_and_writes_nothing() {
    let dir = repository();
    let before = dir.names("");
    let dry = dir.wz(&["compress", "--dry-run", "--json", "repo"]).ok();
    assert_eq!(actions(&dry), expected(["copy", "compress", "compress", "copy", "copy"]));
    let shown = [
        dir.wz(&["compress", "--dry-run", "repo"]).ok().shown(),
        dir.wz(&["compress", "--dry-run", "repo", "--in-place", "--min-saving", "50"]).ok().shown(),
        dir.wz(&["compress", "--dry-run", "repo/scheduler.pt", "repo/model.safetensors"])
            .ok()
            .shown(),
    ];
    assert!(dir.wz(&["compress", "--dry-run", "-q", "repo"]).ok().stdout.is_empty());
    assert_eq!(dir.names(""), before);

    let run = dir.wz(&["compress", "--json", "repo"]).ok();
    assert_eq!(actions(&run), expected(["copied", "compressed", "compressed", "copied", "copied"]));
    let (told, done) = (dry.json(), run.json());
    for i in [1, 2] {
        let ratio = |value: &serde_json::Value| value["ratio"].as_f64().unwrap();
        let (told, done) = (&told["files"][i], &done["files"][i]);
        assert!((ratio(&told["estimate"]) - ratio(done)).abs() < 0.01, "{told} {done}");
    }
    let again = dir.wz(&["compress", "--dry-run", "--json", "repo"]).ok();
    assert_eq!(actions(&again), expected(["skip"; 5]));
    snapshot!("dry_run", shown.join("\n"));
}

#[test]
fn what_saves_too_little_is_copied_or_left_and_comes_back() {
    let dir = repository();
    let run = dir.wz(&["compress", "repo"]).ok();
    for line in
        ["repo (2 compressed, 3 copied): ", "2 files would save less than 2 % and stay as they are"]
    {
        assert!(run.stderr.contains(line), "{}", run.stderr);
    }
    dir.wz(&["decompress", "repo.wz", "-o", "back"]).ok();
    for name in dir.names("repo") {
        assert!(dir.read(&format!("repo/{name}")) == dir.read(&format!("back/{name}")), "{name}");
    }
    dir.wz(&["compress", "repo", "-o", "all", "--min-saving", "0"]).ok();
    assert_eq!(dir.names("all").iter().filter(|name| name.ends_with(".wz")).count(), 4);
    // What an earlier run decided stands.
    let run = dir.wz(&["compress", "repo", "-o", "all"]).ok();
    assert!(run.stderr.contains("(0 compressed, 0 copied, 5 already complete)"), "{}", run.stderr);
    // Both would be restored to one name.
    dir.write("repo/scheduler.pt", noise(5000));
    dir.wz(&["compress", "repo", "-o", "all"]).fails(&["all/scheduler.pt.wz is there too"]);

    let run = dir.wz(&["compress", "repo", "--in-place"]).ok();
    assert!(
        run.stderr.contains("repo (2 compressed, 0 copied, 2 left as they are): "),
        "{}",
        run.stderr
    );
    assert_eq!(
        dir.names("repo"),
        [
            "config.json",
            "model.safetensors.wz",
            "pytorch_model.bin.wz",
            "quantised.safetensors",
            "scheduler.pt"
        ]
    );
}

#[test]
fn a_file_by_itself_is_compressed_unless_somebody_says_otherwise() {
    let dir = repository();
    let run = dir.wz(&["compress", "repo/quantised.safetensors"]).ok();
    assert!(run.stderr.contains("saves nothing: little to gain here"), "{}", run.stderr);
    let run = dir.wz(&["compress", "repo/scheduler.pt", "--min-saving", "2.5", "--json"]).ok();
    assert_eq!(run.json()["files"][0]["action"], "left");
    assert!(!dir.exists("repo/scheduler.pt.wz"));
    let run = dir.wz(&["compress", "repo/scheduler.pt", "--min-saving", "2.5"]).ok();
    assert!(
        run.stderr.contains("would save nothing, less than 2.5 %; left as it is"),
        "{}",
        run.stderr
    );
    dir.wz(&["compress", "repo/model.safetensors", "--min-saving", "2.5"]).ok();
    assert!(dir.exists("repo/model.safetensors.wz"));
}

#[test]
fn estimates_are_for_what_can_be_estimated() {
    let dir = repository();
    for args in [
        &["compress", "repo", "--dry-run", "--lossy", "abs=0.1"][..],
        &["compress", "repo", "--min-saving", "3", "--base", "repo"],
        &["compress", "-", "--dry-run"],
        &["compress", "repo", "--min-saving", "two"],
    ] {
        assert_eq!(dir.wz(args).code, Some(2), "{args:?}");
    }
}
