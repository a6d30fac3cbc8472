//! Whole files: what goes in comes out, whatever it is and however it is read.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;
use common::{any_safetensors, compress, compress_at, decompress, options, safetensors, sample};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weightzip::{
    Archive, DecodeOptions, Dtype, Format, FrameOptions, Kind, Layout, Level, Options,
    RecordLayout, Source, Span, TensorInfo, compress_frame, decompress_frame_watched,
};

/// Gives a byte or a few at a time, as a pipe may.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = buf.len().min(1 + self.0.len() % 4093);
        self.0.read(&mut buf[..n])
    }
}

#[test]
fn any_bytes_come_back() {
    arbtest::arbtest(|u| {
        let file: Vec<u8> = u.arbitrary()?;
        assert_eq!(decompress(&compress(&file)).unwrap().0, file);
        Ok(())
    });
}

#[test]
fn any_safetensors_comes_back_the_same_from_pipes_and_on_any_number_of_threads() {
    arbtest::arbtest(|u| {
        let mut file = any_safetensors(u)?;
        match u.int_in_range(0..=3)? {
            0 => file.truncate(u.int_in_range(0..=file.len())?),
            1 => file.extend(u.bytes(9.min(u.len()))?),
            _ => {}
        }
        let level = *u.choose(Level::ALL)?;
        let (wz, mut piped) = (compress_at(level, &file), Vec::new());
        let options = Options { level, ..options(3) };
        let summary = weightzip::compress(Dribble(&file), &mut piped, &options).unwrap();
        assert_eq!(piped, wz);
        let found = weightzip::scan(&file).unwrap().spans.into_iter().filter_map(|s| s.tensor);
        let archive = Archive::open(wz.as_slice()).unwrap();
        assert!(found.eq(archive.tensors().map(|t| t.info().clone())));
        let (restored, restored_summary) = decompress(&wz).unwrap();
        assert!(restored == file);
        assert_eq!(
            (summary.blake3, summary.tensors),
            (restored_summary.blake3, restored_summary.tensors)
        );
        assert_eq!(summary.blake3, *blake3::hash(&file).as_bytes());
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn tensors_and_rows_are_what_the_file_has() {
    arbtest::arbtest(|u| {
        let file = any_safetensors(u)?;
        let archive = Archive::open(compress_at(*u.choose(Level::ALL)?, &file)).unwrap();
        let layout = weightzip::scan(&file).unwrap();
        let tensors: Vec<_> = layout
            .spans
            .iter()
            .filter_map(|s| Some((s.range.clone(), s.tensor.clone()?)))
            .collect();
        assert_eq!(archive.tensors().count(), tensors.len());
        for (range, info) in tensors {
            let bytes = &file[range.start as usize..range.end as usize];
            let tensor = archive.tensor(&info.name).unwrap();
            assert_eq!(
                (tensor.info(), tensor.range(), tensor.blake3()),
                (&info, range, *blake3::hash(bytes).as_bytes())
            );
            let mut all = vec![0xA5; bytes.len()];
            tensor.read_into(&mut all).unwrap();
            assert!(all == bytes);
            let from = u.int_in_range(0..=info.shape[0])?;
            let to = u.int_in_range(from..=info.shape[0])?;
            match tensor.rows(from..to) {
                Ok(rows) => {
                    let mut some = vec![0xA5; rows.bytes() as usize];
                    rows.read_into(&mut some).unwrap();
                    let row_bits =
                        (bytes.len() * 8).checked_div(info.shape[0] as usize).unwrap_or(0);
                    assert!(
                        some == bytes[from as usize * row_bits / 8..to as usize * row_bits / 8]
                    );
                }
                Err(e) => assert!(info.dtype.block().0 > 1, "{e}"),
            }
            assert!(tensor.stored().unwrap().bytes <= bytes.len() as u64 + 64);
        }
        let from = u.int_in_range(0..=file.len())?;
        let to = u.int_in_range(from..=file.len())?;
        let mut part = vec![0; to - from];
        archive.read_at(from as u64, &mut part).unwrap();
        assert!(part == file[from..to]);
        Ok(())
    })
    .budget_ms(2000);
}

/// Counts the bytes that are read.
struct Counted<'a> {
    wz: &'a [u8],
    read: &'a AtomicU64,
}

impl Source for Counted<'_> {
    fn size(&self) -> std::io::Result<u64> {
        self.wz.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.read.fetch_add(buf.len() as u64, Relaxed);
        self.wz.read_at(offset, buf)
    }
}

#[test]
fn level_max_is_smaller_where_rows_and_columns_differ_and_rows_are_still_read_alone() {
    let size = |i: u32| 1.0 + (i * 7919 % 31) as f32;
    let value = |i: u32, j: u32| {
        let noise = (i * 4096 + j).wrapping_mul(0x9E37_79B9) >> 8;
        (noise as f32 / 16_777_216.0 - 0.5) * size(i) * size(j * 5 + 2)
    };
    let (rows, row) = (4096, 512);
    let data: Vec<u8> = (0..rows)
        .flat_map(|i| (0..row).flat_map(move |j| half::bf16::from_f32(value(i, j)).to_le_bytes()))
        .collect();
    let file = safetensors(&[("w", Dtype::Bf16, &[rows.into(), row.into()], &data)]);
    let [default, max] = [Level::Default, Level::Max].map(|level| compress_at(level, &file));
    assert!(max.len() as f64 / (default.len() as f64) < 0.97);
    assert!(decompress(&max).unwrap().0 == file);

    let read = AtomicU64::new(0);
    let archive = Archive::open(Counted { wz: &max, read: &read }).unwrap();
    assert_eq!(archive.info().level, "max");
    let tensor = archive.tensor("w").unwrap();
    let blocks = tensor.stored().unwrap();
    let before = read.load(Relaxed);
    let mut some = vec![0; 3 * row as usize * 2];
    tensor.rows(2000..2003).unwrap().read_into(&mut some).unwrap();
    assert!(some == data[2000 * row as usize * 2..][..some.len()]);
    let read = read.load(Relaxed) - before;
    assert!(read < blocks.bytes / 3, "{read} bytes of {}", blocks.bytes);
}

#[test]
fn many_ranges_are_read_as_one_by_one() {
    arbtest::arbtest(|u| {
        let file = any_safetensors(u)?;
        let options = DecodeOptions { threads: u.int_in_range(1..=3)?, ..DecodeOptions::default() };
        let archive = Archive::open_with(compress(&file), options).unwrap();
        let mut ranges: Vec<_> = archive.tensors().map(|t| t.range()).collect();
        for _ in 0..u.int_in_range(0..=5)? {
            let from = u.int_in_range(0..=file.len())? as u64;
            ranges.push(from..u.int_in_range(from..=file.len() as u64)?);
        }
        ranges.reverse();
        let mut outs: Vec<_> =
            ranges.iter().map(|r| vec![0xA5; (r.end - r.start) as usize]).collect();
        let done = AtomicU64::new(0);
        let wanted = ranges.iter().zip(&mut outs).map(|(r, out)| (r.start, &mut out[..]));
        let watch = |bytes| {
            done.fetch_add(bytes, Relaxed);
            Ok(())
        };
        archive.read_many(wanted, &watch).unwrap();
        for (range, out) in ranges.iter().zip(&outs) {
            assert!(out[..] == file[range.start as usize..range.end as usize]);
            archive.locate(range.clone()).unwrap();
        }
        assert_eq!(done.into_inner(), outs.iter().map(|out| out.len() as u64).sum::<u64>());
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn a_watch_ends_the_work() {
    let file = vec![7; 10 << 20];
    let archive = Archive::open(compress(&file)).unwrap();
    let mut out = vec![0; file.len()];
    let calls = AtomicU64::new(0);
    let stop = |_| {
        calls.fetch_add(1, Relaxed);
        Err(std::io::Error::other("enough"))
    };
    let read = archive.read_many([(0, &mut out[..])], &stop).unwrap_err();
    assert_eq!((read.kind(), read.to_string().as_str()), (Kind::Io, "i/o error: stopped: enough"));
    assert!(archive.read_many([(1, &mut out[..])], &|_| Ok(())).is_err());
    assert_eq!(archive.locate(0..file.len() as u64 + 1).unwrap_err().kind(), Kind::InvalidArgument);

    let (layout, options) = (RecordLayout::opaque(), FrameOptions::default());
    let mut frame = Vec::new();
    compress_frame(&layout, &file, &options, &mut frame).unwrap();
    let before = calls.load(Relaxed);
    let decoded = decompress_frame_watched(&frame, &mut out, &options, &stop).unwrap_err();
    assert_eq!(decoded.kind(), Kind::Io);
    assert!(before > 0 && calls.load(Relaxed) > before);
}

#[test]
fn equal_data_gives_equal_blocks_wherever_it_stands() {
    let data: Vec<u8> =
        (0..70_000u32).flat_map(|i| (0x3C00 + (i * 7919 % 900) as u16).to_le_bytes()).collect();
    let tensor = |name| (name, weightzip::Dtype::Bf16, [70u64, 1000], data.as_slice());
    let (a, b) = (tensor("first"), tensor("the.second.of.them"));
    let wz = compress(&common::safetensors(&[(a.0, a.1, &a.2, a.3), (b.0, b.1, &b.2, b.3)]));
    let part = &wz[40_000..40_500];
    let places: Vec<_> =
        (0..wz.len() - part.len()).filter(|&at| wz[at..].starts_with(part)).collect();
    assert_eq!(places.len(), 2, "{places:?}");
}

#[test]
fn small_things_have_their_place() {
    let archive = Archive::open(compress(&sample())).unwrap();
    let scale = archive.tensor("a.scale").unwrap();
    let mut value = [0; 4];
    scale.read_into(&mut value).unwrap();
    assert_eq!(value, 1.5f32.to_le_bytes());
    assert!(scale.rows(0..0).is_err());
    assert!(scale.read_into(&mut [0; 5]).is_err());
    let empty = archive.tensor("d.empty").unwrap();
    empty.read_into(&mut []).unwrap();
    assert!(empty.read().unwrap().is_empty());
    assert_eq!(scale.read().unwrap(), 1.5f32.to_le_bytes());
    assert_eq!(empty.blake3(), *blake3::hash(b"").as_bytes());
    assert!(empty.rows(0..1).is_err());
    let missing = archive.tensor("a.scales").err().unwrap();
    assert_eq!(
        (missing.kind(), missing.tensor()),
        (weightzip::Kind::InvalidArgument, Some("a.scales"))
    );
}

#[test]
fn sha256_is_kept_and_computed_on_request() {
    let file = sample();
    let mut wz = Vec::new();
    let summary = weightzip::compress(
        file.as_slice(),
        &mut wz,
        &Options { sha256: true, ..Options::default() },
    )
    .unwrap();
    let known = Archive::open(wz.as_slice()).unwrap().info().sha256;
    assert_eq!((known, summary.sha256.is_some()), (summary.sha256, true));
    let computed = DecodeOptions { sha256: true, ..DecodeOptions::default() };
    let plain =
        weightzip::decompress(compress(&file).as_slice(), std::io::sink(), &computed).unwrap();
    assert_eq!(plain.sha256, known);
}

#[test]
fn progress_adds_up() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let (file, done) = (vec![5; 3_000_000], Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&done);
    let progress: weightzip::Progress = Arc::new(move |bytes| {
        counter.fetch_add(bytes, Ordering::Relaxed);
    });
    let mut wz = Vec::new();
    let options = Options { progress: Some(Arc::clone(&progress)), ..Options::default() };
    weightzip::compress(file.as_slice(), &mut wz, &options).unwrap();
    assert_eq!(done.swap(0, Ordering::Relaxed), 3_000_000);
    let options = DecodeOptions { progress: Some(progress), ..DecodeOptions::default() };
    weightzip::decompress(wz.as_slice(), std::io::sink(), &options).unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 3_000_000);
}

/// A PyTorch checkpoint without tensors of note: one stored member, and a directory.
fn empty_zip() -> Vec<u8> {
    let mut file = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0a".to_vec();
    let at = (file.len() as u32).to_le_bytes();
    file.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0");
    file.extend([0; 16]);
    file.extend(b"aPK\x05\x06\0\0\0\0\x01\0\x01\0\x2F\0\0\0");
    file.extend(at);
    file.extend([0; 2]);
    file
}

#[test]
fn a_wrong_layout_costs_size_and_nothing_else() {
    let file = empty_zip();
    let layout = weightzip::scan(&file).unwrap();
    assert_eq!(layout.warnings, [""; 0]);
    let spooled = compress(&file);
    let with = |spans| {
        let layout = Some(Layout { format: Format::Numpy, spans, warnings: Vec::new() });
        let mut wz = Vec::new();
        weightzip::compress(&file[..], &mut wz, &Options { layout, ..options(1) }).map(|_| wz)
    };
    let tensor = |range: std::ops::Range<u64>| {
        let shape = vec![range.end - range.start];
        let tensor = TensorInfo { name: format!("{range:?}"), dtype: Dtype::U8, shape };
        Span::tensor(range, tensor)
    };
    let len = file.len() as u64;
    assert!(with(layout.spans).unwrap() != spooled, "the format differs");
    for spans in
        [vec![], vec![tensor(0..7), tensor(7..len - 1)], vec![tensor(0..5), tensor(5..len + 9)]]
    {
        let wz = with(spans).unwrap();
        assert_eq!(decompress(&wz).unwrap().0, file);
    }
    assert_eq!(with(vec![tensor(1..7)]).unwrap_err().kind(), Kind::InvalidArgument);
    // What has its directory at its start needs no layout, and takes none.
    let layout =
        Some(Layout { format: Format::Numpy, spans: vec![tensor(0..7)], warnings: Vec::new() });
    let mut wz = Vec::new();
    weightzip::compress(&sample()[..], &mut wz, &Options { layout, ..options(1) }).unwrap();
    assert!(wz == compress(&sample()));
}

/// Files that torch, numpy, onnx and flax wrote.
fn seeds() -> Vec<Vec<u8>> {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let targets = std::fs::read_dir(seeds).unwrap().map(|entry| entry.unwrap().path());
    let files = targets.flat_map(|target| std::fs::read_dir(target).unwrap());
    files.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn files_of_each_format_with_changed_bytes_come_back_the_same_from_pipes() {
    let seeds = seeds();
    arbtest::arbtest(|u| {
        let mut file = u.choose(&seeds)?.clone();
        for _ in 0..u.int_in_range(0..=4)? {
            let at = u.choose_index(file.len())?;
            file[at] ^= u.int_in_range(0..=255)?;
        }
        match u.int_in_range(0..=5)? {
            0 => file.truncate(u.int_in_range(0..=file.len())?),
            1 => file.extend(u.choose(&seeds)?),
            _ => {}
        }
        let (layout, mut at) = (weightzip::scan(&file).unwrap(), 0);
        for span in &layout.spans {
            assert_eq!(span.range.start, at);
            at = span.range.end;
        }
        assert_eq!(at, file.len() as u64);
        let wz = compress(&file);
        assert!(wz.len() <= 2 * file.len() + 1024);
        let (restored, summary) = decompress(&wz).unwrap();
        assert!(restored == file && summary.format == layout.format);
        let mut piped = Vec::new();
        weightzip::compress(Dribble(&file), &mut piped, &options(2)).unwrap();
        let mut given = Vec::new();
        let layout = Some(layout);
        weightzip::compress(&file[..], &mut given, &Options { layout, ..options(1) }).unwrap();
        assert!(piped == wz && given == wz);
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn an_archive_is_not_rounded() {
    let mut rules = weightzip::lossy::Rules::default();
    rules.add("abs=2^-10").unwrap();
    let rounded = Options { lossy: rules, ..options(1) };
    let error = weightzip::compress(&empty_zip()[..], Vec::new(), &rounded).unwrap_err();
    assert!(error.kind() == Kind::InvalidArgument && error.message().contains("checksums"));
}

/// A number's bytes.
type Bytes = fn(f32) -> Vec<u8>;

fn with_dtype(dtype: Dtype, threads: usize) -> Options {
    Options { dtype: Some(dtype), ..options(threads) }
}

#[test]
fn raw_numbers_take_what_they_take_in_a_model() {
    let bell = |i: u32| {
        let next = |j: u32| (4 * i + j).wrapping_mul(0x9E37_79B9).rotate_left(j * 7) >> 8;
        (0..4).map(|j| next(j) as f32 / 16_777_216.0 - 0.5).sum::<f32>() * 0.05
    };
    let bf16: Bytes = |v| v.to_bits().to_le_bytes()[2..].to_vec();
    let dtypes: [(Dtype, Bytes); 2] =
        [(Dtype::Bf16, bf16), (Dtype::F32, |v| v.to_le_bytes().to_vec())];
    for (dtype, bytes) in dtypes {
        let data: Vec<u8> = (0..600_000).flat_map(|i| bytes(bell(i))).collect();
        for &level in Level::ALL {
            let options = Options { level, ..with_dtype(dtype, 1) };
            let mut raw = Vec::new();
            weightzip::compress(&data[..], &mut raw, &options).unwrap();
            assert!(decompress(&raw).unwrap().0 == data);
            let model = compress_at(level, &safetensors(&[("w", dtype, &[600_000], &data)]));
            let apart = (raw.len() as f64 - model.len() as f64) / data.len() as f64;
            assert!(apart < 0.001, "{dtype:?} {}: {apart}", level.name());
        }
    }
}

#[test]
fn raw_numbers_of_any_dtype_and_length_come_back_the_same_from_pipes() {
    arbtest::arbtest(|u| {
        let dtype = *u.choose(Dtype::ALL)?;
        let level = *u.choose(Level::ALL)?;
        let pattern: Vec<u8> = u.arbitrary()?;
        let len = if u.ratio(1, 4)? { 3 << 20 } else { u.int_in_range(0..=3000)? };
        let file: Vec<u8> =
            pattern.iter().chain(&[0x3D, 0x80]).cycle().take(len).copied().collect();
        if weightzip::scan(&file).unwrap().format != Format::Opaque {
            return Ok(());
        }
        let (mut wz, mut piped) = (Vec::new(), Vec::new());
        let options = |threads| Options { level, ..with_dtype(dtype, threads) };
        weightzip::compress(&file[..], &mut wz, &options(1)).unwrap();
        weightzip::compress(Dribble(&file), &mut piped, &options(3)).unwrap();
        assert!(wz == piped && decompress(&wz).unwrap().0 == file);
        let archive = Archive::open(&wz[..]).unwrap();
        let mut all = vec![0; file.len()];
        archive.read_at(0, &mut all).unwrap();
        assert!(all == file && archive.tensors().count() == 0);
        assert!(wz.len() <= 2 * file.len() + 1024);
        Ok(())
    })
    .budget_ms(1000);
}

#[test]
fn what_says_what_its_numbers_are_takes_no_dtype() {
    let mut seeds = seeds();
    seeds.push(sample());
    for file in seeds.iter().filter(|file| weightzip::scan(*file).unwrap().format != Format::Opaque)
    {
        let mut written = Vec::new();
        let error =
            weightzip::compress(&file[..], &mut written, &with_dtype(Dtype::F32, 1)).unwrap_err();
        assert_eq!((error.kind(), written.len()), (Kind::InvalidArgument, 0));
        assert!(error.message().contains("says what its numbers are"), "{error}");
    }
    // What only looks like a model is numbers, and nobody is told otherwise.
    let file = [&[0xFF; 8][..], b"{", &[7; 3000]].concat();
    assert_eq!(weightzip::scan(&file).unwrap().warnings.len(), 1);
    let mut wz = Vec::new();
    let summary = weightzip::compress(&file[..], &mut wz, &with_dtype(Dtype::F32, 1)).unwrap();
    assert_eq!((summary.format, summary.warnings.len()), (Format::Opaque, 0));
    assert!(decompress(&wz).unwrap().0 == file);
}
