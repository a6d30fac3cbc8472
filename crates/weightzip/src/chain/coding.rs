//! How a step is written: against a base if that pays, to disk, and read back before it gets its name.

use super::store::PREFIX;
use crate::archive::Archive;
use crate::base::Base;
use crate::container::footer::Info;
use crate::error::{Error, Result};
use crate::lossy::Rules;
use crate::options::{DecodeOptions, Options};
use crate::output::Output;
use crate::pipeline::{Summary, compress};
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// What a step may be coded against, and the keyframe that this leads to.
pub(super) struct Against<'a> {
    pub(super) base: Base,
    pub(super) keyframe: &'a Info,
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
        let base = against.map(|against| against.base.clone()).unwrap_or_default();
        let (output, summary) = self.code(reader, &base, &self.options)?;
        if let Some(against) = against
            && !summary.bases.is_empty()
            && !resembles_more(&summary, against.keyframe)
        {
            let (alone, its) = self.again_alone(&output, &base, &summary)?;
            if !clearly_less((summary.compressed_bytes, 1), (its.compressed_bytes, 1)) {
                if its.blake3 != summary.blake3 {
                    return Err(Error::corrupt("what was written decodes to something else"));
                }
                drop(output);
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

    /// The same without a base. The reader is at its end, but what was written has it all.
    fn again_alone(
        &self,
        written: &Output,
        base: &Base,
        summary: &Summary,
    ) -> Result<(Output, Summary)> {
        let file = File::open(written.path());
        let file = file.map_err(|e| Error::io("can't read the result back", e))?;
        let archive = Arc::new(Archive::open_with(file, self.decode_options(base))?);
        let source = Some(Arc::clone(&archive) as _);
        // What it has is rounded already.
        let (lossy, losses) = (Rules::default(), summary.losses.clone());
        let options = Options { lossy, losses, source, ..self.options.clone() };
        self.code(archive.reader(), &Base::new(), &options)
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

/// Whether a step is certainly smaller by its base: it takes clearly less than the keyframe did, for its size.
/// Otherwise it is coded alone, too, to know.
fn resembles_more(summary: &Summary, keyframe: &Info) -> bool {
    let step = (summary.compressed_bytes, summary.original_bytes);
    clearly_less(step, (keyframe.compressed_bytes, keyframe.original_bytes))
}

/// Whether one part of a whole is at least a 32nd smaller than another: for less, nothing should depend on a base.
fn clearly_less((part, whole): (u64, u64), (other, its_whole): (u64, u64)) -> bool {
    let product = |a: u64, b: u64, c: u128| (u128::from(a) * u128::from(b)).saturating_mul(c);
    product(part, its_whole, 32) <= product(other, whole, 31)
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
}
