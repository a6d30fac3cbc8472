//! Coding `palette` (spec: "Palette"): floats of few values, as codes of a byte each. What they stand for is listed, or
//! is a scale, given for each run of elements, times a small integer or a float of 8 bits: weights that were quantised once and
//! are stored as longer floats now.

mod encode;
mod fit;
mod listed;
mod number;

pub(super) use encode::{encode, suits};

use super::nested::Part;
use super::{PREAMBLE, le_u32, records_of, take};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use number::{Codes, value_of};
use weightzip_kernels::field::Float;
use weightzip_kernels::strip::ALIGN;

/// Codes that a byte has room for.
const CODES: usize = 256;

/// Tables that are kept, a power of two: those of the scales in a few rows of tiles.
const KEPT: usize = 64;

/// Whether there are palettes of such floats.
pub(super) fn takes(float: Float) -> bool {
    matches!(float.bytes, 2 | 4) && float.exponent_bits <= 8 && !float.big_endian
}

/// What an entry of a table is coded as: floats are not compared here, so they are unsigned numbers.
fn entries_of(float: Float, codes: Codes) -> Dtype {
    match codes {
        Codes::Listed if float.bytes == 2 => Dtype::U16,
        _ => Dtype::U32,
    }
}

pub(super) fn decode(
    float: Float,
    preamble: &[u8; PREAMBLE],
    mut body: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let [_, _, _, _, dtype, of_tables, of_codes, 0, rest @ ..] = *preamble else {
        return Err(bad("has unknown bits in its preamble"));
    };
    if !takes(float) {
        return Err(bad("has floats that there are no palettes of"));
    }
    let codes_are = Codes::from_wire_id(dtype).ok_or_else(|| bad("has codes of another dtype"))?;
    let (run, tables_len) = (le_u32(&rest[..4]) as usize, le_u32(&rest[4..]) as usize);
    let elements = out.len() / float.bytes;
    if run == 0 || run > elements {
        return Err(bad("has impossible runs"));
    }
    let tables = take(&mut body, tables_len)?;
    let padding = tables_len.next_multiple_of(ALIGN) - tables_len;
    if take(&mut body, padding)?.iter().any(|&b| b != 0) {
        return Err(bad("has unknown bits behind its tables"));
    }
    let (runs, entries) = (elements.div_ceil(run), records_of(tables)? as usize);
    let per_run = match codes_are {
        Codes::Listed => entries / runs,
        _ => 1,
    };
    let fits = per_run * runs == entries && (1..=CODES).contains(&per_run) && entries <= elements;
    if !fits || records_of(body)? as usize != elements {
        return Err(bad("has other tables or codes than its runs need"));
    }
    let dtype = entries_of(float, codes_are);
    let tables = nested(dtype, of_tables, tables, entries)?;
    let codes = nested(codes_are.dtype(), of_codes, body, elements)?;
    let tables: Vec<u32> = tables.chunks_exact(dtype.bytes()).map(le_u32).collect();
    let out = out.chunks_mut(run * float.bytes).zip(codes.chunks(run));
    match codes_are {
        Codes::Listed => {
            for ((out, codes), table) in out.zip(tables.chunks_exact(per_run)) {
                if codes.iter().any(|&code| usize::from(code) >= per_run) {
                    return Err(bad("has a code that its table doesn't have"));
                }
                let mut full = [0; CODES];
                full[..per_run].copy_from_slice(table);
                look_up(float, &full, codes, out);
            }
        }
        _ => {
            let mut products = Products::new(float, codes_are, &codes)?;
            for ((out, codes), &scale) in out.zip(&tables) {
                products.put(scale, codes, out)?;
            }
        }
    }
    Ok(())
}

/// A block within the block.
fn nested(dtype: Dtype, coding: u8, payload: &[u8], records: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; records * dtype.bytes()];
    Part::Plain.decode(coding, &dtype.record_layout(), None, payload, &mut out)?;
    Ok(out)
}

fn look_up(float: Float, table: &[u32; CODES], codes: &[u8], out: &mut [u8]) {
    let entries = codes.iter().map(|&code| table[usize::from(code)].to_le_bytes());
    match float.bytes {
        2 => {
            out.as_chunks_mut().0.iter_mut().zip(entries).for_each(|(o, [a, b, _, _])| *o = [a, b])
        }
        _ => out.as_chunks_mut().0.iter_mut().zip(entries).for_each(|(o, entry)| *o = entry),
    }
}

/// Tables of what codes stand for, by scale; some are kept, for a tile's rows have one scale.
struct Products {
    float: Float,
    codes: Codes,
    /// The codes that the block has.
    used: Vec<u8>,
    kept: Vec<(u32, [u32; CODES])>,
}

impl Products {
    fn new(float: Float, codes: Codes, block: &[u8]) -> Result<Self> {
        let mut is_used = [false; CODES];
        block.iter().for_each(|&code| is_used[usize::from(code)] = true);
        let used: Vec<u8> = (0..=u8::MAX).filter(|&code| is_used[usize::from(code)]).collect();
        match used.iter().all(|&code| codes.number(code).is_some()) {
            // No scale is 0.
            true => Ok(Self { float, codes, used, kept: vec![(0, [0; CODES]); KEPT] }),
            false => Err(bad("has a code that is no finite number")),
        }
    }

