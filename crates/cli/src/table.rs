//! Tables for people. Nothing that a file says is a width: cells are cut in the middle, to [`WIDEST`] columns and to
//! what the terminal has.

use crate::escape;
use crate::screen::Screen;
use std::iter;

/// How a column is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text, which is cut where the terminal is too narrow.
    Left,
    /// A number, which stays whole.
    Right,
}

/// Columns that a cell takes at most.
const WIDEST: usize = 200;

/// Columns that text keeps on a narrow terminal.
const NARROWEST: usize = 12;

/// Columns between two cells.
const GAP: usize = 2;

/// Rows that a table has if not all were asked for.
pub(crate) const ROWS: usize = 40;

/// A name from a file as a cell: escaped, and no longer than a cell may be.
pub(crate) fn name(text: &str) -> String {
    escape::name(text, WIDEST)
}

/// Lines of a table with a heading; cells are already safe to print.
pub(crate) fn lines<const N: usize>(
    heading: [(&str, Align); N],
    rows: &[[String; N]],
    screen: Screen,
) -> Vec<String> {
    let mut widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| escape::width(&row[column]));
        cells.chain([escape::width(heading[column].0)]).max().unwrap_or(0).min(WIDEST)
    });
    if let Some(width) = screen.width {
        narrow(&mut widths, heading.map(|(_, align)| align), width);
    }
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            push(&mut line, cell, widths[column], heading[column].1);
            line.extend(iter::repeat_n(' ', GAP));
        }
        line.truncate(line.trim_end().len());
        line
    };
    let mut out = vec![screen.heading(&line(heading.map(|(name, _)| name)))];
    out.extend(rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str()))));
    out
}

/// Takes columns from the widest text until a line fits, or no text has any to spare.
fn narrow<const N: usize>(widths: &mut [usize; N], aligns: [Align; N], screen: usize) {
    let gaps = GAP * N.saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > screen {
        let texts = widths.iter_mut().zip(aligns).filter(|(_, align)| *align == Align::Left);
        let widest = texts.map(|(width, _)| width).max_by_key(|width| **width);
        match widest.filter(|width| **width > NARROWEST) {
            Some(width) => *width -= 1,
            None => return,
        }
    }
}

/// Adds a cell of `width` columns to a line.
pub(crate) fn push(line: &mut String, cell: &str, width: usize, align: Align) {
    let cell = escape::shortened(cell, width);
    let space = iter::repeat_n(' ', width.saturating_sub(escape::width(&cell)));
    match align {
        Align::Left => {
            line.push_str(&cell);
            line.extend(space);
        }
        Align::Right => {
            line.extend(space);
            line.push_str(&cell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: [(&str, Align); 2] = [("name", Align::Left), ("bytes", Align::Right)];

    fn rows(names: [&str; 2]) -> [[String; 2]; 2] {
        [[names[0].to_owned(), "1".to_owned()], [names[1].to_owned(), "1000".to_owned()]]
    }

    #[test]
    fn columns_line_up() {
        let lines = lines(HEADING, &rows(["a", "größer"]), Screen::default());
        assert_eq!(lines, ["name    bytes", "a           1", "größer   1000"]);
        let lines = super::lines(HEADING, &rows(["模型", "ab"]), Screen::default());
        assert_eq!(lines, ["name  bytes", "模型      1", "ab     1000"]);
    }

    #[test]
    fn names_are_cut_in_the_middle_to_what_the_terminal_has() {
        let rows = rows(["model.layers.11.self_attn.q_proj.weight", "b"]);
        let at = |width| lines(HEADING, &rows, Screen { width: Some(width), color: false });
        assert_eq!(at(46)[1], "model.layers.11.self_attn.q_proj.weight      1");
        assert_eq!(at(30)[1], "model.layer…proj.weight      1");
        assert!(at(30).iter().all(|line| escape::width(line) <= 30));
        // Too narrow for anything: text keeps a little, numbers stay whole.
        assert_eq!(at(3)[2], "b              1000");
    }

    #[test]
    fn no_cell_is_a_width() {
        let long = "n".repeat(1 << 20);
        let lines = lines(HEADING, &rows([&long, "b"]), Screen::default());
        assert!(lines.iter().all(|line| line.len() <= 2 * WIDEST), "{}", lines[1].len());
    }
}
