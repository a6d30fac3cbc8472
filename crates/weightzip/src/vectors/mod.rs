//! The golden vectors in spec/vectors: made here, read by every decoder.
//!
//! `WEIGHTZIP_UPDATE_VECTORS=1 cargo test -p weightzip vectors` writes them anew, for a change of
//! the format's version. Without it the committed files are read, and must be those listed here.

mod error;
mod ok;

use crate::{Archive, DecodeOptions, Kind, decompress};
use std::path::PathBuf;

/// A file that every decoder restores, or refuses with `kind`.
struct Vector {
    name: &'static str,
    shows: &'static str,
    wz: Vec<u8>,
    outcome: Result<Vec<u8>, Kind>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn manifest(ok: &[Vector], errors: &[Vector]) -> String {
    let line = |folder: &str, v: &Vector| {
        let hex = |bytes: &[u8]| {
            sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        use sha2::Digest;
        let expected = match &v.outcome {
            Ok(original) => serde_json::json!({"bytes": original.len(), "sha256": hex(original)}),
            Err(kind) => serde_json::json!({"error": kind.to_string()}),
        };
        serde_json::json!({"file": format!("{folder}/{}.wz", v.name), "shows": v.shows, "expected": expected}).to_string()
    };
    let lines: Vec<_> =
        ok.iter().map(|v| line("ok", v)).chain(errors.iter().map(|v| line("error", v))).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn check(vector: &Vector, wz: &[u8]) {
    let mut restored = Vec::new();
    let streamed =
        decompress(wz, &mut restored, &DecodeOptions { threads: 1, ..DecodeOptions::default() });
    let read = Archive::open(wz).and_then(|archive| {
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
            let whole_only = ["wrong_hash", "wrong_tensor_hash"];
            assert_eq!(read.is_ok(), whole_only.contains(&vector.name), "{}", vector.name);
        }
    }
}

#[test]
fn golden_vectors_are_restored_or_refused() {
    let (ok, errors) = (ok::vectors(), error::vectors());
    let manifest = manifest(&ok, &errors);
    if std::env::var_os("WEIGHTZIP_UPDATE_VECTORS").is_some() {
        let _ = std::fs::remove_dir_all(folder());
        for (sub, vectors) in [("ok", &ok), ("error", &errors)] {
            std::fs::create_dir_all(folder().join(sub)).unwrap();
            for v in vectors {
                std::fs::write(folder().join(sub).join(v.name).with_extension("wz"), &v.wz)
                    .unwrap();
            }
        }
        std::fs::write(folder().join("MANIFEST.json"), &manifest).unwrap();
    }
    let committed = std::fs::read_to_string(folder().join("MANIFEST.json")).unwrap();
    assert_eq!(committed, manifest, "the vectors changed: see the head of this file");
    for (sub, vectors) in [("ok", &ok), ("error", &errors)] {
        for v in vectors {
            let wz = std::fs::read(folder().join(sub).join(v.name).with_extension("wz")).unwrap();
            check(v, &wz);
        }
    }
}
