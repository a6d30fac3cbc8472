//! Files whose directory is at their end: true ones, and twins that lie.

mod beside;
pub(crate) mod msgpack;
mod pt2;

use super::{Format, Layout, scan};
use crate::{ByteOrder, Dtype, Span};

/// A zip archive of stored members, as the format's text describes it.
pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let (at, len) = (file.len() as u32, (data.len() as u32).to_le_bytes());
        let name_len = (name.len() as u16).to_le_bytes();
        let common =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &len, &len, &name_len, &[0; 2]]
                .concat();
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), data].concat());
        directory.extend(
            [b"PK\x01\x02\x14\0", &common[..], &[0; 10], &at.to_le_bytes(), name.as_bytes()]
                .concat(),
        );
    }
    let (at, len) = (file.len() as u32, directory.len() as u32);
    let count = (members.len() as u16).to_le_bytes();
    file.extend(&directory);
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count].concat());
    file.extend([&len.to_le_bytes()[..], &at.to_le_bytes(), &[0; 2]].concat());
    file
}

pub(crate) fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let mut text =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while !(text.len() + 11).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
}

/// The pickle of a tensor of `size` and `stride` that starts at `offset` of BF16 storage `key`.
pub(crate) fn tensor(key: &str, count: u8, offset: u8, size: &[u8], stride: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&[b'X', text.len() as u8, 0, 0, 0], text.as_bytes()].concat();
    let tuple = |numbers: &[u8]| {
        let numbers: Vec<u8> = numbers.iter().flat_map(|n| [b'K', *n]).collect();
        [b"(", &numbers[..], b"t"].concat()
    };
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &text("storage"),
        b"ctorch\nBFloat16Storage\n",
        &text(key),
        &text("cpu"),
        &[b'K', count, b't', b'Q', b'K', offset],
        &tuple(size),
        &tuple(stride),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// The pickle of a dict of these, by names.
pub(crate) fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let item = |(name, value): &(&str, Vec<u8>)| {
        [&[b'X', name.len() as u8, 0, 0, 0], name.as_bytes(), value].concat()
    };
    [&b"\x80\x02}("[..], &items.iter().flat_map(item).collect::<Vec<u8>>(), b"u."].concat()
}

/// Names, dtypes and shapes.
fn tensors(layout: &Layout) -> Vec<(&str, Dtype, &[u64])> {
    let tensors = layout.spans.iter().filter_map(|span| span.tensor.as_ref());
    tensors.map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice())).collect()
}

/// Scans a file, and checks what must hold for any.
fn found(file: &[u8]) -> Layout {
    let layout = scan(file).unwrap();
    layout.check().unwrap();
    assert_eq!(layout.spans.last().map_or(0, |span| span.range.end), file.len() as u64);
    layout
}

/// The one warning of a file in which no tensor is found.
fn warning(file: &[u8]) -> String {
    let layout = found(file);
    assert_eq!((tensors(&layout).len(), layout.warnings.len()), (0, 1), "{layout:?}");
    layout.warnings[0].clone()
}

/// A checkpoint of one dict.
pub(crate) fn checkpoint(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<_> = storages.iter().map(|(key, _)| format!("archive/data/{key}")).collect();
    let mut members = vec![("archive/data.pkl", pickle), ("archive/byteorder", b"little")];
    members.extend(names.iter().zip(storages).map(|(name, (_, data))| (name.as_str(), *data)));
    archive(&members)
}

#[test]
fn arrays_are_found_in_files_and_archives() {
    let rows = npy("<f4", false, "(2, 3)", &[1; 24]);
    let layout = found(&rows);
    assert_eq!(layout.format, Format::Numpy);
    assert_eq!(tensors(&layout), [("array", Dtype::F32, &[2, 3][..])]);
    assert_eq!(layout.spans[1].range, rows.len() as u64 - 24..rows.len() as u64);

    let (columns, one) = (npy("<i8", true, "(2, 3)", &[1; 48]), npy("|b1", false, "()", &[1]));
    let layout = found(&archive(&[("a.npy", &columns), ("b/c.npy", &one), ("notes.txt", b"x")]));
    let expected = [("a", Dtype::I64, &[3, 2][..]), ("b/c", Dtype::Bool, &[])];
    assert_eq!((layout.format, tensors(&layout)), (Format::Numpy, expected.to_vec()));
    assert_eq!(layout.warnings, [""; 0]);
}

