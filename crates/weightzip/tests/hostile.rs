//! Bad `.wz` files: an error that says what and where, or the identical bytes; never a panic.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;
use common::{any_safetensors, compress, decompress, sample};
use weightzip::{Archive, DecodeOptions, Kind, Limits};

/// All that an archive can give; `Err` if any part of it fails.
fn read_all(wz: &[u8]) -> weightzip::Result<Vec<u8>> {
    let archive = Archive::open(wz)?;
    let size = usize::try_from(archive.info().original_bytes).unwrap();
    assert!(size < 1 << 30, "a size that no check has bounded");
    let mut out = vec![0; size];
    archive.read_at(0, &mut out)?;
    Ok(out)
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let (file, wz) = (sample(), compress(&sample()));
    for at in 0..wz.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bad = wz.clone();
            bad[at] ^= flip;
            if let Ok((restored, _)) = decompress(&bad) {
                assert!(restored == file, "byte {at} ^ {flip:#x} changed the result");
            }
            if let Ok(restored) = read_all(&bad) {
                assert!(restored == file, "byte {at} ^ {flip:#x} changed what an archive reads");
            }
        }
    }
}

#[test]
fn every_truncation_is_found() {
    let wz = compress(&sample());
    for len in 0..wz.len() {
        let short = decompress(&wz[..len]).unwrap_err();
        assert!(
            matches!(short.kind(), Kind::InsufficientData | Kind::InvalidArgument),
            "{len}: {short}"
        );
        assert!(read_all(&wz[..len]).is_err(), "{len}");
    }
    let longer = [wz.as_slice(), b"\0"].concat();
    assert_eq!(decompress(&longer).unwrap_err().kind(), Kind::Corruption);
    assert!(read_all(&longer).is_err());
}

#[test]
fn mangled_files_never_panic() {
    arbtest::arbtest(|u| {
        let file = any_safetensors(u)?;
        let mut wz = compress(&file);
        for _ in 0..u.int_in_range(1..=3)? {
            let (from, to) = (u.choose_index(wz.len())?, u.choose_index(wz.len())?);
            match u.int_in_range(0..=2)? {
                0 => wz[from] = u.arbitrary()?,
                1 => wz.copy_within(from.min(to)..from.max(to), 0),
                _ => wz.truncate(to.max(1)),
            }
        }
        let _ = decompress(&wz).map(|(restored, _)| assert!(restored == file));
        let _ = Archive::open(wz.as_slice()).map(|archive| {
            for tensor in archive.tensors() {
                let _ = tensor.stored();
                let mut out = vec![0; usize::try_from(tensor.bytes()).unwrap().min(1 << 24)];
                let _ = tensor.read_into(&mut out);
            }
        });
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn what_once_broke_a_decoder_is_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/regressions/decode_any");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let wz = std::fs::read(file.unwrap().path()).unwrap();
        assert!(decompress(&wz).is_err());
        assert!(read_all(&wz).is_err());
        files += 1;
    }
    assert!(files >= 3);
}

#[test]
fn a_damaged_block_is_named() {
    let wz = compress(&sample());
    let archive = Archive::open(wz.as_slice()).unwrap();
    assert!(archive.tensor("a.weight").is_ok());
    // The largest block is that of a.weight; its payload is where most bytes are.
    let (mut bad, at) = (wz.clone(), wz.len() / 3);
    bad[at] ^= 0x10;
    let (streamed, read) = (decompress(&bad).unwrap_err(), Archive::open(bad.as_slice()).unwrap());
    assert_eq!(
        (streamed.kind(), streamed.tensor()),
        (Kind::Corruption, Some("a.weight")),
        "{streamed}"
    );
    assert!(streamed.offset().is_some_and(|o| o <= at as u64));
    let read = read.tensor("a.weight").unwrap().read_into(&mut [0; 4000]).unwrap_err();
    assert_eq!((read.kind(), read.tensor()), (Kind::Corruption, Some("a.weight")), "{read}");
}

#[test]
fn limits_are_kept() {
    let wz = compress(&vec![3; 3 << 20]);
    let tight = DecodeOptions {
        limits: Limits { block_bytes: 1 << 16, ..Limits::default() },
        ..DecodeOptions::default()
    };
    let error = weightzip::decompress(wz.as_slice(), std::io::sink(), &tight).unwrap_err();
    assert!(error.to_string().contains("beyond the limit"), "{error}");
    let error =
        Archive::open_with(wz.as_slice(), tight).unwrap().read_at(0, &mut [0; 9]).unwrap_err();
    assert!(error.to_string().contains("beyond the limit"), "{error}");
}

#[test]
fn growth_is_bounded() {
    // As many tensors as a header can name, of dtypes that never share a record layout.
    let dtypes =
        [weightzip::Dtype::U8, weightzip::Dtype::F16, weightzip::Dtype::I64, weightzip::Dtype::F4];
    let names: Vec<String> = (0..3000).map(|i| i.to_string()).collect();
    for elements in [0u64, 2, 600] {
        let data = vec![0x5A; 8 * 600];
        let tensors: Vec<_> = names
            .iter()
            .zip(dtypes.iter().cycle())
            .map(|(n, &d)| {
                (n.as_str(), d, [elements], &data[..d.bytes_of(&[elements]).unwrap() as usize])
            })
            .collect();
        let tensors: Vec<_> =
            tensors.iter().map(|(n, d, s, b)| (*n, *d, s.as_slice(), *b)).collect();
        let file = common::safetensors(&tensors);
        let wz = compress(&file);
        assert!(wz.len() <= 2 * file.len() + 1024, "{elements}: {} from {}", wz.len(), file.len());
    }
    let noise: Vec<u8> = blake3::Hasher::new().finalize_xof().fill_vec(5 << 20);
    assert!(compress(&noise).len() <= noise.len() + 64 * 5 + 512);
}

trait FillVec {
    fn fill_vec(self, len: usize) -> Vec<u8>;
}

impl FillVec for blake3::OutputReader {
    fn fill_vec(mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        bytes
    }
}
