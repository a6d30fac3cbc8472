//! Ranks as escape planes and tail codes (spec: "Ranks"): what codings of floats share.

use super::residuals::Output;
use super::widths::{MAX_PLANES, Widths};
use super::{le_u32, take};
use crate::error::{Error, Result};
use weightzip_kernels::GROUP;
use weightzip_kernels::escape::{self, Plane, SLACK};
use weightzip_kernels::field::CHUNK;
use weightzip_kernels::level::Level;
use weightzip_kernels::strip::{self, Planes};

/// How many codes of each plane are escapes.
pub(super) type Counts = [u32; MAX_PLANES];

/// Memory for the ranks that a plane leaves, and for those that the plane before it left.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) ranks: Lines,
    next: Lines,
}

/// Bytes that start at a cache line: whole lines are written and read twice as fast as two halves.
#[derive(Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    const ALIGN: usize = 64;

    /// Room for `count` ranks, whole chunks of them, and what kernels use behind. What is there
    /// stays unless more room is asked for than ever before.
    pub(super) fn room_for(&mut self, count: usize) -> &mut [u8] {
        let len = count.next_multiple_of(CHUNK) + SLACK;
        if self.bytes.len() < len + Self::ALIGN {
            self.bytes = vec![0; len + Self::ALIGN];
        }
        let start = self.bytes.as_ptr().align_offset(Self::ALIGN).min(Self::ALIGN);
        &mut self.bytes[start..][..len]
    }
}

impl Scratch {
    /// Packs the ranks of `elements`, which are lost; returns how many escape from each plane.
    pub(super) fn encode(
        &mut self,
        level: Level,
        widths: &Widths,
        elements: usize,
        out: &mut Output<'_>,
    ) -> Counts {
        let Self { ranks, next } = self;
        let (mut counts, mut count, mut base) = ([0; MAX_PLANES], elements, 0);
        for (width, escaped) in widths.planes().zip(&mut counts) {
            let packed = out.take(strip::packed_len(count, width));
            let (from, to) = (ranks.room_for(count), next.room_for(count));
            count = escape::peel(level, from, count, base, width, packed, to);
            *escaped = u32::try_from(count).unwrap_or(u32::MAX);
            base += escape::decided(width);
            std::mem::swap(ranks, next);
        }
        let (ranks, len) = (ranks.room_for(count), strip::plane_len(count));
        ranks[..count].iter_mut().for_each(|rank| *rank -= base);
        ranks[count..len].fill(0);
        let packed = out.take(strip::packed_len(count, widths.tail));
        let planes = Planes { bytes: &ranks[..len], len: len.max(1) };
        strip::pack(level, planes, count, 0, widths.tail, packed);
        counts
    }

    /// Undoes all planes but the first, which is for [`Ranks`] to undo chunk by chunk. `body` is all
    /// strips of planes, and nothing else.
    pub(super) fn decode<'a>(
        &'a mut self,
        level: Level,
        widths: &Widths,
        counts: &Counts,
        elements: usize,
        mut body: &'a [u8],
    ) -> Result<Ranks<'a>> {
        let Self { ranks, next } = self;
        let (mut planes, mut used) = ([None; MAX_PLANES], 0);
        let (mut count, mut base) = (elements, 0u8);
        for (width, &escaped) in widths.planes().zip(counts) {
            let packed = take(&mut body, strip::packed_len(count, width))?;
            planes[used] = Some(Plane { packed, count, width, base });
            used += 1;
            base += escape::decided(width);
            count = escaped as usize;
        }
        let tail = take(&mut body, strip::packed_len(count, widths.tail))?;
        if !body.is_empty() {
            return Err(Error::corrupt("a block has bytes behind its last strip"));
        }
        let codes = &mut next.room_for(count)[..strip::plane_len(count)];
        strip::unpack(level, tail, count, widths.tail, codes);
        codes.iter_mut().for_each(|rank| *rank = rank.wrapping_add(base));
        let [first, rest @ ..] = planes;
        for plane in rest.iter().flatten().rev() {
            let filled = &mut ranks.room_for(plane.count)[..strip::plane_len(plane.count)];
            let escaped = &next.room_for(count)[..count + SLACK];
            if escape::fill(level, *plane, 0, escaped, 0, filled) != count {
                return Err(other_escapes());
            }
            count = plane.count;
            std::mem::swap(ranks, next);
        }
        let next = &next.room_for(count)[..];
        Ok(Ranks { level, first, next, escaped: count, used: 0, filled: Aligned([0; CHUNK]) })
    }
}

