//! Any tensors, rounded by any rule: what comes back is what the file says of its source.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use weightzip::lossy::Rules;
use weightzip::{Archive, DecodeOptions, Level, Options};
use weightzip_fuzz::arrange::{any_dtype, rest_repeated, safetensors, tensor};

fuzz_target!(|bytes: &[u8]| {
    let _ = run(Unstructured::new(bytes));
});

fn run(mut u: Unstructured) -> Result<()> {
    let mut lossy = Rules::default();
    for _ in 0..u.int_in_range(1..=2)? {
        let pattern = *u.choose(&["", "*:", "layer.1:"])?;
        let bound = match u.int_in_range(0..=3)? {
            0 => format!("abs=2^{}", u.int_in_range(-1074..=1023)?),
            1 => format!("abs=2^{}", u.int_in_range(-30..=10)?),
            2 => format!("rel=2^-{}", u.int_in_range(0..=52)?),
            _ => format!("snr={}dB", u.int_in_range(0..=200)?),
        };
        lossy.add(&format!("{pattern}{bound}")).expect("a rule");
    }
    let level = *u.choose(Level::ALL)?;
    let (one, other) = (any_dtype(&mut u)?, any_dtype(&mut u)?);
    let row = u.int_in_range(1..=1 << 12)?;
    let data = rest_repeated(u)?;
    let (first, second) = data.split_at(data.len() / 2);
    let file = safetensors(&[tensor(one, row, first), tensor(other, row, second)], "");
    let layout = weightzip::scan(&file[..]).expect("memory can be read");
    lossy.look_at(&file[..], &layout.spans).expect("memory can be read");

    let options = Options { threads: 1, level, lossy, ..Options::default() };
    let (mut wz, mut again) = (Vec::new(), Vec::new());
    let summary = weightzip::compress(&file[..], &mut wz, &options).expect("any file compresses");
    let archive = Archive::open(&wz[..]).expect("own files open");
    archive.check_against(&file[..], &|_| ()).expect("the bounds are kept");
    let mut restored = Vec::new();
    let decode = DecodeOptions { threads: 1, ..DecodeOptions::default() };
    let told = weightzip::decompress(&wz[..], &mut restored, &decode).expect("own files decode");
    assert_eq!(told.losses, summary.losses);
    let losses = weightzip::compress(&restored[..], &mut again, &options).expect("it compresses");
    let changed = |loss: &weightzip::lossy::Loss| loss.absolute > 0.0;
    assert!(!losses.losses.expect("there are rules").tensors.iter().any(changed));
    Ok(())
}
