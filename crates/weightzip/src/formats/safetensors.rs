//! Safetensors: eight bytes of header length, a JSON header, tensor data without holes.
//!
//! The rules are those of the safetensors package: a header of at most 100 MB that starts with
//! `{`, no key twice, tensors that start at zero, fill their ranges, and neither overlap nor
//! leave holes. The header itself stays opaque, so that it comes back to the byte. A file in which a tensor breaks a rule, or has no room
//! in the directory, is none of this format, but its other tensors are found.

use super::tensors::{Extent, Tensors};
use super::warnings::{Warnings, quoted};
use super::{Format, Layout, Scan};
use crate::container::directory::MAX_DIMS;
use crate::container::wire::MAX_STRING;
use crate::dtype::Dtype;
use crate::span::{Span, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the header's length.
const LENGTH: usize = 8;

pub(super) fn scan(prefix: &[u8], ended: bool) -> Scan {
    let opaque =
        |warning: Option<String>| Scan::Done(Layout::opaque(warning.into_iter().collect()));
    let Some((length, rest)) = prefix.split_first_chunk::<LENGTH>() else {
        return if ended { opaque(None) } else { Scan::More(LENGTH + 1) };
    };
    // Any header starts with a brace; without one this isn't meant to be a safetensors file.
    match rest.first() {
        None if !ended => return Scan::More(LENGTH + 1),
        Some(b'{') => {}
        _ => return opaque(None),
    }
    let length = u64::from_le_bytes(*length);
    let broken = |why: String| {
        opaque(Some(format!("not a valid safetensors file: {why}; kept as opaque bytes")))
    };
    let Some(length) = usize::try_from(length).ok().filter(|_| length <= MAX_HEADER) else {
        return broken(format!("its header would have {length} bytes, more than {MAX_HEADER}"));
    };
    match rest.get(..length) {
        None if !ended => Scan::More(LENGTH + length),
        None => broken("its header is cut short".to_owned()),
        Some(json) => match serde_json::from_slice(json) {
            Ok(header) => Scan::Done(layout(header, (LENGTH + length) as u64)),
            Err(why) => broken(why.to_string()),
        },
    }
}

/// The tensors of a header, whose data start at `data`.
fn layout(Header(mut entries): Header, data: u64) -> Layout {
    let (mut tensors, mut warnings) = (Tensors::new(Extent::Header(data)), Warnings::default());
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let (count, mut at, mut format) = (entries.len(), 0, Format::Safetensors);
    for (name, entry) in entries {
        let (start, end) = entry.data_offsets;
        let follows = match start == std::mem::replace(&mut at, end) {
            true => Ok(()),
            false => Err("overlaps another or leaves a hole before it".to_owned()),
        };
        let span = entry.span(&name, data);
        if let Err(why) = span.as_ref().and(follows.as_ref()) {
            format = Format::Opaque;
            let name = quoted(&name);
            warnings.add(|| format!("not a valid safetensors file: tensor {name} {why}"));
        }
        span.into_iter().for_each(|span| tensors.add(span));
    }
    let mut layout = Layout::of_tensors(format, tensors, warnings);
    // Loaders take the directory's tensors for all: where it lacks one they must refuse the file.
    if layout.spans.iter().filter(|span| span.tensor.is_some()).count() < count {
        layout.format = Format::Opaque;
    }
    layout
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    /// The tensor's span, if it may be one.
    fn span(self, name: &str, data: u64) -> Result<Span, String> {
        let Self { dtype, shape, data_offsets: (start, end) } = self;
        let dtype = Dtype::from_name(&dtype)
            .filter(|dtype| dtype.is_in_safetensors())
            .ok_or_else(|| format!("has unknown dtype {}", quoted(&dtype)))?;
        let bytes = dtype.bytes_of(&shape).ok_or("has an impossible shape")?;
        if end.checked_sub(start) != Some(bytes) {
            return Err("has another number of bytes than its shape says".to_owned());
        }
        if name.len() as u64 > MAX_STRING || shape.len() > MAX_DIMS {
            return Err("has a name of more than a mebibyte, or more than 64 dimensions".to_owned());
        }
        let end = data.checked_add(end).ok_or("ends beyond 2^64")?;
        Ok(Span::tensor(data + start..end, TensorInfo { name: name.to_owned(), dtype, shape }))
    }
}

/// The tensors in the order of the JSON object.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut tensors, mut keys) = (Vec::new(), HashSet::new());
                while let Some(key) = map.next_key::<String>()? {
                    if !keys.insert(key.clone()) {
                        return Err(A::Error::custom(format!("key {key:?} comes twice")));
                    }
                    if key == "__metadata__" {
                        // Nothing at all is read as no metadata.
                        map.next_value::<Option<Metadata>>()?;
                    } else {
                        tensors.push((key, map.next_value()?));
                    }
                }
                Ok(Header(tensors))
            }
        }
        from.deserialize_map(Entries)
    }
}

/// Text by text; only looked at to see that it is that.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut keys = HashSet::new();
                while let Some((key, _)) = map.next_entry::<String, String>()? {
                    if !keys.insert(key) {
                        return Err(A::Error::custom("a metadata key comes twice"));
                    }
                }
                Ok(Metadata)
            }
        }
        from.deserialize_map(Texts)
    }
}

#[cfg(test)]
mod tests {
    use crate::formats::{Format, Layout, scan};

