//! Runs that are ended by signals, and what they leave.

use crate::common::{Run, Scratch, WZ, model, noise};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Waits until something is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A command that compresses what it gets through a pipe, and is waiting for more of it.
fn waiting(dir: &Scratch, mut command: Command) -> (Child, ChildStdin) {
    command.args(["compress", "-", "-o", "m.wz"]).current_dir(dir.path(""));
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&noise(100_000)).unwrap();
    (child, stdin)
}

/// Runs the rest of the command line as this shell script says, without core dumps.
fn by_shell(script: &str, program: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -c 0; {script}"), program]);
    command
}

/// Whether a process has begun its result in a folder, with a name or without.
fn has_begun(dir: &Scratch, process: Pid) -> bool {
    if !dir.names("").is_empty() {
        return true;
    }
    let folder = fs::canonicalize(dir.path("")).unwrap();
    let opened = fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero()));
    let opened = opened.into_iter().flatten().flatten().map(|entry| entry.path());
    opened.filter_map(|path| fs::read_link(path).ok()).any(|path| path.starts_with(&folder))
}

#[test]
fn a_run_that_is_ended_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::XCPU]
    {
        let dir = Scratch::new();
        let (mut child, _stdin) = waiting(&dir, by_shell("exec \"$0\" \"$@\"", WZ));
        let pid = Pid::from_child(&child);
        until("no file was begun", || has_begun(&dir, pid));
        assert!(!dir.exists("m.wz"));
        kill_process(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
        assert_eq!(dir.names(""), [""; 0]);
    }
}

#[test]
fn signals_that_are_ignored_at_the_start_stay_so() {
    let dir = Scratch::new();
    let (child, stdin) = waiting(&dir, by_shell("trap '' HUP INT; exec \"$0\" \"$@\"", WZ));
    let pid = Pid::from_child(&child);
    until("no file was begun", || has_begun(&dir, pid));
    kill_process(pid, Signal::INT).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    drop(stdin);
    Run::of("compress - -o m.wz", child.wait_with_output().unwrap()).ok();
    dir.wz(&["verify", "m.wz"]).ok();
}

#[test]
fn a_result_beyond_the_largest_size_is_an_error_of_its_own() {
    let dir = Scratch::new();
    dir.write("m", noise(1_000_000));
    let mut command = by_shell("ulimit -f 100; exec \"$0\" \"$@\"", WZ);
    let output = command.args(["compress", "m"]).current_dir(dir.path("")).output().unwrap();
    Run::of("compress m", output).fails(&["too large", "ulimit -f"]);
    assert_eq!(dir.names(""), ["m"]);
}

/// On a system that has no files without names.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod named {
    use super::*;
    use crate::crash::program;

    /// A process that waits, with its result under a temporary name, and the program that it runs in.
    fn begun(dir: &Scratch) -> (Child, ChildStdin, Pid) {
        let mut command = by_shell("exec \"$0\" \"$@\"", program().to_str().unwrap());
        command.env("REFUSE", "tmpfile").args(["0", WZ]);
        let (child, stdin) = waiting(dir, command);
        until("no file was begun", || !dir.names("").is_empty());
        let wz = child_of(child.id()).unwrap();
        (child, stdin, wz)
    }

    fn child_of(parent: u32) -> Option<Pid> {
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let after_name = stat.rsplit(") ").next()?;
            let of = after_name.split(' ').nth(1)?.parse() == Ok(parent);
            Pid::from_raw(entry.file_name().to_str()?.parse().ok()?).filter(|_| of)
        })
    }

    #[test]
    fn a_run_that_is_ended_removes_its_temporary_file() {
        for signal in [Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::XCPU] {
            let dir = Scratch::new();
            let (mut child, _stdin, wz) = begun(&dir);
            kill_process(wz, signal).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
            assert_eq!(dir.names(""), [""; 0]);
        }
    }

    #[test]
    fn what_a_killed_run_leaves_goes_with_the_next_and_is_never_copied() {
        let dir = Scratch::new();
        let (mut running, _stdin, _) = begun(&dir);
        let [written] = dir.names("").try_into().unwrap();
        let (mut child, _stdin, wz) = begun(&dir);
        until("no second file", || dir.names("").len() == 2);
        kill_process(wz, Signal::KILL).unwrap();
        child.wait().unwrap();
        assert_eq!(dir.names("").len(), 2);
        dir.write("repo/m.safetensors", model());
        for name in dir.names("").iter().filter(|name| name.starts_with(".wz-")) {
            dir.write(&format!("repo/{name}"), "left");
        }
        dir.wz(&["compress", "repo", "-o", "out"]).ok();
        assert_eq!(dir.names("out"), ["m.safetensors.wz"]);
        // Of the two that are here, only the one that nobody writes goes.
        dir.wz(&["cat", "out/m.safetensors.wz", "b.bias", "-o", "bias"]).ok();
        let left: Vec<_> =
            dir.names("").into_iter().filter(|name| name.starts_with(".wz-")).collect();
        assert_eq!(left, [written]);
        running.kill().unwrap();
        running.wait().unwrap();
    }
}
