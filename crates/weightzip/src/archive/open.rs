//! Opens an archive: what its end says, and that nothing else stands between its segments.

use super::located::read;
use super::{Archive, Cache, Place};
use crate::container::directory::Placed;
use crate::container::index::{Opened, Opening, Step};
use crate::container::section::{self, Section};
use crate::error::{Error, Result};
use crate::options::{DecodeOptions, Limits};
use crate::source::Source;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

impl<S: Source> Archive<S> {
    /// Opens a `.wz`: reads its header, tail, footer and directory, normally in two reads.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if it is no `.wz`, else what [`decompress`](crate::decompress) reports.
    pub fn open(source: S) -> Result<Self> {
        Self::open_with(source, DecodeOptions::default())
    }

    /// [`Archive::open`] with limits of one's own.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn open_with(source: S, options: DecodeOptions) -> Result<Self> {
        let size = source.size().map_err(|e| Error::io("can't read the input", e))?;
        let mut opening = Opening::new(size, options.limits);
        let Opened { info, bases, segments, room } = loop {
            match opening.step()? {
                Step::Ready(opened) => break *opened,
                Step::Need(range) => opening.feed(range.start, read(&source, range)?),
            }
        };
        options.check_lossless(info.losses.is_some())?;
        check_between(&source, &segments, room, &options.limits)?;
        let (mut starts, mut tensors, mut by_name) = (Vec::new(), Vec::new(), HashMap::new());
        let mut at = 0;
        for (i, segment) in segments.iter().enumerate() {
            starts.push(at);
            for (j, span) in segment.spans.iter().enumerate() {
                if let Some((tensor, _)) = &span.tensor {
                    by_name.insert(tensor.name.clone(), tensors.len());
                    tensors.push(Place { segment: i, span: j, start: at });
                }
                at += span.bytes;
            }
        }
        let located = segments.iter().map(|_| OnceLock::new()).collect();
        let (found, cache) = (OnceLock::new(), Cache::default());
        Ok(Self {
            source,
            options,
            info,
            bases,
            found,
            segments,
            starts,
            tensors,
            by_name,
            located,
            cache,
        })
    }
}

/// Refuses what a reader from front to back would refuse between segments: anything but whole sections that may be
/// skipped. Normally there is nothing, and nothing is read.
fn check_between<S: Source>(
    source: &S,
    segments: &[Placed],
    room: Range<u64>,
    limits: &Limits,
) -> Result<()> {
    let mut at = room.start;
    let places = segments.iter().map(|segment| (segment.at, segment.end().unwrap_or(u64::MAX)));
    for (start, end) in places.chain([(room.end, room.end)]) {
        while at < start {
            at = skip(source, at..start, limits).map_err(|e| e.at(at))?;
        }
        at = end;
    }
    Ok(())
}

/// Reads a section that may be skipped, at the start of `room`; says where it ends.
fn skip<S: Source>(source: &S, room: Range<u64>, limits: &Limits) -> Result<u64> {
    let cut = || Error::corrupt("bytes between segments that are no section");
    let body = room.start + section::LEN as u64;
    if body > room.end {
        return Err(cut());
    }
    let head = read(source, room.start..body)?;
    let section = head.first_chunk().map(Section::from_bytes).ok_or_else(cut)??;
    if section.kind & section::CRITICAL != 0 {
        return Err(section.misplaced());
    }
    section.check_len(limits.metadata_bytes)?;
    let end = room.start + section.whole();
    if end > room.end {
        return Err(cut());
    }
    section.open(&read(source, body..end)?)?;
    Ok(end)
}
