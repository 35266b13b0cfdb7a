//! What is written when it will be verified: every sector says of itself which one it is, and in which generation.
//!
//! ```text
//!   word 0   the run, so that what an earlier run left is not taken for this one's
//!   word 1   the sector's number
//!   word 2   the generation: how often the block had been written
//!   word 3…  numbers that follow from the three, so that a sector made of two shows
//! ```

use vfiomux_spec::virtio::blk::SECTOR_SIZE_BYTES;

use crate::random::mix;

const WORDS: usize = SECTOR_SIZE_BYTES as usize / 8;
/// An odd number without a pattern: words step by it.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a sector turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// All of what this run wrote to this sector, in this generation.
    Generation(u32),
    /// What this run wrote to that sector.
    Elsewhere(u64),
    /// Begun by this run, but not all of one writing.
    Torn,
    /// Nothing of this run's.
    Foreign,
}

/// Fills a block, whose length is a multiple of a sector's, that begins at `sector`.
pub(crate) fn fill(block: &mut [u8], run: u64, sector: u64, generation: u32) {
    for (sector, bytes) in (sector..).zip(block.as_chunks_mut::<{ SECTOR_SIZE_BYTES as usize }>().0) {
        let words = expected(run, sector, generation.into());
        for (word, bytes) in words.iter().zip(bytes.as_chunks_mut::<8>().0) {
            *bytes = word.to_le_bytes();
        }
    }
}

/// What the sector holds that was read as number `sector`.
pub(crate) fn inspect(bytes: &[u8; SECTOR_SIZE_BYTES as usize], run: u64, sector: u64) -> Content {
    let words: [u64; WORDS] = std::array::from_fn(|index| {
        let chunk = bytes.as_chunks::<8>().0.get(index).copied();
        chunk.map_or(0, u64::from_le_bytes)
    });
    if words[0] != run {
        return Content::Foreign;
    }
    if words != expected(run, words[1], words[2]) {
        return Content::Torn;
    }
    match u32::try_from(words[2]) {
        Ok(generation) if words[1] == sector => Content::Generation(generation),
        _ => Content::Elsewhere(words[1]),
    }
}

fn expected(run: u64, sector: u64, generation: u64) -> [u64; WORDS] {
    let key = mix(run ^ mix(sector ^ mix(generation)));
    std::array::from_fn(|index| match index {
        0 => run,
        1 => sector,
        2 => generation,
        _ => key.wrapping_add((index as u64).wrapping_mul(STEP)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 0xfeed_beef_1234_5678;

    fn sectors(first: u64, count: usize, generation: u32) -> Vec<[u8; 512]> {
        let mut block = vec![0; 512 * count];
        fill(&mut block, RUN, first, generation);
        block.as_chunks::<512>().0.to_vec()
    }

    #[test]
    fn a_sector_is_known_by_place_and_generation() {
        for (sector, bytes) in (40..).zip(sectors(40, 8, 3)) {
            assert_eq!(inspect(&bytes, RUN, sector), Content::Generation(3));
            assert_eq!(inspect(&bytes, RUN, sector + 1), Content::Elsewhere(sector));
            assert_eq!(inspect(&bytes, RUN + 1, sector), Content::Foreign, "another run's");
        }
        assert_eq!(inspect(&[0; 512], RUN, 0), Content::Foreign);
    }

    #[test]
    fn two_writings_in_one_sector_show_wherever_they_meet() {
        let (old, new) = (sectors(40, 1, 3)[0], sectors(40, 1, 4)[0]);
        for cut in 1..512 {
            let mut torn = old;
            torn[..cut].copy_from_slice(&new[..cut]);
            // Up to the generation, both begin with the same bytes.
            let content = inspect(&torn, RUN, 40);
            assert!(
                content == Content::Torn || cut <= 16 && content == Content::Generation(3),
                "{cut}: {content:?}"
            );
        }
    }
}
