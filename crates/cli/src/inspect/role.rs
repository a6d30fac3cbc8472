//! What tensors are for, as far as their names tell.

use super::look::{TensorRow, ratio};
use crate::human;
use crate::screen::Screen;
use crate::table::{self, Align};
use serde::Serialize;

/// A part of a model. The name of a tensor is all that tells it: what has none of the usual names is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Embedding,
    Attention,
    Mlp,
    Norm,
    Head,
    Other,
}

const ALL: [Role; 6] =
    [Role::Embedding, Role::Attention, Role::Mlp, Role::Norm, Role::Head, Role::Other];

/// Names of parts that tell a role wherever they occur, and those that do as a whole. The first that fits counts:
/// `attn_norm` is a norm, and `attention.output.dense` belongs to the attention.
const NAMES: [(Role, &[&str], &[&str]); 7] = [
    (Role::Norm, &["norm"], &["ln", "ln1", "ln2", "ln_1", "ln_2", "ln_f", "bn1", "bn2", "bn3"]),
    (Role::Mlp, &[], &["ff", "mlp", "fc1", "fc2"]),
    (Role::Attention, &["attn", "attention", "q_proj", "k_proj", "v_proj", "o_proj", "qkv"], &[]),
    (
        Role::Mlp,
        &[
            "mlp",
            "ffn",
            "feed_forward",
            "expert",
            "moe",
            "gate_proj",
            "up_proj",
            "down_proj",
            "intermediate.dense",
            "output.dense",
            "densereludense",
        ],
        &[],
    ),
    (Role::Head, &["lm_head", "embed_out"], &["head", "classifier", "score", "qa_outputs"]),
    (Role::Embedding, &["embed", "embd"], &["wte", "wpe"]),
    // The head of a GGUF model is `output.weight`.
    (Role::Head, &[], &["output"]),
];

impl Role {
    /// The role that a name tells.
    pub(super) fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let fits = |(_, within, whole): &&(Role, &[&str], &[&str])| {
            within.iter().any(|part| name.contains(part))
                || name.split(['.', '/']).any(|part| whole.contains(&part))
        };
        NAMES.iter().find(fits).map_or(Self::Other, |(role, ..)| *role)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Attention => "attention",
            Self::Mlp => "mlp",
            Self::Norm => "norm",
            Self::Head => "head",
            Self::Other => "other",
        }
    }
}

/// The tensors of a role together.
#[derive(Clone, Serialize)]
pub(super) struct RoleRow {
    role: Role,
    tensors: usize,
    bytes: u64,
    compressed: u64,
    ratio: Option<f64>,
}

/// Sums by role, of roles that have tensors.
pub(super) fn totals<'a>(tensors: impl IntoIterator<Item = &'a TensorRow>) -> Vec<RoleRow> {
    let empty = |role| RoleRow { role, tensors: 0, bytes: 0, compressed: 0, ratio: None };
    let mut rows = ALL.map(empty);
    for tensor in tensors {
        for row in rows.iter_mut().filter(|row| row.role == tensor.role) {
            row.tensors += 1;
            row.bytes += tensor.bytes;
            row.compressed += tensor.compressed;
        }
    }
    let rows = rows.into_iter().filter(|row| row.tensors > 0);
    rows.map(|row| RoleRow { ratio: ratio(row.compressed, row.bytes), ..row }).collect()
}

/// A table of the sums, if names tell any role.
pub(super) fn lines(rows: &[RoleRow], is_estimated: bool, screen: Screen) -> Vec<String> {
    if rows.iter().all(|row| row.role == Role::Other) {
        return Vec::new();
    }
    let whole: u64 = rows.iter().map(|row| row.bytes).sum();
    let cells = |row: &RoleRow| {
        [
            row.role.name().to_owned(),
            row.tensors.to_string(),
            human::bytes(row.bytes),
            human::percent(human::ratio(row.bytes, whole)),
            human::percent(row.ratio),
        ]
    };
    let heading = [
        ("role, by name", Align::Left),
        ("tensors", Align::Right),
        ("size", Align::Right),
        ("share", Align::Right),
        (if is_estimated { "~ratio" } else { "ratio" }, Align::Right),
    ];
    let rows: Vec<_> = rows.iter().map(cells).collect();
    let mut lines = vec![String::new()];
    lines.extend(table::lines(heading, &rows, screen));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_usual_models_tell_roles() {
        use Role::{Attention, Embedding, Head, Mlp, Norm, Other};
        for (name, role) in [
            ("model.embed_tokens.weight", Embedding),
            ("model.layers.0.self_attn.q_proj.weight", Attention),
            ("model.layers.0.self_attn.q_norm.weight", Norm),
            ("model.layers.0.block_sparse_moe.experts.3.w1.weight", Mlp),
            ("model.norm.weight", Norm),
            ("lm_head.weight", Head),
            ("embeddings.LayerNorm.bias", Norm),
            ("embeddings.word_embeddings.weight", Embedding),
            ("encoder.layer.0.attention.output.dense.weight", Attention),
            ("encoder.layer.0.output.dense.weight", Mlp),
            ("pooler.dense.weight", Other),
            ("wte.weight", Embedding),
            ("h.0.attn.c_attn.weight", Attention),
            ("h.0.ln_1.weight", Norm),
            ("token_embd.weight", Embedding),
            ("blk.0.ffn_gate.weight", Mlp),
            ("output.weight", Head),
            ("embed_out.weight", Head),
            ("down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight", Mlp),
            ("conv1.weight", Other),
        ] {
            assert_eq!(Role::of(name), role, "{name}");
        }
    }
}
