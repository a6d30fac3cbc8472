//! The demo's words and tables, for a terminal of 80 columns.

use super::{Class, Report};
use crate::human;
use crate::screen::Screen;
use crate::table::{self, Align::Left, Align::Right};
use std::fmt::Display;
use std::io::{Result, Write};

/// One line about something that was done.
pub(super) fn step(out: &mut impl Write, name: &str, what: &str) -> Result<()> {
    writeln!(out, "  {name:<12}{what}")
}

/// Sizes by tensor class, and of the whole file.
pub(super) fn classes(out: &mut impl Write, classes: &[Class]) -> Result<()> {
    let whole = Class {
        name: "whole file",
        tensors: classes.iter().map(|class| class.tensors).sum(),
        before: classes.iter().map(|class| class.before).sum(),
        after: classes.iter().map(|class| class.after).sum(),
    };
    let cells = |class: &Class| {
        let ratio = human::percent(human::ratio(class.after, class.before));
        let Class { name, tensors, before, after } = class;
        [name.to_string(), count(tensors), count(before), count(after), ratio]
    };
    let rows: Vec<_> = classes.iter().chain([&whole]).map(cells).collect();
    let heading = [
        ("tensor class", Left),
        ("tensors", Right),
        ("bytes", Right),
        ("compressed", Right),
        ("ratio", Right),
    ];
    writeln!(out)?;
    table(out, table::lines(heading, &rows, Screen::default()))
}

/// Heads the next table before its figures are there: measuring takes seconds.
pub(super) fn measuring(out: &mut impl Write) -> Result<()> {
    writeln!(out, "\n  whole file in memory, one thread, best of 3, GB/s of original data:")?;
    out.flush()
}

/// Sizes and speeds by codec.
pub(super) fn codecs(out: &mut impl Write, report: &Report) -> Result<()> {
    let speed = |gbps: f64| format!("{gbps:.3}");
    let mut rows: Vec<_> = report
        .codecs
        .iter()
        .map(|codec| {
            let figures = &codec.figures;
            let ratio = human::percent(Some(figures.ratio));
            let (encode, decode) = (speed(figures.compress_gbps), speed(figures.decompress_gbps));
            [codec.name.to_owned(), count(figures.compressed), ratio, encode, decode]
        })
        .collect();
    let memcpy = speed(report.memcpy_gbps);
    rows.push([
        "memcpy".to_owned(),
        count(report.bytes),
        human::percent(Some(1.0)),
        memcpy.clone(),
        memcpy,
    ]);
    let heading =
        [("", Left), ("bytes", Right), ("ratio", Right), ("encode", Right), ("decode", Right)];
    table(out, table::lines(heading, &rows, Screen::default()))
}

/// What the tables' words mean.
pub(super) fn notes(out: &mut impl Write) -> Result<()> {
    writeln!(out, "\n  grouped: byte 0 of all elements together, then byte 1, and so on")?;
    writeln!(out, "  zlib is zlib-rs; weightzip's figures include its index, checksums and hashes")
}

fn table(out: &mut impl Write, lines: Vec<String>) -> Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

/// A whole number with commas: 1,047,232.
pub(super) fn count(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        let expected = [(0, "0"), (999, "999"), (1000, "1,000"), (1_047_232, "1,047,232")];
        for (number, text) in expected {
            assert_eq!(count(number), text);
        }
    }
}
