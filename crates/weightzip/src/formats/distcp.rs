//! `.metadata` of PyTorch's distributed checkpoints: a pickle that says which tensor, or part of one, is where in
//! which file.

use super::beside::{Place, place};
use super::pickle::{Pickle, Value};
use super::torch::MAX_NAME;
use super::warnings::{Warnings, quoted};
use crate::container::directory::MAX_DIMS;
use std::collections::HashMap;
use std::ops::Range;

/// The file's name.
pub(super) const METADATA: &str = ".metadata";

/// What the archives in a file are called, by their places in it.
pub(super) type Names = HashMap<Range<u64>, String>;

/// Memory for each byte of it.
const ROOM_EACH: u64 = 16;

/// Most bytes of all names.
const MAX_NAMES: usize = 64 << 20;

/// The names of what is in the file `name`. Of a tensor in several parts they say where a part starts.
pub(super) fn names(metadata: &[u8], name: &str, warnings: &mut Warnings) -> Result<Names, String> {
    let pickle = Pickle::read(metadata, ROOM_EACH.saturating_mul(metadata.len() as u64))?;
    let items = pickle.attribute(pickle.root, "storage_data").and_then(|v| pickle.node(v));
    let items = items.ok_or("it is not one of a checkpoint")?;
    let parts: Vec<Part<'_>> =
        items.items.iter().filter_map(|(key, value)| Part::of(&pickle, *key, *value)).collect();
    let mut counts = HashMap::<&str, usize>::new();
    parts.iter().for_each(|part| *counts.entry(part.tensor).or_default() += 1);
    let (mut names, mut left) = (Names::new(), MAX_NAMES);
    for part in &parts {
        match place(part.path, name) {
            Place::Here => {}
            Place::Elsewhere => continue,
            Place::Outside => {
                warnings.add(|| {
                    let path = quoted(part.path);
                    format!("{METADATA} has a path that leads out of its folder: {path}")
                });
                continue;
            }
        }
        let in_parts = counts.get(part.tensor).is_some_and(|count| *count > 1);
        let name = part.name(&pickle, in_parts);
        left = left.saturating_sub(name.len());
        if left == 0 {
            return Err(format!("its names have more than {MAX_NAMES} bytes"));
        }
        names.entry(part.range.clone()).or_insert(name);
    }
    Ok(names)
}

/// A tensor, or a part of one, or another object.
struct Part<'a> {
    tensor: &'a str,
    /// Where in the tensor it starts, along each dimension.
    start: Option<Value<'a>>,
    path: &'a str,
    range: Range<u64>,
}

impl<'a> Part<'a> {
    fn of(pickle: &Pickle<'a>, key: Value<'a>, value: Value<'a>) -> Option<Self> {
        let text = |value| if let Value::Text(text) = value { Some(text) } else { None };
        let number = |value| if let Value::Int(n) = value { u64::try_from(n).ok() } else { None };
        let tensor = pickle.attribute(key, "fqn").and_then(text)?;
        let path = pickle.attribute(value, "relative_path").and_then(text)?;
        let at = pickle.attribute(value, "offset").and_then(number)?;
        let end = at.checked_add(pickle.attribute(value, "length").and_then(number)?)?;
        let start = pickle.attribute(key, "offset");
        let short = tensor.len() <= MAX_NAME && path.len() <= MAX_NAME;
        short.then_some(Self { tensor, start, path, range: at..end })
    }

    /// `w`, or of a tensor in several parts `w[128,0]`.
    fn name(&self, pickle: &Pickle<'a>, in_parts: bool) -> String {
        let start = self.start.filter(|_| in_parts).and_then(|start| pickle.made_of(start));
        let numbers = start.and_then(|start| pickle.sequence(start));
        let Some(numbers) = numbers.filter(|numbers| numbers.len() <= MAX_DIMS) else {
            return self.tensor.to_owned();
        };
        let number = |value| if let Value::Int(n) = value { n.to_string() } else { "?".to_owned() };
        format!("{}[{}]", self.tensor, numbers.map(number).collect::<Vec<_>>().join(","))
    }
}
