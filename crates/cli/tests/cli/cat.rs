//! `wz cat`.

use crate::common::{Scratch, Tensor, WZ, bf16, model, noise, safetensors};
use std::io::Read;
use std::process::{Command, Stdio};

fn packed(file: &[u8]) -> Scratch {
    let dir = Scratch::new();
    dir.write("m", file);
    dir.wz(&["compress", "m"]).ok();
    dir
}

#[test]
fn a_tensor_and_its_rows_are_written_as_they_are() {
    let dir = packed(&model());
    let whole = bf16(128 * 256);
    let row = 512;
    for (args, wanted) in [
        (&["a.weight"][..], &whole[..]),
        (&["a.weight", "--rows", "3:7"], &whole[3 * row..7 * row]),
        (&["a.weight", "--rows", "127:"], &whole[127 * row..]),
        (&["a.weight", "--rows", ":2"], &whole[..2 * row]),
        (&["a.weight", "--rows", "5:5"], &[]),
        (&["b.bias"], &noise(64)),
        (&["b.bias", "--rows", "1:3"], &noise(64)[4..12]),
        (&["d.step"], &[20, 0, 0, 0, 0, 0, 0, 0]),
        (&["e.none"], &[]),
    ] {
        let run = dir.wz(&[&["cat", "m.wz"], args].concat()).ok();
        assert!(run.stdout == wanted, "{args:?}");
        assert_eq!(run.stderr, "", "{args:?}");
    }
    dir.wz(&["cat", "m.wz", "a.weight", "-o", "raw"]).ok();
    assert!(dir.read("raw") == whole);
    dir.wz(&["cat", "m.wz", "a.weight", "-o", "raw"]).fails(&["raw already exists"]);
}

#[test]
fn a_wrong_name_or_row_points_to_inspect() {
    let dir = packed(&model());
    for args in [&["nope"][..], &["a.weight", "--rows", "3:200"], &["d.step", "--rows", "0:1"]] {
        let run = dir.wz(&[&["cat", "m.wz"], args].concat()).fails(&["m.wz: ", "`wz inspect`"]);
        assert_eq!(run.stdout, b"", "{args:?}");
    }
    for (name, near) in [("a.weights", "near it: a.weight\n"), ("zeros", "near it: c.zeros\n")] {
        dir.wz(&["cat", "m.wz", name]).fails(&["there is no tensor ", near]);
    }
    dir.wz(&["cat", "m", "a.weight"]).fails(&["m: "]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = packed(&safetensors(&[Tensor("big", "U8", &[1 << 20], noise(1 << 20))]));
    for args in [
        &["cat", "m.wz", "big"][..],
        &["decompress", "m.wz", "-o", "-"],
        &["compress", "m", "-o", "-"],
    ] {
        let mut child = Command::new(WZ)
            .args(args)
            .current_dir(dir.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 100]).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(output.stderr, b"", "{args:?}");
    }
}
