//! Any bytes as a frame, as they are and with their checksums made right; and any records as
//! frames, which come back.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::{FrameOptions, Level, compress_frame, decompress_frame_into, frame_len};
use weightzip_fuzz::arrange::{any_layout, rest_repeated};
use weightzip_fuzz::repair;

/// Most bytes that are decoded: a hostile frame can stand for 2^18 times its size.
const MAX_BYTES: u64 = 16 << 20;

fuzz_target!(|bytes: &[u8]| {
    let as_it_is = decompress(bytes, 0, true);
    assert_eq!(as_it_is, decompress(bytes, 0xFF, true), "what the buffer held shows");
    let mut repaired = bytes.to_vec();
    repair::frame_checksums(&mut repaired);
    let _ = decompress(&repaired, 0, false);
    let _ = round_trip(Unstructured::new(bytes));
});

fn decompress(frame: &[u8], fill: u8, check_blocks: bool) -> std::result::Result<Vec<u8>, String> {
    let text = |e: weightzip::Error| e.to_string();
    let len = frame_len(frame).map_err(text)?;
    if len > MAX_BYTES {
        return Err("more than the target decodes".to_owned());
    }
    let mut out = vec![fill; usize::try_from(len).expect("bounded")];
    let options = FrameOptions { threads: 1, check_blocks, ..FrameOptions::default() };
    decompress_frame_into(frame, &mut out, &options).map_err(text)?;
    Ok(out)
}

fn round_trip(mut u: Unstructured) -> Result<()> {
    let layout = any_layout(&mut u)?;
    let (level, row) = (*u.choose(Level::ALL)?, u.int_in_range(0..=999)?);
    let mut data = rest_repeated(u)?;
    data.truncate(data.len() / usize::from(layout.bytes()) * usize::from(layout.bytes()));
    let options = FrameOptions { threads: 1, level, row, ..FrameOptions::default() };
    let mut frame = vec![7; 100];
    compress_frame(&layout, &data, &options, &mut frame).expect("records can be coded");
    let decoded = decompress(&frame, 0, true).expect("own frames decode");
    assert!(decoded == data, "a frame decodes to other bytes");
    Ok(())
}
