//! The first 16 bytes of a file or frame (spec: "File header").

use super::bases::Bases;
use crate::error::{Error, Result};
use std::fmt;
use weightzip_kernels::xxh3::xxh3_64;

/// As in PNG: a byte that is not ASCII, and line ends that careless transfers change.
pub(crate) const MAGIC: [u8; 8] = [0x89, b'W', b'Z', 0x0D, 0x0A, 0x1A, 0x0A, 0x00];

/// Bytes of the file header.
pub(crate) const LEN: usize = 16;

/// Version of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 0 until the first stable release.
    pub major: u8,
    /// Counts changes within a major version.
    pub minor: u8,
}

impl Version {
    /// What this library writes.
    pub const CURRENT: Self = Self { major: 0, minor: 1 };

    /// Whether this library reads files of this version: of the 0.x ones, only its own.
    pub fn is_readable(self) -> bool {
        self == Self::CURRENT
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Whether a file that starts with these bytes is a `.wz` of any version.
///
/// ```
/// assert!(!weightzip::is_weightzip(b"GGUF"));
/// ```
pub fn is_weightzip(prefix: &[u8]) -> bool {
    prefix.starts_with(&MAGIC)
}

/// Whether a `.wz` that starts with these bytes, 16 or more, holds a file that was rounded.
pub fn is_rounded(prefix: &[u8]) -> bool {
    prefix.first_chunk().is_some_and(|header| read_file(header).is_ok_and(|(_, f)| f.is_rounded))
}

/// What a file has that its reader must know before all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Its original was rounded.
    pub(crate) is_rounded: bool,
    /// Ranges of its original are stored once: to be read at random.
    pub(crate) repeats: bool,
}

impl Flags {
    /// Refuses a header that says otherwise than the list of bases.
    pub(crate) fn check_repeats(self, bases: &Bases) -> Result<()> {
        match self.repeats == bases.repeated.is_empty() {
            true => Err(Error::corrupt("the bases repeat otherwise than the file header says")),
            false => Ok(()),
        }
    }
}

const FRAME: u8 = 1;
const ROUNDED: u8 = 2;
const REPEATS: u8 = 4;

/// The header of a file: segments, directory, footer, tail.
pub(crate) fn of_file(flags: Flags) -> [u8; LEN] {
    let rounded = if flags.is_rounded { ROUNDED } else { 0 };
    bytes(rounded | if flags.repeats { REPEATS } else { 0 })
}

/// The header of a frame: one segment.
pub(crate) fn of_frame() -> [u8; LEN] {
    bytes(FRAME)
}

fn bytes(flags: u8) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..11].copy_from_slice(&[Version::CURRENT.major, Version::CURRENT.minor, flags]);
    let check = xxh3_64(&bytes[..12]).to_le_bytes();
    bytes[12..].copy_from_slice(&check[..4]);
    bytes
}

/// The header of what starts with these bytes.
pub(crate) fn of(start: &[u8]) -> Result<&[u8; LEN]> {
    start.first_chunk().ok_or_else(|| {
        let why = match is_weightzip(start) {
            true => Error::short("the file ends within its header"),
            false => Error::argument("this is not a .wz file"),
        };
        why.at(0)
    })
}

/// Checks the header of a file.
pub(crate) fn read_file(bytes: &[u8; LEN]) -> Result<(Version, Flags)> {
    match read_from(bytes)? {
        (version, [flags, 0]) if flags & !(ROUNDED | REPEATS) == 0 => {
            let (is_rounded, repeats) = (flags & ROUNDED != 0, flags & REPEATS != 0);
            Ok((version, Flags { is_rounded, repeats }))
        }
        (_, [FRAME, 0]) => Err("this is a frame, not a file: the library decompresses it"),
        _ => Err(UNKNOWN_FLAGS),
    }
    .map_err(|why| Error::incompatible(why).at(10))
}

/// Checks the header of a frame.
pub(crate) fn read_frame(bytes: &[u8; LEN]) -> Result<Version> {
    match read_from(bytes)? {
        (version, [FRAME, 0]) => Ok(version),
        (_, [flags, 0]) if flags & !(ROUNDED | REPEATS) == 0 => {
            Err("this is a file, not a frame: decompress it as a file")
        }
        _ => Err(UNKNOWN_FLAGS),
    }
    .map_err(|why| Error::incompatible(why).at(10))
}

const UNKNOWN_FLAGS: &str = "the file header has flags that this version doesn't know";

/// The version, and the flags.
fn read_from(bytes: &[u8; LEN]) -> Result<(Version, [u8; 2])> {
    let (body, check) = bytes.split_at(12);
    if !is_weightzip(body) {
        return Err(Error::argument("this is not a .wz file: its first bytes are others").at(0));
    }
    if xxh3_64(body).to_le_bytes()[..4] != *check {
        return Err(Error::corrupt("the file header differs from its checksum").at(0));
    }
    let version = Version { major: body[8], minor: body[9] };
    if !version.is_readable() {
        let need = if version > Version::CURRENT { "a newer" } else { "an older" };
        let own = Version::CURRENT;
        return Err(Error::incompatible(format!(
            "the file has format version {version}, this weightzip reads {own}; use {need} one"
        ))
        .at(8));
    }
    Ok((version, [body[10], body[11]]))
}
