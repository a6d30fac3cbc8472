//! Base tensors that are at hand: what a decoder reads.

use super::cast::convert;
use super::scales::spread;
use super::work::{BaseBytes, Within, Work};
use super::{Base, BaseTensor, MAX_DEPTH, Model};
use crate::container::bases::{self, Bases};
use crate::container::directory::Hash;
use crate::container::segment::{How, PartBase, Segment};
use crate::dtype::Dtype;
use crate::error::{Error, Kind, Result};
use crate::options::Limits;
use crate::scratch::{self, Kept};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Where a file's bases are, in its order, and how much may be decoded of them.
#[derive(Clone, Default)]
pub(crate) struct Found {
    places: Vec<Place>,
    limits: Limits,
    work: OnceLock<Arc<Work>>,
}

/// Where a base starts.
#[derive(Clone)]
pub(super) enum Place {
    /// In the bytes of a model.
    Model(Arc<Model>, u64),
    /// In the file's own original.
    Original(u64),
}

/// How sure a decoder must be of a base tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sure {
    /// Its BLAKE3 was seen to be the one that is wanted.
    Whole,
    /// File, name and length are, and of no other; each block's hash tells the rest.
    ByBlock,
}

thread_local! {
    /// Buffers for bases: one for each link of a chain is in use, since reading a base may mean to decode a block that has one.
    static BUFFERS: Kept<Vec<u8>> = const { scratch::none() };
}

/// Works with `len` bytes of room, which hold anything.
pub(super) fn with_room<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    scratch::with(&BUFFERS, |buffer| {
        buffer.resize(buffer.len().max(len), 0);
        work(&mut buffer[..len])
    })
}

impl Found {
    pub(super) fn new(places: Vec<Place>, limits: &Limits) -> Self {
        Self { places, limits: *limits, work: OnceLock::new() }
    }

    /// Adds ranges of the original.
    pub(super) fn repeat(&mut self, ranges: &[Range<u64>]) {
        self.places.extend(ranges.iter().map(|range| Place::Original(range.start)));
        self.work = OnceLock::new();
    }

    fn work(&self) -> &Work {
        self.work.get_or_init(|| Arc::new(Work::new(self.links(), &self.limits)))
    }

    /// How many models must be read, one behind the other, for what has these bases.
    fn links(&self) -> usize {
        let links = self.places.iter().map(|place| match place {
            Place::Model(model, _) => model.depth + 1,
            Place::Original(_) => 1,
        });
        links.max().unwrap_or(0)
    }

    /// [`links`](Self::links), if they are no more than can be read.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if that is too many.
    pub(super) fn depth(&self) -> Result<usize> {
        let depth = self.links();
        match depth <= MAX_DEPTH {
            true => Ok(depth),
            false => Err(too_deep()),
        }
    }

    /// Whether a segment repeats another one of its file.
    pub(crate) fn is_repeat(&self, segment: &Segment) -> bool {
        let first = segment.base.first().and_then(|part| part.from);
        first.is_some_and(|from| {
            let is_own = matches!(self.places.get(from.number), Some(Place::Original(_)));
            is_own && from.how == How::Same
        })
    }

    /// Reads `len` bytes of a segment's base from `start` of it on, and works with them, and with
    /// whether the segment has a base there. `original` is the file's own, if it repeats some of it; `work` the budget
    /// of the file for which this one is read, if it is a base itself.
    pub(crate) fn with<T>(
        &self,
        original: Option<&dyn BaseBytes>,
        segment: &Segment,
        start: u64,
        len: usize,
        work: Option<&Work>,
        code: impl FnOnce(&[u8], bool) -> Result<T>,
    ) -> Result<T> {
        let work = work.unwrap_or_else(|| {
            self.work().allow(len);
            self.work()
        });
        with_room(len, |base| {
            let any = self.read(original, work, segment, start, base)?;
            code(base, any)
        })
    }

    /// Fills `out` with a segment's base from `start` of it on: zeros where it has none. Returns
    /// whether it has any there.
    fn read(
        &self,
        original: Option<&dyn BaseBytes>,
        work: &Work,
        segment: &Segment,
        start: u64,
        out: &mut [u8],
    ) -> Result<bool> {
        let (mut at, mut rest, mut any) = (0u64, out, false);
        let mut wanted = start;
        for part in &segment.base {
            let (begin, end) = (at, at + part.bytes);
            at = end;
            if wanted >= end || rest.is_empty() {
                continue;
            }
            let len = usize::try_from(end - wanted).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len);
            match part.from {
                Some(from) => {
                    let (bytes, at) = self.place(original, &from)?;
                    let bytes = Within { bytes, work };
                    read_part(&bytes, at, &from, segment, wanted - begin, now)?;
                    any = true;
                }
                None => now.fill(0),
            }
            wanted += len as u64;
            rest = later;
        }
        rest.fill(0);
        Ok(any)
    }

    /// What has a part's base, and where it starts there.
    pub(super) fn place<'a>(
        &'a self,
        original: Option<&'a dyn BaseBytes>,
        from: &PartBase,
    ) -> Result<(&'a dyn BaseBytes, u64)> {
        let place = match self.places.get(from.number) {
            Some(Place::Model(model, at)) => Some((&*model.bytes as &dyn BaseBytes, at)),
            Some(Place::Original(at)) => original.map(|original| (original, at)),
            None => None,
        };
        let (bytes, at) = place.ok_or_else(|| Error::argument(NONE_GIVEN))?;
        Ok((bytes, at.saturating_add(from.offset)))
    }
}

