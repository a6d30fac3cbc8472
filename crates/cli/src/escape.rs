//! Names that come from files, made safe to print.

use std::fmt::Write;
use std::path::Path;

/// `text` with everything that could steer a terminal or hide in it written as an escape.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}

/// A path, the same way; bytes that are not UTF-8 become `\xNN`.
pub(crate) fn path(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push(&mut out, chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String can't fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn push(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_unsafe(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
}

/// Control characters, and the invisible ones that reorder, join or hide text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_harmless() {
        assert_eq!(
            text("a\u{1b}[31mb\r\n\u{202e}c\u{9b}d"),
            "a\\u{1b}[31mb\\r\\n\\u{202e}c\\u{9b}d"
        );
        assert_eq!(text("Größe/模型.weight"), "Größe/模型.weight");
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_text_are_shown() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        assert_eq!(path(Path::new(OsStr::from_bytes(b"a\xff\x1b.bin"))), "a\\xff\\u{1b}.bin");
    }
}
