//! Random access: tensors and rows of a `.wz` (spec: "Random access").

mod against;
mod located;
mod many;
mod reader;
mod tensor;

pub use tensor::{Rows, Stored, Tensor};

use crate::base::{Found, Sure};
use crate::container::bases::{BaseTensor, Bases};
use crate::container::directory::{self, Placed};
use crate::container::footer::Info;
use crate::container::index::{Opening, Step};
use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::runner::{Runner, try_fill};
use crate::source::Source;
use located::{Located, LocatedBlock, read};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
    /// The block that was decoded last, for small tensors share one.
    last: Mutex<Option<LastBlock>>,
}

/// Where a tensor is.
#[derive(Clone, Copy)]
struct Place {
    segment: usize,
    span: usize,
    /// Where its bytes start in the original.
    start: u64,
}

struct LastBlock {
    segment: usize,
    block: usize,
    bytes: Arc<Vec<u8>>,
}

impl<S: Source> Archive<S> {
    /// Opens a `.wz`: reads its header, tail, footer and directory, normally in two reads.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if it is no `.wz`, else what [`decompress`](crate::decompress) reports.
    pub fn open(source: S) -> Result<Self> {
        Self::open_with(source, DecodeOptions::default())
    }

    /// [`Archive::open`] with limits of one's own.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn open_with(source: S, options: DecodeOptions) -> Result<Self> {
        let size = source.size().map_err(|e| Error::io("can't read the input", e))?;
        let mut opening = Opening::new(size, options.limits);
        let (info, bases, segments) = loop {
            match opening.step()? {
                Step::Ready(found) => break *found,
                Step::Need(range) => opening.feed(range.start, read(&source, range)?),
            }
        };
        options.check_lossless(info.losses.is_some())?;
        directory::check_names(&segments)?;
        let (mut starts, mut tensors, mut by_name) = (Vec::new(), Vec::new(), HashMap::new());
        let mut at = 0;
        for (i, segment) in segments.iter().enumerate() {
            starts.push(at);
            for (j, span) in segment.spans.iter().enumerate() {
                if let Some((tensor, _)) = &span.tensor {
                    by_name.insert(tensor.name.clone(), tensors.len());
                    tensors.push(Place { segment: i, span: j, start: at });
                }
                at += span.bytes;
            }
        }
        if tensors.len() as u64 != info.tensors {
            return Err(Error::corrupt("the footer counts other tensors than the directory"));
        }
        let located = segments.iter().map(|_| OnceLock::new()).collect();
        let last = Mutex::new(None);
        let found = OnceLock::new();
        Ok(Self {
            source,
            options,
            info,
            bases,
            found,
            segments,
            starts,
            tensors,
            by_name,
            located,
            last,
        })
    }

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
        let found = self.options.base.find(&self.bases, Sure::ByBlock)?;
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

    /// Fills `out` with the original's bytes from `offset` on. Decodes the blocks that have them.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the original ends before, else what [`decompress`](crate::decompress) reports.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = self.check(offset, out.len() as u64)?;
        let (mut at, mut rest) = (offset, out);
        while at < end {
            let segment = self.segment_of(at);
            let segment_end = self.starts[segment] + self.segments[segment].bytes;
            let part = usize::try_from(segment_end.min(end) - at).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(part.min(rest.len()));
            self.read_segment(segment, at - self.starts[segment], now)?;
            at += part as u64;
            rest = later;
        }
        Ok(())
    }

    /// [`read_at`](Self::read_at) of what other segments repeat.
    fn read_repeated(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = self.check(offset, out.len() as u64)?;
        for segment in self.segment_of(offset)..=self.segment_of(end.saturating_sub(1)) {
            if !self.located(segment)?.is_alone() {
                return Err(Error::corrupt("a segment repeats one that has a base"));
            }
        }
        self.read_at(offset, out)
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
    fn read_segment(&self, segment: usize, start: u64, out: &mut [u8]) -> Result<()> {
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
                self.decode(located, &located.blocks[index..index + whole], now)?;
            } else {
                now.copy_from_slice(&self.cached(segment, index, located)?[skip..][..now.len()]);
            }
            at += part;
            rest = later;
            index += whole.max(1);
        }
        Ok(())
    }

    /// Decodes whole blocks that follow one another.
    fn decode(&self, located: &Located, blocks: &[LocatedBlock], out: &mut [u8]) -> Result<()> {
        let runner = Runner::new(if blocks.len() == 1 { 1 } else { self.options.threads })?;
        let decode = |block: &LocatedBlock, out: &mut [u8]| located.decode(self, block, out);
        match runner {
            Runner::Inline => try_fill(blocks, out, false, &|b| b.start, &decode),
            Runner::Pool(pool) => {
                pool.install(|| try_fill(blocks, out, true, &|b| b.start, &decode))
            }
        }
    }

    /// A block's bytes, kept for the next call.
    fn cached(&self, segment: usize, block: usize, located: &Located) -> Result<Arc<Vec<u8>>> {
        let lock = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = lock();
        if let Some(last) = last.as_ref().filter(|l| (l.segment, l.block) == (segment, block)) {
            return Ok(Arc::clone(&last.bytes));
        }
        // Others wait, for they may want the same block; but what a block repeats is read in the same way.
        let repeats = !self.bases.repeated.is_empty() && !located.is_alone();
        let held = (!repeats).then_some(last);
        let mut bytes = vec![0; located.blocks[block].bytes];
        located.decode(self, &located.blocks[block], &mut bytes)?;
        let bytes = Arc::new(bytes);
        let mut last = held.unwrap_or_else(lock);
        *last = Some(LastBlock { segment, block, bytes: Arc::clone(&bytes) });
        Ok(bytes)
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
        self.0.read_repeated(offset, buf).map_err(io::Error::other)
    }
}
