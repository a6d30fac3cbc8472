//! Coding `difference` (spec: "Differences"): floats as how far they are from a base. Between
//! floats of one sign that is a difference of integers; its size and sign are a symbol, whose table
//! the base's exponent chooses, and what is left of it are raw bits.

use super::buckets::{self, Bounds};
use super::decode::{EIGHT_OF_THREAD, Eight};
use super::header::{get, get_states, put, width};
use super::shares::{self, CODE_BITS};
use super::{CARRIED, STILL, bad, carried, room, states_with, symbols};
use crate::codec::{PREAMBLE, base, le_u32, take};
use crate::error::Result;
use crate::scratch::{self, Kept};
use weightzip_kernels::GROUP;
use weightzip_kernels::difference::{self, SLACK};
use weightzip_kernels::escape;
use weightzip_kernels::field::{CHUNK, Float};
use weightzip_kernels::rans::{self, MAX_TABLES, Shares, Tables};
use weightzip_kernels::scale;
use weightzip_kernels::strip::{ALIGN, plane_len};

/// Symbols of a table, about.
const SYMBOLS: usize = 40;

/// Memory that a thread's blocks use one after another.
#[derive(Default)]
struct Scratch {
    ranks: Vec<u8>,
    bits: Vec<u8>,
    // When encoding.
    magnitudes: Vec<u8>,
    contexts: Vec<u8>,
    no_scales: Vec<u8>,
    escapes: Vec<u8>,
    words: Vec<u8>,
    by_exponent: Vec<[u32; 256]>,
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
}

