//! Random access: tensors and rows of a `.wz` (spec: "Random access").

use crate::codec::{self, Block, Coding, Context};
use crate::container::directory::{self, Hash, Placed};
use crate::container::footer::Info;
use crate::container::index::{Opening, Step};
use crate::container::section::{self, Section};
use crate::container::segment::Segment;
use crate::container::table;
use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::source::Source;
use crate::span::TensorInfo;
use std::collections::HashMap;
use std::ops::Range;
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
    segments: Vec<Placed>,
    /// Where each segment's bytes start in the original.
    starts: Vec<u64>,
    /// Segment and span of each tensor, in file order; and by name.
    tensors: Vec<(usize, usize)>,
    by_name: HashMap<String, usize>,
    /// What was read of each segment.
    loaded: Vec<OnceLock<Arc<Loaded>>>,
    /// The block that was decoded last, for small tensors share one.
    last: Mutex<Option<LastBlock>>,
}

/// A segment's own description and block table.
struct Loaded {
    segment: Segment,
    context: Option<Context>,
    blocks: Vec<Located>,
}

struct Located {
    entry: table::Entry,
    /// Offset of its section in the file.
    at: u64,
    /// Where its bytes start in the segment.
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
        let (info, segments) = loop {
            match opening.step()? {
                Step::Ready(info, segments) => break (info, segments),
                Step::Need(range) => opening.feed(range.start, read(&source, range)?),
            }
        };
        directory::check_names(&segments)?;
        let (mut starts, mut tensors, mut by_name) = (Vec::new(), Vec::new(), HashMap::new());
        let mut start = 0;
        for (i, segment) in segments.iter().enumerate() {
            starts.push(start);
            start += segment.bytes;
            for (j, span) in segment.spans.iter().enumerate() {
                if let Some((tensor, _)) = &span.tensor {
                    by_name.insert(tensor.name.clone(), tensors.len());
                    tensors.push((i, j));
                }
            }
        }
        if tensors.len() as u64 != info.tensors {
            return Err(Error::corrupt("the footer counts other tensors than the directory"));
        }
        let loaded = segments.iter().map(|_| OnceLock::new()).collect();
        Ok(Self {
            source,
            options,
            info,
            segments,
            starts,
            tensors,
            by_name,
            loaded,
            last: Mutex::new(None),
        })
    }

    /// What the file says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The tensors, in file order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_, S>> {
        self.tensors.iter().filter_map(|&at| self.tensor_at(at))
    }

    fn tensor_at(&self, (segment, span): (usize, usize)) -> Option<Tensor<'_, S>> {
        let (info, blake3) = self.segments[segment].spans[span].tensor.as_ref()?;
        Some(Tensor { archive: self, segment, span, info, blake3: *blake3 })
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
        let end =
            offset.checked_add(out.len() as u64).filter(|&end| end <= self.info.original_bytes);
        let end = end.ok_or_else(|| {
            Error::argument(format!("the original has {} bytes", self.info.original_bytes))
        })?;
        let (mut at, mut rest) = (offset, out);
        while at < end {
            let segment = self.starts.partition_point(|&start| start <= at) - 1;
            let segment_end = self.starts[segment] + self.segments[segment].bytes;
            let part = usize::try_from(segment_end.min(end) - at).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(part.min(rest.len()));
            self.read_segment(segment, at - self.starts[segment], now)?;
            at += part as u64;
            rest = later;
        }
        Ok(())
    }

    /// Fills `out` from `start` of a segment on.
    fn read_segment(&self, segment: usize, start: u64, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let loaded = self.load(segment)?;
        let (mut at, mut rest) = (start, out);
        let mut block = loaded.blocks.partition_point(|b| b.start <= start) - 1;
        while !rest.is_empty() {
            let located = &loaded.blocks[block];
            let size = loaded.size_of(located);
            let skip = usize::try_from(at - located.start).unwrap_or(usize::MAX);
            let part = (size - skip).min(rest.len());
            let (now, later) = rest.split_at_mut(part);
            if part == size {
                self.decode(&loaded, located, now)?;
            } else {
                now.copy_from_slice(&self.cached(segment, block, &loaded)?[skip..][..part]);
            }
            at += part as u64;
            rest = later;
            block += 1;
        }
        Ok(())
    }

    /// A block's bytes, kept for the next call.
    fn cached(&self, segment: usize, block: usize, loaded: &Loaded) -> Result<Arc<Vec<u8>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|l| (l.segment, l.block) == (segment, block)) {
            return Ok(Arc::clone(&last.bytes));
        }
        let located = &loaded.blocks[block];
        let mut bytes = vec![0; loaded.size_of(located)];
        self.decode(loaded, located, &mut bytes)?;
        let bytes = Arc::new(bytes);
        *last = Some(LastBlock { segment, block, bytes: Arc::clone(&bytes) });
        Ok(bytes)
    }

    fn decode(&self, loaded: &Loaded, located: &Located, out: &mut [u8]) -> Result<()> {
        let expected = located.entry.section();
        let mut payload = read(&self.source, located.at..located.at + expected.whole())?;
        let decode = || {
            let found = payload.first_chunk().map(Section::from_bytes).transpose()?;
            if found != Some(expected) {
                return Err(Error::corrupt(
                    "a block's header differs from its entry in the block table",
                ));
            }
            payload.drain(..section::LEN);
            let len = expected.unpad(&payload)?.len();
            payload.truncate(len);
            let table::Entry { coding, records, check, .. } = located.entry;
            let block = Block { coding, records, check, payload };
            let (layout, context) = (&loaded.segment.layout, loaded.context.as_ref());
            match self.options.check_blocks {
                true => codec::decode_block_into(layout, context, &block, out),
                false => codec::decode_unchecked(layout, context, &block, out),
            }
        };
        let decode: Result<()> = { decode }();
        decode.map_err(|e| e.at(located.at))
    }

    /// The description and block table of a segment.
    fn load(&self, index: usize) -> Result<Arc<Loaded>> {
        if let Some(loaded) = self.loaded[index].get() {
            return Ok(Arc::clone(loaded));
        }
        let placed = &self.segments[index];
        let loaded = Arc::new(self.read_loaded(placed).map_err(|e| e.at(placed.at))?);
        Ok(Arc::clone(self.loaded[index].get_or_init(|| loaded)))
    }

    fn read_loaded(&self, placed: &Placed) -> Result<Loaded> {
        let limit = self.options.limits.metadata_bytes as u64;
        let end = placed.end().unwrap_or(u64::MAX);
        if placed.blocks_at - placed.at > limit || end - placed.table_at > limit {
            return Err(Error::corrupt("a segment's description is beyond the limit"));
        }
        let head = read(&self.source, placed.at..placed.blocks_at)?;
        let mut sections = Sections(&head);
        let segment = match sections.next()? {
            Some((section, payload)) if section.kind == section::SEGMENT => {
                Segment::read_from(payload)?
            }
            _ => return Err(Error::corrupt("the directory places a segment where none is")),
        };
        let mut context = None;
        while let Some((section, payload)) = sections.next()? {
            if section.kind != section::CONTEXT {
                return Err(section.misplaced());
            }
            Context::add(&mut context, section.sub, payload, &segment.layout)?;
        }
        let tail = read(&self.source, placed.table_at..end)?;
        let entries = match Sections(&tail).next()? {
            Some((section, payload)) if section.kind == section::TABLE => {
                table::read_from(payload)?
            }
            _ => return Err(Error::corrupt("the directory places a block table where none is")),
        };
        let mut loaded = Loaded { segment, context, blocks: Vec::new() };
        let (mut at, mut start) = (placed.blocks_at, 0);
        for entry in entries {
            let bytes = codec::check_size(
                &loaded.segment.layout,
                entry.records,
                self.options.limits.block_bytes,
            )?;
            Section::check_len(
                &entry.section(),
                self.options.limits.block_bytes + codec::PREAMBLE,
            )?;
            loaded.blocks.push(Located { at, start, entry });
            at += entry.section().whole();
            start += bytes as u64;
        }
        let same_place = (at, start) == (placed.table_at, placed.bytes);
        if !same_place || !loaded.segment.agrees(start, &placed.spans)? {
            return Err(Error::corrupt("a segment's block table differs from the directory"));
        }
        Ok(loaded)
    }
}

