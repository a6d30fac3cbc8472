//! Planes in, floats out.

use super::header::Header;
use super::{Lines, SCRATCH, bad, take};
use crate::codec::PREAMBLE;
use crate::codec::context::Context;
use crate::codec::widths::MAX_PLANES;
use crate::error::{Error, Result};
use weightzip_kernels::escape::{self, Plane, SLACK};
use weightzip_kernels::field::{self, CHUNK, Float, Residuals};
use weightzip_kernels::level::Level;
use weightzip_kernels::prefetch::prefetch;
use weightzip_kernels::strip;

pub(in crate::codec) fn decode<'a>(
    float: Float,
    context: Option<&Context>,
    preamble: &'a [u8; PREAMBLE],
    mut body: &'a [u8],
    out: &mut [u8],
) -> Result<()> {
    let elements = out.len() / float.bytes;
    let header = Header::read_from(preamble, &mut body, elements, float)?;
    let ranks = match (&header.ranks, context) {
        (Some(own), _) => own,
        (None, Some(context)) => &context.ranks,
        (None, None) => return Err(bad("uses a rank table that its segment doesn't have")),
    };
    let mut residuals_len = 0;
    for chunk in 0..elements.div_ceil(CHUNK) {
        let width = header.narrowing(chunk, float)?.width(float.mantissa_bits());
        residuals_len += strip::packed_len(CHUNK.min(elements - chunk * CHUNK), width);
    }
    let residuals = take(&mut body, residuals_len)?;
    let (count, width) = (header.subnormals as usize, header.subnormal_width);
    if count > elements {
        return Err(bad("has more subnormals than elements"));
    }
    let subnormals = take(&mut body, strip::packed_len(count, width))?;
    let level = weightzip_kernels::level();
    SCRATCH.with_borrow_mut(|scratch| {
        let mut subnormals = Subnormals::new(level, subnormals, count, width, &mut scratch.bytes);
        let (other, next) = (&mut scratch.ranks, &mut scratch.next);
        let (first, escaped) = escaped_ranks(level, &header, elements, body, other, next)?;
        let next = next.room_for(escaped);
        let exponents = ranks.exponents(float, header.widths.ranks());
        let (mut residuals, mut used, mut filled) = (residuals, 0, Aligned([0; CHUNK]));
        for (chunk, out) in out.chunks_mut(CHUNK * float.bytes).enumerate() {
            let (count, at) = (out.len() / float.bytes, chunk * CHUNK);
            let ranks = match first {
                Some(plane) => {
                    let filled = &mut filled.0[..strip::plane_len(count)];
                    used = escape::fill(level, plane, at, &next[..escaped + SLACK], used, filled);
                    if used > escaped {
                        return Err(other_escapes());
                    }
                    filled
                }
                None => &next[at..],
            };
            let narrowing = header.narrowing(chunk, float)?;
            let (width, dropped) = (narrowing.width(float.mantissa_bits()), narrowing.dropped);
            let packed = take(&mut residuals, strip::packed_len(count, width))?;
            prefetch(&residuals[..packed.len().min(residuals.len())]);
            let packed = Residuals { packed, width, dropped };
            field::merge(level, float, ranks, packed, &exponents, out);
            if narrowing.keeps_subnormals {
                subnormals.restore(float, out)?;
            }
        }
        if first.is_some() && used != escaped {
            return Err(other_escapes());
        }
        subnormals.finish()
    })
}

fn other_escapes() -> Error {
    bad("has another number of escapes than it states")
}

/// The first plane, if there is one, and how many elements escape from it, or all if there is none:
/// their ranks are in `next` then. `body` is all strips of planes, and nothing else.
fn escaped_ranks<'a>(
    level: Level,
    header: &Header<'_>,
    elements: usize,
    mut body: &'a [u8],
    ranks: &mut Lines,
    next: &mut Lines,
) -> Result<(Option<Plane<'a>>, usize)> {
    let (mut planes, mut used) = ([None; MAX_PLANES], 0);
    let (mut count, mut base) = (elements, 0u8);
    for (width, &escaped) in header.widths.planes().zip(&header.counts) {
        let packed = take(&mut body, strip::packed_len(count, width))?;
        planes[used] = Some(Plane { packed, count, width, base });
        used += 1;
        base += escape::decided(width);
        count = escaped as usize;
    }
    let tail = take(&mut body, strip::packed_len(count, header.widths.tail))?;
    if !body.is_empty() {
        return Err(bad("has bytes behind its last strip"));
    }
    let codes = &mut next.room_for(count)[..strip::plane_len(count)];
    strip::unpack(level, tail, count, header.widths.tail, codes);
    codes.iter_mut().for_each(|rank| *rank = rank.wrapping_add(base));
    let [first, rest @ ..] = planes;
    for plane in rest.iter().flatten().rev() {
        let filled = &mut ranks.room_for(plane.count)[..strip::plane_len(plane.count)];
        let escaped = &next.room_for(count)[..count + SLACK];
        if escape::fill(level, *plane, 0, escaped, 0, filled) != count {
            return Err(other_escapes());
        }
        count = plane.count;
        std::mem::swap(ranks, next);
    }
    Ok((first, count))
}

/// A chunk's ranks, in whole cache lines: they are written and read as such.
#[repr(align(64))]
struct Aligned([u8; CHUNK]);

/// Low bits of subnormals, in byte planes; taken one after another.
struct Subnormals<'a> {
    bytes: &'a [u8],
    len: usize,
    count: usize,
    used: usize,
}

impl<'a> Subnormals<'a> {
    fn new(level: Level, packed: &[u8], count: usize, width: u32, bytes: &'a mut Vec<u8>) -> Self {
        let len = strip::plane_len(count);
        bytes.clear();
        bytes.resize(width.div_ceil(8) as usize * len, 0);
        strip::unpack(level, packed, count, width, bytes);
        Self { bytes, len, count, used: 0 }
    }

    /// Gives the elements of `out` whose exponent is zero their low bits.
    fn restore(&mut self, float: Float, out: &mut [u8]) -> Result<()> {
        for i in 0..out.len() / float.bytes {
            if float.exponent(out, i) != 0 {
                continue;
            }
            if self.used == self.count {
                return Err(bad("has too few subnormals"));
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

    fn finish(self) -> Result<()> {
        match self.used == self.count {
            true => Ok(()),
            false => Err(bad("has too many subnormals")),
        }
    }
}
