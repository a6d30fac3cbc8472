//! Ranges in, floats out.

use super::header::{Found, get};
use super::scales::{Columns, Scales};
use super::{CARRIED, TOP_BITS, bad, shares, wide};
use crate::codec::residuals::Subnormals;
use crate::codec::{PREAMBLE, take};
use crate::error::Result;
use crate::scratch::{self, Kept};
use weightzip_kernels::escape::SLACK;
use weightzip_kernels::field::{self, CHUNK, Exponents, Float, Residuals};
use weightzip_kernels::level::Level;
use weightzip_kernels::prefetch::prefetch;
use weightzip_kernels::rans::{self, Slots, Tables};
use weightzip_kernels::scale;
use weightzip_kernels::strip::{packed_len, plane_len};

thread_local! {
    /// A thread's tables, which its blocks use one after another.
    pub(super) static SLOTS_OF_THREAD: Kept<Slots> = const { scratch::none() };
    /// The same, where a context chooses one of eight.
    pub(super) static EIGHT_OF_THREAD: Kept<Eight> = const { scratch::none() };
}

/// Tables of which a context chooses one of eight.
pub(super) struct Eight(pub(super) Slots);

impl Default for Eight {
    fn default() -> Self {
        Self(Slots::new(Tables::Eight))
    }
}

pub(in crate::codec) fn decode<'a>(
    float: Float,
    columns: Option<&Columns>,
    preamble: &'a [u8; PREAMBLE],
    mut body: &'a [u8],
    out: &mut [u8],
) -> Result<()> {
    let level = weightzip_kernels::level();
    let float = wide(float).ok_or_else(|| bad("is of floats that it can't have"))?;
    let elements = out.len() / float.bytes;
    let header = Found::read_from(level, preamble, &mut body, elements, float)?;
    let columns = match (&header.columns, columns) {
        (Some(own), _) => own.as_slice(),
        (None, Some(Columns(shared))) if shared.len() == header.row => shared,
        (None, _) => return Err(bad("uses scales of columns that its segment doesn't have")),
    };
    let scales = Scales { rows: &header.rows, columns, row: header.row };
    let (all, last) = header.narrowings.all_len(elements)?;
    let carried = last.min(CARRIED);
    let residuals = take(&mut body, all - carried)?;
    let (count, width) = (header.subnormals, header.subnormal_width);
    let subnormals = take(&mut body, packed_len(count, width))?;
    let escapes = get(level, &mut body, header.escapes, header.escape_width)?;
    let mut subnormal_bytes = Vec::new();
    let subnormals = Subnormals::new(level, subnormals, count, width, &mut subnormal_bytes);
    scratch::with(&SLOTS_OF_THREAD, |slots| {
        for (table, codes) in header.weights.chunks_exact(header.used).enumerate() {
            slots.set(table, &shares::shares(codes));
        }
        Decoder {
            level,
            float,
            header: &header,
            scales,
            slots,
            residuals,
            words: body,
            escapes,
            subnormals,
        }
        .decode(out, last, carried)
    })
}

/// Bytes that planes take for the residuals of a block whose payload this is: with the top mantissa bits, which a chunk that drops all
/// bits below them may drop, too. `None` if that can't be told.
pub(in crate::codec) fn residuals_as_planes(
    float: Float,
    payload: &[u8],
    elements: usize,
) -> Option<usize> {
    let float = wide(float)?;
    let (preamble, mut body) = payload.split_first_chunk()?;
    let level = weightzip_kernels::level();
    let header = Found::read_from(level, preamble, &mut body, elements, float).ok()?;
    let of_chunk = |chunk: usize| {
        let narrowing = header.narrowings.of(chunk).ok()?;
        let tells = narrowing.dropped < float.mantissa_bits() && !narrowing.keeps_subnormals;
        let width = narrowing.width(float.mantissa_bits()) + TOP_BITS;
        tells.then(|| packed_len(CHUNK.min(elements - chunk * CHUNK), width))
    };
    (0..elements.div_ceil(CHUNK)).map(of_chunk).sum()
}

struct Decoder<'a> {
    level: Level,
    float: Float,
    header: &'a Found<'a>,
    scales: Scales<'a>,
    slots: &'a Slots,
    residuals: &'a [u8],
    words: &'a [u8],
    escapes: Vec<u8>,
    subnormals: Subnormals<'a>,
}

/// A byte for each element of a chunk, in whole cache lines.
#[repr(align(64))]
struct Lines([u8; CHUNK]);

impl Decoder<'_> {
    fn decode(mut self, out: &mut [u8], last: usize, carried: usize) -> Result<()> {
        let Self { level, float, header, .. } = self;
        let tops = header.tops(float, self.scales.largest(), &self.escapes);
        let exponents = Exponents::new(float, &tops);
        let (moves, mut escaped) = (header.symbols.moves, 0);
        self.escapes.resize(header.escapes + SLACK, 0);
        let (mut scales, mut ranks) = (Lines([0; CHUNK]), Lines([0; CHUNK]));
        let mut states = header.states;
        let chunks = out.len().div_ceil(CHUNK * float.bytes);
        for (chunk, out) in out.chunks_mut(CHUNK * float.bytes).enumerate() {
            let count = out.len() / float.bytes;
            let (ranks, scales) = (&mut ranks.0[..plane_len(count)], &mut scales.0);
            self.scales.fill(chunk * CHUNK, &mut scales[..count]);
            scales[count..].fill(0);
            let taken = rans::pop(level, self.slots, scales, &mut states, self.words, ranks);
            self.words = &self.words[taken.ok_or_else(|| bad("has too few words"))?..];
            // What fills the last group doesn't escape.
            ranks[count..].fill(1);
            escaped = scale::raise(level, moves, scales, &self.escapes, escaped, ranks);
            if escaped > header.escapes {
                return Err(bad("has too few escapes"));
            }
            if chunk + 1 < chunks {
                let packed =
                    take(&mut self.residuals, header.narrowings.packed_len(chunk, count)?)?;
                prefetch(&self.residuals[..packed.len().min(self.residuals.len())]);
                self.merge(chunk, ranks, packed, &exponents, out)?;
            } else {
                let mut packed = self.residuals.to_vec();
                if !self.words.is_empty() {
                    return Err(bad("has too many words"));
                }
                packed.extend(super::carried(&states, carried)?);
                debug_assert_eq!(packed.len(), last);
                self.merge(chunk, ranks, &packed, &exponents, out)?;
            }
        }
        if escaped < header.escapes {
            return Err(bad("has too many escapes"));
        }
        self.subnormals.finish()
    }

    fn merge(
        &mut self,
        chunk: usize,
        ranks: &[u8],
        packed: &[u8],
        exponents: &Exponents,
        out: &mut [u8],
    ) -> Result<()> {
        let narrowing = self.header.narrowings.of(chunk)?;
        let width = narrowing.width(self.float.mantissa_bits());
        let packed = Residuals { packed, width, dropped: narrowing.dropped };
        field::merge(self.level, self.float, ranks, packed, exponents, out);
        if narrowing.keeps_subnormals {
            self.subnormals.restore(self.float, out)?;
        }
        Ok(())
    }
}
