//! Finds the directory from the tail. A state machine that asks for bytes and does no I/O, so
//! that it serves files, memory and remote ranges alike.

use super::bases::Bases;
use super::directory::{Page, Placed};
use super::footer::{Footer, Info};
use super::header;
use super::losses::Losses;
use super::pages::{self, Pages};
use super::section::{self, Section, padded_section};
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
    /// What is known of the file now.
    Ready(Box<Opened>),
}

/// What a file says at its end.
pub(crate) struct Opened {
    pub(crate) info: Info,
    /// What it is coded against.
    pub(crate) bases: Bases,
    /// All segments, in order.
    pub(crate) segments: Vec<Placed>,
    /// Where segments can be, in the file.
    pub(crate) room: Range<u64>,
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
        let footer = match self.section(section::FOOTER, None, footer_at..tail.start)? {
            Found::Payload(payload) => Footer::read_from(payload).map_err(|e| e.at(footer_at))?,
            Found::Need(range) => return Ok(Step::Need(range)),
        };
        let directory = pages::extent(&footer.pages, footer_at)?;
        let (mut room, mut bases) = (start.end..directory.start, Bases::default());
        if let Some(len) = footer.bases {
            let range = start.end..start.end + padded_section(len);
            self.inside(&range, footer_at)?;
            room.start = range.end;
            bases = match self.section(section::BASES, Some(len), range)? {
                Found::Payload(payload) => {
                    Bases::read_from(payload).map_err(|e| e.at(start.end))?
                }
                Found::Need(range) => return Ok(Step::Need(range)),
            };
        }
        flags.check_repeats(&bases).map_err(|e| e.at(start.end))?;
        let mut losses = None;
        if let Some(len) = footer.losses {
            let range = room.end.saturating_sub(padded_section(len))..room.end;
            self.inside(&range, footer_at)?;
            room.end = range.start;
            losses = match self.section(section::LOSSES, Some(len), range)? {
                Found::Payload(payload) => {
                    Some(Losses::read_from(payload).map_err(|e| e.at(room.end))?)
                }
                Found::Need(range) => return Ok(Step::Need(range)),
            };
        }
        if losses.is_some() != flags.is_rounded {
            let why = "the footer tells of other losses than the file header";
            return Err(Error::corrupt(why).at(footer_at));
        }
        losses.iter().try_for_each(|l| l.check(footer.tensors)).map_err(|e| e.at(footer_at))?;
        if directory.start < start.end {
            return Err(
                Error::corrupt("the footer places the directory in the header").at(footer_at)
            );
        }
        if self.get(&directory).is_none() {
            return Ok(Step::Need(directory));
        }
        let segments = self.segments(&footer, footer_at, &room)?;
        let info = footer.into_info(version, self.size, losses);
        Ok(Step::Ready(Box::new(Opened { info, bases, segments, room })))
    }

    fn segments(&self, footer: &Footer, footer_at: u64, room: &Range<u64>) -> Result<Vec<Placed>> {
        let mut pages = Pages::new(room.start);
        for page in &footer.pages {
            let range = page.at..page.at.saturating_add(padded_section(page.len));
            let Found::Payload(payload) =
                self.section(section::DIRECTORY, Some(page.len), range)?
            else {
                let why = "a directory page is not where the footer says";
                return Err(Error::corrupt(why).at(page.at));
            };
            let found = Page::read_from(payload).map_err(|e| e.at(page.at))?;
            pages.add(page.at, page.len, found)?;
        }
        pages.finish(footer, footer_at, room.end)
    }

    fn inside(&self, range: &Range<u64>, end: u64) -> Result<()> {
        let size = range.end.checked_sub(range.start);
        if range.start >= header::LEN as u64
            && range.end <= end
            && size.is_some_and(|size| size <= self.limits.metadata_bytes as u64)
        {
            return Ok(());
        }
        Err(Error::corrupt("the footer places bases or losses outside of the file").at(end))
    }

    /// The payload of the one section that fills `range`, if it is as long as the footer says.
    fn section(&self, kind: u8, len: Option<u32>, range: Range<u64>) -> Result<Found<'_>> {
        let bad = |e: Error| e.at(range.start);
        if range.end.saturating_sub(range.start) > self.limits.metadata_bytes as u64 {
            return Err(bad(Error::corrupt("a section of metadata is beyond the limit")));
        }
        let Some(bytes) = self.get(&range) else {
            return Ok(Found::Need(range));
        };
        let (Some(head), Some(padded)) = (bytes.first_chunk(), bytes.get(section::LEN..)) else {
            return Err(bad(Error::corrupt("a section has no room for its header")));
        };
        let section = Section::from_bytes(head).map_err(bad)?;
        let is_that = section.kind == kind && len.is_none_or(|len| len == section.len);
        if !is_that || section.padded() != padded.len() as u64 {
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
