//! What is different on a terminal.

use crate::common::{Scratch, Tensor, WZ, model, noise, safetensors};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
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

/// What `wz` shows on a terminal of so many columns.
fn shown(dir: &Scratch, args: &[&str], columns: u16, no_color: bool) -> String {
    let (inside, mut screen) = terminal();
    let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&inside, size).unwrap();
    let mut command = Command::new(WZ);
    command.args(args).current_dir(dir.path("")).env("TERM", "xterm").env_remove("CLICOLOR");
    match no_color {
        true => command.env("NO_COLOR", "1"),
        false => command.env_remove("NO_COLOR"),
    };
    let mut child = command.stderr(inside.try_clone().unwrap()).stdout(inside).spawn().unwrap();
    drop(command);
    let mut shown = Vec::new();
    let _ = screen.read_to_end(&mut shown);
    child.wait().unwrap();
    String::from_utf8(shown).unwrap().replace('\r', "")
}

#[test]
fn tables_fit_the_terminal() {
    let dir = Scratch::new();
    let name = "model.vision_tower.encoder.layers.11.self_attention.q_proj.weight";
    dir.write("m", safetensors(&[Tensor(name, "U8", &[64], noise(64))]));
    let at = |columns| shown(&dir, &["inspect", "m"], columns, true);
    assert!(at(120).contains(name), "{}", at(120));
    let narrow = at(80);
    let row = narrow.lines().find(|line| line.starts_with("model.")).unwrap();
    assert!(row.contains('…') && row.contains("q_proj.weight "), "{row}");
    assert!(row.chars().count() <= 80, "{row}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let dir = Scratch::new();
    dir.write("m", model());
    for args in [&["inspect", "m"][..], &["inspect", "gone"], &["help"]] {
        assert!(shown(&dir, args, 80, false).contains('\u{1b}'), "{args:?}");
        assert!(!shown(&dir, args, 80, true).contains('\u{1b}'), "{args:?}");
        let piped = dir.wz(args);
        assert!(!piped.stdout.contains(&0x1b) && !piped.stderr.contains('\u{1b}'), "{args:?}");
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
