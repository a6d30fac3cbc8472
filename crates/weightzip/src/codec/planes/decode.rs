//! Planes in, floats out.

use super::header::Header;
use super::{SCRATCH, Scratch, bad};
use crate::codec::context::Context;
use crate::codec::residuals::Subnormals;
use crate::codec::{PREAMBLE, take};
use crate::error::Result;
use crate::scratch;
use weightzip_kernels::field::{self, CHUNK, Float, Residuals};
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
    scratch::with(&SCRATCH, |scratch| {
        let Scratch { escapes, subnormals: unpacked, .. } = scratch;
        let mut subnormals = Subnormals::new(level, subnormals, count, width, unpacked);
        let (widths, counts) = (&header.widths, &header.counts);
        let mut all_ranks = escapes.decode(level, widths, counts, elements, body)?;
        let exponents = ranks.exponents(float, widths.ranks());
        let mut residuals = residuals;
        for (chunk, out) in out.chunks_mut(CHUNK * float.bytes).enumerate() {
            let count = out.len() / float.bytes;
            let ranks = all_ranks.chunk(chunk * CHUNK, count)?;
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
        all_ranks.finish()?;
        subnormals.finish()
    })
}
