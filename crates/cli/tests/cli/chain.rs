//! `wz chain`: checkpoints in a row.

use crate::common::{Scratch, Tensor, noise, safetensors};
use crate::snapshot;
use std::fs;

/// A checkpoint: noise, of which each step of training changes a little.
pub(crate) fn model(step: u64) -> Vec<u8> {
    let mut weights = noise(40_000);
    for step in 1..=usize::try_from(step).unwrap() {
        weights.iter_mut().skip(step * 37 % 400).step_by(400).for_each(|byte| *byte ^= 1);
    }
    safetensors(&[
        Tensor("w", "F32", &[100, 100], weights),
        Tensor("step", "I64", &[], step.to_le_bytes().to_vec()),
    ])
}

/// A checkpoint that resembles no other.
fn unlike(seed: usize) -> Vec<u8> {
    safetensors(&[Tensor("w", "F32", &[100, 100], noise(40_000 + seed)[seed..].to_vec())])
}

pub(crate) fn name(step: u64) -> String {
    format!("step-{step:03}.safetensors")
}

/// A folder with these checkpoints, and `store`, to which they were added.
fn store(steps: &[u64]) -> Scratch {
    let dir = Scratch::new();
    let names: Vec<String> = steps.iter().map(|&step| name(step)).collect();
    for (name, &step) in names.iter().zip(steps) {
        dir.write(name, model(step));
    }
    let args: Vec<&str> =
        ["chain", "add", "store"].into_iter().chain(names.iter().map(String::as_str)).collect();
    dir.wz(&args).ok();
    dir
}

