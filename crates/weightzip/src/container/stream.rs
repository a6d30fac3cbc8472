//! Reads a file from front to back, and checks that its index says what was seen.

use super::directory::{self, Page, Placed};
use super::footer::{Footer, Info, PageRef};
use super::header::Version;
use super::section::{self, Section};
use super::segment::Segment;
use super::{header, table, tail};
use crate::codec::{self, Block, Coding, Context};
use crate::error::{Error, Result};
use crate::options::Limits;
use std::io::Read;

/// What comes next in a file.
pub(crate) enum Event {
    /// A segment starts.
    Segment(Segment, Option<Context>),
    /// A block of it, and the offset of its payload.
    Block(Received, u64),
    /// It ends.
    SegmentEnd,
    /// The file ends; all segments as the directory has them.
    End(Info, Vec<Placed>),
}

/// A block that came in.
pub(crate) struct Received {
    coding: Coding,
    pub(crate) records: u32,
    check: u64,
    payload: Vec<u8>,
}

impl Received {
    pub(crate) fn block(&self) -> Block<'_> {
        let &Self { coding, records, check, ref payload } = self;
        Block { coding, records, check, payload }
    }
}

/// A segment as it was seen.
struct Seen {
    segment: Segment,
    at: u64,
    blocks_at: u64,
    table_at: u64,
    blocks: u64,
    bytes: u64,
}

/// The segment that is being read.
struct Open {
    segment: Segment,
    at: u64,
    blocks_at: u64,
    entries: Vec<table::Entry>,
    bytes: u64,
}

pub(crate) struct Stream<R> {
    from: R,
    limits: Limits,
    version: Version,
    /// Offset behind what was read.
    at: u64,
    /// A section header that was read ahead.
    ahead: Option<Section>,
    open: Option<Open>,
    seen: Vec<Seen>,
}

impl<R: Read> Stream<R> {
    pub(crate) fn new(mut from: R, limits: Limits) -> Result<Self> {
        let mut start = Vec::new();
        read_up_to(&mut from, header::LEN as u64, &mut start)?;
        let Some(bytes) = start.first_chunk() else {
            let known = header::is_weightzip(&start);
            let why = if known {
                Error::short("the file ends within its header")
            } else {
                Error::argument("this is not a .wz file")
            };
            return Err(why.at(0));
        };
        let version = header::read_from(bytes)?;
        Ok(Self {
            from,
            limits,
            version,
            at: header::LEN as u64,
            ahead: None,
            open: None,
            seen: Vec::new(),
        })
    }

    /// The next event; not to be called behind [`Event::End`].
    pub(crate) fn next(&mut self) -> Result<Event> {
        loop {
            let (at, section) = self.section()?;
            let event = match (section.kind, self.open.is_some()) {
                (section::SEGMENT, false) => self.begin(section, at),
                (section::BLOCK, true) => self.block(section),
                (section::TABLE, true) => self.end_segment(section, at),
                (section::DIRECTORY | section::FOOTER, false) => self.end(section, at),
                (kind, false) if kind & section::CRITICAL == 0 => match self.payload(section) {
                    Ok(_) => continue,
                    Err(e) => Err(e),
                },
                _ => Err(section.misplaced()),
            };
            return event.map_err(|e| e.at(at));
        }
    }

    fn begin(&mut self, section: Section, at: u64) -> Result<Event> {
        let segment = Segment::read_from(&self.payload(section)?)?;
        let mut context = None;
        let blocks_at = loop {
            let (at, section) = self.section()?;
            if section.kind != section::CONTEXT {
                self.ahead = Some(section);
                break at;
            }
            let payload = self.payload(section)?;
            Context::add(&mut context, section.sub, &payload, &segment.layout)
                .map_err(|e| e.at(at))?;
        };
        self.open =
            Some(Open { segment: segment.clone(), at, blocks_at, entries: Vec::new(), bytes: 0 });
        Ok(Event::Segment(segment, context))
    }

    fn block(&mut self, section: Section) -> Result<Event> {
        let (at, limit) = (self.at, self.limits.block_bytes);
        let Some(open) = &mut self.open else {
            return Err(section.misplaced());
        };
        let coding = Coding::from_wire_id(section.sub)?;
        let payload = read_payload(&mut self.from, &mut self.at, section, limit + codec::PREAMBLE)?;
        let (records, check) = (codec::records_of(&payload)?, section.check);
        let entry = table::Entry { len: section.len, coding, records, check };
        open.bytes += entry.decoded_len(&open.segment.layout, limit)? as u64;
        open.entries.push(entry);
        let block = Received { coding, records, check, payload };
        Ok(Event::Block(block, at))
    }

    fn end_segment(&mut self, section: Section, table_at: u64) -> Result<Event> {
        let payload = self.payload(section)?;
        let Some(open) = self.open.take() else {
            return Err(section.misplaced());
        };
        let entries = table::read_from(&payload)?;
        if entries != open.entries {
            return Err(Error::corrupt("the block table differs from the blocks before it"));
        }
        let Open { segment, at, blocks_at, bytes, .. } = open;
        segment.clip(bytes)?;
        let blocks = entries.len() as u64;
        self.seen.push(Seen { segment, at, blocks_at, table_at, blocks, bytes });
        Ok(Event::SegmentEnd)
    }

