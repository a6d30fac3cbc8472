//! Links, pipes and sockets in folders.

use crate::common::{Run, Scratch, WZ, model};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

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
    // A program that runs as its owner would run as whoever restores it.
    mode("repo/run.sh", 0o6750);
    mode("repo/sub", 0o1711);
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

/// Root's own tests.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root gives files to others");
    }
    is_root
}

fn owner_and_mode(dir: &Scratch, name: &str) -> (u32, u32, u32) {
    let there = fs::metadata(dir.path(name)).unwrap();
    (there.uid(), there.gid(), there.mode() & 0o7777)
}

#[test]
fn root_keeps_the_owner_and_never_setuid() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new();
    dir.write("repo/sub/m.safetensors", model());
    dir.write("repo/tool", "#!/bin/sh\n");
    for name in ["repo", "repo/sub", "repo/sub/m.safetensors", "repo/tool"] {
        chown(dir.path(name), Some(1234), Some(4321)).unwrap();
    }
    for name in ["repo/tool", "repo/sub/m.safetensors"] {
        fs::set_permissions(dir.path(name), fs::Permissions::from_mode(0o6755)).unwrap();
    }
    dir.wz(&["compress", "repo"]).ok();
    dir.wz(&["decompress", "repo.wz", "-o", "back"]).ok();
    dir.wz(&["compress", "repo", "--in-place"]).ok();
    dir.wz(&["compress", "back/sub/m.safetensors", "--rm"]).ok();
    for name in [
        "repo.wz/sub/m.safetensors.wz",
        "repo.wz/tool",
        "back/tool",
        "repo/sub/m.safetensors.wz",
        "back/sub/m.safetensors.wz",
    ] {
        assert_eq!(owner_and_mode(&dir, name), (1234, 4321, 0o755), "{name}");
    }
    for name in ["repo", "repo/sub", "repo.wz", "repo.wz/sub", "back"] {
        let (owner, group, _) = owner_and_mode(&dir, name);
        assert_eq!((owner, group), (1234, 4321), "{name}");
    }
}

#[test]
fn without_the_group_nobody_gets_its_rights() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new();
    dir.write("m", model());
    chown(dir.path("m"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(dir.path("m"), fs::Permissions::from_mode(0o664)).unwrap();
    fs::set_permissions(dir.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new(WZ);
    command.args(["compress", "m"]).current_dir(dir.path("")).uid(65534).gid(65534);
    let run = Run::of("compress m", command.output().unwrap()).ok();
    assert!(run.stderr.contains("wz: warning: can't set the group"), "{}", run.stderr);
    assert_eq!(owner_and_mode(&dir, "m.wz"), (65534, 65534, 0o644));
}

#[cfg(target_os = "linux")]
#[test]
fn attributes_and_access_lists_are_kept() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let dir = Scratch::new();
    let source = dir.write("m", model());
    // Version 2; owner 6, user 1234 4, group 0, mask 4, others 0.
    let entries =
        [(1, 6, u32::MAX), (2, 4, 1234), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend([tag, 0, rights, 0]);
        list.extend(u32::to_le_bytes(id));
    }
    for (name, value) in [("user.note", &b"mine"[..]), ("system.posix_acl_access", &list)] {
        if let Err(error) = setxattr(&source, name, value, XattrFlags::empty()) {
            eprintln!("skipped: no {name} here: {error}");
            continue;
        }
        let _ = fs::remove_file(dir.path("m.wz"));
        dir.wz(&["compress", "m"]).ok();
        let mut kept = [0; 200];
        let len = getxattr(dir.path("m.wz"), name, &mut kept[..]).unwrap();
        assert_eq!(&kept[..len], value, "{name}");
    }
}
