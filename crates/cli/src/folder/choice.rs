//! Which files of a folder may hold numbers, by their names and their first bytes. Whether coding them pays is for an
//! estimate to say.

use crate::job;
use crate::walk::Entry;
use anyhow::Result;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Name endings of files that mostly hold numbers: small ones are coded, too, and who asks for a smaller saving gets it.
const MODEL_SUFFIXES: &[&str] = &[
    "bin",
    "ckpt",
    "data",
    "distcp",
    "gguf",
    "h5",
    "hdf5",
    "joblib",
    "keras",
    "msgpack",
    "npy",
    "npz",
    "onnx",
    "onnx_data",
    "pkl",
    "pt",
    "pt2",
    "pth",
    "safetensors",
    "sft",
    "tflite",
    "weights",
];

/// Bytes from which on a file of any name is looked at.
pub(super) const LARGE: u64 = 1 << 20;

/// Bytes by which a text, or a program, is told.
const START: u64 = 4 << 10;

/// Whether compressing a folder looks at what coding this file would save: it has the name of a model, or is large and
/// nothing that programs read as it is.
pub(super) fn may_be_coded(entry: &Entry) -> bool {
    // What can't be read fails when it is copied.
    let is_data = || start(&entry.path).is_ok_and(|start| !is_read_as_it_is(&start));
    is_named(&entry.path) || (entry.metadata.len() >= LARGE && is_data())
}

/// Whether a name is that of a model, or one that restoring would take for a result.
pub(super) fn is_named(name: &Path) -> bool {
    MODEL_SUFFIXES.iter().any(|suffix| has_suffix(name, suffix))
        || job::without_suffix(name).is_some()
}

pub(super) fn has_suffix(name: &Path, suffix: &str) -> bool {
    name.extension().is_some_and(|found| found.eq_ignore_ascii_case(suffix))
}

fn start(path: &Path) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(START).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether a file that starts so is a text, a vocabulary or a program: loaders of compressed folders don't restore these.
fn is_read_as_it_is(start: &[u8]) -> bool {
    const PROGRAMS: [&[u8]; 5] =
        [b"\x7FELF", b"MZ", b"\xCF\xFA\xED\xFE", b"\xCA\xFE\xBA\xBE", b"\0asm"];
    // The first piece of a SentencePiece model is a message of a text such as <unk>.
    let is_vocabulary = matches!(start, [0x0A, _, 0x0A, _, b'<', ..]);
    is_text(start) || is_vocabulary || PROGRAMS.iter().any(|magic| start.starts_with(magic))
}

/// Whether bytes are UTF-8 without control characters; the last character may be cut.
fn is_text(start: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    std::str::from_utf8(start).map_or_else(|e| e.error_len().is_none(), |_| true)
        && !start.iter().any(is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_coded() {
        for name in ["a.safetensors", "a.SAFETENSORS", "a.pt", "notes.wz", "a.safetensors.wz"] {
            assert!(is_named(Path::new(name)), "{name}");
        }
        for name in ["config.json", "model.safetensors.index.json", "wz", ".wz", "safetensors"] {
            assert!(!is_named(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn what_programs_read_stays() {
        let words = "слово ".repeat(1000);
        for start in [
            b"{\"a\": 1}\r\n\t",
            &words.as_bytes()[..4097],
            b"\x0A\x0E\x0A\x05<unk>\x15\0\0\0\0",
            b"\x7FELF\x02\x01\x01\0",
        ] {
            assert!(is_read_as_it_is(start), "{start:?}");
        }
        for start in [&b"GGUF\x03\0\0\0"[..], b"\x89HDF\r\n\x1A\n", b"\x80\x04\x95", &[0xFF; 9]] {
            assert!(!is_read_as_it_is(start), "{start:?}");
        }
    }
}
