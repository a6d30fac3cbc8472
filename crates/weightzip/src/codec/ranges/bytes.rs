//! Coding `bytes` (spec: "Bytes"): records of one byte, such as 8-bit integers, as range-coded
//! symbols. Where such integers are in their matrix says next to nothing of them, so there is one
//! table; the numbers of *fields* have scales beside them, which choose one of up to eight, and some are known.

use super::buckets::{self, Bounds};
use super::decode::{EIGHT_OF_THREAD, Eight};
use super::header::{get, get_states, put, width};
use super::shares::{self, CODE_BITS};
use super::{CARRIED, STILL, bad, carried, room, states_with, symbols};
use crate::codec::log2::{cross_entropy, entropy};
use crate::codec::{PREAMBLE, take};
use crate::error::Result;
use crate::scratch::{self, Kept};
use std::ops::Range;
use weightzip_kernels::GROUP;
use weightzip_kernels::escape::SLACK;
use weightzip_kernels::field::CHUNK;
use weightzip_kernels::level::Level;
use weightzip_kernels::rans::{self, MAX_TABLES, SLOTS, Shares, Tables};
use weightzip_kernels::scale;
use weightzip_kernels::strip::{ALIGN, packed_len, plane_len};

/// The bytes that have symbols: those with ranks from 1 to `last`, as much above `base` (modulo 256).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    base: u8,
    last: u8,
}

impl Window {
    /// All that occur often enough, outside of the longest stretch of others; `None` if none do.
    fn of(counts: &[u32; 256], tables: usize) -> Option<Self> {
        let few = symbols::few(counts.iter().map(|&n| u64::from(n)).sum(), tables);
        let rare = |at: u8| u64::from(counts[usize::from(at)]) <= few;
        let stretch =
            |end: u8| (0..=u8::MAX).take_while(|&back| rare(end.wrapping_sub(back))).count();
        // If all occur often, the one that does least.
        let base =
            (0..=u8::MAX).rev().max_by_key(|&end| (stretch(end), !counts[usize::from(end)]))?;
        let last = (1..=u8::MAX).rfind(|&rank| !rare(base.wrapping_add(rank)))?;
        Some(Self { base, last })
    }

    /// Turns how often bytes occur into how often their ranks do; those without one are escapes.
    fn apply(self, counts: &mut [u32; 256]) {
        counts.rotate_left(self.base.into());
        let (ranks, others) = counts.split_at_mut(usize::from(self.last) + 1);
        ranks[0] += others.iter().sum::<u32>();
        others.fill(0);
    }

    /// Turns bytes into symbols, and returns the ranks of those that escape.
    fn ranks<'a>(
        self,
        level: Level,
        data: &[u8],
        ranks: &mut [u8],
        escapes: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        let (escapes, mut escaped) = (room(escapes, data.len() + SLACK), 0);
        for (ranks, data) in ranks.chunks_mut(CHUNK).zip(data.chunks(CHUNK)) {
            ranks
                .iter_mut()
                .zip(data)
                .for_each(|(rank, byte)| *rank = byte.wrapping_sub(self.base));
            let (last, no_scales) = (self.last, &[0; CHUNK]);
            let to = &mut escapes[escaped..];
            escaped += scale::lower(level, STILL, last, 0, no_scales, data.len(), ranks, to);
        }
        &escapes[..escaped]
    }
}

/// The table of symbols that are known, if there are any: it has one symbol, which takes nothing.
const OF_KNOWN: u8 = 7;

/// The symbol in it: no escape.
const FILLER: u8 = 1;

/// What chooses the table of a symbol: a key for each run of as many symbols. Without keys there is one
/// table.
#[derive(Clone, Copy, Default)]
pub(in crate::codec) struct Keys<'a> {
    pub(in crate::codec) keys: &'a [u8],
    pub(in crate::codec) run: usize,
    /// Where symbols are that are known otherwise, in order: these decode to anything.
    pub(in crate::codec) known: &'a [u32],
}

