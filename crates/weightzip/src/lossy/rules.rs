//! Which tensor gets which bound.

use super::bound::Bound;
use crate::error::{Error, Result};
use crate::span::TensorInfo;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use weightzip_kernels::round;
use wildmatch::WildMatch;

/// Bounds by the names of tensors. Without a rule everything stays as it is.
///
/// ```
/// use weightzip::lossy::Rules;
/// let mut rules = Rules::default();
/// rules.add("abs=2^-14")?;
/// rules.add("lm_head*:none")?;
/// assert_eq!(rules.to_string(), "abs=2^-14 lm_head*:none");
/// # Ok::<(), weightzip::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// For tensors that no pattern names, if they are matrices or have more dimensions.
    default: Option<Bound>,
    /// The last one that fits a name counts.
    patterns: Vec<(WildMatch, Bound)>,
    /// What bounds that take a look mean for the tensors that were looked at.
    pub(super) seen: HashMap<String, Bound>,
}

/// The last parts of names that quantised models give to what their integers are multiplied by.
const SCALES: [&str; 4] = ["scale", "zero_point", "qzeros", "absmax"];

impl Rules {
    /// One bound for every tensor that suits it.
    pub fn all(bound: Bound) -> Self {
        Self { default: Some(bound), ..Self::default() }
    }

    /// All of these rules, one behind another, as [`add`](Self::add) takes them; `@FILE` stands for those in a
    /// TOML file.
    ///
    /// # Errors
    /// As [`add`](Self::add) and [`from_toml`](Self::from_toml); [`Io`](crate::Kind::Io) if a file can't be read.
    pub fn read(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        let mut rules = Self::default();
        for text in texts {
            let text = text.as_ref();
            let Some(path) = text.strip_prefix('@') else {
                rules.add(text)?;
                continue;
            };
            let file = fs::read_to_string(path)
                .map_err(|e| Error::io(format!("can't read the rules in {path}"), e))?;
            let file = Self::from_toml(&file);
            rules.extend(file.map_err(|e| Error::new(e.kind(), format!("{path}: {e}")))?);
        }
        Ok(rules)
    }

    /// One rule: a bound, for every tensor that suits it, or `PATTERN:BOUND` for those whose names fit, in
    /// which `*` stands for anything and `?` for one character. The last rule that fits counts.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) that lists the bounds.
    pub fn add(&mut self, rule: &str) -> Result<()> {
        match rule.rsplit_once(':') {
            None => self.default = Some(rule.parse()?),
            Some((pattern, bound)) => self.set(pattern, bound.parse()?),
        }
        Ok(())
    }

    /// Adds other rules behind these.
    pub fn extend(&mut self, other: Self) {
        self.default = other.default.or(self.default);
        other.patterns.iter().for_each(|(pattern, bound)| self.set(&pattern.to_string(), *bound));
    }

    /// Gives the tensors whose names fit a bound, in place of one that the same pattern has.
    pub fn set(&mut self, pattern: &str, bound: Bound) {
        let pattern = WildMatch::new(pattern);
        self.patterns.retain(|(known, _)| *known != pattern);
        self.patterns.push((pattern, bound));
    }

