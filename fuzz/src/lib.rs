//! What the fuzz targets share: readers with limits, and inputs with structure.

pub mod arrange;
pub mod nest;
pub mod repair;

use std::io::{self, Read, Write};
use std::sync::Arc;
use weightzip::{Archive, DecodeOptions, Level, Limits, Options, Span, Summary, TensorInfo};

/// Bytes that a decoder may put out before its target stops it: a hostile file can stand for
/// 2^18 times its size.
const MAX_OUTPUT: usize = 16 << 20;

/// Tensors that are read one by one.
const MAX_TENSORS: usize = 64;

/// One thread, and limits just above what `spec/vectors` need.
pub fn decode_options(check_blocks: bool) -> DecodeOptions {
    let limits = Limits { block_bytes: 256 << 10, metadata_bytes: 64 << 10, ..Limits::default() };
    DecodeOptions { threads: 1, check_blocks, limits, ..DecodeOptions::default() }
}

/// Decompresses in one pass; errors as the text that a person sees.
pub fn restore(wz: impl Read, check_blocks: bool) -> Result<(Vec<u8>, Summary), String> {
    let mut out = Bounded(Vec::new());
    let summary = weightzip::decompress(wz, &mut out, &decode_options(check_blocks));
    summary.map(|summary| (out.0, summary)).map_err(|e| e.to_string())
}

/// Reads all that an archive has, as far as the limits let: tensors, first rows, the whole file.
pub fn read_at_random(wz: &[u8], check_blocks: bool) -> Result<Vec<u8>, String> {
    let text = |e: weightzip::Error| e.to_string();
    let archive = Archive::open_with(wz, decode_options(check_blocks)).map_err(text)?;
    let mut left = MAX_OUTPUT;
    for tensor in archive.tensors().take(MAX_TENSORS) {
        let _ = tensor.stored();
        let name = &tensor.info().name;
        let found = archive.tensor(name).expect("a tensor that is listed is found by its name");
        assert_eq!(found.range(), tensor.range());
        let Some(bytes) = usize::try_from(tensor.bytes()).ok().filter(|&bytes| bytes <= left)
        else {
            continue;
        };
        left -= bytes;
        let mut whole = vec![0; bytes];
        let read = tensor.read_into(&mut whole);
        if let Ok(rows) = tensor.rows(0..1) {
            let mut first = vec![0xFF; usize::try_from(rows.bytes()).expect("part of the tensor")];
            if rows.read_into(&mut first).is_ok() && read.is_ok() {
                assert!(first == whole[..first.len()], "the first row of {name:?} differs");
            }
        }
    }
    let size = archive.info().original_bytes;
    let size = usize::try_from(size).ok().filter(|&size| size <= MAX_OUTPUT);
    let mut whole = vec![0; size.ok_or("more than the target reads")?];
    archive.read_at(0, &mut whole).map_err(text)?;
    Ok(whole)
}

/// Compresses `file` at `level` from memory and from a [`Dribble`], which must give the same, and
/// restores it.
pub fn compress_and_restore(file: &[u8], level: Level) -> (Vec<u8>, Summary) {
    let options = Options { threads: 1, level, ..Options::default() };
    let (mut wz, mut dribbled) = (Vec::new(), Vec::new());
    let summary = weightzip::compress(file, &mut wz, &options).expect("any file compresses");
    let again = weightzip::compress(Dribble::new(file), &mut dribbled, &options);
    assert_eq!(again.expect("any pipe compresses"), summary);
    assert!(dribbled == wz, "a pipe and a file give other bytes");
    assert!(wz.len() <= 2 * file.len() + 1024, "{} bytes from {}", wz.len(), file.len());

    let mut restored = Vec::new();
    let options = DecodeOptions { threads: 1, ..DecodeOptions::default() };
    weightzip::decompress(wz.as_slice(), &mut restored, &options).expect("own files decompress");
    assert!(restored == file, "the restored file differs");
    (wz, summary)
}

/// Compresses `file`, which can be read at random, so that equal tensors are stored once, and restores it.
pub fn repeat_and_restore(file: &[u8], level: Level) {
    let source: Arc<Vec<u8>> = Arc::new(file.to_vec());
    let options = Options { threads: 1, level, source: Some(source), ..Options::default() };
    let mut wz = Vec::new();
    weightzip::compress(file, &mut wz, &options).expect("any file compresses");
    let source: Arc<Vec<u8>> = Arc::new(wz.clone());
    let options = DecodeOptions { threads: 1, source: Some(source), ..DecodeOptions::default() };
    let mut restored = Vec::new();
    weightzip::decompress(wz.as_slice(), &mut restored, &options).expect("own files decompress");
    assert!(restored == file, "the restored file differs");
    let mut whole = vec![0; file.len()];
    let archive = Archive::open(wz).expect("own files open");
    archive.read_at(0, &mut whole).expect("own files are read");
    assert!(whole == file, "what is read at random differs");
}

/// Finds the spans of `file`, which must cover it, and compresses and restores it.
pub fn check_spans(file: &[u8]) {
    let layout = weightzip::scan(file).expect("memory can be read");
    check_cover(&layout.spans, file.len() as u64);
    let (wz, summary) = compress_and_restore(file, Level::Default);
    assert_eq!((summary.format, &summary.warnings), (layout.format, &layout.warnings));
    let archive = Archive::open(wz.as_slice()).expect("own files open");
    let stored: Vec<_> = archive.tensors().map(|t| (t.info().clone(), t.range())).collect();
    let found = layout.spans.into_iter().filter_map(|s| s.tensor.map(|t| (t, s.range)));
    assert_eq!(stored, found.collect::<Vec<_>>(), "archive and file have other tensors");
}

/// Spans cover a file of so many bytes, and have what they say.
pub fn check_cover(spans: &[Span], size: u64) {
    let mut at = 0;
    for span in spans {
        assert_eq!(span.range.start, at, "spans leave a gap or overlap: {spans:?}");
        at = span.range.end;
        if let Some(TensorInfo { dtype, shape, .. }) = &span.tensor {
            assert_eq!(dtype.bytes_of(shape), Some(span.range.end - span.range.start));
        }
    }
    assert_eq!(at, size, "spans don't cover the file");
}

/// A writer that fails when it has got too much.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.0.len() + data.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that gives a few bytes at a time and is interrupted now and then, like a slow pipe.
pub struct Dribble<'a> {
    rest: &'a [u8],
    calls: usize,
}

impl<'a> Dribble<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest, calls: 0 }
    }
}

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = out.len().min(self.calls * self.calls % 997 + 1);
        self.rest.read(&mut out[..len])
    }
}
