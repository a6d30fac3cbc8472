//! Files that are described by others beside them: by true ones, and by twins that lie.

use super::{checkpoint, field, model, tensor, tensors};
use crate::formats::{Format, Layout, scan_file};
use crate::{Dtype, Kind};
use std::fs::{self, File};
use std::time::Duration;
use tempfile::TempDir;

/// What is found in a file that has these beside it; checks what must hold for any.
fn found(name: &str, data: &[u8], others: &[(&str, &[u8])]) -> Layout {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in others.iter().chain([&(name, data)]) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().join(name);
    let layout = scan_file(&path, &File::open(&path).unwrap()).unwrap();
    layout.check().unwrap();
    assert_eq!(layout.spans.last().map_or(0, |span| span.range.end), data.len() as u64);
    layout
}

/// A tensor of 32 floats of which this is said.
fn external(name: &str, said: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, &str)| {
        let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
        field(13, &entry)
    };
    let said = said.iter().flat_map(entry).collect::<Vec<u8>>();
    let tensor = [&[0x08, 4, 0x08, 8, 0x10, 1], &field(8, name.as_bytes())[..], &said, &[0x70, 1]];
    field(5, &tensor.concat())
}

fn at(name: &str, offset: &str) -> Vec<u8> {
    external(name, &[("location", "w.bin"), ("offset", offset), ("length", "128")])
}

const DATA: [u8; 300] = [7; 300];

const SECOND: Duration = Duration::from_secs(1);

/// Of data with one model beside it.
fn of(tensors: &[Vec<u8>]) -> Layout {
    found("w.bin", &DATA, &[("m.onnx", &model(&tensors.concat()))])
}

#[test]
fn models_say_what_is_in_their_data() {
    let second = external("b", &[("location", "./w.bin"), ("offset", "160")]);
    let elsewhere = external("c", &[("location", "other.bin")]);
    let in_folder = external("d", &[("location", "w.bin/w.bin")]);
    let layout = of(&[second, at("a", "0"), elsewhere, in_folder]);
    assert_eq!((layout.format, &layout.warnings[..]), (Format::Onnx, &[][..]));
    assert_eq!(tensors(&layout), ["a", "b"].map(|name| (name, Dtype::F32, &[4, 8][..])));
    let ranges: Vec<_> = layout.spans.iter().map(|span| span.range.clone()).collect();
    assert_eq!(ranges, [0..128, 128..160, 160..288, 288..300]);

    // Two models of the same data, and two tensors that share some.
    let (one, other) = (model(&at("a", "0")), model(&[at("b", "0"), at("c", "128")].concat()));
    let layout = found("w.bin", &DATA, &[("1.onnx", &one), ("2.ONNX", &other)]);
    assert_eq!((tensors(&layout).len(), layout.warnings.len()), (2, 0), "{layout:?}");
    assert_eq!(tensors(&layout)[0].0, "a");
}

#[test]
fn a_model_is_read_once_for_all_files_beside_it() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let names = |name: &str| {
        let path = folder.path().join(name);
        let layout = scan_file(&path, &File::open(&path).unwrap()).unwrap();
        tensors(&layout).iter().map(|tensor| tensor.0.to_owned()).collect::<Vec<_>>()
    };
    let in_file = |tensor: &str, file: &str| external(tensor, &[("location", file)]);
    let model = |first: &str| model(&[in_file(first, "1.bin"), in_file("b", "2.bin")].concat());
    ["1.bin", "2.bin"].iter().for_each(|name| write(name, &DATA));
    write("m.onnx", &model("a"));
    let path = folder.path().join("m.onnx");
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!((names("1.bin"), names("2.bin")), (vec!["a".to_owned()], vec!["b".to_owned()]));
    // A change is seen by size and time only: so the model was not read again.
    write("m.onnx", &model("c"));
    File::options().append(true).open(&path).unwrap().set_modified(written).unwrap();
    assert_eq!(names("1.bin"), ["a"]);
    File::options().append(true).open(&path).unwrap().set_modified(written + SECOND).unwrap();
    assert_eq!(names("1.bin"), ["c"]);
}

#[test]
fn a_file_that_says_itself_what_it_has_is_not_looked_up() {
    let file = super::npy("<f4", false, "(32,)", &[7; 128]);
    let layout = found("w.bin", &file, &[("m.onnx", &model(&at("a", "0")))]);
    assert_eq!((layout.format, tensors(&layout)[0].0), (Format::Numpy, "array"));
}

