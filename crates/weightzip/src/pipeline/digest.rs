//! Hashes of the original: of the whole, and of each span.

use crate::container::directory::Hash;
use crate::container::segment::Segment;
use crate::record::RecordLayout;
use sha2::{Digest as _, Sha256};

/// Fed with the original in order; told where segments begin and end.
pub(super) struct Digest {
    whole: blake3::Hasher,
    sha256: Option<Sha256>,
    bytes: u64,
    /// The segment in work.
    segment: Segment,
    segment_bytes: u64,
    span: blake3::Hasher,
    /// Bytes of the current span that are still to come.
    span_left: u64,
    hashes: Vec<Hash>,
}

impl Digest {
    pub(super) fn new(sha256: bool) -> Self {
        Self {
            whole: blake3::Hasher::new(),
            sha256: sha256.then(Sha256::new),
            bytes: 0,
            segment: Segment { layout: RecordLayout::opaque(), row: 0, spans: Vec::new() },
            segment_bytes: 0,
            span: blake3::Hasher::new(),
            span_left: 0,
            hashes: Vec::new(),
        }
    }

    pub(super) fn begin_segment(&mut self, segment: &Segment) {
        self.segment = segment.clone();
        self.segment_bytes = 0;
        self.hashes.clear();
        self.span_left = self.segment.spans.first().copied().unwrap_or(0);
        self.close_spans();
    }

    /// Closes the current span if it is complete, and empty ones behind it.
    fn close_spans(&mut self) {
        while self.span_left == 0 && self.hashes.len() < self.segment.spans.len() {
            self.hashes.push(*self.span.finalize().as_bytes());
            self.span.reset();
            self.span_left = self.segment.spans.get(self.hashes.len()).copied().unwrap_or(0);
        }
    }

    pub(super) fn update(&mut self, mut data: &[u8]) {
        self.whole.update(data);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(data);
        }
        self.bytes += data.len() as u64;
        self.segment_bytes += data.len() as u64;
        while !data.is_empty() && self.span_left > 0 {
            let part = data.len().min(usize::try_from(self.span_left).unwrap_or(usize::MAX));
            let (now, later) = data.split_at(part);
            self.span.update(now);
            self.span_left -= part as u64;
            self.close_spans();
            data = later;
        }
    }

    /// Lengths of the segment's spans as they turned out, and hashes of those that are whole.
    pub(super) fn end_segment(&mut self) -> (Vec<u64>, Vec<Hash>) {
        self.span.reset();
        let spans = self.segment.clip(self.segment_bytes).unwrap_or_default().0;
        (spans, std::mem::take(&mut self.hashes))
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// BLAKE3 and SHA-256 of everything.
    pub(super) fn finish(self) -> ([u8; 32], Option<[u8; 32]>) {
        (*self.whole.finalize().as_bytes(), self.sha256.map(|s| s.finalize().into()))
    }
}
