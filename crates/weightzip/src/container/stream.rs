//! Reads a file from front to back, and checks that its index says what was seen.

use super::bases::{BaseTensor, Bases};
use super::directory::{Page, Placed};
use super::footer::{Footer, Info};
use super::header::{self, Flags, Version};
use super::losses::Losses;
use super::pages::Pages;
use super::section::{self, Section, padded_section};
use super::segment::Segment;
use super::{table, tail};
use crate::codec::{self, Coding, Context};
use crate::error::{Error, Result};
use crate::options::Limits;
use std::io::{ErrorKind, Read};
use std::ops::Range;

/// What comes next in a file.
pub(crate) enum Event {
    /// What the file is coded against, before all else, if there is anything.
    Bases(Bases),
    /// A segment starts.
    Segment(Segment, Option<Context>),
    /// A block of it.
    Block(Received),
    /// It ends.
    SegmentEnd,
    /// The file ends; all segments as the directory has them.
    End(Info, Vec<Placed>),
}

/// A block that came in.
pub(crate) struct Received {
    pub(crate) entry: table::Entry,
    /// Bytes that it decodes to.
    pub(crate) bytes: usize,
    /// Where its payload is in what [`Stream::take`] gives, and in the file.
    pub(crate) payload: Range<usize>,
    pub(crate) at: u64,
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
    input: Input<R>,
    limits: Limits,
    version: Version,
    pub(crate) flags: Flags,
    /// A section header that was read ahead, and its offset.
    ahead: Option<(u64, Section)>,
    open: Option<Open>,
    seen: Vec<Seen>,
    /// Bytes of the segments that were seen.
    original_at: u64,
    /// What the file is coded against, and the length of the payload that says so.
    bases: (Bases, Option<u32>),
    /// Whether a segment has a base.
    uses_bases: bool,
}

impl<R: Read> Stream<R> {
    pub(crate) fn new(from: R, limits: Limits) -> Result<Self> {
        let mut input = Input { from, buffer: Vec::new(), start: 0, end: 0, at: 0 };
        let start = input.take(header::LEN as u64)?;
        let (version, flags) = header::read_file(header::of(&input.buffer[start])?)?;
        Ok(Self {
            input,
            limits,
            version,
            flags,
            ahead: None,
            open: None,
            seen: Vec::new(),
            original_at: 0,
            bases: (Bases::default(), None),
            uses_bases: false,
        })
    }

    /// The bytes that the blocks of the events so far refer to, in exchange for a buffer.
    pub(crate) fn take(&mut self, spare: Vec<u8>) -> Vec<u8> {
        self.input.exchange(spare)
    }

    /// The tensors that the file is coded against.
    pub(crate) fn into_bases(self) -> Vec<BaseTensor> {
        self.bases.0.tensors
    }

    /// The next event; not to be called behind [`Event::End`].
    pub(crate) fn next(&mut self) -> Result<Event> {
        loop {
            let (at, section) = self.section()?;
            let event = match (section.kind, self.open.is_some()) {
                (section::BASES, false) if at == header::LEN as u64 => self.bases(section),
                (section::SEGMENT, false) => self.begin(section, at),
                (section::BLOCK, true) => self.block(section),
                (section::TABLE, true) => self.end_segment(section, at),
                (section::LOSSES | section::DIRECTORY | section::FOOTER, false) => {
                    self.end(section, at)
                }
                (kind, false) if kind & section::CRITICAL == 0 => match self.payload(section) {
                    Ok(_) => continue,
                    Err(e) => Err(e),
                },
                _ => Err(section.misplaced()),
            };
            return event.map_err(|e| e.at(at));
        }
    }

    fn bases(&mut self, section: Section) -> Result<Event> {
        let bases = Bases::read_from(self.payload(section)?)?;
        self.flags.check_repeats(&bases)?;
        self.bases = (bases.clone(), Some(section.len));
        Ok(Event::Bases(bases))
    }

