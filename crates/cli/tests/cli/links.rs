//! Links, pipes and sockets in folders.

use crate::common::{Scratch, model};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn links_inside_are_followed_and_others_refused_by_name() {
    let dir = Scratch::new();
    dir.write("secret", "not yours");
    dir.write("repo/blobs/1234", model());
    dir.write("repo/blobs/text", "text");
    fs::create_dir(dir.path("outside")).unwrap();
    for (to, name) in [
        ("blobs/1234", "model.safetensors"),
        ("blobs/text", "README"),
        ("blobs", "again"),
        ("../secret", "leak"),
        ("../outside", "leak-folder"),
        ("/etc/passwd", "absolute"),
        ("nowhere", "dangling"),
        (".", "loop"),
        ("self", "self"),
    ] {
        symlink(to, dir.path("repo").join(name)).unwrap();
    }
    let run = dir.wz(&["compress", "repo", "--json"]).fails(&[]);
    assert_eq!(
        dir.names("repo.wz"),
        [
            "README",
            "again/",
            "again/1234",
            "again/text",
            "blobs/",
            "blobs/1234",
            "blobs/text",
            "model.safetensors.wz"
        ]
    );
    for (name, why) in [
        ("leak", "leaves the folder"),
        ("leak-folder", "leaves the folder"),
        ("absolute", "leaves the folder"),
        ("dangling", "link to nothing"),
        ("loop", "a folder that it is in"),
        ("self", "can't open"),
    ] {
        let line = format!("wz: repo/{name}: ");
        assert!(
            run.stderr.lines().any(|l| l.starts_with(&line) && l.contains(why)),
            "{name}: {}",
            run.stderr
        );
    }
    assert_eq!(run.json()["failed"], 6);
    dir.wz(&["decompress", "repo.wz", "-o", "back"]).ok();
    assert!(dir.read("back/model.safetensors") == model());
    assert_eq!(dir.read("back/README"), b"text");
}

#[test]
fn pipes_and_sockets_are_refused_by_name() {
    let dir = Scratch::new();
    dir.write("repo/m.safetensors", model());
    let make = |name: &str, kind| {
        rustix::fs::mknodat(rustix::fs::CWD, dir.path(name), kind, 0o600.into(), 0).unwrap();
    };
    make("repo/pipe.safetensors", rustix::fs::FileType::Fifo);
    make("repo/socket", rustix::fs::FileType::Socket);
    dir.wz(&["compress", "repo"]).fails(&[
        "repo (1 compressed, 0 copied, 2 failed): ",
        "wz: repo/pipe.safetensors: a named pipe",
        "wz: repo/socket: a socket",
    ]);
    assert_eq!(dir.names("repo.wz"), ["m.safetensors.wz"]);
    dir.wz(&["verify", "repo"]).fails(&["named pipe"]);
}

#[test]
fn modes_are_kept() {
    let dir = Scratch::new();
    dir.write("repo/sub/m.safetensors", model());
    dir.write("repo/run.sh", "#!/bin/sh\n");
    let mode = |name: &str, mode| {
        fs::set_permissions(dir.path(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    mode("repo/sub/m.safetensors", 0o444);
    mode("repo/run.sh", 0o750);
    mode("repo/sub", 0o711);
    dir.wz(&["compress", "repo"]).ok();
    dir.wz(&["decompress", "repo.wz", "-o", "back"]).ok();
    for (name, mode) in [
        ("back/sub/m.safetensors", 0o444),
        ("back/run.sh", 0o750),
        ("back/sub", 0o711),
        ("repo.wz/sub", 0o711),
    ] {
        assert_eq!(
            fs::metadata(dir.path(name)).unwrap().permissions().mode() & 0o7777,
            mode,
            "{name}"
        );
    }
}
