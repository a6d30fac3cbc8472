//! Coding `bytes` (spec: "Bytes"): records of one byte, such as 8-bit integers, as range-coded
//! symbols. Where such integers are in their matrix says next to nothing of them, so there is one
//! table and no scale.

use super::decode::SLOTS_OF_THREAD;
use super::header::{get, get_states, put, width};
use super::shares::{self, CODE_BITS};
use super::{CARRIED, STILL, bad, carried, states_with, symbols};
use crate::codec::PREAMBLE;
use crate::error::Result;
use weightzip_kernels::GROUP;
use weightzip_kernels::escape::SLACK;
use weightzip_kernels::field::CHUNK;
use weightzip_kernels::rans::{self, Shares, Tables};
use weightzip_kernels::scale;
use weightzip_kernels::strip::plane_len;

/// The bytes that have symbols: those with ranks from 1 to `last`, as much above `base` (modulo 256).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    base: u8,
    last: u8,
}

impl Window {
    /// All that occur often enough, outside of the longest stretch of others; `None` if none do.
    fn of(counts: &[u32; 256]) -> Option<Self> {
        let few = symbols::few(counts.iter().map(|&n| u64::from(n)).sum(), 1);
        let rare = |at: u8| u64::from(counts[usize::from(at)]) <= few;
        let stretch =
            |end: u8| (0..=u8::MAX).take_while(|&back| rare(end.wrapping_sub(back))).count();
        // If all occur often, the one that does least.
        let base =
            (0..=u8::MAX).rev().max_by_key(|&end| (stretch(end), !counts[usize::from(end)]))?;
        let last = (1..=u8::MAX).rfind(|&rank| !rare(base.wrapping_add(rank)))?;
        Some(Self { base, last })
    }
}

/// Appends the coded bytes to a payload that has its preamble; `None` if they wouldn't get smaller.
pub(in crate::codec) fn encode(data: &[u8], payload: &mut Vec<u8>) -> Option<()> {
    let whole = PREAMBLE + data.len();
    let (data, carried) = data.split_at(data.len().saturating_sub(CARRIED));
    let (level, len) = (weightzip_kernels::level(), plane_len(data.len()));
    let no_scales = vec![0; len];
    let [by_byte, ..] = symbols::occurrences(data, &no_scales);
    let window = Window::of(&by_byte)?;
    let mut ranks: Vec<u8> = data.iter().map(|byte| byte.wrapping_sub(window.base)).collect();
    ranks.resize(len, 0);
    let mut escapes = vec![0; data.len() + SLACK];
    let escaped = scale::lower(
        level,
        STILL,
        window.last,
        0,
        &no_scales,
        data.len(),
        &mut ranks,
        &mut escapes,
    );
    let escapes = &escapes[..escaped];
    let mut counts = [0; 256];
    for rank in 1..=window.last {
        counts[usize::from(rank)] = by_byte[usize::from(window.base.wrapping_add(rank))];
    }
    counts[0] = u32::try_from(escaped).ok()?;
    let mut shares = Shares::new(Tables::Four);
    let weights = symbols::weights(&[counts], &mut shares)?;
    // What fills the last group is any symbol.
    let filler = weights.iter().position(|&code| code > 0)?;
    ranks[data.len()..].fill(u8::try_from(filler).ok()?);
    let (mut words, mut states) = (vec![0; 2 * (len + GROUP)], states_with(carried));
    let end = words.len();
    let at = rans::push(level, &shares, &no_scales, &ranks, &mut states, &mut words, end);

    let escape_width = width(escapes);
    payload[4..7].copy_from_slice(&[window.base, window.last, escape_width.to_le_bytes()[0]]);
    payload[8..12].copy_from_slice(&counts[0].to_le_bytes());
    put(level, &weights, CODE_BITS, payload);
    states.iter().for_each(|state| payload.extend(state.to_le_bytes()));
    put(level, escapes, escape_width, payload);
    payload.extend(&words[at..]);
    (payload.len() < whole).then_some(())
}

