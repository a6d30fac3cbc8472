//! Random access: tensors and rows of a `.wz` (spec: "Random access").

mod against;
mod cache;
mod located;
mod many;
mod open;
mod reader;
mod tensor;
mod whole;

pub use tensor::{Rows, Stored, Tensor};

use crate::base::{BaseBytes, Found, Sure, Work};
use crate::container::bases::{BaseTensor, Bases};
use crate::container::directory::Placed;
use crate::container::footer::Info;
use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::runner::{Runner, try_fill};
use crate::source::Source;
use cache::Cache;
use located::{Located, LocatedBlock};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

/// An open `.wz`. Reads what is asked for: the directory when it is opened, a segment's block
/// table when one of its tensors is first read, and blocks one by one.
///
/// ```
/// use weightzip::{compress, Archive, Options};
/// let json = br#"{"w":{"dtype":"BF16","shape":[3,2],"data_offsets":[0,12]}}"#;
/// let mut file = (json.len() as u64).to_le_bytes().to_vec();
/// file.extend(json);
/// file.extend(0..12);
/// let mut wz = Vec::new();
/// compress(file.as_slice(), &mut wz, &Options::default())?;
///
/// let archive = Archive::open(wz)?;
/// let mut row = [0; 4];
/// archive.tensor("w")?.rows(1..2)?.read_into(&mut row)?;
/// assert_eq!(row, [4, 5, 6, 7]);
/// # Ok::<(), weightzip::Error>(())
/// ```
pub struct Archive<S> {
    source: S,
    options: DecodeOptions,
    info: Info,
    /// What the file is coded against; where that is, once it was found.
    bases: Bases,
    found: OnceLock<Found>,
    segments: Vec<Placed>,
    /// Where each segment's bytes start in the original.
    starts: Vec<u64>,
    /// The tensors in file order; and by name.
    tensors: Vec<Place>,
    by_name: HashMap<String, usize>,
    /// What was read of each segment.
    located: Vec<OnceLock<Located>>,
    /// The blocks that were decoded last, for small tensors share one.
    cache: Cache,
}

/// Where a tensor is.
#[derive(Clone, Copy)]
struct Place {
    segment: usize,
    span: usize,
    /// Where its bytes start in the original.
    start: u64,
}

impl<S: Source> Archive<S> {
    /// What the file says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The tensors of other files that this one is coded against, and can't be read without; empty if it
    /// stands alone.
    pub fn bases(&self) -> &[BaseTensor] {
        &self.bases.tensors
    }

    /// Looks for the bases among those that it was [opened](Self::open_with) with.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) that names the first one that is missing.
    pub fn check_bases(&self) -> Result<()> {
        self.find_bases().map(|_| ())
    }

