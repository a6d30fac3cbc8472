//! Planes in, floats out.

use super::header::Header;
use super::{Lines, SCRATCH, bad};
use crate::codec::context::Context;
use crate::codec::residuals::Subnormals;
use crate::codec::widths::MAX_PLANES;
use crate::codec::{PREAMBLE, take};
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
    let ranks = match (&header.ranks, context.and_then(|c| c.ranks.as_ref())) {
        (Some(own), _) => own,
        (None, Some(shared)) => &shared.table,
        (None, None) => return Err(bad("uses a rank table that its segment doesn't have")),
    };
    let (residuals_len, _) = header.narrowings.all_len(elements)?;
    let residuals = take(&mut body, residuals_len)?;
    let (count, width) = (header.subnormals as usize, header.subnormal_width);
    if count > elements {
        return Err(bad("has more subnormals than elements"));
    }
    let subnormals = take(&mut body, strip::packed_len(count, width))?;
    let level = weightzip_kernels::level();
    SCRATCH.with_borrow_mut(|scratch| {
        let mut subnormals =
            Subnormals::new(level, subnormals, count, width, &mut scratch.subnormals);
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
            let narrowing = header.narrowings.of(chunk)?;
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