/// Each step's number, what it is coded against, and its depth.
fn listed(dir: &Scratch) -> Vec<(u64, Vec<u64>, u64)> {
    let list = dir.wz(&["chain", "list", "store", "--json"]).ok().json();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let row = |row: &serde_json::Value| {
        let bases = row["bases"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(row["keyframe"], row["depth"] == 0 && row["missing"].is_null());
        (number(&row["step"]), bases, number(&row["depth"]))
    };
    list["steps"].as_array().unwrap().iter().map(row).collect()
}

/// Fails unless `wz decompress` restores each of these.
fn restores(dir: &Scratch, steps: &[u64]) {
    for &step in steps {
        let file = format!("store/{}.wz", name(step));
        dir.wz(&["decompress", &file, "-f", "-o", "restored"]).ok();
        assert!(dir.read("restored") == model(step), "step {step}");
    }
}

#[test]
fn a_run_is_added_listed_and_pruned() {
    let dir = Scratch::new();
    for step in [100, 200, 300, 400] {
        dir.write(&name(step), model(step));
    }
    let steps: [&[&str]; 9] = [
        &["chain", "add", "store", "step-100.safetensors"],
        &["chain", "add", "store", "step-300.safetensors", "step-200.safetensors"],
        &["chain", "add", "store", "step-300.safetensors", "step-400.safetensors"],
        &["chain", "add", "store", "step-400.safetensors", "--keyframe-every", "1"],
        &["chain", "list", "store"],
        &["chain", "prune", "store", "--keep-last", "2", "--dry-run"],
        &["chain", "prune", "store", "--keep-last", "2"],
        &["chain", "list", "store"],
        &["verify", "store"],
    ];
    let shown: Vec<_> = steps.iter().map(|args| dir.wz(args).shown()).collect();
    let shown = shown.join("\n");
    // A table's sizes are as the codec is.
    let mut lines: Vec<String> = Vec::new();
    for line in shown.lines() {
        let mut cells: Vec<&str> = line.split_whitespace().collect();
        if line.ends_with(".wz") && cells.len() == 10 {
            (cells[3], cells[4]) = ("[SIZE]", "");
        }
        let is_row = line.contains("depth") || cells.get(3) == Some(&"[SIZE]");
        lines.push(if is_row { cells.join(" ") } else { line.to_owned() });
    }
    snapshot!("chain", lines.join("\n"));
    restores(&dir, &[300, 400]);
}

#[test]
fn each_step_is_an_ordinary_file() {
    let dir = store(&[1, 2, 3, 4, 5]);
    let bases = [vec![], vec![1], vec![2], vec![3], vec![4]];
    assert_eq!(
        listed(&dir),
        (1..).zip(bases).map(|(i, bases)| (i, bases, i - 1)).collect::<Vec<_>>()
    );
    restores(&dir, &[1, 2, 3, 4, 5]);
    dir.wz(&["verify", "store"]).ok();
    let told = dir.wz(&["inspect", "--json", "store/step-003.safetensors.wz"]).ok().json();
    assert_eq!(told["archive"]["needs"][0]["file"], "step-002.safetensors.wz");
    let rows = dir.wz(&["cat", "store/step-005.safetensors.wz", "w", "--rows", "7:8"]).ok();
    let (model, at) = (model(5), model(5).len() - 40_008 + 7 * 400);
    assert!(rows.stdout == model[at..at + 400]);
    // One changed byte in 400, and the moment of the checkpoint.
    assert!(dir.read("store/step-005.safetensors.wz").len() < 4000);
    #[cfg(unix)]
    assert_eq!(
        crate::common::modified(&dir.path("step-002.safetensors")),
        crate::common::modified(&dir.path("store/step-002.safetensors.wz"))
    );
}

#[test]
fn keyframes_come_when_they_are_due_and_when_a_base_is_of_no_use() {
    let depths = |args: &[&str]| {
        let dir = Scratch::new();
        for step in 1..=5 {
            dir.write(&name(step), model(step));
            dir.wz(&[&["chain", "add", "store", &name(step)], args].concat()).ok();
        }
        restores(&dir, &[1, 2, 3, 4, 5]);
        listed(&dir).into_iter().map(|(_, _, depth)| depth).collect::<Vec<_>>()
    };
    assert_eq!(depths(&["--keyframe-every", "1"]), [0, 0, 0, 0, 0]);
    assert_eq!(depths(&["--keyframe-every", "3"]), [0, 1, 2, 0, 1]);
    assert_eq!(depths(&["--keyframe-every", "0"]), [0, 1, 2, 3, 4]);
    assert_eq!(depths(&["--max-depth", "1"]), [0, 1, 0, 1, 0]);
    let dir = store(&[1, 2]);
    dir.write("a-003.safetensors", unlike(1));
    dir.write("a-004.safetensors", unlike(2));
    dir.wz(&["chain", "add", "store", "a-003.safetensors", "a-004.safetensors"]).ok();
    dir.write(&name(5), model(5));
    dir.wz(&["chain", "add", "store", &name(5)]).ok();
    let depths: Vec<_> = listed(&dir).into_iter().map(|(_, _, depth)| depth).collect();
    assert_eq!(depths, [0, 1, 0, 0, 0]);
    dir.wz(&["verify", "store"]).ok();
    assert_eq!(dir.names("store").len(), 6); // with the mark
    for wrong in [["--max-depth", "0"], ["--max-depth", "65"]] {
        let run = dir.wz(&[&["chain", "add", "store", "x-9"], &wrong[..]].concat());
        assert_eq!(run.code, Some(2), "{}", run.stderr);
    }
}

#[test]
fn shallow_steps_are_coded_against_earlier_ones() {
    let dir = Scratch::new();
    // Of all steps the upper bytes are the same, the lowest ones have nothing in common.
    let random = noise(50_000);
    for step in 1..=5 {
        let mut weights = noise(40_000);
        let low = random[step * 1000..].iter().cycle();
        weights.iter_mut().step_by(4).zip(low).for_each(|(byte, low)| *byte = *low);
        let file = safetensors(&[Tensor("w", "F32", &[100, 100], weights)]);
        let name = name(step as u64);
        dir.write(&name, file);
        dir.wz(&["chain", "add", "store", &name, "--shallow"]).ok();
    }
    let steps = [(1, vec![]), (2, vec![1]), (3, vec![1]), (4, vec![3]), (5, vec![1])];
    let shown: Vec<_> = listed(&dir).into_iter().map(|(step, bases, _)| (step, bases)).collect();
    assert_eq!(shown, steps);
    dir.wz(&["verify", "store"]).ok();
}

#[test]
fn a_checkpoint_must_be_a_later_step_and_a_plain_file() {
    let dir = store(&[10, 20]);
    let refused = |file: &str, words: &[&str]| {
        dir.wz(&["chain", "add", "store", file]).fails(words);
        assert_eq!(listed(&dir).len(), 2);
        assert_eq!(dir.names("store").len(), 3);
    };
    dir.write("model.safetensors", model(3));
    refused("model.safetensors", &["no step number in its name", "step-00100.safetensors"]);
    refused(&name(10), &["step 10 is there already; add one beyond 20"]);
    dir.write(&name(15), model(15));
    refused(&name(15), &["step 15 is not beyond the last one", "from 20 on"]);
    dir.write("x-99999999999999999999.bin", "x");
    refused("x-99999999999999999999.bin", &["beyond 64 bits"]);
    refused("nothing-30.safetensors", &["nothing-30.safetensors", "can't open"]);
    dir.wz(&["compress", &name(15), "-o", "packed-30.bin"]).ok();
    refused("packed-30.bin", &["already a .wz; restore it first"]);
    fs::create_dir(dir.path("store/step-030.bin.wz")).unwrap();
    dir.write("step-030.bin", "x");
    dir.wz(&["chain", "add", "store", "step-030.bin"]).fails(&["is there already, and is no step"]);
    fs::remove_dir(dir.path("store/step-030.bin.wz")).unwrap();
    // Those after one that failed must wait.
    dir.write(&name(40), model(40));
    dir.wz(&["chain", "add", "store", &name(40), "nothing-30", &name(10), "--json"])
        .fails(&["step 10 is there already", "2 steps after it: not added"]);
    // Nothing is made for what has no step.
    dir.wz(&["chain", "add", "new", "model.safetensors"]).fails(&["no step number"]);
    assert!(!dir.exists("new"));
    dir.wz(&["chain", "list", "new"]).fails(&["can't read new"]);
    dir.wz(&["chain", "add", "a/b", &name(40)]).fails(&["can't make a/b"]);
}

#[test]
fn what_is_no_step_is_left_alone() {
    let dir = store(&[1]);
    let others =
        ["notes-7.txt", "best.wz", "empty-5.wz", "step-9.wz", ".wz-abc12.tmp", "folder-8.wz/x"];
    for other in others {
        dir.write(&format!("store/{other}"), if other == "empty-5.wz" { "" } else { "not a .wz" });
    }
    dir.write("store/.wz-chain-abc123.tmp", "left by a crash");
    #[cfg(unix)]
    std::os::unix::fs::symlink("gone", dir.path("store/step-010.wz")).unwrap();
    assert_eq!(listed(&dir), [(1, vec![], 0)]);
    assert!(dir.exists("store/.wz-chain-abc123.tmp"));
    dir.write(&name(2), model(2));
    dir.wz(&["chain", "add", "store", &name(2)]).ok();
    assert!(!dir.exists("store/.wz-chain-abc123.tmp"));
    dir.wz(&["chain", "prune", "store", "--keep-last", "1"]).ok();
    assert!(others.iter().all(|other| dir.exists(&format!("store/{other}"))));
    assert_eq!(listed(&dir), [(2, vec![], 0)]);
    // The number of another step, and what is damaged, are no reason to stop.
    let mut step = dir.read("store/step-002.safetensors.wz");
    dir.write("store/other-2.bin.wz", &step);
    step.truncate(100);
    dir.write("store/step-003.safetensors.wz", &step);
    assert_eq!(listed(&dir), [(2, vec![], 0)]);
    dir.wz(&["chain", "adopt", "store", "store/other-2.bin.wz"])
        .fails(&["other-2.bin.wz and step-002.safetensors.wz are both step 2"]);
    dir.wz(&["chain", "adopt", "store", "store/step-003.safetensors.wz"])
        .fails(&["store/step-003.safetensors.wz: "]);
    dir.wz(&["chain", "adopt", "store", "other/x-4.wz"]).fails(&["other/x-4.wz"]);
}

#[test]
fn only_its_own_steps_go_and_none_that_another_file_needs() {
    let dir = store(&[1, 2, 3, 4, 5]);
    for (name, base) in [("llama-7", None), ("gpt-2", None), ("best", Some(2)), ("best-9", Some(3))]
    {
        dir.write(name, model(base.unwrap_or(30)));
        let (target, base) =
            (format!("store/{name}.wz"), base.map(|step| format!("store/{}.wz", self::name(step))));
        let base: Vec<&str> = base.iter().flat_map(|base| ["--base", base]).collect();
        dir.wz(&[&["compress", name, "-o", &target][..], &base].concat()).ok();
    }
    dir.wz(&["chain", "prune", "store", "--keep-last", "1"]).ok();
    let steps: Vec<u64> = listed(&dir).into_iter().map(|(step, ..)| step).collect();
    assert_eq!(steps, [2, 3, 5]);
    restores(&dir, &steps);
    for (name, step) in [("llama-7", 30), ("gpt-2", 30), ("best", 2), ("best-9", 3)] {
        dir.wz(&["decompress", &format!("store/{name}.wz"), "-f", "-o", "restored"]).ok();
        assert!(dir.read("restored") == model(step), "{name}");
    }
    let run = dir.wz(&["chain", "prune", "store", "--keep-last", "1", "--json"]).ok().json();
    assert_eq!(run["held"][0], serde_json::json!({"step": 2, "by": "store/best.wz"}));
}

#[test]
fn a_folder_without_a_mark_is_listed_and_never_pruned() {
    let dir = store(&[1, 2]);
    fs::remove_file(dir.path("store/wz-chain.json")).unwrap();
    let list = dir.wz(&["chain", "list", "store"]).ok();
    assert!(list.stderr.contains("has no wz-chain.json"), "{}", list.stderr);
    let prune = ["chain", "prune", "store", "--keep-last", "1"];
    dir.wz(&prune).fails(&["store has no wz-chain.json", "name them with wz chain adopt"]);
    // What is added is the first step of a new store.
    dir.write(&name(3), model(3));
    let added = dir.wz(&["chain", "add", "store", &name(3)]).ok();
    assert!(
        added.stderr.contains("2 steps that no wz chain add has written here"),
        "{}",
        added.stderr
    );
    assert_eq!(listed(&dir), [(3, vec![], 0)]);
    dir.wz(&prune).ok();
    let names: Vec<String> = [1, 2].map(|step| format!("store/{}.wz", name(step))).into();
    dir.wz(&["chain", "adopt", "store", &names[0], &names[1]]).ok();
    assert_eq!(listed(&dir), [(1, vec![], 0), (2, vec![1], 1), (3, vec![], 0)]);
    dir.wz(&prune).ok();
    assert_eq!(listed(&dir), [(3, vec![], 0)]);
}

#[test]
fn a_damaged_step_is_named_and_the_rest_goes_on() {
    for back in [60, 600] {
        let dir = store(&[1, 2]);
        let file = format!("store/{}.wz", name(1));
        let mut bytes = dir.read(&file);
        let at = bytes.len() - back;
        bytes[at] ^= 1;
        dir.write(&file, &bytes);
        for step in [3, 4] {
            dir.write(&name(step), model(step));
        }
        let add = dir.wz(&["chain", "add", "store", &name(3), &name(4)]);
        assert_eq!(add.code, Some(1), "{}", add.stderr);
        assert!(add.stderr.contains("can't be restored"), "{}", add.stderr);
        assert!(add.stderr.contains("stands alone for it, as a keyframe"), "{}", add.stderr);
        restores(&dir, &[3, 4]);
        let is_read = back == 600;
        let list = dir.wz(&["chain", "list", "store"]);
        assert_eq!(list.code, Some(i32::from(!is_read)), "{}", list.stderr);
        let shown = String::from_utf8(list.stdout).unwrap();
        assert!(shown.contains("damaged") != is_read, "{shown}");
        let prune = dir.wz(&["chain", "prune", "store", "--keep-last", "1"]);
        assert_eq!(prune.code, Some(i32::from(!is_read)), "{}", prune.stderr);
        assert!(dir.exists(&file) != is_read);
        restores(&dir, &[4]);
    }
}

#[cfg(unix)]
#[test]
fn what_is_coded_beside_a_store_waits_for_who_changes_it() {
    let dir = store(&[1, 2]);
    dir.wz(&["decompress", &format!("store/{}.wz", name(2)), "-o", "plain"]).ok();
    dir.wz(&["compress", "plain", "-o", "other.wz"]).ok();
    let folder = fs::File::open(dir.path("store")).unwrap();
    folder.lock().unwrap();
    let (one, two) = (format!("store/{}.wz", name(1)), format!("store/{}.wz", name(2)));
    let runs: [&[&str]; 4] = [
        &["rebase", &two],
        &["compress", "plain", "--base", &one, "-o", "store/next.wz"],
        &["rebase", "other.wz", "-o", "store/new.wz"],
        &["rebase", "other.wz", "--base", &one, "-f"],
    ];
    for args in runs {
        dir.wz(args).fails(&["another process is changing this store; try again when it is done"]);
    }
    drop(folder);
    dir.wz(runs[0]).ok();
}

#[test]
fn pruning_gives_later_steps_another_base() {
    let steps = [10, 20, 30, 40, 50, 60];
    let prune = |args: &[&str]| {
        let dir = store(&steps);
        let before = dir.names("store");
        let dry = [&["chain", "prune", "store", "--json", "--dry-run"], args].concat();
        let planned = dir.wz(&dry).ok().json();
        assert_eq!(dir.names("store"), before);
        let done = dir.wz(&[&["chain", "prune", "store", "--json"], args].concat()).ok().json();
        assert_eq!(
            (&done["rebased"], &done["removed"]),
            (&planned["rebased"], &planned["removed"])
        );
        assert!(done["compressed_after"].as_u64() < done["compressed_before"].as_u64());
        let left = listed(&dir);
        assert_eq!(dir.names("store").len(), left.len() + 1);
        restores(&dir, &left.iter().map(|(step, ..)| *step).collect::<Vec<_>>());
        (left, done["removed"].clone())
    };
    // In the middle, one and several in a row; the removed ones go from the end.
    let (left, _) = prune(&["--remove", "30"]);
    assert_eq!(left[2], (40, vec![20], 2));
    assert_eq!(left[3], (50, vec![40], 3));
    let (left, removed) = prune(&["--remove", "20", "--remove", "30", "--remove", "50"]);
    assert_eq!(left, [(10, vec![], 0), (40, vec![10], 1), (60, vec![40], 2)]);
    assert_eq!(removed, serde_json::json!([50, 30, 20]));
    // The keyframe.
    let (left, _) = prune(&["--remove", "10"]);
    assert_eq!(left[..2], [(20, vec![], 0), (30, vec![20], 1)]);
    let (left, _) = prune(&["--keep-last", "2"]);
    assert_eq!(left, [(50, vec![], 0), (60, vec![50], 1)]);
    let (left, _) = prune(&["--keep-every", "20", "--keep-last", "2"]);
    let wanted = [(20, vec![], 0), (40, vec![20], 1), (50, vec![40], 2), (60, vec![50], 3)];
    assert_eq!(left, wanted);
    // The last one stays by any rule, and goes by its name.
    let (left, _) = prune(&["--keep-every", "50"]);
    assert_eq!(left, [(50, vec![], 0), (60, vec![50], 1)]);
    let (left, _) = prune(&["--keep-every", "50", "--remove", "60"]);
    assert_eq!(left, [(50, vec![], 0)]);
}

#[test]
fn pruning_refuses_what_it_can_not_do() {
    let dir = store(&[1, 2, 3]);
    let usage = |args: &[&str]| {
        let run = dir.wz(&[&["chain", "prune", "store"], args].concat());
        assert_eq!(run.code, Some(2), "{}", run.stderr);
    };
    usage(&[]);
    usage(&["--keep-last", "0"]);
    usage(&["--keep-every", "0"]);
    usage(&["--dry-run"]);
    dir.wz(&["chain", "prune", "store", "--remove", "7"]).fails(&["there is no step 7"]);
    dir.wz(&["chain", "prune", "nowhere", "--keep-last", "1", "--json"])
        .fails(&["can't read nowhere"]);
    // A step whose base is gone can't be coded anew: what it needs stays, and so does the renamed one.
    fs::rename(dir.path("store/step-001.safetensors.wz"), dir.path("store/renamed-001.wz"))
        .unwrap();
    let list = String::from_utf8(dir.wz(&["chain", "list", "store"]).ok().stdout).unwrap();
    assert!(list.contains("step-001.safetensors.wz (missing)"), "{list}");
    dir.wz(&["chain", "prune", "store", "--remove", "1"]).fails(&["there is no step 1"]);
    dir.wz(&["chain", "prune", "store", "--remove", "2"]).ok();
    assert_eq!(listed(&dir).iter().map(|(step, ..)| *step).collect::<Vec<_>>(), [2, 3]);
    dir.write(&name(4), model(4));
    dir.wz(&["chain", "add", "store", &name(4)])
        .fails(&["step 2 needs step-001.safetensors.wz", "stands alone for it"]);
    assert_eq!(listed(&dir)[2], (4, vec![], 0));
    // What needs it may go, too.
    dir.wz(&["chain", "prune", "store", "--keep-last", "1"]).ok();
    assert_eq!(listed(&dir), [(4, vec![], 0)]);
    assert!(dir.exists("store/renamed-001.wz"));
}

#[cfg(unix)]
#[test]
fn who_changes_a_store_is_alone() {
    let dir = store(&[1]);
    dir.write(&name(2), model(2));
    let folder = fs::File::open(dir.path("store")).unwrap();
    folder.lock().unwrap();
    for args in
        [&["chain", "add", "store", &name(2)][..], &["chain", "prune", "store", "--remove", "1"]]
    {
        dir.wz(args).fails(&["another process is changing this store; try again when it is done"]);
    }
    assert_eq!(listed(&dir), [(1, vec![], 0)]);
    drop(folder);
    dir.wz(&["chain", "add", "store", &name(2)]).ok();
    // All at once: each of them is added, or told to come back.
    let names: Vec<String> = (3..9).map(name).collect();
    for (name, step) in names.iter().zip(3..) {
        dir.write(name, model(step));
    }
    let added = std::thread::scope(|scope| {
        let add = |name| dir.wz(&["chain", "add", "store", name]);
        let runs: Vec<_> = names.iter().map(|name| scope.spawn(move || add(name))).collect();
        runs.into_iter()
            .filter_map(|run| run.join().unwrap().code.filter(|code| *code == 0))
            .count()
    });
    assert!(added > 0);
    let steps: Vec<u64> = listed(&dir).into_iter().map(|(step, ..)| step).collect();
    assert_eq!(steps.len(), 2 + added);
    restores(&dir, &steps);
}

#[test]
fn options_reach_the_file() {
    let dir = Scratch::new();
    dir.write(&name(1), model(1));
    let run =
        dir.wz(&["chain", "add", "store", &name(1), "--sha256", "--level", "max", "--json"]).ok();
    let (told, file) = (run.json(), "store/step-001.safetensors.wz");
    assert_eq!(
        (&told["command"], &told["files"][0]["action"]),
        (&"chain add".into(), &"added".into())
    );
    assert_eq!(told["files"][0]["output"], file);
    assert!(told["files"][0]["sha256"].is_string());
    assert_eq!(dir.wz(&["inspect", "--json", file]).ok().json()["archive"]["level"], "max");
    assert!(dir.wz(&["chain", "add", "store", &name(1), "-q"]).stderr.contains("there already"));
    dir.write(&name(2), model(2));
    assert_eq!(dir.wz(&["chain", "add", "store", &name(2), "-q"]).ok().stderr, "");
    // They stay when it gets another base.
    dir.write(&name(3), model(3));
    dir.wz(&["chain", "add", "store", &name(3), "--sha256", "--level", "max"]).ok();
    dir.wz(&["chain", "prune", "store", "--remove", "2", "-q"]).ok();
    let told = dir.wz(&["inspect", "--json", "store/step-003.safetensors.wz"]).ok().json();
    assert!(told["archive"]["sha256"].is_string() && told["archive"]["level"] == "max");
}
