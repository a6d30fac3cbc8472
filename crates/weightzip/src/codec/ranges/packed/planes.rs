//! The planes of a block's integers (spec: "Packed"), and what is known of each before it is read.

use std::ops::Range;
use weightzip_kernels::level::Level;
use weightzip_kernels::packed::{self, Mirror, Plane, Rates};
use weightzip_kernels::strip::plane_len;

/// Integers in a word.
pub(super) const PLACES: usize = 8;

/// Bytes of a word.
pub(super) const WORD: usize = 4;

/// Integers at the usual distance that a lane has met before its group starts.
pub(super) const BEFORE: u16 = 16;

/// Bit of a channel's code: its symbols are mirrored. The bits below say how large its integers are.
pub(super) const MIRRORED: u8 = 8;

/// The size of channels with the lowest code.
pub(super) const LEAST_SIZE: u8 = 8;

/// How a block's words are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Words in a row.
    pub(super) row: usize,
    /// The integers of a word are of one channel and eight lanes, not of eight channels and one lane.
    pub(super) across: bool,
    /// Lanes say which symbols are mirrored, not channels.
    pub(super) leans: bool,
    /// Channels of a group.
    pub(super) group: u16,
    /// Twice the number that integers are around.
    pub(super) centre: u8,
    /// Distances of the integers that a lane has met before its group starts, all together.
    pub(super) prior: u8,
}

/// A plane that is to be read.
pub(super) struct Ahead {
    plane: Plane,
    rates: Rates,
    lanes: Range<usize>,
    /// It is the first of its group.
    is_first: bool,
}

impl Form {
    /// Channels of the rows that so many bytes have.
    pub(super) fn channels(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.row * WORD) * if self.across { 1 } else { PLACES }
    }

    /// The channel of a plane.
    pub(super) fn channel(&self, row: usize, place: usize) -> usize {
        if self.across { row } else { row * PLACES + place }
    }

    /// What is known of a plane of so many words; channels without a code have 0.
    fn ahead(&self, (row, place): (usize, usize), words: usize, codes: &[u8]) -> Ahead {
        let channel = self.channel(row, place);
        let code = codes.get(channel).copied().unwrap_or(0);
        let met = u16::try_from(channel % usize::from(self.group)).unwrap_or(0);
        let (counted, size) = (met + BEFORE, u32::from(LEAST_SIZE + code % MIRRORED));
        let rate = u16::try_from((size << 15) / u32::from(counted)).unwrap_or(u16::MAX);
        let far = if self.leans { (3 * counted).div_ceil(2) } else { u16::MAX };
        let mirror = match self.leans {
            true => Mirror::Leaning,
            false if code >= MIRRORED => Mirror::Always,
            false => Mirror::Never,
        };
        let lane = if self.across { place * self.row } else { 0 };
        Ahead {
            plane: Plane { place: u32::try_from(place).unwrap_or(0), centre: self.centre, mirror },
            rates: Rates { prior: self.prior.into(), rate, far },
            lanes: lane..lane + words,
            is_first: met == 0,
        }
    }
}

/// What lanes have met in their group, and room for what that says of a plane.
#[derive(Default)]
pub(super) struct Lanes {
    distances: Vec<u16>,
    leans: Vec<i16>,
    keys: Vec<u8>,
    symbols: Vec<u8>,
}

impl Lanes {
    /// Makes room for all lanes.
    fn make_room(&mut self, form: &Form) {
        let lanes = form.row * if form.across { PLACES } else { 1 };
        self.distances.resize(lanes, 0);
        self.leans.resize(lanes, 0);
        self.keys.resize(plane_len(form.row), 0);
        self.symbols.resize(plane_len(form.row), 0);
    }

    /// Finds the keys of a plane.
    fn look(&mut self, level: Level, form: &Form, ahead: &Ahead) {
        let (distances, leans) =
            (&mut self.distances[ahead.lanes.clone()], &mut self.leans[ahead.lanes.clone()]);
        if ahead.is_first {
            distances.fill(0);
            leans.fill(0);
        }
        let leans: &[i16] = if form.leans { leans } else { &[] };
        packed::keys(level, ahead.rates, distances, leans, &mut self.keys[..distances.len()]);
    }

    /// Shows the keys and the symbols of each plane, in order.
    pub(super) fn spread(
        &mut self,
        level: Level,
        form: &Form,
        codes: &[u8],
        data: &[u8],
        mut see: impl FnMut(&[u8], &[u8]),
    ) {
        self.make_room(form);
        for (row, words) in data.chunks(form.row * WORD).enumerate() {
            for place in 0..PLACES {
                let ahead = form.ahead((row, place), words.len() / WORD, codes);
                self.look(level, form, &ahead);
                let Self { distances, leans, keys, symbols } = self;
                let (lanes, count) = (ahead.lanes.clone(), ahead.lanes.len());
                let (distances, leans) = (&mut distances[lanes.clone()], &mut leans[lanes]);
                let symbols = &mut symbols[..count];
                packed::spread(level, ahead.plane, words, distances, leans, symbols);
                see(&keys[..count], symbols);
            }
        }
    }

    /// Undoes [`spread`](Self::spread): `read` gives the symbols of a plane, of which whole groups are wanted, by its tables.
    pub(super) fn collect<E>(
        &mut self,
        level: Level,
        form: &Form,
        (codes, bounds): (&[u8], &[u8; 6]),
        out: &mut [u8],
        mut read: impl FnMut(&[u8], &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.make_room(form);
        for (row, words) in out.chunks_mut(form.row * WORD).enumerate() {
            words.fill(0);
            for place in 0..PLACES {
                let ahead = form.ahead((row, place), words.len() / WORD, codes);
                self.look(level, form, &ahead);
                let Self { distances, leans, keys, symbols } = self;
                let (lanes, whole) = (ahead.lanes.clone(), plane_len(ahead.lanes.len()));
                let (keys, symbols) = (&mut keys[..whole], &mut symbols[..whole]);
                packed::tables(level, bounds, lanes.len(), keys);
                read(keys, symbols)?;
                let (distances, leans) = (&mut distances[lanes.clone()], &mut leans[lanes]);
                packed::collect(level, ahead.plane, symbols, distances, leans, words);
            }
        }
        Ok(())
    }
}