    /// Where the bases are. Looks for them the first time; their blocks' hashes tell whether they
    /// are the right ones.
    pub(crate) fn find_bases(&self) -> Result<&Found> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let found = self.options.base.find(&self.bases, Sure::ByBlock, &self.options.limits)?;
        Ok(self.found.get_or_init(|| found))
    }

    /// The tensors, in file order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_, S>> {
        self.tensors.iter().filter_map(|&place| self.tensor_at(place))
    }

    fn tensor_at(&self, place: Place) -> Option<Tensor<'_, S>> {
        let span = &self.segments[place.segment].spans[place.span];
        let (info, blake3) = span.tensor.as_ref()?;
        Some(Tensor {
            archive: self,
            info,
            blake3: *blake3,
            segment: place.segment,
            range: place.start..place.start + span.bytes,
        })
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is none.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_, S>> {
        let found = self.by_name.get(name).and_then(|&index| self.tensor_at(self.tensors[index]));
        found.ok_or_else(|| Error::argument("there is no tensor of this name").in_tensor(name))
    }

    /// Fills `out` with the original's bytes from `offset` on. Decodes the blocks that have them; compares with the
    /// BLAKE3 if that is a whole tensor, unless [`check_blocks`](DecodeOptions::check_blocks) is off.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the original ends before, else what [`decompress`](crate::decompress) reports.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.fill_from(offset, out, None)?;
        self.check_range(offset, out)
    }

    /// [`read_at`](Self::read_at) without the BLAKE3, for a block of another file if there is a budget of its `work`.
    pub(crate) fn fill_from(&self, offset: u64, out: &mut [u8], work: Option<&Work>) -> Result<()> {
        let end = self.check(offset, out.len() as u64)?;
        let (mut at, mut rest) = (offset, out);
        while at < end {
            let segment = self.segment_of(at);
            let segment_end = self.starts[segment] + self.segments[segment].bytes;
            let part = usize::try_from(segment_end.min(end) - at).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(part.min(rest.len()));
            self.read_segment(segment, at - self.starts[segment], now, work)?;
            at += part as u64;
            rest = later;
        }
        Ok(())
    }

    /// [`fill_from`](Self::fill_from) of what other segments repeat.
    fn read_repeated(&self, offset: u64, out: &mut [u8], work: Option<&Work>) -> Result<()> {
        let end = self.check(offset, out.len() as u64)?;
        for segment in self.segment_of(offset)..=self.segment_of(end.saturating_sub(1)) {
            if !self.located(segment)?.is_alone() {
                return Err(Error::corrupt("a segment repeats one that has a base"));
            }
        }
        self.fill_from(offset, out, work)
    }

    /// Where a range of the original ends, if the original has it.
    fn check(&self, offset: u64, len: u64) -> Result<u64> {
        let end = offset.checked_add(len).filter(|&end| end <= self.info.original_bytes);
        end.ok_or_else(|| {
            Error::argument(format!("the original has {} bytes", self.info.original_bytes))
        })
    }

    /// The segment that has a byte of the original.
    fn segment_of(&self, at: u64) -> usize {
        self.starts.partition_point(|&start| start <= at).saturating_sub(1)
    }

    /// Fills `out` from `start` of a segment on.
    fn read_segment(
        &self,
        segment: usize,
        start: u64,
        out: &mut [u8],
        work: Option<&Work>,
    ) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let located = self.located(segment)?;
        let (mut at, mut rest) = (start, out);
        let mut index = located.block_of(start);
        while !rest.is_empty() {
            let block = &located.blocks[index];
            let skip = usize::try_from(at - block.start).unwrap_or(usize::MAX);
            let end = at + rest.len() as u64;
            let whole = match skip {
                0 => located.blocks[index..].partition_point(|b| b.end() <= end),
                _ => 0,
            };
            let part = match whole.checked_sub(1) {
                Some(last) => located.blocks[index + last].end() - at,
                None => (block.bytes - skip).min(rest.len()) as u64,
            };
            let (now, later) = rest.split_at_mut(usize::try_from(part).unwrap_or(usize::MAX));
            if whole > 0 {
                self.decode(located, &located.blocks[index..index + whole], now, work)?;
            } else {
                let block = self.cached(segment, index, located, work)?;
                now.copy_from_slice(&block[skip..][..now.len()]);
            }
            at += part;
            rest = later;
            index += whole.max(1);
        }
        Ok(())
    }

    /// Decodes whole blocks that follow one another.
    fn decode(
        &self,
        located: &Located,
        blocks: &[LocatedBlock],
        out: &mut [u8],
        work: Option<&Work>,
    ) -> Result<()> {
        // Who decodes for another file has threads of his own, and may hold a block that others wait for.
        let is_inline = blocks.len() == 1 || work.is_some();
        let runner = Runner::new(if is_inline { 1 } else { self.options.threads })?;
        let decode = |block: &LocatedBlock, out: &mut [u8]| located.decode(self, block, out, work);
        match runner {
            Runner::Inline => try_fill(blocks, out, false, &|b| b.start, &decode),
            Runner::Pool(pool) => {
                pool.install(|| try_fill(blocks, out, true, &|b| b.start, &decode))
            }
        }
    }

    /// A block's bytes, kept for the next call. What a block repeats has no base, so nobody waits for himself.
    fn cached(
        &self,
        segment: usize,
        block: usize,
        located: &Located,
        work: Option<&Work>,
    ) -> Result<Arc<Vec<u8>>> {
        self.cache.get((segment, block), || {
            let mut bytes = vec![0; located.blocks[block].bytes];
            located.decode(self, &located.blocks[block], &mut bytes, work)?;
            Ok(bytes)
        })
    }

    /// The description and block table of a segment.
    fn located(&self, index: usize) -> Result<&Located> {
        if let Some(located) = self.located[index].get() {
            return Ok(located);
        }
        let placed = &self.segments[index];
        let (bases, at) = (&self.bases, self.starts[index]);
        let located = Located::read(&self.source, placed, bases, at, &self.options.limits);
        let located = located.map_err(|e| e.at(placed.at))?;
        Ok(self.located[index].get_or_init(|| located))
    }
}

/// The original of an archive, as far as its segments may repeat it.
pub(crate) struct Repeated<'a, S>(pub(crate) &'a Archive<S>);

impl<S: Source> Source for Repeated<'_, S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.info.original_bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_repeated(offset, buf, None).map_err(io::Error::other)
    }
}

impl<S: Source> BaseBytes for Repeated<'_, S> {
    fn read_for(&self, work: &Work, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_repeated(offset, buf, Some(work)).map_err(io::Error::other)
    }
}
