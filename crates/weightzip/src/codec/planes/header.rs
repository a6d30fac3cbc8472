//! What a plane payload says before its strips (spec: "Planes").

use super::bad;
use crate::codec::escapes::{self, Counts};
use crate::codec::ranks::RankTable;
use crate::codec::residuals::Narrowings;
use crate::codec::widths::{MAX_PLANES, Widths};
use crate::codec::{PREAMBLE, take};
use crate::error::Result;
use weightzip_kernels::field::{CHUNK, Float};
use weightzip_kernels::strip::ALIGN;

/// The payload uses its segment's rank table.
const SHARED_RANKS: u8 = 1;
/// One narrowing serves all chunks.
const UNIFORM_CHUNKS: u8 = 2;

/// The header. Narrowings are as on the wire: one per chunk, or one for all.
pub(super) struct Header<'a> {
    pub(super) widths: Widths,
    /// The block's own table; else the segment's is used.
    pub(super) ranks: Option<RankTable>,
    /// Codes in each plane but the first, and behind the last one.
    pub(super) counts: Counts,
    pub(super) narrowings: Narrowings<'a>,
    pub(super) subnormals: u32,
    pub(super) subnormal_width: u32,
}

impl<'a> Header<'a> {
    /// Most bytes that the header of a block of so many chunks takes.
    pub(super) fn max_len(chunks: usize) -> usize {
        let counts = MAX_PLANES * size_of::<u32>();
        PREAMBLE + (counts + RankTable::wire_len(256, 11) + chunks).next_multiple_of(ALIGN)
    }

    /// Appends the header, behind the record count that it starts with.
    pub(super) fn write_to(&self, records: u32, exponent_bits: u32, out: &mut Vec<u8>) {
        let uniform = self.narrowings.uniform();
        let own = self.ranks.as_ref().map_or(0, RankTable::len);
        let start = out.len();
        out.extend(records.to_le_bytes());
        out.extend(self.widths.to_wire().to_le_bytes());
        out.push(self.widths.tail.to_le_bytes()[0]);
        out.push(
            if self.ranks.is_none() { SHARED_RANKS } else { 0 }
                | if uniform.is_some() { UNIFORM_CHUNKS } else { 0 },
        );
        out.extend(&own.to_le_bytes()[..2]);
        out.push(uniform.unwrap_or(0));
        out.push(self.subnormal_width.to_le_bytes()[0]);
        out.extend(self.subnormals.to_le_bytes());
        self.widths.planes().zip(self.counts).for_each(|(_, n)| out.extend(n.to_le_bytes()));
        if let Some(ranks) = &self.ranks {
            ranks.write_to(exponent_bits, out);
        }
        if uniform.is_none() {
            out.extend(self.narrowings.wire);
        }
        out.resize(start + (out.len() - start).next_multiple_of(ALIGN), 0);
    }

    /// Reads the header of a block of `elements` and takes it off `body`.
    pub(super) fn read_from(
        preamble: &'a [u8; PREAMBLE],
        body: &mut &'a [u8],
        elements: usize,
        float: Float,
    ) -> Result<Self> {
        let [_, _, _, _, w0, w1, tail, flags, r0, r1, chunk, subnormal_width, s0, s1, s2, s3] =
            *preamble;
        let widths = Widths::from_wire(u16::from_le_bytes([w0, w1]), tail)
            .ok_or_else(|| bad("has impossible plane widths"))?;
        let own = usize::from(u16::from_le_bytes([r0, r1]));
        let (uniform, shared) = (flags & UNIFORM_CHUNKS != 0, flags & SHARED_RANKS != 0);
        let unused = (!uniform && chunk != 0) || (shared && own != 0);
        let unknown = flags & !(SHARED_RANKS | UNIFORM_CHUNKS) != 0;
        if unknown || unused || u32::from(subnormal_width) > float.mantissa_bits() {
            return Err(bad("has unknown bits in its preamble"));
        }
        let whole = body.len();
        let counts = escapes::get_counts(&widths, elements, body)?;
        let own = take(body, RankTable::wire_len(own, float.exponent_bits))?;
        let ranks = RankTable::read_from(own, float.exponent_bits)
            .ok_or_else(|| bad("has an impossible rank table"))?;
        let narrowings = match uniform {
            true => &preamble[10..11],
            false => take(body, elements.div_ceil(CHUNK))?,
        };
        let narrowings = Narrowings::new(narrowings, float)?;
        let used = whole - body.len();
        take(body, used.next_multiple_of(ALIGN) - used)?;
        Ok(Self {
            widths,
            ranks: (!shared).then_some(ranks),
            counts,
            narrowings,
            subnormals: u32::from_le_bytes([s0, s1, s2, s3]),
            subnormal_width: u32::from(subnormal_width),
        })
    }
}
