//! `wz tune`, with evaluations that Python's standard library is enough for.

use crate::common::{Scratch, Tensor, WZ, noise, safetensors};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Prints 1 minus the squared differences from `reference`, those of `up` 300 times. What is in `say` comes instead, if
/// that is there, from the third call on.
const EVAL: &str = r#"
import array, json, os, struct, sys, time
def read(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    places = ((name, entry["data_offsets"]) for name, entry in header.items())
    return {name: array.array("f", data[start:end]) for name, (start, end) in places}
with open("calls", "a") as calls:
    print(sys.argv[1], file=calls)
if os.path.exists("say") and len(open("calls").readlines()) >= 3:
    exec(open("say").read())
path = sys.argv[1]
if os.path.isdir(path):
    assert json.load(open(path + "/config.json")) == {"layers": 2}
    path += "/model.safetensors"
cost, now = 0, read(path)
for name, numbers in read("reference").items():
    weight = 300 if ".up." in name else 1
    cost += weight * sum((a - b) ** 2 for a, b in zip(numbers, now[name]))
print("evaluated", path)
print(f"score: {1 - cost}")
print()
"#;

const COMMAND: &str = "python3 'eval.py' {model}";

/// Numbers up to 0.05, with all their bits.
fn numbers(count: usize, seed: usize) -> Vec<u8> {
    let noise = noise(4 * (count + seed));
    let number = |b: &[u8]| {
        let high = i16::from_le_bytes([b[0], b[1]]);
        (f32::from(high) + f32::from(b[2]) / 256.0) * (0.05 / 32768.0)
    };
    noise.chunks_exact(4).skip(seed).flat_map(|b| number(b).to_le_bytes()).collect()
}

fn model() -> Vec<u8> {
    let matrix = |name, seed| Tensor(name, "F32", &[40, 40], numbers(1600, seed));
    safetensors(&[
        matrix("h.0.up.weight", 1),
        matrix("h.0.down.weight", 2),
        matrix("h.1.up.weight", 3),
        matrix("h.1.down.weight", 4),
        Tensor("norm", "F32", &[40], numbers(40, 5)),
    ])
}

/// A folder with a model and its evaluation.
fn scratch() -> Scratch {
    let dir = Scratch::new();
    dir.write("m.safetensors", model());
    dir.write("reference", model());
    dir.write("eval.py", EVAL);
    dir
}

fn calls(dir: &Scratch) -> usize {
    String::from_utf8(dir.read("calls")).unwrap().lines().count()
}

fn log_lines(dir: &Scratch) -> usize {
    String::from_utf8(dir.read("m.safetensors.tune.jsonl")).unwrap().lines().count()
}

#[test]
fn the_rules_that_are_found_are_taken_by_compress() {
    let dir = scratch();
    let run = dir.wz(&["tune", "m.safetensors", "--eval", COMMAND, "--plot", "p.svg"]).ok();
    let shown = String::from_utf8(run.stdout.clone()).unwrap();
    assert!(run.stderr.contains("2 groups of tensors, about "), "{}", run.stderr);
    assert!(shown.contains("yes, the result"), "{shown}");
    let next = shown.lines().last().unwrap();
    assert_eq!(next, "wz compress m.safetensors --lossy @m.safetensors.rules.toml");
    let args: Vec<&str> = next.split(' ').skip(1).collect();
    dir.wz(&args).ok();
    let svg = String::from_utf8(dir.read("p.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("<circle"));
    assert!(dir.names("").iter().all(|name| !name.contains(".wz-tune-")));

    // The same again comes from the log, as JSON, and says what compress does.
    let before = calls(&dir);
    let again = ["tune", "m.safetensors", "--eval", COMMAND, "--json"];
    dir.wz(&again).fails(&["m.safetensors.rules.toml already exists; -f replaces it"]);
    let told = dir.wz(&[&again[..], &["-f"]].concat()).ok().json();
    assert_eq!(calls(&dir), before);
    let trials = told["trials"].as_array().unwrap();
    assert_eq!(trials.len(), before);
    assert_eq!(told["best"]["compressed"], dir.read("m.safetensors.lossy.wz").len());
    assert!(told["best"]["score"].as_f64().unwrap() >= 0.999);
    assert_eq!(told["original"]["rules"], "");
    let smallest = |suits: &dyn Fn(&serde_json::Value) -> bool| {
        let within = trials.iter().filter(|t| t["within"] == true && suits(t));
        within.map(|trial| trial["compressed"].as_u64().unwrap()).min().unwrap()
    };
    let best = told["best"]["compressed"].as_u64().unwrap();
    assert_eq!(best, smallest(&|_| true));
    assert!(best < smallest(&|trial| !trial["rules"].as_str().unwrap().contains(':')));

    // What is restored has the score that was measured.
    dir.wz(&["decompress", "m.safetensors.lossy.wz"]).ok();
    let python = ["eval.py", "m.lossy.safetensors"];
    let score = Command::new("python3").args(python).current_dir(dir.path("")).output().unwrap();
    let score = String::from_utf8(score.stdout).unwrap();
    assert!(score.contains(&format!("score: {}", told["best"]["score"])), "{score}");
}

#[test]
fn a_search_that_ended_early_goes_on() {
    let dir = scratch();
    dir.write(
        "say",
        "print('no', file=sys.stderr); print('memory is full', file=sys.stderr); sys.exit(3)",
    );
    let tune = ["tune", "m.safetensors", "--eval", COMMAND, "--max-evaluations", "12"];
    dir.wz(&tune).fails(&[
        "can't evaluate abs=2^",
        "exit status: 3",
        "it said: no | memory is full",
    ]);
    assert_eq!((calls(&dir), log_lines(&dir)), (3, 3));
    assert!(!dir.exists("m.safetensors.rules.toml"));
    for (say, why) in [
        ("sys.exit(0)", "printed nothing to stdout"),
        ("print('done'); sys.exit(0)", "no number in the last line"),
    ] {
        dir.write("say", say);
        dir.wz(&tune).fails(&[why]);
    }
    assert_eq!((calls(&dir), log_lines(&dir)), (5, 3));
    fs::remove_file(dir.path("say")).unwrap();
    // Half a line, as a crash leaves it.
    let mut log = dir.read("m.safetensors.tune.jsonl");
    log.extend(br#"{"rules":"abs=2^-1","#);
    dir.write("m.safetensors.tune.jsonl", log);
    let run = dir.wz(&tune).ok();
    assert!(run.stderr.contains("2 are in the log"), "{}", run.stderr);
    let trials = log_lines(&dir) - 1;
    assert_eq!(calls(&dir), 5 + trials - 2);
    assert!(trials <= 12);
}

#[test]
fn a_search_that_is_interrupted_leaves_its_log_and_nothing_else() {
    let dir = scratch();
    // It ends when nobody waits for it any more.
    let wait = "[time.sleep(0.05) for _ in range(1200) if os.path.exists('waits')]";
    dir.write("say", format!("open('waits', 'w'); {wait}; sys.exit(1)"));
    let mut child = Command::new(WZ)
        .args(["tune", "m.safetensors", "--eval", COMMAND])
        .current_dir(dir.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !dir.exists("waits") {
        assert!(start.elapsed() < Duration::from_secs(60), "the third evaluation did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(dir.names("").iter().any(|name| name.contains(".wz-tune-")));
    let tune = ["tune", "m.safetensors", "--eval", COMMAND, "-q"];
    dir.wz(&tune).fails(&["another process has it"]);
    let int = rustix::process::Signal::INT;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), int).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(int.as_raw()));
    fs::remove_file(dir.path("say")).unwrap();
    fs::remove_file(dir.path("waits")).unwrap();
    let names = ["calls", "eval.py", "m.safetensors", "m.safetensors.tune.jsonl", "reference"];
    assert_eq!(dir.names(""), names);
    assert_eq!(log_lines(&dir), 3);
    let run = dir.wz(&tune).ok();
    assert!(run.stdout.is_empty() && run.stderr.is_empty());
    assert_eq!(calls(&dir), 3 + log_lines(&dir) - 3);
}

#[test]
fn a_folder_is_evaluated_as_one() {
    let dir = scratch();
    dir.write("models/m/model.safetensors", model());
    dir.write("models/m/config.json", r#"{"layers": 2}"#);
    fs::create_dir(dir.path("work")).unwrap();
    let run = dir
        .wz(&["tune", "models/m", "--eval", COMMAND, "--work", "work", "--max-evaluations", "9"])
        .ok();
    let shown = String::from_utf8(run.stdout).unwrap();
    assert!(shown.ends_with("wz compress models/m --lossy @models/m.rules.toml\n"), "{shown}");
    let calls = String::from_utf8(dir.read("calls")).unwrap();
    // The original is evaluated as a copy: what an evaluation does can't harm it.
    let is_copy = |path: &str| path.contains("/work/.wz-tune-") && path.ends_with("/m");
    assert!(calls.lines().all(is_copy), "{calls}");
    assert_eq!(dir.names("work"), [""; 0]);
    dir.wz(&["compress", "models/m", "--lossy", "@models/m.rules.toml"]).ok();
}

#[test]
fn scores_that_can_not_be_kept_end_without_rules() {
    let dir = scratch();
    let tune = |eval: &str, more: &[&str]| {
        let args = [&["tune", "m.safetensors", "--eval", eval, "--log", "log"], more].concat();
        let run = dir.wz(&args);
        fs::remove_file(dir.path("log")).unwrap();
        run
    };
    let alone = "python3 -c 'import filecmp, sys; print(int(filecmp.cmp(sys.argv[1], \"m.safetensors\", False)))' {model}";
    let run = tune(alone, &[]).fails(&["no rounded model is smaller and keeps the score"]);
    assert!(String::from_utf8(run.stdout).unwrap().contains("the original"));
    let told = tune(alone, &["--json"]).fails(&[]).json();
    assert!(told["best"].is_null() && told["output"].is_null());
    assert!(!dir.exists("m.safetensors.rules.toml"));
    tune("echo nan {model} nan", &[]).fails(&["the original's score is NaN"]);
    tune("false {model}", &[]).fails(&["can't evaluate the original", "exit status: 1"]);
    tune("./nothing {model}", &[]).fails(&["can't run ./nothing"]);
    // Any score will do: the model is as small as it gets.
    let told = tune("echo {model} 1", &["--json"]).ok().json();
    assert!(told["best"]["ratio"].as_f64().unwrap() < 0.2, "{told}");
}

#[test]
fn what_can_not_be_tuned_is_refused() {
    let dir = scratch();
    let usage = |args: &[&str], word: &str| {
        let run = dir.wz(&[&["tune", "m.safetensors"], args].concat());
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(word), "{}", run.stderr);
    };
    usage(&[], "--eval");
    usage(&["--eval", "python3 eval.py"], "{model} must say");
    usage(&["--eval", "a '{model}"], "a quote without its end");
    usage(&["--eval", COMMAND, "--tolerance", "-1%"], "unexpected argument");
    usage(&["--eval", COMMAND, "--tolerance=-1%"], "neither a percentage");
    usage(&["--eval", COMMAND, "--max-evaluations", "0"], "at least 1");
    usage(&["--eval", COMMAND, "--direction", "up"], "higher, lower");
    dir.wz(&["tune", "gone", "--eval", COMMAND]).fails(&["gone"]);
    dir.write("notes.txt", "text");
    dir.wz(&["tune", "notes.txt", "--eval", COMMAND]).fails(&["no tensors that can be rounded"]);
    dir.wz(&["tune", "..", "--eval", COMMAND]).fails(&["name the model"]);
    dir.write("m.safetensors.tune.jsonl", "mine\n");
    dir.wz(&["tune", "m.safetensors", "--eval", COMMAND]).fails(&["is something else; remove it"]);
    assert_eq!(dir.read("m.safetensors.tune.jsonl"), b"mine\n");
    let few = ["tune", "m.safetensors", "--max-evaluations", "4", "--log", "log"];
    dir.wz(&[&few[..], &["--eval", COMMAND]].concat()).ok();
    for (more, why) in [
        (&["--eval", "echo {model} 1"][..], "another evaluation"),
        (&["--eval", COMMAND, "--level", "max"], "another level"),
    ] {
        dir.wz(&[&few[..], &["-f"], more].concat()).fails(&[why, "name another one"]);
    }
    dir.write("m.safetensors", safetensors(&[Tensor("w", "F32", &[8, 8], numbers(64, 0))]));
    dir.wz(&[&few[..], &["-f", "--eval", COMMAND]].concat()).fails(&["another model"]);
}