/// Fills `out` with a part's base, which starts at `at`, from the part's byte `start` on.
fn read_part(
    bytes: &Within<'_>,
    at: u64,
    from: &PartBase,
    segment: &Segment,
    start: u64,
    out: &mut [u8],
) -> Result<()> {
    let layout = &segment.layout;
    let place = at.saturating_add(from.bytes_of(start, layout).unwrap_or(u64::MAX));
    let read = |out: &mut [u8]| bytes.read(place, out);
    match (from.how, Dtype::convertible(layout)) {
        (How::Converted(dtype), Some(to)) => {
            with_room(out.len() / to.bytes() * dtype.bytes(), |old| {
                read(old)?;
                convert(dtype, old, to, out);
                Ok(())
            })
        }
        (How::Scales(each), _) => {
            let each = usize::from(each);
            // The first one may have begun before.
            let skip = usize::try_from(start % each as u64).unwrap_or(0);
            with_room((skip + out.len()).div_ceil(each), |scales| {
                read(scales)?;
                spread(scales, each, skip, out);
                Ok(())
            })
        }
        _ => read(out),
    }
}

/// The error for a chain that can't be read.
pub(super) fn too_deep() -> Error {
    Error::argument(format!(
        "a chain of more than {MAX_DEPTH} bases; decompress one of them and use that"
    ))
}

const NONE_GIVEN: &str = "this file is coded against a base, and none was given";

impl Base {
    /// How many of these tensors the models have. Hashes those of the same lengths whose BLAKE3 is
    /// not known yet.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io) if they can't be read.
    pub fn count_of(&self, tensors: &[bases::BaseTensor]) -> Result<usize> {
        let (index, mut count) = (Index::of(self), 0);
        for tensor in tensors {
            match index.find(tensor, Sure::Whole) {
                Err(e) if e.kind() == Kind::InvalidArgument => {}
                found => count += found.map(|_| 1)?,
            }
        }
        Ok(count)
    }

    /// Finds what a file is coded against.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) that names what is missing, or differs.
    pub(crate) fn find(&self, wanted: &Bases, sure: Sure, limits: &Limits) -> Result<Found> {
        let index = Index::of(self);
        let found = wanted.tensors.iter().map(|wanted| {
            let (model, tensor) = index.find(wanted, sure)?;
            Ok(Place::Model(Arc::clone(model), tensor.range.start))
        });
        let mut found = Found::new(found.collect::<Result<_>>()?, limits);
        found.repeat(&wanted.repeated);
        Ok(found)
    }
}

/// A tensor, and the model that has it.
type InModel<'a> = (&'a Arc<Model>, &'a BaseTensor);

/// The tensors of all models, by what is known of them.
#[derive(Default)]
struct Index<'a> {
    by_blake3: HashMap<Hash, InModel<'a>>,
    by_name: HashMap<(&'a str, u64), Vec<InModel<'a>>>,
    by_length: HashMap<u64, Vec<InModel<'a>>>,
    /// Where others were looked for, for people.
    looked: Option<&'a str>,
}

impl<'a> Index<'a> {
    fn of(base: &'a Base) -> Self {
        let mut index = Self { looked: base.looked.as_deref(), ..Self::default() };
        for model in &base.models {
            for tensor in &model.tensors {
                let (place, bytes) = ((model, tensor), tensor.range.end - tensor.range.start);
                if let Some(blake3) = tensor.blake3.get() {
                    index.by_blake3.insert(*blake3, place);
                }
                index.by_name.entry((&tensor.info.name, bytes)).or_default().push(place);
                index.by_length.entry(bytes).or_default().push(place);
            }
        }
        index
    }

    fn find(&self, wanted: &bases::BaseTensor, sure: Sure) -> Result<InModel<'a>> {
        let known = self.by_blake3.get(&wanted.blake3);
        let known = known.filter(|(_, t)| t.range.end - t.range.start == wanted.bytes);
        if let Some(known) = known {
            return Ok(*known);
        }
        let by_name = self.by_name.get(&(wanted.name.as_str(), wanted.bytes));
        let by_name = by_name.map_or(&[][..], |places| places);
        let unknown = |place: &&InModel<'_>| place.1.blake3.get().is_none();
        if sure == Sure::ByBlock {
            let in_file = |place: &&InModel<'_>| unknown(place) && place.0.name == wanted.file;
            let mut candidates = by_name.iter().filter(in_file);
            if let (Some(found), None) = (candidates.next(), candidates.next()) {
                return Ok(*found);
            }
        }
        // Those of the same name first: others needn't be hashed then.
        let others = self.by_length.get(&wanted.bytes).into_iter().flatten();
        for place in by_name.iter().chain(others) {
            if place.0.blake3(place.1)? == wanted.blake3 {
                return Ok(*place);
            }
        }
        let another = by_name.first().and_then(|(model, tensor)| {
            let has = hex(tensor.blake3.get()?);
            Some(format!("; {} has another of this name: blake3 {has}", model.name))
        });
        let (file, blake3) = (&wanted.file, hex(&wanted.blake3));
        let another = another.unwrap_or_default();
        let looked = self.looked.map(|looked| format!("; {looked}")).unwrap_or_default();
        Err(Error::argument(format!(
            "base model not found: {file}, blake3 {blake3}{another}{looked}; pass --base or set WEIGHTZIP_BASE_PATH"
        ))
        .in_tensor(&wanted.name))
    }
}

fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from(*hash).to_hex().to_string()
}
