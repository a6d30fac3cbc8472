//! Block tables (spec: "Block tables"): where a segment's blocks are, stored behind them.

use super::section::{BLOCK, LEN, Section};
use super::wire::Fields;
use crate::codec::{self, Block, Coding};
use crate::error::{Error, Result};
use crate::record::RecordLayout;

/// Bytes per entry.
pub(crate) const ENTRY: usize = 16;

/// Most records in a block; the count shares four bytes with the coding.
const MAX_RECORDS: u32 = (1 << 24) - 1;

/// A block as its header and its table entry state it, in the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Bytes of the payload.
    pub(crate) len: u32,
    pub(crate) coding: Coding,
    pub(crate) records: u32,
    /// XXH3-64 of the decoded bytes.
    pub(crate) check: u64,
}

impl Entry {
    pub(crate) fn of(block: &Block<'_>) -> Result<Self> {
        let &Block { coding, records, check, payload } = block;
        let len = u32::try_from(payload.len());
        let len = len.map_err(|_| Error::argument("a block takes more than 4 GiB"))?;
        Ok(Self { len, coding, records, check })
    }

    /// What a table must say of a block that is there.
    pub(crate) fn of_section(section: &Section, payload: &[u8]) -> Result<Self> {
        let coding = Coding::from_wire_id(section.sub)?;
        let records = codec::records_of(payload)?;
        Ok(Self { len: section.len, coding, records, check: section.check })
    }

    /// The block that has this entry and a payload.
    pub(crate) fn block<'a>(&self, payload: &'a [u8]) -> Block<'a> {
        let &Self { coding, records, check, .. } = self;
        Block { coding, records, check, payload }
    }

    pub(crate) fn section(&self) -> Section {
        Section { kind: BLOCK, sub: self.coding.wire_id(), len: self.len, check: self.check }
    }

    /// Bytes that the block decodes to, if they are within `limit` and its payload isn't larger.
    pub(crate) fn decoded_len(&self, layout: &RecordLayout, limit: usize) -> Result<usize> {
        let bytes = codec::check_size(layout, self.records, limit)?;
        if self.len as usize > bytes + codec::PREAMBLE {
            return Err(Error::corrupt("a block's payload is larger than what it decodes to"));
        }
        Ok(bytes)
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.extend(self.len.to_le_bytes());
        out.extend(&self.records.to_le_bytes()[..3]);
        out.push(self.coding.wire_id());
        out.extend(self.check.to_le_bytes());
    }

    fn read_from(from: &mut Fields<'_>) -> Result<Self> {
        let (len, [r0, r1, r2, coding], check) = (from.u32()?, from.array()?, from.u64()?);
        let records = u32::from_le_bytes([r0, r1, r2, 0]);
        Ok(Self { len, coding: Coding::from_wire_id(coding)?, records, check })
    }
}

pub(crate) fn write_to(entries: &[Entry], out: &mut Vec<u8>) -> Result<()> {
    if entries.iter().any(|e| e.records > MAX_RECORDS) {
        return Err(Error::argument("a block has too many records"));
    }
    entries.iter().for_each(|e| e.write_to(out));
    Ok(())
}

pub(crate) fn read_from(payload: &[u8]) -> Result<Vec<Entry>> {
    let mut from = Fields::of("a block table", payload);
    let entries =
        (0..payload.len() / ENTRY).map(|_| Entry::read_from(&mut from)).collect::<Result<_>>()?;
    from.finish()?;
    Ok(entries)
}

/// Bytes of a table's section.
pub(crate) fn section_len(blocks: u64) -> Option<u64> {
    blocks.checked_mul(ENTRY as u64)?.checked_add(LEN as u64)
}
