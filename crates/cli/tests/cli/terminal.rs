//! What is different on a terminal.

use crate::common::{Scratch, WZ, model};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

/// A terminal: the side that the program sees, and the side that shows it.
fn terminal() -> (File, File) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let inside = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (inside, screen.into())
}

#[test]
fn binary_data_does_not_go_to_a_terminal() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.wz(&["compress", "m"]).ok();
    for args in [
        &["compress", "m", "-o", "-"][..],
        &["decompress", "m.wz", "-o", "-"],
        &["cat", "m.wz", "a.weight"],
    ] {
        let (inside, _screen) = terminal();
        let output = Command::new(WZ)
            .args(args)
            .current_dir(dir.path(""))
            .stdout(inside)
            .stderr(Stdio::piped())
            .spawn();
        let output = output.unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("stdout is a terminal; use -o or a pipe"), "{args:?}: {said}");
    }
}

#[test]
fn a_bar_is_drawn_on_a_terminal_only() {
    let dir = Scratch::new();
    dir.write("m", model());
    let (inside, mut screen) = terminal();
    let mut child = Command::new(WZ)
        .args(["compress", "m"])
        .env("TERM", "xterm")
        .current_dir(dir.path(""))
        .stderr(inside)
        .spawn()
        .unwrap();
    // The screen ends with an error when the last one who could write to it is gone.
    let mut shown = Vec::new();
    let _ = screen.read_to_end(&mut shown);
    assert!(child.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("/74.15 kB") && shown.contains("ETA"), "{shown:?}");
    assert!(shown.contains(", verified, "), "{shown:?}");

    let piped = dir.wz(&["compress", "m", "-f"]).ok().stderr;
    assert_eq!(piped.lines().count(), 1, "{piped}");
}
