//! PyTorch checkpoints and TorchScript programs: zip archives of a pickle and the bytes of its tensors.
//!
//! The pickle says which part of which storage a tensor is, and what it is called; a storage is a member. A
//! storage becomes one tensor: under the name, and in the shape, of the first tensor that is all of it, else
//! under its own, as a row of numbers.

use super::pickle::{Kind, Pickle, Value};
use super::zip::{self, Member};
use super::{Found, read};
use crate::dtype::Dtype;
use crate::source::Source;
use crate::span::{Span, TensorInfo};
use std::collections::HashMap;

/// Most bytes of a pickle.
pub(super) const MAX_PICKLE: u64 = 100_000_000;

/// Memory that reading a pickle may take for each byte of the file.
const ROOM_EACH: u64 = 8;

/// Longest name made of what a tensor is in, most of such steps, and most bytes of all names.
pub(super) const MAX_NAME: usize = 1 << 10;
const MAX_STEPS: u32 = 64;
const MAX_NAMES: usize = 64 << 20;

/// Attributes of modules that are left out of names, as `state_dict` does.
const SILENT: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// The folder that a checkpoint's members are in, if this is one.
pub(super) fn folder(members: &[Member]) -> Option<&str> {
    members.iter().find_map(|member| {
        let folder = member.name.strip_suffix("/data.pkl")?;
        (!folder.contains('/')).then_some(folder)
    })
}

/// Finds the tensors of an archive, whose names get `prefix` before them, if that is not empty.
pub(super) fn in_archive(
    scan: &mut zip::Scan<'_>,
    members: &[Member],
    folder: &str,
    prefix: &str,
) -> Found<()> {
    let source = scan.source;
    for part in ["data", "constants"] {
        let constants = if part == "constants" { part } else { "" };
        let prefix = joined(prefix, constants);
        let archive = Archive { source, members, folder, part, prefix };
        let Some(pickle) = archive.member(&format!("{part}.pkl")) else { continue };
        let mut warn = |why: &str| scan.warnings.opaque("what is in", &pickle.name, why);
        if archive.is_big_endian()? {
            warn("they are big-endian");
            continue;
        }
        let bytes = match archive.read(pickle, MAX_PICKLE)? {
            Ok(bytes) => bytes,
            Err(why) => {
                warn(&why);
                continue;
            }
        };
        match Pickle::read(&bytes, ROOM_EACH.saturating_mul(scan.size)) {
            Ok(pickle) => archive.tensors(&Storages::of(&pickle), scan),
            Err(why) => warn(&why),
        }
    }
    Ok(())
}

/// A pickle's place in an archive.
struct Archive<'a> {
    source: &'a dyn Source,
    members: &'a [Member],
    folder: &'a str,
    /// The pickle's name, and that of the folder of its storages.
    part: &'a str,
    /// What names start with.
    prefix: String,
}

impl<'a> Archive<'a> {
    /// A member by its name in the archive's folder.
    fn member(&self, name: &str) -> Option<&'a Member> {
        self.members.iter().find(|member| self.inner(member) == Some(name))
    }

    fn inner<'m>(&self, member: &'m Member) -> Option<&'m str> {
        member.name.strip_prefix(self.folder)?.strip_prefix('/')
    }

    fn read(&self, member: &Member, most: u64) -> Found<Result<Vec<u8>, String>> {
        let Some(data) = &member.data else { return Ok(Err("it is deflated".to_owned())) };
        let len = data.end - data.start;
        match usize::try_from(len).ok().filter(|_| len <= most) {
            Some(len) => read(self.source, data.start, len).map(Ok),
            None => Ok(Err(format!("it has more than {most} bytes"))),
        }
    }

    fn is_big_endian(&self) -> Found<bool> {
        const LONGEST: u64 = 6;
        let Some(order) = self.member("byteorder") else { return Ok(false) };
        Ok(self.read(order, LONGEST)?.is_ok_and(|order| order == b"big"))
    }

    fn tensors(&self, storages: &Storages<'_>, scan: &mut zip::Scan<'_>) {
        for member in self.members {
            let inner = self.inner(member);
            let key = inner.and_then(|inner| inner.strip_prefix(self.part)?.strip_prefix('/'));
            let (Some(inner), Some(key), Some(range)) = (inner, key, &member.data) else {
                continue;
            };
            let Some(storage) = storages.by_key.get(key) else { continue };
            let bytes = range.end - range.start;
            if storage.bytes != Some(bytes) {
                let why = format!("it has {bytes} bytes, which is not what its pickle says");
                scan.warnings.opaque("storage", &member.name, &why);
                continue;
            }
            let (elements, size) = storage.dtype.block();
            let row = || vec![(bytes / size).saturating_mul(elements)];
            let (name, shape) = match &storage.whole {
                Some((name, shape)) => (name.as_deref(), shape.clone()),
                None => (None, row()),
            };
            let mut name = joined(&self.prefix, name.unwrap_or(inner));
            if name.is_empty() {
                inner.clone_into(&mut name);
            }
            let tensor = TensorInfo { name, dtype: storage.dtype, shape };
            scan.tensors.add(Span::tensor(range.clone(), tensor));
        }
    }
}

