//! Payloads that have others within them, each with a preamble and lengths that are right. Written from spec/format.md
//! ("Blocks within blocks"), not with the library's code: most nests are not allowed.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use weightzip::{Coding, Dtype, RecordLayout};
use xxhash_rust::xxh3::xxh3_128;

/// Payloads within one another, at most: more than are allowed.
const DEPTH: usize = 7;

const PREAMBLE: usize = 16;

/// A coding, and a payload of so many records in it; `base` are as many bytes.
pub fn any_payload(
    u: &mut Unstructured,
    layout: &RecordLayout,
    records: usize,
    base: &[u8],
) -> Result<(Coding, Vec<u8>)> {
    payload(u, DEPTH, layout, records, base)
}

fn payload(
    u: &mut Unstructured,
    depth: usize,
    layout: &RecordLayout,
    records: usize,
    base: &[u8],
) -> Result<(Coding, Vec<u8>)> {
    let size = usize::from(layout.bytes());
    let within = [Coding::Sparse, Coding::Zeros, Coding::Fixed, Coding::Guess, Coding::Palette];
    let coding = match u.int_in_range(0..=7)? {
        0 => Coding::Raw,
        1 => Coding::Constant,
        2 => *u.choose(Coding::ALL)?,
        _ if depth == 0 => Coding::Constant,
        _ => *u.choose(&within)?,
    };
    let (mut own, mut body) = ([0; PREAMBLE - 4], Vec::new());
    match coding {
        Coding::Raw => body = some(u, records * size)?,
        Coding::Constant => body = some(u, size)?,
        Coding::Sparse | Coding::Zeros => {
            let changed = u.int_in_range(1..=records)?;
            let (of_places, places) = payload(
                u,
                depth.saturating_sub(1),
                &Dtype::U8.record_layout(),
                changed,
                &vec![0; changed],
            )?;
            let old = &base[..changed * size];
            let (of_values, values) = payload(u, depth.saturating_sub(1), layout, changed, old)?;
            own[..2].copy_from_slice(&[id(of_places), id(of_values)]);
            own[4..8].copy_from_slice(&(places.len() as u32).to_le_bytes());
            if coding == Coding::Sparse {
                body.extend(xxh3_128(base).to_le_bytes());
            }
            body.extend(&places);
            body.resize(body.len() + places.len().next_multiple_of(16) - places.len(), 0);
            body.extend(values);
        }
        Coding::Fixed => {
            let elements = records * size / layout_float(layout);
            let opaque = RecordLayout::opaque();
            let (of_symbols, symbols) =
                payload(u, depth.saturating_sub(1), &opaque, elements, &vec![0; elements])?;
            own[0] = id(of_symbols);
            own[2..4].copy_from_slice(&(-u.int_in_range(1..=20i16)?).to_le_bytes());
            body = symbols;
        }
        Coding::Guess => {
            let dtype = *u.choose(&[Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64])?;
            let each = usize::from(dtype.record_layout().bytes());
            let floats = (records * size / each).max(1);
            let (of_floats, inner) = payload(
                u,
                depth.saturating_sub(1),
                &dtype.record_layout(),
                floats,
                &vec![0; floats * each],
            )?;
            own[..2].copy_from_slice(&[id(of_floats), dtype_id(dtype)]);
            let around = (records * size).saturating_sub(floats * each);
            body.resize(around.next_multiple_of(16), 0);
            body.extend(inner);
        }
        Coding::Palette => {
            let elements = records * size / layout_float(layout);
            let entry = if layout_float(layout) == 2 { Dtype::U16 } else { Dtype::U32 };
            let entry = entry.record_layout();
            let (of_tables, tables) = payload(u, depth.saturating_sub(1), &entry, 1, &[0; 4])?;
            let codes = Dtype::U8.record_layout();
            let (of_codes, inner) =
                payload(u, depth.saturating_sub(1), &codes, elements, &vec![0; elements])?;
            own[..3].copy_from_slice(&[dtype_id(Dtype::U8), id(of_tables), id(of_codes)]);
            own[4..8].copy_from_slice(&(elements as u32).to_le_bytes());
            own[8..].copy_from_slice(&(tables.len() as u32).to_le_bytes());
            body = tables;
            body.resize(body.len().next_multiple_of(16), 0);
            body.extend(inner);
        }
        _ => {
            own = u.arbitrary()?;
            body = some(u, 300)?;
        }
    }
    let mut payload = (records as u32).to_le_bytes().to_vec();
    payload.extend(own);
    payload.extend(body);
    Ok((coding, payload))
}

/// Bytes of the input, and zeros where it has too few.
fn some(u: &mut Unstructured, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let there = u.int_in_range(0..=len.min(64))?.min(u.len());
    bytes[..there].copy_from_slice(u.bytes(there)?);
    Ok(bytes)
}

/// Bytes of a record's number.
fn layout_float(layout: &RecordLayout) -> usize {
    usize::from(layout.fields()[0].width).div_ceil(8)
}

fn id(coding: Coding) -> u8 {
    let at = Coding::ALL.iter().position(|c| *c == coding);
    0x80 + at.expect("all are there") as u8
}

fn dtype_id(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::U8 => 2,
        Dtype::F16 => 16,
        Dtype::Bf16 => 17,
        Dtype::F32 => 18,
        _ => 19,
    }
}
