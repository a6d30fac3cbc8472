//! Coding `steps` (spec: "Steps"): floats as how far they are from a base. What a step's low bits are
//! worth is noise; how many of them are stored as they are, the base's exponent says. What is above
//! them is a rank, for escape planes.
//!
//! The seed paper (arXiv 2404.15198) codes the XOR with the base. Steps are decoded without an entropy
//! coder, at about twice the speed of `difference`.

mod choice;

pub(super) use choice::Choice;

use super::escapes::{self, get_counts, sampled};
use super::residuals::Output;
use super::widths::Widths;
use super::{PREAMBLE, base, le_u32, take};
use crate::error::{Error, Result};
use crate::scratch::{self, Kept};
use weightzip_kernels::GROUP;
use weightzip_kernels::difference::steps::{
    self, FAR, MAX_EXPONENTS, MAX_EXTRA, Parts, SLACK, Shifts,
};
use weightzip_kernels::field::{CHUNK, Float};
use weightzip_kernels::level::{Level, level};
use weightzip_kernels::strip::{self, ALIGN, Planes, packed_len, plane_len};
use weightzip_kernels::xxh3::Running;

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    escapes: escapes::Scratch,
    choice: choice::Scratch,
    /// When encoding, how many extra bits the elements of a chunk have, these bits, and byte planes
    /// of the bits that all have.
    counts: Vec<u8>,
    extra: Vec<u8>,
    planes: Vec<u8>,
    /// The extra bits of all.
    bits: Vec<u8>,
    far: Vec<u8>,
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
}

/// What a sample says of how a block's steps are best coded.
pub(super) fn choose(float: Float, base: &[u8], data: &[u8]) -> Choice {
    scratch::with(&SCRATCH, |scratch| Choice::of(&mut scratch.choice, level(), float, base, data))
}

/// Appends the coded floats to a payload that has its preamble; `None` if they wouldn't get smaller.
pub(super) fn encode(
    float: Float,
    shifts: &Shifts,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<()> {
    scratch::with(&SCRATCH, |scratch| encode_with(scratch, float, shifts, base, data, payload))
}

fn encode_with(
    scratch: &mut Scratch,
    float: Float,
    shifts: &Shifts,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<()> {
    let (level, elements) = (level(), data.len() / float.bytes);
    base::put_hash(base, payload);
    let header = payload.len();
    // The header's size shows last, but it has a largest one: strips go elsewhere until then.
    let mut strips = Vec::new();
    let mut out = Output { payload: &mut strips, end: 0 };
    let mut bits = split(scratch, level, float, shifts, base, data, &mut out);
    let ranks = &scratch.escapes.ranks.room_for(elements)[..elements];
    let widths = Widths::best(&sampled(ranks));
    bits.truncate(bits.len() - SLACK);
    out.take(bits.len().next_multiple_of(ALIGN))[..bits.len()].copy_from_slice(&bits);
    let extra_bytes = bits.len();
    scratch.bits = bits;
    let counts = scratch.escapes.encode(level, &widths, elements, &mut out);
    let end = out.end;

    payload[4..6].copy_from_slice(&widths.to_wire().to_le_bytes());
    payload[6] = widths.tail.to_le_bytes()[0];
    payload[7] = shifts.floor;
    payload[8] = shifts.fixed.to_le_bytes()[0];
    payload[9] = shifts.first;
    payload[10] = (shifts.used - 1).to_le_bytes()[0];
    let far = scratch.far.len() / float.bytes;
    payload[12..16].copy_from_slice(&u32::try_from(far).ok()?.to_le_bytes());
    payload.extend(u32::try_from(extra_bytes).ok()?.to_le_bytes());
    widths.planes().zip(counts).for_each(|(_, n)| payload.extend(n.to_le_bytes()));
    payload.extend(&shifts.extra[..shifts.used]);
    payload.extend(&scratch.far);
    payload.resize(header + (payload.len() - header).next_multiple_of(ALIGN), 0);
    payload.extend(&strips[..end]);
    (payload.len() < PREAMBLE + data.len()).then_some(())
}

/// Packs the bits that all elements have, and leaves ranks and what is far in the scratch memory;
/// returns the extra bits, with [`SLACK`] behind.
fn split(
    scratch: &mut Scratch,
    level: Level,
    float: Float,
    shifts: &Shifts,
    base: &[u8],
    data: &[u8],
    out: &mut Output<'_>,
) -> Vec<u8> {
    let Scratch { escapes, counts, extra, planes, far, .. } = scratch;
    let elements = data.len() / float.bytes;
    let mut bits = std::mem::take(&mut scratch.bits);
    bits.resize(bits.len().max(plane_len(elements) + SLACK), 0);
    counts.resize(CHUNK, 0);
    extra.resize(CHUNK, 0);
    planes.resize(float.bytes * CHUNK, 0);
    far.clear();
    let (all_ranks, size, mut at) = (escapes.ranks.room_for(elements), CHUNK * float.bytes, 0);
    let chunks = base.chunks(size).zip(data.chunks(size)).zip(all_ranks.chunks_mut(CHUNK));
    for ((base, data), ranks) in chunks {
        let count = data.len() / float.bytes;
        let len = plane_len(count);
        let (counts, extra) = (&mut counts[..len], &mut extra[..len]);
        steps::extra_bits(level, float, shifts, base, counts);
        extra.copy_from_slice(counts);
        // What fills the last group has no bits.
        planes.fill(0);
        let some_far =
            steps::split(level, float, shifts, base, data, extra, ranks, planes, CHUNK) > 0;
        at = steps::pack_extra(level, counts, extra, at, &mut bits);
        let packed = out.take(packed_len(count, shifts.fixed));
        let planes = Planes { bytes: planes, len: CHUNK };
        strip::pack(level, planes, count, 0, shifts.fixed, packed);
        if some_far {
            let whole = data.chunks_exact(float.bytes).zip(ranks.iter());
            whole.filter(|(_, rank)| **rank == FAR).for_each(|(whole, _)| far.extend(whole));
        }
    }
    bits.truncate(at.div_ceil(8) + SLACK);
    bits
}

/// What of a base and of its decoded block was hashed on the way.
pub(super) struct Hashed<'a> {
    pub(super) base: Running,
    pub(super) out: Option<&'a mut Running>,
}

/// `body` is what follows the base's hash.
pub(super) fn decode(
    float: Float,
    base: &[u8],
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
    hashed: &mut Hashed<'_>,
) -> Result<()> {
    let elements = out.len() / float.bytes;
    let header = Header::read_from(float, preamble, &mut body, elements)?;
    let chunk_len = |count| packed_len(count, header.shifts.fixed);
    let whole = elements / CHUNK;
    let fixed_len = whole * chunk_len(CHUNK) + chunk_len(elements - whole * CHUNK);
    let mut fixed = take(&mut body, fixed_len)?;
    let padded_bits = body;
    let extra = take(&mut body, header.extra_bytes)?;
    take(&mut body, extra.len().next_multiple_of(ALIGN) - extra.len())?;
    let level = level();
    scratch::with(&SCRATCH, |scratch| {
        let Scratch { escapes, bits, .. } = scratch;
        // What may be read behind the extra bits is what is stored behind them, or zeros.
        let bits = match padded_bits.get(..extra.len() + SLACK) {
            Some(bits) => bits,
            None => {
                bits.clear();
                bits.extend(extra);
                bits.resize(extra.len() + SLACK, 0);
                bits
            }
        };
        let mut ranks = escapes.decode(level, &header.widths, &header.counts, elements, body)?;
        let (mut at, mut far) = (0, header.far.chunks_exact(float.bytes));
        let (size, last) = (CHUNK * float.bytes, elements.div_ceil(CHUNK) - 1);
        for (chunk, (base, out)) in base.chunks(size).zip(out.chunks_mut(size)).enumerate() {
            let count = out.len() / float.bytes;
            let ranks = ranks.chunk(chunk * CHUNK, count)?;
            let packed = take(&mut fixed, chunk_len(count))?;
            let parts = Parts { shifts: &header.shifts, ranks, fixed: packed, extra: bits, at };
            let mut places = [0; CHUNK / GROUP];
            at = steps::merge(level, float, base, parts, out, &mut places);
            for (group, mut places) in places.into_iter().enumerate() {
                while places != 0 {
                    let i = group * GROUP + places.trailing_zeros() as usize;
                    let whole = far.next().ok_or_else(|| bad("has too few far elements"))?;
                    out[i * float.bytes..][..float.bytes].copy_from_slice(whole);
                    places &= places - 1;
                }
            }
            if chunk < last {
                hashed.base.add(level, base);
                hashed.out.iter_mut().for_each(|running| running.add(level, out));
            }
        }
        ranks.finish()?;
        let behind = extra.get(at / 8).map_or(0, |byte| byte >> (at % 8));
        match far.next().is_none() && at.div_ceil(8) == extra.len() && behind == 0 {
            true => Ok(()),
            false => Err(bad("has other elements than it states")),
        }
    })
}

/// What a payload says before its strips.
struct Header<'a> {
    widths: Widths,
    counts: escapes::Counts,
    shifts: Shifts,
    extra_bytes: usize,
    /// Elements that are stored whole.
    far: &'a [u8],
}

