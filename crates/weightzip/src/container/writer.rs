//! Writes a file from front to back.

use super::bases::Bases;
use super::directory::{self, Entry, Page, Placed};
use super::footer::{Footer, PageRef};
use super::header::{self, Flags};
use super::losses::Losses;
use super::section::{self, Section};
use super::segment::Segment;
use super::{table, tail};
use crate::codec::Context;
use crate::error::{Error, Result};
use crate::record::RecordLayout;
use std::io::{BufWriter, Write};

/// Bytes that are gathered before they are written; blocks are mostly larger.
const BUFFER: usize = 64 << 10;

/// A file that is being written: segments, then [`Writer::finish`].
pub(crate) struct Writer<W: Write> {
    to: BufWriter<W>,
    at: u64,
    page: Page,
    page_bytes: usize,
    pages: Vec<PageRef>,
    written: Vec<Page>,
    /// The segment that is open.
    open: Option<Open>,
    original_at: u64,
    scratch: Vec<u8>,
}

struct Open {
    at: u64,
    blocks_at: u64,
    entries: Vec<table::Entry>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(to: W, flags: Flags) -> Result<Self> {
        let mut writer = Self {
            to: BufWriter::with_capacity(BUFFER, to),
            at: 0,
            page: Page::default(),
            page_bytes: 0,
            pages: Vec::new(),
            written: Vec::new(),
            open: None,
            original_at: 0,
            scratch: Vec::new(),
        };
        writer.put(&header::of_file(flags))?;
        Ok(writer)
    }

    /// Writes what the file is coded against, before all segments; returns the payload's length.
    pub(crate) fn bases(&mut self, bases: &Bases) -> Result<u32> {
        self.section(section::BASES, 0, |out| bases.write_to(out))?;
        Ok(u32::try_from(self.scratch.len()).unwrap_or(u32::MAX))
    }

    pub(crate) fn begin_segment(
        &mut self,
        segment: &Segment,
        context: Option<&Context>,
    ) -> Result<()> {
        let at = self.at;
        self.section(section::SEGMENT, 0, |out| segment.write_to(out))?;
        if let Some(context) = context {
            self.context(context, &segment.layout)?;
        }
        self.open = Some(Open { at, blocks_at: self.at, entries: Vec::new() });
        Ok(())
    }

    /// Contexts end and blocks begin here; for those who write contexts of their own.
    #[cfg(test)]
    pub(crate) fn open_blocks(&mut self) {
        let at = self.at;
        self.open.iter_mut().for_each(|open| open.blocks_at = at);
    }

    fn context(&mut self, context: &Context, layout: &RecordLayout) -> Result<()> {
        for (id, payload) in context.to_wire(layout) {
            self.section(section::CONTEXT, id, |out| out.extend(payload))?;
        }
        Ok(())
    }

    /// Blocks as their table entries and their sections, one behind another.
    pub(crate) fn blocks(&mut self, entries: &[table::Entry], sections: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(Error::argument("a block belongs into a segment"));
        };
        open.entries.extend(entries);
        self.put(sections)
    }

    /// Closes the open segment, whose bytes are `spans`.
    pub(crate) fn end_segment(&mut self, spans: Vec<Entry>) -> Result<()> {
        let Some(Open { at, blocks_at, entries }) = self.open.take() else {
            return Err(Error::argument("no segment is open"));
        };
        let (table_at, blocks) = (self.at, entries.len() as u64);
        let mut payload = Vec::new();
        table::write_to(&entries, &mut payload)?;
        self.section(section::TABLE, 0, |out| out.extend(payload))?;
        let bytes = spans.iter().map(|s| s.bytes).sum();
        let placed = Placed { at, blocks_at, table_at, blocks, bytes, spans };
        self.page_bytes += placed.weight();
        self.page.segments.push(placed);
        self.original_at += bytes;
        if self.page_bytes >= directory::PAGE_BYTES {
            self.close_page();
        }
        Ok(())
    }

    /// Pages are written behind all segments, so that a reader can fetch them in one go.
    pub(crate) fn close_page(&mut self) {
        self.page_bytes = 0;
        let next = Page { original_at: self.original_at, segments: Vec::new() };
        let page = std::mem::replace(&mut self.page, next);
        if !page.segments.is_empty() {
            self.written.push(page);
        }
    }

    /// Writes what was lost, behind all segments; returns the payload's length.
    pub(crate) fn losses(&mut self, losses: &Losses) -> Result<u32> {
        self.section(section::LOSSES, 0, |out| losses.write_to(out))?;
        Ok(u32::try_from(self.scratch.len()).unwrap_or(u32::MAX))
    }

    /// Writes directory, footer and tail; returns the file's size.
    pub(crate) fn finish(mut self, mut footer: Footer) -> Result<u64> {
        self.close_page();
        for page in std::mem::take(&mut self.written) {
            let at = self.at;
            self.section(section::DIRECTORY, 0, |out| page.write_to(out))?;
            let len = u32::try_from(self.scratch.len()).unwrap_or(u32::MAX);
            let segments = u32::try_from(page.segments.len()).unwrap_or(u32::MAX);
            self.pages.push(PageRef { at, original_at: page.original_at, len, segments });
        }
        let at = self.at;
        footer.pages = std::mem::take(&mut self.pages);
        self.section(section::FOOTER, 0, |out| footer.write_to(out))?;
        let mut bytes = Vec::new();
        tail::write_to(at, &mut bytes);
        self.put(&bytes)?;
        self.to.flush().map_err(|e| Error::io("can't write the output", e))?;
        Ok(self.at)
    }

    /// Writes a section whose payload `fill` makes.
    pub(crate) fn section(
        &mut self,
        kind: u8,
        sub: u8,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        fill(&mut payload);
        let section = Section::of(kind, sub, &payload)?;
        self.put(&section.to_bytes())?;
        self.put(&payload)?;
        self.scratch = payload;
        self.pad(&section)
    }

    fn pad(&mut self, section: &Section) -> Result<()> {
        let padding = section.padded() - u64::from(section.len);
        self.put(&[0; 16][..usize::try_from(padding).unwrap_or(0)])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).map_err(|e| Error::io("can't write the output", e))?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}
