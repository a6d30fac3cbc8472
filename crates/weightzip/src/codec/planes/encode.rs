//! Floats in, planes out.

use super::header::Header;
use super::{SCRATCH, Scratch};
use crate::codec::context::Context;
use crate::codec::narrow::Narrowing;
use crate::codec::ranks::RankTable;
use crate::codec::widths::{MAX_PLANES, Widths};
use weightzip_kernels::escape;
use weightzip_kernels::field::{self, CHUNK, EXPONENTS, Float, NO_RANK, RankOf};
use weightzip_kernels::level::Level;
use weightzip_kernels::strip::{self, Planes};

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
    let shared = context.and_then(|c| Ranks::shared(&c.ranks, &counts));
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
    SCRATCH.with_borrow_mut(|scratch| {
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
        let subnormal_width = self.subnormals(&mut out);
        let widths = self.widths(&ranks, elements);
        let counts = self.planes(&widths, elements, &mut out);
        let header = Header {
            widths,
            ranks: (!ranks.shared).then_some(ranks.table),
            counts,
            narrowings: &self.scratch.narrowings,
            subnormals: u32::try_from(self.scratch.subnormals.len()).ok()?,
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

    /// Packs the residuals and leaves the ranks, narrowings and subnormals in the scratch memory.
    fn residuals(&mut self, ranks: &mut Ranks, out: &mut Output) -> Option<()> {
        let Self { float, level, data, scratch } = self;
        let (size, mantissa_bits) = (float.bytes, float.mantissa_bits());
        let planes = (mantissa_bits / 8) as usize + 1;
        scratch.bytes.resize(scratch.bytes.len().max(planes * CHUNK), 0);
        scratch.narrowings.clear();
        scratch.subnormals.clear();
        let mut rank_of = ranks.table.rank_of();
        let all_ranks = scratch.ranks.room_for(data.len() / size);
        for (data, chunk_ranks) in data.chunks(CHUNK * size).zip(all_ranks.chunks_mut(CHUNK)) {
            let bytes = &mut scratch.bytes[..planes * CHUNK];
            let found = field::split(*level, *float, data, &rank_of, chunk_ranks, bytes);
            let count = data.len() / size;
            if found.unranked {
                for (i, rank) in chunk_ranks[..count].iter_mut().enumerate() {
                    if *rank == NO_RANK {
                        let exponent = float.exponent(data, i);
                        *rank = match rank_of.get(exponent) {
                            NO_RANK => ranks.add(exponent, &mut rank_of)?,
                            rank => rank,
                        };
                    }
                }
            }
            let narrowing = Narrowing::best(&found, count, mantissa_bits);
            if narrowing.keeps_subnormals {
                let low = (1 << narrowing.dropped) - 1;
                let zeros = (0..count).filter(|&i| float.exponent(data, i) == 0);
                let residual =
                    |i| (0..planes).rev().fold(0, |r, k| r << 8 | u64::from(bytes[k * CHUNK + i]));
                scratch.subnormals.extend(zeros.map(|i| residual(i) & low));
            }
            scratch.narrowings.push(narrowing.to_wire());
            let width = narrowing.width(mantissa_bits);
            let packed = out.take(strip::packed_len(count, width));
            let planes = Planes { bytes, len: CHUNK };
            strip::pack(*level, planes, count, narrowing.dropped, width, packed);
        }
        Some(())
    }

    /// Packs the subnormals' low bits and returns their width.
    fn subnormals(&mut self, out: &mut Output) -> u32 {
        let Scratch { subnormals, bytes, .. } = &mut *self.scratch;
        let all = subnormals.iter().fold(0, |all, low| all | low);
        let width = u64::BITS - all.leading_zeros();
        let (count, len) = (subnormals.len(), strip::plane_len(subnormals.len()));
        let planes = width.div_ceil(8) as usize;
        bytes.clear();
        bytes.resize(planes * len, 0);
        for (i, low) in subnormals.iter().enumerate() {
            (0..planes).for_each(|k| bytes[k * len + i] = low.to_le_bytes()[k]);
        }
        if planes > 0 {
            let packed = out.take(strip::packed_len(count, width));
            strip::pack(self.level, Planes { bytes, len }, count, 0, width, packed);
        }
        width
    }

    /// The best widths for the ranks that there are.
    fn widths(&mut self, ranks: &Ranks, elements: usize) -> Widths {
        let all = &self.scratch.ranks.room_for(elements)[..elements];
        let used = match ranks.shared {
            true => usize::from(all.iter().copied().fold(0, u8::max)) + 1,
            false => ranks.table.len(),
        };
        Widths::best(&ranks.counts[..used])
    }

    /// Packs the ranks, which are lost; returns how many escape from each plane.
    fn planes(&mut self, widths: &Widths, elements: usize, out: &mut Output) -> [u32; MAX_PLANES] {
        let Scratch { ranks, next, .. } = &mut *self.scratch;
        let (mut counts, mut count, mut base) = ([0; MAX_PLANES], elements, 0);
        for (width, escaped) in widths.planes().zip(&mut counts) {
            let packed = out.take(strip::packed_len(count, width));
            let (from, to) = (ranks.room_for(count), next.room_for(count));
            count = escape::peel(self.level, from, count, base, width, packed, to);
            *escaped = u32::try_from(count).unwrap_or(u32::MAX);
            base += escape::decided(width);
            std::mem::swap(ranks, next);
        }
        let (ranks, len) = (ranks.room_for(count), strip::plane_len(count));
        ranks[..count].iter_mut().for_each(|rank| *rank -= base);
        ranks[count..len].fill(0);
        let packed = out.take(strip::packed_len(count, widths.tail));
        let planes = Planes { bytes: &ranks[..len], len: len.max(1) };
        strip::pack(self.level, planes, count, 0, widths.tail, packed);
        counts
    }
}

/// A payload that grows, in memory that is used again.
struct Output<'a> {
    payload: &'a mut Vec<u8>,
    end: usize,
}

impl Output<'_> {
    /// The next `len` bytes.
    fn take(&mut self, len: usize) -> &mut [u8] {
        let start = self.end;
        self.end += len;
        if self.payload.len() < self.end {
            self.payload.resize(self.end, 0);
        }
        &mut self.payload[start..self.end]
    }
}
