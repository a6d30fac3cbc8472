//! What a file is coded against: tensors of other files, and ranges of its own original (spec: "Bases").

use super::directory::Hash;
use super::wire::{Fields, put_string, put_varint};
use crate::error::Result;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// What a file's segments may be coded against; numbered in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bases {
    /// Tensors of other files.
    pub(crate) tensors: Vec<BaseTensor>,
    /// Ranges of the original itself, which are stored once.
    pub(crate) repeated: Vec<Range<u64>>,
}

/// A tensor of another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseTensor {
    /// The name of the file that had it: a hint, never a path.
    pub file: Arc<str>,
    /// Its name there: a hint.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// BLAKE3 of its bytes: what it is known by.
    pub blake3: Hash,
}

/// The base files' names, each once, in the order in which tensors mention them; and the number of each tensor's file.
fn files(tensors: &[BaseTensor]) -> (Vec<&str>, Vec<usize>) {
    let (mut files, mut numbers) = (Vec::new(), HashMap::new());
    let of_tensors = tensors.iter().map(|tensor| {
        *numbers.entry(&*tensor.file).or_insert_with(|| {
            files.push(&*tensor.file);
            files.len() - 1
        })
    });
    let of_tensors = of_tensors.collect();
    (files, of_tensors)
}

impl Bases {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.tensors.len() + self.repeated.len()
    }

    /// Bytes of a base, and where it ends in the original, if it is one of its ranges.
    pub(crate) fn extent(&self, number: usize) -> Option<(u64, Option<u64>)> {
        match self.tensors.get(number) {
            Some(tensor) => Some((tensor.bytes, None)),
            None => {
                let range = self.repeated.get(number - self.tensors.len())?;
                Some((range.end - range.start, Some(range.end)))
            }
        }
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        let (files, numbers) = files(&self.tensors);
        put_varint(out, files.len() as u64);
        files.iter().for_each(|file| put_string(out, file));
        put_varint(out, self.tensors.len() as u64);
        for (tensor, file) in self.tensors.iter().zip(numbers) {
            put_varint(out, file as u64);
            put_string(out, &tensor.name);
            put_varint(out, tensor.bytes);
            out.extend(tensor.blake3);
        }
        put_varint(out, self.repeated.len() as u64);
        for range in &self.repeated {
            put_varint(out, range.start);
            put_varint(out, range.end - range.start);
        }
    }

    pub(crate) fn read_from(payload: &[u8]) -> Result<Self> {
        let mut from = Fields::of("the list of bases", payload);
        let files = from.count(1)?;
        // Shared, for a name may be long and mentioned often.
        let files: Vec<Arc<str>> =
            (0..files).map(|_| Ok(from.string()?.into())).collect::<Result<_>>()?;
        let count = from.count(35)?;
        let mut bases = Self { tensors: Vec::with_capacity(count), repeated: Vec::new() };
        for _ in 0..count {
            let file = usize::try_from(from.varint()?).ok().and_then(|file| files.get(file));
            let file = file.ok_or_else(|| from.bad("has a tensor of no file"))?.clone();
            let (name, bytes, blake3) = (from.string()?, from.varint()?, from.array()?);
            bases.tensors.push(BaseTensor { file, name, bytes, blake3 });
        }
        for _ in 0..from.count(2)? {
            let (start, bytes) = (from.varint()?, from.varint()?);
            let end = start.checked_add(bytes);
            bases.repeated.push(start..end.ok_or_else(|| from.bad("has a range without an end"))?);
        }
        if bases.is_empty() {
            return Err(from.bad("is empty"));
        }
        from.finish()?;
        Ok(bases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_list_comes_back() {
        arbtest::arbtest(|u| {
            let mut bases = Bases::default();
            for _ in 0..u.int_in_range(1..=5)? {
                let file = (*u.choose(&["a", "b.wz", ""])?).into();
                let (name, bytes, blake3) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
                bases.tensors.push(BaseTensor { file, name, bytes, blake3 });
                let start = u.int_in_range(0..=1 << 40)?;
                bases.repeated.push(start..start + u.int_in_range(0..=1 << 40)?);
            }
            let mut out = Vec::new();
            bases.write_to(&mut out);
            assert_eq!(Bases::read_from(&out).unwrap(), bases);
            let at = u.choose_index(out.len())?;
            out[at] ^= u.int_in_range(1..=255)? as u8;
            let _ = Bases::read_from(&out);
            Ok(())
        });
        assert!(Bases::read_from(&[0, 0, 0]).is_err());
    }
}