/// Two parts of a name; either may be empty.
pub(super) fn joined(prefix: &str, name: &str) -> String {
    let dot = if prefix.is_empty() || name.is_empty() { "" } else { "." };
    format!("{prefix}{dot}{name}")
}

/// What a pickle says of a storage.
struct Storage {
    dtype: Dtype,
    bytes: Option<u64>,
    /// Shape of the first tensor that is all of it, and its name, if that is not too long: an empty one
    /// if it is all that the pickle has.
    whole: Option<(Option<String>, Vec<u64>)>,
}

/// The storages that a pickle names.
struct Storages<'a> {
    by_key: HashMap<&'a str, Storage>,
}

/// A value that is still to be looked at, and the path to it.
type Task<'a> = (Value<'a>, Option<usize>);

/// A step from a value to one in it.
struct Step<'a> {
    before: Option<usize>,
    key: Value<'a>,
    /// How many there are up to here.
    depth: u32,
}

impl<'a> Storages<'a> {
    /// Goes through all that the pickle builds, each thing once, in order.
    fn of(pickle: &Pickle<'a>) -> Self {
        let mut storages = Self { by_key: HashMap::new() };
        let mut seen = vec![false; pickle.nodes.len()];
        let (mut steps, mut left, mut names) =
            (Vec::<Step<'a>>::new(), vec![(pickle.root, None)], MAX_NAMES);
        while let Some((value, path)) = left.pop() {
            let Value::Node(number) = value else { continue };
            if seen.get_mut(number).is_none_or(|seen| std::mem::replace(seen, true)) {
                continue;
            }
            if let Some(tensor) = Tensor::of(pickle, value) {
                let name = || path_name(&steps, path).filter(|name| name.len() <= names);
                names -= storages.add(tensor, name);
                continue;
            }
            let from = left.len();
            inside(pickle, value, path, &mut steps, &mut left);
            // The last one is looked at first.
            left[from..].reverse();
        }
        storages
    }

    /// Notes a tensor; returns the length of its name, if that was needed.
    fn add(&mut self, tensor: Tensor<'a>, name: impl Fn() -> Option<String>) -> usize {
        let storage = self.by_key.entry(tensor.key).or_insert(Storage {
            dtype: tensor.dtype,
            bytes: tensor.bytes,
            whole: None,
        });
        let fits = storage.whole.is_none() && storage.dtype == tensor.dtype;
        let Some(shape) = tensor.shape.filter(|_| fits) else { return 0 };
        let name = name();
        let taken = name.as_ref().map_or(0, String::len);
        storage.whole = Some((name, shape));
        taken
    }
}

/// Adds what is in a value to what is left.
fn inside<'a>(
    pickle: &Pickle<'a>,
    value: Value<'a>,
    path: Option<usize>,
    steps: &mut Vec<Step<'a>>,
    left: &mut Vec<Task<'a>>,
) {
    let Some(node) = pickle.node(value) else { return };
    if let Kind::Call { arguments, .. } = node.kind {
        // What something is made of has its name.
        left.extend(pickle.sequence(arguments).into_iter().flatten().map(|item| (item, path)));
    }
    for (key, item) in &node.items {
        let Value::Node(_) = item else { continue };
        let silent = match key {
            Value::Text(key) => SILENT.contains(key),
            Value::Int(_) => false,
            _ => true,
        };
        let path = if silent {
            path
        } else {
            let depth =
                path.and_then(|at| steps.get(at)).map_or(1, |step| step.depth.saturating_add(1));
            steps.push(Step { before: path, key: *key, depth });
            Some(steps.len() - 1)
        };
        left.push((*item, path));
    }
}

/// The keys of a path with dots between them, if that is no longer than names are.
fn path_name(steps: &[Step<'_>], mut path: Option<usize>) -> Option<String> {
    let (mut keys, mut len) = (Vec::new(), 0);
    while let Some(step) = path.and_then(|at| steps.get(at)) {
        let key = match step.key {
            Value::Text(key) if key.len() <= MAX_NAME => key.to_owned(),
            Value::Int(index) => index.to_string(),
            _ => return None,
        };
        len += key.len() + 1;
        keys.push(key);
        path = step.before;
        if step.depth > MAX_STEPS || len > MAX_NAME {
            return None;
        }
    }
    keys.reverse();
    Some(keys.join("."))
}

/// A tensor, or a storage that is named for its own sake.
struct Tensor<'a> {
    /// Its storage, and the bytes of that.
    key: &'a str,
    bytes: Option<u64>,
    dtype: Dtype,
    /// Its shape, if it is all of its storage, in order.
    shape: Option<Vec<u64>>,
}

