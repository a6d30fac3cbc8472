//! Paths on the command line: files and folders of this machine, and nothing else.

use clap::builder::{PathBufValueParser, TypedValueParser};
use std::path::PathBuf;

/// Reads a path; a URL is refused with what to do instead.
pub(crate) fn local() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path: PathBuf| match is_url(&path) {
        true => Err(
            "a URL, and wz reads and writes local files only: download it first, or pipe it, as in `curl -L URL | wz compress - -o FILE.wz`",
        ),
        false => Ok(path),
    })
}

/// Whether this is meant for a network: `s3://...`, and no path that is there.
fn is_url(path: &std::path::Path) -> bool {
    let Some((scheme, _)) = path.to_str().and_then(|text| text.split_once("://")) else {
        return false;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    is_scheme && !path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn urls_are_told_from_paths() {
        for url in ["s3://bucket/m.safetensors", "https://host/m", "hf://o/n", "file:///m"] {
            assert!(is_url(Path::new(url)), "{url}");
        }
        for path in ["m.safetensors", "a:b", "://x", "a/b://c", "C:\\models", "-"] {
            assert!(!is_url(Path::new(path)), "{path}");
        }
    }
}