#[test]
fn big_endian_arrays_are_records_without_names() {
    let records = |layout: &Layout| -> Vec<_> {
        let records = layout.spans.iter().filter_map(|span| span.records.clone());
        records.map(|records| (records.bytes(), records.order())).collect()
    };
    let array = npy(">c16", false, "(2, 2)", &[1; 64]);
    let layout = found(&array);
    assert_eq!((layout.format, tensors(&layout).len()), (Format::Numpy, 0));
    assert_eq!(records(&layout), [(16, ByteOrder::Big)]);
    let little = npy("<c16", false, "(2, 2)", &[1; 64]);
    let layout = found(&archive(&[("a.npy", &array), ("b.npy", &little), ("c.npy", &array)]));
    assert_eq!(tensors(&layout), [("b", Dtype::C128, &[2, 2][..])]);
    assert_eq!(records(&layout), [(16, ByteOrder::Big); 2]);
    assert_eq!((layout.format, layout.warnings.len()), (Format::Numpy, 0));
}

#[test]
fn arrays_of_anything_else_are_opaque_and_say_why() {
    for (descr, shape, why) in [
        ("<f16", "(1,)", "\"<f16\""),
        (">u1", "(1,)", "\">u1\""),
        ("|f4", "(1,)", "\"|f4\""),
        ("", "(1,)", "\"\""),
        ("\u{e9}4", "(1,)", "elements are"),
        ("|O", "(1,)", "\"|O\""),
        ("|V2", "(2,)", "\"|V2\""),
        ("<f4", "(-1,)", "plain numbers"),
        ("<f4", "(1,), 'more': 1", "plain numbers"),
        ("<f4", "(1,), 'shape': (1,)", "plain numbers"),
        ("<f4", "(18446744073709551615, 2)", "impossible"),
        ("<f4", "(18446744073709551616,)", "plain numbers"),
    ] {
        let file = npy(descr, false, shape, &[1; 4]);
        assert!(warning(&file).contains(why), "{:?}", warning(&file));
        assert!(warning(&archive(&[("x.npy", &file)])).contains(why));
    }
    assert!(warning(b"\x93NUMPY\x09\0\0\0{}").contains("version"));
    assert!(warning(b"\x93NUMPY\x02\0\xff\xff\xff\xff{}").contains("more than 65536"));
    let cut = &npy("<f4", false, "(1,)", &[])[..40];
    assert!(warning(cut).contains("cut short"));
    assert!(warning(&archive(&[("x.npy", cut)])).contains("cut short"));
    let long = npy("<f4", false, "(1,)", &[1; 5]);
    assert!(warning(&archive(&[("x.npy", &long)])).contains("another number of bytes"));
    assert_eq!(tensors(&found(&long)).len(), 1);
}

