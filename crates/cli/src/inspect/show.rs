//! One file's inspection as lines.

use super::look::{ArchiveInfo, GroupRow, Inspection, TensorRow};
use super::role;
use super::tensors::{self, Found};
use crate::args::List;
use crate::screen::Screen;
use crate::table::{self, Align};
use crate::{base, escape, human};
use std::cmp::Reverse;

impl Inspection {
    /// `file` is its name, safe to print.
    pub(super) fn lines(&self, file: &str, list: &List, screen: Screen) -> Vec<String> {
        let mut out = vec![format!(
            "{file}: {}, {} {}, {}, {} {} ({})",
            self.format,
            self.tensors.len(),
            if self.tensors.len() == 1 { "tensor" } else { "tensors" },
            human::bytes(self.bytes),
            if self.estimated { "compressed about" } else { "compressed" },
            human::bytes(self.compressed),
            human::percent(self.ratio)
        )];
        if let Some(archive) = &self.archive {
            out.extend(archive.lines());
        }
        let found: Vec<_> = self.found().collect();
        out.extend(tensors::lines(&found, list, self.estimated, screen));
        if self.tensors.len() > 1 {
            out.extend(role::lines(&self.roles, self.estimated, screen));
        }
        out.extend(self.loss_lines(list, screen));
        if !self.byte_groups.is_empty() {
            out.push(String::new());
            out.push(format!(
                "compressibility group: {}",
                self.group.unwrap_or("none of the paper's")
            ));
            out.push(
                "zstd with byte grouping (arXiv 2404.15198, Table II), from a sample:".to_owned(),
            );
            out.extend(self.group_lines(screen));
        }
        out
    }

    /// Its tensors, for a table.
    pub(super) fn found(&self) -> impl Iterator<Item = Found<'_>> {
        self.tensors.iter().map(|tensor| Found { file: &self.file, tensor })
    }

    /// What rounding did, of a near-lossless file: to the tensors with the most noise, if there are many.
    fn loss_lines(&self, list: &List, screen: Screen) -> Vec<String> {
        let mut losses: Vec<_> = self
            .tensors
            .iter()
            .filter_map(|tensor| Some((tensor, tensor.loss.as_ref()?)))
            .collect();
        if losses.is_empty() {
            return Vec::new();
        }
        let count = losses.len();
        let mut out = vec![String::new(), "near-lossless: what rounding did".to_owned()];
        if !list.full && count > table::ROWS {
            losses.sort_by(|(_, a), (_, b)| a.noise().total_cmp(&b.noise()).reverse());
            losses.truncate(table::ROWS);
        }
        let heading = [
            ("tensor", Align::Left),
            ("bound", Align::Left),
            ("max abs", Align::Right),
            ("max rel", Align::Right),
            ("signal to noise", Align::Right),
        ];
        let row = |(tensor, loss): &(&TensorRow, &crate::lossy::LossRow)| {
            let [bound, max_abs, max_rel, snr] = loss.cells();
            [table::name(&tensor.name), bound, max_abs, max_rel, snr]
        };
        let rows: Vec<_> = losses.iter().map(row).collect();
        out.extend(table::lines(heading, &rows, screen));
        if rows.len() < count {
            out.push(format!(
                "the {} of {count} tensors with the most noise; --table full lists all",
                rows.len()
            ));
        }
        out
    }

    fn group_lines(&self, screen: Screen) -> Vec<String> {
        let heading = [
            ("dtype", Align::Left),
            ("tensors", Align::Right),
            ("size", Align::Right),
            ("remains", Align::Right),
            ("group", Align::Left),
            ("per byte group, top byte first", Align::Left),
        ];
        let percent = |r: f64| human::percent(Some(r));
        let row = |g: &GroupRow| {
            let parts: Vec<_> = g.groups.iter().map(|x| percent(*x)).collect();
            [
                g.dtype.to_owned(),
                g.tensors.to_string(),
                human::bytes(g.bytes),
                percent(g.remains),
                g.group.unwrap_or("-").to_owned(),
                parts.join(", "),
            ]
        };
        let rows: Vec<_> = self.byte_groups.iter().map(row).collect();
        table::lines(heading, &rows, screen)
    }

    /// Its format and its dtypes, the one with the most bytes first.
    pub(super) fn kind(&self) -> String {
        let mut groups: Vec<_> = self.byte_groups.iter().map(|g| (g.bytes, g.dtype)).collect();
        groups.sort_by_key(|(bytes, _)| Reverse(*bytes));
        let dtypes: Vec<_> = groups.into_iter().map(|(_, dtype)| dtype).collect();
        format!("{} {}", self.format, dtypes.join(", ")).trim_end().to_owned()
    }
}

impl ArchiveInfo {
    fn lines(&self) -> Vec<String> {
        let mut out = vec![
            format!("writer   {}", escape::text(&self.writer)),
            format!("version  {}", self.wire_version),
            format!("level    {}", escape::text(&self.level)),
            format!("blake3   {}", self.blake3),
        ];
        out.extend(self.sha256.iter().map(|h| format!("sha256   {h}")));
        if let Some(lossy) = &self.lossy {
            out.push(format!("lossy    {}", lossy.line()));
            out.push(format!("source   blake3 {}", lossy.source_blake3));
        }
        out.extend(base::lines(&self.needs));
        out
    }
}
