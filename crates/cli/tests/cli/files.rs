//! Single files and pipes.

use crate::common::{
    Scratch, Tensor, model, modified, noise, other_model, past, safetensors, set_modified,
};
use std::fs;

#[test]
fn a_file_comes_back_with_its_bytes_mode_and_time() {
    let dir = Scratch::new();
    let source = dir.write("m.safetensors", model());
    set_modified(&source);
    #[cfg(unix)]
    fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let run = dir.wz(&["compress", "m.safetensors"]).ok();
    assert!(run.stdout.is_empty());
    assert!(
        run.stderr.starts_with("m.safetensors: ") && run.stderr.contains(", verified, "),
        "{}",
        run.stderr
    );
    assert_eq!(dir.names(""), ["m.safetensors", "m.safetensors.wz"]);
    assert!(dir.read("m.safetensors.wz").len() < dir.read("m.safetensors").len());
    fs::remove_file(&source).unwrap();
    dir.wz(&["decompress", "m.safetensors.wz"]).ok();
    assert_eq!(dir.read("m.safetensors"), model());
    for name in ["m.safetensors", "m.safetensors.wz"] {
        assert_eq!(modified(&dir.path(name)), past(), "{name}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(dir.path(name)).unwrap().permissions().mode() & 0o7777,
                0o640,
                "{name}"
            );
        }
    }
}

#[test]
fn pipes_files_and_thread_counts_give_the_same_bytes() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.wz(&["compress", "m", "--threads", "1", "-o", "one"]).ok();
    dir.wz(&["compress", "m", "--threads", "4", "-o", "four"]).ok();
    let piped = dir.wz_with_stdin(&["compress", "-"], model()).ok().stdout;
    let to_stdout = dir.wz(&["compress", "m", "-o", "-"]).ok().stdout;
    dir.wz_with_stdin(&["compress", "-", "-o", "from-stdin"], model()).ok();
    let one = dir.read("one");
    for other in [dir.read("four"), piped, to_stdout, dir.read("from-stdin")] {
        assert!(one == other);
    }
    assert!(dir.wz_with_stdin(&["decompress", "-"], one.clone()).ok().stdout == model());
    assert!(dir.wz(&["decompress", "one", "-o", "-"]).ok().stdout == model());
    dir.wz_with_stdin(&["decompress", "-", "-o", "back"], one.clone()).ok();
    assert!(dir.read("back") == model());
    dir.wz_with_stdin(&["verify", "-"], one).ok();
}

#[test]
fn level_max_is_as_lossless_and_is_shown() {
    // Sums of random bytes, as weights in a row of a size of its own.
    let weight = |(i, four): (usize, &[u8])| {
        let sum = four.iter().map(|&byte| f32::from(byte) - 127.5).sum::<f32>();
        let [_, _, low, high] = (sum * (1 + i / 256 % 9) as f32).to_le_bytes();
        [low, high]
    };
    let weights = noise(4 << 16).chunks(4).enumerate().flat_map(weight).collect();
    let model = safetensors(&[Tensor("w", "BF16", &[256, 256], weights)]);
    let dir = Scratch::new();
    dir.write("m", &model);
    dir.wz(&["compress", "m", "--level", "max", "--threads", "1", "-o", "one"]).ok();
    dir.wz(&["compress", "m", "--level", "max", "--threads", "4", "-o", "four"]).ok();
    let piped = dir.wz_with_stdin(&["compress", "-", "--level", "max"], model.clone()).ok().stdout;
    let one = dir.read("one");
    assert!(one == dir.read("four") && one == piped);
    assert!(dir.wz(&["decompress", "one", "-o", "-"]).ok().stdout == model);
    dir.wz(&["verify", "one"]).ok();
    dir.wz(&["compress", "m"]).ok();
    assert!(one.len() < dir.read("m.wz").len());
    let shown = String::from_utf8(dir.wz(&["inspect", "one"]).ok().stdout).unwrap();
    assert!(shown.contains("level    max") && shown.contains("  ranges\n"), "{shown}");
}