#[test]
fn storages_get_the_name_and_shape_of_the_tensor_that_is_all_of_them() {
    let pickle = dict(&[
        ("part", tensor("1", 6, 0, &[3], &[1])),
        ("columns", tensor("2", 6, 0, &[2, 3], &[1, 2])),
        ("net.w", tensor("0", 6, 0, &[2, 3], &[3, 1])),
        ("tied", tensor("0", 6, 0, &[3, 2], &[2, 1])),
        (
            "net",
            dict(&[("w", tensor("3", 6, 0, &[1, 6], &[9, 1]))])[2..]
                .strip_suffix(b".")
                .unwrap()
                .to_vec(),
        ),
        ("none", tensor("4", 0, 0, &[0, 7], &[7, 1])),
    ]);
    let data = [3; 12];
    let storages =
        [("0", &data[..]), ("1", &data), ("2", &data), ("3", &data), ("4", &[]), ("5", &data)];
    let file = checkpoint(&pickle, &storages);
    let layout = found(&file);
    let second = layout.spans.iter().find(|s| s.tensor.as_ref().is_some_and(|t| t.shape == [1, 6]));
    let twice = format!("net.w (at {})", second.unwrap().range.start);
    let expected: [(&str, _, &[u64]); 5] = [
        ("net.w", Dtype::Bf16, &[2, 3]),
        ("data/1", Dtype::Bf16, &[6]),
        ("data/2", Dtype::Bf16, &[6]),
        (&twice, Dtype::Bf16, &[1, 6]),
        ("none", Dtype::Bf16, &[0, 7]),
    ];
    assert_eq!((layout.format, tensors(&layout)), (Format::Pytorch, expected.to_vec()));
    assert_eq!(layout.warnings, [""; 0]);

    // One behind another, as a distributed checkpoint has them.
    let bare = [b"\x80\x02", &tensor("0", 6, 0, &[6], &[1])[..], b"."].concat();
    let bare = checkpoint(&bare, &[("0", &data)]);
    assert_eq!(tensors(&found(&bare)), [("data/0", Dtype::Bf16, &[6][..])]);
    let both = [&bare[..], &bare].concat();
    assert_eq!(tensors(&found(&both)), ["0", "1"].map(|name| (name, Dtype::Bf16, &[6][..])));
}

#[test]
fn a_checkpoint_of_very_many_tensors_is_read() {
    const COUNT: usize = 70_000;
    // As PyTorch writes them: each with 30 operations, some of which remember what there is.
    let one = tensor("0", 6, 0, &[6], &[1]);
    let items: Vec<u8> = (0..COUNT as u32)
        .flat_map(|number| {
            let name = format!("layers.{number}.weight");
            let memo = [&b"r"[..], &number.to_le_bytes()].concat();
            [&[b'X', name.len() as u8, 0, 0, 0], name.as_bytes(), &memo, &one].concat()
        })
        .collect();
    let pickle = [b"\x80\x02}(", &items[..], b"u."].concat();
    // The other storages, with the headers of their members.
    let file = checkpoint(&pickle, &[("0", &[3; 12]), ("1", &vec![0; 200 * COUNT])]);
    let layout = found(&file);
    assert_eq!(layout.warnings, [""; 0]);
    assert_eq!(tensors(&layout), [("layers.0.weight", Dtype::Bf16, &[6][..])]);
}

#[test]
fn pickles_that_lie_or_are_unknown_leave_tensors_opaque() {
    let data = [3; 12];
    let of = |pickle: &[u8]| checkpoint(pickle, &[("0", &data)]);
    let one = |count| dict(&[("w", tensor("0", count, 0, &[count], &[1]))]);
    assert_eq!(tensors(&found(&of(&one(6)))).len(), 1);
    assert!(warning(&of(&one(7))).contains("not what its pickle says"));
    assert!(warning(&of(&one(6)[..40])).contains("pickle"));
    assert!(warning(&of(b"\x80\x02I1\n.")).contains("0x49"));
    // Code is not run, and does not make a tensor.
    let code = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
    assert_eq!(tensors(&found(&of(code))), []);
    // A dict that is in itself, and a very deep one.
    let cycle = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.";
    assert_eq!(tensors(&found(&of(cycle))), []);
    let deep = |depth| {
        let inner = tensor("0", 6, 0, &[6], &[1]);
        [b"\x80\x02", &b"]".repeat(depth)[..], &inner, &b"a".repeat(depth), b"."].concat()
    };
    assert_eq!(tensors(&found(&of(&deep(3)))), [("0.0.0", Dtype::Bf16, &[6][..])]);
    assert_eq!(tensors(&found(&of(&deep(100_000)))), [("data/0", Dtype::Bf16, &[6][..])]);
    let pickle = one(6);
    let big = archive(&[("a/data.pkl", &pickle), ("a/byteorder", b"big"), ("a/data/0", &data)]);
    assert!(warning(&big).contains("big-endian"));
}

