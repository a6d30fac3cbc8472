//! Frames: what goes in comes out, and bad ones are refused.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;
use arbtest::arbitrary::{Result, Unstructured};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weightzip::{
    ByteOrder, Dtype, Field, FrameOptions, Kind, Level, RecordLayout, Source, compress_frame,
    decompress_frame_into, frame_len,
};

const INLINE: FrameOptions =
    FrameOptions { threads: 1, level: Level::Default, row: 0, verify: true, check_blocks: true };

fn frame_of(layout: &RecordLayout, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    compress_frame(layout, data, &INLINE, &mut frame).unwrap();
    frame
}

fn bf16(count: u32) -> Vec<u8> {
    (0..count).flat_map(|i| (0x3C00u16 + (i * 7919 % 521) as u16).to_le_bytes()).collect()
}

/// A frame of five blocks that share a context.
fn sample() -> (Vec<u8>, Vec<u8>) {
    let data = bf16(5 << 16);
    (frame_of(&Dtype::Bf16.record_layout(), &data), data)
}

/// What a frame decodes to, if it doesn't say that this is too much.
fn decompress(frame: &[u8]) -> weightzip::Result<Vec<u8>> {
    let len = frame_len(frame)?;
    assert!(len <= frame.len() as u64 * (1 << 18), "a length that no check has bounded");
    let mut out = vec![0x55; (len as usize).min(1 << 24)];
    decompress_frame_into(frame, &mut out, &INLINE)?;
    Ok(out)
}

fn any_data(u: &mut Unstructured) -> Result<(RecordLayout, Vec<u8>)> {
    let layout = match u.int_in_range(0..=3)? {
        0 => RecordLayout::new(4096, ByteOrder::Little, vec![Field::unsigned(64).times(512)]),
        1 => RecordLayout::new(2, ByteOrder::Big, vec![Field::float(16, 8)]),
        _ => Ok(u.choose(Dtype::ALL)?.record_layout()),
    };
    let layout = layout.unwrap();
    let pattern: Vec<u8> = u.arbitrary()?;
    let most = 1usize << u.int_in_range(0..=18)?;
    let records = u.int_in_range(0..=most)?;
    let size = usize::from(layout.bytes());
    let bytes = records.min((4 << 20) / size) * size;
    let data = pattern.into_iter().chain([0x3D, 0x80, 7]).cycle();
    Ok((layout, data.take(bytes).collect()))
}

#[test]
fn any_records_come_back_with_any_threads_into_buffers_that_held_something() {
    let (mut one, mut three) = (vec![9; 100_000], vec![7; 10]);
    arbtest::arbtest(|u| {
        let (layout, data) = any_data(u)?;
        let (level, row) = (*u.choose(Level::ALL)?, u.int_in_range(0..=500)?);
        let inline = FrameOptions { level, row, ..INLINE };
        let options = FrameOptions { threads: 3, ..inline };
        compress_frame(&layout, &data, &inline, &mut one).unwrap();
        compress_frame(&layout, &data, &options, &mut three).unwrap();
        assert!(one == three, "threads change the frame");
        assert_eq!(frame_len(&one).unwrap(), data.len() as u64);
        for options in [INLINE, options] {
            for check_blocks in [true, false] {
                let options = FrameOptions { check_blocks, ..options };
                let mut out = vec![u.arbitrary()?; data.len()];
                decompress_frame_into(&one, &mut out, &options).unwrap();
                assert!(out == data);
            }
        }
        Ok(())
    })
    .budget_ms(2000);
}

/// Weights that training changes: each read finds others.
struct Changing {
    data: Vec<u8>,
    reads: AtomicU64,
}

impl Source for Changing {
    fn size(&self) -> std::io::Result<u64> {
        self.data.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.data.read_at(offset, buf)?;
        let read = self.reads.fetch_add(1, Relaxed) as u8;
        buf.iter_mut().step_by(2).for_each(|byte| *byte ^= read);
        Ok(())
    }
}

