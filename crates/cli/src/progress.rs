//! The progress bar: on a terminal's stderr, and nowhere else.

use crate::args::Ui;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

const KNOWN: &str =
    "[{bar:25}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} ETA {eta} {wide_msg}";
const STEPS: &str = "[{bar:25}] {pos}/{len} {prefix} {elapsed} ETA {eta} {wide_msg}";
const UNKNOWN: &str = "{spinner} {decimal_bytes} {decimal_bytes_per_sec} {wide_msg}";

/// Counts bytes, and draws if someone is watching; gone when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar for `total` bytes; without a total only the count and the speed are known.
    pub(crate) fn new(ui: Ui, message: String, total: Option<u64>) -> Self {
        let target =
            if ui.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(total, target).with_message(message);
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        Self(match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    /// A bar for about so many steps that take long; `what` they are.
    pub(crate) fn of_steps(ui: Ui, what: &'static str, total: usize) -> Self {
        let target =
            if ui.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target).with_prefix(what);
        let bar = match ProgressStyle::with_template(STEPS) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        // It ticks by a thread of its own, or where none can be started at each step.
        if std::thread::Builder::new().spawn(|| {}).is_ok() {
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        Self(bar)
    }

    /// A step is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
        // There may be more than was thought.
        self.0.set_length(self.0.length().unwrap_or(0).max(self.0.position()));
    }

    /// What the library calls as it goes.
    pub(crate) fn callback(&self) -> weightzip::Progress {
        let bar = self.0.clone();
        Arc::new(move |bytes| bar.inc(bytes))
    }

    /// Counts what is read through it.
    pub(crate) fn reading<R: Read>(&self, inner: R) -> impl Read {
        Counted { inner, bar: self.0.clone() }
    }

    /// Says something while the bar is out of the way.
    pub(crate) fn pause<T>(&self, say: impl FnOnce() -> T) -> T {
        self.0.suspend(say)
    }

    /// Says what is going on.
    pub(crate) fn message(&self, message: String) {
        self.0.set_message(message);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

struct Counted<R> {
    inner: R,
    bar: ProgressBar,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.bar.inc(n as u64);
        Ok(n)
    }
}
