//! Coding `planes` (spec: "Planes"): floats as escape planes of exponent ranks and strips of
//! narrowed residuals. The idea of splitting exponent from the rest is the seed paper's byte
//! grouping (arXiv 2404.15198); planes replace its entropy coder.

use super::PREAMBLE;
use super::context::Context;
use super::narrow::{CHUNK, Narrowing};
use super::ranks::RankTable;
use super::widths::Widths;
use crate::error::{Error, Result};
use crate::record::FloatLayout;
use weightzip_kernels::field::{self, EXPONENTS, Float};
use weightzip_kernels::{Word, escape, strip};

/// The payload uses its segment's rank table.
const SHARED_RANKS: u8 = 1;
/// One narrowing serves all chunks.
const UNIFORM_CHUNKS: u8 = 2;

/// What a payload says before its strips.
struct Header {
    widths: Widths,
    /// The block's own table; else the segment's is used.
    ranks: Option<RankTable>,
    /// Codes in each plane but the first, and behind the last one.
    counts: Vec<u32>,
    chunks: Vec<Narrowing>,
    subnormals: u32,
    subnormal_width: u8,
}

impl Header {
    /// Fills in the preamble and appends what follows it.
    fn write_to(&self, exponent_bits: u8, out: &mut Vec<u8>) {
        let wire: Vec<u8> = self.chunks.iter().map(|c| c.to_wire()).collect();
        let uniform = wire.windows(2).all(|w| w[0] == w[1]);
        let own = self.ranks.as_ref().map_or(0, RankTable::len);
        out[4..6].copy_from_slice(&self.widths.to_wire().to_le_bytes());
        out[6] = self.widths.tail.to_le_bytes()[0];
        out[7] = if self.ranks.is_none() { SHARED_RANKS } else { 0 }
            | if uniform { UNIFORM_CHUNKS } else { 0 };
        out[8..10].copy_from_slice(&own.to_le_bytes()[..2]);
        out[10] = if uniform { wire[0] } else { 0 };
        out[11] = self.subnormal_width;
        out[12..16].copy_from_slice(&self.subnormals.to_le_bytes());
        self.counts.iter().for_each(|n| out.extend(n.to_le_bytes()));
        if let Some(ranks) = &self.ranks {
            ranks.write_to(exponent_bits, out);
        }
        if !uniform {
            out.extend(wire);
        }
        out.resize(out.len().next_multiple_of(strip::ALIGN), 0);
    }

    /// Reads the header of a block of `elements` and takes it off `body`.
    fn read_from(
        preamble: &[u8; PREAMBLE],
        body: &mut &[u8],
        elements: usize,
        float: Float,
    ) -> Result<Self> {
        let [_, _, _, _, w0, w1, tail, flags, r0, r1, chunk, subnormal_width, s0, s1, s2, s3] =
            *preamble;
        let widths = Widths::from_wire(u16::from_le_bytes([w0, w1]), tail)
            .ok_or_else(|| bad("has impossible plane widths"))?;
        let own = usize::from(u16::from_le_bytes([r0, r1]));
        let unused =
            (flags & UNIFORM_CHUNKS == 0 && chunk != 0) || (flags & SHARED_RANKS != 0 && own != 0);
        let unknown = flags & !(SHARED_RANKS | UNIFORM_CHUNKS) != 0;
        if unknown || unused || u32::from(subnormal_width) > float.mantissa_bits {
            return Err(bad("has unknown bits in its preamble"));
        }
        let exponent_bits = u8::try_from(float.exponent_bits).unwrap_or(u8::MAX);
        let whole = body.len();
        let counts: Vec<u32> =
            widths.planes().map(|_| take(body, 4).map(le_u32)).collect::<Result<_>>()?;
        let own = take(body, RankTable::wire_len(own, exponent_bits))?;
        let ranks = RankTable::read_from(own, exponent_bits)
            .ok_or_else(|| bad("has an impossible rank table"))?;
        let narrowing = |&byte: &u8| Narrowing::from_wire(byte, float.mantissa_bits);
        let chunks = match flags & UNIFORM_CHUNKS {
            0 => take(body, elements.div_ceil(CHUNK))?
                .iter()
                .map(narrowing)
                .collect::<Result<_>>()?,
            _ => vec![narrowing(&chunk)?; elements.div_ceil(CHUNK)],
        };
        let used = whole - body.len();
        take(body, used.next_multiple_of(strip::ALIGN) - used)?;
        let mut left = elements;
        for &n in &counts {
            if n as usize > std::mem::replace(&mut left, n as usize) {
                return Err(bad("has planes that grow"));
            }
        }
        let ranks = (flags & SHARED_RANKS == 0).then_some(ranks);
        Ok(Self {
            widths,
            ranks,
            counts,
            chunks,
            subnormals: u32::from_le_bytes([s0, s1, s2, s3]),
            subnormal_width,
        })
    }
}

