//! Where the time goes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Busy time of each stage, all threads together: with one thread they add up to the whole.
/// A stage that the direction doesn't have is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Reading the input.
    pub read: Duration,
    /// Coding blocks, with their checksums.
    pub encode: Duration,
    /// Decoding them again and comparing.
    pub check: Duration,
    /// Decoding blocks, with their checksums.
    pub decode: Duration,
    /// Hashes of the whole and of each tensor.
    pub hash: Duration,
    /// Writing the output.
    pub write: Duration,
    /// Bringing it to disk, for a caller who does: zero here.
    pub sync: Duration,
}

impl Stages {
    /// The stages that took time, in the order in which data pass them.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let all = [
            ("read", self.read),
            ("encode", self.encode),
            ("check", self.check),
            ("decode", self.decode),
            ("hash", self.hash),
            ("write", self.write),
            ("sync", self.sync),
        ];
        all.into_iter().filter(|(_, time)| !time.is_zero())
    }
}

#[derive(Clone, Copy)]
pub(super) enum Stage {
    Read,
    Encode,
    Check,
    Decode,
    Hash,
    Write,
}

/// Measures stages, or does nothing.
pub(super) struct Timers {
    nanos: Option<[AtomicU64; 6]>,
}

impl Timers {
    pub(super) fn new(on: bool) -> Self {
        Self { nanos: on.then(Default::default) }
    }

    pub(super) fn are_on(&self) -> bool {
        self.nanos.is_some()
    }

    /// Does `work`, as part of a stage.
    pub(super) fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let Some(nanos) = &self.nanos else {
            return work();
        };
        let start = Instant::now();
        let done = work();
        let passed = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        nanos[stage as usize].fetch_add(passed, Relaxed);
        done
    }

    pub(super) fn stages(&self) -> Option<Box<Stages>> {
        let nanos = self.nanos.as_ref()?;
        let of = |stage: Stage| Duration::from_nanos(nanos[stage as usize].load(Relaxed));
        Some(Box::new(Stages {
            read: of(Stage::Read),
            encode: of(Stage::Encode),
            check: of(Stage::Check),
            decode: of(Stage::Decode),
            hash: of(Stage::Hash),
            write: of(Stage::Write),
            sync: Duration::ZERO,
        }))
    }
}
