//! The tensors that a finder has found, bounded before they take memory, or room in the `.wz`.
//!
//! A tensor without elements takes a few bytes in a file, some hundred in memory, and forty in a `.wz`. So a file has no
//! more tensors than [`FEW`] and one for each [`BYTES_EACH`] of its bytes, and what they take in the `.wz` is no
//! more than the file is. Where there would be more, small ones are opaque.

use super::warnings::Warnings;
use crate::container::directory::MAX_DIMS;
use crate::container::wire::MAX_STRING;
use crate::span::{Span, TensorInfo};
use std::collections::HashSet;
use std::ops::Range;
use weightzip_kernels::xxh3::xxh3_64;

/// Tensors that any file may have.
const FEW: usize = 1 << 16;

/// Bytes of a file for each tensor more.
const BYTES_EACH: u64 = 128;

/// Bytes that names and shapes of any file may take in memory; those of a larger one, twice what it has.
const FEW_BYTES: u64 = 4 << 20;

/// Bytes from which on a tensor is found in a file that has too many.
const LARGE: u64 = 1 << 10;

/// Bytes that a tensor of its own segment adds to a `.wz`, with a segment before and one behind it: headers, tables and
/// padding of each.
const SEGMENTS: u64 = 3 * 160;

/// Bytes from which on a span has a segment of its own.
const OWN_SEGMENT: u64 = 512;

/// Longest name of which a directory is taken to share the beginning, and whose tensor may share a segment.
const SHARED_NAME: usize = 1 << 10;

/// Bytes that a file without tensors, and as small as can be, leaves of the kibibyte that a `.wz` may be larger.
const SPARE: u64 = 512;

/// How far a file is known to go.
#[derive(Clone, Copy)]
pub(super) enum Extent {
    /// All of it was measured.
    File(u64),
    /// So many bytes of its header are there; what follows may be cut short.
    Header(u64),
}

/// What is found in a file.
pub(super) struct Tensors {
    spans: Vec<Span>,
    extent: Extent,
    /// Bytes of names and shapes.
    described: u64,
    /// Whether there were too many, so that small ones are left out.
    only_large: bool,
    left_out: u64,
}