/// False if the block has more than 256 exponents.
pub(super) fn encode(
    floats: FloatLayout,
    context: Option<&Context>,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> bool {
    let coded = match floats.bytes {
        1 => encode_words::<u8>(floats, context, data, payload),
        2 => encode_words::<u16>(floats, context, data, payload),
        4 => encode_words::<u32>(floats, context, data, payload),
        _ => encode_words::<u64>(floats, context, data, payload),
    };
    coded.is_some()
}

fn encode_words<T: Word>(
    floats: FloatLayout,
    context: Option<&Context>,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<()> {
    let float = floats.bits();
    let mut counts = [0; EXPONENTS];
    field::count_exponents::<T>(data, float, &mut counts);
    let (ranks, shared, widths) = choose_ranks(context, &counts, floats.exponent_bits)?;

    let elements = data.len() / T::BYTES;
    let (mut codes, mut residuals) = (vec![0; elements], vec![T::default(); elements]);
    field::split(data, float, &ranks.rank_of(), &mut codes, &mut residuals);

    let mantissa_bits = float.mantissa_bits;
    let (chunks, subnormals) = narrow(&codes, &residuals, ranks.rank(0), mantissa_bits);
    let subnormal_width = chunks.iter().filter(|c| c.keeps_subnormals).map(|c| c.dropped).max();
    let subnormal_width = subnormal_width.unwrap_or(0);
    let (counts, planes) = encode_ranks(codes, &widths);
    let header = Header {
        widths,
        ranks: (!shared).then_some(ranks),
        counts,
        chunks,
        subnormals: u32::try_from(subnormals.len()).ok()?,
        subnormal_width: subnormal_width.to_le_bytes()[0],
    };
    header.write_to(floats.exponent_bits, payload);
    for (chunk, residuals) in header.chunks.iter().zip(residuals.chunks_mut(CHUNK)) {
        if chunk.dropped > 0 {
            residuals.iter_mut().for_each(|r| *r = *r >> chunk.dropped);
        }
        strip::pack(residuals, chunk.width(mantissa_bits), payload);
    }
    strip::pack(&subnormals, subnormal_width, payload);
    payload.extend(planes);
    Some(())
}

/// The table that makes the block smaller, the segment's or its own; whether it is the segment's;
/// and the best widths with it.
fn choose_ranks(
    context: Option<&Context>,
    counts: &[u32; EXPONENTS],
    exponent_bits: u8,
) -> Option<(RankTable, bool, Widths)> {
    let own = RankTable::of(counts);
    let shared = context.and_then(|c| Some((&c.ranks, Widths::best(&c.ranks.by_rank(counts)?))));
    let own = own.and_then(|table| {
        let widths = Widths::best(&table.by_rank(counts)?);
        Some((table, widths))
    });
    match (own, shared) {
        (Some((table, widths)), Some((_, shared)))
            if widths.bytes + RankTable::wire_len(table.len(), exponent_bits) < shared.bytes =>
        {
            Some((table, false, widths))
        }
        (_, Some((table, widths))) => Some((table.clone(), true, widths)),
        (own, None) => own.map(|(table, widths)| (table, false, widths)),
    }
}

/// The chunks' narrowings, and the low bits of subnormals in chunks that keep them.
fn narrow<T: Word>(
    ranks: &[u8],
    residuals: &[T],
    zero_rank: Option<u8>,
    mantissa_bits: u32,
) -> (Vec<Narrowing>, Vec<T>) {
    let (mut chunks, mut subnormals) = (Vec::new(), Vec::new());
    for (ranks, residuals) in ranks.chunks(CHUNK).zip(residuals.chunks(CHUNK)) {
        let narrowing = Narrowing::best(ranks, residuals, zero_rank, mantissa_bits);
        if narrowing.keeps_subnormals {
            let low = T::ones(narrowing.dropped);
            let kept = ranks.iter().zip(residuals).filter(|(rank, _)| Some(**rank) == zero_rank);
            subnormals.extend(kept.map(|(_, &residual)| residual & low));
        }
        chunks.push(narrowing);
    }
    (chunks, subnormals)
}

/// Codes in each plane behind the first, and all strips, first plane first.
fn encode_ranks(mut codes: Vec<u8>, widths: &Widths) -> (Vec<u32>, Vec<u8>) {
    let (mut counts, mut strips, mut base) = (Vec::new(), Vec::new(), 0u8);
    for width in widths.planes() {
        let mut next = Vec::with_capacity(codes.len() / 2);
        escape::peel(&mut codes, base, width, &mut next);
        strip::pack(&codes, width, &mut strips);
        base += decided(width);
        counts.push(u32::try_from(next.len()).unwrap_or(u32::MAX));
        codes = next;
    }
    codes.iter_mut().for_each(|rank| *rank -= base);
    strip::pack(&codes, widths.tail, &mut strips);
    (counts, strips)
}

pub(super) fn decode(
    floats: FloatLayout,
    context: Option<&Context>,
    preamble: &[u8; PREAMBLE],
    body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    match floats.bytes {
        1 => decode_words::<u8>(floats, context, preamble, body, out),
        2 => decode_words::<u16>(floats, context, preamble, body, out),
        4 => decode_words::<u32>(floats, context, preamble, body, out),
        _ => decode_words::<u64>(floats, context, preamble, body, out),
    }
}

fn decode_words<T: Word>(
    floats: FloatLayout,
    context: Option<&Context>,
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let (float, elements) = (floats.bits(), out.len() / T::BYTES);
    let header = Header::read_from(preamble, &mut body, elements, float)?;
    let ranks = match (&header.ranks, context) {
        (Some(own), _) => own,
        (None, Some(context)) => &context.ranks,
        (None, None) => return Err(bad("uses a rank table that its segment doesn't have")),
    };
    let exponent_of = ranks.exponent_of();

    let chunk_len = |i: usize| CHUNK.min(elements - i * CHUNK);
    let width = |chunk: &Narrowing| chunk.width(float.mantissa_bits);
    let strips_len = header
        .chunks
        .iter()
        .enumerate()
        .map(|(i, c)| strip::packed_len(chunk_len(i), width(c)))
        .sum();
    let mut strips = take(&mut body, strips_len)?;
    let subnormals = decode_subnormals::<T>(&header, &mut body, elements)?;
    let codes = decode_ranks(&header, elements, body)?;

    let mut subnormals = subnormals.into_iter();
    let mut residuals = [T::default(); CHUNK];
    let outputs = out.chunks_mut(CHUNK * T::BYTES);
    for ((chunk, ranks), out) in header.chunks.iter().zip(codes.chunks(CHUNK)).zip(outputs) {
        let residuals = &mut residuals[..ranks.len()];
        let packed = take(&mut strips, strip::packed_len(ranks.len(), width(chunk)))?;
        strip::unpack(packed, width(chunk), residuals);
        if chunk.dropped > 0 {
            residuals.iter_mut().for_each(|r| *r = *r << chunk.dropped);
        }
        if chunk.keeps_subnormals {
            let zero_exponents = ranks
                .iter()
                .zip(&mut *residuals)
                .filter(|(r, _)| exponent_of[usize::from(**r)] == 0);
            for (_, residual) in zero_exponents {
                *residual |= subnormals.next().ok_or_else(|| bad("has too few subnormals"))?;
            }
        }
        field::merge(ranks, residuals, float, &exponent_of, out);
    }
    if subnormals.next().is_some() {
        return Err(bad("has too many subnormals"));
    }
    Ok(())
}

fn decode_subnormals<T: Word>(
    header: &Header,
    body: &mut &[u8],
    elements: usize,
) -> Result<Vec<T>> {
    let (count, width) = (header.subnormals as usize, u32::from(header.subnormal_width));
    if count > elements {
        return Err(bad("has more subnormals than elements"));
    }
    let mut low = vec![T::default(); count];
    strip::unpack(take(body, strip::packed_len(count, width))?, width, &mut low);
    Ok(low)
}

/// The elements' ranks; `body` is all strips of planes, and nothing else.
fn decode_ranks(header: &Header, elements: usize, mut body: &[u8]) -> Result<Vec<u8>> {
    let mut planes = Vec::new();
    let (mut count, mut base) = (elements, 0u8);
    for (width, &next) in header.widths.planes().zip(&header.counts) {
        planes.push((take(&mut body, strip::packed_len(count, width))?, width, count, base));
        base += decided(width);
        count = next as usize;
    }
    let mut ranks = vec![0u8; count];
    strip::unpack(
        take(&mut body, strip::packed_len(count, header.widths.tail))?,
        header.widths.tail,
        &mut ranks,
    );
    if !body.is_empty() {
        return Err(bad("has bytes behind its last strip"));
    }
    ranks.iter_mut().for_each(|rank| *rank = rank.wrapping_add(base));
    for (packed, width, count, base) in planes.into_iter().rev() {
        let mut codes = vec![0; count];
        strip::unpack(packed, width, &mut codes);
        if escape::fill(&mut codes, base, width, &ranks) != ranks.len() {
            return Err(bad("has another number of escapes than it states"));
        }
        ranks = codes;
    }
    Ok(ranks)
}

fn decided(width: u32) -> u8 {
    u8::try_from(escape::decided(width)).unwrap_or(u8::MAX)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (taken, rest) =
        bytes.split_at_checked(len).ok_or_else(|| bad("is shorter than its header says"))?;
    *bytes = rest;
    Ok(taken)
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b))
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a plane block {why}"))
}
