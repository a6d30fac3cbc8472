//! Whether level default may make blocks smaller than level max did. Of ordinary floats it can't: that is seen without trying it, for
//! it would take a third as long again.

use super::guess::Guess;
use super::widths::Widths;
use super::{Coding, PREAMBLE, constant, fixed, palette, ranges, sparse};
use crate::container::section;
use crate::container::table;
use crate::options::Level;
use crate::record::RecordLayout;
use weightzip_kernels::field::Float;

/// What planes take is known but for this part of it, where chunks begin elsewhere than those of a whole block.
const UNSURE: usize = 256;

/// Whether records may take less at level default, in blocks of `unit` bytes, than the one block that level max made of them
/// without a base.
pub(crate) fn may_be_lower(
    layout: &RecordLayout,
    coding: Coding,
    payload: &[u8],
    data: &[u8],
    unit: usize,
) -> bool {
    match (coding, layout.floats()) {
        (Coding::Constant, _) => false,
        (Coding::Ranges, Some(floats)) => {
            let least = ordinary(floats, layout, data, unit)
                .then(|| planes_at_least(floats, payload, data, unit))
                .flatten();
            least.is_none_or(|least| payload.len() > least - least / UNSURE)
        }
        // Level default chooses one of two ways, level max took the smaller.
        (Coding::Raw | Coding::Bytes | Coding::Zstd, None)
            if layout.bytes() == 1 && unit >= data.len() =>
        {
            *layout == RecordLayout::opaque() && Guess::of(data).is_some()
        }
        _ => true,
    }
}

/// Whether level default codes floats as planes, in each of its blocks, or not at all.
fn ordinary(floats: Float, layout: &RecordLayout, data: &[u8], unit: usize) -> bool {
    data.chunks(unit).all(|data| {
        !constant::is_constant(layout, data)
            && fixed::Choice::of(floats, Level::Default, &[], data).is_none()
            && !sparse::has_zeros(layout, data)
            && !palette::suits(floats, data)
    })
}

/// Bytes that level default takes at least for floats that are planes; `None` if what level max made of them doesn't tell.
fn planes_at_least(floats: Float, payload: &[u8], data: &[u8], unit: usize) -> Option<usize> {
    let mut least = ranges::residuals_as_planes(floats, payload, data.len() / floats.bytes)?;
    for data in data.chunks(unit) {
        let counts = ranges::counts(floats, data);
        let mut ranks: Vec<u32> = counts.into_iter().filter(|count| *count > 0).collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        least += section::LEN + table::ENTRY + PREAMBLE + Widths::best(&ranks).bytes;
    }
    Some(least - section::LEN - table::ENTRY)
}
