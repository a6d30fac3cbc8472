//! Tensors that share a role, and rules that give each of these groups a bound.

use super::super::{Bound, Rules};
use crate::span::TensorInfo;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Groups with less than this part of all bytes follow the knob: loosening them alone isn't worth an evaluation.
const SMALL: u64 = 100;

/// The groups of a model's tensors.
pub(super) struct Groups {
    tensors: Vec<TensorInfo>,
    /// Bytes of the groups that may have bounds of their own, largest first.
    pub(super) bytes: Vec<u64>,
    /// Whatever may need a rule: what matches more stands before what matches less, so that the last rule that fits a
    /// tensor is its own.
    patterns: Vec<Pattern>,
}

struct Pattern {
    text: String,
    bound: Wanted,
    /// Places in `tensors`.
    members: Vec<usize>,
}

/// The bound that a pattern's tensors are to have.
#[derive(Clone, Copy)]
enum Wanted {
    /// That of a group.
    OfGroup(usize),
    /// The knob's.
    Knob,
    Exact,
}

impl Groups {
    /// Groups tensors, given with their bytes.
    pub(super) fn of(tensors: impl IntoIterator<Item = (TensorInfo, u64)>) -> Self {
        let (tensors, sizes): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        // Which tensors follow the knob is for Rules to say.
        let knob = Rules::all(Bound::Relative(0));
        let (mut rounded, mut exact) = (BTreeMap::new(), BTreeMap::new());
        for (place, tensor) in tensors.iter().enumerate() {
            let kind = if knob.of(tensor) == Bound::Exact { &mut exact } else { &mut rounded };
            kind.entry(pattern(&tensor.name)).or_insert_with(Vec::new).push(place);
        }
        let bytes_of = |members: &[usize]| members.iter().map(|&m| sizes[m]).sum::<u64>();
        let mut large: Vec<(u64, String)> =
            rounded.iter().map(|(text, members)| (bytes_of(members), text.clone())).collect();
        let all: u64 = large.iter().map(|(bytes, _)| bytes).sum();
        large.retain(|(bytes, _)| bytes.saturating_mul(SMALL) >= all && *bytes > 0);
        large.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let group = |text: &str| large.iter().position(|(_, known)| known == text);

        let mut patterns = Vec::new();
        for (text, members) in exact {
            // Names of a group's own pattern that stay exact get rules by name.
            let names: Vec<_> = match rounded.contains_key(&text) {
                false => vec![(text, members)],
                true => members.into_iter().map(|m| (tensors[m].name.clone(), vec![m])).collect(),
            };
            let pattern = |(text, members)| Pattern { text, bound: Wanted::Exact, members };
            patterns.extend(names.into_iter().map(pattern));
        }
        for (text, members) in rounded {
            let bound = group(&text).map_or(Wanted::Knob, Wanted::OfGroup);
            patterns.push(Pattern { text, bound, members });
        }
        patterns.sort_by_cached_key(|pattern| specificity(&pattern.text));
        let bytes = large.iter().map(|(bytes, _)| *bytes).collect();
        Self { tensors, bytes, patterns }
    }

    /// Rules, as few as it takes, by which each group has its bound, and all that is in none that of the knob.
    pub(super) fn rules(&self, knob: Bound, bounds: &[Bound]) -> Rules {
        let is_knob = |pattern: &Pattern| matches!(pattern.bound, Wanted::Knob);
        let default = match self.patterns.iter().any(is_knob) {
            true => knob,
            false => {
                bounds.iter().copied().max_by_key(|b| self.bytes_with(bounds, *b)).unwrap_or(knob)
            }
        };
        let mut rules = Rules::all(default);
        for Pattern { text, bound, members } in &self.patterns {
            let wanted = match *bound {
                Wanted::OfGroup(group) => bounds[group],
                Wanted::Knob => knob,
                Wanted::Exact => Bound::Exact,
            };
            if members.iter().any(|&member| rules.of(&self.tensors[member]) != wanted) {
                rules.set(text, wanted);
            }
        }
        rules
    }

    /// Bytes of all groups with this bound.
    fn bytes_with(&self, bounds: &[Bound], bound: Bound) -> u64 {
        let same = bounds.iter().zip(&self.bytes).filter(|(known, _)| **known == bound);
        same.map(|(_, bytes)| bytes).sum()
    }
}

