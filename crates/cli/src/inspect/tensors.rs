//! The table of tensors: all of them, the first ones, or one row for those that are alike.

use super::look::TensorRow;
use crate::args::{List, Sort};
use crate::human;
use crate::screen::Screen;
use crate::table::{self, Align};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;

/// A row: a tensor, or tensors of one shape whose names differ in numbers.
struct Row<'a> {
    name: Cow<'a, str>,
    file: &'a str,
    tensors: usize,
    dtype: &'static str,
    shape: &'a [u64],
    bytes: u64,
    compressed: u64,
    codings: Vec<&'static str>,
}

/// Columns of a terminal that has room for codings.
const WIDE: usize = 100;

/// A tensor and the file that it is in.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) file: &'a str,
    pub(super) tensor: &'a TensorRow,
}

/// Lines of the table, and one about what is not in it.
pub(super) fn lines(
    found: &[Found<'_>],
    list: &List,
    is_estimated: bool,
    screen: Screen,
) -> Vec<String> {
    if found.is_empty() {
        return Vec::new();
    }
    let is_short = !list.full && list.top.is_none() && found.len() > table::ROWS;
    let mut rows: Vec<_> = match is_short {
        true => grouped(found),
        false => found.iter().map(|found| Row::of(*found)).collect(),
    };
    sort(&mut rows, list.sort.or(list.top.map(|_| Sort::Size)));
    let count = rows.len();
    if let Some(top) = list.top {
        rows.truncate(top);
    }
    if is_short && count > table::ROWS {
        keep_largest(&mut rows);
    }
    let mut lines = vec![String::new()];
    let second = match (is_short, list.top) {
        (true, _) => Second::Count,
        (_, Some(_)) if found.iter().any(|other| other.file != found[0].file) => Second::File,
        _ => Second::Nothing,
    };
    lines.extend(shown(&rows, second, is_estimated, screen));
    let (all, told): (_, usize) = (found.len(), rows.iter().map(|row| row.tensors).sum());
    if told < all {
        lines.push(format!("{told} of {all} tensors; --table full lists all"));
    } else if is_short {
        lines.push(format!(
            "{all} tensors: a row has those of one shape whose names differ in numbers; --table full lists each"
        ));
    }
    lines
}

impl<'a> Row<'a> {
    fn of(Found { file, tensor }: Found<'a>) -> Self {
        Self {
            name: Cow::Borrowed(&tensor.name),
            file,
            tensors: 1,
            dtype: tensor.dtype,
            shape: &tensor.shape,
            bytes: tensor.bytes,
            compressed: tensor.compressed,
            codings: tensor.codings.clone(),
        }
    }

    fn ratio(&self) -> Option<f64> {
        human::ratio(self.compressed, self.bytes)
    }
}

/// A row for tensors of one shape whose names differ in numbers only, where the first of them is.
fn grouped<'a>(found: &[Found<'a>]) -> Vec<Row<'a>> {
    let mut places: HashMap<(String, &str, &[u64]), usize> = HashMap::new();
    let mut rows: Vec<Row<'a>> = Vec::new();
    for Found { file, tensor } in found {
        let pattern = pattern(&tensor.name);
        let key = (pattern, tensor.dtype, tensor.shape.as_slice());
        if let Some(row) = places.get(&key).and_then(|place| rows.get_mut(*place)) {
            row.name = Cow::Owned(key.0);
            row.tensors += 1;
            row.bytes += tensor.bytes;
            row.compressed += tensor.compressed;
            let more: Vec<_> =
                tensor.codings.iter().filter(|c| !row.codings.contains(c)).copied().collect();
            row.codings.extend(more);
        } else {
            places.insert(key, rows.len());
            rows.push(Row::of(Found { file, tensor }));
        }
    }
    rows
}