#[test]
fn archives_that_lie_are_opaque() {
    let member = npy("<f4", false, "(4,)", &[1; 16]);
    let file = archive(&[("a.npy", &member), ("b.npy", &member)]);
    assert_eq!(tensors(&found(&file)).len(), 2);
    let entry = file.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let end = file.len() - 22;
    let changed = |at: usize, to: &[u8]| {
        let mut file = file.clone();
        file[at..at + to.len()].copy_from_slice(to);
        warning(&file)
    };
    assert!(changed(end, b"XX").contains("no directory where it ends"));
    assert!(changed(end + 10, &[3]).contains("another number of members"));
    assert!(changed(end + 12, &[0xFF; 4]).contains("begin before"));
    assert!(changed(end + 16, &[0xFF; 4]).contains("begin before"));
    assert!(changed(entry, b"XX").contains("damaged"));
    assert!(changed(entry + 28, &[0xFF; 2]).contains("damaged"));
    assert!(changed(entry + 20, &[0xFF; 4]).contains("damaged"));
    for end in [4, 9, file.len() / 2, file.len() - 1] {
        assert!(warning(&file[..end]).contains("no directory"));
    }
    // What is deflated is not looked into.
    let (mut packed, local) = (file.clone(), 8);
    packed[local] = 8;
    packed[entry + 10] = 8;
    let layout = found(&packed);
    assert_eq!(tensors(&layout), [("b", Dtype::F32, &[4][..])]);
    assert!(layout.warnings[0].contains("deflated"), "{layout:?}");
    // A comment may follow, and zip64 numbers come before.
    let mut commented = [&file[..], b"some words"].concat();
    commented[file.len() - 2] = 10;
    assert_eq!(tensors(&found(&commented)).len(), 2);
}

#[test]
fn members_that_lie_are_opaque_and_others_are_found() {
    let member = npy("<f4", false, "(4,)", &[1; 16]);
    let names = |file: &[u8], why: &str| {
        let layout = found(file);
        assert!(layout.warnings[0].contains(why), "{layout:?}");
        tensors(&layout).iter().map(|tensor| tensor.0.to_owned()).collect::<Vec<_>>()
    };
    let file = archive(&[("a.npy", &member), ("b.npy", &member)]);
    let entry = file.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let changed = |at: usize, to: &[u8], why: &str| {
        let mut file = file.clone();
        file[at..at + to.len()].copy_from_slice(to);
        names(&file, why)
    };
    // A member that is longer than it is, one that starts elsewhere, one of another name.
    assert_eq!(changed(entry + 20, &[0xFF, 0xFF], "into its directory"), ["b"]);
    assert_eq!(changed(entry + 42, &[1], "another header"), ["b"]);
    assert_eq!(changed(entry + 46, b"c", "another header"), ["b"]);
    let long = [member.len() as u8 + 1];
    assert_eq!(
        changed(entry + 20, &long, "\"b.npy\" is kept as opaque bytes: it overlaps"),
        [""; 0]
    );
    let twice = archive(&[("a.npy", &member), ("b.npy", &member), ("a.npy", &member)]);
    assert_eq!(names(&twice, "\"a.npy\" is kept as opaque bytes: another one has its name"), ["b"]);
}

#[test]
fn layouts_of_callers_are_checked() {
    let bytes = |start, end| Span::opaque(start..end);
    let of = |spans| Layout { format: Format::Opaque, spans, warnings: Vec::new() };
    let mut wrong = found(&npy("<f4", false, "(4,)", &[1; 16])).spans;
    wrong[1].range.end -= 1;
    let mut twice = found(&npy("<f4", false, "(0,)", &[])).spans;
    twice.push(twice[1].clone());
    for (spans, why) in [
        (vec![bytes(1, 2)], "gaps"),
        (vec![bytes(0, 2), bytes(1, 3)], "gaps"),
        (wrong, "shape says"),
        (twice, "two tensors"),
        (vec![Span::records(0..3, Dtype::F32.record_layout())], "part of a record"),
    ] {
        let error = of(spans).check().unwrap_err();
        assert!(
            error.kind() == crate::Kind::InvalidArgument && error.message().contains(why),
            "{error}"
        );
    }
}

