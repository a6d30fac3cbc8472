//! Exported programs of PyTorch (`torch.export.save`): zip archives in which JSON says what is in the members that hold
//! weights and constants.
//!
//! A member becomes one tensor: under the name, and in the shape, of the first tensor that is all of it, in order, else
//! of the first one, as a row of numbers. Tensors that PyTorch pickles are archives in the archive. Programs from before PyTorch 2.8
//! have all their tensors in such.

use super::torch::{MAX_NAME, counted, is_contiguous, joined};
use super::zip::{self, Member};
use super::{Found, read};
use crate::dtype::Dtype;
use crate::span::{Span, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Most bytes of what says what is in the members.
const MAX_CONFIG: u64 = 100_000_000;

/// Folders of the tensors, and how the file in them ends that describes them.
const PARTS: [(&str, &str); 2] =
    [("data/weights/", "_weights_config.json"), ("data/constants/", "_constants_config.json")];

/// The folder that a program's members are in, if this is one.
pub(super) fn folder(members: &[Member]) -> Option<&str> {
    members.iter().find_map(|member| member.name.strip_suffix("archive_format"))
}

/// Finds the tensors of a program.
pub(super) fn in_archive(scan: &mut zip::Scan<'_>, members: &[Member], folder: &str) -> Found<()> {
    let by_path: HashMap<&str, &Member> = members
        .iter()
        .filter_map(|member| Some((member.name.strip_prefix(folder)?, member)))
        .collect();
    for (part, suffix) in PARTS {
        let configs = members.iter().filter_map(|member| {
            let model = member.name.strip_prefix(folder)?.strip_prefix(part)?;
            Some((model.strip_suffix(suffix)?, member))
        });
        let configs: Vec<_> = configs.collect();
        for (model, member) in &configs {
            let prefix = if configs.len() > 1 { model } else { "" };
            match config(scan, member)? {
                Ok(config) => {
                    for (path, tensors) in config.by_path() {
                        let member = by_path.get(format!("{part}{path}").as_str());
                        member
                            .map_or(Ok(()), |member| tensors_of(scan, member, prefix, &tensors))?;
                    }
                }
                Err(why) => scan.warnings.opaque("what is described by", &member.name, &why),
            }
        }
    }
    Ok(())
}

fn config(scan: &zip::Scan<'_>, member: &Member) -> Found<Result<Config, String>> {
    let Some(Range { start, end }) = member.data.clone() else {
        return Ok(Err("it is deflated or damaged".to_owned()));
    };
    let Some(len) = usize::try_from(end - start).ok().filter(|_| end - start <= MAX_CONFIG) else {
        return Ok(Err(format!("it has more than {MAX_CONFIG} bytes")));
    };
    let json = read(scan.source, start, len)?;
    Ok(serde_json::from_slice(&json).map_err(|e| e.to_string()))
}

/// Adds what is in one member, of which these tensors are.
fn tensors_of(
    scan: &mut zip::Scan<'_>,
    member: &Member,
    prefix: &str,
    tensors: &[(String, Payload)],
) -> Found<()> {
    let (Some(range), Some((first, payload))) = (&member.data, tensors.first()) else {
        return Ok(());
    };
    if payload.use_pickle {
        return scan.nested(range.clone(), &joined(prefix, first));
    }
    let bytes = range.end - range.start;
    let whole = tensors.iter().find_map(|(name, payload)| Some((name, payload.whole(bytes)?)));
    let row = || {
        let dtype = payload.meta.as_ref().and_then(|meta| dtype(meta.dtype))?;
        let (elements, size) = dtype.block();
        Some((first, (dtype, vec![(bytes / size).checked_mul(elements)?])))
    };
    let found =
        whole.or_else(row).filter(|(_, (dtype, shape))| dtype.bytes_of(shape) == Some(bytes));
    match found.filter(|(name, _)| name.len() <= MAX_NAME) {
        Some((name, (dtype, shape))) => {
            let info = TensorInfo { name: joined(prefix, name), dtype, shape };
            scan.tensors.add(Span::tensor(range.clone(), info));
        }
        None => {
            let why = format!("it has {bytes} bytes, which is not what is said of it");
            scan.warnings.opaque("tensor", first, &why);
        }
    }
    Ok(())
}

/// What is said of the tensors, by their names. Unknown things are passed over, so that reading takes no more memory than
/// the text.
#[derive(serde::Deserialize)]
struct Config {
    config: BTreeMap<String, Payload>,
}

#[derive(serde::Deserialize)]
struct Payload {
    #[serde(default)]
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    #[serde(rename = "tensor_meta")]
    meta: Option<Meta>,
}

#[derive(serde::Deserialize)]
struct Meta {
    dtype: u64,
    sizes: Vec<Number>,
    strides: Vec<Number>,
    storage_offset: Number,
}

/// A number, unless it is an expression.
#[derive(serde::Deserialize)]
struct Number {
    as_int: Option<u64>,
}

impl Config {
    /// The tensors of each member, by its path.
    fn by_path(self) -> BTreeMap<String, Vec<(String, Payload)>> {
        let mut members = BTreeMap::<_, Vec<_>>::new();
        for (name, payload) in self.config {
            members.entry(payload.path_name.clone()).or_default().push((name, payload));
        }
        members
    }
}

impl Payload {
    /// Its dtype and shape, if it is all of a member of so many bytes, in order.
    fn whole(&self, bytes: u64) -> Option<(Dtype, Vec<u64>)> {
        let meta = self.meta.as_ref()?;
        let dtype = dtype(meta.dtype)?;
        let numbers = |numbers: &[Number]| numbers.iter().map(|n| n.as_int).collect::<Option<_>>();
        let (sizes, strides): (Vec<_>, Vec<_>) = (numbers(&meta.sizes)?, numbers(&meta.strides)?);
        let in_order = meta.storage_offset.as_int == Some(0) && is_contiguous(&sizes, &strides);
        let shape = in_order.then(|| counted(dtype, sizes)).flatten()?;
        (dtype.bytes_of(&shape) == Some(bytes)).then_some((dtype, shape))
    }
}

/// The dtype of a number of `ScalarType`.
fn dtype(number: u64) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::U8,
        2 => Dtype::I8,
        3 => Dtype::I16,
        4 => Dtype::I32,
        5 => Dtype::I64,
        6 => Dtype::F16,
        7 => Dtype::F32,
        8 => Dtype::F64,
        10 => Dtype::C64,
        11 => Dtype::C128,
        12 => Dtype::Bool,
        13 => Dtype::Bf16,
        28 => Dtype::U16,
        29 => Dtype::F8E4M3,
        30 => Dtype::F8E5M2,
        31 => Dtype::F8E4M3Fnuz,
        32 => Dtype::F8E5M2Fnuz,
        33 => Dtype::F8E8M0,
        34 => Dtype::U32,
        35 => Dtype::U64,
        _ => return None,
    })
}
