//! Record layouts and model files from arbitrary bytes.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use weightzip::{ByteOrder, Dtype, Field, Hints, Level, RecordLayout, Role};

/// A dtype's layout, or one of a few fields; opaque where the fields can't be.
pub fn any_layout(u: &mut Unstructured) -> Result<RecordLayout> {
    if u.ratio(3, 4)? {
        return Ok(u.choose(Dtype::ALL)?.record_layout());
    }
    let order = if u.arbitrary()? { ByteOrder::Big } else { ByteOrder::Little };
    let (mut fields, mut end) = (Vec::new(), 0);
    for _ in 0..u.int_in_range(1..=3)? {
        let (count, width) = (u.int_in_range(1..=4)?, *u.choose(&[8, 16, 32, 64, 1, 4, 13])?);
        let exponent_bits = u.int_in_range(1..=11)?;
        let float = Role::Float { exponent_bits };
        let plain = [Role::Opaque, Role::Unsigned, Role::Signed, Role::Upper, Role::Exponent];
        let role = if u.ratio(1, 3)? { float } else { *u.choose(&plain)? };
        let bit_offset = end + u.int_in_range(0..=1)? * u.int_in_range(0..=9)?;
        end = bit_offset + count * u16::from(width);
        fields.push(Field { bit_offset, count, width, role, run: u.int_in_range(0..=2)? });
    }
    let bytes = end.div_ceil(8) + u.int_in_range(0..=1)?;
    Ok(RecordLayout::new(bytes, order, fields).unwrap_or_else(|_| RecordLayout::opaque()))
}

/// A level, and a row that blocks may be of.
pub fn any_hints(u: &mut Unstructured) -> Result<Hints> {
    Ok(Hints { level: *u.choose(Level::ALL)?, row: u.int_in_range(0..=999)? })
}

/// The rest of the input as data, up to eight times over, so that it fills more than one block.
pub fn rest_repeated(mut u: Unstructured) -> Result<Vec<u8>> {
    let times = u.int_in_range(1..=8)?;
    Ok(u.take_rest().repeat(times))
}

/// A tensor's dtype, shape and data.
pub type Tensor = (Dtype, Vec<u64>, Vec<u8>);

/// A tensor of any dtype that has as much of `data` as fits rows of `row` elements.
pub fn tensor(dtype: Dtype, row: u64, data: &[u8]) -> Tensor {
    // Rows are whole blocks.
    let (elements, bytes) = dtype.block();
    let row = row.next_multiple_of(elements);
    let rows = data.len() as u64 / (row / elements * bytes);
    let bytes = dtype.bytes_of(&[rows, row]).expect("whole bytes");
    let bytes = usize::try_from(bytes).expect("no more than the data");
    (dtype, vec![rows, row], data[..bytes].to_vec())
}

/// A dtype that safetensors files may have.
pub fn any_dtype(u: &mut Unstructured) -> Result<Dtype> {
    let plain: Vec<Dtype> = Dtype::ALL
        .iter()
        .copied()
        .filter(|d| d.block().0 < 32 && *d != Dtype::C128)
        .collect();
    Ok(*u.choose(&plain)?)
}

/// The number that GGUF has for a dtype, if it has one.
fn gguf_type(dtype: Dtype) -> Option<u32> {
    match dtype {
        Dtype::F32 => Some(0),
        Dtype::F16 => Some(1),
        Dtype::Bf16 => Some(30),
        _ => u32::from(dtype.wire_id()).checked_sub(64),
    }
}

/// A GGUF file of these tensors, with a key whose value is `text`.
pub fn gguf(tensors: &[Tensor], text: &str) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let (mut infos, mut data) = (Vec::new(), Vec::new());
    let mut count = 0u64;
    for (dtype, shape, bytes) in tensors {
        let Some(number) = gguf_type(*dtype) else { continue };
        infos.extend(string(&format!("blk.{count}")));
        infos.extend((shape.len() as u32).to_le_bytes());
        infos.extend(shape.iter().rev().flat_map(|dim| dim.to_le_bytes()));
        infos.extend(number.to_le_bytes());
        infos.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0);
        count += 1;
    }
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([count, 1].into_iter().flat_map(u64::to_le_bytes));
    file.extend([string("key"), 8u32.to_le_bytes().to_vec(), string(text), infos].concat());
    file.resize(file.len().next_multiple_of(32), 0);
    [file, data].concat()
}

