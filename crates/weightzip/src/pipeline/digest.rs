//! Hashes of the original: of the whole, and of each span.

use super::stages::{Stage, Timers};
use crate::container::directory::Hash;
use crate::container::segment::Segment;
use crate::record::RecordLayout;
use sha2::{Digest as _, Sha256};

/// Bytes from which on a hash is worth several threads.
const TREE_BYTES: usize = 256 << 10;

/// Some bytes of a segment, behind one another.
pub(super) struct Run<'a> {
    pub(super) segment: &'a Segment,
    pub(super) bytes: usize,
    /// Whether the segment starts or ends here.
    pub(super) starts: bool,
    pub(super) ends: bool,
}

/// A segment's spans as they turned out: lengths, and hashes of those that are whole.
pub(super) type SpanHashes = (Vec<u64>, Vec<Hash>);

/// Fed with the original in order.
pub(super) struct Digest {
    whole: blake3::Hasher,
    sha256: Option<Sha256>,
    spans: Spans,
}

impl Digest {
    pub(super) fn new(sha256: bool) -> Self {
        Self { whole: blake3::Hasher::new(), sha256: sha256.then(Sha256::new), spans: Spans::new() }
    }

    /// Hashes `data`, which the runs make up; says what is known of segments that end. With
    /// `in_pool`, on the pool that this is called in.
    pub(super) fn feed<'a>(
        &mut self,
        data: &[u8],
        runs: impl Iterator<Item = Run<'a>> + Send,
        ended: &mut Vec<SpanHashes>,
        in_pool: bool,
        timers: &Timers,
    ) {
        // What a thread does while it waits for others would count as hashing.
        let tree = in_pool && !timers.are_on();
        let Self { whole, sha256, spans } = self;
        let mut whole = || timers.time(Stage::Hash, || update(whole, data, tree));
        let spans = || timers.time(Stage::Hash, || spans.feed(data, runs, tree, ended));
        let mut sha256 = || {
            let update = || sha256.iter_mut().for_each(|s| s.update(data));
            timers.time(Stage::Hash, update);
        };
        if in_pool {
            rayon::join(whole, || rayon::join(spans, sha256));
        } else {
            whole();
            spans();
            sha256();
        }
    }

    /// BLAKE3 and SHA-256 of everything.
    pub(super) fn finish(self) -> ([u8; 32], Option<[u8; 32]>) {
        (*self.whole.finalize().as_bytes(), self.sha256.map(|s| s.finalize().into()))
    }
}

/// Hashes of spans, one after another.
struct Spans {
    /// The segment in work, and how many of its bytes were seen.
    segment: Segment,
    seen: u64,
    hasher: blake3::Hasher,
    /// Bytes of the current span that are still to come.
    left: u64,
    hashes: Vec<Hash>,
}

impl Spans {
    fn new() -> Self {
        Self {
            segment: Segment {
                layout: RecordLayout::opaque(),
                row: 0,
                spans: Vec::new(),
                base: Vec::new(),
            },
            seen: 0,
            hasher: blake3::Hasher::new(),
            left: 0,
            hashes: Vec::new(),
        }
    }

    fn feed<'a>(
        &mut self,
        mut data: &[u8],
        runs: impl Iterator<Item = Run<'a>>,
        tree: bool,
        ended: &mut Vec<SpanHashes>,
    ) {
        for run in runs {
            if run.starts {
                self.begin(run.segment);
            }
            let (now, later) = data.split_at(run.bytes);
            self.update(now, tree);
            data = later;
            if run.ends {
                self.hasher.reset();
                let spans = self.segment.clip(self.seen).unwrap_or_default().0;
                ended.push((spans, std::mem::take(&mut self.hashes)));
            }
        }
    }

    fn begin(&mut self, segment: &Segment) {
        self.segment.clone_from(segment);
        self.seen = 0;
        self.left = segment.spans.first().copied().unwrap_or(0);
        self.close();
    }

    /// Closes the current span if it is complete, and empty ones behind it.
    fn close(&mut self) {
        while self.left == 0 && self.hashes.len() < self.segment.spans.len() {
            self.hashes.push(*self.hasher.finalize().as_bytes());
            self.hasher.reset();
            self.left = self.segment.spans.get(self.hashes.len()).copied().unwrap_or(0);
        }
    }

    fn update(&mut self, mut data: &[u8], tree: bool) {
        self.seen += data.len() as u64;
        while !data.is_empty() && self.left > 0 {
            let part = data.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (now, later) = data.split_at(part);
            update(&mut self.hasher, now, tree);
            self.left -= part as u64;
            self.close();
            data = later;
        }
    }
}

fn update(hasher: &mut blake3::Hasher, data: &[u8], tree: bool) {
    if tree && data.len() >= TREE_BYTES {
        hasher.update_rayon(data);
    } else {
        hasher.update(data);
    }
}