impl Keys<'_> {
    /// How often each symbol occurs with each key, up to the last one that there is.
    fn count(&self, data: &[u8], counts: &mut Vec<[u32; 256]>) {
        counts.clear();
        if self.keys.is_empty() {
            counts.push(symbols::histogram(data));
        }
        let last = self.keys.iter().copied().fold(0, u8::max);
        counts.resize(usize::from(last) + 1, [0; 256]);
        for (&key, run) in self.keys.iter().zip(data.chunks(self.run.max(1))) {
            let counts = &mut counts[usize::from(key)];
            run.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        }
        for at in self.known_in(0..data.len()) {
            let key = at.checked_div(self.run).and_then(|run| self.keys.get(run));
            counts[usize::from(*key.unwrap_or(&0))][usize::from(data[at])] -= 1;
        }
    }

    /// The known symbols among some.
    fn known_in(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let from = self.known.partition_point(|&at| (at as usize) < range.start);
        let all = self.known[from..].iter().map(|&at| at as usize);
        all.take_while(move |&at| at < range.end)
    }

    /// Tables that keys may choose among.
    fn most_tables(&self) -> usize {
        match (self.keys, self.known) {
            ([], _) => 1,
            (_, []) => MAX_TABLES,
            _ => OF_KNOWN.into(),
        }
    }

    /// Fills `contexts` with the tables of the symbols from `start` on.
    fn contexts(&self, tables: &[u8; 256], start: usize, contexts: &mut [u8]) {
        contexts.fill(tables[0]);
        if let Some(first) = start.checked_div(self.run) {
            let (mut rest, mut len) = (&mut *contexts, self.run - start % self.run);
            for &key in self.keys.get(first..).unwrap_or(&[]) {
                let (run, more) = rest.split_at_mut(len.min(rest.len()));
                run.fill(tables[usize::from(key)]);
                (rest, len) = (more, self.run);
                if rest.is_empty() {
                    break;
                }
            }
        }
        let known = self.known_in(start..start + contexts.len());
        known.for_each(|at| contexts[at - start] = OF_KNOWN);
    }
}

/// Memory that a thread's blocks use one after another.
struct Scratch {
    by_key: Vec<[u32; 256]>,
    /// The bytes, if some are known.
    data: Vec<u8>,
    ranks: Vec<u8>,
    escapes: Vec<u8>,
    words: Vec<u8>,
    shares: Shares,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            by_key: Vec::new(),
            data: Vec::new(),
            ranks: Vec::new(),
            escapes: Vec::new(),
            words: Vec::new(),
            shares: Shares::new(Tables::Eight),
        }
    }
}

thread_local! {
    static SCRATCH: Kept<Scratch> = const { scratch::none() };
}

/// Which tables there are, and how often each symbol occurs with each.
struct Plan {
    bounds: Bounds,
    tables: [u8; 256],
    window: Window,
    counts: [[u32; 256]; MAX_TABLES],
}

impl Plan {
    /// `None` if nothing occurs often enough.
    fn of(data: &[u8], keys: Keys<'_>, by_key: &mut Vec<[u32; 256]>) -> Option<Self> {
        keys.count(data, by_key);
        let used = (0..256).filter(|&byte| by_key.iter().any(|counts| counts[byte] > 0)).count();
        let bounds = buckets::bounds(by_key, used, keys.most_tables());
        let tables = buckets::tables(&bounds);
        let (mut counts, count) = (buckets::counts(&bounds, by_key), buckets::count(&bounds));
        let by_byte = std::array::from_fn(|byte| counts.iter().map(|table| table[byte]).sum());
        let window = Window::of(&by_byte, count)?;
        counts[..count].iter_mut().for_each(|counts| window.apply(counts));
        Some(Self { bounds, tables, window, counts })
    }

    /// How often symbols occur with each table.
    fn counts(&self) -> &[[u32; 256]] {
        &self.counts[..buckets::count(&self.bounds)]
    }
}

/// Bytes that a payload takes, nearly; it may be more than `data` has.
pub(in crate::codec) fn cost(data: &[u8], keys: Keys<'_>) -> usize {
    costs(data, keys).map_or(PREAMBLE + data.len(), |costs| costs.iter().sum())
}

