//! The golden vectors in spec/vectors: made here, read by every decoder.
//!
//! `WEIGHTZIP_UPDATE_VECTORS=1 cargo test -p weightzip vectors` writes them anew, for a change of
//! the format's version. Without it the committed files are read, and must be those listed here.

mod bases;
mod error;
mod fields;
mod fixed;
mod frames;
mod guess;
mod losses;
mod ok;
mod palette;
mod parts;
mod ranges;
mod repeats;
mod scaled;
mod steps;

use crate::{
    Archive, Base, DecodeOptions, FrameOptions, Kind, decompress, decompress_frame_into, frame_len,
};
use std::path::PathBuf;

/// A file or frame that every decoder restores, or refuses with `kind`.
#[derive(Clone)]
struct Vector {
    name: &'static str,
    shows: &'static str,
    wz: Vec<u8>,
    outcome: Result<Vec<u8>, Kind>,
    is_frame: bool,
    /// The files among the vectors that have its bases.
    bases: &'static [&'static str],
}

impl Vector {
    /// Its place among the vectors.
    fn file(&self) -> String {
        let folder = if self.outcome.is_ok() { "ok" } else { "error" };
        let suffix = if self.is_frame { "frame" } else { "wz" };
        format!("{folder}/{}.{suffix}", self.name)
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn manifest(vectors: &[Vector]) -> String {
    use sha2::Digest;
    let hex = |bytes: &[u8]| {
        sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let line = |v: &Vector| {
        let expected = match &v.outcome {
            Ok(original) => serde_json::json!({"bytes": original.len(), "sha256": hex(original)}),
            // Of all that can be wrong with what is given, these have one thing.
            Err(Kind::InvalidArgument) => serde_json::json!({"error": "base not found"}),
            Err(kind) => serde_json::json!({"error": kind.to_string()}),
        };
        let mut line =
            serde_json::json!({"file": v.file(), "shows": v.shows, "expected": expected});
        if !v.bases.is_empty() {
            line["bases"] = v.bases.into();
        }
        line.to_string()
    };
    format!("[\n{}\n]\n", vectors.iter().map(line).collect::<Vec<_>>().join(",\n"))
}

fn check_frame(vector: &Vector, frame: &[u8]) {
    let decoded = frame_len(frame).and_then(|len| {
        let mut out = vec![0; len as usize];
        let options = FrameOptions { threads: 1, ..FrameOptions::default() };
        decompress_frame_into(frame, &mut out, &options).map(|()| out)
    });
    let decoded = decoded.map_err(|e| e.kind());
    assert!(decoded == vector.outcome, "{}: {:?}", vector.name, decoded.map(|d| d.len()));
}

fn check(vector: &Vector, wz: &[u8]) {
    let mut restored = Vec::new();
    let mut base = Base::new();
    for file in vector.bases {
        base.add(file, std::fs::read(folder().join(file)).unwrap()).unwrap();
    }
    let options = DecodeOptions { threads: 1, base, ..DecodeOptions::default() };
    let streamed = decompress(wz, &mut restored, &options);
    let read = Archive::open_with(wz, options).and_then(|archive| {
        let mut all = vec![0; archive.info().original_bytes as usize];
        archive.read_at(0, &mut all).map(|()| all)
    });
    match &vector.outcome {
        Ok(original) => {
            streamed.unwrap_or_else(|e| panic!("{}: {e}", vector.name));
            assert!(restored == *original, "{}", vector.name);
            assert!(
                read.unwrap_or_else(|e| panic!("{}: {e}", vector.name)) == *original,
                "{}",
                vector.name
            );
        }
        Err(kind) => {
            let error = streamed.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), *kind, "{}: {error}", vector.name);
            // What only a pass over the whole file can see, an archive that reads bytes does not.
            let whole_only = ["wrong_hash", "wrong_tensor_hash", "bases_unused"];
            assert_eq!(read.is_ok(), whole_only.contains(&vector.name), "{}", vector.name);
        }
    }
}

#[test]
fn golden_vectors_are_restored_or_refused() {
    let vectors = [
        ok::vectors(),
        ranges::ok(),
        ranges::bytes::ok(),
        ranges::packed::ok(),
        frames::ok(),
        bases::ok(),
        steps::ok(),
        losses::ok(),
        fixed::ok(),
        fields::ok(),
        guess::ok(),
        palette::ok(),
        repeats::ok(),
        scaled::ok(),
        error::vectors(),
        ranges::errors(),
        ranges::bytes::errors(),
        ranges::packed::errors(),
        frames::errors(),
        bases::errors(),
        steps::errors(),
        losses::errors(),
        fixed::errors(),
        fields::errors(),
        guess::errors(),
        palette::errors(),
        repeats::errors(),
        scaled::errors(),
    ]
    .concat();
    let manifest = manifest(&vectors);
    if std::env::var_os("WEIGHTZIP_UPDATE_VECTORS").is_some() {
        let _ = std::fs::remove_dir_all(folder());
        for v in &vectors {
            let path = folder().join(v.file());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &v.wz).unwrap();
        }
        std::fs::write(folder().join("MANIFEST.json"), &manifest).unwrap();
    }
    let committed = std::fs::read_to_string(folder().join("MANIFEST.json")).unwrap();
    assert_eq!(committed, manifest, "the vectors changed: see the head of this file");
    for v in &vectors {
        let wz = std::fs::read(folder().join(v.file())).unwrap();
        if v.is_frame { check_frame(v, &wz) } else { check(v, &wz) }
    }
}
