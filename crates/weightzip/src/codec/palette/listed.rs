//! Palettes that are lists: the values of a block, or of each of its rows.

use super::CODES;
use std::collections::HashMap;

/// Values that are not more than so many of the elements that they are for.
const RARE: usize = 8;

/// Tables of as many entries for each run, and a code per element.
pub(super) struct Lists {
    pub(super) run: usize,
    pub(super) tables: Vec<u32>,
    pub(super) codes: Vec<u8>,
}

impl Lists {
    /// One list for all elements, or one for each row; `None` if there are too many values.
    pub(super) fn of(row: usize, elements: &[u32]) -> Option<Self> {
        let whole = || Self::of_runs(elements.len(), elements);
        whole().or_else(|| Self::of_runs(Some(row).filter(|row| *row > 0)?, elements))
    }

    fn of_runs(run: usize, elements: &[u32]) -> Option<Self> {
        let most = CODES.min(run / RARE);
        let lists: Option<Vec<_>> = elements.chunks(run).map(|run| values(run, most)).collect();
        let lists = lists?;
        let per_run = lists.iter().map(Vec::len).max().filter(|most| *most > 0)?;
        let (mut tables, mut codes) = (Vec::new(), Vec::with_capacity(elements.len()));
        for (list, run) in lists.iter().zip(elements.chunks(run)) {
            let code_of: HashMap<u32, u8> = list.iter().copied().zip(0..=u8::MAX).collect();
            codes.extend(run.iter().map(|value| code_of[value]));
            tables.extend(list);
            tables.resize(tables.len() + per_run - list.len(), *list.last()?);
        }
        Some(Self { run, tables, codes })
    }
}

/// The values of a run, in order, if there are no more than `most`.
fn values(run: &[u32], most: usize) -> Option<Vec<u32>> {
    let mut found: Vec<u32> = Vec::new();
    for &value in run {
        if let Err(at) = found.binary_search(&value) {
            if found.len() == most {
                return None;
            }
            found.insert(at, value);
        }
    }
    Some(found)
}
