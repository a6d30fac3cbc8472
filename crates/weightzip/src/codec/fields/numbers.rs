//! The small numbers of a record as symbols, and what the scales beside them say of each.

use super::super::ranges::bytes;
use super::super::sizes;
use super::peaks::Places;
use super::{bad, integers};
use crate::error::Result;
use crate::record::{ByteOrder, Field, RecordLayout, Role};
use weightzip_kernels::level::level;
use weightzip_kernels::numbers;

/// Small numbers: the field that has most of them, the one with their upper bits, and their scales.
pub(super) struct Numbers {
    low: Place,
    upper: Option<Place>,
    scale: Option<Place>,
    /// What the scale is multiplied with.
    factor: Option<Place>,
    order: ByteOrder,
}

/// What the scales say, and the memory to find it.
#[derive(Default)]
pub(super) struct Keys {
    keys: Vec<u8>,
    tops: Vec<i32>,
}

/// A field, and which one it is.
type Place = (usize, Field);

impl Numbers {
    pub(super) fn of(layout: &RecordLayout) -> Option<Self> {
        let fields = || layout.fields().iter().copied().enumerate();
        let small = |f: &Field| {
            matches!(f.role, Role::Unsigned | Role::Signed) && matches!(f.width, 1 | 2 | 4 | 8)
        };
        let of_most = |a: &Place, b: &Place| a.1.count.cmp(&b.1.count).then(b.0.cmp(&a.0));
        let low = fields().filter(|(_, f)| small(f)).max_by(of_most)?;
        let upper = fields().find(|(_, f)| f.role == Role::Upper);
        let fits = |(_, f): &Place| {
            f.count == low.1.count && matches!(f.width, 1 | 2 | 4) && f.width + low.1.width <= 8
        };
        if upper.is_some_and(|upper| !fits(&upper)) {
            return None;
        }
        let width = low.1.width + upper.map_or(0, |(_, f)| f.width);
        let shared = |f: &Field| low.1.count.is_multiple_of(f.count);
        // No exponent of more bits: sums of them stay small.
        let sized = |f: &Field| match f.role {
            Role::Float { .. } => f.width.is_multiple_of(8),
            role => role == Role::Exponent && f.width == 8,
        };
        let scale = fields().find(|(_, f)| sized(f) && shared(f));
        let factor = scale.and_then(|(_, scale)| {
            fields().find(|(at, f)| {
                let finer = shared(f) && f.count.is_multiple_of(scale.count);
                *at != low.0 && f.role == Role::Signed && f.width == 8 && finer
            })
        });
        // Single bits have nothing to tell.
        (width > 1).then_some(Self { low, upper, scale, factor, order: layout.order() })
    }

    /// Which field's place the symbols take.
    pub(super) fn place(&self) -> usize {
        self.low.0
    }

    /// Whether a field's numbers are in the symbols.
    pub(super) fn has(&self, field: usize) -> bool {
        field == self.low.0 || self.upper.is_some_and(|(upper, _)| field == upper)
    }

    /// Symbols of a record.
    pub(super) fn count(&self) -> usize {
        self.low.1.count.into()
    }

    /// The symbols of all records: each number with its upper bits.
    pub(super) fn unpack(&self, columns: &[Vec<u8>], symbols: &mut Vec<u8>) {
        let (at, field) = self.low;
        let column = &columns[at];
        symbols.clear();
        symbols.resize(column.len() * 8 / usize::from(field.width), 0);
        spread(&field, column, 0, symbols);
        if let Some((at, upper)) = self.upper {
            spread(&upper, &columns[at], field.width, symbols);
        }
    }

    /// Undoes [`unpack`](Self::unpack).
    pub(super) fn pack(&self, symbols: &[u8], columns: &mut [Vec<u8>]) -> Result<()> {
        let (at, field) = self.low;
        let width = field.width + self.upper.map_or(0, |(_, f)| f.width);
        let too_large = symbols.iter().fold(0, |all, s| all | s).checked_shr(width.into());
        if too_large.unwrap_or(0) != 0 {
            return Err(bad("has a symbol that its fields have no room for"));
        }
        collect(&field, symbols, 0, &mut columns[at]);
        if let Some((at, upper)) = self.upper {
            collect(&upper, symbols, field.width, &mut columns[at]);
        }
        Ok(())
    }

    /// A key for each run of symbols that has a scale of its own: how much larger it is than the mean
    /// of its row, in quarters of an octave.
    pub(super) fn keys(&self, row: usize, columns: &[Vec<u8>], keys: &mut Keys) {
        let Keys { tops, keys } = keys;
        tops.clear();
        keys.clear();
        let Some((at, field)) = self.scale else { return };
        let mut each = usize::from(field.count);
        let scales = self.tops(&field, &columns[at]);
        match self.factor {
            Some((at, factor)) => {
                let repeat = usize::from(factor.count) / each;
                let factors = columns[at].chunks_exact(repeat);
                for (top, factors) in scales.zip(factors) {
                    tops.extend(factors.iter().map(|&byte| top + size(byte)));
                }
                each *= repeat;
            }
            None => tops.extend(scales),
        }
        sizes::add_keys(tops, row.saturating_mul(each), keys);
    }

