//! What floats take as ranges, nearly, without the rounding of strips and states to whole groups, for of a few numbers
//! that is much: for estimates.

use super::encode::counts;
use super::shares::{self, CODE_BITS};
use super::symbols::{self, Choice};
use super::tops::Tops;
use super::{CARRIED, wide};
use crate::codec::PREAMBLE;
use crate::codec::log2::cross_entropy;
use crate::codec::narrow::Narrowing;
use crate::codec::residuals::{Floats, Found, Output};
use weightzip_kernels::GROUP;
use weightzip_kernels::field::{CHUNK, Float};
use weightzip_kernels::scale::Moves;

/// Bytes that a payload without scales takes, nearly; `None` if this coding can't have it.
pub(in crate::codec) fn cost(float: Float, data: &[u8], room: &mut Vec<u8>) -> Option<usize> {
    let float = wide(float)?;
    let elements = data.len() / float.bytes;
    let tops = Tops::of(&counts(float, data))?;
    let mut ranks = vec![0; elements.next_multiple_of(CHUNK)];
    let (mut found, mut out) = (Found::default(), Output { payload: room, end: 0 });
    let floats = Floats { level: weightzip_kernels::level(), float, data };
    found.encode(floats, &mut tops.rank_of(), &mut ranks, &mut out, |_, _| None)?;
    let mut bits =
        found.encode_subnormals(floats.level, &mut out) as usize * found.subnormals.len();
    for (chunk, &wire) in found.narrowings.iter().enumerate() {
        let narrowing = Narrowing::from_wire(wire, float.mantissa_bits()).ok()?;
        let width = narrowing.width(float.mantissa_bits());
        bits += (elements - chunk * CHUNK).min(CHUNK) * width as usize;
    }

    let mut counts = [symbols::histogram(&ranks[..elements])];
    let moves = Moves { fixed: u8::try_from(tops.fixed.len()).ok()?, shift: 0 };
    Choice::of(&mut counts, moves, tops.low)?;
    let [counts] = counts;
    let used = counts.iter().rposition(|&n| n > 0)? + 1;
    let codes: Vec<u8> = shares::codes(&counts[..used]).collect();
    let of_symbols = cross_entropy(&counts, &shares::shares(&codes)) >> 8;
    // An escape has its rank elsewhere.
    bits += usize::try_from(of_symbols).ok()? + counts[0] as usize * 8 + used * CODE_BITS as usize;
    let states = GROUP * size_of::<u32>() - CARRIED.min(data.len());
    Some(PREAMBLE + size_of::<u16>() * tops.fixed.len() + states + bits / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    #[test]
    fn a_few_numbers_tell_what_many_take() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as f32 / (1u64 << 32) as f32 - 0.5
        };
        let scale = |x: f32| half::f16::from_f32(x.abs() * 0.01).to_le_bytes();
        let data: Vec<u8> = (0..60_000).flat_map(|_| scale(random() + random())).collect();
        let float = Dtype::F16.record_layout().floats().unwrap();
        let mut payload = Vec::new();
        let start = super::super::encode(float, None, 0, 60_000, &data, &mut payload).unwrap();
        let real = (payload.len() - start) as f64;
        let near = |data: &[u8]| cost(float, data, &mut Vec::new()).unwrap() as f64;
        assert!((near(&data) / real - 1.0).abs() < 0.002, "{} {real}", near(&data));
        // What each of two halves takes besides its symbols both together tell, whatever their lengths are.
        for half in [500, 601, 702] {
            let (a, b) = data[..4 * half].split_at(2 * half);
            let both = near(&data[..4 * half]);
            let fixed = near(a) + near(b) - both;
            let many = (both - fixed) / (4 * half) as f64 * data.len() as f64;
            assert!((many / real - 1.0).abs() < 0.03, "{half}: {many} {real}");
        }
    }
}
