//! Residuals of a block (spec: "Residual chunks"): per chunk of 1 Ki elements the bits that some of
//! them have, as strips. What two codings of floats share.

use super::narrow::Narrowing;
use crate::error::{Error, Result};
use weightzip_kernels::field::{self, CHUNK, Float, NO_RANK, RankOf};
use weightzip_kernels::level::Level;
use weightzip_kernels::strip::{self, Planes, packed_len, plane_len};

/// A payload that grows, in memory that is used again.
pub(super) struct Output<'a> {
    pub(super) payload: &'a mut Vec<u8>,
    pub(super) end: usize,
}

impl Output<'_> {
    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> &mut [u8] {
        let start = self.end;
        self.end += len;
        if self.payload.len() < self.end {
            self.payload.resize(self.end, 0);
        }
        &mut self.payload[start..self.end]
    }
}

/// A block's floats, and the instructions to use.
#[derive(Clone, Copy)]
pub(super) struct Floats<'a> {
    pub(super) level: Level,
    pub(super) float: Float,
    pub(super) data: &'a [u8],
}

/// What is said of a block's residuals outside their strips, and the memory to find it.
#[derive(Default)]
pub(super) struct Found {
    /// Narrowings as on the wire, one per chunk.
    pub(super) narrowings: Vec<u8>,
    /// Low bits of subnormals.
    pub(super) subnormals: Vec<u64>,
    /// Bytes of the last chunk's strips.
    pub(super) last: usize,
    bytes: Vec<u8>,
}

impl Found {
    /// Packs the residuals of `floats` into `out`, and writes all ranks. `missing` gives a rank to
    /// an exponent that has none, or ends it all.
    pub(super) fn encode(
        &mut self,
        floats: Floats<'_>,
        rank_of: &mut RankOf,
        ranks: &mut [u8],
        out: &mut Output<'_>,
        mut missing: impl FnMut(u16, &mut RankOf) -> Option<u8>,
    ) -> Option<()> {
        let Floats { level, float, data } = floats;
        let mantissa_bits = float.mantissa_bits();
        let planes = (mantissa_bits / 8) as usize + 1;
        self.bytes.resize(self.bytes.len().max(planes * CHUNK), 0);
        self.narrowings.clear();
        self.subnormals.clear();
        for (data, ranks) in data.chunks(CHUNK * float.bytes).zip(ranks.chunks_mut(CHUNK)) {
            let bytes = &mut self.bytes[..planes * CHUNK];
            let found = field::split(level, float, data, rank_of, ranks, bytes);
            let count = data.len() / float.bytes;
            if found.unranked {
                for (i, rank) in ranks[..count].iter_mut().enumerate() {
                    if *rank == NO_RANK {
                        let exponent = float.exponent(data, i);
                        *rank = match rank_of.get(exponent) {
                            NO_RANK => missing(exponent, rank_of)?,
                            rank => rank,
                        };
                    }
                }
            }
            let narrowing = Narrowing::best(&found, count, mantissa_bits);
            if narrowing.keeps_subnormals {
                let low = (1 << narrowing.dropped) - 1;
                let zeros = (0..count).filter(|&i| float.is_zero(float.exponent(data, i)));
                let residual =
                    |i| (0..planes).rev().fold(0, |r, k| r << 8 | u64::from(bytes[k * CHUNK + i]));
                self.subnormals.extend(zeros.map(|i| residual(i) & low));
            }
            self.narrowings.push(narrowing.to_wire());
            let width = narrowing.width(mantissa_bits);
            self.last = packed_len(count, width);
            let planes = Planes { bytes, len: CHUNK };
            strip::pack(level, planes, count, narrowing.dropped, width, out.take(self.last));
        }
        Some(())
    }