#[test]
fn several_inputs_go_on_past_a_failure() {
    let dir = Scratch::new();
    dir.write("a", model());
    dir.write("c", other_model());
    dir.wz(&["compress", "a", "b", "c"]).fails(&["wz: b: can't open"]);
    assert_eq!(dir.names(""), ["a", "a.wz", "c", "c.wz"]);
    fs::remove_file(dir.path("a")).unwrap();
    fs::remove_file(dir.path("c")).unwrap();
    dir.wz(&["decompress", "a.wz", "c.wz"]).ok();
    assert!(dir.read("a") == model() && dir.read("c") == other_model());
}

#[test]
fn what_exists_is_replaced_only_with_force() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.write("m.wz", "mine");
    dir.wz(&["compress", "m"]).fails(&["m.wz already exists; -f replaces it"]);
    assert_eq!(dir.read("m.wz"), b"mine");
    dir.wz(&["compress", "m", "-f"]).ok();
    dir.write("m", "changed");
    dir.wz(&["decompress", "m.wz"]).fails(&["m already exists"]);
    assert_eq!(dir.read("m"), b"changed");
    dir.wz(&["decompress", "m.wz", "-f"]).ok();
    assert!(dir.read("m") == model());
}

#[test]
fn a_wz_is_compressed_again_only_with_force() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.wz(&["compress", "m"]).ok();
    let first = dir.read("m.wz");
    dir.wz(&["compress", "m.wz"]).fails(&["m.wz: already a .wz; use -f"]);
    assert_eq!(
        dir.wz_with_stdin(&["compress", "-"], first.clone()).fails(&["already a .wz"]).stdout,
        b""
    );
    dir.wz(&["compress", "m.wz", "-f"]).ok();
    fs::remove_file(dir.path("m.wz")).unwrap();
    dir.wz(&["decompress", "m.wz.wz"]).ok();
    assert!(dir.read("m.wz") == first);
}

#[test]
fn decompress_wants_the_suffix_or_a_name() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.wz(&["compress", "m", "-o", "packed"]).ok();
    dir.wz(&["decompress", "packed"]).fails(&["packed: the name doesn't end in .wz", "-o"]);
    dir.wz(&["decompress", "packed", "-o", "back"]).ok();
    assert!(dir.read("back") == model());
}

#[test]
fn the_target_is_never_a_folder_a_device_or_the_source() {
    let dir = Scratch::new();
    dir.write("m", model());
    fs::create_dir_all(dir.path("folder/m.wz")).unwrap();
    dir.wz(&["compress", "m", "-f", "-o", "folder"]).fails(&["folder/m.wz is a folder"]);
    dir.wz_with_stdin(&["compress", "-", "-o", "folder"], model())
        .fails(&["folder is a folder, and what comes from stdin has no name"]);
    dir.wz(&["compress", "m", "-f", "-o", "m"]).fails(&["same file"]);
    dir.wz(&["compress", "m", "-o", "nowhere/m.wz"]).fails(&["nowhere"]);
    #[cfg(unix)]
    dir.wz(&["compress", "m", "-f", "-o", "/dev/null"]).fails(&["/dev/null is not a regular file"]);
    assert!(dir.read("m") == model());
}

#[test]
fn a_folder_takes_results_under_their_usual_names() {
    let dir = Scratch::new();
    dir.write("a/m.safetensors", model());
    dir.write("n.safetensors", other_model());
    dir.wz(&["compress", "a/m.safetensors", "n.safetensors", "-o", "new/folder/"]).ok();
    assert_eq!(dir.names("new/folder"), ["m.safetensors.wz", "n.safetensors.wz"]);
    fs::create_dir(dir.path("back")).unwrap();
    dir.wz(&["decompress", "new/folder/m.safetensors.wz", "-o", "back"]).ok();
    assert!(dir.read("back/m.safetensors") == model());
    dir.wz(&["cat", "new/folder/m.safetensors.wz", "a.weight", "-o", "back"]).ok();
    assert_eq!(dir.names("back"), ["a.weight.bin", "m.safetensors"]);
    // A folder by itself becomes what is named; with others it goes in, too.
    dir.wz(&["compress", "a", "-o", "back2/"]).ok();
    dir.wz(&["compress", "a", "n.safetensors", "-o", "both/"]).ok();
    assert_eq!(dir.names("back2"), ["m.safetensors.wz"]);
    assert_eq!(dir.names("both"), ["a.wz/", "a.wz/m.safetensors.wz", "n.safetensors.wz"]);
    for args in [
        &["compress", "a/m.safetensors", "n.safetensors", "-o", "x"][..],
        &["compress", "a/m.safetensors", "back/m.safetensors", "-o", "x/", "-f"],
    ] {
        assert_eq!(dir.wz(args).code, Some(2), "{args:?}");
    }
    assert!(!dir.exists("x"));
}

