//! Files whose numbers somebody has to tell: `--dtype`.

use crate::common::{Scratch, Tensor, bf16, model, safetensors};

#[test]
fn a_dump_is_as_small_as_a_model() {
    let dir = Scratch::new();
    let data = bf16(300_000);
    dir.write("dump", &data);
    dir.write("m", safetensors(&[Tensor("w", "BF16", &[300_000], data.clone())]));
    dir.wz(&["compress", "m"]).ok();
    dir.wz(&["compress", "dump", "--dtype", "bf16"]).ok();
    let (dump, model) = (dir.read("dump.wz"), dir.read("m.wz"));
    assert!(dump.len() < model.len() + data.len() / 1000, "{} {}", dump.len(), model.len());
    let piped = dir.wz_with_stdin(&["compress", "-", "--dtype", "BF16"], data.clone()).ok().stdout;
    let to_stdout = dir.wz(&["compress", "dump", "-o", "-", "--dtype", "bf16"]).ok().stdout;
    assert!(dump == piped && dump == to_stdout);
    assert!(dir.wz(&["decompress", "dump.wz", "-o", "-"]).ok().stdout == data);

    let dry = dir.wz(&["compress", "--dry-run", "--json", "dump", "--dtype", "bf16"]).ok().json();
    let estimate = &dry["files"][0]["estimate"];
    assert_eq!(estimate["dtypes"], serde_json::json!(["BF16"]));
    let near = |bytes: &serde_json::Value| {
        let bytes = bytes.as_f64().unwrap();
        (bytes - dump.len() as f64).abs() < 0.01 * data.len() as f64
    };
    assert!(near(&estimate["compressed"]), "{dry}");
    let inspected = dir.wz(&["inspect", "dump", "--dtype", "bf16", "--json"]).ok().json();
    assert!(near(&inspected["compressed"]), "{inspected}");
}

#[test]
fn what_says_what_its_numbers_are_is_refused() {
    let dir = Scratch::new();
    dir.write("model.safetensors", model());
    dir.write("dump", bf16(3000));
    dir.write("folder/dump.bin", bf16(3000));
    let before = dir.names("");
    let says = ["model.safetensors", "safetensors, which says what its numbers are"];
    for args in [
        &["compress", "model.safetensors", "--dtype", "bf16"][..],
        &["compress", "model.safetensors", "--dtype", "bf16", "--dry-run"],
        &["inspect", "model.safetensors", "--dtype", "bf16"],
    ] {
        dir.wz(args).fails(&says);
    }
    dir.wz_with_stdin(&["compress", "-", "--dtype", "bf16"], model()).fails(&says[1..]);
    dir.wz(&["compress", "folder", "--dtype", "bf16"]).fails(&["--dtype is for files"]);
    let run = dir.wz(&["compress", "dump", "--dtype", "float"]);
    assert!(run.code == Some(2) && run.stderr.contains("bf16"), "{}", run.stderr);
    assert_eq!(dir.names(""), before);
    dir.wz(&["compress", "dump"]).ok();
    dir.wz(&["inspect", "dump.wz", "--dtype", "bf16"]).fails(&["a .wz says"]);
}