/// The ranks of a block's elements, chunk by chunk.
pub(super) struct Ranks<'a> {
    level: Level,
    /// The first plane, if there is one; else `next` has all ranks.
    first: Option<Plane<'a>>,
    /// Ranks that escape from the first plane.
    next: &'a [u8],
    escaped: usize,
    used: usize,
    filled: Aligned,
}

impl<'a> Ranks<'a> {
    /// Ranks that are there, in whole groups.
    pub(super) fn all(ranks: &'a [u8]) -> Self {
        let (level, escaped) = (weightzip_kernels::level(), ranks.len());
        Self { level, first: None, next: ranks, escaped, used: 0, filled: Aligned([0; CHUNK]) }
    }

    /// Those of `count` elements from element `at` on, in whole groups. Chunks come one behind the other.
    pub(super) fn chunk(&mut self, at: usize, count: usize) -> Result<&[u8]> {
        let Some(plane) = self.first else {
            return Ok(&self.next[at..]);
        };
        let filled = &mut self.filled.0[..strip::plane_len(count)];
        let next = &self.next[..self.escaped + SLACK];
        self.used = escape::fill(self.level, plane, at, next, self.used, filled);
        match self.used <= self.escaped {
            true => Ok(filled),
            false => Err(other_escapes()),
        }
    }

    /// Behind the last chunk: all that escaped must have been used.
    pub(super) fn finish(&self) -> Result<()> {
        match self.first.is_none() || self.used == self.escaped {
            true => Ok(()),
            false => Err(other_escapes()),
        }
    }
}

/// Takes off `body` how many of `elements` escape from each plane.
pub(super) fn get_counts(widths: &Widths, elements: usize, body: &mut &[u8]) -> Result<Counts> {
    let (mut counts, mut left) = ([0; MAX_PLANES], elements);
    for (_, count) in widths.planes().zip(&mut counts) {
        *count = le_u32(take(body, size_of::<u32>())?);
        if *count as usize > std::mem::replace(&mut left, *count as usize) {
            return Err(Error::corrupt("a block has planes that grow"));
        }
    }
    Ok(counts)
}

/// How often ranks occur, found from some groups if there are many; the largest one that occurs at all is the last. In
/// four lists, for equal ones behind one another would wait.
pub(super) fn sampled(ranks: &[u8]) -> Vec<u32> {
    let every = (ranks.len() / SAMPLE).clamp(1, 8);
    let mut lists = [[0; 256]; 4];
    for group in ranks.chunks(GROUP).step_by(every) {
        for four in group.chunks(4) {
            lists.iter_mut().zip(four).for_each(|(counts, rank)| counts[usize::from(*rank)] += 1);
        }
    }
    let stands_for = u32::try_from(every).unwrap_or(1);
    let sum = |rank: usize| lists.iter().map(|counts| counts[rank]).sum::<u32>() * stands_for;
    let largest = ranks.iter().copied().fold(0, u8::max);
    (0..=usize::from(largest)).map(sum).collect()
}

/// Ranks that are enough to tell how often each occurs.
const SAMPLE: usize = 1 << 13;

/// Puts elements that are stored whole into `out`, where the ranks of a chunk say that there is one; `None` if `far`
/// has too few. They are rare, so groups are looked at first.
pub(super) fn put_far<'a>(
    ranks: &[u8],
    far: &mut impl Iterator<Item = &'a [u8]>,
    out: &mut [u8],
) -> Option<()> {
    let size = out.len() / ranks.len().max(1);
    for (group, ranks) in ranks.chunks(GROUP).enumerate() {
        if ranks.iter().fold(0, |all, rank| all.max(*rank)) < FAR {
            continue;
        }
        for (i, _) in ranks.iter().enumerate().filter(|(_, rank)| **rank == FAR) {
            out[(group * GROUP + i) * size..][..size].copy_from_slice(far.next()?);
        }
    }
    Some(())
}

/// The rank of an element that is stored whole.
pub(super) const FAR: u8 = u8::MAX;

fn other_escapes() -> Error {
    Error::corrupt("a block has another number of escapes than it states")
}

/// A chunk's ranks, in whole cache lines: they are written and read as such.
#[repr(align(64))]
struct Aligned([u8; CHUNK]);