/// A safetensors file of tensors that follow one another; with `metadata`, if it isn't empty.
pub fn safetensors(tensors: &[Tensor], metadata: &str) -> Vec<u8> {
    let names: Vec<String> = (0..tensors.len()).map(|i| format!("layer.{i}")).collect();
    let tensors: Vec<_> = names.iter().map(String::as_str).zip(tensors.iter().cloned()).collect();
    named(&tensors, metadata)
}

/// The same of tensors that have names.
pub fn named(tensors: &[(&str, Tensor)], metadata: &str) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    if !metadata.is_empty() {
        entries.push(format!("\"__metadata__\":{{\"note\":{metadata:?}}}"));
    }
    for (name, (dtype, shape, bytes)) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend(bytes);
        entries.push(format!(
            "\"{name}\":{{\"dtype\":{:?},\"shape\":{shape:?},\"data_offsets\":{offsets:?}}}",
            dtype.name()
        ));
    }
    let json = format!("{{{}}}", entries.join(","));
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &data].concat()
}

/// Makes the bytes floats of 32 bits that are multiples of 2^-10.
pub fn on_grid(data: &mut [u8]) {
    for bytes in data.as_chunks_mut::<4>().0 {
        let multiple = f32::from(i16::from_le_bytes([bytes[0], bytes[1]]));
        *bytes = (multiple / 1024.0).to_le_bytes();
    }
}

/// Bytes that differ from `data` in some places, often by little: a base for them.
pub fn near(u: &mut Unstructured, data: &[u8]) -> Result<Vec<u8>> {
    let (step, places) = (u.int_in_range(1..=64)?, u.arbitrary::<Vec<(u16, u8)>>()?);
    let mut base = data.to_vec();
    for (i, byte) in base.iter_mut().step_by(step).enumerate() {
        *byte = byte.wrapping_add((i * i % 7).to_le_bytes()[0]);
    }
    for (at, xor) in places {
        let len = base.len().max(1);
        base.get_mut(usize::from(at) % len).into_iter().for_each(|byte| *byte ^= xor);
    }
    Ok(base)
}

/// A zip archive of stored members.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let at = u32::try_from(file.len()).expect("small");
        let len = u32::try_from(data.len()).expect("small").to_le_bytes();
        let name_len = u16::try_from(name.len()).expect("short").to_le_bytes();
        let common = [&[0; 14][..], &len, &len, &name_len, &[0; 2]].concat();
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), data].concat());
        let entry = [b"PK\x01\x02\0\0", &common[..], &[0; 10], &at.to_le_bytes(), name.as_bytes()];
        directory.extend(entry.concat());
    }
    let numbers = [file.len(), directory.len(), members.len()];
    let [at, len, count] = numbers.map(|n| u32::try_from(n).expect("small").to_le_bytes());
    let end = [b"PK\x05\x06\0\0\0\0", &count[..2], &count[..2], &len, &at, &[0; 2]];
    [file, directory, end.concat()].concat()
}

/// An ONNX model of a version, and this graph.
pub fn onnx(graph: &[u8]) -> Vec<u8> {
    [&[0x08, 0x09], &field(0x3A, graph)[..]].concat()
}

/// A protobuf field of bytes.
pub fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut len) = (vec![tag], bytes.len());
    while len > 0x7F {
        out.push((len & 0x7F) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [&out, bytes].concat()
}

/// A map of msgpack with two arrays of Flax's and a value between them.
pub fn flax(value: &[u8]) -> Vec<u8> {
    let array = extension(b"\x93\x91\x04\xa5int16\xc4\x08in order");
    [b"\x83\xa1a", &array[..], b"\xa1b", value, b"\xa1c", &array].concat()
}

/// An array of Flax's, with these bytes as what it says and has.
pub fn extension(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("small").to_be_bytes();
    [b"\xc9", &len[..], b"\x01", bytes].concat()
}