/// Bytes that symbols take, nearly, and what a payload does besides; `None` if none occurs often enough.
pub(in crate::codec) fn costs(data: &[u8], keys: Keys<'_>) -> Option<[usize; 2]> {
    let plan = scratch::with(&SCRATCH, |scratch| Plan::of(data, keys, &mut scratch.by_key))?;
    let (counts, mut bits) = (plan.counts(), 0);
    let used = usize::from(plan.window.last) + 1;
    for counts in counts {
        let codes: Vec<u8> = shares::codes(&counts[..used]).collect();
        bits += cross_entropy(counts, &shares::shares(&codes));
        // An escape has its rank elsewhere.
        bits += u64::from(counts[0]) << 11;
    }
    let weights = packed_len(used * counts.len(), CODE_BITS);
    let symbols = usize::try_from(bits >> 11).unwrap_or(usize::MAX);
    // The last ones are in the states.
    let carried = data.len().min(CARRIED) * symbols / data.len().max(1);
    Some([symbols, PREAMBLE + weights + GROUP * size_of::<u32>() - carried])
}

/// Bytes that an ideal coder needs.
pub(in crate::codec) fn ideal(data: &[u8]) -> usize {
    usize::try_from(entropy(&symbols::histogram(data)) >> 11).unwrap_or(usize::MAX)
}

/// Appends the coded bytes to a payload that has its preamble; `None` if they wouldn't get smaller.
pub(in crate::codec) fn encode(data: &[u8], keys: Keys<'_>, payload: &mut Vec<u8>) -> Option<()> {
    scratch::with(&SCRATCH, |scratch| encode_with(scratch, data, keys, payload))
}

fn encode_with(
    scratch: &mut Scratch,
    data: &[u8],
    keys: Keys<'_>,
    payload: &mut Vec<u8>,
) -> Option<()> {
    let preamble = payload.len() - PREAMBLE;
    let whole = payload.len() + data.len();
    let (data, carried) = data.split_at(data.len().saturating_sub(CARRIED));
    let level = weightzip_kernels::level();
    let Scratch { by_key, data: changed, ranks, escapes, words, shares } = scratch;
    let plan = Plan::of(data, keys, by_key)?;
    let (window, tables) = (plan.window, plan.counts().len());
    let data = match keys.known {
        [] => data,
        _ => {
            changed.clear();
            changed.extend_from_slice(data);
            let filler = window.base.wrapping_add(FILLER);
            keys.known_in(0..data.len()).for_each(|at| changed[at] = filler);
            changed
        }
    };
    let ranks = room(ranks, plane_len(data.len()));
    let escapes = window.ranks(level, data, ranks, escapes);
    let weights = symbols::weights(plan.counts(), shares)?;
    // What fills the last group is any symbol of its table.
    let used = weights.len() / tables;
    let filler = weights[..used].iter().position(|&code| code > 0).unwrap_or(0);
    ranks[data.len()..].fill(u8::try_from(filler).ok()?);
    if !keys.known.is_empty() {
        shares.set(OF_KNOWN.into(), &[0, SLOTS]);
    }
    let mut states = states_with(carried);
    let words = room(words, 2 * (ranks.len() + GROUP));
    let (mut at, mut contexts) = (words.len(), [0; CHUNK]);
    for (chunk, ranks) in ranks.chunks(CHUNK).enumerate().rev() {
        if tables > 1 || !keys.known.is_empty() {
            let there = (data.len() - chunk * CHUNK).min(CHUNK);
            keys.contexts(&plan.tables, chunk * CHUNK, &mut contexts[..there]);
            contexts[there..].fill(0);
        }
        at = rans::push(level, shares, &contexts, ranks, &mut states, words, at);
    }

    let (escape_width, more) = (width(escapes), tables - 1);
    let last = u8::try_from(used.checked_sub(1)?).ok()?;
    payload[preamble + 4..][..4].copy_from_slice(&[
        window.base,
        last,
        escape_width.to_le_bytes()[0],
        more.to_le_bytes()[0],
    ]);
    let escaped = u32::try_from(escapes.len()).ok()?;
    payload[preamble + 8..][..4].copy_from_slice(&escaped.to_le_bytes());
    payload.extend(&plan.bounds[..more]);
    payload.resize(payload.len() + more.next_multiple_of(ALIGN) - more, 0);
    put(level, &weights, CODE_BITS, payload);
    states.iter().for_each(|state| payload.extend(state.to_le_bytes()));
    put(level, escapes, escape_width, payload);
    payload.extend(&words[at..]);
    (payload.len() < whole).then_some(())
}

