//! Makes the checksums of a mutated `.wz` right again, so that what lies behind them is reached.
//! Written from spec/format.md ("File header", "Sections", "Tail"), not with the library's code.

use xxhash_rust::xxh3::xxh3_64;

const HEADER: usize = 16;
const TAIL: usize = 32;
const BLOCK: u8 = 0x83;
const FOOTER: u8 = 0x86;

/// Repairs the checksums of header, sections and tail, and the tail's pointer to the footer.
/// A block's checksum is of its decoded bytes: it stays as it is.
pub fn checksums(wz: &mut [u8]) {
    let Some(tail) = wz.len().checked_sub(TAIL).filter(|&tail| tail >= HEADER) else {
        return;
    };
    let footer = frame_checksums(&mut wz[..tail]);
    wz[tail..tail + 8].copy_from_slice(&(footer as u64).to_le_bytes());
    let check = xxh3_64(&wz[tail..tail + 16]).to_le_bytes();
    wz[tail + 16..tail + 24].copy_from_slice(&check);
}

/// [`checksums`] of a frame, which has no tail; says where the last footer is, else 0.
pub fn frame_checksums(wz: &mut [u8]) -> usize {
    if wz.len() < HEADER {
        return 0;
    }
    let check = xxh3_64(&wz[..12]).to_le_bytes();
    wz[12..HEADER].copy_from_slice(&check[..4]);

    let (mut at, mut footer) = (HEADER, 0);
    while let Some(end) = end_of_section(wz, at) {
        match wz[at] {
            BLOCK => {}
            kind => {
                let parts = [&wz[at..at + 8], &wz[at + 16..end]].concat();
                wz[at + 8..at + 16].copy_from_slice(&xxh3_64(&parts).to_le_bytes());
                footer = if kind == FOOTER { at } else { footer };
            }
        }
        at = end.next_multiple_of(16);
    }
    footer
}

/// Where the payload of the section at `at` ends, without padding; `None` if that isn't inside.
fn end_of_section(wz: &[u8], at: usize) -> Option<usize> {
    let length = wz.get(at + 4..at + 16)?.first_chunk().copied()?;
    let end = at + 16 + usize::try_from(u32::from_le_bytes(length)).ok()?;
    (end <= wz.len()).then_some(end)
}
