//! Finds the directory from the tail. A state machine that asks for bytes and does no I/O, so
//! that it serves files, memory and remote ranges alike.

use super::bases::Bases;
use super::directory::{Page, Placed};
use super::footer::{Footer, Info, PageRef};
use super::header;
use super::losses::Losses;
use super::section::{self, Section};
use super::tail;
use crate::error::{Error, Result};
use crate::options::Limits;
use std::ops::Range;

/// The first guess at what tail, footer and directory take: one read is normally enough.
const FIRST_READ: u64 = 64 << 10;

/// What an [`Opening`] needs, or has found.
pub(crate) enum Step {
    /// Feed it these bytes of the file.
    Need(Range<u64>),
    /// What the file is coded against, and all segments, in order.
    Ready(Box<(Info, Bases, Vec<Placed>)>),
}

/// A file that is being opened.
pub(crate) struct Opening {
    size: u64,
    limits: Limits,
    /// Parts of the file, by their offset.
    have: Vec<(u64, Vec<u8>)>,
}

impl Opening {
    pub(crate) fn new(size: u64, limits: Limits) -> Self {
        Self { size, limits, have: Vec::new() }
    }

    pub(crate) fn feed(&mut self, at: u64, bytes: Vec<u8>) {
        self.have.push((at, bytes));
    }

    pub(crate) fn step(&self) -> Result<Step> {
        let start = 0..header::LEN as u64;
        let Some(bytes) = self.get(&start).and_then(<[u8]>::first_chunk) else {
            if self.size < start.end {
                return Err(Error::argument("this is not a .wz file: it is too short").at(0));
            }
            return Ok(Step::Need(start));
        };
        let (version, flags) = header::read_file(bytes)?;
        let tail = self.size.saturating_sub(tail::LEN as u64)..self.size;
        let Some(bytes) = self.get(&tail).and_then(<[u8]>::first_chunk) else {
            if self.size < start.end + tail::LEN as u64 {
                return Err(Error::short("the file is cut short").at(self.size));
            }
            return Ok(Step::Need(self.size.saturating_sub(FIRST_READ)..self.size));
        };
        let footer_at = tail::read_from(bytes, self.size)?;
        let footer = match self.section(section::FOOTER, footer_at..tail.start)? {
            Found::Payload(payload) => Footer::read_from(payload).map_err(|e| e.at(footer_at))?,
            Found::Need(range) => return Ok(Step::Need(range)),
        };
        let bases = match footer.bases.map(|len| start.end..start.end + padded(len)) {
            Some(range) if range.end <= footer_at => match self.section(section::BASES, range)? {
                Found::Payload(payload) => {
                    Bases::read_from(payload).map_err(|e| e.at(start.end))?
                }
                Found::Need(range) => return Ok(Step::Need(range)),
            },
            Some(_) => return Err(Error::corrupt("the bases are beyond the footer").at(footer_at)),
            None => Bases::default(),
        };
        flags.check_repeats(&bases).map_err(|e| e.at(start.end))?;
        let directory_at = footer.pages.first().map_or(footer_at, |page| page.at);
        let losses = match footer.losses {
            Some(len) => {
                let range = directory_at.saturating_sub(padded(len))..directory_at;
                self.inside(&range, footer_at)?;
                match self.section(section::LOSSES, range)? {
                    Found::Payload(payload) => {
                        let losses = Losses::read_from(payload);
                        Some(losses.map_err(|e| e.at(directory_at - padded(len)))?)
                    }
                    Found::Need(range) => return Ok(Step::Need(range)),
                }
            }
            None => None,
        };
        if losses.is_some() != flags.is_rounded {
            let why = "the footer tells of other losses than the file header";
            return Err(Error::corrupt(why).at(footer_at));
        }
        losses.iter().try_for_each(|l| l.check(footer.tensors)).map_err(|e| e.at(footer_at))?;
        let (info, pages) = footer.into_info(version, self.size, losses);
        if let (Some(first), Some(last)) = (pages.first(), pages.last()) {
            let all = first.at..last.at.saturating_add(padded(last.len));
            if self.get(&all).is_none() {
                return self.inside(&all, footer_at).map(|()| Step::Need(all));
            }
        }
        let segments = self.segments(&pages, footer_at)?;
        if segments.iter().map(|s| s.bytes).try_fold(0u64, u64::checked_add)
            != Some(info.original_bytes)
        {
            return Err(
                Error::corrupt("the directory doesn't add up to the original's size").at(footer_at)
            );
        }
        Ok(Step::Ready(Box::new((info, bases, segments))))
    }

    fn segments(&self, pages: &[PageRef], footer_at: u64) -> Result<Vec<Placed>> {
        let (mut segments, mut original_at) = (Vec::new(), 0u64);
        for page in pages {
            let bad = |why: &str| Error::corrupt(format!("a directory page {why}")).at(page.at);
            let range = page.at..page.at.saturating_add(padded(page.len));
            self.inside(&range, footer_at)?;
            let Found::Payload(payload) = self.section(section::DIRECTORY, range)? else {
                return Err(bad("is not where the footer says"));
            };
            let found = Page::read_from(payload).map_err(|e| e.at(page.at))?;
            if found.original_at != original_at
                || found.original_at != page.original_at
                || found.segments.len() != page.segments as usize
            {
                return Err(bad("differs from the footer"));
            }
            for segment in found.segments {
                if segment.end().is_none_or(|end| end > footer_at) {
                    return Err(bad("has a segment that is not in the file"));
                }
                original_at =
                    original_at.checked_add(segment.bytes).ok_or_else(|| bad("counts too far"))?;
                segments.push(segment);
            }
        }
        Ok(segments)
    }

    fn inside(&self, range: &Range<u64>, end: u64) -> Result<()> {
        let size = range.end.checked_sub(range.start);
        if range.start >= header::LEN as u64
            && range.end <= end
            && size.is_some_and(|size| size <= self.limits.metadata_bytes as u64)
        {
            return Ok(());
        }
        Err(Error::corrupt("the footer places the directory outside of the file").at(end))
    }

    /// The payload of the one section that fills `range`.
    fn section(&self, kind: u8, range: Range<u64>) -> Result<Found<'_>> {
        let bad = |e: Error| e.at(range.start);
        if range.end.saturating_sub(range.start) > self.limits.metadata_bytes as u64 {
            return Err(bad(Error::corrupt("the footer is beyond the limit")));
        }
        let Some(bytes) = self.get(&range) else {
            return Ok(Found::Need(range));
        };
        let (Some(head), Some(padded)) = (bytes.first_chunk(), bytes.get(section::LEN..)) else {
            return Err(bad(Error::corrupt("a section has no room for its header")));
        };
        let section = Section::from_bytes(head).map_err(bad)?;
        if section.kind != kind || section.padded() != padded.len() as u64 {
            return Err(bad(Error::corrupt("a section is not what the tail or the footer says")));
        }
        section.open(padded).map(Found::Payload).map_err(bad)
    }

    fn get(&self, range: &Range<u64>) -> Option<&[u8]> {
        self.have.iter().find_map(|(at, bytes)| {
            let start = usize::try_from(range.start.checked_sub(*at)?).ok()?;
            let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
            bytes.get(start..start.checked_add(len)?)
        })
    }
}

enum Found<'a> {
    Payload(&'a [u8]),
    Need(Range<u64>),
}

/// Bytes of a whole section with a payload of `len`.
fn padded(len: u32) -> u64 {
    Section { kind: 0, sub: 0, len, check: 0 }.whole()
}