impl Loaded {
    fn size_of(&self, block: &Located) -> usize {
        block.entry.records as usize * usize::from(self.segment.layout.bytes())
    }
}

/// Goes through sections that are in memory.
struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    /// The next section that is not a block, and its checked payload.
    fn next(&mut self) -> Result<Option<(Section, &'a [u8])>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let cut = || Error::corrupt("a section leaves the place that the directory gives it");
        let (head, rest) = self.0.split_first_chunk().ok_or_else(cut)?;
        let section = Section::from_bytes(head)?;
        let padded = usize::try_from(section.padded()).unwrap_or(usize::MAX);
        let (padded, rest) = rest.split_at_checked(padded).ok_or_else(cut)?;
        self.0 = rest;
        Ok(Some((section, section.open(padded)?)))
    }
}

/// Reads a range whose length was checked.
fn read<S: Source>(source: &S, range: Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let read = source.read_at(range.start, &mut bytes);
    read.map_err(|e| Error::io("can't read the input", e).at(range.start))?;
    Ok(bytes)
}

/// A tensor of an [`Archive`].
pub struct Tensor<'a, S> {
    archive: &'a Archive<S>,
    segment: usize,
    span: usize,
    info: &'a TensorInfo,
    blake3: Hash,
}

impl<'a, S: Source> Tensor<'a, S> {
    /// Name, dtype and shape.
    pub fn info(&self) -> &'a TensorInfo {
        self.info
    }

    /// BLAKE3 of its bytes, for others to pin.
    pub fn blake3(&self) -> [u8; 32] {
        self.blake3
    }

    /// Byte range in the original file.
    pub fn range(&self) -> Range<u64> {
        let spans = &self.archive.segments[self.segment].spans;
        let before: u64 = spans[..self.span].iter().map(|s| s.bytes).sum();
        let start = self.archive.starts[self.segment] + before;
        start..start + spans[self.span].bytes
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        self.archive.segments[self.segment].spans[self.span].bytes
    }

    /// All its elements; `out` must have exactly [`bytes`](Self::bytes).
    ///
    /// # Errors
    /// As [`Archive::read_at`], with the tensor's name.
    pub fn read_into(&self, out: &mut [u8]) -> Result<()> {
        read_exactly(self.archive, self.range(), self.info, out)
    }

    /// A range of the first dimension.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is no first dimension, or it has no such rows, or they
    /// are not whole bytes.
    pub fn rows(&self, rows: Range<u64>) -> Result<Rows<'a, S>> {
        let info = self.info;
        let bad = |why: String| Error::argument(why).in_tensor(&info.name);
        let Some((&all, inner)) = info.shape.split_first() else {
            return Err(bad("a tensor of a single value has no rows".to_owned()));
        };
        if rows.start > rows.end || rows.end > all {
            return Err(bad(format!("rows {}:{} are not in 0:{all}", rows.start, rows.end)));
        }
        // A row's bits may overflow only if there are no rows.
        let row_bits = inner.iter().fold(info.dtype.bits(), |bits, &dim| bits.saturating_mul(dim));
        let byte = |row: u64| {
            let bits = row.saturating_mul(row_bits);
            bits.is_multiple_of(8).then_some(self.range().start + bits / 8)
        };
        let range = byte(rows.start).zip(byte(rows.end)).map(|(start, end)| start..end);
        let range = range.ok_or_else(|| bad("these rows are not whole bytes".to_owned()))?;
        Ok(Rows { archive: self.archive, info, range })
    }

    /// What it takes in the `.wz`. Reads its segment's block table.
    ///
    /// # Errors
    /// As [`Archive::read_at`].
    pub fn stored(&self) -> Result<Stored> {
        let loaded = self.archive.load(self.segment).map_err(|e| e.in_tensor(&self.info.name))?;
        let start = self.range().start - self.archive.starts[self.segment];
        let end = start + self.bytes();
        let (mut bytes, mut codings) = (0, Vec::new());
        for block in &loaded.blocks {
            let size = loaded.size_of(block) as u64;
            let inside = end.min(block.start + size).saturating_sub(start.max(block.start));
            if inside > 0 {
                let whole = u128::from(block.entry.section().whole());
                bytes += u64::try_from(whole * u128::from(inside) / u128::from(size))
                    .unwrap_or(u64::MAX);
                codings.push(block.entry.coding);
            }
        }
        codings.sort_unstable();
        codings.dedup();
        Ok(Stored { bytes, codings })
    }
}

