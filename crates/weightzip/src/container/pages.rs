//! What the pages of a directory must say together (spec: "Directory", "Footer"): one validation for both kinds of
//! readers.

use super::ALIGN;
use super::directory::{Page, Placed};
use super::footer::{Footer, PageRef};
use super::section::padded_section;
use crate::error::{Error, Result};
use std::collections::HashSet;
use std::ops::Range;

/// Pages that were read, in order.
pub(crate) struct Pages {
    /// All segments so far.
    segments: Vec<Placed>,
    refs: Vec<PageRef>,
    /// Bytes of the original in these segments.
    original_at: u64,
    /// Offset in the file behind the last of them.
    behind: u64,
}

impl Pages {
    /// No pages of a file whose segments begin at `first` or behind.
    pub(crate) fn new(first: u64) -> Self {
        Self { segments: Vec::new(), refs: Vec::new(), original_at: 0, behind: first }
    }

    /// Adds the page whose section is at `at`, with a payload of `len` bytes.
    ///
    /// Refuses what does not continue the pages before it, and segments that overlap or are out of order.
    pub(crate) fn add(&mut self, at: u64, len: u32, page: Page) -> Result<()> {
        let bad = |why: &str| Error::corrupt(format!("a directory page {why}")).at(at);
        if self.refs.last().is_some_and(|last| end_of(last) != at) {
            return Err(bad("doesn't follow the one before it"));
        }
        if page.original_at != self.original_at {
            return Err(bad("starts at another byte than the one before it ends"));
        }
        let segments = u32::try_from(page.segments.len()).unwrap_or(u32::MAX);
        self.refs.push(PageRef { at, original_at: self.original_at, len, segments });
        for segment in page.segments {
            let in_order = self.behind <= segment.at && segment.at < segment.blocks_at;
            if !in_order || !segment.at.is_multiple_of(ALIGN) {
                return Err(bad(
                    "has a segment where none can be: behind a later one, or in another",
                ));
            }
            self.behind = segment.end().ok_or_else(|| bad("has a segment that ends nowhere"))?;
            let end = self.original_at.checked_add(segment.bytes);
            self.original_at = end.ok_or_else(|| bad("counts too far"))?;
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Compares with the footer at `footer_at`, and with what stands behind the segments: losses or the
    /// directory, from `segments_end` on.
    pub(crate) fn finish(
        self,
        footer: &Footer,
        footer_at: u64,
        segments_end: u64,
    ) -> Result<Vec<Placed>> {
        let bad = |why| Err(Error::corrupt(why).at(footer_at));
        if self.behind > segments_end {
            return bad("the directory has a segment behind itself");
        }
        if self.refs.last().is_some_and(|last| end_of(last) != footer_at) {
            return bad("the footer doesn't follow the directory");
        }
        let tensors =
            || self.segments.iter().flat_map(|s| &s.spans).filter_map(|s| s.tensor.as_ref());
        if footer.pages != self.refs
            || footer.original_bytes != self.original_at
            || footer.tensors != tensors().count() as u64
        {
            return bad("the footer differs from the directory before it");
        }
        let mut names = HashSet::new();
        if let Some((tensor, _)) = tensors().find(|(tensor, _)| !names.insert(&tensor.name)) {
            return Err(Error::corrupt("two tensors have the same name").in_tensor(&tensor.name));
        }
        Ok(self.segments)
    }
}

/// Refuses a footer's pages unless they follow one another up to the footer; where they are.
pub(crate) fn extent(pages: &[PageRef], footer_at: u64) -> Result<Range<u64>> {
    let mut at = pages.first().map_or(footer_at, |first| first.at);
    let start = at;
    for page in pages {
        if page.at != at {
            at = u64::MAX;
            break;
        }
        at = end_of(page);
    }
    match at == footer_at {
        true => Ok(start..footer_at),
        false => {
            Err(Error::corrupt("the footer's directory pages don't follow one another up to it")
                .at(footer_at))
        }
    }
}

/// Offset behind a page's section.
fn end_of(page: &PageRef) -> u64 {
    page.at.saturating_add(padded_section(page.len))
}
