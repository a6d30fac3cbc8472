//! How a step is written: against a base if that pays, to disk, and read back before it gets its name.

use super::lock::PREFIX;
use crate::archive::Archive;
use crate::base::Base;
use crate::container::footer::Info;
use crate::error::{Error, Result};
use crate::lossy::Rules;
use crate::options::{DecodeOptions, Options};
use crate::output::Output;
use crate::pipeline::{Summary, compress};
use std::fs::Metadata;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// What a step may be coded against, and the keyframe that this leads to.
pub(super) struct Against<'a> {
    pub(super) base: Base,
    pub(super) keyframe: &'a Info,
    pub(super) nearer: Option<Nearer>,
}

/// What it is coded against if the base, which is further back, makes it clearly larger than this would.
pub(super) struct Nearer {
    pub(super) base: Base,
    /// What a step takes by such a base: bytes coded, of so many.
    pub(super) size: (u64, u64),
}

/// How a step is coded.
pub(super) struct Coding<'a> {
    /// The file it becomes.
    pub(super) target: &'a Path,
    /// All but the base.
    pub(super) options: Options,
    /// A file whose mode and modification time it gets.
    pub(super) like: Option<&'a Metadata>,
}

impl Coding<'_> {
    /// Writes a step, which has only to be given its name then.
    pub(super) fn write(
        &self,
        reader: impl Read,
        against: Option<&Against<'_>>,
    ) -> Result<(Output, Summary)> {
        let mut base = against.map(|against| against.base.clone()).unwrap_or_default();
        let (mut output, mut summary) = self.code(reader, &base, &self.options)?;
        if let Some(nearer) = against.and_then(|against| against.nearer.as_ref())
            && !is_nearly(nearer.size, size(&summary))
        {
            (output, summary) = self.again(&output, &base, &summary, &nearer.base)?;
            base = nearer.base.clone();
        }
        if let Some(against) = against
            && !summary.bases.is_empty()
            && !resembles_more(&summary, against.keyframe)
        {
            let (alone, its) = self.again(&output, &base, &summary, &Base::new())?;
            if !clearly_less(size(&summary), size(&its)) {
                return self.finish(alone, its, Base::new());
            }
        }
        self.finish(output, summary, base)
    }

    fn code(&self, reader: impl Read, base: &Base, options: &Options) -> Result<(Output, Summary)> {
        let output = Output::create(self.target, PREFIX, self.like.is_some())?;
        let options = Options { base: base.clone(), ..options.clone() };
        let summary = compress(reader, output.file()?, &options)?;
        Ok((output, summary))
    }

    /// The same with another base, or none. The reader is at its end, but what was written has it all.
    fn again(
        &self,
        written: &Output,
        base: &Base,
        summary: &Summary,
        other: &Base,
    ) -> Result<(Output, Summary)> {
        let archive = Arc::new(Archive::open_with(written.reopen()?, self.decode_options(base))?);
        let source = Some(Arc::clone(&archive) as _);
        // What it has is rounded already.
        let (lossy, losses) = (Rules::default(), summary.losses.clone());
        let options = Options { lossy, losses, source, ..self.options.clone() };
        let (output, its) = self.code(archive.reader(), other, &options)?;
        match its.blake3 == summary.blake3 {
            true => Ok((output, its)),
            false => Err(Error::corrupt("what was written decodes to something else")),
        }
    }

    fn finish(&self, output: Output, summary: Summary, base: Base) -> Result<(Output, Summary)> {
        output.seal(self.like)?;
        output.read_back(&summary.blake3, &self.decode_options(&base))?;
        Ok((output, summary))
    }

    fn decode_options(&self, base: &Base) -> DecodeOptions {
        let (threads, progress) = (self.options.threads, self.options.progress.clone());
        DecodeOptions { threads, progress, base: base.clone(), ..DecodeOptions::default() }
    }
}

/// Bytes coded, of so many.
fn size(summary: &Summary) -> (u64, u64) {
    (summary.compressed_bytes, summary.original_bytes)
}

/// Whether a step is certainly smaller by its base: it takes clearly less than the keyframe did, for its size.
/// Otherwise it is coded alone, too, to know.
fn resembles_more(summary: &Summary, keyframe: &Info) -> bool {
    clearly_less(size(summary), (keyframe.compressed_bytes, keyframe.original_bytes))
}

/// Whether one part of a whole is at least a 32nd smaller than another: for less, nothing should depend on a base.
fn clearly_less(part: (u64, u64), other: (u64, u64)) -> bool {
    scaled(part, other, 32) <= scaled(other, part, 31)
}

/// Whether one part of a whole is at most a 16th larger than another: fewer steps to be read are worth so much.
fn is_nearly(part: (u64, u64), other: (u64, u64)) -> bool {
    scaled(other, part, 16) <= scaled(part, other, 17)
}

/// A part of a whole, so many times, by what makes parts of two wholes comparable.
fn scaled((part, _): (u64, u64), (_, whole): (u64, u64), times: u128) -> u128 {
    (u128::from(part) * u128::from(whole)).saturating_mul(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_pays_from_one_in_32_on() {
        assert!(clearly_less((310, 400), (320, 400)));
        assert!(!clearly_less((311, 400), (320, 400)));
        assert!(clearly_less((620, 800), (320, 400)));
    }

    #[test]
    fn being_shallow_may_cost_a_16th() {
        assert!(is_nearly((160, 400), (170, 400)) && is_nearly((160, 400), (340, 800)));
        assert!(!is_nearly((160, 400), (171, 400)) && !is_nearly((320, 800), (171, 400)));
    }
}
