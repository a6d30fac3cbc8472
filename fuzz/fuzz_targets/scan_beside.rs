//! Files that are described by bytes beside them: data of an ONNX model, a graph or a tensor; and distributed
//! checkpoints. The spans cover the file, and it comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs::{self, File};
use std::sync::LazyLock;
use tempfile::TempDir;
use weightzip::{Archive, DecodeOptions, Options};
use weightzip_fuzz::arrange::{field, onnx, zip};
use weightzip_fuzz::check_cover;

/// Data that no format is found in.
const DATA: [u8; 4096] = [0x3C; 4096];

/// The pickle of a tensor of 32 numbers.
const TENSOR: &[u8] = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nBFloat16Storage\nX\x01\0\0\00\
X\x03\0\0\0cpuK tQK\0(K t(K\x01t\x89ccollections\nOrderedDict\n)RtR.";

/// Two of them, whose metadata are among the seeds.
static CHECKPOINT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let archive = zip(&[("a/data.pkl", TENSOR), ("a/data/0", &[7; 64])]);
    [&archive[..], &archive].concat()
});

fuzz_target!(|bytes: &[u8]| {
    check("data.bin", &DATA, "model.onnx", bytes);
    check("data.bin", &DATA, "model.onnx", &onnx(bytes));
    check("data.bin", &DATA, "model.onnx", &onnx(&field(0x2A, bytes)));
    check("a.distcp", &CHECKPOINT, ".metadata", bytes);
});

/// Looks at a file with another one beside it, compresses it as it was found, and restores it.
fn check(name: &str, file: &[u8], beside: &str, told: &[u8]) {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder"));
    let [path, other] = [name, beside].map(|name| FOLDER.path().join(name));
    fs::write(&path, file).expect("a file");
    fs::write(&other, told).expect("another file");
    let opened = File::open(&path).expect("a file");
    let layout = weightzip::scan_file(&path, &opened).expect("files can be read");
    fs::remove_file(&other).expect("it is there");
    check_cover(&layout.spans, file.len() as u64);

    let tensors = layout.spans.iter().filter(|span| span.tensor.is_some()).count() as u64;
    let options = Options { threads: 1, layout: Some(layout), ..Options::default() };
    let (mut wz, mut restored) = (Vec::new(), Vec::new());
    let summary = weightzip::compress(file, &mut wz, &options).expect("any file compresses");
    assert_eq!(summary.tensors, tensors);
    let options = DecodeOptions { threads: 1, ..DecodeOptions::default() };
    weightzip::decompress(wz.as_slice(), &mut restored, &options).expect("own files decompress");
    assert!(restored == file, "the restored file differs");
    let layout = Archive::open(&wz[..]).expect("own files open").layout();
    check_cover(&layout.expect("own files can be read").spans, file.len() as u64);
}