impl<'a> Tensor<'a> {
    fn of(pickle: &Pickle<'a>, value: Value<'a>) -> Option<Self> {
        match pickle.node(value)?.kind {
            Kind::Persistent(_) => {
                let (key, dtype, count) = storage(pickle, value)?;
                let dtype = dtype?;
                Some(Self { key, bytes: dtype.bytes_of(&[count]), dtype, shape: None })
            }
            Kind::Call { function, arguments } => {
                let mut arguments: Vec<_> = pickle.sequence(arguments)?.collect();
                let mut function = pickle.global(function)?;
                // A subclass of tensors says how the tensor in it is made.
                if function == ("torch._tensor", "_rebuild_from_type_v2") {
                    function = pickle.global(*arguments.first()?)?;
                    arguments = pickle.sequence(*arguments.get(2)?)?.collect();
                }
                Self::rebuilt(pickle, function, &arguments)
            }
            _ => None,
        }
    }

    /// The tensor that one of PyTorch's functions would make of these arguments.
    fn rebuilt(
        pickle: &Pickle<'a>,
        function: (&str, &str),
        arguments: &[Value<'a>],
    ) -> Option<Self> {
        let (
            "torch._utils",
            "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" | "_rebuild_qtensor",
        ) = function
        else {
            return None;
        };
        let [from, offset, size, stride, ..] = arguments else { return None };
        let (key, of_storage, count) = storage(pickle, *from)?;
        // A storage of bytes leaves it to its tensors to say what they are.
        let (dtype, bytes) = match of_storage {
            Some(dtype) => (dtype, dtype.bytes_of(&[count])),
            None => (dtype(pickle.global(*arguments.get(6)?)?.1)?, Some(count)),
        };
        let (size, stride) = (numbers(pickle, *size)?, numbers(pickle, *stride)?);
        let in_order = *offset == Value::Int(0) && is_contiguous(&size, &stride);
        let shape = in_order.then(|| counted(dtype, size)).flatten();
        let shape = shape.filter(|shape| bytes.is_some() && dtype.bytes_of(shape) == bytes);
        Some(Self { key, bytes, dtype, shape })
    }
}

/// A storage's key, the dtype of its elements, if it has one that is known, and their number.
fn storage<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Option<(&'a str, Option<Dtype>, u64)> {
    let Kind::Persistent(id) = pickle.node(value)?.kind else { return None };
    let id: Vec<_> = pickle.sequence(id)?.collect();
    let [Value::Text("storage"), class, Value::Text(key), _, Value::Int(count), ..] = id[..] else {
        return None;
    };
    let (_, class) = pickle.global(class)?;
    let dtype = match class {
        "UntypedStorage" => None,
        typed => Some(dtype_of_storage(typed)?),
    };
    Some((key, dtype, u64::try_from(count).ok()?))
}

fn numbers(pickle: &Pickle<'_>, value: Value<'_>) -> Option<Vec<u64>> {
    let number = |item| if let Value::Int(n) = item { u64::try_from(n).ok() } else { None };
    pickle.sequence(value)?.map(number).collect()
}

/// Whether elements lie as their indexes count, the last one fastest.
pub(super) fn is_contiguous(size: &[u64], stride: &[u64]) -> bool {
    let mut step = 1u64;
    size.len() == stride.len()
        && (size.contains(&0)
            || size.iter().zip(stride).rev().all(|(&size, &stride)| {
                let fits = size == 1 || stride == step;
                step = step.saturating_mul(size);
                fits
            }))
}

/// The shape in elements: of FP4 PyTorch counts pairs.
pub(super) fn counted(dtype: Dtype, mut size: Vec<u64>) -> Option<Vec<u64>> {
    if dtype == Dtype::F4 {
        let last = size.last_mut()?;
        *last = last.checked_mul(2)?;
    }
    Some(size)
}

fn dtype_of_storage(class: &str) -> Option<Dtype> {
    Some(match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "ComplexFloatStorage" => Dtype::C64,
        "ComplexDoubleStorage" => Dtype::C128,
        "LongStorage" => Dtype::I64,
        "IntStorage" | "QInt32Storage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" | "QInt8Storage" => Dtype::I8,
        "ByteStorage" | "QUInt8Storage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return None,
    })
}

/// The dtype of a name that PyTorch has for it, and NumPy where it has that too.
pub(super) fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "complex64" => Dtype::C64,
        "complex128" => Dtype::C128,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e4m3fnuz" => Dtype::F8E4M3Fnuz,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e5m2fnuz" => Dtype::F8E5M2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        "float4_e2m1fn_x2" => Dtype::F4,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}
