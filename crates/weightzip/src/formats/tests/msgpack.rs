//! Flax's files: true ones, and twins that lie.

use super::{found, tensors};
use crate::formats::msgpack::is_flax;
use crate::{Dtype, Format};
use arbtest::arbitrary::{Result, Unstructured};

/// A value of a kind that has a length of two bytes.
fn long(kind: u8, more: &[u8], bytes: &[u8]) -> Vec<u8> {
    [&[kind], &(bytes.len() as u16).to_be_bytes()[..], more, bytes].concat()
}

fn text(text: &str) -> Vec<u8> {
    match text.len() {
        len @ 0..32 => [&[0xA0 | len as u8], text.as_bytes()].concat(),
        len @ 32..256 => [&[0xD9, len as u8], text.as_bytes()].concat(),
        _ => long(0xDA, &[], text.as_bytes()),
    }
}

/// A map of fewer than 16 values, by keys.
pub(crate) fn map(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let start = vec![0x80 | items.len() as u8];
    items.iter().fold(start, |map, (key, value)| [map, text(key), value.clone()].concat())
}

/// What an array has in it, if all dimensions are small.
fn described(dtype: &str, shape: &[u8], data: &[u8]) -> Vec<u8> {
    let dims = [&[0x90 | shape.len() as u8], shape].concat();
    [&[0x93][..], &dims, &text(dtype), &long(0xC5, &[], data)].concat()
}

pub(crate) fn array(dtype: &str, shape: &[u8], data: &[u8]) -> Vec<u8> {
    long(0xC8, &[1], &described(dtype, shape, data))
}

/// Values of every kind in which no array is.
fn others() -> Vec<u8> {
    let with = |kind: u8, len: usize| [vec![kind], vec![7; len]].concat();
    let numbers = (0xCA..=0xD3).zip([4, 8, 1, 2, 4, 8, 1, 2, 4, 8]);
    let mut values: Vec<_> = numbers.map(|(kind, len)| with(kind, len)).collect();
    values.extend((0xD4..=0xD8).zip([2, 3, 5, 9, 17]).map(|(kind, len)| with(kind, len)));
    values.extend([0x05, 0xC0, 0xC2, 0xC3, 0xFF, 0x80, 0x90, 0xA0].map(|kind| vec![kind]));
    values.extend([&b"\xC4\x01b"[..], b"\xC5\0\x01b", b"\xC6\0\0\0\x01b"].map(<[u8]>::to_vec));
    values.extend(
        [&b"\xC7\x01\x02e"[..], b"\xC8\0\x01\x05e", b"\xC9\0\0\0\x01\xFFe"].map(<[u8]>::to_vec),
    );
    values.extend([&b"\xD9\x01t"[..], b"\xDA\0\x01t", b"\xDB\0\0\0\x01t"].map(<[u8]>::to_vec));
    values.extend(
        [&b"\xDD\0\0\0\x01\0"[..], b"\xDE\0\0", b"\xDF\0\0\0\x01\xA1k\0"].map(<[u8]>::to_vec),
    );
    [vec![0xDC, 0, values.len() as u8], values.concat()].concat()
}

#[test]
fn arrays_are_found_by_the_keys_that_lead_to_them() {
    let piece = |byte| array("float32", &[2], &[byte; 8]);
    let file = map(&[
        ("others", others()),
        ("params", map(&[("dense", map(&[("kernel", array("bfloat16", &[3, 2], &[1; 12]))]))])),
        ("list", [&[0x92, 0xC0][..], &array("int8", &[5], &[2; 5])].concat()),
        ("step", long(0xC8, &[3], &described("int32", &[], &[3; 4]))),
        ("none", array("float8_e4m3fn", &[0, 4], &[])),
        (
            "large",
            map(&[
                ("__msgpack_chunked_array__", vec![0xC3]),
                ("shape", map(&[("0", vec![2]), ("1", vec![2])])),
                ("chunks", map(&[("0", piece(4)), ("1", piece(5))])),
            ]),
        ),
    ]);
    let layout = found(&file);
    assert_eq!((layout.format, &layout.warnings[..]), (Format::Flax, &[][..]));
    let expected: [(&str, _, &[u64]); 6] = [
        ("params.dense.kernel", Dtype::Bf16, &[3, 2]),
        ("list.1", Dtype::I8, &[5]),
        ("step", Dtype::I32, &[]),
        ("none", Dtype::F8E4M3, &[0, 4]),
        ("large.chunks.0", Dtype::F32, &[2]),
        ("large.chunks.1", Dtype::F32, &[2]),
    ];
    assert_eq!(tensors(&layout), expected);
    let bytes = layout.spans.iter().filter(|span| span.tensor.is_some());
    let bytes: Vec<_> =
        bytes.map(|s| &file[s.range.start as usize..s.range.end as usize]).collect();
    let expected: [&[u8]; 6] = [&[1; 12], &[2; 5], &[3; 4], &[], &[4; 8], &[5; 8]];
    assert_eq!(bytes, expected);
}