pub(in crate::codec) fn decode(
    preamble: &[u8; PREAMBLE],
    keys: Keys<'_>,
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let level = weightzip_kernels::level();
    let [_, _, _, _, base, last, width, more, c0, c1, c2, c3, unknown @ ..] = *preamble;
    let more = usize::from(more);
    if width > 8 || unknown != [0; 4] || more >= keys.most_tables() {
        return Err(bad("has unknown bits in its preamble"));
    }
    let (out, from_states) = out.split_at_mut(out.len().saturating_sub(CARRIED));
    let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    if count > out.len() {
        return Err(bad("has more escapes than elements"));
    }
    let mut bounds = [u8::MAX; 7];
    bounds[..more].copy_from_slice(take(&mut body, more)?);
    let padding = take(&mut body, more.next_multiple_of(ALIGN) - more)?;
    if !bounds.is_sorted() || buckets::count(&bounds) != more + 1 || padding.iter().any(|&b| b != 0)
    {
        return Err(bad("has impossible tables"));
    }
    let tables = buckets::tables(&bounds);
    let used = usize::from(last) + 1;
    let weights = get(level, &mut body, used * (more + 1), CODE_BITS)?;
    let mut states = get_states(&mut body)?;
    let mut escapes = get(level, &mut body, count, width.into())?;
    escapes.resize(count + SLACK, 0);
    scratch::with(&EIGHT_OF_THREAD, |Eight(slots)| {
        for (table, codes) in weights.chunks_exact(used).enumerate() {
            slots.set(table, &shares::shares(codes));
        }
        if !keys.known.is_empty() {
            slots.set(OF_KNOWN.into(), &[0, SLOTS]);
        }
        let (mut ranks, mut contexts, mut escaped) = ([0; CHUNK], [0; CHUNK], 0);
        for (chunk, out) in out.chunks_mut(CHUNK).enumerate() {
            let ranks = &mut ranks[..plane_len(out.len())];
            if more > 0 || !keys.known.is_empty() {
                keys.contexts(&tables, chunk * CHUNK, &mut contexts[..out.len()]);
                contexts[out.len()..].fill(0);
            }
            let taken = rans::pop(level, slots, &contexts, &mut states, body, ranks);
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
            let few: Vec<u8> = data.iter().map(|byte| byte >> 5).collect();
            for _ in 0..u.int_in_range(0..=9)? {
                let at = u.choose_index(data.len())?;
                data[at] = u.arbitrary()?;
            }
            let (mut known, often) = (Vec::new(), u.int_in_range(1..=50)?);
            if u.arbitrary()? {
                known.extend((0..data.len() as u32).filter(|at| at % often == at % 7));
            }
            let keys = |run: usize| Keys {
                keys: &few[..data.len().div_ceil(run)],
                run,
                ..Keys::default()
            };
            let keys =
                if u.arbitrary()? { keys(u.int_in_range(1..=300)?) } else { Keys::default() };
            let keys = Keys { known: &known, ..keys };
            let mut payload = vec![0; PREAMBLE];
            if encode(&data, keys, &mut payload).is_none() {
                return Ok(());
            }
            let (preamble, body) = payload.split_first_chunk().unwrap();
            let mut out = vec![0x55; data.len()];
            decode(preamble, keys, body, &mut out).unwrap();
            for &at in &known {
                // Something else is told of them.
                out[at as usize] = data[at as usize];
            }
            assert!(out == data);
            if !known.is_empty() {
                return Ok(());
            }
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
        assert_eq!(Window::of(&near_zero, 1), Some(Window { base: 240, last: 35 }));
        let all = counts(&|i| if i == 77 { 900 } else { 1000 });
        assert_eq!(Window::of(&all, 1), Some(Window { base: 77, last: 255 }));
        assert_eq!(Window::of(&counts(&|i| u32::from(i < 9)), 1), None);
    }
}
