//! Names that come from files, made safe to print.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What stands for what was cut out.
const CUT: char = '…';

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

/// A name, made safe and cut in the middle to so many columns. Takes no memory for what is cut.
pub(crate) fn name(name: &str, columns: usize) -> String {
    let is_long = name.chars().nth(2 * columns).is_some();
    // Each escape is longer than what it stands for, so more than this is never shown.
    let kept = if is_long { Cow::Owned(halves(name, columns, |_| 1)) } else { Cow::Borrowed(name) };
    shortened(&text(&kept), columns).into_owned()
}

/// `text`, which is safe to print, cut in the middle to so many columns.
pub(crate) fn shortened(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    Cow::Owned(halves(text, columns, |c| c.width().unwrap_or(0)))
}

/// The columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The beginning and the end of a text, that are `columns` wide with the sign between them.
fn halves(text: &str, columns: usize, width: impl Fn(char) -> usize) -> String {
    let columns = columns.saturating_sub(1);
    let fitting = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut left = room;
        let fits = |c: &char| {
            let rest = left.checked_sub(width(*c));
            left = rest.unwrap_or(0);
            rest.is_some()
        };
        chars.take_while(fits).collect::<Vec<_>>()
    };
    let end = fitting(&mut text.chars().rev(), columns / 2);
    let start = fitting(&mut text.chars(), columns - columns / 2);
    start.into_iter().chain([CUT]).chain(end.into_iter().rev()).collect()
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

    #[test]
    fn names_are_cut_in_the_middle() {
        assert_eq!(name("model.layers.0.q_proj.weight", 28), "model.layers.0.q_proj.weight");
        assert_eq!(name("model.layers.0.q_proj.weight", 15), "model.l….weight");
        assert_eq!(name("模型模型模型", 6), "模…型");
        assert_eq!(name("abc", 0), "…");
        for long in ["n", "\u{1b}", "型", "\u{301}"] {
            let cut = name(&long.repeat(100_000), 200);
            assert!(width(&cut) <= 200 && cut.len() < 1000, "{long:?}: {}", cut.len());
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_text_are_shown() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        assert_eq!(path(Path::new(OsStr::from_bytes(b"a\xff\x1b.bin"))), "a\\xff\\u{1b}.bin");
    }
}
