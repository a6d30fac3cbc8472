//! Which tensor of a base is like a new one: by its name, kind and shape.

use super::{Base, BaseTensor, Found, Model};
use crate::container::bases;
use crate::container::segment::{BasePart, PartBase};
use crate::dtype::Dtype;
use crate::error::Result;
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

/// A tensor of a base, and the model that has it.
type Candidate<'a> = (&'a Arc<Model>, &'a BaseTensor);

/// The tensors of a model by name.
struct Index<'a> {
    model: &'a Arc<Model>,
    exact: HashMap<&'a str, &'a BaseTensor>,
    /// `None` where several have the same.
    bare: HashMap<&'a str, Option<&'a BaseTensor>>,
}

impl<'a> Index<'a> {
    fn of(model: &'a Arc<Model>) -> Self {
        let (mut exact, mut by_bare) = (HashMap::new(), HashMap::new());
        for tensor in &model.tensors {
            exact.insert(tensor.info.name.as_str(), tensor);
            let same = by_bare.entry(bare(&tensor.info.name));
            same.and_modify(|found| *found = None).or_insert(Some(tensor));
        }
        Self { model, exact, bare: by_bare }
    }

    /// The tensor that `new` is coded against, and how many of its bytes have one: rows may have
    /// been added.
    fn of_tensor(&self, new: &TensorInfo, layout: &RecordLayout) -> Option<(Candidate<'a>, u64)> {
        let exact = self.exact.get(new.name.as_str()).copied();
        let old = exact.or_else(|| self.bare.get(bare(&new.name)).copied().flatten())?;
        let common = common(&old.info, new, layout)?;
        Some(((self.model, old), common))
    }
}

/// How many bytes of `new`, which is coded as records of `layout`, may be coded against `old`;
/// `None` if it is of another kind.
fn common(old: &TensorInfo, new: &TensorInfo, layout: &RecordLayout) -> Option<u64> {
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
) -> Result<(Vec<bases::BaseTensor>, Found)> {
    // The model that was added last is the nearest.
    let models: Vec<Index<'_>> = base.models.iter().rev().map(Index::of).collect();
    let mut used: Vec<Candidate<'_>> = Vec::new();
    let mut numbers = HashMap::new();
    for segment in segments {
        let mut parts = Vec::new();
        for span in &segment.spans {
            let bytes = span.range.end - span.range.start;
            let of_tensor =
                |new| models.iter().find_map(|model| model.of_tensor(new, &segment.layout));
            let found = span.tensor.as_ref().and_then(of_tensor);
            let common = found.map_or(0, |(_, common)| common);
            if let Some(((model, tensor), common)) = found {
                let number = *numbers.entry(std::ptr::from_ref(tensor)).or_insert_with(|| {
                    used.push((model, tensor));
                    used.len() - 1
                });
                let old = tensor.info.dtype;
                let converted = span.tensor.as_ref().is_some_and(|new| new.dtype != old);
                let from = PartBase { tensor: number, offset: 0, dtype: converted.then_some(old) };
                parts.push(BasePart { bytes: common, from: Some(from) });
            }
            if bytes > common {
                parts.push(BasePart { bytes: bytes - common, from: None });
            }
        }
        while parts.pop_if(|last| last.from.is_none()).is_some() {}
        segment.base = parts;
    }
    let mut hashed: Vec<_> = used.iter().map(|candidate| (*candidate, [0; 32])).collect();
    runner.try_each(&mut hashed, |((model, tensor), blake3)| {
        *blake3 = model.blake3(tensor)?;
        Ok(())
    })?;
    let named = hashed.into_iter().map(|((model, tensor), blake3)| bases::BaseTensor {
        file: Arc::clone(&model.name),
        name: tensor.info.name.clone(),
        bytes: tensor.range.end - tensor.range.start,
        blake3,
    });
    let named = named.collect();
    let found = used.into_iter().map(|(model, tensor)| (Arc::clone(model), tensor.range.start));
    let found = Found::new(found.collect());
    found.depth()?;
    Ok((named, found))
}
