//! Files whose original was rounded, well and badly made.

use super::Vector;
use super::ok::{bell, bf16, compressed, safetensors};
use super::parts::Parts;
use crate::container::section;
use crate::lossy::Rules;
use crate::{DecodeOptions, Dtype, Kind, Options, decompress};

fn rounded() -> Vec<u8> {
    let floats = |count| bell().take(count).flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let file = safetensors(&[
        ("w", Dtype::F32, &[60, 50], floats(3000)),
        ("bias", Dtype::F32, &[50], floats(50)),
        ("v", Dtype::Bf16, &[40, 50], bf16(2000)),
    ]);
    let mut lossy = Rules::default();
    ["abs=2^-10", "v:rel=2^-3"].iter().for_each(|rule| lossy.add(rule).unwrap());
    compressed(&file, &Options { threads: 1, lossy, ..Options::default() })
}

pub(super) fn ok() -> Vec<Vector> {
    let (wz, mut restored) = (rounded(), Vec::new());
    decompress(&wz[..], &mut restored, &DecodeOptions::default()).unwrap();
    let shows = "an original that was rounded: one tensor to a grid, one to three mantissa bits";
    let outcome = Ok(restored);
    vec![Vector { name: "rounded", shows, wz, outcome, is_frame: false, bases: &[] }]
}

pub(super) fn errors() -> Vec<Vector> {
    let wz = rounded();
    let bad = |name, shows, kind, edit: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::of_file(&wz);
        edit(&mut parts);
        let outcome = Err(kind);
        Vector { name, shows, wz: parts.join(), outcome, is_frame: false, bases: &[] }
    };
    let flags = |parts: &mut Parts, flags: u8| {
        parts.header[10] = flags;
        let check = weightzip_kernels::xxh3::xxh3_64(&parts.header[..12]).to_le_bytes();
        parts.header[12..].copy_from_slice(&check[..4]);
    };
    // In the payload: the hash, the rules, the number of tensors; then the first one.
    const FIRST: usize = 32 + 1 + "abs=2^-10 v:rel=2^-3".len() + 1;
    let edit = |at: usize, byte: u8| {
        move |parts: &mut Parts| parts.nth(section::LOSSES, 0).1[FIRST + at] = byte
    };
    use Kind::{Compatibility, Corruption};
    vec![
        bad(
            "losses_not_in_header",
            "losses that the file header doesn't tell of",
            Corruption,
            &|p| {
                flags(p, 0);
            },
        ),
        bad("losses_not_in_footer", "losses that the footer doesn't tell of", Corruption, &|p| {
            let footer = &mut p.nth(section::FOOTER, 0).1;
            footer[16] = 0;
            footer.drain(56..60);
        }),
        bad("losses_unknown", "a tensor rounded in an unknown way", Compatibility, &edit(1, 2)),
        bad("losses_of_none", "losses of a tensor that there isn't", Corruption, &edit(0, 2)),
        bad("losses_too_fine", "a tensor rounded to 2^-1075", Corruption, &|p| {
            let losses = &mut p.nth(section::LOSSES, 0).1;
            losses[FIRST + 2..][..4].copy_from_slice(&(-1075i32).to_le_bytes());
        }),
        bad("losses_negative", "a negative error", Corruption, &edit(13, 0xBF)),
        bad("losses_behind", "bytes behind the losses", Corruption, &|p| {
            p.nth(section::LOSSES, 0).1.push(0);
            let footer = &mut p.nth(section::FOOTER, 0).1;
            footer[56] += 1;
        }),
    ]
}