#[test]
fn what_models_say_wrong_is_ignored() {
    let said = |entries: &[(&str, &str)]| {
        let layout = of(&[at("good", "0"), external("bad", entries)]);
        assert_eq!((tensors(&layout).len(), layout.warnings.len()), (1, 1), "{layout:?}");
        layout.warnings[0].clone()
    };
    let here = ("location", "w.bin");
    for (entries, why) in [
        (&[here, ("offset", "200")][..], "behind the file"),
        (&[here, ("offset", "18446744073709551615")], "behind the file"),
        (&[here, ("offset", "18446744073709551616")], "offset is no number"),
        (&[here, ("offset", "-1")], "offset is no number"),
        (&[here, ("length", "1e3")], "length is no number"),
        (&[here, ("length", "127"), ("offset", "128")], "another number of bytes"),
        (&[here, ("offset", "127")], "overlaps another one"),
        (&[("location", "../w.bin"), ("offset", "128")], "out of the folder"),
        (&[("location", "x/../w.bin"), ("offset", "128")], "out of the folder"),
        (&[("location", "/w.bin"), ("offset", "128")], "out of the folder"),
    ] {
        assert!(said(entries).contains(why), "{entries:?}: {}", said(entries));
    }
    // Only that: the data are as they were without a model.
    let layout = of(&[external("bad", &[here, ("offset", "200")])]);
    assert_eq!((layout.format, layout.spans.len(), layout.warnings.len()), (Format::Opaque, 1, 1));
    // A shape of 2^64 elements, and more dimensions than there can be.
    let huge = field(5, &[&[0x08; 1][..], &[0xFF; 9], &[1, 0x10, 1, 0x70, 1]].concat());
    assert_eq!(tensors(&of(&[huge, at("a", "0")])).len(), 1);
    let deep = field(5, &[&[8, 1].repeat(70)[..], &[0x10, 1, 0x70, 1]].concat());
    assert_eq!(tensors(&of(&[deep, at("a", "0")])).len(), 1);
}

#[test]
fn models_that_are_damaged_or_no_files_are_not_looked_at() {
    let whole = model(&at("a", "0"));
    for cut in [0, 1, 9, whole.len() / 2, whole.len() - 1] {
        let layout = found("w.bin", &DATA, &[("m.onnx", &whole[..cut])]);
        assert_eq!((layout.format, layout.warnings.len()), (Format::Opaque, 0));
    }
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("m.onnx")).unwrap();
    let path = folder.path().join("w.bin");
    fs::write(&path, DATA).unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!(scan_file(&path, &file).unwrap().format, Format::Opaque);
    // A path without a folder, and none at all: that of what was opened elsewhere.
    for path in ["w.bin", "..", ""] {
        assert_eq!(scan_file(path.as_ref(), &file).unwrap().spans.len(), 1);
    }
}