pub(in crate::codec) fn decode(
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let level = weightzip_kernels::level();
    let [_, _, _, _, base, last, width, unknown, c0, c1, c2, c3, more @ ..] = *preamble;
    if width > 8 || unknown != 0 || more != [0; 4] {
        return Err(bad("has unknown bits in its preamble"));
    }
    let (out, from_states) = out.split_at_mut(out.len().saturating_sub(CARRIED));
    let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    if count > out.len() {
        return Err(bad("has more escapes than elements"));
    }
    let weights = get(level, &mut body, usize::from(last) + 1, CODE_BITS)?;
    let mut states = get_states(&mut body)?;
    let mut escapes = get(level, &mut body, count, width.into())?;
    escapes.resize(count + SLACK, 0);
    SLOTS_OF_THREAD.with_borrow_mut(|slots| {
        slots.set(0, &shares::shares(&weights));
        let (mut ranks, mut escaped) = ([0; CHUNK], 0);
        for out in out.chunks_mut(CHUNK) {
            let ranks = &mut ranks[..plane_len(out.len())];
            let taken = rans::pop(level, slots, &[0; CHUNK], &mut states, body, ranks);
            body = &body[taken.ok_or_else(|| bad("has too few words"))?..];
            // What fills the last group doesn't escape.
            ranks[out.len()..].fill(1);
            escaped = scale::raise(level, STILL, &[0; CHUNK], &escapes, escaped, ranks);
            if escaped > count {
                return Err(bad("has too few escapes"));
            }
            out.iter_mut().zip(ranks).for_each(|(byte, rank)| *byte = rank.wrapping_add(base));
        }
        if escaped < count || !body.is_empty() {
            return Err(bad("has too many escapes or words"));
        }
        from_states.copy_from_slice(&carried(&states, from_states.len())?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        arbtest::arbtest(|u| {
            let (spread, base) = (u.int_in_range(1..=256)?, u.arbitrary::<u8>()?);
            let mut seed = u.arbitrary::<u32>()?;
            let mut random = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 16) % spread
            };
            // The smallest of three: the lower, the more frequent.
            let mut byte = || base.wrapping_add(random().min(random()).min(random()) as u8);
            let mut data: Vec<u8> = (0..u.int_in_range(1..=9000)?).map(|_| byte()).collect();
            for _ in 0..u.int_in_range(0..=9)? {
                let at = u.choose_index(data.len())?;
                data[at] = u.arbitrary()?;
            }
            let mut payload = vec![0; PREAMBLE];
            if encode(&data, &mut payload).is_none() {
                return Ok(());
            }
            let (preamble, body) = payload.split_first_chunk().unwrap();
            let mut out = vec![0x55; data.len()];
            decode(preamble, body, &mut out).unwrap();
            assert!(out == data);
            // Not more than a fiftieth beyond the entropy, and what each payload has.
            let mut counts = [0u32; 256];
            data.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            let bits = |&n: &u32| f64::from(n) * (data.len() as f64 / f64::from(n.max(1))).log2();
            let entropy = counts.iter().map(bits).sum::<f64>() / 8.0;
            assert!((payload.len() as f64) < entropy * 1.02 + 500.0, "{} {entropy}", payload.len());
            Ok(())
        });
    }

    #[test]
    fn windows_leave_out_what_is_rare() {
        let counts = |often: &dyn Fn(usize) -> u32| std::array::from_fn(often);
        // Integers near zero, of both signs: the stretch of others is in the middle.
        let near_zero = counts(&|i| if !(20..=240).contains(&i) { 1000 } else { 1 });
        assert_eq!(Window::of(&near_zero), Some(Window { base: 240, last: 35 }));
        let all = counts(&|i| if i == 77 { 900 } else { 1000 });
        assert_eq!(Window::of(&all), Some(Window { base: 77, last: 255 }));
        assert_eq!(Window::of(&counts(&|i| u32::from(i < 9))), None);
    }
}
