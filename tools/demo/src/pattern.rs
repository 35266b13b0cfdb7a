//! What a block of the demonstration holds, so that every way to get a block wrong shows.
//!
//! A block begins with who wrote it, where and for which time; all else in it follows from these and from the seed. A block
//! of a neighbour, of another place, of an earlier time, or half of one each, can not be taken for the right one.
//! A block that was never written holds zeroes.

use std::fmt;

/// Bytes of a block, the unit in which data is written and checked.
pub(crate) const BLOCK_BYTES: usize = 4096;
const WORDS: usize = BLOCK_BYTES / 8;
/// Begins every block that was written.
const MAGIC: u64 = u64::from_le_bytes(*b"vfiomux\0");
/// An odd number close to 2^64 divided by the golden ratio: its multiples spread over all bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whose block it is, where it lies and how often it was written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) tenant: u64,
    pub(crate) block: u64,
    /// Zero: never written.
    pub(crate) generation: u32,
}

/// A block that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    expected: Stamp,
    found: Found,
}

/// What a wrong block looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Zeroes,
    /// Well-formed at least at its start, and not what it should be from this byte on.
    Stamped(Stamp, usize),
    Unknown(usize),
}

impl fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.generation == 0 {
            return formatter.write_str("zeroes, as nobody wrote it");
        }
        write!(formatter, "block {} of tenant {}, generation {}", self.block, self.tenant, self.generation)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "must hold {}, and holds ", self.expected)?;
        match self.found {
            Found::Zeroes => formatter.write_str("zeroes"),
            Found::Stamped(stamp, at) if stamp == self.expected => {
                write!(formatter, "other bytes from {at} on")
            }
            Found::Stamped(stamp, _) => write!(formatter, "{stamp}"),
            Found::Unknown(at) => write!(formatter, "bytes that nobody wrote, from {at} on"),
        }
    }
}

/// Makes blocks and holds them against what they should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern {
    seed: u64,
}

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Fills a block.
    pub(crate) fn fill(self, stamp: Stamp, block: &mut [u8]) {
        let words = block.as_chunks_mut::<8>().0;
        for (word, value) in words.iter_mut().zip(self.words(stamp)) {
            *word = value.to_le_bytes();
        }
    }

    /// Compares a block with what it should hold.
    pub(crate) fn check(self, expected: Stamp, block: &[u8]) -> Result<(), Box<Mismatch>> {
        let words = block.as_chunks::<8>().0;
        // Without a branch a word, for this runs over every byte that is read.
        let differs = words
            .iter()
            .zip(self.words(expected))
            .fold(0, |all, (word, value)| all | (u64::from_le_bytes(*word) ^ value));
        if differs == 0 { Ok(()) } else { Err(Box::new(self.explain(expected, words))) }
    }

    fn explain(self, expected: Stamp, words: &[[u8; 8]]) -> Mismatch {
        let word = |index: usize| words.get(index).copied().map_or(0, u64::from_le_bytes);
        let at = words
            .iter()
            .zip(self.words(expected))
            .position(|(word, value)| u64::from_le_bytes(*word) != value);
        let at = at.unwrap_or_default() * 8;
        let found = if words.iter().all(|word| *word == [0; 8]) {
            Found::Zeroes
        } else if word(0) == MAGIC {
            let generation = u32::try_from(word(3)).unwrap_or(u32::MAX);
            Found::Stamped(Stamp { tenant: word(1), block: word(2), generation }, at)
        } else {
            Found::Unknown(at)
        };
        Mismatch { expected, found }
    }

    /// The words of a block.
    fn words(self, stamp: Stamp) -> impl Iterator<Item = u64> {
        let written = if stamp.generation == 0 { 0 } else { u64::MAX };
        let head = [MAGIC, stamp.tenant, stamp.block, stamp.generation.into()];
        let key = head.iter().fold(self.seed, |key, word| (key ^ word).wrapping_mul(GOLDEN).rotate_left(29));
        let body = (0..(WORDS - head.len()) as u64).map(move |index| key ^ (index + 1).wrapping_mul(GOLDEN));
        head.into_iter().chain(body).map(move |word| word & written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { tenant: 1, block: 77, generation: 3 };

    fn block(stamp: Stamp) -> Vec<u8> {
        let mut block = vec![0xff; BLOCK_BYTES];
        Pattern::new(9).fill(stamp, &mut block);
        block
    }

    fn complaint(expected: Stamp, block: &[u8]) -> String {
        Pattern::new(9).check(expected, block).unwrap_err().to_string()
    }

    #[test]
    fn a_block_is_what_was_written() {
        assert!(Pattern::new(9).check(STAMP, &block(STAMP)).is_ok());
        let unwritten = Stamp { generation: 0, ..STAMP };
        assert_eq!(block(unwritten), vec![0; BLOCK_BYTES]);
    }

    #[test]
    fn every_other_stamp_and_seed_is_noticed() {
        for other in
            [Stamp { tenant: 2, ..STAMP }, Stamp { block: 78, ..STAMP }, Stamp { generation: 2, ..STAMP }]
        {
            assert!(complaint(STAMP, &block(other)).ends_with(&format!("holds {other}")));
        }
        assert!(Pattern::new(8).check(STAMP, &block(STAMP)).is_err());
    }

    #[test]
    fn a_single_bit_is_noticed_and_its_place_named() {
        let mut torn = block(STAMP);
        torn[4095] ^= 0x80;
        assert!(complaint(STAMP, &torn).ends_with("other bytes from 4088 on"));
    }

    #[test]
    fn lost_and_foreign_data_are_told_apart() {
        assert!(complaint(STAMP, &vec![0; BLOCK_BYTES]).ends_with("holds zeroes"));
        assert!(complaint(STAMP, &vec![5; BLOCK_BYTES]).ends_with("bytes that nobody wrote, from 0 on"));
    }
}