#[test]
fn records_may_change_meanwhile() {
    for threads in [1, 3] {
        let changing = Changing { data: bf16(5 << 16), reads: AtomicU64::new(0) };
        let (options, mut frame) = (FrameOptions { threads, ..INLINE }, Vec::new());
        compress_frame(&Dtype::Bf16.record_layout(), &changing, &options, &mut frame).unwrap();
        let decoded = decompress(&frame).unwrap();
        assert_eq!(decoded.len(), changing.data.len());
        assert!(decoded.iter().skip(1).step_by(2).eq(changing.data.iter().skip(1).step_by(2)));
        // The first block once more, for the context.
        assert!(changing.reads.into_inner() <= 1 + (5 << 16) / 100_000);
    }
}

#[test]
fn a_frame_is_not_larger_than_its_records_and_a_little() {
    for len in [0, 1, 100, 3 << 20] {
        let mut noise = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let frame = frame_of(&RecordLayout::opaque(), &noise);
        assert!(frame.len() <= len + 64 * len.div_ceil(1 << 20) + 128, "{} of {len}", frame.len());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let layout = Dtype::F32.record_layout();
    let mut frame = Vec::new();
    let error = compress_frame(&layout, &[0; 7][..], &INLINE, &mut frame).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");

    let (frame, data) = sample();
    for len in [0, data.len() - 1, data.len() + 1] {
        let error = decompress_frame_into(&frame, &mut vec![0; len], &INLINE).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    }
    assert_eq!(frame_len(b"not a frame").unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(frame_len(&common::compress(&data)).unwrap_err().kind(), Kind::Compatibility);
    let error = common::decompress(&frame).unwrap_err();
    assert!(error.kind() == Kind::Compatibility && error.message().contains("frame"), "{error}");
    let error = weightzip::Archive::open(frame).err().unwrap();
    assert!(error.kind() == Kind::Compatibility && error.message().contains("frame"), "{error}");
}

#[test]
fn every_truncation_is_found() {
    let (frame, _) = sample();
    for len in (0..2000).chain(frame.len() - 500..frame.len()) {
        let error = decompress(&frame[..len]).unwrap_err();
        assert!(
            matches!(error.kind(), Kind::InsufficientData | Kind::InvalidArgument),
            "{len}: {error}"
        );
    }
    let longer = [frame.as_slice(), b"\0"].concat();
    assert_eq!(decompress(&longer).unwrap_err().kind(), Kind::Corruption);
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let data = bf16(1500);
    let frame = frame_of(&Dtype::Bf16.record_layout(), &data);
    for at in 0..frame.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bad = frame.clone();
            bad[at] ^= flip;
            if let Ok(out) = decompress(&bad) {
                assert!(out == data, "byte {at} ^ {flip:#x} changed the result");
            }
        }
    }
}

#[test]
fn the_first_bad_block_is_named_whatever_the_threads() {
    let (mut frame, data) = sample();
    let late = frame.len() - 5000;
    frame[late] ^= 1;
    frame[300_000] ^= 1;
    let errors = [1, 2, 5].map(|threads| {
        let options = FrameOptions { threads, ..INLINE };
        let error = decompress_frame_into(&frame, &mut vec![0; data.len()], &options).unwrap_err();
        assert_eq!(error.kind(), Kind::Corruption);
        error.offset().unwrap()
    });
    assert!(errors[0] <= 300_000 && errors[0] > 200_000, "{errors:?}");
    assert_eq!(errors, [errors[0]; 3]);
}

#[test]
fn mangled_frames_never_panic() {
    arbtest::arbtest(|u| {
        let (layout, data) = any_data(u)?;
        let mut frame = frame_of(&layout, &data);
        for _ in 0..u.int_in_range(1..=3)? {
            let (from, to) = (u.choose_index(frame.len())?, u.choose_index(frame.len())?);
            match u.int_in_range(0..=2)? {
                0 => frame[from] = u.arbitrary()?,
                1 => frame.copy_within(from.min(to)..from.max(to), 0),
                _ => frame.truncate(to.max(1)),
            }
        }
        let _ = decompress(&frame).map(|out| assert!(out == data));
        Ok(())
    })
    .budget_ms(2000);
}
