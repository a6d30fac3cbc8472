//! Floats in, planes out.

use super::header::Header;
use super::{SCRATCH, Scratch};
use crate::codec::context::Context;
use crate::codec::ranks::RankTable;
use crate::codec::residuals::{Floats, Narrowings, Output};
use crate::codec::widths::Widths;
use crate::scratch;
use weightzip_kernels::field::{self, CHUNK, EXPONENTS, Float, NO_RANK, RankOf};
use weightzip_kernels::level::Level;

/// Codes a block into `payload`, in place of what is there, and returns where in it the block's
/// payload starts; `None` if the block has too many exponents.
pub(in crate::codec) fn encode(
    float: Float,
    context: Option<&Context>,
    records: u32,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<usize> {
    let mut counts = [0; EXPONENTS];
    let stands_for = field::count_exponents(float, data, &mut counts);
    counts.iter_mut().for_each(|n| *n *= stands_for);
    let own = RankTable::of(&counts).map(|table| Ranks::own(table, &counts));
    let shared = context.and_then(|c| Ranks::shared(&c.ranks.as_ref()?.table, &counts));
    let own_is_smaller = |own: &Ranks, shared: &Ranks| {
        own.estimate() + RankTable::wire_len(own.table.len(), float.exponent_bits)
            < shared.estimate()
    };
    // The second one is for the case that the first one lacks a rank.
    let (first, second) = match (own, shared) {
        (Some(own), Some(shared)) if own_is_smaller(&own, &shared) => (Some(own), None),
        (own, Some(shared)) => (Some(shared), own),
        (own, None) => (own, None),
    };
    scratch::with(&SCRATCH, |scratch| {
        let encoder = Encoder { float, level: weightzip_kernels::level(), data, scratch };
        encoder.encode_first_of([first, second], records, payload)
    })
}

/// A rank table in use, and how often each rank occurs, as far as was counted.
struct Ranks {
    table: RankTable,
    counts: [u32; 256],
    shared: bool,
}

impl Ranks {
    fn new(table: RankTable, by_exponent: &[u32; EXPONENTS], shared: bool) -> Self {
        let mut counts = [0; 256];
        for (count, &e) in counts.iter_mut().zip(table.as_slice()) {
            *count = by_exponent[usize::from(e)];
        }
        Self { table, counts, shared }
    }

    fn own(table: RankTable, by_exponent: &[u32; EXPONENTS]) -> Self {
        Self::new(table, by_exponent, false)
    }

    /// `None` if the table lacks an exponent.
    fn shared(table: &RankTable, by_exponent: &[u32; EXPONENTS]) -> Option<Self> {
        let ranks = Self::new(table.clone(), by_exponent, true);
        let all = |counts: &[u32]| counts.iter().map(|&n| u64::from(n)).sum::<u64>();
        let lacks_none = all(&ranks.counts) == all(by_exponent);
        (lacks_none && ranks.counts[usize::from(NO_RANK)] == 0).then_some(ranks)
    }

    /// Bytes that planes of these ranks take, about.
    fn estimate(&self) -> usize {
        let used = self.counts.iter().rposition(|&n| n > 0).map_or(0, |last| last + 1);
        Widths::best(&self.counts[..used]).bytes
    }

    /// Gives a rank to an exponent that was not counted.
    fn add(&mut self, exponent: u16, rank_of: &mut RankOf) -> Option<u8> {
        if self.shared {
            return None;
        }
        let rank = self.table.push(exponent)?;
        self.counts[usize::from(rank)] = 1;
        rank_of.set(exponent, rank);
        Some(rank)
    }
}

struct Encoder<'a> {
    float: Float,
    level: Level,
    data: &'a [u8],
    scratch: &'a mut Scratch,
}

impl Encoder<'_> {
    fn encode_first_of(
        mut self,
        choices: [Option<Ranks>; 2],
        records: u32,
        payload: &mut Vec<u8>,
    ) -> Option<usize> {
        choices.into_iter().flatten().find_map(|ranks| self.encode(ranks, records, payload))
    }

    /// `None` if there are exponents that can't have a rank.
    fn encode(&mut self, mut ranks: Ranks, records: u32, payload: &mut Vec<u8>) -> Option<usize> {
        let elements = self.data.len() / self.float.bytes;
        // The header's size shows last: strips start behind the room that it may need.
        let room = Header::max_len(elements.div_ceil(CHUNK));
        let mut out = Output { payload, end: room };
        self.residuals(&mut ranks, &mut out)?;
        let subnormal_width = self.scratch.found.encode_subnormals(self.level, &mut out);
        let widths = self.widths(&ranks, elements);
        let counts = self.scratch.escapes.encode(self.level, &widths, elements, &mut out);
        let header = Header {
            widths,
            ranks: (!ranks.shared).then_some(ranks.table),
            counts,
            narrowings: Narrowings::new(&self.scratch.found.narrowings, self.float).ok()?,
            subnormals: u32::try_from(self.scratch.found.subnormals.len()).ok()?,
            subnormal_width,
        };
        self.scratch.header.clear();
        header.write_to(records, self.float.exponent_bits, &mut self.scratch.header);
        let start = room - self.scratch.header.len();
        let end = out.end;
        payload[start..room].copy_from_slice(&self.scratch.header);
        payload.truncate(end);
        Some(start)
    }

    /// Packs the residuals and leaves the ranks and what was found in the scratch memory.
    fn residuals(&mut self, ranks: &mut Ranks, out: &mut Output<'_>) -> Option<()> {
        let Self { float, level, data, scratch } = self;
        let mut rank_of = ranks.table.rank_of();
        let all_ranks = scratch.escapes.ranks.room_for(data.len() / float.bytes);
        let missing = |exponent, rank_of: &mut RankOf| ranks.add(exponent, rank_of);
        let floats = Floats { level: *level, float: *float, data };
        scratch.found.encode(floats, &mut rank_of, all_ranks, out, missing)
    }

    /// The best widths for the ranks that there are.
    fn widths(&mut self, ranks: &Ranks, elements: usize) -> Widths {
        let all = &self.scratch.escapes.ranks.room_for(elements)[..elements];
        let used = match ranks.shared {
            true => usize::from(all.iter().copied().fold(0, u8::max)) + 1,
            false => ranks.table.len(),
        };
        Widths::best(&ranks.counts[..used])
    }
}