impl Tensors {
    pub(super) fn new(extent: Extent) -> Self {
        Self { spans: Vec::new(), extent, described: 0, only_large: false, left_out: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Adds a tensor, or records, in any order.
    pub(super) fn add(&mut self, span: Span) {
        if !self.has_room(&span) && !self.only_large {
            self.keep_large();
        }
        if self.has_room(&span) && (!self.only_large || is_large(&span)) {
            self.described += described(&span);
            self.spans.push(span);
        } else {
            self.left_out += 1;
        }
    }

    fn has_room(&self, span: &Span) -> bool {
        let (Extent::File(known) | Extent::Header(known)) = self.extent;
        let most = FEW as u64 + known / BYTES_EACH;
        let most_described = FEW_BYTES.saturating_add(2 * known);
        (self.spans.len() as u64) < most && self.described + described(span) <= most_described
    }

    fn keep_large(&mut self) {
        self.only_large = true;
        let before = self.spans.len();
        self.spans.retain(is_large);
        self.left_out += (before - self.spans.len()) as u64;
        self.described = self.spans.iter().map(described).sum();
    }

    /// The spans of a file that has these, and opaque bytes between them. A name that comes twice gets its place
    /// added; what overlaps, or can't be described, stays opaque.
    pub(super) fn into_spans(mut self, warnings: &mut Warnings) -> Vec<Span> {
        self.spans.sort_by_key(|span| (span.range.start, span.range.end));
        let (mut names, mut end) = (HashSet::new(), 0);
        let extent = self.extent;
        self.spans.retain_mut(|span| match admit(span, end, extent, &mut names) {
            Ok(()) => {
                end = span.range.end;
                true
            }
            Err(why) => {
                warnings.opaque("tensor", name_of(span), why);
                false
            }
        });
        if !self.is_affordable() {
            self.keep_large();
        }
        if self.left_out > 0 {
            let count = self.left_out;
            warnings.add(|| format!(
                "{count} tensors are kept as opaque bytes: a file of this size has no room for as many small ones"
            ));
        }
        self.with_gaps()
    }

    /// Whether the `.wz` stays within twice the file and a kibibyte, wherever that ends.
    fn is_affordable(&self) -> bool {
        let (mut previous, mut end, mut cost) = ("", 0, 0);
        self.spans.iter().all(|span| {
            cost += entry(span, previous);
            if span.range.end - end >= OWN_SEGMENT || name_of(span).len() > SHARED_NAME {
                cost += SEGMENTS;
            }
            end = span.range.end;
            previous = span.tensor.as_ref().map_or(previous, |tensor| &tensor.name);
            let known = match self.extent {
                Extent::File(size) => size,
                Extent::Header(header) => header.max(end),
            };
            cost <= known.saturating_add(SPARE)
        })
    }

    fn with_gaps(self) -> Vec<Span> {
        let (mut spans, mut at) = (Vec::new(), 0);
        let mut gap = |to: &Range<u64>, spans: &mut Vec<Span>| {
            if at < to.start {
                spans.push(Span::opaque(at..to.start));
            }
            at = to.end;
        };
        for span in self.spans {
            gap(&span.range, &mut spans);
            spans.push(span);
        }
        let (Extent::File(end) | Extent::Header(end)) = self.extent;
        gap(&(end..end), &mut spans);
        spans
    }
}

/// The span's tensor's name; empty if it has none.
pub(super) fn name_of(span: &Span) -> &str {
    span.tensor.as_ref().map_or("", |tensor| &tensor.name)
}

/// Why a span can't be written to a `.wz`.
pub(super) fn flaw(span: &Span) -> Option<&'static str> {
    let bytes = span.range.end.checked_sub(span.range.start);
    if let Some(records) = &span.records
        && !bytes.is_some_and(|bytes| bytes.is_multiple_of(records.bytes().into()))
    {
        return Some("a span has a part of a record");
    }
    let TensorInfo { name, dtype, shape } = span.tensor.as_ref()?;
    if name.len() as u64 > MAX_STRING || shape.len() > MAX_DIMS {
        return Some("a tensor has a name of more than a mebibyte, or more than 64 dimensions");
    }
    (dtype.bytes_of(shape) != bytes)
        .then_some("a tensor has another number of bytes than its shape says")
}

/// Says why a span can't follow one that ends at `end`; `names` has hashes of those before.
fn admit(
    span: &mut Span,
    end: u64,
    extent: Extent,
    names: &mut HashSet<u64>,
) -> Result<(), &'static str> {
    if span.range.start < end {
        return Err("it overlaps another one");
    }
    if matches!(extent, Extent::File(size) if span.range.end > size) {
        return Err("it would end behind the file");
    }
    let place = span.range.start;
    if let Some(tensor) = &mut span.tensor {
        let hash = |name: &str| xxh3_64(name.as_bytes());
        if names.contains(&hash(&tensor.name)) {
            tensor.name = format!("{} (at {place})", tensor.name);
        }
        if !names.insert(hash(&tensor.name)) {
            return Err("another one has its name");
        }
    }
    flaw(span).map_or(Ok(()), Err)
}

/// Whether a span pays for its entry and its segments several times over.
fn is_large(span: &Span) -> bool {
    let bytes = span.range.end.saturating_sub(span.range.start);
    bytes >= LARGE && entry(span, "") <= bytes / 8
}

/// Bytes of what a span says of itself.
fn described(span: &Span) -> u64 {
    span.tensor.as_ref().map_or(0, |tensor| (tensor.name.len() + 8 * tensor.shape.len()) as u64)
}

/// Bytes that a span takes in the directory and in its segment's list, at most, with a gap before it. Directories
/// share names' beginnings with the tensor before, but for the first one of a page.
fn entry(span: &Span, previous: &str) -> u64 {
    const HASH_AND_GAP: u64 = 32 + 8;
    let bytes = 2 * varint(span.range.end.saturating_sub(span.range.start));
    let Some(TensorInfo { name, shape, .. }) = &span.tensor else { return bytes + 8 };
    let pairs = name.bytes().zip(previous.bytes());
    let rest = match name.len() {
        // A part of a character is written again, and all of the first name of each page.
        len @ 0..=SHARED_NAME => {
            len + len / 64 - pairs.take_while(|(a, b)| a == b).count().saturating_sub(3)
        }
        len => len,
    };
    let name = rest as u64 + 2 * varint(name.len() as u64);
    HASH_AND_GAP + bytes + 2 + name + shape.iter().map(|dim| varint(*dim)).sum::<u64>()
}

/// Bytes of a number of seven bits per byte.
fn varint(number: u64) -> u64 {
    u64::from((u64::BITS - number.leading_zeros()).div_ceil(7).max(1))
}
