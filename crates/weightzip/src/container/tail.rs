//! The last 32 bytes of a file (spec: "Tail"): where a reader that can seek begins.

use crate::error::{Error, Result};
use weightzip_kernels::xxh3::xxh3_64;

/// Bytes of the tail.
pub(crate) const LEN: usize = 32;

const MAGIC: [u8; 8] = [0x89, b'w', b'z', b'e', b'n', b'd', 0x0A, 0x00];

/// Writes the tail of a file whose footer starts at `footer`.
pub(crate) fn write_to(footer: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend(footer.to_le_bytes());
    out.extend([0; 8]);
    out.extend(xxh3_64(&out[start..]).to_le_bytes());
    out.extend(MAGIC);
}

/// Where the footer starts in a file of `size` bytes.
pub(crate) fn read_from(bytes: &[u8; LEN], size: u64) -> Result<u64> {
    let (body, rest) = bytes.split_at(16);
    if rest[8..] != MAGIC {
        return Err(Error::short(
            "the file doesn't end as a .wz does: it is cut short, or something was appended",
        )
        .at(size));
    }
    if xxh3_64(body).to_le_bytes() != rest[..8] {
        return Err(Error::corrupt("the tail differs from its checksum").at(size - LEN as u64));
    }
    let mut footer = [0; 8];
    footer.copy_from_slice(&body[..8]);
    let footer = u64::from_le_bytes(footer);
    if body[8..] != [0; 8] || footer > size - LEN as u64 {
        return Err(Error::corrupt("the tail points outside of the file").at(size - LEN as u64));
    }
    Ok(footer)
}
