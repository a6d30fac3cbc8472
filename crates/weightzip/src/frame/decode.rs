//! Frame in, records out.

use super::FrameOptions;
use crate::codec::{self, Block, Context};
use crate::container::MAX_BLOCK_BYTES;
use crate::container::bases::Bases;
use crate::container::header;
use crate::container::section::{self, Section, Sections};
use crate::container::segment::Segment;
use crate::container::table::{self, Entry};
use crate::error::{Error, Result};
use crate::options::Watch;
use crate::runner::Runner;

/// Bytes that a frame says it decodes to: [`decompress_frame_into`] must be given so many.
///
/// Reads the first few bytes only. A frame too short for what it says is refused, but a hostile
/// one may still say 2^18 times its own size.
///
/// # Errors
/// As [`decompress_frame_into`].
pub fn frame_len(frame: &[u8]) -> Result<u64> {
    Ok(Opened::of(frame)?.bytes)
}

/// Decompresses a frame into `out`, which must have exactly its bytes ([`frame_len`]).
///
/// Payloads are not copied, and `out` is written once. Only the blocks' checksums guard it: what a
/// frame is for and whether it is the right one is for its keeper to know.
///
/// # Errors
/// [`InvalidArgument`](crate::Kind::InvalidArgument) if this is no frame or `out` has another
/// length, else [`Corruption`](crate::Kind::Corruption),
/// [`InsufficientData`](crate::Kind::InsufficientData) or
/// [`Compatibility`](crate::Kind::Compatibility) with the offset in the frame. `out` has no
/// meaning then.
pub fn decompress_frame_into(frame: &[u8], out: &mut [u8], options: &FrameOptions) -> Result<()> {
    decompress_frame_watched(frame, out, options, &|_| Ok(()))
}

/// [`decompress_frame_into`], and `watch` hears of each block's bytes.
///
/// # Errors
/// As [`decompress_frame_into`], or [`Io`](crate::Kind::Io) if `watch` ended it.
pub fn decompress_frame_watched(
    frame: &[u8],
    out: &mut [u8],
    options: &FrameOptions,
    watch: &Watch<'_>,
) -> Result<()> {
    let opened = Opened::of(frame)?;
    if opened.bytes != out.len() as u64 {
        let (bytes, len) = (opened.bytes, out.len());
        return Err(Error::argument(format!("{bytes} bytes don't fit a buffer of {len}")));
    }
    let (context, mut blocks) = opened.blocks(out)?;
    let layout = &opened.segment.layout;
    let runner = Runner::new(if blocks.len() == 1 { 1 } else { options.threads })?;
    runner.try_each(&mut blocks, |Work { at, block, out }| {
        let decoded = match options.check_blocks {
            true => codec::decode_block_into(layout, context.as_ref(), block, out),
            false => codec::decode_unchecked(layout, context.as_ref(), block, out),
        };
        decoded.map_err(|e| e.at(*at))?;
        watch(out.len() as u64).map_err(Error::stopped)
    })
}

/// A frame whose first section was read.
struct Opened<'a> {
    segment: Segment,
    /// What it says it decodes to.
    bytes: u64,
    frame: &'a [u8],
    /// Offset of what follows.
    at: u64,
}

/// A block to be decoded, and where to.
struct Work<'f, 'o> {
    /// Offset of its payload in the frame.
    at: u64,
    block: Block<'f>,
    out: &'o mut [u8],
}

impl<'a> Opened<'a> {
    fn of(frame: &'a [u8]) -> Result<Self> {
        header::read_frame(header::of(frame)?)?;
        let mut sections = sections(frame, header::LEN as u64);
        let (at, section, padded) = next(&mut sections)?;
        let segment = match section.kind {
            section::SEGMENT => section.open(padded).and_then(Segment::read_from),
            _ => Err(section.misplaced()),
        };
        let segment = segment.map_err(|e| e.at(at))?;
        segment.check_base(&Bases::default(), 0).map_err(|e| e.at(at))?;
        let [bytes] = segment.spans[..] else {
            return Err(Error::corrupt("a frame has one span").at(at));
        };
        // A block has a header and a preamble at least.
        let blocks = bytes.div_ceil(MAX_BLOCK_BYTES as u64);
        if blocks > (frame.len() / (section::LEN + codec::PREAMBLE)) as u64 {
            return Err(cut().at(frame.len() as u64));
        }
        Ok(Self { segment, bytes, frame, at: sections.at() })
    }

    /// The context, and the blocks with their parts of `out`; all that a block table can tell is
    /// checked.
    fn blocks<'o>(&self, mut out: &'o mut [u8]) -> Result<(Option<Context>, Vec<Work<'a, 'o>>)> {
        let (mut context, mut entries, mut work) = (None, Vec::new(), Vec::new());
        let mut sections = sections(self.frame, self.at);
        loop {
            let (at, section, padded) = next(&mut sections)?;
            let mut take = || match section.kind {
                section::CONTEXT if work.is_empty() => {
                    let payload = section.open(padded)?;
                    Context::add(&mut context, section.sub, payload, &self.segment.layout)
                }
                section::BLOCK => {
                    let payload = section.unpad(padded)?;
                    let entry = Entry::of_section(&section, payload)?;
                    self.segment.check_coding(entry.coding)?;
                    let bytes = entry.decoded_len(&self.segment.layout, MAX_BLOCK_BYTES)?;
                    let parts = std::mem::take(&mut out).split_at_mut_checked(bytes);
                    let (part, rest) = parts.ok_or_else(differs)?;
                    out = rest;
                    entries.push(entry);
                    let at = at + section::LEN as u64;
                    work.push(Work { at, block: entry.block(payload), out: part });
                    Ok(())
                }
                section::TABLE => {
                    let same = table::read_from(section.open(padded)?)? == entries;
                    same.then_some(()).ok_or_else(|| {
                        Error::corrupt("the block table differs from the blocks before it")
                    })
                }
                _ => Err(section.misplaced()),
            };
            take().map_err(|e| e.at(at))?;
            if section.kind == section::TABLE {
                break;
            }
        }
        if !out.is_empty() {
            return Err(differs().at(sections.at()));
        }
        if sections.at() != self.frame.len() as u64 {
            return Err(Error::corrupt("bytes follow the frame").at(sections.at()));
        }
        Ok((context, work))
    }
}

fn sections(frame: &[u8], at: u64) -> Sections<'_> {
    let rest = usize::try_from(at).ok().and_then(|at| frame.get(at..));
    Sections::new(at, rest.unwrap_or_default(), cut)
}

/// The next section with its offset and padded payload; there must be one.
fn next<'a>(sections: &mut Sections<'a>) -> Result<(u64, Section, &'a [u8])> {
    let at = sections.at();
    let (section, padded) = sections.next()?.ok_or_else(|| cut().at(at))?;
    Ok((at, section, padded))
}

fn cut() -> Error {
    Error::short("the frame is cut short")
}

fn differs() -> Error {
    Error::corrupt("the frame's blocks don't have the bytes that it says")
}
