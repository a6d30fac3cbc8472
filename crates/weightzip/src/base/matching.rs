//! Which tensor of a base is like a new one: by its name, kind and shape, or as [`contents`] has
//! found.
//!
//! [`contents`]: super::contents

use super::found::Place;
use super::{Base, BaseTensor, Found, Model};
use crate::container::bases::{self, Bases};
use crate::container::segment::{BasePart, How, PartBase};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::options::Limits;
use crate::plan;
use crate::record::RecordLayout;
use crate::runner::Runner;
use crate::span::TensorInfo;
use std::collections::HashMap;
use std::sync::Arc;

/// What wrappers put before a tensor's name.
const PREFIXES: &[&str] = &["module.", "model.", "_orig_mod.", "base_model."];

/// A name without what wrappers put before it.
fn bare(mut name: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// A tensor of a base: the model that has it, and its number there.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) model: Arc<Model>,
    pub(super) number: usize,
}

impl Candidate {
    pub(super) fn tensor(&self) -> &BaseTensor {
        &self.model.tensors[self.number]
    }
}

/// The tensors of all models by name.
pub(super) struct Names<'a>(Vec<NamesOfOne<'a>>);

struct NamesOfOne<'a> {
    model: &'a Arc<Model>,
    exact: HashMap<&'a str, usize>,
    /// `None` where several have the same.
    bare: HashMap<&'a str, Option<usize>>,
}

impl<'a> NamesOfOne<'a> {
    fn of(model: &'a Arc<Model>) -> Self {
        let (mut exact, mut by_bare) = (HashMap::new(), HashMap::new());
        for (number, tensor) in model.tensors.iter().enumerate() {
            exact.insert(tensor.info.name.as_str(), number);
            let same = by_bare.entry(bare(&tensor.info.name));
            same.and_modify(|found| *found = None).or_insert(Some(number));
        }
        Self { model, exact, bare: by_bare }
    }

    fn find(&self, name: &str) -> Option<Candidate> {
        let exact = self.exact.get(name).copied();
        let number = exact.or_else(|| self.bare.get(bare(name)).copied().flatten())?;
        Some(Candidate { model: Arc::clone(self.model), number })
    }
}

impl<'a> Names<'a> {
    pub(super) fn of(base: &'a Base) -> Self {
        // The model that was added last is the nearest.
        Self(base.models.iter().rev().map(NamesOfOne::of).collect())
    }

    /// The tensor of the same name, if `new` can be coded against it.
    pub(super) fn find(&self, new: &TensorInfo, layout: &RecordLayout) -> Option<Candidate> {
        let mut named = self.0.iter().filter_map(|model| model.find(&new.name));
        named.find(|old| common(&old.tensor().info, new, layout).is_some())
    }
}

/// How many bytes of `new`, which is coded as records of `layout`, may be coded against `old`;
/// `None` if it is of another kind. Rows may have been added.
pub(super) fn common(old: &TensorInfo, new: &TensorInfo, layout: &RecordLayout) -> Option<u64> {
    let same_rows = old.shape.get(1..) == new.shape.get(1..);
    let is_float = |info: &TensorInfo| Dtype::CONVERTIBLE.contains(&info.dtype);
    let converted = is_float(old) && Dtype::convertible(layout) == Some(new.dtype);
    let rows = [old.shape.first().copied(), new.shape.first().copied()];
    let fewer = if rows[0] < rows[1] { old } else { new };
    let bytes = new.dtype.bytes_of(&fewer.shape).filter(|bytes| *bytes > 0);
    bytes.filter(|_| same_rows && (old.dtype == new.dtype || converted))
}

/// Gives each segment what it may be coded against; returns which tensors these are, with their
/// BLAKE3, and where they are.
pub(crate) fn matched(
    base: &Base,
    segments: &mut [plan::Segment],
    runner: &Runner,
) -> Result<(Bases, Found)> {
    let names = base.contents.is_none().then(|| Names::of(base));
    let find = |new: &TensorInfo, layout: &RecordLayout| match (&names, &base.contents) {
        (Some(names), _) => names.find(new, layout),
        (None, found) => found.as_ref()?.get(&new.name).cloned(),
    };
    let mut used: Vec<Candidate> = Vec::new();
    let mut numbers = HashMap::new();
    for segment in segments {
        let mut parts = Vec::new();
        for span in &segment.spans {
            let bytes = span.range.end - span.range.start;
            let found = span.tensor.as_ref().and_then(|new| {
                let old = find(new, &segment.layout)?;
                let info = &old.tensor().info;
                let common = common(info, new, &segment.layout)?.min(bytes);
                let dtype = (info.dtype != new.dtype).then_some(info.dtype);
                Some((old, common, dtype))
            });
            let mut rest = bytes;
            if let Some((old, common, dtype)) = found {
                let place = std::ptr::from_ref(old.tensor());
                let number = *numbers.entry(place).or_insert_with(|| {
                    used.push(old);
                    used.len() - 1
                });
                let how = dtype.map_or(How::Same, How::Converted);
                let from = PartBase { number, offset: 0, how };
                parts.push(BasePart { bytes: common, from: Some(from) });
                rest -= common;
            }
            if rest > 0 {
                parts.push(BasePart { bytes: rest, from: None });
            }
        }
        while parts.pop_if(|last| last.from.is_none()).is_some() {}
        segment.base = parts;
    }
    let mut hashed: Vec<_> = used.iter().map(|candidate| (candidate, [0; 32])).collect();
    runner.try_each(&mut hashed, |(candidate, blake3)| {
        *blake3 = candidate.model.blake3(candidate.tensor())?;
        Ok(())
    })?;
    let named = hashed.into_iter().map(|(candidate, blake3)| bases::BaseTensor {
        file: Arc::clone(&candidate.model.name),
        name: candidate.tensor().info.name.clone(),
        bytes: candidate.tensor().range.end - candidate.tensor().range.start,
        blake3,
    });
    let bases = Bases { tensors: named.collect(), repeated: Vec::new() };
    let found =
        used.iter().map(|old| Place::Model(Arc::clone(&old.model), old.tensor().range.start));
    let found = Found::new(found.collect(), &Limits::default());
    found.depth()?;
    Ok((bases, found))
}