#[test]
fn urls_are_refused_with_what_to_do() {
    let dir = Scratch::new();
    dir.write("m", model());
    for args in [
        &["compress", "s3://bucket/m.safetensors"][..],
        &["compress", "m", "-o", "https://host/m.wz"],
        &["compress", "m", "--base", "hf://owner/name"],
        &["decompress", "s3://bucket/m.wz"],
        &["verify", "s3://bucket/m.wz"],
        &["inspect", "s3://bucket/m.wz"],
        &["cat", "s3://bucket/m.wz", "w"],
        &["rebase", "s3://bucket/m.wz"],
        &["bench", "s3://bucket/m"],
        &["chain", "add", "s3://bucket/run", "m"],
        &["tune", "s3://bucket/m", "--eval", "true"],
    ] {
        let run = dir.wz(args);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("curl -L URL | wz compress -"), "{args:?}: {}", run.stderr);
    }
    assert_eq!(dir.names(""), ["m"]);
}

#[test]
fn rm_removes_the_source_when_the_result_reads_back() {
    let dir = Scratch::new();
    dir.write("m", model());
    let run = dir.wz(&["compress", "m", "--rm", "--json"]).ok();
    assert_eq!(run.json()["files"][0]["removed"], true);
    assert_eq!(dir.names(""), ["m.wz"]);
    let run = dir.wz(&["decompress", "m.wz", "--rm"]).ok();
    assert!(run.stderr.contains("read back from disk, removed"), "{}", run.stderr);
    assert_eq!(dir.names(""), ["m"]);
    assert!(dir.read("m") == model());
}

#[test]
fn rm_is_refused_where_others_reach_the_file() {
    let dir = Scratch::new();
    dir.write("models--x--y/blobs/m", model());
    dir.write(".cache/huggingface/m", model());
    let mut refused =
        vec![("models--x--y/blobs/m", "model cache"), (".cache/huggingface/m", "model cache")];
    #[cfg(unix)]
    {
        dir.write("twice", model());
        fs::hard_link(dir.path("twice"), dir.path("again")).unwrap();
        std::os::unix::fs::symlink("twice", dir.path("link")).unwrap();
        refused.extend([("twice", "hard link"), ("link", "a link")]);
    }
    for (name, why) in refused {
        dir.wz(&["compress", name, "--rm"]).fails(&[name, why]);
        assert!(dir.exists(name) && !dir.exists(&format!("{name}.wz")), "{name}");
        dir.wz(&["compress", name, "-f", "-o", "elsewhere.wz"]).ok();
    }
}

#[test]
fn verify_checks_the_original() {
    let dir = Scratch::new();
    dir.write("m", "hello\n");
    dir.wz(&["compress", "m", "--sha256"]).ok();
    let right = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    dir.wz(&["verify", "m.wz", "--sha256", right]).ok();
    dir.wz(&["verify", "m.wz", "--sha256", &right.to_uppercase()]).ok();
    let wrong = right.replace('5', "6");
    dir.wz(&["verify", "m.wz", "--sha256", &wrong]).fails(&["m.wz", right]);
    let inspected = dir.wz(&["inspect", "m.wz", "--json"]).ok().json();
    assert_eq!(inspected["archive"]["sha256"], right);
    // A file without a stored SHA-256 has one all the same.
    dir.wz(&["compress", "m", "-f"]).ok();
    dir.wz(&["verify", "m.wz", "--sha256", right]).ok();
    dir.wz(&["verify", "m"]).fails(&["m: "]);
    assert_eq!(dir.names(""), ["m", "m.wz"]);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let dir = Scratch::new();
    dir.write("a", noise(10));
    for args in [
        &["compress"][..],
        &["compress", "a", "b", "-o", "c"],
        &["compress", "a", "--level", "nine"],
        &["compress", "-", "a"],
        &["compress", "-", "--rm"],
        &["compress", "a", "-o", "-", "--rm"],
        &["compress", "-", "--json"],
        &["compress", "a", "--in-place", "-o", "b"],
        &["verify", "a", "--sha256", "12"],
        &["verify", "a", "b", "--sha256", &"0".repeat(64)],
        &["cat", "a", "t", "--rows", "5:2"],
        &["bench", "a", "--threads", "0"],
        &["paint"],
        &[],
    ] {
        let run = dir.wz(args);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty(), "{args:?}");
    }
    assert_eq!(dir.names(""), ["a"]);
}

