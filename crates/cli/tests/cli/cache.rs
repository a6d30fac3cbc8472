//! The cache of Hugging Face's hub as a source.

use crate::common::{Scratch, model, other_model};
use std::fs;
use std::os::unix::fs::symlink;

/// A repository with two commits, of which the second is main's; beside it, what no link may reach.
fn cache() -> Scratch {
    let dir = Scratch::new();
    dir.write("hub/secret", "not yours");
    let repository = "hub/models--a--b";
    dir.write(&format!("{repository}/refs/main"), "c2");
    for (name, bytes) in [("1", model()), ("2", other_model()), ("3", b"{}".to_vec())] {
        dir.write(&format!("{repository}/blobs/{name}"), bytes);
    }
    for (commit, name, blob) in [
        ("c1", "model.safetensors", "../../blobs/1"),
        ("c2", "model.safetensors", "../../blobs/2"),
        ("c2", "sub/model.safetensors", "../../../blobs/1"),
        ("c2", "config.json", "../../blobs/3"),
    ] {
        let link = dir.path(&format!("{repository}/snapshots/{commit}/{name}"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(blob, link).unwrap();
    }
    dir
}

#[test]
fn a_snapshot_becomes_a_plain_folder() {
    let dir = cache();
    let before = dir.names("hub");
    dir.wz(&["compress", "hub/models--a--b", "-o", "main"]).ok();
    assert_eq!(
        dir.names("main"),
        ["config.json", "model.safetensors.wz", "sub/", "sub/model.safetensors.wz"]
    );
    dir.wz(&["compress", "hub/models--a--b/snapshots/c1", "-o", "old"]).ok();
    dir.wz(&["compress", "--dry-run", "hub/models--a--b"]).ok();
    assert_eq!(dir.names("hub"), before);
    fs::remove_dir_all(dir.path("hub")).unwrap();
    dir.wz(&["decompress", "main", "-o", "back"]).ok();
    assert_eq!(
        dir.names("back"),
        ["config.json", "model.safetensors", "sub/", "sub/model.safetensors"]
    );
    assert!(dir.read("back/model.safetensors") == other_model());
    assert!(dir.read("back/sub/model.safetensors") == model());
    assert_eq!(dir.read("back/config.json"), b"{}");
    dir.wz(&["decompress", "old", "-o", "back-1"]).ok();
    assert!(dir.read("back-1/model.safetensors") == model());
}

#[test]
fn the_cache_is_never_written_to() {
    let dir = cache();
    let before = dir.names("hub");
    let (repository, snapshot) = ("hub/models--a--b", "hub/models--a--b/snapshots/c1");
    for args in [
        &["compress", repository][..],
        &["compress", snapshot],
        &["compress", snapshot, "--in-place"],
        &["compress", "hub/models--a--b/snapshots/c1/model.safetensors"],
        &["compress", "hub/models--a--b/snapshots/c1", "-o", "hub/new"],
    ] {
        dir.wz(args).fails(&["model cache", "-o"]);
    }
    dir.wz(&["compress", "hub", "-o", "out"]).fails(&["a cache of many models; name one"]);
    fs::remove_file(dir.path("hub/models--a--b/refs/main")).unwrap();
    dir.wz(&["compress", repository, "-o", "out"]).fails(&["2 snapshots and no main branch"]);
    dir.write("hub/models--a--b/refs/main", "c2");
    assert_eq!(dir.names("hub"), before);
}

#[test]
fn links_lead_to_the_repository_s_own_files_only() {
    let dir = cache();
    let snapshot = "hub/models--a--b/snapshots/c1";
    symlink("../../../secret", dir.path(&format!("{snapshot}/leak"))).unwrap();
    symlink("../c2", dir.path(&format!("{snapshot}/other"))).unwrap();
    dir.wz(&["compress", snapshot, "-o", "out"])
        .fails(&["leak: a link that leaves the folder", "other: a link that leaves the folder"]);
    assert_eq!(dir.names("out"), ["model.safetensors.wz"]);
}

#[test]
fn files_may_be_on_another_disk() {
    let dir = cache();
    let repository = "hub/models--a--b";
    let hash = "0123456789abcdef".repeat(4);
    fs::rename(dir.path(&format!("{repository}/blobs")), dir.path("disk")).unwrap();
    symlink("../../disk", dir.path(&format!("{repository}/blobs"))).unwrap();
    dir.write(&format!("disk/{hash}"), model());
    let snapshot = format!("{repository}/snapshots/c1");
    symlink(format!("../../blobs/{hash}"), dir.path(&format!("{snapshot}/moved.safetensors")))
        .unwrap();
    // What no hub has named may be anybody's.
    dir.wz(&["compress", &snapshot, "-o", "out"])
        .fails(&["model.safetensors: a link that leaves the folder"]);
    assert_eq!(dir.names("out"), ["moved.safetensors.wz"]);
}
