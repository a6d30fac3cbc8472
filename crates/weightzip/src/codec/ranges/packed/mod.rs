//! Coding `packed` (spec: "Packed"): integers of four bits, of which a word of 32 has eight, as GPTQ and AWQ store weights. How
//! large those were that an integer's lane met before in its group, and how large its channel's are, chooses the table of
//! its symbol.

mod choice;
mod planes;
#[cfg(test)]
mod tests;

pub(in crate::codec) use choice::suits;

use super::buckets::{self, Bounds};
use super::decode::{EIGHT_OF_THREAD, Eight};
use super::header::{get, get_states, put, width};
use super::shares::{self, CODE_BITS};
use super::{CARRIED, bad, carried, room, states_with, symbols};
use crate::codec::log2::cross_entropy;
use crate::codec::{PREAMBLE, take};
use crate::error::Result;
use crate::scratch::{self, Kept};
use choice::{ByKey, Choice, count};
use planes::{Form, Lanes, WORD};
use weightzip_kernels::GROUP;
use weightzip_kernels::packed::FILLER;
use weightzip_kernels::rans::{self, SLOTS, Shares, Tables};
use weightzip_kernels::strip::{ALIGN, plane_len};

/// The shortest row, in words: groups of symbols don't go beyond rows.
pub(in crate::codec) const LEAST_ROW: usize = 32;

/// Most channels of a group: more would not fit what lanes count.
const MAX_GROUP: u16 = 1024;

/// Symbols of a table.
const SYMBOLS: usize = 16;

/// Tables that keys choose among; one more is for what fills groups.
const TABLES: usize = FILLER as usize;

/// Flag: the integers of a word are of different lanes.
const ACROSS: u8 = 1;
/// Flag: lanes say which symbols are mirrored.
const LEANS: u8 = 2;

/// The key of what fills groups: no other has it.
const NO_KEY: u8 = u8::MAX;

/// Memory that a thread's blocks use one after another.
struct Scratch {
    lanes: Lanes,
    by_key: Box<ByKey>,
    symbols: Vec<u8>,
    contexts: Vec<u8>,
    words: Vec<u8>,
    shares: Shares,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            lanes: Lanes::default(),
            by_key: Box::new([[0; SYMBOLS]; 256]),
            symbols: Vec::new(),
            contexts: Vec::new(),
            words: Vec::new(),
            shares: Shares::new(Tables::Eight),
        }
    }
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
}

/// Bytes that words take, nearly, which are so many of each row of `row`: their share of what the block does.
pub(in crate::codec) fn cost(row: usize, sampled: usize, sample: &[u8]) -> usize {
    /// What a code that fits a channel's sample takes off of that alone, where a bit is 256.
    const HALF_A_NAT: u64 = 185;
    let level = weightzip_kernels::level();
    let coded = |counts: &[u32]| {
        let codes: Vec<u8> = shares::codes(counts).collect();
        cross_entropy(counts, &shares::shares(&codes))
    };
    let bits = scratch::with(&SCRATCH, |scratch| {
        let lanes = &mut scratch.lanes;
        let choice = Choice::of_sample(level, row, (sample, sampled), lanes);
        let too_little = choice.codes(sample).len() as u64 * HALF_A_NAT;
        let unseen = too_little * (row - sampled) as u64 / row as u64;
        choice.cost(level, row, sample, lanes, coded) + unseen
    });
    usize::try_from(bits >> 11).unwrap_or(usize::MAX)
}

/// Appends the coded words to a payload that has its preamble; `None` if they wouldn't get smaller.
pub(in crate::codec) fn encode(row: usize, data: &[u8], payload: &mut Vec<u8>) -> Option<()> {
    scratch::with(&SCRATCH, |scratch| encode_with(scratch, row, data, payload))
}

