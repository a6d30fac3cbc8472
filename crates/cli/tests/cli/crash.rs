//! Runs that are killed at each change of a file, one after the other.

use crate::chain::name;
use crate::common::{Scratch, Tensor, WZ, noise, safetensors};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use weightzip::chain::{Chain, MARK};
use weightzip::{Base, DecodeOptions};

/// A checkpoint that is written in several pieces: of each value, training changes the lowest byte.
fn model(step: u64) -> Vec<u8> {
    let (mut weights, seed) = (noise(600_000), usize::try_from(step).unwrap() * 7);
    let lowest = weights.iter_mut().step_by(4);
    lowest.zip(&noise(200_000)[seed..]).for_each(|(byte, change)| *byte ^= change);
    safetensors(&[Tensor("w", "F32", &[150, 1000], weights)])
}

/// What crash.c exits with when it has killed the command.
const KILLED: i32 = 9;

/// The program that kills, or refuses what a system may not be able to do.
pub(crate) fn program() -> &'static PathBuf {
    static CRASH: OnceLock<(Scratch, PathBuf)> = OnceLock::new();
    let (_, crash) = CRASH.get_or_init(|| {
        let built = Scratch::new();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/crash.c");
        let program = built.path("crash");
        let mut cc = Command::new("cc");
        assert!(cc.args(["-Wall", "-o"]).arg(&program).arg(source).status().unwrap().success());
        (built, program)
    });
    crash
}

/// Runs `wz` until its `n`th change of a file, on a system that can't do some things; says whether it was killed there, and
/// what it changed.
fn until(dir: &Scratch, n: usize, refused: &str, args: &[&str]) -> (bool, Vec<String>) {
    let mut command = Command::new(program());
    command.env("REFUSE", refused);
    command.arg(n.to_string()).arg(WZ).args(args).args(["--threads", "1", "-q"]);
    let output = command.current_dir(dir.path("")).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(code == Some(0) || code == Some(KILLED), "{code:?}: {stderr}");
    let changes = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (code == Some(KILLED), changes)
}

/// A store of these steps, each on the one before, but for a keyframe every three.
fn store(steps: &[u64]) -> Scratch {
    let dir = Scratch::new();
    for &step in steps {
        dir.write(&name(step), model(step));
        dir.wz(&["chain", "add", "store", &name(step), "--keyframe-every", "3"]).ok();
    }
    dir
}

fn copy(from: &Scratch) -> Scratch {
    let to = Scratch::new();
    for name in from.names("store") {
        to.write(&format!("store/{name}"), from.read(&format!("store/{name}")));
    }
    to
}

/// Restores each step that is listed, as anyone would who has nothing but its file; returns which these are.
fn restored(dir: &Scratch, n: usize) -> Vec<u64> {
    let chain = Chain::open(&dir.path("store")).unwrap();
    for step in chain.steps() {
        let (mut base, mut original) = (Base::new(), Vec::new());
        base.find_for(&step.path).unwrap();
        let options = DecodeOptions { threads: 1, base, ..DecodeOptions::default() };
        let file = std::fs::File::open(&step.path).unwrap();
        let restored = weightzip::decompress(file, &mut original, &options);
        restored.unwrap_or_else(|e| panic!("killed at {n}, step {}: {e}", step.number));
        assert!(original == model(step.number), "killed at {n}, step {}", step.number);
    }
    chain.steps().iter().map(|step| step.number).collect()
}

/// Fails unless names change only when what they mean is on disk, and go only when that was, too.
fn in_order(changes: &[String]) {
    for (i, change) in changes.iter().enumerate() {
        let (before, after) = (i.checked_sub(1).map(|i| changes[i].as_str()), changes.get(i + 1));
        // What is replaced refuses a link, and gets a second one, which a rename follows.
        if change == "link" || change == "rename" {
            assert!(matches!(before, Some("sync" | "link")), "{changes:?}");
        }
        let is_followed = change == "link" && after.is_some_and(|after| after != "sync");
        if change == "rename" || change == "unlink" || (change == "link" && !is_followed) {
            assert_eq!(after.map(String::as_str), Some("sync"), "{changes:?}");
        }
    }
}