impl<'a> Header<'a> {
    fn read_from(
        float: Float,
        preamble: &[u8; PREAMBLE],
        body: &mut &'a [u8],
        elements: usize,
    ) -> Result<Self> {
        let [_, _, _, _, w0, w1, tail, floor, fixed, first, last, 0, f0, f1, f2, f3] = *preamble
        else {
            return Err(bad("has unknown bits in its preamble"));
        };
        let widths = Widths::from_wire(u16::from_le_bytes([w0, w1]), tail)
            .ok_or_else(|| bad("has impossible plane widths"))?;
        let (fixed, used) = (u32::from(fixed), usize::from(last) + 1);
        let far = u32::from_le_bytes([f0, f1, f2, f3]) as usize;
        let impossible = fixed > steps::max_fixed(float)
            || used > MAX_EXPONENTS
            || u32::from(floor) >> float.exponent_bits != 0;
        let start = body.len();
        let extra_bytes = le_u32(take(body, size_of::<u32>())?) as usize;
        if impossible || far > elements || extra_bytes > elements {
            return Err(bad("has more than its elements"));
        }
        let counts = get_counts(&widths, elements, body)?;
        let mut extra = [0; MAX_EXPONENTS];
        extra[..used].copy_from_slice(take(body, used)?);
        if extra.iter().any(|&bits| bits > MAX_EXTRA) {
            return Err(bad("has impossible extra bits"));
        }
        let far = take(body, far * float.bytes)?;
        let length = start - body.len();
        if take(body, length.next_multiple_of(ALIGN) - length)?.iter().any(|&b| b != 0) {
            return Err(bad("has unknown bits behind its header"));
        }
        let shifts = Shifts { floor, fixed, first, extra, used };
        Ok(Self { widths, counts, shifts, extra_bytes, far })
    }
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a step block {why}"))
}