#[test]
fn names_that_come_twice_get_their_place_and_long_ones_are_dropped() {
    let one = || array("uint8", &[1], &[9]);
    let long = "k".repeat(600);
    let deep = map(&[(&long, map(&[(&long, one())]))]);
    let layout = found(&map(&[("a", one()), ("a", one()), ("", one()), ("b", deep)]));
    let names: Vec<_> = tensors(&layout).iter().map(|t| t.0).collect();
    assert!(names[1].starts_with("a (at ") && names[3].starts_with("array (at "), "{names:?}");
    assert_eq!((names[0], names[2], names.len()), ("a", "array", 4));
}

#[test]
fn arrays_that_lie_are_opaque_and_others_are_found() {
    let extension = |code, bytes: &[u8]| long(0xC8, &[code], bytes);
    let floats = |shape: &[u8]| array("float32", shape, &[1; 8]);
    let good = described("float32", &[2], &[1; 8]);
    let large = b"\x93\x92\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02\xA5int16\xC4\x02aa";
    for (lying, why) in [
        (floats(&[3]), "another number of bytes"),
        (floats(&[2, 2]), "another number of bytes"),
        (extension(1, large), "another number of bytes"),
        (array("str64", &[1], &[1; 8]), "its elements are \"str64\""),
        (array("float4_e2m1fn", &[8], &[1; 8]), "\"float4_e2m1fn\""),
        (extension(1, &[0x93, 0xDC, 0, 65]), "65 dimensions"),
        (extension(1, &[0x93, 0xDD, 0xFF, 0xFF, 0xFF, 0xFF]), "4294967295 dimensions"),
        (floats(&[0xFF]), "not a shape"),
        (extension(1, &extension(1, &good)), "not a shape"),
        (extension(1, &[&good[..], &[0]].concat()), "not a shape"),
        (extension(1, &good[..good.len() - 1]), "not a shape"),
        (extension(1, &good[1..]), "not a shape"),
        (extension(3, &[]), "not a shape"),
        (extension(1, &[0x93, 0x90, 0xC4, 0]), "not a shape"),
        (extension(1, &[0x93, 0x90, 0xA1, 0xFF]), "not a shape"),
        (extension(1, &[0x93, 0x90, 0xA1, b'u', 0xA0]), "not a shape"),
        (extension(1, &[0x93, 0x90, 0xDB, 0xFF, 0xFF, 0xFF, 0xFF]), "not a shape"),
        (extension(1, &[0x93, 0x90, 0xA1, b'u', 0xC6, 0xFF, 0xFF, 0xFF, 0xFF]), "ends early"),
    ] {
        let layout = found(&map(&[("x", lying), ("y", floats(&[2]))]));
        assert_eq!(tensors(&layout), [("y", Dtype::F32, &[2][..])]);
        assert!(layout.warnings[0].contains("\"x\" is kept"), "{layout:?}");
        assert!(layout.warnings[0].contains(why), "{layout:?}, not {why}");
    }
}

#[test]
fn what_cannot_be_followed_is_opaque_from_there_on() {
    let array = array("int16", &[2], &[1; 4]);
    let with = |rest: &[u8]| [&[0x82][..], &text("a"), &array, &text("b"), rest].concat();
    let deep = |key: &[u8]| [&key.repeat(100_000)[..], &[0]].concat();
    let many = [vec![0xDD, 0, 0x20, 0, 1], vec![0xC0; (2 << 20) + 1]].concat();
    for (rest, why) in [
        (&b"\x00\x00"[..], "1 bytes follow"),
        (b"", "ends early"),
        (b"\xC6\xFF\xFF\xFF\xFF", "ends early"),
        (b"\xC9\xFF\xFF\xFF\xFF\x01", "ends early"),
        (b"\xDF\xFF\xFF\xFF\xFF\xA1a\x00", "ends early"),
        (b"\xDD\xFF\xFF\xFF\xFF", "ends early"),
        (b"\xC1", "no value starts"),
        (b"\x81\x90\x02", "a list or a map"),
        (b"\x81\xDB\xFF\xFF\xFF\xFF", "ends early"),
        (&deep(b"\x81\xA1k"), "64 deep"),
        (&deep(b"\x91"), "64 deep"),
        (&many, "too many values"),
    ] {
        let layout = found(&with(rest));
        assert_eq!(tensors(&layout), [("a", Dtype::I16, &[2][..])]);
        assert_eq!((layout.format, layout.warnings.len()), (Format::Flax, 1));
        assert!(layout.warnings[0].contains(why), "{layout:?}, not {why}");
        // Others write such maps, too.
        let layout = found(&[&[0x81][..], &text("b"), rest].concat());
        assert_eq!((layout.format, layout.warnings.len()), (Format::Opaque, 0));
    }
}