/// A name with each number in it that stands alone as `*`: `layers.*.q_proj.weight`.
fn pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for part in name.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let number = part.trim_end_matches(|c: char| !c.is_alphanumeric());
        match !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
            true => pattern.extend(["*", &part[number.len()..]]),
            false => pattern.push_str(part),
        }
    }
    pattern
}

fn sort(rows: &mut [Row<'_>], by: Option<Sort>) {
    match by {
        None => {}
        Some(Sort::Size) => rows.sort_by_key(|row| Reverse(row.bytes)),
        Some(Sort::Name) => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        Some(Sort::Ratio) => {
            // What is empty has none, and comes last.
            let ratio = |row: &Row<'_>| row.ratio().unwrap_or(f64::INFINITY);
            rows.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        }
    }
}

/// Leaves the largest rows, as many as a table has, in their order.
fn keep_largest(rows: &mut Vec<Row<'_>>) {
    let mut sizes: Vec<_> = rows.iter().map(|row| row.bytes).collect();
    sizes.sort_by_key(|bytes| Reverse(*bytes));
    let Some(least) = sizes.get(table::ROWS - 1).copied() else { return };
    // Of those that are as small as the smallest that is left, the first ones.
    let mut equal = sizes.iter().take(table::ROWS).filter(|bytes| **bytes == least).count();
    rows.retain(|row| {
        let is_equal = row.bytes == least && equal > 0;
        equal -= usize::from(is_equal);
        row.bytes > least || is_equal
    });
}

/// What the second column has.
#[derive(Clone, Copy)]
enum Second {
    Nothing,
    Count,
    File,
}

fn shown(rows: &[Row<'_>], second: Second, is_estimated: bool, screen: Screen) -> Vec<String> {
    // Names need the columns more.
    let has_codings = screen.width.is_none_or(|width| width >= WIDE);
    let (ratio, coding) = if is_estimated { ("~ratio", "~coding") } else { ("ratio", "coding") };
    let coding = if has_codings { coding } else { "" };
    let [tensor, dtype, shape] =
        [("tensor", Align::Left), ("dtype", Align::Left), ("shape", Align::Left)];
    let [size, ratio, coding] =
        [("size", Align::Right), (ratio, Align::Right), (coding, Align::Left)];
    let cells = rows.iter().map(|row| {
        let shape: Vec<_> = row.shape.iter().map(u64::to_string).collect();
        let coding = match row.codings.as_slice() {
            _ if !has_codings => String::new(),
            [] => "-".to_owned(),
            codings => codings.join("+"),
        };
        [
            table::name(&row.name),
            row.dtype.to_owned(),
            format!("[{}]", shape.join(", ")),
            human::bytes(row.bytes),
            human::percent(row.ratio()),
            coding,
        ]
    });
    let with = |heading, cell: fn(&Row<'_>) -> String| {
        let cells =
            cells.clone().zip(rows).map(|([a, b, c, d, e, f], row)| [a, cell(row), b, c, d, e, f]);
        let heading = [tensor, heading, dtype, shape, size, ratio, coding];
        table::lines(heading, &cells.collect::<Vec<_>>(), screen)
    };
    match second {
        Second::Nothing => {
            let heading = [tensor, dtype, shape, size, ratio, coding];
            table::lines(heading, &cells.collect::<Vec<_>>(), screen)
        }
        Second::Count => with(("count", Align::Right), |row| row.tensors.to_string()),
        Second::File => with(("file", Align::Left), |row| table::name(row.file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_layers_become_stars() {
        for (name, expected) in [
            ("model.layers.11.q_proj.weight", "model.layers.*.q_proj.weight"),
            ("layer_19.kernel", "layer_*.kernel"),
            ("h.0.ln_1.weight", "h.*.ln_*.weight"),
            ("fc1.weight", "fc1.weight"),
            ("7", "*"),
            ("größe.3", "größe.*"),
            ("", ""),
        ] {
            assert_eq!(pattern(name), expected);
        }
    }
}
