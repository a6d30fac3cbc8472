//! What the blocks of a segment share (spec: "Contexts"). Coded once, before the first of them.

use super::Hints;
use super::ranges::{self, Columns};
use super::ranks::RankTable;
use crate::error::{Error, Result};
use crate::options::Level;
use crate::record::RecordLayout;
use weightzip_kernels::field::{self, EXPONENTS};

/// Wire id of a rank table; the critical bit is set, for blocks can't be decoded without it.
const RANKS: u8 = 0x81;

/// Wire id of scales of columns.
const COLUMNS: u8 = 0x82;

/// Largest context payload in bytes.
const MAX_CONTEXT_BYTES: usize = 64 << 10;

/// A segment's context: what its blocks may use instead of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub(super) ranks: Option<Ranks>,
    pub(super) columns: Option<Columns>,
}

/// A rank table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranks {
    /// Completed, so that every exponent of up to eight bits has a rank.
    pub(super) table: Box<RankTable>,
    /// Its entries that go on the wire: the exponents of the first block.
    seen: usize,
}

impl Ranks {
    fn new(seen: RankTable, exponent_bits: u32) -> Self {
        Self { seen: seen.len(), table: Box::new(seen.completed(exponent_bits)) }
    }
}

impl Context {
    /// The context of a segment that starts with the block `first`, and has more; `None` if its
    /// records have nothing to share.
    ///
    /// The first block alone decides, so that a pipe and a file give the same bytes.
    pub fn of_first_block(layout: &RecordLayout, hints: Hints, first: &[u8]) -> Option<Self> {
        let floats = layout.floats()?;
        if hints.level == Level::Max {
            let row = Some(hints.elements(layout, floats)).filter(|row| *row <= MAX_CONTEXT_BYTES);
            let columns = ranges::columns(floats, row?, first)?;
            return Some(Self { ranks: None, columns: Some(columns) });
        }
        let mut counts = [0; EXPONENTS];
        field::count_exponents(floats, first, &mut counts);
        let ranks = Ranks::new(RankTable::of(&counts)?, floats.exponent_bits);
        Some(Self { ranks: Some(ranks), columns: None })
    }

    /// The parts of both.
    pub(crate) fn joined(ranks: Option<Self>, columns: Option<Self>) -> Option<Self> {
        match (ranks, columns) {
            (Some(Self { ranks, .. }), Some(Self { columns, .. })) => Some(Self { ranks, columns }),
            (one, other) => one.or(other),
        }
    }

    /// Wire ids and payloads of its parts.
    pub(crate) fn to_wire(&self, layout: &RecordLayout) -> Vec<(u8, Vec<u8>)> {
        let ranks = self.ranks.as_ref().zip(layout.floats()).map(|(ranks, floats)| {
            let mut payload = Vec::new();
            ranks.table.write_first(ranks.seen, floats.exponent_bits, &mut payload);
            (RANKS, payload)
        });
        let columns = self.columns.as_ref().map(|columns| (COLUMNS, columns.to_wire()));
        ranks.into_iter().chain(columns).collect()
    }

    /// The context as a decoder will have it. An encoder works with this one, so that a fault in
    /// writing it shows when blocks are decoded again.
    pub(crate) fn read_back(&self, layout: &RecordLayout) -> Result<Option<Self>> {
        let mut context = None;
        for (id, payload) in self.to_wire(layout) {
            Self::add(&mut context, id, &payload, layout)?;
        }
        Ok(context)
    }

    /// Reads a part and adds it to those that the segment has.
    pub(crate) fn add(
        to: &mut Option<Self>,
        id: u8,
        payload: &[u8],
        layout: &RecordLayout,
    ) -> Result<()> {
        if payload.len() > MAX_CONTEXT_BYTES {
            return Err(Error::corrupt("a context has more than 64 KiB"));
        }
        let floats = || {
            layout
                .floats()
                .ok_or_else(|| Error::corrupt("a context of floats for records that are none"))
        };
        let twice = match id {
            RANKS => {
                let bits = floats()?.exponent_bits;
                let ranks = RankTable::read_from(payload, bits)
                    .ok_or_else(|| Error::corrupt("a rank table has impossible entries"))?;
                to.get_or_insert_default().ranks.replace(Ranks::new(ranks, bits)).is_some()
            }
            COLUMNS => {
                floats()?;
                let columns = Columns::from_wire(payload)?;
                to.get_or_insert_default().columns.replace(columns).is_some()
            }
            id if id & 0x80 == 0 => false,
            id => {
                return Err(Error::incompatible(format!(
                    "context type {id:#04x} is unknown; a newer weightzip may know it"
                )));
            }
        };
        match twice {
            true => Err(Error::corrupt("a segment has two contexts of a type")),
            false => Ok(()),
        }
    }
}
