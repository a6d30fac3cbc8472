//! What a range payload says before its strips of residuals (spec: "Ranges").

use super::scales::{SCALE_BITS, Scales};
use super::shares::CODE_BITS;
use super::symbols::Symbols;
use super::{TABLES, bad};
use crate::codec::residuals::Narrowings;
use crate::codec::{PREAMBLE, le_u32, take};
use crate::error::Result;
use weightzip_kernels::GROUP;
use weightzip_kernels::field::{CHUNK, Float};
use weightzip_kernels::level::Level;
use weightzip_kernels::scale::{Moves, STEPS};
use weightzip_kernels::strip::{self, ALIGN, Planes, packed_len, plane_len};

/// One narrowing serves all chunks.
const UNIFORM_CHUNKS: u8 = 1;
/// The columns' scales are the segment's.
const SHARED_COLUMNS: u8 = 2;

/// The header, as an encoder has it.
pub(super) struct Header<'a> {
    /// Those of columns are the block's own, or not written.
    pub(super) scales: Scales<'a>,
    pub(super) shared_columns: bool,
    pub(super) symbols: Symbols,
    /// Ranks of elements that escape.
    pub(super) escapes: &'a [u8],
    /// Tops whose ranks stay.
    pub(super) fixed: &'a [u16],
    /// Codes of weights, as many in each table.
    pub(super) weights: &'a [u8],
    pub(super) narrowings: Narrowings<'a>,
    pub(super) subnormals: u32,
    pub(super) subnormal_width: u32,
    pub(super) states: &'a [u32; GROUP],
}

impl Header<'_> {
    /// Most bytes that a header takes.
    pub(super) fn max_len(chunks: usize, rows: usize, row: usize) -> usize {
        let lists = 2 * size_of::<u32>() + 256 * size_of::<u16>() + chunks;
        let strips = [
            packed_len(rows, SCALE_BITS),
            packed_len(row, SCALE_BITS),
            packed_len(256 * TABLES, CODE_BITS),
        ];
        PREAMBLE
            + lists.next_multiple_of(ALIGN)
            + strips.iter().sum::<usize>()
            + GROUP * size_of::<u32>()
    }

    /// Appends the header, behind the record count that it starts with.
    pub(super) fn write_to(&self, level: Level, records: u32, out: &mut Vec<u8>) -> Option<()> {
        let (start, tables) = (out.len(), if self.scales.is_none() { 1 } else { TABLES });
        let uniform = self.narrowings.uniform();
        let own_columns = if self.shared_columns { &[] } else { self.scales.columns };
        let row = if self.scales.is_none() { 0 } else { self.scales.row };
        let (rows, columns) = (width(self.scales.rows), width(own_columns));
        out.extend(records.to_le_bytes());
        let [row @ .., 0] = u32::try_from(row).ok()?.to_le_bytes() else { return None };
        out.extend(row);
        out.push(self.symbols.moves.shift);
        out.extend(self.symbols.low.to_le_bytes());
        out.push(self.symbols.moves.fixed);
        out.push(u8::try_from((self.weights.len() / tables).checked_sub(1)?).ok()?);
        out.push(
            if uniform.is_some() { UNIFORM_CHUNKS } else { 0 }
                | if self.shared_columns { SHARED_COLUMNS } else { 0 }
                | (width(self.escapes) << 4).to_le_bytes()[0],
        );
        out.push((rows | columns << 4).to_le_bytes()[0]);
        out.push(self.subnormal_width.to_le_bytes()[0]);
        out.push(uniform.unwrap_or(0));
        out.extend(u32::try_from(self.escapes.len()).ok()?.to_le_bytes());
        out.extend(self.subnormals.to_le_bytes());
        self.fixed.iter().for_each(|top| out.extend(top.to_le_bytes()));
        if uniform.is_none() {
            out.extend(self.narrowings.wire);
        }
        out.resize(start + (out.len() - start).next_multiple_of(ALIGN), 0);
        put(level, self.scales.rows, rows, out);
        put(level, own_columns, columns, out);
        put(level, self.weights, CODE_BITS, out);
        self.states.iter().for_each(|state| out.extend(state.to_le_bytes()));
        Some(())
    }
}

/// Bits of the largest of these codes.
pub(super) fn width(codes: &[u8]) -> u32 {
    u8::BITS - codes.iter().fold(0, |all, code| all | code).leading_zeros()
}

/// Appends the strips of codes.
pub(super) fn put(level: Level, codes: &[u8], width: u32, out: &mut Vec<u8>) {
    let (start, len) = (out.len(), plane_len(codes.len()));
    if len > 0 {
        let mut bytes = codes.to_vec();
        bytes.resize(len, 0);
        out.resize(start + packed_len(codes.len(), width), 0);
        let planes = Planes { bytes: &bytes, len };
        strip::pack(level, planes, codes.len(), 0, width, &mut out[start..]);
    }
}

/// The header, as a decoder finds it.
pub(super) struct Found<'a> {
    /// Elements in a row; 0 if there are no scales.
    pub(super) row: usize,
    pub(super) rows: Vec<u8>,
    /// The block's own; `None` if they are the segment's.
    pub(super) columns: Option<Vec<u8>>,
    pub(super) symbols: Symbols,
    pub(super) fixed: Vec<u16>,
    /// Symbols in a table.
    pub(super) used: usize,
    pub(super) escapes: usize,
    pub(super) escape_width: u32,
    pub(super) weights: Vec<u8>,
    pub(super) narrowings: Narrowings<'a>,
    pub(super) subnormals: usize,
    pub(super) subnormal_width: u32,
    pub(super) states: [u32; GROUP],
}

