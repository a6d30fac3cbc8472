//! What the blocks of a segment share (spec: "Contexts"). Coded once, before the first of them.

use super::ranks::RankTable;
use crate::error::{Error, Result};
use crate::record::RecordLayout;
use weightzip_kernels::field::{self, EXPONENTS};

/// Wire id of a rank table; the critical bit is set, for blocks can't be decoded without it.
const RANKS: u8 = 0x81;

/// Largest context payload in bytes.
const MAX_CONTEXT_BYTES: usize = 64 << 10;

/// A segment's context: the rank table that its blocks may use instead of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Completed, so that every exponent of up to eight bits has a rank.
    pub(super) ranks: Box<RankTable>,
    /// Its entries that go on the wire: the exponents of the first block.
    seen: usize,
}

impl Context {
    fn new(seen: RankTable, exponent_bits: u32) -> Self {
        Self { seen: seen.len(), ranks: Box::new(seen.completed(exponent_bits)) }
    }

    /// The context of a segment that starts with the block `first`, and has more; `None` if its
    /// records have nothing to share.
    ///
    /// The first block alone decides, so that a pipe and a file give the same bytes.
    pub fn of_first_block(layout: &RecordLayout, first: &[u8]) -> Option<Self> {
        let floats = layout.floats()?;
        let mut counts = [0; EXPONENTS];
        field::count_exponents(floats, first, &mut counts);
        Some(Self::new(RankTable::of(&counts)?, floats.exponent_bits))
    }

    /// Wire id and payload.
    pub(crate) fn to_wire(&self, layout: &RecordLayout) -> (u8, Vec<u8>) {
        let mut payload = Vec::new();
        if let Some(floats) = layout.floats() {
            self.ranks.write_first(self.seen, floats.exponent_bits, &mut payload);
        }
        (RANKS, payload)
    }

    /// The context as a decoder will have it. An encoder works with this one, so that a fault in
    /// writing it shows when blocks are decoded again.
    pub(crate) fn read_back(&self, layout: &RecordLayout) -> Result<Option<Self>> {
        let (id, payload) = self.to_wire(layout);
        Self::from_wire(id, &payload, layout)
    }

    /// Reads a context and adds it to those that the segment has: so far there is one type only.
    pub(crate) fn add(
        to: &mut Option<Self>,
        id: u8,
        payload: &[u8],
        layout: &RecordLayout,
    ) -> Result<()> {
        if let Some(context) = Self::from_wire(id, payload, layout)?
            && to.replace(context).is_some()
        {
            return Err(Error::corrupt("a segment has two rank tables"));
        }
        Ok(())
    }

    /// The context of a wire id and payload; `None` if it is unknown and may be ignored.
    fn from_wire(id: u8, payload: &[u8], layout: &RecordLayout) -> Result<Option<Self>> {
        match id {
            _ if payload.len() > MAX_CONTEXT_BYTES => {
                Err(Error::corrupt("a context has more than 64 KiB"))
            }
            RANKS => {
                let floats = layout.floats().ok_or_else(|| {
                    Error::corrupt("a rank table for records that are not floats")
                })?;
                let ranks = RankTable::read_from(payload, floats.exponent_bits);
                let ranks =
                    ranks.ok_or_else(|| Error::corrupt("a rank table has impossible entries"))?;
                Ok(Some(Self::new(ranks, floats.exponent_bits)))
            }
            id if id & 0x80 == 0 => Ok(None),
            id => Err(Error::incompatible(format!(
                "context type {id:#04x} is unknown; a newer weightzip may know it"
            ))),
        }
    }
}