#[test]
fn a_crash_while_a_step_is_added_leaves_all_earlier_ones() {
    let (points, unfinished) = crashes_while_a_step_is_added("");
    // The mark is replaced, which takes a name of its own for a moment.
    assert!(unfinished <= 1, "{unfinished} of {points} left something");
    let (points, unfinished) = crashes_while_a_step_is_added("tmpfile");
    assert!(unfinished >= 8, "{unfinished} of {points} left something");
}

/// Kills at each point; says how many there are, and how often something unfinished was left.
fn crashes_while_a_step_is_added(refused: &str) -> (usize, usize) {
    let made = store(&[1, 2, 3, 4]);
    let add = ["chain", "add", "store", &name(5)];
    let (mut points, mut unfinished) = (0, 0);
    loop {
        points += 1;
        let dir = copy(&made);
        dir.write(&name(5), model(5));
        let (killed, changes) = until(&dir, points, refused, &add);
        for name in made.names("store").into_iter().filter(|name| name != MARK) {
            let file = format!("store/{name}");
            assert!(dir.read(&file) == made.read(&file), "killed at {points}: {name}");
        }
        let there = restored(&dir, points);
        if !killed {
            assert_eq!(there, [1, 2, 3, 4, 5]);
            in_order(&changes);
            let count = |name| changes.iter().filter(|change| *change == name).count();
            // The mark, which names the step first, and the step.
            assert!(count("rename") + count("link") >= 2 && count("write") >= 4, "{changes:?}");
            // Each change, each write also in its middle, and none.
            assert_eq!(points, changes.len() + count("write") + 1);
            return (points, unfinished);
        }
        unfinished += usize::from(dir.names("store").len() > there.len() + 1);
        match there.as_slice() {
            [1, 2, 3, 4] => dir.wz(&add).ok(),
            all => {
                assert_eq!(all, [1, 2, 3, 4, 5]);
                dir.wz(&add).fails(&["step 5 is there already"])
            }
        };
        assert_eq!(restored(&dir, points), [1, 2, 3, 4, 5]);
        assert_eq!(dir.names("store").len(), 6, "{:?}", dir.names("store"));
    }
}

#[test]
fn a_crash_while_steps_are_pruned_leaves_all_that_are_there() {
    // Keyframes are 5 and 25: step 10 becomes one, and 30, which needs 27, needs 20 then.
    let made = store(&[5, 10, 20, 25, 27, 30]);
    let prune = ["chain", "prune", "store", "--keep-every", "10"];
    let (mut points, mut seen) = (0, Vec::new());
    loop {
        points += 1;
        let dir = copy(&made);
        let (killed, changes) = until(&dir, points, "", &prune);
        let there = restored(&dir, points);
        assert!([10, 20, 30].iter().all(|step| there.contains(step)), "{points}: {there:?}");
        if seen.last() != Some(&there) {
            seen.push(there);
        }
        if !killed {
            in_order(&changes);
            let count = |name| changes.iter().filter(|change| *change == name).count();
            assert_eq!((count("rename"), count("unlink")), (2, 3), "{changes:?}");
            assert_eq!(points, changes.len() + count("write") + 1);
            break;
        }
        dir.wz(&prune).ok();
        assert_eq!(restored(&dir, points), [10, 20, 30]);
        assert_eq!(dir.names("store").len(), 4, "{:?}", dir.names("store"));
    }
    // One by one, the deepest first.
    let all: [&[u64]; 4] =
        [&[5, 10, 20, 25, 27, 30], &[5, 10, 20, 25, 30], &[5, 10, 20, 30], &[10, 20, 30]];
    assert_eq!(seen, all);
    assert!(points > 28, "{points}");
}