    fn begin(&mut self, section: Section, at: u64) -> Result<Event> {
        let segment = Segment::read_from(self.payload(section)?)?;
        segment.check_base(&self.bases.0, self.original_at)?;
        self.uses_bases |= !segment.base.is_empty();
        let mut context = None;
        let blocks_at = loop {
            let (at, section) = self.section()?;
            if section.kind != section::CONTEXT {
                self.ahead = Some((at, section));
                break at;
            }
            let payload = self.payload(section)?;
            Context::add(&mut context, section.sub, payload, &segment.layout)
                .map_err(|e| e.at(at))?;
        };
        self.open =
            Some(Open { segment: segment.clone(), at, blocks_at, entries: Vec::new(), bytes: 0 });
        Ok(Event::Segment(segment, context))
    }

    fn block(&mut self, section: Section) -> Result<Event> {
        let limit = self.limits.block_bytes;
        let Some(open) = &mut self.open else {
            return Err(section.misplaced());
        };
        open.segment.check_coding(Coding::from_wire_id(section.sub)?)?;
        section.check_len(limit + codec::PREAMBLE)?;
        let at = self.input.at;
        let padded = self.input.take(section.padded())?;
        let payload = section.unpad(&self.input.buffer[padded.clone()])?;
        let entry = table::Entry::of_section(&section, payload)?;
        let bytes = entry.decoded_len(&open.segment.layout, limit)?;
        let payload = padded.start..padded.start + payload.len();
        open.bytes += bytes as u64;
        open.entries.push(entry);
        Ok(Event::Block(Received { entry, bytes, payload, at }))
    }

    fn end_segment(&mut self, section: Section, table_at: u64) -> Result<Event> {
        let Some(open) = self.open.take() else {
            return Err(section.misplaced());
        };
        let entries = table::read_from(self.payload(section)?)?;
        if entries != open.entries {
            return Err(Error::corrupt("the block table differs from the blocks before it"));
        }
        let Open { segment, at, blocks_at, bytes, .. } = open;
        segment.clip(bytes)?;
        self.original_at = self.original_at.saturating_add(bytes);
        let blocks = entries.len() as u64;
        self.seen.push(Seen { segment, at, blocks_at, table_at, blocks, bytes });
        Ok(Event::SegmentEnd)
    }

    /// Losses, directory, footer, tail; `section` is the first of them.
    fn end(&mut self, mut section: Section, mut at: u64) -> Result<Event> {
        let (mut losses, segments_end) = (None, at);
        if section.kind == section::LOSSES {
            losses = Some((Losses::read_from(self.payload(section)?)?, section.len));
            (at, section) = self.section()?;
        }
        let behind_bases = self.bases.1.map_or(0, padded_section);
        let mut pages = Pages::new(header::LEN as u64 + behind_bases);
        while section.kind == section::DIRECTORY {
            let page = Page::read_from(self.payload(section)?).map_err(|e| e.at(at))?;
            pages.add(at, section.len, page)?;
            (at, section) = self.section()?;
        }
        if section.kind != section::FOOTER {
            return Err(section.misplaced().at(at));
        }
        let footer = Footer::read_from(self.payload(section)?).map_err(|e| e.at(at))?;
        let segments = pages.finish(&footer, at, segments_end)?;
        self.compare(&segments)?;
        self.flags.check_repeats(&self.bases.0).map_err(|e| e.at(at))?;
        if footer.bases != self.bases.1 || self.uses_bases != footer.bases.is_some() {
            return Err(Error::corrupt("the footer tells of other bases than there are").at(at));
        }
        let len = losses.as_ref().map(|(_, len)| *len);
        if footer.losses != len || self.flags.is_rounded != len.is_some() {
            return Err(Error::corrupt("the footer tells of other losses than there are").at(at));
        }
        let losses = losses.map(|(losses, _)| losses);
        losses.iter().try_for_each(|l| l.check(footer.tensors)).map_err(|e| e.at(at))?;
        self.tail(at)?;
        let info = footer.into_info(self.version, self.input.at, losses);
        Ok(Event::End(info, segments))
    }