    fn layout(json: &str, data: usize) -> Layout {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file.resize(file.len() + data, 1);
        scan(&file).unwrap()
    }

    fn warning(json: &str, data: usize) -> String {
        let layout = layout(json, data);
        assert_eq!(
            (layout.format, layout.spans.iter().any(|s| s.tensor.is_some()), layout.warnings.len()),
            (Format::Opaque, false, 1),
            "{layout:?}"
        );
        layout.warnings[0].clone()
    }

    #[test]
    fn tensors_are_found_in_the_order_of_their_data() {
        let json = r#"{"__metadata__":{"a":"b"},"y":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"x":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},"z":{"dtype":"U8","shape":[0,3],"data_offsets":[10,10]}}   "#;
        let found = layout(json, 10);
        let names: Vec<_> =
            found.spans.iter().filter_map(|s| s.tensor.as_ref()).map(|t| t.name.as_str()).collect();
        assert_eq!((names, found.warnings.len()), (vec!["x", "y", "z"], 0));
        assert!(found.spans.windows(2).all(|w| w[0].range.end == w[1].range.start));
    }

    #[test]
    fn broken_rules_make_a_file_opaque_and_say_why() {
        let one = |entry: &str| format!(r#"{{"x":{entry}}}"#);
        let entry = r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#;
        assert!(warning(&format!(r#"{{"x":{entry},"x":{entry}}}"#), 4).contains("twice"));
        assert!(
            warning(&one(r#"{"dtype":"U8","shape":[5],"data_offsets":[0,4]}"#), 4)
                .contains("shape says")
        );
        assert!(
            warning(&one(r#"{"dtype":"U9","shape":[4],"data_offsets":[0,4]}"#), 4)
                .contains("unknown dtype")
        );
        for (dtype, bytes) in [("Q4_0", 18), ("C128", 32 * 16)] {
            let entry = format!(r#"{{"dtype":"{dtype}","shape":[32],"data_offsets":[0,{bytes}]}}"#);
            assert!(warning(&one(&entry), bytes).contains("unknown dtype"));
        }
        assert!(
            warning(&one(r#"{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}"#), 4)
                .contains("invalid value")
        );
        let huge = format!("[{0},{0}]", u64::MAX);
        assert!(
            warning(&one(&format!(r#"{{"dtype":"U8","shape":{huge},"data_offsets":[0,4]}}"#)), 4)
                .contains("impossible")
        );
        let (name, dims) = ("n".repeat(1 << 20 | 1), vec!["1"; 65].join(","));
        let named = warning(&format!(r#"{{"{name}":{entry}}}"#), 4);
        assert!(named.contains("mebibyte") && named.len() < 300, "{named}");
        let deep = format!(r#"{{"dtype":"U8","shape":[{dims}],"data_offsets":[0,1]}}"#);
        assert!(warning(&one(&deep), 1).contains("64 dimensions"));
        assert!(warning(r#"{"__metadata__":{"a":1}}"#, 0).contains("expected a string"));
        assert!(warning(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0).contains("twice"));
        assert!(warning("{", 3).contains("EOF"));
    }

    #[test]
    fn an_odd_tensor_is_opaque_and_others_are_found() {
        let good = r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#;
        for (odd, why) in [
            (r#"{"dtype":"F99","shape":[4],"data_offsets":[16,32]}"#, "unknown dtype \"F99\""),
            (r#"{"dtype":"U8","shape":[5],"data_offsets":[16,32]}"#, "shape says"),
            (r#"{"dtype":"U8","shape":[8],"data_offsets":[24,32]}"#, "a hole"),
            (r#"{"dtype":"U8","shape":[20],"data_offsets":[12,32]}"#, "overlaps"),
            (r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#, "overlaps"),
        ] {
            let layout = layout(&format!(r#"{{"x":{good},"y":{odd}}}"#), 32);
            let first = layout.spans.iter().find_map(|span| span.tensor.as_ref()).unwrap();
            assert_eq!((layout.format, first.name.as_str()), (Format::Opaque, "x"), "{odd}");
            assert!(layout.warnings[0].contains(why), "{layout:?}");
        }
    }

    #[test]
    fn metadata_may_be_nothing() {
        let json = r#"{"__metadata__":null,"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
        let found = layout(json, 4);
        assert_eq!((found.format, found.warnings.len()), (Format::Safetensors, 0), "{found:?}");
    }

    #[test]
    fn length_is_a_matter_of_the_file_and_only_warned_about() {
        let json = r#"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#;
        let (short, long) = (layout(json, 6), layout(json, 9));
        assert_eq!((short.spans.len(), short.spans[2].tensor.as_ref()), (3, None));
        assert!(short.warnings[0].contains("ends early"));
        assert_eq!((long.spans.len(), long.spans[3].range.end - long.spans[3].range.start), (4, 1));
        assert!(long.warnings[0].contains("1 bytes follow"));
    }

    #[test]
    fn other_files_are_opaque_without_a_word() {
        for file in [b"".as_slice(), b"short", b"GGML\x03\0\0\0\0\0\0\0", &[0xFF; 40]] {
            let layout = scan(file).unwrap();
            assert_eq!((layout.format, layout.warnings.len()), (Format::Opaque, 0));
            assert_eq!(layout.spans.len(), usize::from(!file.is_empty()));
        }
        let mut huge = u64::MAX.to_le_bytes().to_vec();
        huge.extend(b"{}");
        assert!(scan(&huge).unwrap().warnings[0].contains("more than"));
    }
}
