//! Which tensors of other files a file is coded against (spec: "Bases").

use super::directory::Hash;
use super::wire::{Fields, put_string, put_varint};
use crate::error::Result;
use std::sync::Arc;

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

/// The base files' names, each once, in the order in which tensors mention them.
fn files(tensors: &[BaseTensor]) -> Vec<&str> {
    let mut files = Vec::new();
    for tensor in tensors {
        if !files.contains(&&*tensor.file) {
            files.push(&tensor.file);
        }
    }
    files
}

pub(crate) fn write_to(tensors: &[BaseTensor], out: &mut Vec<u8>) {
    let files = files(tensors);
    put_varint(out, files.len() as u64);
    files.iter().for_each(|file| put_string(out, file));
    put_varint(out, tensors.len() as u64);
    for tensor in tensors {
        let file = files.iter().position(|file| *file == &*tensor.file);
        put_varint(out, file.unwrap_or_default() as u64);
        put_string(out, &tensor.name);
        put_varint(out, tensor.bytes);
        out.extend(tensor.blake3);
    }
}

pub(crate) fn read_from(payload: &[u8]) -> Result<Vec<BaseTensor>> {
    let mut from = Fields::of("the list of bases", payload);
    let files = from.count(1)?;
    // Shared, for a name may be long and mentioned often.
    let files: Vec<Arc<str>> =
        (0..files).map(|_| Ok(from.string()?.into())).collect::<Result<_>>()?;
    let count = from.count(35)?;
    if count == 0 {
        return Err(from.bad("has no tensors"));
    }
    let mut tensors = Vec::with_capacity(count);
    for _ in 0..count {
        let file = usize::try_from(from.varint()?).ok().and_then(|file| files.get(file));
        let file = file.ok_or_else(|| from.bad("has a tensor of no file"))?.clone();
        let (name, bytes, blake3) = (from.string()?, from.varint()?, from.array()?);
        tensors.push(BaseTensor { file, name, bytes, blake3 });
    }
    from.finish()?;
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_list_comes_back() {
        arbtest::arbtest(|u| {
            let mut tensors = Vec::new();
            for _ in 0..u.int_in_range(1..=5)? {
                let file = (*u.choose(&["a", "b.wz", ""])?).into();
                let (name, bytes, blake3) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
                tensors.push(BaseTensor { file, name, bytes, blake3 });
            }
            let mut out = Vec::new();
            write_to(&tensors, &mut out);
            assert_eq!(read_from(&out).unwrap(), tensors);
            let at = u.choose_index(out.len())?;
            out[at] ^= u.int_in_range(1..=255)? as u8;
            let _ = read_from(&out);
            Ok(())
        });
        assert!(read_from(&[0, 0]).is_err());
    }
}
