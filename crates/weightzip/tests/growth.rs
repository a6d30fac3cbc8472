//! No file becomes larger than twice its size and a kibibyte, whatever a finder finds in it.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "test data")]

mod common;

use arbtest::arbitrary::{Result, Unstructured};
use common::crowds::{BUILDERS, Item};
use common::{compress_at, decompress};
use std::sync::Arc;
use weightzip::{Archive, Level, Options};

fn check(file: &[u8], level: Level, what: &str) {
    let wz = compress_at(level, file);
    assert!(wz.len() <= 2 * file.len() + 1024, "{what}: {} from {}", wz.len(), file.len());
    assert!(decompress(&wz).unwrap().0 == file);
    // The same where equal tensors are looked for.
    let source: Arc<Vec<u8>> = Arc::new(file.to_vec());
    let options = Options { threads: 1, level, source: Some(source), ..Options::default() };
    let mut again = Vec::new();
    weightzip::compress(file, &mut again, &options).unwrap();
    assert!(again.len() <= 2 * file.len() + 1024, "{what}: {} from {}", again.len(), file.len());
    // What a scan finds is what the archive has.
    let found = weightzip::scan(file).unwrap();
    let found = found.spans.iter().filter_map(|span| span.tensor.as_ref());
    let archive = Archive::open(&wz[..]).unwrap();
    assert!(found.eq(archive.tensors().map(|tensor| tensor.info())), "{what}");
}

#[test]
fn five_thousand_empty_tensors_grow_no_file() {
    let items: Vec<Item> = (0..5000).map(|i| (format!("{i:x}"), Vec::new())).collect();
    for (what, build) in BUILDERS {
        check(&build(&items), Level::Default, what);
    }
}

#[test]
fn a_few_small_tensors_keep_their_names() {
    let items: Vec<Item> = (0..12).map(|i| (format!("layers.{i}.bias"), vec![7; 64])).collect();
    for (what, build) in BUILDERS {
        let found = weightzip::scan(&build(&items)).unwrap();
        let tensors = found.spans.iter().filter(|span| span.tensor.is_some());
        assert_eq!((tensors.count(), found.warnings.len()), (12, 0), "{what}: {found:?}");
    }
}

/// Tensors of few bytes, or none, whose names share their beginnings or don't.
fn any_items(u: &mut Unstructured) -> Result<Vec<Item>> {
    let count = *u.choose(&[1usize, 3, 20, 130, 1100])?;
    let sizes: [usize; 2] = std::array::from_fn(|_| {
        *u.choose(&[0, 0, 1, 60, 64, 200, 511, 512, 513, 1100]).unwrap_or(&0)
    });
    let width = *u.choose(&[0, 1, 5, 60, 900])?;
    let shared = u.arbitrary()?;
    let noise = &mut blake3::Hasher::new().update(&u.arbitrary::<[u8; 4]>()?).finalize_xof();
    let item = |i: usize| {
        let mut bytes = vec![0; sizes[i % 2]];
        noise.fill(&mut bytes);
        let mut letters = vec![0; width];
        noise.fill(&mut letters);
        let word: String = letters.iter().map(|b| char::from(b'a' + b % 26)).collect();
        let word = if shared { "w".repeat(width) } else { word };
        (if i.is_multiple_of(2) { format!("{word}{i}") } else { format!("{i}{word}") }, bytes)
    };
    Ok((0..count).map(item).collect())
}

#[test]
fn crowds_of_small_tensors_grow_no_file() {
    arbtest::arbtest(|u| {
        let (what, build) = *u.choose(&BUILDERS)?;
        let mut file = build(&any_items(u)?);
        if u.ratio(1, 3)? {
            file.truncate(u.int_in_range(0..=file.len())?);
        }
        check(&file, *u.choose(Level::ALL)?, what);
        Ok(())
    })
    .budget_ms(4000);
}