/// Appends the coded floats to a payload that has its preamble; `None` if they wouldn't get smaller.
pub(in crate::codec) fn encode(
    float: Float,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<()> {
    scratch::with(&SCRATCH, |scratch| encode_with(scratch, float, base, data, payload))
}

fn encode_with(
    scratch: &mut Scratch,
    float: Float,
    base: &[u8],
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<()> {
    let (level, elements) = (weightzip_kernels::level(), data.len() / float.bytes);
    let len = plane_len(elements);
    let Scratch { ranks, bits, magnitudes, contexts, no_scales, escapes, words, by_exponent } =
        scratch;
    let (ranks, magnitudes) = (room(ranks, len), room(magnitudes, data.len()));
    difference::split(level, float, base, data, &mut ranks[..elements], magnitudes);
    let bits = room(bits, data.len() + SLACK);
    let end = difference::pack(level, float.bytes, &ranks[..elements], magnitudes, bits);
    let bits = &bits[..end.div_ceil(8)];

    let (contexts, each) = (room(contexts, len), std::array::from_fn(|e| e.to_le_bytes()[0]));
    difference::by_exponent(level, float, base, &each, contexts);
    by_exponent.clear();
    by_exponent.resize(256, [0; 256]);
    for (&exponent, &rank) in contexts.iter().zip(&ranks[..elements]) {
        by_exponent[usize::from(exponent)][usize::from(rank)] += 1;
    }
    let bounds = buckets::bounds(by_exponent, SYMBOLS, MAX_TABLES);
    let tables = buckets::tables(&bounds);
    contexts.iter_mut().for_each(|context| *context = tables[usize::from(*context)]);
    let counts = &mut buckets::counts(&bounds, by_exponent)[..buckets::count(&bounds)];

    let few = symbols::few(elements as u64, counts.len());
    let often = |rank: &u8| {
        counts.iter().map(|table| u64::from(table[usize::from(*rank)])).sum::<u64>() > few
    };
    let last = (1..=u8::MAX).rfind(often)?;
    for table in counts.iter_mut() {
        table[0] = table[usize::from(last) + 1..].iter().sum();
        table[usize::from(last) + 1..].fill(0);
    }
    let (escapes, no_scales) = (room(escapes, elements + escape::SLACK), room(no_scales, len));
    let escaped = scale::lower(level, STILL, last, 0, no_scales, elements, ranks, escapes);
    let escapes = &escapes[..escaped];
    let mut shares = Shares::new(Tables::Eight);
    let weights = symbols::weights(counts, &mut shares)?;
    let used = weights.len() / counts.len();
    // What fills the last group is any symbol of its table.
    let of_zero = &weights[usize::from(tables[0]) * used..][..used];
    let filler = of_zero.iter().position(|&code| code > 0).unwrap_or(0);
    ranks[elements..].fill(u8::try_from(filler).ok()?);
    let (bits, carried) = bits.split_at(bits.len().saturating_sub(CARRIED));
    let (words, mut states) = (room(words, 2 * (len + GROUP)), states_with(carried));
    let end = words.len();
    let at = rans::push(level, &shares, contexts, ranks, &mut states, words, end);

    let escape_width = width(escapes);
    payload[4..11].copy_from_slice(&bounds);
    payload[11] = u8::try_from(used.checked_sub(1)?).ok()?;
    payload[12] = escape_width.to_le_bytes()[0];
    base::put_hash(base, payload);
    payload.extend(u32::try_from(escaped).ok()?.to_le_bytes());
    payload.extend(u32::try_from(bits.len() + carried.len()).ok()?.to_le_bytes());
    payload.extend([0; 8]);
    put(level, &weights, CODE_BITS, payload);
    states.iter().for_each(|state| payload.extend(state.to_le_bytes()));
    payload.extend(bits);
    payload.resize(payload.len().next_multiple_of(ALIGN), 0);
    put(level, escapes, escape_width, payload);
    payload.extend(&words[at..]);
    (payload.len() < PREAMBLE + data.len()).then_some(())
}

/// `body` is what follows the base's hash.
pub(in crate::codec) fn decode(
    float: Float,
    base: &[u8],
    preamble: &[u8; PREAMBLE],
    body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    scratch::with(&SCRATCH, |scratch| decode_with(scratch, float, base, preamble, body, out))
}

fn decode_with(
    scratch: &mut Scratch,
    float: Float,
    base: &[u8],
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let level = weightzip_kernels::level();
    let [_, _, _, _, b0, b1, b2, b3, b4, b5, b6, last, width, 0, 0, 0] = *preamble else {
        return Err(bad("has unknown bits in its preamble"));
    };
    let bounds: Bounds = [b0, b1, b2, b3, b4, b5, b6];
    if width > 8 || !bounds.is_sorted() {
        return Err(bad("has impossible tables"));
    }
    let tables = buckets::tables(&bounds);
    let elements = out.len() / float.bytes;
    let (count, raw) = (le_u32(take(&mut body, 4)?) as usize, le_u32(take(&mut body, 4)?) as usize);
    if count > elements || raw > out.len() || take(&mut body, 8)?.iter().any(|&b| b != 0) {
        return Err(bad("has more than its elements"));
    }
    let used = usize::from(last) + 1;
    let weights = get(level, &mut body, used * buckets::count(&bounds), CODE_BITS)?;
    let mut states = get_states(&mut body)?;
    let stored = raw.saturating_sub(CARRIED);
    let Scratch { ranks, bits, .. } = scratch;
    let bits = room(bits, raw + SLACK);
    bits[..stored].copy_from_slice(take(&mut body, stored)?);
    if take(&mut body, stored.next_multiple_of(ALIGN) - stored)?.iter().any(|&b| b != 0) {
        return Err(bad("has unknown bits behind its raw bits"));
    }
    let mut escapes = get(level, &mut body, count, width.into())?;
    escapes.resize(count + escape::SLACK, 0);
    let ranks = room(ranks, plane_len(elements));
    scratch::with(&EIGHT_OF_THREAD, |Eight(slots)| {
        for (table, codes) in weights.chunks_exact(used).enumerate() {
            slots.set(table, &shares::shares(codes));
        }
        let (mut contexts, mut escaped) = ([0; CHUNK], 0);
        let chunks = ranks.chunks_mut(CHUNK).zip(base.chunks(CHUNK * float.bytes));
        for (ranks, base) in chunks {
            let contexts = &mut contexts[..ranks.len()];
            difference::by_exponent(level, float, base, &tables, contexts);
            let taken = rans::pop(level, slots, contexts, &mut states, body, ranks);
            body = &body[taken.ok_or_else(|| bad("has too few words"))?..];
            // What fills the last group doesn't escape.
            ranks[base.len() / float.bytes..].fill(1);
            escaped = scale::raise(level, STILL, &[0; CHUNK], &escapes, escaped, ranks);
            if escaped > count {
                return Err(bad("has too few escapes"));
            }
        }
        if escaped < count || !body.is_empty() {
            return Err(bad("has too many escapes or words"));
        }
        Ok(())
    })?;
    bits[stored..raw].copy_from_slice(&carried(&states, raw - stored)?);
    bits[raw..].fill(0);
    let end = difference::merge(level, float, base, ranks, bits, 0, out);
    let behind = bits.get(end / 8).map_or(0, |byte| byte >> (end % 8));
    match end.div_ceil(8) == raw && behind == 0 {
        true => Ok(()),
        false => Err(bad("has other raw bits than its symbols say")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    #[test]
    fn floats_come_back_from_their_base() {
        arbtest::arbtest(|u| {
            let dtype = *u.choose(&[Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F8E4M3])?;
            let float = dtype.record_layout().floats().unwrap();
            let mut seed = u.arbitrary::<u32>()?;
            let mut random = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8).to_le_bytes()
            };
            let elements = u.int_in_range(1..=5000)?;
            let base: Vec<u8> =
                (0..elements).flat_map(|_| random().into_iter().take(float.bytes)).collect();
            let (mut data, rare) = (base.clone(), u.int_in_range(1..=9)?);
            for element in data.chunks_exact_mut(float.bytes) {
                if random()[0] % rare == 0 {
                    element[0] = element[0].wrapping_add(random()[1] % 9);
                }
            }
            let mut payload = vec![0; PREAMBLE];
            if encode(float, &base, &data, &mut payload).is_none() {
                return Ok(());
            }
            let (preamble, mut body) = payload.split_first_chunk().unwrap();
            let checked = base::checked(Some(&base), data.len().max(999), &mut body);
            if data.len() >= 999 {
                checked.unwrap();
            }
            let mut out = vec![0x55; data.len()];
            decode(float, &base, preamble, body, &mut out).unwrap();
            assert!(out == data);
            Ok(())
        });
    }
}