    /// Directory, footer, tail; `section` is the first of them.
    fn end(&mut self, mut section: Section, mut at: u64) -> Result<Event> {
        let (mut pages, mut refs, mut original_at) = (Vec::new(), Vec::new(), 0);
        while section.kind == section::DIRECTORY {
            let page = Page::read_from(&self.payload(section)?).map_err(|e| e.at(at))?;
            let segments = u32::try_from(page.segments.len()).unwrap_or(u32::MAX);
            refs.push(PageRef { at, original_at, len: section.len, segments });
            if page.original_at != original_at {
                return Err(Error::corrupt(
                    "a directory page starts at another byte than the one before it ends",
                )
                .at(at));
            }
            let end = page.segments.iter().try_fold(original_at, |at, s| at.checked_add(s.bytes));
            original_at =
                end.ok_or_else(|| Error::corrupt("a directory page counts too far").at(at))?;
            pages.extend(page.segments);
            (at, section) = self.section()?;
        }
        if section.kind != section::FOOTER {
            return Err(section.misplaced().at(at));
        }
        let footer = Footer::read_from(&self.payload(section)?)?;
        self.compare(&pages)?;
        directory::check_names(&pages)?;
        let tensors = pages.iter().flat_map(|s| &s.spans).filter(|s| s.tensor.is_some()).count();
        if footer.pages != refs
            || footer.original_bytes != original_at
            || footer.tensors != tensors as u64
        {
            return Err(Error::corrupt("the footer differs from the directory before it").at(at));
        }
        self.tail(at)?;
        let (info, _) = footer.into_info(self.version, self.at);
        Ok(Event::End(info, pages))
    }

    /// The directory must say what was seen.
    fn compare(&self, pages: &[Placed]) -> Result<()> {
        let differs = || Error::corrupt("the directory differs from the segments before it");
        if self.seen.len() != pages.len() {
            return Err(differs());
        }
        for (seen, said) in self.seen.iter().zip(pages) {
            let was = (seen.at, seen.blocks_at, seen.table_at, seen.blocks, seen.bytes);
            let is = (said.at, said.blocks_at, said.table_at, said.blocks, said.bytes);
            if was != is || !seen.segment.agrees(seen.bytes, &said.spans)? {
                return Err(differs());
            }
        }
        Ok(())
    }

    fn tail(&mut self, footer_at: u64) -> Result<()> {
        let mut bytes = Vec::new();
        self.at += read_up_to(&mut self.from, tail::LEN as u64 + 1, &mut bytes)?;
        match <&[u8; tail::LEN]>::try_from(bytes.as_slice()) {
            Ok(tail) if tail::read_from(tail, self.at)? == footer_at => Ok(()),
            Ok(_) => Err(Error::corrupt("the tail differs from the footer's place")),
            Err(_) if bytes.len() < tail::LEN => Err(Error::short("the file ends within its tail")),
            Err(_) => Err(Error::corrupt("bytes follow the tail")),
        }
        .map_err(|e| e.at(self.at))
    }

    /// The next section's header, and its offset.
    fn section(&mut self) -> Result<(u64, Section)> {
        if let Some(section) = self.ahead.take() {
            return Ok((self.at - section::LEN as u64, section));
        }
        let at = self.at;
        let mut bytes = Vec::new();
        self.at += read_up_to(&mut self.from, section::LEN as u64, &mut bytes)?;
        let header =
            bytes.first_chunk().ok_or_else(|| Error::short("the file is cut short").at(self.at))?;
        Ok((at, Section::from_bytes(header).map_err(|e| e.at(at))?))
    }

    /// The checked payload of a section that is not a block.
    fn payload(&mut self, section: Section) -> Result<Vec<u8>> {
        let padded =
            read_padded(&mut self.from, &mut self.at, section, self.limits.metadata_bytes)?;
        section.open(&padded).map(<[u8]>::to_vec)
    }
}

fn read_payload<R: Read>(
    from: &mut R,
    at: &mut u64,
    section: Section,
    limit: usize,
) -> Result<Vec<u8>> {
    let mut padded = read_padded(from, at, section, limit)?;
    let len = section.unpad(&padded)?.len();
    padded.truncate(len);
    Ok(padded)
}

fn read_padded<R: Read>(
    from: &mut R,
    at: &mut u64,
    section: Section,
    limit: usize,
) -> Result<Vec<u8>> {
    section.check_len(limit)?;
    let mut padded = Vec::new();
    *at += read_up_to(from, section.padded(), &mut padded)?;
    Ok(padded)
}

/// Appends `len` bytes, or as many as there are: memory grows with what is really read.
fn read_up_to<R: Read>(from: &mut R, len: u64, into: &mut Vec<u8>) -> Result<u64> {
    let read = from.by_ref().take(len).read_to_end(into);
    read.map(|n| n as u64).map_err(|e| Error::io("can't read the input", e))
}