#[test]
fn quiet_says_nothing() {
    let dir = Scratch::new();
    dir.write("m", model());
    let run = dir.wz(&["compress", "m", "-q"]).ok();
    assert_eq!((run.stdout.len(), run.stderr.as_str()), (0, ""));
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_read_if_the_result_is_named() {
    let dir = Scratch::new();
    let pipe = dir.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    dir.wz(&["compress", "pipe"]).fails(&["pipe: not a regular file", "-o"]);
    // Nobody writes to it: whoever opened it would wait.
    dir.wz(&["inspect", "pipe"]).fails(&["pipe: not a regular file", "write it to a file first"]);
    dir.wz(&["cat", "pipe", "a.weight"]).fails(&["pipe: not a regular file"]);
    dir.wz(&["verify", "pipe"]).fails(&["pipe: a named pipe; use `wz verify - < PIPE`"]);
    let writer = std::thread::spawn(move || fs::write(pipe, model()));
    dir.wz(&["compress", "pipe", "-o", "m.wz"]).ok();
    writer.join().unwrap().unwrap();
    dir.wz(&["decompress", "m.wz"]).ok();
    assert!(dir.read("m") == model());
}

#[cfg(unix)]
#[test]
fn closed_stdin_and_stdout_are_no_files() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.wz(&["compress", "m"]).ok();
    let shell = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, crate::common::WZ]).current_dir(dir.path(""));
        crate::common::Run::of(script, command.output().unwrap())
    };
    shell("\"$0\" compress m -o - >&-").fails(&["m: stdout is closed"]);
    shell("\"$0\" decompress m.wz -o - >&-").fails(&["m.wz: stdout is closed"]);
    shell("\"$0\" compress - -o n.wz <&-").fails(&["stdin: stdin is closed"]);
    shell("\"$0\" verify - <&-").fails(&["stdin: stdin is closed"]);
    assert!(!dir.exists("n.wz"));
    shell("\"$0\" compress m -o - <>/dev/null >&0").ok();
    shell("\"$0\" compress - -o empty.wz </dev/null").ok();
}

#[test]
fn more_threads_than_help_are_not_started() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.wz(&["compress", "m", "--threads", "1", "-o", "one"]).ok();
    let run = dir.wz(&["compress", "m", "--threads", "5000", "-o", "many"]).ok();
    assert!(run.stderr.contains("wz: --threads 5000: more than "), "{}", run.stderr);
    assert!(dir.read("one") == dir.read("many"));
}

#[cfg(unix)]
#[test]
fn a_name_that_gets_too_long_is_refused_before_the_work() {
    let dir = Scratch::new();
    let name = "m".repeat(255);
    dir.write(&name, model());
    dir.wz(&["compress", &name]).fails(&["the name is too long; write to another one"]);
    dir.wz(&["compress", &name, "-o", "m.wz"]).ok();
    dir.write(&format!("repo/{name}.safetensors").replacen(&"m".repeat(12), "", 1), model());
    dir.wz(&["compress", "repo"]).fails(&["the name is too long"]);
}

#[cfg(unix)]
#[test]
fn what_replaces_a_file_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Scratch::new();
    let target = dir.write("m.wz", "old");
    fs::set_permissions(&target, PermissionsExt::from_mode(0o600)).unwrap();
    dir.wz_with_stdin(&["compress", "-", "-f", "-o", "m.wz"], model()).ok();
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o600);
}
