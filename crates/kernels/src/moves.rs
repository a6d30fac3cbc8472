//! Bytes of a word, spread to the ones of a mask and brought together again: in portable Rust.

/// How the first bytes of a word come to the places of a mask's ones, in three moves.
#[derive(Clone, Copy)]
pub(crate) struct Moves {
    /// Where bytes arrive that move up by four, then by two, then by one.
    moved: [u64; 3],
    /// Where the ones are, and how many.
    pub(crate) set: u64,
    pub(crate) count: usize,
}

impl Moves {
    /// The first bytes at the places of the ones; the others mean nothing.
    #[inline(always)]
    pub(crate) fn up(&self, word: u64) -> u64 {
        let by = |word: u64, n: u32, moved: u64| word & !moved | word << (8 * n) & moved;
        let [fours, twos, ones] = self.moved;
        by(by(by(word, 4, fours), 2, twos), 1, ones)
    }

    /// Undoes [`up`](Self::up); zeros behind.
    #[inline(always)]
    pub(crate) fn down(&self, word: u64) -> u64 {
        let by = |word: u64, n: u32, moved: u64| word & !moved | (word & moved) >> (8 * n);
        let [fours, twos, ones] = self.moved;
        by(by(by(word & self.set, 1, ones), 2, twos), 4, fours)
    }
}

/// By the mask.
pub(crate) static MOVES: [Moves; 256] = moves();

const fn moves() -> [Moves; 256] {
    let mut table = [Moves { moved: [0; 3], set: 0, count: 0 }; 256];
    let mut mask = 0;
    while mask < 256 {
        let moves = &mut table[mask];
        let mut bit = 0;
        while bit < 8 {
            if mask >> bit & 1 == 1 {
                let (mut place, mut i) = (moves.count, 0);
                let distance = bit - place;
                while i < 3 {
                    let step = distance & (4 >> i);
                    place += step;
                    if step != 0 {
                        moves.moved[i] |= 0xFF << (8 * place);
                    }
                    i += 1;
                }
                moves.set |= 0xFF << (8 * bit);
                moves.count += 1;
            }
            bit += 1;
        }
        mask += 1;
    }
    table
}