    /// Reads rules from TOML:
    ///
    /// ```
    /// let rules = weightzip::lossy::Rules::from_toml(r#"
    /// default = "abs=2^-14"
    /// [tensors]
    /// "lm_head*" = "none"
    /// "*.norm.weight" = "abs=2^-20"
    /// "#)?;
    /// assert_eq!(rules.to_string(), "abs=2^-14 lm_head*:none *.norm.weight:abs=2^-20");
    /// # Ok::<(), weightzip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) that says where it is not understood.
    pub fn from_toml(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            default: Option<String>,
            #[serde(default)]
            tensors: toml::Table,
        }
        let file: File = toml::from_str(text)
            .map_err(|e| Error::argument(format!("the rules are not understood: {e}")))?;
        let mut rules = Self::default();
        file.default.iter().try_for_each(|bound| {
            rules.default = Some(bound.parse()?);
            Ok::<_, Error>(())
        })?;
        for (pattern, bound) in &file.tensors {
            let bound = bound.as_str().ok_or_else(|| {
                Error::argument(format!("the rule of {pattern:?} is not a text like \"abs=2^-14\""))
            })?;
            rules.set(pattern, bound.parse()?);
        }
        Ok(rules)
    }

    /// The rules as [`from_toml`](Self::from_toml) reads them.
    pub fn to_toml(&self) -> String {
        let mut file = toml::Table::new();
        let text = |bound: &Bound| toml::Value::String(bound.to_string());
        file.extend(self.default.iter().map(|bound| ("default".to_owned(), text(bound))));
        let patterns = self.patterns.iter().map(|(name, bound)| (name.to_string(), text(bound)));
        let patterns: toml::Table = patterns.collect();
        if !patterns.is_empty() {
            file.insert("tensors".to_owned(), toml::Value::Table(patterns));
        }
        file.to_string()
    }

    pub(super) fn bounds(&self) -> impl Iterator<Item = &Bound> {
        self.default.iter().chain(self.patterns.iter().map(|(_, bound)| bound))
    }

    /// Whether there are no rules: everything stays as it is.
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.patterns.is_empty()
    }

    /// The bound of a tensor. Integers and 8-bit floats are exact; without a rule of their own also tensors of
    /// one dimension or none, such as norms and biases, and the scales of quantised ones.
    pub fn of(&self, tensor: &TensorInfo) -> Bound {
        if !can_be_rounded(tensor) {
            return Bound::Exact;
        }
        if let Some(seen) = self.seen.get(&tensor.name) {
            return *seen;
        }
        let named = self.patterns.iter().rev().find(|(name, _)| name.matches(&tensor.name));
        match (named, self.default) {
            (Some((_, bound)), _) => *bound,
            (None, Some(bound)) if tensor.shape.len() >= 2 && !is_scale(&tensor.name) => bound,
            _ => Bound::Exact,
        }
    }
}

/// Whether a tensor has floats that can be rounded.
pub(super) fn can_be_rounded(tensor: &TensorInfo) -> bool {
    tensor.dtype.record_layout().floats().is_some_and(round::takes)
}

fn is_scale(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    SCALES.iter().any(|scale| last.contains(scale))
}

/// As on the command line, with a blank between rules.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules: Vec<_> = self.default.iter().map(Bound::to_string).collect();
        rules.extend(self.patterns.iter().map(|(name, bound)| format!("{name}:{bound}")));
        f.write_str(&rules.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    fn bound(rules: &[&str], name: &str, dtype: Dtype, shape: &[u64]) -> Bound {
        let mut all = Rules::default();
        rules.iter().for_each(|rule| all.add(rule).unwrap());
        assert_eq!(Rules::from_toml(&all.to_toml()).unwrap(), all);
        all.of(&TensorInfo { name: name.to_owned(), dtype, shape: shape.to_vec() })
    }

    #[test]
    fn matrices_follow_the_knob_and_the_rest_its_own_rules() {
        let knob = ["abs=2^-14"];
        let rounded = Bound::Absolute(-14);
        use Dtype::{Bf16, C64, C128, F8E4M3, F16, F32, F64, I32};
        for dtype in [F16, Bf16, F32, F64, C64, C128] {
            assert_eq!(bound(&knob, "w", dtype, &[2, 3]), rounded);
        }
        for dtype in [I32, F8E4M3] {
            assert_eq!(bound(&["w:abs=2^-14"], "w", dtype, &[2, 3]), Bound::Exact);
        }
        for (name, shape) in
            [("w", &[3][..]), ("w", &[]), ("w.scales", &[2, 3]), ("a.weight_scale", &[2, 1])]
        {
            assert_eq!(bound(&knob, name, F32, shape), Bound::Exact);
        }
        assert_eq!(bound(&knob, "scaled.weight", F32, &[2, 2]), rounded);
        let own = ["abs=2^-14", "norm*:rel=2^-9", "*.scale:abs=2^-3"];
        assert_eq!(bound(&own, "norm.weight", F32, &[3]), Bound::Relative(9));
        assert_eq!(bound(&own, "w.scale", F32, &[]), Bound::Absolute(-3));
    }

    #[test]
    fn the_last_rule_that_fits_counts() {
        let rules = ["abs=2^-14", "lm*:none", "lm_head.?eight:abs=2^-9"];
        assert_eq!(bound(&rules, "lm_head.weight", Dtype::F32, &[2, 2]), Bound::Absolute(-9));
        assert_eq!(bound(&rules, "lm_tail.weight", Dtype::F32, &[2, 2]), Bound::Exact);
        assert_eq!(bound(&rules[1..], "other", Dtype::F32, &[2, 2]), Bound::Exact);
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        for text in
            ["default = 3", "defaults = \"none\"", "[tensors]\na = 1", "[tensors]\na = \"x\"", "="]
        {
            assert!(Rules::from_toml(text).is_err(), "{text}");
        }
        assert!(Rules::default().add("a:b:c").is_err());
    }
}