/// The pickle of an object with these attributes.
fn object(class: &str, attributes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let state = attributes.iter().flat_map(|(name, value)| [text(name), value.clone()].concat());
    let state: Vec<u8> = state.collect();
    [b"cm\n", class.as_bytes(), b"\n)\x81}(", &state, b"ub"].concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn number(number: u32) -> Vec<u8> {
    [b"J", &number.to_le_bytes()[..]].concat()
}

/// A part's name and start, and where it is: path, offset, length.
type Part<'a> = (&'a str, Option<[u8; 2]>, &'a str, usize, usize);

fn metadata(parts: &[Part<'_>]) -> Vec<u8> {
    let part = |(name, start, path, offset, length): &Part<'_>| {
        let size =
            |[a, b]: [u8; 2]| [b"ctorch\nSize\nK", &[a][..], b"K", &[b], b"\x86\x85R"].concat();
        let mut index = vec![("fqn", text(name))];
        index.extend(start.map(|start| ("offset", size(start))));
        let place = [
            ("relative_path", text(path)),
            ("offset", number(*offset as u32)),
            ("length", number(*length as u32)),
        ];
        [object("MetadataIndex", &index), object("_StorageInfo", &place)].concat()
    };
    let parts: Vec<u8> = parts.iter().flat_map(part).collect();
    let storage_data = [b"}(", &parts[..], b"u"].concat();
    let metadata =
        object("Metadata", &[("planner_data", vec![b'N']), ("storage_data", storage_data)]);
    [b"\x80\x02", &metadata[..], b"."].concat()
}

/// A checkpoint of one tensor.
fn one() -> Vec<u8> {
    let bare = [b"\x80\x02", &tensor("0", 6, 0, &[6], &[1])[..], b"."].concat();
    checkpoint(&bare, &[("0", &[3; 12])])
}

/// Of a file of two with this metadata beside it: names and warnings.
fn named(metadata: &[u8]) -> (Vec<String>, Vec<String>) {
    let file = [one(), one()].concat();
    let layout = found("a.distcp", &file, &[(".metadata", metadata)]);
    assert_eq!(layout.format, Format::Pytorch);
    let names = tensors(&layout).iter().map(|tensor| tensor.0.to_owned()).collect();
    (names, layout.warnings)
}

#[test]
fn metadata_names_what_is_in_a_distributed_checkpoint() {
    let len = one().len();
    let names = |parts: &[Part<'_>]| {
        let (names, warnings) = named(&metadata(parts));
        assert_eq!(warnings, [""; 0]);
        names
    };
    let (a, b) = (("a.w", Some([0, 0]), "a.distcp", 0, len), ("b", None, "a.distcp", len, len));
    assert_eq!(names(&[b, a, ("c", None, "b.distcp", 0, len)]), ["a.w", "b"]);
    let second = ("a.w", Some([64, 0]), "a.distcp", len, len);
    assert_eq!(names(&[a, second]), ["a.w[0,0]", "a.w[64,0]"]);
    // The other part is in another file.
    assert_eq!(names(&[a, ("a.w", Some([64, 0]), "b.distcp", 0, len)]), ["a.w[0,0]", "1"]);
    // One archive by itself has a name, too; a file of another kind has not.
    let alone = metadata(&[("w", None, "a.distcp", 0, len)]);
    for (file, name) in [("a.distcp", "w"), ("a.pt", "data/0")] {
        let layout = found(file, &one(), &[(".metadata", &alone)]);
        assert_eq!((tensors(&layout)[0].0, layout.warnings.len()), (name, 0));
    }
}

#[test]
fn metadata_that_lies_is_ignored() {
    let len = one().len();
    let good = metadata(&[("a", None, "a.distcp", 0, len), ("b", None, "a.distcp", len, len)]);
    let warning = |metadata: &[u8], expected: [&str; 2]| {
        let (names, warnings) = named(metadata);
        assert_eq!(
            (names, warnings.len()),
            (expected.map(str::to_owned).to_vec(), 1),
            "{warnings:?}"
        );
        warnings[0].clone()
    };
    let numbers = ["0", "1"];
    for cut in [0, 2, 40, good.len() / 2, good.len() - 1] {
        assert!(warning(&good[..cut], numbers).contains(".metadata is ignored"));
    }
    let code = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
    assert!(warning(code, numbers).contains("not one of a checkpoint"));
    let cycle = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.";
    assert!(warning(cycle, numbers).contains("not one of a checkpoint"));
    assert!(warning(b"\x80\x02I1\n.", numbers).contains("0x49"));
    let parts = |parts: &[Part<'_>], expected| warning(&metadata(parts), expected);
    let here = "a.distcp";
    // Beside one that fits: overlapping, outside, empty.
    let a = ("a", None, here, 0, len);
    for (offset, length) in [(1, len), (len, len + 1), (4 * len, len), (0, 0)] {
        let told = parts(&[a, ("b", None, here, offset, length)], ["a", "1"]);
        assert!(told.contains("a part of this file that it doesn't have"), "{told}");
    }
    let outside = parts(&[("a", None, "../a.distcp", 0, len)], numbers);
    assert!(outside.contains("leads out of its folder"), "{outside}");
    // Whoever says the same place twice is believed once.
    let (names, warnings) = named(&metadata(&[a, ("b", None, here, 0, len)]));
    assert_eq!((names, warnings.len()), (vec!["a".to_owned(), "1".to_owned()], 0));
}

#[test]
fn metadata_that_refers_to_itself_a_lot_takes_no_time() {
    // A storage that has one large object as each of many keys.
    let attributes: Vec<_> = (0..200_000).map(|_| ("x", vec![b'N'])).collect();
    let large = object("MetadataIndex", &attributes);
    let items = b"h\x00h\x00".repeat(200_000);
    let storage_data = [&b"}("[..], &large, b"q\x00h\x00", &items, b"u"].concat();
    let pickle = [b"\x80\x02", &object("Metadata", &[("storage_data", storage_data)])[..], b"."];
    let (names, warnings) = named(&pickle.concat());
    assert_eq!((names.len(), warnings.len()), (2, 0));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.bin");
    fs::write(&path, DATA).unwrap();
    let unreadable = File::options().append(true).open(&path).unwrap();
    assert_eq!(scan_file(&path, &unreadable).unwrap_err().kind(), Kind::Io);
}