    /// Packs the subnormals' low bits and returns their width.
    pub(super) fn encode_subnormals(&mut self, level: Level, out: &mut Output<'_>) -> u32 {
        let Self { subnormals, bytes, .. } = self;
        let all = subnormals.iter().fold(0, |all, low| all | low);
        let width = u64::BITS - all.leading_zeros();
        let (count, len) = (subnormals.len(), plane_len(subnormals.len()));
        let planes = width.div_ceil(8) as usize;
        bytes.clear();
        bytes.resize(planes * len, 0);
        for (i, low) in subnormals.iter().enumerate() {
            (0..planes).for_each(|k| bytes[k * len + i] = low.to_le_bytes()[k]);
        }
        if planes > 0 {
            let packed = out.take(packed_len(count, width));
            strip::pack(level, Planes { bytes, len }, count, 0, width, packed);
        }
        width
    }
}

/// Narrowings on the wire: one per chunk, or one for all.
#[derive(Clone, Copy)]
pub(super) struct Narrowings<'a> {
    pub(super) wire: &'a [u8],
    float: Float,
}

impl<'a> Narrowings<'a> {
    /// The one that all chunks have, if so.
    pub(super) fn uniform(self) -> Option<u8> {
        let first = *self.wire.first()?;
        self.wire.iter().all(|n| *n == first).then_some(first)
    }

    /// # Errors
    /// Corruption if one is impossible.
    pub(super) fn new(wire: &'a [u8], float: Float) -> Result<Self> {
        for &narrowing in wire {
            Narrowing::from_wire(narrowing, float.mantissa_bits())?;
        }
        Ok(Self { wire, float })
    }

    /// The narrowing of a chunk.
    pub(super) fn of(self, chunk: usize) -> Result<Narrowing> {
        let byte = match self.wire {
            [one] => *one,
            all => all[chunk],
        };
        Narrowing::from_wire(byte, self.float.mantissa_bits())
    }

    /// Bytes of the strips of `count` elements of a chunk.
    pub(super) fn packed_len(self, chunk: usize, count: usize) -> Result<usize> {
        Ok(packed_len(count, self.of(chunk)?.width(self.float.mantissa_bits())))
    }

    /// Bytes of the strips of all chunks of a block, and of its last one.
    pub(super) fn all_len(self, elements: usize) -> Result<(usize, usize)> {
        let (mut all, mut last) = (0, 0);
        for chunk in 0..elements.div_ceil(CHUNK) {
            last = self.packed_len(chunk, CHUNK.min(elements - chunk * CHUNK))?;
            all += last;
        }
        Ok((all, last))
    }
}

/// Low bits of subnormals, in byte planes; taken one after another.
pub(super) struct Subnormals<'a> {
    bytes: &'a [u8],
    len: usize,
    count: usize,
    used: usize,
}

impl<'a> Subnormals<'a> {
    pub(super) fn new(
        level: Level,
        packed: &[u8],
        count: usize,
        width: u32,
        bytes: &'a mut Vec<u8>,
    ) -> Self {
        let len = plane_len(count);
        bytes.clear();
        bytes.resize(width.div_ceil(8) as usize * len, 0);
        strip::unpack(level, packed, count, width, bytes);
        Self { bytes, len, count, used: 0 }
    }

    /// Gives the elements of `out` whose exponent is zero their low bits.
    pub(super) fn restore(&mut self, float: Float, out: &mut [u8]) -> Result<()> {
        for i in 0..out.len() / float.bytes {
            if !float.is_zero(float.exponent(out, i)) {
                continue;
            }
            if self.used == self.count {
                return Err(Error::corrupt("a block has too few subnormals"));
            }
            let element = &mut out[i * float.bytes..][..float.bytes];
            let codes = self.bytes.chunks_exact(self.len.max(1)).map(|plane| plane[self.used]);
            match float.big_endian {
                true => element.iter_mut().rev().zip(codes).for_each(|(byte, low)| *byte |= low),
                false => element.iter_mut().zip(codes).for_each(|(byte, low)| *byte |= low),
            }
            self.used += 1;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        match self.used == self.count {
            true => Ok(()),
            false => Err(Error::corrupt("a block has too many subnormals")),
        }
    }
}