/// A protobuf field of bytes, fewer than 16384.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len() as u16;
    [&[number << 3 | 2, (len & 0x7F) as u8 | 0x80, (len >> 7) as u8], bytes].concat()
}

/// A tensor of 20 floats, and what else it has.
fn floats(name: &str, more: &[u8]) -> Vec<u8> {
    [&[0x08, 4, 0x08, 5, 0x10, 1], more, &field(8, name.as_bytes()), &field(9, &[7; 80])].concat()
}

fn model(graph: &[u8]) -> Vec<u8> {
    [&[0x08, 9], &field(2, b"by hand")[..], &field(7, graph)].concat()
}

#[test]
fn onnx_tensors_are_found_wherever_they_are() {
    let packed =
        [&field(1, &[2, 10])[..], &[0x10, 1], &field(8, b"packed"), &field(4, &[7; 80])].concat();
    let constant = field(1, &field(5, &field(5, &floats("", &[]))));
    let branch = field(1, &field(5, &field(6, &field(5, &floats("w", &[])))));
    let tiny = [&[0x10, 1][..], &field(9, &[7; 4])].concat();
    let graph = [
        field(5, &floats("w", &[])),
        field(5, &packed),
        constant.clone(),
        constant,
        branch,
        field(5, &tiny),
        field(10, b"a graph"),
    ];
    let file = model(&graph.concat());
    let layout = found(&file);
    assert_eq!((layout.format, &layout.warnings[..]), (Format::Onnx, &[][..]));
    let found = tensors(&layout);
    let names: Vec<_> = found.iter().map(|t| t.0.split(" (at").next().unwrap()).collect();
    assert_eq!(names, ["w", "packed", "constant", "constant", "w"]);
    assert_eq!(found[0], ("w", Dtype::F32, &[4, 5][..]));
    assert_eq!(found[1], ("packed", Dtype::F32, &[2, 10][..]));
}

#[test]
fn onnx_tensors_that_lie_are_opaque_and_others_are_found() {
    let good = field(5, &floats("w", &[]));
    let mut nested = good.clone();
    for _ in 0..40 {
        nested = field(1, &field(5, &field(6, &nested)));
    }
    // A dimension more, or too many; a field that is longer than what it is in, or of no known type.
    for (odd, why) in [
        (field(5, &floats("v", &[0x08, 9])), "shape does not say"),
        (field(5, &floats("v", &[8, 1].repeat(70))), "64 dimensions"),
        (field(5, &[0x4A, 9, 1]), "damaged"),
        (field(5, &[0x4B, 9, 1]), "damaged"),
        (field(5, &[0xFF; 20]), "damaged"),
        (field(1, &[0xFF; 20]), "damaged"),
        (nested, "64 deep"),
    ] {
        let layout = found(&model(&[odd, good.clone()].concat()));
        assert_eq!(tensors(&layout), [("w", Dtype::F32, &[4, 5][..])], "{why}");
        assert!(layout.warnings.len() == 1 && layout.warnings[0].contains(why), "{layout:?}");
    }
}

#[test]
fn onnx_files_that_lie_are_opaque() {
    let file = model(&field(5, &floats("w", &[])));
    assert_eq!(tensors(&found(&file)).len(), 1);
    // Cut short, or with more behind it, it is no model at all.
    for file in [
        &file[..file.len() - 1],
        &[&file[..], b"\0"].concat(),
        b"\x08\x09\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let layout = found(file);
        assert_eq!((layout.format, layout.warnings.len()), (Format::Opaque, 0));
    }
}
