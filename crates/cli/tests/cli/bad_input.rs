//! Input that is broken, empty or extreme: the identical file, or one clear line and nothing left behind.

use crate::common::{Run, Scratch, Tensor, model, noise, safetensors};

/// One line on stderr, which names the file.
fn one_line(run: &Run, name: &str) {
    let line = run.stderr.trim_end();
    assert!(line.starts_with(&format!("wz: {name}: ")) && !line.contains('\n'), "{line}");
}

fn round_trip(name: &str, bytes: &[u8]) -> Run {
    let dir = Scratch::new();
    dir.write("in", bytes);
    let run = dir.wz(&["compress", "in"]).ok();
    dir.wz(&["decompress", "in.wz", "-o", "out"]).ok();
    assert!(dir.read("out") == bytes, "{name}");
    dir.wz(&["verify", "in.wz"]).ok();
    dir.wz(&["inspect", "in"]).ok();
    dir.wz(&["inspect", "in.wz"]).ok();
    run
}

#[test]
fn any_file_comes_back() {
    let valid = model();
    let header_only = safetensors(&[]);
    let mut broken_header = valid.clone();
    broken_header[20] = b'!';
    let mut junk_behind = valid.clone();
    junk_behind.extend(b"junk");
    let files: [(&str, &[u8]); 9] = [
        ("empty", b""),
        ("one byte", b"x"),
        ("no tensors", &header_only),
        ("broken header", &broken_header),
        ("junk behind", &junk_behind),
        ("cut in the header", &valid[..50]),
        ("cut in the data", &valid[..valid.len() / 2]),
        ("huge header length", &[255; 64]),
        ("text", b"no model at all\n"),
    ];
    for (name, bytes) in files {
        round_trip(name, bytes);
    }
}

#[test]
fn a_broken_model_is_kept_as_bytes_with_a_warning() {
    let mut broken = model();
    let end = broken.len() - 1;
    broken.truncate(end);
    let run = round_trip("cut", &broken);
    assert!(run.stderr.contains("in: warning: "), "{}", run.stderr);
}

#[test]
fn extreme_values_of_every_dtype_come_back() {
    let dtypes = [
        ("F64", 8),
        ("F32", 4),
        ("BF16", 2),
        ("F16", 2),
        ("F8_E4M3", 1),
        ("F8_E5M2", 1),
        ("I64", 8),
        ("U64", 8),
        ("I32", 4),
        ("U32", 4),
        ("I16", 2),
        ("U16", 2),
        ("I8", 1),
        ("U8", 1),
        ("BOOL", 1),
    ];
    // Zeros of both signs, denormals, infinities, quiet and signalling NaNs with payloads, all ones.
    let tops = [0x00, 0x80, 0x7f, 0xff, 0x3f, 0x7e, 0x01];
    let lows = [0x00, 0x01, 0x80, 0xc0, 0xf0, 0xff];
    let tensors: Vec<_> = dtypes
        .iter()
        .map(|&(dtype, width)| {
            let mut bytes = Vec::new();
            for top in tops {
                for next in lows {
                    for low in lows {
                        let mut value = vec![low; width];
                        if width > 1 {
                            value[width - 2] = next;
                        }
                        value[width - 1] = top;
                        bytes.extend(value);
                    }
                }
            }
            (dtype, width, bytes)
        })
        .collect();
    let shapes: Vec<_> =
        tensors.iter().map(|(_, width, bytes)| [(bytes.len() / width) as u64]).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .zip(&shapes)
        .map(|((dtype, _, bytes), shape)| Tensor(dtype, dtype, shape, bytes.clone()))
        .collect();
    let run = round_trip("extremes", &safetensors(&tensors));
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
}