    /// The directory must say what was seen.
    fn compare(&self, segments: &[Placed]) -> Result<()> {
        let differs = || Error::corrupt("the directory differs from the segments before it");
        if self.seen.len() != segments.len() {
            return Err(differs());
        }
        for (seen, said) in self.seen.iter().zip(segments) {
            let was = (seen.at, seen.blocks_at, seen.table_at, seen.blocks, seen.bytes);
            let is = (said.at, said.blocks_at, said.table_at, said.blocks, said.bytes);
            if was != is || !seen.segment.agrees(seen.bytes, &said.spans)? {
                return Err(differs());
            }
        }
        Ok(())
    }

    fn tail(&mut self, footer_at: u64) -> Result<()> {
        let range = self.input.take(tail::LEN as u64 + 1)?;
        let (bytes, at) = (&self.input.buffer[range], self.input.at);
        match <&[u8; tail::LEN]>::try_from(bytes) {
            Ok(tail) if tail::read_from(tail, at)? == footer_at => Ok(()),
            Ok(_) => Err(Error::corrupt("the tail differs from the footer's place")),
            Err(_) if bytes.len() < tail::LEN => Err(Error::short("the file ends within its tail")),
            Err(_) => Err(Error::corrupt("bytes follow the tail")),
        }
        .map_err(|e| e.at(at))
    }

    /// The next section's header, and its offset.
    fn section(&mut self) -> Result<(u64, Section)> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(ahead);
        }
        let at = self.input.at;
        let header = self.input.take(section::LEN as u64)?;
        let header = self.input.buffer[header].first_chunk();
        let header =
            header.ok_or_else(|| Error::short("the file is cut short").at(self.input.at))?;
        Ok((at, Section::from_bytes(header).map_err(|e| e.at(at))?))
    }

    /// The checked payload of a section that is not a block.
    fn payload(&mut self, section: Section) -> Result<&[u8]> {
        section.check_len(self.limits.metadata_bytes)?;
        let padded = self.input.take(section.padded())?;
        section.open(&self.input.buffer[padded])
    }
}

/// Bytes that are asked for at a time, if fewer are needed.
const READ: usize = 64 << 10;

/// What was read of a file. It stays in the buffer, where blocks can be decoded from, until the
/// buffer is exchanged.
struct Input<R> {
    from: R,
    /// Longer than what is in it.
    buffer: Vec<u8>,
    /// What was read but not taken.
    start: usize,
    end: usize,
    /// Offset of `start` in the file.
    at: u64,
}

impl<R: Read> Input<R> {
    /// The place of the next `len` bytes in the buffer, or of as many as there are. The buffer
    /// grows with what is really read.
    fn take(&mut self, len: u64) -> Result<Range<usize>> {
        let wanted = self.start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        let ahead = wanted.max(self.start + READ);
        while self.end < wanted {
            if self.end == self.buffer.len() {
                self.buffer.resize((2 * self.end).max(READ).min(ahead), 0);
            }
            let room = self.buffer.len().min(ahead);
            match self.from.read(&mut self.buffer[self.end..room]) {
                Ok(0) => break,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("can't read the input", e)),
            }
        }
        let taken = self.start..self.end.min(wanted);
        self.start = taken.end;
        self.at += taken.len() as u64;
        Ok(taken)
    }

    /// Gives the buffer away; what is not taken yet goes on in `spare`.
    fn exchange(&mut self, mut spare: Vec<u8>) -> Vec<u8> {
        let rest = &self.buffer[self.start..self.end];
        if spare.len() < rest.len() {
            spare.resize(rest.len(), 0);
        }
        spare[..rest.len()].copy_from_slice(rest);
        (self.start, self.end) = (0, rest.len());
        std::mem::replace(&mut self.buffer, spare)
    }
}
