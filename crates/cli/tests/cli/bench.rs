//! `wz bench`.

use crate::common::{Scratch, Tensor, safetensors};

#[test]
fn the_json_has_the_documented_fields() {
    let dir = Scratch::new();
    // Zeros keep the test short: 256 MiB of anything are measured.
    let file = safetensors(&[Tensor("zeros", "BF16", &[1024, 2048], vec![0; 4 << 20])]);
    dir.write("m", &file);
    let run = dir.wz(&["bench", "m", "--runs", "1", "--json"]).ok();
    assert_eq!(run.stderr, "");
    let text = String::from_utf8(run.stdout.clone()).unwrap();
    let keys: Vec<_> = text
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|k| !["default", "scalar", "avx2", "avx512"].contains(k))
        .collect();
    let wanted = [
        "bytes",
        "compressed",
        "ratio",
        "compress_gbps",
        "decompress_gbps",
        "memcpy_gbps",
        "threads",
        "level",
        "simd",
    ];
    assert_eq!(keys, wanted);
    let json = run.json();
    let compressed = json["compressed"].as_u64().unwrap();
    // A file has names and hashes beside the blocks.
    dir.wz(&["compress", "m"]).ok();
    assert!((1..dir.read("m.wz").len() as u64).contains(&compressed));
    assert_eq!(json["bytes"].as_u64(), Some(file.len() as u64));
    let ratio = compressed as f64 / file.len() as f64;
    assert!((json["ratio"].as_f64().unwrap() - ratio).abs() < 1e-4);
    for speed in ["compress_gbps", "decompress_gbps", "memcpy_gbps"] {
        assert!(json[speed].as_f64().unwrap() > 0.0, "{speed}");
    }
    assert_eq!((&json["threads"], &json["level"]), (&1.into(), &"default".into()));
}

#[test]
fn nothing_can_be_measured_with_an_empty_file() {
    let dir = Scratch::new();
    dir.write("empty", "");
    let run = dir.wz(&["bench", "empty", "--json"]).fails(&["empty: empty"]);
    assert_eq!(run.json()["error"]["kind"], "refused");
}