#[test]
fn a_cut_wz_is_refused_and_leaves_nothing() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.wz(&["compress", "m", "-o", "whole"]).ok();
    let whole = dir.read("whole");
    let cuts = [0, 1, 7, 16, 40, whole.len() / 2, whole.len() - 9, whole.len() - 1];
    for cut in cuts {
        dir.write("cut.wz", &whole[..cut]);
        let run = dir.wz(&["decompress", "cut.wz"]).fails(&[]);
        one_line(&run, "cut.wz");
        one_line(&dir.wz(&["verify", "cut.wz"]).fails(&[]), "cut.wz");
        assert_eq!(dir.names(""), ["cut.wz", "m", "whole"], "{cut}");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let dir = Scratch::new();
    dir.write("m", model());
    dir.wz(&["compress", "m", "-o", "whole"]).ok();
    let whole = dir.read("whole");
    let mut refused = 0;
    for at in (0..whole.len()).step_by(whole.len() / 23) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        dir.write("flipped.wz", &bytes);
        let run = dir.wz(&["decompress", "flipped.wz", "-f", "--json"]);
        if run.code == Some(0) {
            assert!(dir.read("flipped") == model(), "{at}");
            std::fs::remove_file(dir.path("flipped")).unwrap();
            continue;
        }
        refused += 1;
        let run = run.fails(&[]);
        one_line(&run, "flipped.wz");
        let error = &run.json()["files"][0]["error"];
        // A file whose first bytes are wrong is no .wz at all: an invalid argument.
        let kinds = ["corruption", "insufficient_data", "compatibility", "invalid_argument"];
        assert!(kinds.contains(&error["kind"].as_str().unwrap()), "{error}");
        assert_eq!(dir.names(""), ["flipped.wz", "m", "whole"], "{at}");
    }
    assert!(refused > 15, "{refused}");
}

#[test]
fn damage_is_told_with_its_place() {
    let dir = Scratch::new();
    dir.write("m", safetensors(&[Tensor("only", "U8", &[4096], noise(4096))]));
    dir.wz(&["compress", "m"]).ok();
    let mut bytes = dir.read("m.wz");
    // The tensor is noise, so its bytes are in the file as they are.
    let needle = &noise(4096)[1000..1016];
    let at = bytes.windows(16).position(|w| w == needle).unwrap();
    bytes[at] ^= 4;
    dir.write("m.wz", bytes);
    let run =
        dir.wz(&["verify", "m.wz", "--json"]).fails(&["m.wz: corrupt", "at byte", "\"only\""]);
    let error = &run.json()["files"][0]["error"];
    assert_eq!((&error["kind"], &error["tensor"]), (&"corruption".into(), &"only".into()));
    assert!(error["offset"].is_u64(), "{error}");
    dir.wz(&["cat", "m.wz", "only"]).fails(&["m.wz: corrupt", "\"only\""]);
}

#[test]
fn what_is_no_wz_is_refused() {
    let dir = Scratch::new();
    for (name, bytes) in [
        ("text.wz", &b"hello, this is some text\n"[..]),
        ("zero.wz", &[0; 100]),
        ("model.wz", &model()),
    ] {
        dir.write(name, bytes);
        one_line(&dir.wz(&["decompress", name]).fails(&[]), name);
        one_line(&dir.wz(&["verify", name]).fails(&[]), name);
        one_line(&dir.wz(&["cat", name, "x"]).fails(&[]), name);
    }
    assert_eq!(dir.names(""), ["model.wz", "text.wz", "zero.wz"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing() {
    let dir = Scratch::new();
    dir.write("m", noise(1 << 20));
    dir.wz(&["compress", "m", "-o", "ok.wz"]).ok();
    let sh = |script: &str| {
        let script = script.replace("wz", crate::common::WZ);
        std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(dir.path(""))
            .output()
            .unwrap()
    };
    let full = sh("wz compress m -o - > /dev/full");
    assert_eq!(full.status.code(), Some(1));
    let said = String::from_utf8(full.stderr).unwrap();
    assert!(said.starts_with("wz: m: ") && said.contains("free some space"), "{said}");
    // A file size limit is the nearest to a full disk that needs no privileges.
    for command in ["compress m", "decompress ok_file -o back"] {
        std::fs::copy(dir.path("ok.wz"), dir.path("ok_file")).unwrap();
        let limited = sh(&format!("trap '' XFSZ; ulimit -f 100; wz {command}"));
        assert_eq!(limited.status.code(), Some(1), "{command}");
        assert!(limited.stderr.starts_with(b"wz: "), "{command}");
        assert_eq!(dir.names(""), ["m", "ok.wz", "ok_file"], "{command}");
    }
}

/// The reader of stdout is slow, so the source can be changed in the middle.
#[cfg(unix)]
#[test]
fn a_source_that_shrinks_is_told() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    let dir = Scratch::new();
    let source = dir.write("m", noise(64 << 20));
    let mut child = Command::new(crate::common::WZ)
        .args(["compress", "m", "-o", "-", "--threads", "1"])
        .current_dir(dir.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    std::fs::File::options().write(true).open(source).unwrap().set_len(60 << 20).unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with("wz: m: changed while it was read")
    );
}