/// A name with `*` for each of its words that is a number: `h.*.mlp.weight`, but `h.*.conv1.weight`.
fn pattern(name: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    let (mut out, mut rest) = (String::with_capacity(name.len()), name);
    while let Some(first) = rest.chars().next() {
        let end = match is_part(first) {
            true => rest.find(|c| !is_part(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, later) = rest.split_at(end);
        let is_number = word.bytes().all(|b| b.is_ascii_digit());
        out.push_str(if is_number { "*" } else { word });
        rest = later;
    }
    out
}

/// A pattern that matches what another one stands for has fewer characters of its own, or as many and more stars.
fn specificity(pattern: &str) -> (usize, Reverse<usize>, String) {
    let stars = pattern.matches('*').count();
    (pattern.len() - stars, Reverse(stars), pattern.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    fn tensor(name: &str, shape: &[u64]) -> (TensorInfo, u64) {
        let info = TensorInfo { name: name.to_owned(), dtype: Dtype::F32, shape: shape.to_vec() };
        let bytes = Dtype::F32.bytes_of(shape).unwrap();
        (info, bytes)
    }

    #[test]
    fn numbers_in_names_are_stars() {
        for (name, wanted) in [
            ("model.layers.12.mlp.up_proj.weight", "model.layers.*.mlp.up_proj.weight"),
            ("layer1.0.conv2.weight", "layer1.*.conv2.weight"),
            ("h_3/attn-4:0", "h_*/attn-*:*"),
            ("größe.7", "größe.*"),
            ("", ""),
        ] {
            assert_eq!(pattern(name), wanted);
        }
    }

    #[test]
    fn each_tensor_gets_what_its_group_has() {
        let groups = Groups::of([
            tensor("0.weight", &[64, 64]),
            tensor("1.weight", &[64]),
            tensor("2.weight", &[64, 64]),
            tensor("h.0.weight", &[64, 32]),
            tensor("h.0.norm.weight", &[64]),
            tensor("h.0.mlp.weight", &[64, 16]),
            tensor("h.1.mlp.weight", &[64, 16]),
            tensor("tiny.weight", &[2, 2]),
        ]);
        assert_eq!(groups.bytes, [32768, 8192, 8192]);
        let bounds = [Bound::Absolute(-9), Bound::Absolute(-8), Bound::Absolute(-7)];
        let rules = groups.rules(Bound::Absolute(-10), &bounds);
        let of: Vec<_> = groups.tensors.iter().map(|t| rules.of(t).to_string()).collect();
        let wanted = [
            "abs=2^-9",
            "none",
            "abs=2^-9",
            "abs=2^-7",
            "none",
            "abs=2^-8",
            "abs=2^-8",
            "abs=2^-10",
        ];
        assert_eq!(of, wanted, "{rules}");
        let (fine, coarse) = (Bound::Relative(3), Bound::Relative(1));
        assert_eq!(groups.rules(fine, &[fine; 3]).to_string(), "rel=2^-3");
        // Where everything is in a group, none has a rule more than it takes.
        let groups = Groups::of([tensor("a.w", &[64, 64]), tensor("b.w", &[64, 32])]);
        assert_eq!(groups.rules(coarse, &[fine, coarse]).to_string(), "rel=2^-3 b.w:rel=2^-1");
    }

    #[test]
    fn any_names_get_what_they_are_to_have() {
        arbtest::arbtest(|u| {
            let count = u.int_in_range(1..=12)?;
            let mut names = std::collections::BTreeSet::new();
            for _ in 0..count {
                let words = u.int_in_range(1..=5)?;
                let name: Vec<_> = (0..words)
                    .map(|_| u.choose(&["0", "1", "23", "a", "b", "a1", "1a"]).copied())
                    .collect::<Result<_, _>>()?;
                names.insert(name.join(*u.choose(&[".", "_"])?));
            }
            let mut tensors = Vec::new();
            for name in &names {
                let shape: &[u64] = if u.arbitrary()? { &[8, 8] } else { &[8] };
                tensors.push(tensor(name, shape));
            }
            let groups = Groups::of(tensors);
            let mut bounds = Vec::new();
            for _ in &groups.bytes {
                bounds.push(Bound::Relative(u.int_in_range(1..=3)?));
            }
            let rules = groups.rules(Bound::Relative(2), &bounds);
            for Pattern { bound, members, .. } in &groups.patterns {
                let Wanted::OfGroup(group) = *bound else {
                    assert!(members.iter().all(|&m| rules.of(&groups.tensors[m]) == Bound::Exact));
                    continue;
                };
                for &member in members {
                    let tensor = &groups.tensors[member];
                    assert_eq!(rules.of(tensor), bounds[group], "{}: {rules}", tensor.name);
                }
            }
            Ok(())
        });
    }
}
