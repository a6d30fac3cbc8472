//! Sections (spec: "Sections"): 16 bytes of header, the payload, zeros up to a multiple of 16.

use super::{ALIGN, MAX_METADATA_BYTES};
use crate::error::{Error, Result};
use xxhash_rust::xxh3::Xxh3;

/// Bytes of a section header.
pub(crate) const LEN: usize = 16;

/// Set in a kind that a reader must not skip.
pub(crate) const CRITICAL: u8 = 0x80;

pub(crate) const SEGMENT: u8 = 0x81;
pub(crate) const CONTEXT: u8 = 0x82;
pub(crate) const BLOCK: u8 = 0x83;
pub(crate) const TABLE: u8 = 0x84;
pub(crate) const DIRECTORY: u8 = 0x85;
pub(crate) const FOOTER: u8 = 0x86;
pub(crate) const BASES: u8 = 0x87;
pub(crate) const LOSSES: u8 = 0x88;

/// What a section says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: u8,
    /// A block's coding or a context's type; 0 in other known kinds.
    pub(crate) sub: u8,
    /// Bytes of the payload without its padding.
    pub(crate) len: u32,
    /// XXH3-64: of a block's decoded bytes; else of the header's first 8 bytes and the payload.
    pub(crate) check: u64,
}

impl Section {
    /// The header of a section that is not a block.
    pub(crate) fn of(kind: u8, sub: u8, payload: &[u8]) -> Result<Self> {
        let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_METADATA_BYTES);
        let len =
            len.ok_or_else(|| Error::argument("the file's metadata takes more than 256 MiB"))?;
        let section = Self { kind, sub, len, check: 0 };
        Ok(Self { check: section.check_of(payload), ..section })
    }

    fn check_of(&self, payload: &[u8]) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&self.to_bytes()[..8]);
        hash.update(payload);
        hash.digest()
    }

    pub(crate) fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..2].copy_from_slice(&[self.kind, self.sub]);
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..].copy_from_slice(&self.check.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; LEN]) -> Result<Self> {
        let [kind, sub, 0, 0, l0, l1, l2, l3, check @ ..] = *bytes else {
            return Err(Error::corrupt("a section header has bits that must be zero"));
        };
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        Ok(Self { kind, sub, len, check: u64::from_le_bytes(check) })
    }

    /// Bytes of the payload with its padding.
    pub(crate) fn padded(&self) -> u64 {
        u64::from(self.len).next_multiple_of(ALIGN)
    }

    /// Bytes of header and padded payload.
    pub(crate) fn whole(&self) -> u64 {
        LEN as u64 + self.padded()
    }

    /// [`Section::whole`] for what is in memory.
    pub(crate) fn whole_len(&self) -> usize {
        LEN + (self.len as usize).next_multiple_of(LEN)
    }

    /// Fills `room` with the whole section.
    pub(crate) fn write_to(&self, payload: &[u8], room: &mut [u8]) {
        let (head, rest) = room.split_at_mut(LEN);
        let (body, padding) = rest.split_at_mut(payload.len());
        head.copy_from_slice(&self.to_bytes());
        body.copy_from_slice(payload);
        padding.fill(0);
    }

    /// Refuses a payload of more than `limit` bytes.
    pub(crate) fn check_len(&self, limit: usize) -> Result<()> {
        if self.len as usize <= limit {
            return Ok(());
        }
        let (name, len) = (self.name(), self.len);
        Err(Error::corrupt(format!("a {name} of {len} bytes is beyond the limit of {limit}")))
    }

    /// Checks a section that is not a block, and cuts the padding off its payload.
    pub(crate) fn open<'a>(&self, padded: &'a [u8]) -> Result<&'a [u8]> {
        let payload = self.unpad(padded)?;
        let subless = matches!(self.kind, SEGMENT | TABLE | DIRECTORY | FOOTER | BASES | LOSSES);
        if subless && self.sub != 0 {
            return Err(Error::corrupt(format!("the {} has a sub that must be zero", self.name())));
        }
        if self.check_of(payload) != self.check {
            return Err(Error::corrupt(format!("the {} differs from its checksum", self.name())));
        }
        Ok(payload)
    }

    /// The payload without its padding, which must be zero.
    pub(crate) fn unpad<'a>(&self, padded: &'a [u8]) -> Result<&'a [u8]> {
        match padded.split_at_checked(self.len as usize) {
            Some((payload, padding)) if padding.iter().all(|&b| b == 0) => Ok(payload),
            Some(_) => {
                Err(Error::corrupt(format!("the {} has padding that is not zero", self.name())))
            }
            None => Err(Error::short(format!("the {} is cut short", self.name()))),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            SEGMENT => "segment",
            CONTEXT => "context",
            BLOCK => "block",
            TABLE => "block table",
            DIRECTORY => "directory",
            FOOTER => "footer",
            BASES => "list of bases",
            LOSSES => "list of losses",
            _ => "unknown section",
        }
    }

    /// The error for a section that can't stand where it does.
    pub(crate) fn misplaced(&self) -> Error {
        match self.kind {
            SEGMENT..=LOSSES => {
                Error::corrupt(format!("a {} stands where it can't be", self.name()))
            }
            kind if kind & CRITICAL != 0 => Error::incompatible(format!(
                "section type {kind:#04x} is unknown; a newer weightzip may know it"
            )),
            kind => Error::corrupt(format!(
                "a section of type {kind:#04x} stands where none can be skipped"
            )),
        }
    }
}

/// Bytes of a whole section with a payload of `len`.
pub(crate) fn padded_section(len: u32) -> u64 {
    Section { kind: 0, sub: 0, len, check: 0 }.whole()
}

/// Goes through sections that are in memory, one behind another.
pub(crate) struct Sections<'a> {
    rest: &'a [u8],
    /// Offset of the next one in the file.
    at: u64,
    /// What it means if one leaves the memory.
    cut: fn() -> Error,
}

impl<'a> Sections<'a> {
    pub(crate) fn new(at: u64, bytes: &'a [u8], cut: fn() -> Error) -> Self {
        Self { rest: bytes, at, cut }
    }

    /// Offset of the next section.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next section and its padded payload; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(Section, &'a [u8])>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let cut = || (self.cut)().at(self.at);
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(cut)?;
        let section = Section::from_bytes(head).map_err(|e| e.at(self.at))?;
        let padded = usize::try_from(section.padded()).unwrap_or(usize::MAX);
        let (padded, rest) = rest.split_at_checked(padded).ok_or_else(cut)?;
        self.rest = rest;
        self.at += section.whole();
        Ok(Some((section, padded)))
    }
}
