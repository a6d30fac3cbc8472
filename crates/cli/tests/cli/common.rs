//! A scratch folder, small model files, and `wz` in it.

use assert_cmd::Command;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Where the program under test is.
pub(crate) const WZ: &str = env!("CARGO_BIN_EXE_wz");

/// A folder that is gone after the test.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, and the folders it is in.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    /// Every name under a folder, sorted; folders end in a slash.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let root = self.path(folder);
        let mut names = Vec::new();
        list(&root, &root, &mut names);
        names.sort();
        names
    }

    /// `wz` with these arguments, run here.
    pub(crate) fn wz(&self, args: &[&str]) -> Run {
        self.wz_with_stdin(args, Vec::new())
    }

    pub(crate) fn wz_with_stdin(&self, args: &[&str], stdin: Vec<u8>) -> Run {
        let output = Command::new(WZ)
            .args(args)
            .current_dir(self.0.path())
            .write_stdin(stdin)
            .output()
            .unwrap();
        Run::of(&args.join(" "), output)
    }
}

fn list(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            names.push(name + "/");
            list(root, &entry.path(), names);
        } else {
            names.push(name);
        }
    }
}

/// What a run of `wz` did.
pub(crate) struct Run {
    args: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    /// What came of a command, which is called `args` if it fails.
    pub(crate) fn of(args: &str, output: std::process::Output) -> Self {
        Self {
            args: args.to_owned(),
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails the test unless the run went well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "wz {}: {}", self.args, self.stderr);
        self
    }

    /// Fails the test unless the run failed, and said all of `words` on stderr.
    pub(crate) fn fails(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "wz {}: {}", self.args, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "wz {}: no {word:?} in {}", self.args, self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("wz {}: {e}", self.args))
    }

    /// The run as a reader of the terminal sees it; what differs from run to run or with every change
    /// of the codec is replaced.
    pub(crate) fn shown(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout);
        format!(
            "$ wz {}\nexit code {:?}\n-- stdout\n{stdout}-- stderr\n{}",
            self.args,
            self.code.unwrap(),
            self.stderr
        )
    }
}

/// Compares with the stored snapshot.
#[macro_export]
macro_rules! snapshot {
    ($name:expr, $shown:expr) => {
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            filters => vec![
                (r"\b[0-9a-f]{64}\b", "[HASH]"),
                (r"\b\d+(\.\d+)? [GM]B/s", "[SPEED]"),
                (r#""seconds":[0-9.e-]+"#, r#""seconds":[TIME]"#),
                (r#""(compressed|ratio|remains)":[0-9.]+"#, r#""$1":[SIZE]"#),
                (r#""groups":\[[0-9.,]+\]"#, r#""groups":[SIZES]"#),
                (r"[0-9.]+ (bytes|kB) -> [0-9.]+ (bytes|kB)", "[SIZE] -> [SIZE]"),
                (r"compressed( about)? [0-9.]+ (bytes|kB)", "compressed$1 [SIZE]"),
                (r"(bytes|kB) +[0-9.]+ (bytes|kB) +([0-9.]+ %|nothing)", "$1 [SIZE]  $3"),
                (r"\([0-9.]+ %", "([RATIO]"),
                (r" *\b[0-9.]+ %", " [RATIO]"),
                (r"\b0\.\d+\.\d+\b", "[VERSION]"),
                (r"version  \d+\.\d+", "version  [WIRE]"),
                (r#""wire_version":"[0-9.]+""#, r#""wire_version":"[WIRE]""#),
            ],
        }, { insta::assert_snapshot!($name, $shown) });
    };
}

/// A tensor of a test model.
pub(crate) struct Tensor<'a>(
    pub(crate) &'a str,
    pub(crate) &'a str,
    pub(crate) &'a [u64],
    pub(crate) Vec<u8>,
);

/// A safetensors file.
pub(crate) fn safetensors(tensors: &[Tensor<'_>]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for Tensor(name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

/// Bytes that don't compress.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len).map(next).collect()
}

/// BF16 values that look like weights: a few exponents, random mantissas.
pub(crate) fn bf16(count: usize) -> Vec<u8> {
    let mut bytes = noise(count * 2);
    for value in bytes.chunks_exact_mut(2) {
        value[1] = 0x3c | value[1] & 0x81;
    }
    bytes
}

/// A model with a large tensor, a small one, a constant, a single value and an empty one.
pub(crate) fn model() -> Vec<u8> {
    safetensors(&[
        Tensor("a.weight", "BF16", &[128, 256], bf16(128 * 256)),
        Tensor("b.bias", "F32", &[16], noise(64)),
        Tensor("c.zeros", "BF16", &[64, 64], vec![0; 8192]),
        Tensor("d.step", "I64", &[], 20u64.to_le_bytes().to_vec()),
        Tensor("e.none", "F32", &[0, 4], Vec::new()),
    ])
}

/// Another model, with other bytes.
pub(crate) fn other_model() -> Vec<u8> {
    safetensors(&[Tensor("x", "BF16", &[64, 32], bf16(4096)[4096..].to_vec())])
}

/// A time that no file gets by chance.
pub(crate) fn past() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_000_000)
}

pub(crate) fn set_modified(path: &Path) {
    fs::File::open(path).unwrap().set_times(fs::FileTimes::new().set_modified(past())).unwrap();
}

pub(crate) fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}