    /// How large scales are.
    fn tops(&self, field: &Field, column: &[u8]) -> impl Iterator<Item = i32> {
        let (width, role) = (field.width, field.role);
        let top = move |bits| match role {
            Role::Float { exponent_bits } => sizes::top(width, exponent_bits, bits),
            _ => sizes::top_of_exponent(bits),
        };
        integers(usize::from(field.width / 8), self.order, column).map(top)
    }

    /// The keys, for as many symbols each, and which symbols are peaks.
    pub(super) fn by<'a>(&self, keys: &'a Keys, places: &'a Places) -> bytes::Keys<'a> {
        let finest = self.factor.or(self.scale).map_or(1, |(_, f)| f.count);
        bytes::Keys {
            keys: &keys.keys,
            run: self.count() / usize::from(finest),
            known: places.known(),
        }
    }
}

/// Adds a field's numbers, `shift` bits up, to the symbols.
fn spread(field: &Field, column: &[u8], shift: u8, symbols: &mut [u8]) {
    let (run, width) = (usize::from(field.run.max(1)), field.width.into());
    numbers::spread(level(), run, width, shift.into(), column, symbols);
}

/// Undoes [`spread`].
fn collect(field: &Field, symbols: &[u8], shift: u8, column: &mut [u8]) {
    let (run, width) = (usize::from(field.run.max(1)), field.width.into());
    numbers::collect(level(), run, width, shift.into(), symbols, column);
}

/// How large a factor is, in quarters of an octave.
fn size(byte: u8) -> i32 {
    let magnitude = u32::from(byte.cast_signed().unsigned_abs());
    let octave = magnitude.checked_ilog2().unwrap_or(0);
    (4 * octave + (magnitude << 2 >> octave & 3)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_order_of_the_weights() {
        // Q5_0: a fifth bit each in order; low bits of the first half, then of the second.
        let fields = [
            Field::float(16, 5),
            Field::upper(1).times(32),
            Field::unsigned(4).times(32).in_runs(16),
        ];
        let numbers = Numbers::of(&RecordLayout::of_fields(&fields)).unwrap();
        let mut columns = vec![vec![0, 0x3C], vec![0x02, 0, 0, 0x80], vec![0; 16]];
        (columns[2][1], columns[2][15]) = (0x37, 0x90);
        let mut symbols = Vec::new();
        numbers.unpack(&columns, &mut symbols);
        let set: Vec<_> = symbols.iter().enumerate().filter(|(_, s)| **s != 0).collect();
        assert_eq!(set, [(1, &23), (17, &3), (31, &25)]);
        let mut back = vec![columns[0].clone(), vec![0; 4], vec![0; 16]];
        numbers.pack(&symbols, &mut back).unwrap();
        assert_eq!(back, columns);
        assert!(numbers.pack(&[32; 32], &mut back).is_err());
    }

    fn keys(numbers: &Numbers, row: usize, columns: &[Vec<u8>]) -> Vec<u8> {
        let mut keys = Keys::default();
        numbers.keys(row, columns, &mut keys);
        keys.keys
    }

    #[test]
    fn keys_are_quarters_of_an_octave_from_the_mean() {
        let fields = [Field::float(16, 5), Field::signed(8).times(32)];
        let numbers = Numbers::of(&RecordLayout::of_fields(&fields)).unwrap();
        let halves = |tops: &[u16]| tops.iter().flat_map(|t| (t << 8).to_le_bytes()).collect();
        let columns = [halves(&[0x3C, 0x3D, 0x3E, 0x3F]), Vec::new()];
        assert_eq!(keys(&numbers, 0, &columns), [62, 63, 64, 65]);
        assert_eq!(keys(&numbers, 2, &columns), [63, 64, 63, 64]);
        // Far apart, and a factor beside the scale.
        assert_eq!(keys(&numbers, 0, &[halves(&[0; 199]), Vec::new()])[0], 64);
        assert_eq!([0, 1, 2, 3, 6, 0x80, 0xFF].map(size), [0, 0, 4, 6, 10, 28, 0]);
        let fields = [
            Field::unsigned(4).times(128).in_runs(64),
            Field::upper(2).times(128).in_runs(32),
            Field::signed(8).times(8),
            Field::float(16, 5),
        ];
        let numbers = Numbers::of(&RecordLayout::of_fields(&fields)).unwrap();
        let factors = vec![1, 2, 4, 8, 0xFF, 0xFE, 0xFC, 0xF8];
        let columns = [Vec::new(), Vec::new(), factors, halves(&[0x3C])];
        assert_eq!(keys(&numbers, 0, &columns), [58, 62, 66, 70, 58, 62, 66, 70]);
        assert_eq!(numbers.by(&Keys::default(), &Places::default()).run, 16);
        // A long float has no more than others; long exponents are none.
        let double = Field::float(64, 11);
        assert!(numbers.tops(&double, &[0xFF; 8]).eq([0x1FFF]));
        let long = Field { width: 64, ..Field::exponent() };
        let fields = [long, Field::signed(8).times(32)];
        let numbers = Numbers::of(&RecordLayout::of_fields(&fields)).unwrap();
        assert!(keys(&numbers, 0, &[vec![0xFF; 64], Vec::new()]).is_empty());
    }
}