/// Some rows of a [`Tensor`].
pub struct Rows<'a, S> {
    archive: &'a Archive<S>,
    info: &'a TensorInfo,
    range: Range<u64>,
}

impl<S: Source> Rows<'_, S> {
    /// Bytes of their elements.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Their elements; `out` must have exactly [`bytes`](Self::bytes). Decodes the blocks that have them, no others.
    ///
    /// # Errors
    /// As [`Archive::read_at`], with the tensor's name.
    pub fn read_into(&self, out: &mut [u8]) -> Result<()> {
        read_exactly(self.archive, self.range.clone(), self.info, out)
    }
}

fn read_exactly<S: Source>(
    archive: &Archive<S>,
    range: Range<u64>,
    info: &TensorInfo,
    out: &mut [u8],
) -> Result<()> {
    let bytes = range.end - range.start;
    let read = if out.len() as u64 == bytes {
        archive.read_at(range.start, out)
    } else {
        Err(Error::argument(format!("{bytes} bytes don't fit a buffer of {}", out.len())))
    };
    read.map_err(|e| e.in_tensor(&info.name))
}

/// What a tensor takes in the `.wz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes, with headers and padding; its share, where a block is shared.
    pub bytes: u64,
    /// The codings of its blocks, each once.
    pub codings: Vec<Coding>,
}
