//! The payload of a range block in its parts (spec: "Ranges"), so that one of them can be changed.

use weightzip_kernels::field::CHUNK;
use weightzip_kernels::strip::{self, Planes, packed_len, plane_len};

/// The parts of a payload; strips as they are packed.
#[derive(Clone)]
pub(super) struct Payload {
    pub(super) preamble: [u8; 16],
    pub(super) escape_count: u32,
    pub(super) subnormal_count: u32,
    pub(super) fixed: Vec<u16>,
    pub(super) narrowings: Vec<u8>,
    pub(super) rows: Vec<u8>,
    pub(super) columns: Vec<u8>,
    pub(super) weights: Vec<u8>,
    pub(super) states: Vec<u32>,
    pub(super) residuals: Vec<u8>,
    pub(super) subnormals: Vec<u8>,
    pub(super) escapes: Vec<u8>,
    pub(super) words: Vec<u8>,
}

impl Payload {
    /// Takes a payload apart; its residuals have `mantissa_bits`.
    pub(super) fn split(payload: &[u8], elements: usize, mantissa_bits: usize) -> Self {
        let (&preamble, body) = payload.split_first_chunk().unwrap();
        let row = usize::from(preamble[4]) | usize::from(preamble[5]) << 8;
        let [fixed, symbols, flags, widths, subnormal_width, narrowing] =
            [10, 11, 12, 13, 14, 15].map(|at| usize::from(preamble[at]));
        let mut rest = body;
        let mut take = |len: usize| {
            let (taken, behind) = rest.split_at(len);
            rest = behind;
            taken
        };
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let codes = |count: usize, width: usize| packed_len(count, width as u32);
        let (escape_count, subnormal_count) = (word(take(4)), word(take(4)));
        let fixed: Vec<u16> =
            take(2 * fixed).as_chunks().0.iter().map(|top| u16::from_le_bytes(*top)).collect();
        let chunks = elements.div_ceil(CHUNK);
        let narrowings = take(if flags & 1 == 0 { chunks } else { 0 }).to_vec();
        let head = 8 + 2 * fixed.len() + narrowings.len();
        take(head.next_multiple_of(16) - head);
        let rows = take(codes(elements.checked_div(row).unwrap_or(0), widths & 15)).to_vec();
        let columns = take(codes(row, widths >> 4)).to_vec();
        let tables = if row == 0 { 1 } else { 4 };
        let weights = take(codes(tables * (symbols + 1), 6)).to_vec();
        let states = take(256).chunks(4).map(word).collect();
        let strips = |chunk: usize| {
            let n = narrowings.get(chunk).map_or(narrowing, |&n| n.into());
            let width = mantissa_bits + 1 - (n & 63) - (n >> 6 & 1);
            codes(CHUNK.min(elements - chunk * CHUNK), width)
        };
        let carried = strips(chunks - 1).min(128);
        let residuals = take((0..chunks).map(strips).sum::<usize>() - carried).to_vec();
        let subnormals = take(codes(subnormal_count as usize, subnormal_width)).to_vec();
        let escapes = take(codes(escape_count as usize, flags >> 4)).to_vec();
        let words = rest.to_vec();
        Self {
            preamble,
            escape_count,
            subnormal_count,
            fixed,
            narrowings,
            rows,
            columns,
            weights,
            states,
            residuals,
            subnormals,
            escapes,
            words,
        }
    }

    /// The payload again.
    pub(super) fn join(&self) -> Vec<u8> {
        let mut body = [self.escape_count, self.subnormal_count].map(u32::to_le_bytes).concat();
        body.extend(self.fixed.iter().flat_map(|top| top.to_le_bytes()));
        body.extend(&self.narrowings);
        body.resize(body.len().next_multiple_of(16), 0);
        for strips in [&self.rows, &self.columns, &self.weights] {
            body.extend(strips);
        }
        body.extend(self.states.iter().flat_map(|state| state.to_le_bytes()));
        for part in [&self.residuals, &self.subnormals, &self.escapes, &self.words] {
            body.extend(part);
        }
        [self.preamble.as_slice(), &body].concat()
    }
}

/// The strips of codes of up to eight bits.
pub(super) fn packed(codes: &[u8], width: u32) -> Vec<u8> {
    let len = plane_len(codes.len());
    let mut bytes = codes.to_vec();
    bytes.resize(len, 0);
    let mut strips = vec![0; packed_len(codes.len(), width)];
    let planes = Planes { bytes: &bytes, len };
    strip::pack(weightzip_kernels::level(), planes, codes.len(), 0, width, &mut strips);
    strips
}
