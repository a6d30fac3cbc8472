//! Which tensor of a base holds what a new one holds: renamed ones are found, unrelated ones of the
//! same name are not taken.

use super::matching::{Candidate, Names, common};
use super::sketch::{FEWEST, Sketch};
use super::{Base, Model};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::span::{Span, TensorInfo};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// What tensors of a new model are coded against, by their names.
pub(super) type Matches = HashMap<String, Candidate>;

/// Tensors are alike up to this [distance](Sketch::distance). Unrelated ones are 0.6 or more apart, biases and norms
/// of neighbouring layers at times 0.5.
const ALIKE: f64 = 0.4;

/// From this distance on tensors have nothing in common, though they have the same name.
const UNLIKE: f64 = 0.9;

/// Tensors that are compared with each one that has no base: those whose signatures are nearest.
const COMPARED: usize = 8;

/// Most signatures that are compared, for each tensor may be compared with every other one: some seconds.
const SIGNATURES: usize = 1 << 29;

impl Base {
    /// Compares what `new` holds, which has these spans, with what these models hold. When it is [compressed](crate::compress) with these
    /// models as base, tensors that only have another name, place or file then have a base, too, and those of the same
    /// name that are not alike have none; if no tensors are alike, `new` stands alone. Without this, names tell. What
    /// is added later is not looked at.
    ///
    /// Reads some hundred numbers of each tensor.
    ///
    /// # Errors
    /// If `new` or a model can't be read.
    ///
    /// ```
    /// use weightzip::{Base, Options, compress, scan};
    /// # let model = |name: &str| {
    /// #     let json = format!(r#"{{"{name}":{{"dtype":"U8","shape":[5000],"data_offsets":[0,5000]}}}}"#);
    /// #     let data = (0..5000u32).map(|i| (i * i * 37 >> 8).to_le_bytes()[0]);
    /// #     (json.len() as u64).to_le_bytes().into_iter().chain(json.into_bytes()).chain(data).collect::<Vec<u8>>()
    /// # };
    /// # let (old, new) = (model("old name"), model("new name"));
    /// let mut base = Base::new();
    /// base.add("old.safetensors", old)?;
    /// base.compare_with(&new, &scan(&new)?.spans)?;
    /// let options = Options { base, ..Options::default() };
    /// let summary = compress(new.as_slice(), &mut Vec::new(), &options)?;
    /// assert_eq!(summary.bases[0].name, "old name");
    /// # Ok::<(), weightzip::Error>(())
    /// ```
    pub fn compare_with<S: Source + ?Sized>(&mut self, new: &S, spans: &[Span]) -> Result<()> {
        let cant_read = |e| Error::io("can't read the input", e);
        let size = new.size().map_err(cant_read)?;
        let (names, mut matches) = (Names::of(self), Matches::new());
        let (mut strangers, mut any_alike) = (Vec::new(), false);
        for span in spans {
            // A file that is cut short is compressed as far as it goes.
            let Some(info) = span.tensor.as_ref().filter(|_| span.range.end <= size) else {
                continue;
            };
            let sketch = Sketch::read(new, span.range.start, info)
                .map_err(|e| cant_read(e).at(span.range.start).in_tensor(&info.name))?;
            let named = names.find(info, &info.dtype.record_layout());
            let apart = match &named {
                Some(named) => sketch.distance(named.sketch()?),
                None => Some(UNLIKE),
            };
            any_alike |= apart.is_some_and(|apart| apart <= ALIKE);
            if let Some(named) = named.filter(|_| apart.is_none_or(|apart| apart < UNLIKE)) {
                matches.insert(info.name.clone(), named);
            }
            if apart.is_some_and(|apart| apart > ALIKE) {
                strangers.push((info.clone(), sketch));
            }
        }
        let mut others = Others::of(self);
        for (info, sketch) in strangers {
            if let Some(found) = others.find(&info, &sketch)? {
                matches.insert(info.name, found);
                any_alike = true;
            }
        }
        if !any_alike {
            matches.clear();
        }
        self.contents = Some(Arc::new(matches));
        Ok(())
    }
}

impl Candidate {
    fn sketch(&self) -> Result<&Sketch> {
        self.model.sketch(self.tensor())
    }
}

/// What tensors that may be compared have in common: a dtype, or none if they can be converted, and the shape of a row.
type Group = (Option<Dtype>, Vec<u64>);

fn group(info: &TensorInfo) -> Group {
    let dtype = Some(info.dtype).filter(|dtype| !Dtype::CONVERTIBLE.contains(dtype));
    (dtype, info.shape.get(1..).unwrap_or(&[]).to_vec())
}

/// The tensors of all models, by what they may be compared with.
struct Others<'a> {
    groups: HashMap<Group, Vec<(&'a Arc<Model>, usize)>>,
    /// Signatures that may still be compared.
    left: usize,
}

impl<'a> Others<'a> {
    fn of(base: &'a Base) -> Self {
        let mut groups = HashMap::<_, Vec<_>>::new();
        for model in base.models.iter().rev() {
            for (number, tensor) in model.tensors.iter().enumerate() {
                groups.entry(group(&tensor.info)).or_default().push((model, number));
            }
        }
        Self { groups, left: SIGNATURES }
    }

    /// The tensor that is most alike, if one is; of equal ones the one that has most, then the nearest.
    fn find(&mut self, info: &TensorInfo, sketch: &Sketch) -> Result<Option<Candidate>> {
        let group = self.groups.get(&group(info)).map_or(&[][..], |group| group);
        if sketch.len() < FEWEST || group.len() > self.left {
            return Ok(None);
        }
        self.left -= group.len();
        let mut near = Vec::with_capacity(group.len());
        for (order, (model, number)) in group.iter().enumerate() {
            let other = model.sketch(&model.tensors[*number])?;
            near.push((sketch.differing_bits(other), order));
        }
        if near.len() > COMPARED {
            near.select_nth_unstable(COMPARED);
            near.truncate(COMPARED);
        }
        near.sort_unstable();
        let layout = info.dtype.record_layout();
        let mut found: Option<(f64, Reverse<u64>, Candidate)> = None;
        for (_, order) in near {
            let (model, number) = group[order];
            let old = Candidate { model: Arc::clone(model), number };
            let apart = sketch.distance(old.sketch()?).filter(|apart| *apart <= ALIKE);
            let Some((apart, common)) = apart.zip(common(&old.tensor().info, info, &layout)) else {
                continue;
            };
            let nearer = |(best, most, _): &(f64, Reverse<u64>, _)| {
                (apart, Reverse(common)) < (*best, *most)
            };
            if found.as_ref().is_none_or(nearer) {
                found = Some((apart, Reverse(common), old));
            }
        }
        Ok(found.map(|(.., old)| old))
    }
}
