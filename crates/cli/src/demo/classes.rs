//! Sizes before and after, by the part that a tensor plays in the model.

use anyhow::Result;
use serde::Serialize;
use weightzip::{Archive, Source};

/// The tensors of one class, and what they take together.
#[derive(Serialize)]
pub(super) struct Class {
    pub(super) name: &'static str,
    pub(super) tensors: usize,
    pub(super) before: u64,
    pub(super) after: u64,
}

impl Class {
    fn empty(name: &'static str) -> Self {
        Self { name, tensors: 0, before: 0, after: 0 }
    }
}

const NAMES: [&str; 4] = ["embedding", "attention", "mlp", "norm + bias"];

/// One of `NAMES`, for the tensor names that crates/cli/assets/train.py gives.
fn class_of(tensor: &str) -> &'static str {
    if tensor.ends_with(".bias") || tensor.contains("norm") {
        "norm + bias"
    } else if tensor.contains(".attention.") {
        "attention"
    } else if tensor.contains(".mlp.") {
        "mlp"
    } else {
        "embedding"
    }
}

/// Every class; the last one is what is no tensor, so that they add up to the whole file.
pub(super) fn sizes<S: Source>(archive: &Archive<S>) -> Result<Vec<Class>> {
    let mut classes = NAMES.map(Class::empty);
    for tensor in archive.tensors() {
        let name = class_of(&tensor.info().name);
        let range = tensor.range();
        let after = tensor.stored()?.bytes;
        if let Some(class) = classes.iter_mut().find(|class| class.name == name) {
            class.tensors += 1;
            class.before += range.end - range.start;
            class.after += after;
        }
    }
    let before: u64 = classes.iter().map(|class| class.before).sum();
    let after: u64 = classes.iter().map(|class| class.after).sum();
    let info = archive.info();
    let rest = Class {
        name: "header and index",
        tensors: 0,
        before: info.original_bytes.saturating_sub(before),
        after: info.compressed_bytes.saturating_sub(after),
    };
    Ok(classes.into_iter().chain([rest]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_of_the_model_falls_in_the_right_class() {
        for (tensor, class) in [
            ("embedding.tokens.weight", "embedding"),
            ("head.weight", "embedding"),
            ("blocks.0.attention.qkv.weight", "attention"),
            ("blocks.0.attention.qkv.bias", "norm + bias"),
            ("blocks.3.mlp.down.weight", "mlp"),
            ("blocks.3.norm2.weight", "norm + bias"),
            ("norm.bias", "norm + bias"),
        ] {
            assert_eq!(class_of(tensor), class, "{tensor}");
            assert!(NAMES.contains(&class));
        }
    }
}
