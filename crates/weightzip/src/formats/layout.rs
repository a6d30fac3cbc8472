//! What a file holds: spans from its start to its end.

use super::Format;
use super::tensors::{Extent, Tensors, flaw, name_of};
use super::warnings::Warnings;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::span::Span;
use std::collections::HashSet;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the file was recognised as.
    pub format: Format,
    /// Spans in file order, without gaps, from the file's start.
    pub spans: Vec<Span>,
    /// What is wrong with the file, for people: it is restored identically all the same.
    pub warnings: Vec<String>,
}

impl Layout {
    pub(super) fn opaque(warnings: Vec<String>) -> Self {
        Self { format: Format::Opaque, spans: Vec::new(), warnings }
    }

    /// The layout of a file of which these tensors are known.
    pub(crate) fn known(format: Format, known: Vec<Span>, size: u64) -> Self {
        let mut tensors = Tensors::new(Extent::File(size));
        known.into_iter().for_each(|span| tensors.add(span));
        Self::of_tensors(format, tensors, Warnings::default())
    }

    /// The layout of a file that has these tensors and records, and opaque bytes around them.
    pub(super) fn of_tensors(format: Format, tensors: Tensors, mut warnings: Warnings) -> Self {
        let spans = tensors.into_spans(&mut warnings);
        Self { format, spans, warnings: warnings.finish() }
    }

    /// The same bytes as numbers of this dtype, from the first byte on, if no format was found that says
    /// what they are. A part of a number at the end stays opaque.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if one was.
    ///
    /// ```
    /// use weightzip::{Dtype, scan};
    /// let layout = scan([7; 21].as_slice())?.of_numbers(Dtype::Bf16)?;
    /// let ranges: Vec<_> = layout.spans.iter().map(|span| span.range.clone()).collect();
    /// assert_eq!(ranges, [0..20, 20..21]);
    /// # Ok::<(), weightzip::Error>(())
    /// ```
    pub fn of_numbers(self, dtype: Dtype) -> Result<Self> {
        if self.format != Format::Opaque || self.spans.iter().any(|span| span.tensor.is_some()) {
            let format = self.format.name();
            return Err(Error::argument(format!(
                "this is {format}, which says what its numbers are; leave out the dtype"
            )));
        }
        let (records, end) = (dtype.record_layout(), self.end());
        let whole = end - end % u64::from(records.bytes());
        let numbers = Span::records(0..whole, records);
        let spans = [numbers, Span::opaque(whole..end)];
        let spans = spans.into_iter().filter(|span| !span.range.is_empty()).collect();
        // Whoever says what the numbers are needn't hear what else they might have been.
        Ok(Self { spans, ..Self::opaque(Vec::new()) })
    }

    /// Checks what a caller brings.
    pub(crate) fn check(&self) -> Result<()> {
        let (mut names, mut at) = (HashSet::new(), 0);
        for span in &self.spans {
            let bad = |why| Err(Error::argument(why).at(span.range.start).in_tensor(name_of(span)));
            if span.range.start != at || span.range.end < at {
                return bad(
                    "the layout's spans must follow one another without gaps, from zero on",
                );
            }
            if let Some(why) = flaw(span) {
                return bad(why);
            }
            if span.tensor.is_some() && !names.insert(name_of(span)) {
                return bad("the layout has two tensors of this name");
            }
            at = span.range.end;
        }
        Ok(())
    }

    /// Where the last span ends.
    pub(super) fn end(&self) -> u64 {
        self.spans.last().map_or(0, |s| s.range.end)
    }

    /// The layout of a file that turned out to have `size` bytes: tensors that are cut short
    /// become opaque, and so does what follows the last span. Opaque bytes at the end, such as padding, may be
    /// missing.
    #[must_use]
    pub(crate) fn fit(mut self, size: u64) -> Self {
        let end = self.end();
        if size < end {
            let is_opaque = |span: &&Span| span.tensor.is_none() && span.records.is_none();
            let wanted = self.spans.iter().rfind(|span| !is_opaque(span));
            if let Some(wanted) = wanted.map(|span| span.range.end).filter(|end| size < *end) {
                self.warnings.push(format!(
                    "the file ends early: it has {size} bytes, its header tells of {wanted}"
                ));
            }
            self.spans.retain(|s| s.range.end <= size || s.range.start < size);
            if let Some(cut) = self.spans.last_mut().filter(|s| s.range.end > size) {
                *cut = Span::opaque(cut.range.start..size);
            }
        } else if size > end {
            // What is odd about the file mostly explains them.
            if self.format != Format::Opaque && self.warnings.is_empty() {
                self.warnings.push(format!("{} bytes follow the last tensor", size - end));
            }
            self.spans.push(Span::opaque(end..size));
        }
        self
    }
}
