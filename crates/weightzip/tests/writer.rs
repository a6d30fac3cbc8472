//! What a writer accepts its own reader reads: any names, shapes and numbers of tensors.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use arbtest::arbitrary::{Result, Unstructured};
use common::{decompress, safetensors};
use weightzip::{Archive, Dtype, Format, Kind, Layout, Options, Span, TensorInfo};

/// A name of any characters, sometimes as long as names may be, or longer.
fn any_name(u: &mut Unstructured) -> Result<String> {
    let part: String = u.arbitrary()?;
    let times = *u.choose(&[1, 1, 1, 1, 9, 2000, (1 << 20) / part.len().max(1) + 1])?;
    Ok(part.repeat(times))
}

/// Dimensions, sometimes as many as there may be, or more.
fn any_shape(u: &mut Unstructured) -> Result<Vec<u64>> {
    let mut shape = vec![1; *u.choose(&[0, 1, 2, 5, 63, 64, 65, 300])?];
    if let Some(last) = shape.last_mut() {
        *last = u.int_in_range(0..=700)?;
    }
    Ok(shape)
}

type Tensor = (String, Vec<u64>);

fn any_tensors(u: &mut Unstructured) -> Result<Vec<Tensor>> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for number in 0..u.int_in_range(0..=5)? {
        tensors.push((format!("{}{number}", any_name(u)?), any_shape(u)?));
    }
    Ok(tensors)
}

fn elements(shape: &[u64]) -> usize {
    shape.iter().product::<u64>() as usize
}

/// Its tensors' names and shapes, when it was read as a stream and at random.
fn read_back(wz: &[u8], file: &[u8]) -> Vec<Tensor> {
    assert!(decompress(wz).unwrap().0 == file);
    let archive = Archive::open(wz).unwrap();
    let mut whole = vec![0; file.len()];
    archive.read_at(0, &mut whole).unwrap();
    assert!(whole == file);
    archive
        .tensors()
        .map(|tensor| (tensor.info().name.clone(), tensor.info().shape.clone()))
        .collect()
}

#[test]
fn any_safetensors_file_that_is_written_is_read() {
    arbtest::arbtest(|u| {
        let tensors = any_tensors(u)?;
        let data = vec![7; 700];
        let described: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| {
                (name.as_str(), Dtype::U8, shape.as_slice(), &data[..elements(shape)])
            })
            .collect();
        // The names are those of Rust's strings, not of JSON's.
        let file = safetensors(&described);
        let mut wz = Vec::new();
        weightzip::compress(&file[..], &mut wz, &Options { threads: 1, ..Options::default() })
            .unwrap();
        let found = weightzip::scan(&file).unwrap();
        let found = found.spans.into_iter().filter_map(|span| span.tensor);
        let found: Vec<_> = found.map(|tensor| (tensor.name, tensor.shape)).collect();
        assert_eq!(read_back(&wz, &file), found);
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn a_layout_is_refused_or_read() {
    arbtest::arbtest(|u| {
        let tensors = any_tensors(u)?;
        let (mut at, mut spans) = (0, Vec::new());
        for (name, shape) in &tensors {
            let end = at + elements(shape) as u64;
            let tensor = TensorInfo { name: name.clone(), dtype: Dtype::U8, shape: shape.clone() };
            spans.push(Span::tensor(at..end, tensor));
            at = end;
        }
        let file = vec![7; at as usize];
        let layout = Some(Layout { format: Format::Numpy, spans, warnings: Vec::new() });
        let options = Options { threads: 1, layout, ..Options::default() };
        let mut wz = Vec::new();
        match weightzip::compress(&file[..], &mut wz, &options) {
            Ok(_) => assert_eq!(read_back(&wz, &file), tensors),
            Err(error) => {
                assert_eq!(error.kind(), Kind::InvalidArgument);
                let is_odd = |(name, shape): &Tensor| name.len() > 1 << 20 || shape.len() > 64;
                assert!(tensors.iter().any(is_odd), "{error}");
            }
        }
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn a_crowd_of_long_names_is_read() {
    let names: Vec<String> = (0..90).map(|i| format!("{i}{}", "n".repeat((1 << 20) - 2))).collect();
    let tensors: Vec<_> =
        names.iter().map(|name| (name.as_str(), Dtype::U8, &[600][..], &[7; 600][..])).collect();
    let file = safetensors(&tensors);
    let mut wz = Vec::new();
    weightzip::compress(&file[..], &mut wz, &Options::default()).unwrap();
    assert_eq!(read_back(&wz, &file).len(), 90);
}