fn encode_with(
    scratch: &mut Scratch,
    row: usize,
    data: &[u8],
    payload: &mut Vec<u8>,
) -> Option<()> {
    let (preamble, whole) = (payload.len() - PREAMBLE, payload.len() + data.len());
    let level = weightzip_kernels::level();
    let Scratch { lanes, by_key, symbols, contexts, words, shares } = scratch;
    let (coded, carried) = data.split_at(data.len().saturating_sub(CARRIED));
    let choice = Choice::of(level, row, data, lanes);
    let (form, codes) = (choice.form, choice.codes(coded));
    by_key.fill([0; SYMBOLS]);
    symbols.clear();
    contexts.clear();
    lanes.spread(level, &form, &codes, coded, |keys, of_plane| {
        count(by_key, keys, of_plane);
        let end = symbols.len() + plane_len(keys.len());
        contexts.extend(keys);
        contexts.resize(end, NO_KEY);
        symbols.extend(of_plane);
        symbols.resize(end, 0);
    });
    let bounds = buckets::bounds(by_key.as_slice(), SYMBOLS, TABLES);
    let mut tables = buckets::tables(&bounds);
    tables[usize::from(NO_KEY)] = FILLER;
    contexts.iter_mut().for_each(|key| *key = tables[usize::from(*key)]);
    let counts = buckets::counts(&bounds, by_key.as_slice());
    let weights = symbols::weights(&counts[..buckets::count(&bounds)], shares)?;
    shares.set(FILLER.into(), &[SLOTS]);
    let (mut states, words) = (states_with(carried), room(words, 2 * (symbols.len() + GROUP)));
    let end = words.len();
    let at = rans::push(level, shares, contexts, symbols, &mut states, words, end);

    let used = weights.len() / buckets::count(&bounds);
    let [r0, r1, r2, 0] = u32::try_from(row).ok()?.to_le_bytes() else { return None };
    let [g0, g1] = form.group.to_le_bytes();
    let flags = if form.across { ACROSS } else { 0 } | if form.leans { LEANS } else { 0 };
    let (code_width, last) = (width(&codes), u8::try_from(used.checked_sub(1)?).ok()?);
    payload[preamble + 4..][..10].copy_from_slice(&[
        r0,
        r1,
        r2,
        flags,
        g0,
        g1,
        form.centre,
        form.prior,
        code_width.to_le_bytes()[0],
        last,
    ]);
    payload.extend(&bounds[..TABLES - 1]);
    payload.resize(payload.len() + ALIGN - (TABLES - 1), 0);
    if code_width > 0 {
        put(level, &codes, code_width, payload);
    }
    put(level, &weights, CODE_BITS, payload);
    states.iter().for_each(|state| payload.extend(state.to_le_bytes()));
    payload.extend(&words[at..]);
    (payload.len() < whole).then_some(())
}

pub(in crate::codec) fn decode(
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let level = weightzip_kernels::level();
    let [_, _, _, _, r0, r1, r2, flags, g0, g1, centre, prior, code_width, last, 0, 0] = *preamble
    else {
        return Err(bad("has unknown bits in its preamble"));
    };
    let (row, group) = (u32::from_le_bytes([r0, r1, r2, 0]) as usize, u16::from_le_bytes([g0, g1]));
    let used = usize::from(last) + 1;
    if flags > ACROSS | LEANS || code_width > 4 || used > SYMBOLS {
        return Err(bad("has unknown bits in its preamble"));
    }
    if row < LEAST_ROW || row > out.len() / WORD || !(1..=MAX_GROUP).contains(&group) || centre > 30
    {
        return Err(bad("has impossible rows, groups or integers"));
    }
    let (across, leans) = (flags & ACROSS != 0, flags & LEANS != 0);
    let form = Form { row, across, leans, group, centre, prior };
    let (out, from_states) = out.split_at_mut(out.len().saturating_sub(CARRIED));
    let mut bounds: Bounds = [u8::MAX; 7];
    bounds[..TABLES - 1].copy_from_slice(take(&mut body, TABLES - 1)?);
    let padding = take(&mut body, ALIGN - (TABLES - 1))?;
    if !bounds.is_sorted() || padding.iter().any(|&b| b != 0) {
        return Err(bad("has impossible tables"));
    }
    let codes = get(level, &mut body, form.channels(out.len()), code_width.into())?;
    let weights = get(level, &mut body, used * buckets::count(&bounds), CODE_BITS)?;
    let mut states = get_states(&mut body)?;
    let [bounds @ .., _] = bounds;
    scratch::with(&EIGHT_OF_THREAD, |Eight(slots)| {
        for (table, codes) in weights.chunks_exact(used).enumerate() {
            slots.set(table, &shares::shares(codes));
        }
        slots.set(FILLER.into(), &[SLOTS]);
        scratch::with(&SCRATCH, |scratch| {
            scratch.lanes.collect(level, &form, (&codes, &bounds), out, |tables, symbols| {
                let taken = rans::pop(level, slots, tables, &mut states, body, symbols);
                body = &body[taken.ok_or_else(|| bad("has too few words"))?..];
                Ok(())
            })
        })
    })?;
    if !body.is_empty() {
        return Err(bad("has too many words"));
    }
    from_states.copy_from_slice(&carried(&states, from_states.len())?);
    Ok(())
}
