//! Chooses plane widths for a block (spec: "Planes").

use weightzip_kernels::{escape, strip};

/// Most planes that a block may have.
pub(super) const MAX_PLANES: usize = 6;

/// Widest plane in bits.
pub(super) const MAX_WIDTH: u32 = 3;

/// Widths of the planes and of the codes behind the last one, and what they take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Widths {
    planes: [u8; MAX_PLANES],
    /// Bits of a code for the ranks that no plane decides.
    pub(super) tail: u32,
    /// Bytes of all strips and of the counts in the header.
    pub(super) bytes: usize,
}

impl Widths {
    /// The cheapest widths for ranks that occur `counts[rank]` times; the last rank must get a
    /// code, whatever its count.
    ///
    /// Exact, by dynamic programming over (planes so far, first undecided rank). Of equal
    /// choices the one with fewer planes wins, then the one with the narrower last plane.
    pub(super) fn best(counts: &[u32]) -> Self {
        /// First undecided ranks that planes can lead to, and 0.
        const RANKS: usize = MAX_PLANES * ((1 << MAX_WIDTH) - 1) + 1;
        let mut left = [0; RANKS];
        let mut sum = counts.iter().map(|&n| n as usize).sum::<usize>();
        for (rank, left) in left.iter_mut().enumerate() {
            *left = sum;
            sum -= counts.get(rank).map_or(0, |&n| n as usize);
        }
        let ranks = counts.len();
        let with_tail = |mut widths: Self, rank: usize| {
            widths.tail = bits_for(ranks - rank);
            widths.bytes += strip::packed_len(left[rank], widths.tail);
            widths
        };
        let none = Self { planes: [0; MAX_PLANES], tail: 0, bytes: 0 };
        let mut paths = [None; RANKS];
        paths[0] = Some(none);
        let mut best = with_tail(none, 0);
        for plane in 0..MAX_PLANES {
            let mut longer: [Option<Self>; RANKS] = [None; RANKS];
            for (rank, path) in paths[..ranks.min(RANKS)].iter().enumerate() {
                let Some(path) = path else { continue };
                for width in 1..=MAX_WIDTH {
                    let next = ranks.min(rank + usize::from(escape::decided(width)));
                    let path = path.with_plane(plane, width, left[rank]);
                    if longer[next].is_none_or(|other| path.bytes < other.bytes) {
                        longer[next] = Some(path);
                        let whole = with_tail(path, next);
                        best = if whole.bytes < best.bytes { whole } else { best };
                    }
                }
            }
            paths = longer;
        }
        best
    }

    /// These widths and another plane, of `count` codes.
    fn with_plane(mut self, plane: usize, width: u32, count: usize) -> Self {
        self.planes[plane] = width.to_le_bytes()[0];
        self.bytes += strip::packed_len(count, width) + size_of::<u32>();
        self
    }

    /// The planes' widths, first plane first.
    pub(super) fn planes(&self) -> impl DoubleEndedIterator<Item = u32> + Clone {
        let used = self.planes.iter().position(|&w| w == 0).unwrap_or(MAX_PLANES);
        self.planes[..used].iter().map(|&w| u32::from(w))
    }

    /// How many ranks have a code.
    pub(super) fn ranks(&self) -> usize {
        let decided: usize = self.planes().map(|width| usize::from(escape::decided(width))).sum();
        decided + (1 << self.tail)
    }

    /// Two bits per plane, the first plane's lowest; zero ends the list.
    pub(super) fn to_wire(self) -> u16 {
        self.planes().rev().fold(0, |wire, w| wire << 2 | u16::try_from(w).unwrap_or(0))
    }

    /// `None` if the list is longer than allowed or goes on behind its end.
    pub(super) fn from_wire(wire: u16, tail: u8) -> Option<Self> {
        let mut planes = [0; MAX_PLANES];
        for (plane, width) in planes.iter_mut().enumerate() {
            *width = (wire >> (2 * plane)).to_le_bytes()[0] & 3;
        }
        let widths = Self { planes, tail: u32::from(tail), bytes: 0 };
        (widths.to_wire() == wire && tail <= 8).then_some(widths)
    }
}

/// Bits that tell `values` values apart.
fn bits_for(values: usize) -> u32 {
    values.max(1).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_survive_the_wire() {
        for wire in 0..=u16::MAX {
            if let Some(widths) = Widths::from_wire(wire, 3) {
                assert_eq!(widths.to_wire(), wire);
                assert!(widths.planes().all(|w| (1..=MAX_WIDTH).contains(&w)));
            }
        }
        assert!(Widths::from_wire(0b00_01_00_01, 0).is_none());
        assert!(Widths::from_wire(0, 9).is_none());
    }

    #[test]
    fn nothing_is_paid_for_one_value_and_little_for_a_skew() {
        assert_eq!(Widths::best(&[5000]).bytes, 0);
        assert_eq!(Widths::best(&[4096, 4096]).bytes, 8192 / 8);
        let skewed = Widths::best(&[60_000, 3000, 1500, 700, 200, 100, 30, 6]);
        assert!(skewed.bytes < 65_536 / 8 * 5 / 4, "{skewed:?}");
        let flat = Widths::best(&[256; 256]);
        assert_eq!((flat.planes().count(), flat.tail), (0, 8));
    }
}
