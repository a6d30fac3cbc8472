//! Interrupted runs.

use crate::common::{Scratch, WZ, noise};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn an_interrupted_run_leaves_nothing() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let dir = Scratch::new();
        let mut child = Command::new(WZ)
            .args(["compress", "-", "-o", "m.wz"])
            .current_dir(dir.path(""))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&noise(100_000)).unwrap();
        let start = Instant::now();
        while dir.names("").is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "no file was started");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!dir.exists("m.wz"));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        assert_eq!(dir.names(""), [""; 0]);
        drop(stdin);
    }
}