    /// Puts what codes stand for with a scale into `out`.
    fn put(&mut self, scale: u32, codes: &[u8], out: &mut [u8]) -> Result<()> {
        if !number::is_scale(scale) {
            return Err(bad("has a scale that is no positive number"));
        }
        let (float, codes_are) = (self.float, self.codes);
        let value = |code| value_of(float, scale, codes_are.number(code).unwrap_or_default());
        // Tables of more codes than a run has would be made in vain.
        if self.used.len() > codes.len() {
            for (out, &code) in out.chunks_exact_mut(float.bytes).zip(codes) {
                out.copy_from_slice(&value(code).to_le_bytes()[..float.bytes]);
            }
            return Ok(());
        }
        let place = (scale.wrapping_mul(0x9E37_79B1) >> 26) as usize % KEPT;
        let (of, table) = &mut self.kept[place];
        if *of != scale {
            *of = scale;
            self.used.iter().for_each(|&code| table[usize::from(code)] = value(code));
        }
        look_up(float, table, codes, out);
        Ok(())
    }
}

fn bad(why: &str) -> Error {
    Error::corrupt(format!("a palette block {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;
    use crate::codec::{Coding, Hints, decode_block_into, encode_block};

    /// Values of a bell's shape.
    fn bell(count: usize) -> Vec<f32> {
        let mut seed = 1u64;
        let mut uniform = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..count).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 0.05).collect()
    }

    /// Weights quantised once: codes times scales, one for each tile.
    fn quantised(
        dtype: Dtype,
        codes: Codes,
        [rows, row]: [usize; 2],
        [height, width]: [usize; 2],
        most: f32,
    ) -> Vec<u8> {
        let float = dtype.record_layout().floats().unwrap();
        let weights = bell(rows * row);
        // By value; without negative zeros, which integers don't have.
        let numbers: Vec<(f64, number::Number)> = (0..=255u8)
            .filter(|code| *code != 0x80)
            .filter_map(|code| codes.number(code))
            .map(|n| (n.to_f64(), n))
            .collect();
        let nearest = |x: f64| {
            numbers.iter().min_by(|a, b| (a.0 - x).abs().total_cmp(&(b.0 - x).abs())).unwrap().1
        };
        let tile_of = |i: usize| (i / row / height, i % row / width);
        let mut largest = std::collections::HashMap::new();
        for (i, w) in weights.iter().enumerate() {
            let largest = largest.entry(tile_of(i)).or_insert(0f32);
            *largest = largest.max(w.abs());
        }
        let value = |(i, w): (usize, &f32)| {
            let scale = largest[&tile_of(i)] / most;
            let value = value_of(float, scale.to_bits(), nearest(f64::from(w / scale)));
            value.to_le_bytes()[..float.bytes].to_vec()
        };
        weights.iter().enumerate().flat_map(value).collect()
    }

    /// The coding and share of a block, which comes back.
    fn coded(dtype: Dtype, level: Level, row: usize, data: &[u8]) -> (Coding, f64) {
        let (layout, mut payload) = (dtype.record_layout(), Vec::new());
        let block = encode_block(&layout, None, Hints { level, row }, data, &mut payload).unwrap();
        let mut out = vec![0x55; data.len()];
        decode_block_into(&layout, None, &block, &mut out).unwrap();
        assert!(out == data);
        (block.coding, block.payload.len() as f64 / data.len() as f64)
    }

    #[test]
    fn what_was_quantised_takes_what_its_codes_take() {
        use Codes::{Floats2, Floats3, Integers};
        // Tiles that start and end within the block, too.
        let cases: [(Dtype, Codes, [usize; 2], f32, f64); 9] = [
            (Dtype::Bf16, Floats3, [48, 128], 448.0, 0.44),
            (Dtype::F32, Floats3, [48, 128], 448.0, 0.22),
            (Dtype::Bf16, Floats2, [1, 512], 57344.0, 0.40),
            (Dtype::Bf16, Integers, [1, 512], 7.0, 0.32),
            (Dtype::F16, Integers, [1, 32], 7.0, 0.36),
            (Dtype::F32, Integers, [100, 512], 7.0, 0.16),
            (Dtype::Bf16, Integers, [1, 128], 7.0, 0.32),
            (Dtype::Bf16, Integers, [1, 512], 127.0, 0.48),
            (Dtype::F32, Integers, [1, 512], 127.0, 0.24),
        ];
        for (dtype, codes, tile, largest, most) in cases {
            let data = quantised(dtype, codes, [100, 512], tile, largest);
            for &level in Level::ALL {
                let (coding, share) = coded(dtype, level, 512, &data);
                assert!(
                    coding == Coding::Palette && share < most,
                    "{dtype:?} {codes:?} {tile:?} {level:?} {} {share}",
                    coding.name()
                );
            }
        }
    }

    #[test]
    fn few_values_are_listed_for_the_block_or_its_rows() {
        let values = bell(16 * 40);
        let index = |i: usize| (i * i / 7 + i) % 16;
        let one: Vec<u8> = (0..40_000).flat_map(|i| values[index(i)].to_le_bytes()).collect();
        let rows: Vec<u8> =
            (0..40_000).flat_map(|i| values[i / 1000 * 16 + index(i)].to_le_bytes()).collect();
        for (data, row) in [(&one, 0), (&one, 1000), (&rows, 1000)] {
            let (coding, share) = coded(Dtype::F32, Level::Default, row, data);
            assert!(coding == Coding::Palette && share < 0.16, "{} {share}", coding.name());
        }
    }

    #[test]
    fn weights_have_no_palette() {
        let weights = bell(20_000);
        let data: Vec<u8> =
            weights.iter().flat_map(|w| half::bf16::from_f32(*w).to_le_bytes()).collect();
        assert!(!suits(Dtype::Bf16.record_layout().floats().unwrap(), &data));
        // A few values, but not multiples of anything, and more than can be listed.
        let close: Vec<u8> =
            weights.iter().flat_map(|w| half::f16::from_f32(1.0 + w / 8.0).to_le_bytes()).collect();
        assert!(suits(Dtype::F16.record_layout().floats().unwrap(), &close));
        coded(Dtype::F16, Level::Default, 0, &close);
    }
}