#[test]
fn keys_may_be_anything_short() {
    let array = array("int16", &[2], &[1; 4]);
    for (key, name) in
        [(&b"\x07"[..], "k.7"), (b"\xC4\x01a", "k.?"), (b"\xA1\xFF", "k.?"), (b"\xC0", "k.?")]
    {
        let inner = [&[0x81][..], key, &array].concat();
        let layout = found(&map(&[("k", inner)]));
        assert_eq!(tensors(&layout), [(name, Dtype::I16, &[2][..])]);
        assert_eq!((layout.format, layout.warnings.len()), (Format::Flax, 0));
    }
}

#[test]
fn what_starts_as_a_map_may_be_something_else() {
    // A header whose length looks like a map's key.
    let mut json = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#.to_owned();
    let len = u64::from_le_bytes(*b"\x81\xA1a\0\0\0\0\0");
    json.extend(std::iter::repeat_n(' ', len as usize - json.len() - 1));
    let file = [&len.to_le_bytes()[..], json.as_bytes(), b"}x"].concat();
    assert_eq!(found(&file).format, Format::Safetensors);
    // What is no text, or has no key, isn't put into a temporary file when it comes through a pipe.
    for start in [
        &b"\x81\xA2\xFF\xFF....."[..],
        b"\x81\xA2a\n.....",
        b"\x80\xA1a......",
        b"\xDE\0\x10\x05a....",
    ] {
        assert!(!is_flax(start), "{start:?}");
    }
    let array = || array("uint8", &[1], &[9]);
    for key in ["0", "ключ", "a key of some more than 32 letters", "clé"] {
        assert_eq!(tensors(&found(&map(&[(key, array())])))[0].0, key);
    }
    let many = [&[0xDE, 0, 1][..], &text("a"), &array()].concat();
    assert_eq!(found(&many).format, Format::Flax);
}

/// A value in which some things may be wrong.
fn any_value(u: &mut Unstructured<'_>, depth: u32) -> Result<Vec<u8>> {
    let count = u.int_in_range(0..=3)?;
    let mut inner = Vec::new();
    Ok(match u.int_in_range(0..=5)? {
        kind @ 0..=2 if depth > 0 => {
            for _ in 0..count {
                let key =
                    if kind == 0 { Vec::new() } else { text(u.choose(&["a", "w", "é", ""])?) };
                inner.push([key, any_value(u, depth - 1)?].concat());
            }
            let start = if kind == 0 { 0x90 } else { 0x80 };
            [vec![start | count], inner.concat()].concat()
        }
        3 => u.arbitrary()?,
        4 => long(0xC8, &[*u.choose(&[1, 2, 3])?], &any_value(u, depth.saturating_sub(1))?),
        _ => {
            let (dtype, shape) = (*u.choose(&["float32", "bool", "bfloat16", "O"])?, [count, 2]);
            let len = usize::from(count) * 2 * u.int_in_range(1..=4)?;
            array(dtype, &shape, &vec![u.arbitrary()?; len])
        }
    })
}

#[test]
fn any_values_are_found_or_opaque() {
    arbtest::arbtest(|u| {
        let mut file = map(&[("a", any_value(u, 4)?), ("w", any_value(u, 4)?)]);
        if u.arbitrary()? {
            let at = u.choose_index(file.len())?;
            file[at] = u.arbitrary()?;
        }
        let layout = found(&file);
        let has_tensors = !tensors(&layout).is_empty();
        assert!(layout.format == Format::Flax || !has_tensors);
        Ok(())
    })
    .budget_ms(1000);
}