impl<'a> Found<'a> {
    /// Reads the header of a block of `elements` and takes it off `body`.
    pub(super) fn read_from(
        level: Level,
        preamble: &'a [u8; PREAMBLE],
        body: &mut &'a [u8],
        elements: usize,
        float: Float,
    ) -> Result<Self> {
        let [
            _,
            _,
            _,
            _,
            r0,
            r1,
            r2,
            shift,
            l0,
            l1,
            fixed,
            last,
            flags,
            widths,
            subnormal,
            narrowing,
        ] = *preamble;
        let row = u32::from_le_bytes([r0, r1, r2, 0]) as usize;
        let (uniform, shared) = (flags & UNIFORM_CHUNKS != 0, flags & SHARED_COLUMNS != 0);
        let (row_width, column_width) = (u32::from(widths & 15), u32::from(widths >> 4));
        let escape_width = u32::from(flags >> 4);
        let unknown = flags & 15 & !(UNIFORM_CHUNKS | SHARED_COLUMNS) != 0
            || escape_width > 8
            || row_width.max(column_width) > SCALE_BITS
            || (!uniform && narrowing != 0)
            || (shared && column_width != 0)
            || (row == 0 && (shared || widths != 0))
            || u32::from(subnormal) > float.mantissa_bits();
        if unknown {
            return Err(bad("has unknown bits in its preamble"));
        }
        let rows = elements.checked_div(row).unwrap_or(0);
        if rows * row != if row == 0 { 0 } else { elements } {
            return Err(bad("is not whole rows"));
        }
        let whole = body.len();
        let escapes = le_u32(take(body, size_of::<u32>())?) as usize;
        let subnormals = le_u32(take(body, size_of::<u32>())?) as usize;
        if escapes.max(subnormals) > elements {
            return Err(bad("has more escapes or subnormals than elements"));
        }
        let moves = Moves { fixed, shift };
        let symbols = Symbols { moves, low: u16::from_le_bytes([l0, l1]) };
        let fixed = take(body, usize::from(fixed) * size_of::<u16>())?.as_chunks().0;
        let fixed: Vec<u16> = fixed.iter().map(|top| u16::from_le_bytes(*top)).collect();
        if fixed.iter().any(|top| top >> float.exponent_bits != 0) {
            return Err(bad("has impossible tops"));
        }
        let narrowings = match uniform {
            true => &preamble[15..],
            false => take(body, elements.div_ceil(CHUNK))?,
        };
        let narrowings = Narrowings::new(narrowings, float)?;
        let used = whole - body.len();
        take(body, used.next_multiple_of(ALIGN) - used)?;
        let rows = get(level, body, rows, row_width)?;
        let columns = match shared {
            true => None,
            false => Some(get(level, body, row, column_width)?),
        };
        let used = usize::from(last) + 1;
        let tables = if row == 0 { 1 } else { TABLES };
        let weights = get(level, body, tables * used, CODE_BITS)?;
        let states = get_states(body)?;
        Ok(Self {
            row,
            rows,
            columns,
            symbols,
            fixed,
            used,
            escapes,
            escape_width,
            weights,
            narrowings,
            subnormals,
            subnormal_width: u32::from(subnormal),
            states,
        })
    }

    /// The top of each rank; 0 if it would be none. Ranks that can't occur may be left out.
    pub(super) fn tops(&self, float: Float, largest_scale: u8, escapes: &[u8]) -> Vec<u16> {
        let (fixed, limit) = (1 + self.fixed.len(), 1usize << float.exponent_bits);
        let top = |rank: usize| match rank.checked_sub(fixed) {
            Some(moved) => Some(usize::from(self.symbols.low) + moved).filter(|top| *top < limit),
            None => self.fixed.get(rank.wrapping_sub(1)).map(|&top| top.into()),
        };
        let top = |rank| top(rank).and_then(|top| u16::try_from(top).ok()).unwrap_or(0);
        let up = isize::from(self.symbols.moves.shift.cast_signed());
        let moved = (self.used + usize::from(largest_scale & STEPS)).saturating_add_signed(up);
        let escaped = escapes.iter().max().map_or(0, |&rank| usize::from(rank) + 1);
        // A rank that would be negative is one of the last.
        let wraps = fixed.checked_add_signed(up).is_none();
        let ranks = if wraps { 256 } else { moved.max(fixed).max(escaped).min(256) };
        (0..ranks).map(top).collect()
    }
}

/// Takes the states to start with off `body`.
pub(super) fn get_states(body: &mut &[u8]) -> Result<[u32; GROUP]> {
    let mut states = [0; GROUP];
    let packed = take(body, GROUP * size_of::<u32>())?;
    states.iter_mut().zip(packed.chunks_exact(4)).for_each(|(s, b)| *s = le_u32(b));
    Ok(states)
}

/// Takes the strips of `count` codes off `body`; none if they have no bits.
pub(super) fn get(level: Level, body: &mut &[u8], count: usize, width: u32) -> Result<Vec<u8>> {
    if width == 0 {
        return Ok(Vec::new());
    }
    let packed = take(body, packed_len(count, width))?;
    let mut codes = vec![0; plane_len(count)];
    strip::unpack(level, packed, count, width, &mut codes);
    codes.truncate(count);
    Ok(codes)
}
