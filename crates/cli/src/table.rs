//! Tables for people: columns as wide as they must be.

/// How a column is set.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Lines of a table with a heading; cells are already safe to print.
pub(crate) fn lines<const N: usize>(
    heading: [(&str, Align); N],
    rows: &[[String; N]],
) -> Vec<String> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].0.chars().count()]).max().unwrap_or(0)
    });
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = widths[column];
            line += &match heading[column].1 {
                Align::Left => format!("{cell:<width$}  "),
                Align::Right => format!("{cell:>width$}  "),
            };
        }
        line.trim_end().to_owned()
    };
    let mut out = vec![line(heading.map(|(name, _)| name))];
    out.extend(rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str()))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["größer".to_owned(), "1000".to_owned()]];
        let lines = lines([("name", Align::Left), ("bytes", Align::Right)], &rows);
        assert_eq!(lines, ["name    bytes", "a           1", "größer   1000"]);
    }
}
