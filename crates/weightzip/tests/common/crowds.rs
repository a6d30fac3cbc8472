//! Files of each format that have as many tensors as somebody wants.

use std::fmt::Write as _;

/// A tensor's name and bytes.
pub(crate) type Item = (String, Vec<u8>);

/// A builder of files of `U8` tensors.
pub(crate) type Builder = fn(&[Item]) -> Vec<u8>;

pub(crate) const BUILDERS: [(&str, Builder); 6] = [
    ("safetensors", safetensors),
    ("gguf", gguf),
    ("msgpack", msgpack),
    ("npz", npz),
    ("onnx", onnx),
    ("pt2", pt2),
];

fn safetensors(items: &[Item]) -> Vec<u8> {
    let (mut json, mut data) = ("{".to_owned(), Vec::new());
    for (name, bytes) in items {
        let (start, len) = (data.len(), bytes.len());
        data.extend(bytes);
        write!(
            json,
            "{name:?}:{{\"dtype\":\"U8\",\"shape\":[{len}],\"data_offsets\":[{start},{}]}},",
            data.len()
        )
        .unwrap();
    }
    json.truncate(json.len().max(2) - 1);
    json.push('}');
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &data].concat()
}

fn gguf(items: &[Item]) -> Vec<u8> {
    const I8: u32 = 24;
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((items.len() as u64).to_le_bytes());
    file.extend(0u64.to_le_bytes());
    let mut data = Vec::new();
    for (name, bytes) in items {
        file.extend((name.len() as u64).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend((bytes.len() as u64).to_le_bytes());
        file.extend(I8.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    [file, data].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[0xDA], &(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn msgpack(items: &[Item]) -> Vec<u8> {
    // The first key says that this may be a file of Flax's.
    let mut file = [&[0x81, 0xA1, b'p', 0xDF][..], &(items.len() as u32).to_be_bytes()].concat();
    for (name, bytes) in items {
        let len = bytes.len() as u32;
        let shape = [b"\x93\x91\xCE", &len.to_be_bytes()[..], b"\xA4int8"].concat();
        let data = [&[0xC6], &len.to_be_bytes()[..], bytes].concat();
        file.extend(text(name));
        file.push(0xC9);
        file.extend(((shape.len() + data.len()) as u32).to_be_bytes());
        file.push(1);
        file.extend([shape, data].concat());
    }
    file
}

fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let (at, len) = (file.len() as u32, (data.len() as u32).to_le_bytes());
        let name_len = (name.len() as u16).to_le_bytes();
        let common = [&[0; 14][..], &len, &len, &name_len, &[0; 2]].concat();
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), data].concat());
        directory.extend([b"PK\x01\x02\0\0", &common[..], &[0; 10]].concat());
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    // The number of members has 64 bits in a record of its own.
    let (at, len, count) = (file.len() as u64, directory.len() as u64, members.len() as u64);
    let mut end = b"PK\x06\x06".to_vec();
    end.resize(24, 0);
    end.extend([count, count, len, at].into_iter().flat_map(u64::to_le_bytes));
    end.extend(b"PK\x06\x07");
    end.extend([0; 16]);
    end.extend([&b"PK\x05\x06"[..], &[0; 18]].concat());
    [file, directory, end].concat()
}

fn npz(items: &[Item]) -> Vec<u8> {
    let array = |(name, bytes): &Item| {
        let len = bytes.len();
        let header = format!("{{'descr':'|u1','fortran_order':False,'shape':({len},)}}");
        let start = [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..]].concat();
        (format!("{name}.npy"), [&start[..], header.as_bytes(), bytes].concat())
    };
    zip(&items.iter().map(array).collect::<Vec<_>>())
}

fn varint(tag: u8, mut number: usize) -> Vec<u8> {
    let mut out = vec![tag];
    while number > 0x7F {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&varint(tag, bytes.len()), bytes].concat()
}

fn onnx(items: &[Item]) -> Vec<u8> {
    const UINT8: u8 = 2;
    let tensor = |(name, bytes): &Item| {
        let dim = varint(0x08, bytes.len());
        let parts = [dim, vec![0x10, UINT8], field(0x42, name.as_bytes()), field(0x4A, bytes)];
        field(0x2A, &parts.concat())
    };
    let graph: Vec<u8> = items.iter().flat_map(tensor).collect();
    [&[0x08, 0x09], &field(0x3A, &graph)[..]].concat()
}

fn pt2(items: &[Item]) -> Vec<u8> {
    let said = |(number, (name, bytes)): (usize, &Item)| {
        format!(
            "{name:?}:{{\"path_name\":\"{number}\",\"tensor_meta\":{{\"dtype\":1,\"sizes\":[{{\"as_int\":{}}}],\
             \"strides\":[{{\"as_int\":1}}],\"storage_offset\":{{\"as_int\":0}}}}}}",
            bytes.len()
        )
    };
    let config: Vec<String> = items.iter().enumerate().map(said).collect();
    let config = format!("{{\"config\":{{{}}}}}", config.join(","));
    let weight =
        |(number, (_, bytes)): (usize, &Item)| (format!("data/weights/{number}"), bytes.clone());
    let mut members: Vec<_> = items.iter().enumerate().map(weight).collect();
    members.push(("data/weights/_weights_config.json".to_owned(), config.into_bytes()));
    members.push(("archive_format".to_owned(), b"pt2".to_vec()));
    zip(&members)
}
