//! Size against score: as text, and as a picture.

use crate::table::{self, Align};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use weightzip::lossy::tune::{Found, Options, Trial};

/// Characters of the plot in a terminal, without its frame.
const COLUMNS: usize = 60;
const ROWS: usize = 14;

/// Scores that are worse by more than so many tolerances are drawn at the edge.
const FAR: f64 = 8.0;

/// What is drawn: sizes in percent of the original, and scores.
pub(crate) struct Plot {
    points: Vec<Point>,
    size: (f64, f64),
    score: (f64, f64),
    original: f64,
    /// The worst score within tolerance.
    limit: f64,
}

#[derive(Clone, Copy)]
struct Point {
    size: f64,
    score: f64,
    within: bool,
    best: bool,
}

impl Plot {
    /// `bytes` of the original.
    pub(crate) fn of(found: &Found, options: &Options, bytes: u64) -> Option<Self> {
        let original = found.trials.first()?.measured.score;
        let limit = options.limit(original);
        let tolerance = limit - original;
        let far = original + tolerance * FAR;
        let point = |(place, trial): (usize, &Trial)| {
            let score = Some(trial.measured.score).filter(|score| score.is_finite())?;
            let is_far = tolerance != 0.0 && (score - original) / tolerance > FAR;
            Some(Point {
                size: trial.measured.bytes as f64 / bytes.max(1) as f64 * 100.0,
                score: if is_far { far } else { score },
                within: trial.within,
                best: found.best == Some(place),
            })
        };
        let points: Vec<Point> = found.trials.iter().enumerate().filter_map(point).collect();
        let sizes = points.iter().map(|p| p.size);
        let scores = points.iter().map(|p| p.score).chain([original, limit]);
        let (size, score) = (range(sizes)?, range(scores)?);
        Some(Self { points, size, score, original, limit })
    }

    /// Lines for a terminal.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut cells = vec![[' '; COLUMNS]; ROWS];
        let row = |score| ROWS - 1 - place(score, self.score, ROWS);
        cells[row(self.limit)].fill('-');
        // What matters most comes last.
        let mut points = self.points.clone();
        points.sort_by_key(|p| (p.best, p.within));
        for p in points {
            let sign = if p.best {
                '*'
            } else if p.within {
                'o'
            } else {
                'x'
            };
            cells[row(p.score)][place(p.size, self.size, COLUMNS)] = sign;
        }
        let (low, high) = (number(self.score.0), number(self.score.1));
        let width = low.len().max(high.len());
        let labelled = |label: &str| {
            let mut line = String::new();
            table::push(&mut line, label, width, Align::Right);
            line
        };
        let mut lines = Vec::new();
        for (number, cells) in cells.iter().enumerate() {
            let label = match number {
                0 => high.as_str(),
                _ if number == ROWS - 1 => low.as_str(),
                _ => "",
            };
            let cells: String = cells.iter().collect();
            lines.push(labelled(label) + " |" + cells.trim_end());
        }
        let (left, right) = (format!("{:.1} %", self.size.0), format!("{:.1} %", self.size.1));
        lines.push(labelled("score") + " +" + &"-".repeat(COLUMNS));
        let gap = COLUMNS.saturating_sub(left.len() + right.len());
        lines.push(labelled("") + "  " + &left + &" ".repeat(gap) + &right);
        lines.push("o within, x outside the tolerance (the line), * the result".to_owned());
        lines
    }

    /// An SVG.
    pub(crate) fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|e| anyhow!("can't draw the plot: {e}"))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let area = SVGBackend::with_string(svg, (800, 500)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(self.size.0..self.size.1, self.score.0..self.score.1)?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("size, % of the original").y_desc("score").light_line_style(WHITE).draw()?;
        for (score, color) in [(self.original, BLACK), (self.limit, RED)] {
            let line = [(self.size.0, score), (self.size.1, score)];
            chart.draw_series(LineSeries::new(line, color.mix(0.6)))?;
        }
        for p in &self.points {
            let (color, radius) = match (p.best, p.within) {
                (true, _) => (GREEN, 7),
                (_, true) => (BLUE, 4),
                _ => (RED, 4),
            };
            chart.draw_series([Circle::new((p.size, p.score), radius, color.filled())])?;
        }
        area.present()?;
        Ok(())
    }
}

/// A score, in few characters however large it is.
fn number(score: f64) -> String {
    if score.abs() < 1e6 { format!("{score:.5}") } else { format!("{score:.5e}") }
}

/// From the least to the most, with some room.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (least, most) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| (least.min(v), most.max(v)));
    let room = ((most - least) * 0.05).max(most.abs() * 1e-6).max(1e-9);
    (least <= most).then_some((least - room, most + room))
}

/// The cell of a value.
fn place(value: f64, (least, most): (f64, f64), cells: usize) -> usize {
    let part = ((value - least) / (most - least)).clamp(0.0, 1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to cells")]
    let cell = (part * cells as f64) as usize;
    cell.min(cells - 1)
}
