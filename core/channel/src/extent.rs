//! Where a channel's blocks lie on the device (C2).

use vfiomux_block::Limits;

use crate::ChannelError;
use crate::seeded::{self, Bug};

/// A run of a namespace's blocks that belongs to one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First block on the device.
    pub lba: u64,
    /// How many blocks.
    pub blocks: u64,
}

/// Where a block of the channel was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The block on the device.
    pub lba: u64,
    /// How many blocks follow one another from there on, itself included; at least 1.
    pub run_blocks: u64,
}

/// The channel's blocks, in order, as runs of the device's.
///
/// All arithmetic was checked when the map was made, so a lookup only compares and subtracts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentMap {
    runs: Box<[Run]>,
    blocks: u64,
}

/// An extent and where it begins and ends in the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: u64,
    /// One past the last block.
    end: u64,
    lba: u64,
}

impl ExtentMap {
    /// A map over `extents`, in the channel's order. Each must have a block, lie inside the namespace, and overlap no other.
    pub fn new(extents: &[Extent], limits: &Limits) -> Result<Self, ChannelError> {
        let mut runs = Vec::with_capacity(extents.len());
        let mut start = 0u64;
        for &Extent { lba, blocks } in extents {
            if blocks == 0 || !limits.contains(lba, blocks) {
                return Err(ChannelError::ExtentOutside { lba, blocks, namespace_blocks: limits.blocks });
            }
            let end = start.checked_add(blocks).ok_or(ChannelError::TooLarge)?;
            runs.push(Run { start, end, lba });
            start = end;
        }
        let mut by_lba: Vec<&Run> = runs.iter().collect();
        by_lba.sort_unstable_by_key(|run| run.lba);
        for pair in by_lba.windows(2) {
            if let [low, high] = pair
                && high.lba - low.lba < low.end - low.start
            {
                return Err(ChannelError::ExtentsOverlap { lba: high.lba });
            }
        }
        // The capacity is told in 512-byte sectors, which must fit 64 bits too.
        if start.checked_mul(u64::from(limits.block_bytes)).is_none() {
            return Err(ChannelError::TooLarge);
        }
        Ok(Self { runs: runs.into(), blocks: start })
    }

    /// How many blocks the channel has.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The extents, in the channel's order.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + '_ {
        self.runs.iter().map(|run| Extent { lba: run.lba, blocks: run.end - run.start })
    }

    /// Whether `count` blocks from `block` on are all the channel's. Cannot wrap.
    #[inline]
    #[must_use]
    pub fn contains(&self, block: u64, count: u64) -> bool {
        block <= self.blocks && count <= self.blocks - block
    }

    /// Where `block` lies; `None` beyond the end.
    #[inline]
    #[must_use]
    pub fn place(&self, block: u64) -> Option<Place> {
        if seeded::is(Bug::UncheckedEnd)
            && let Some(run) = self.runs.first()
        {
            return Some(Place { lba: run.lba.wrapping_add(block), run_blocks: u64::MAX });
        }
        let run = match self.runs.first() {
            Some(first) if block < first.end => first,
            _ => self.run_beyond(block)?,
        };
        Some(Place { lba: run.lba + (block - run.start), run_blocks: run.end - block })
    }

    /// The run in which `block` lies, which is not the first. A function by itself: most channels have one run, and looking for another
    /// takes the registers that their requests are in.
    #[inline(never)]
    fn run_beyond(&self, block: u64) -> Option<&Run> {
        self.runs.get(self.runs.partition_point(|run| run.end <= block))
    }

    /// Whether every block of `old` lies here where it lies there: what commands in flight name stays the channel's.
    #[must_use]
    pub fn extends(&self, old: &Self) -> bool {
        let mut block = 0;
        while let Some(there) = old.place(block) {
            match self.place(block) {
                Some(here) if here.lba == there.lba => block += here.run_blocks.min(there.run_blocks),
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vfiomux_block::Addressing;

    use super::*;

    fn limits(blocks: u64) -> Limits {
        Limits {
            block_bytes: 512,
            blocks,
            transfer_bytes_max: 1 << 20,
            segments_max: 128,
            boundary_blocks: 0,
            addressing: Addressing::Any,
            write_zeroes_blocks_max: 0,
            deallocate_blocks_max: 0,
            deallocate_zeroes: false,
            volatile_cache: false,
        }
    }

    #[test]
    fn extents_outside_empty_or_overlapping_are_refused() {
        let limits = limits(1000);
        for bad in [
            vec![Extent { lba: 999, blocks: 2 }],
            vec![Extent { lba: u64::MAX, blocks: 2 }],
            vec![Extent { lba: 5, blocks: 0 }],
            vec![Extent { lba: 0, blocks: 10 }, Extent { lba: 9, blocks: 1 }],
            vec![Extent { lba: 50, blocks: 10 }, Extent { lba: 45, blocks: 6 }],
        ] {
            assert!(ExtentMap::new(&bad, &limits).is_err(), "{bad:?} was taken");
        }
        assert!(
            ExtentMap::new(&[Extent { lba: 10, blocks: 10 }, Extent { lba: 0, blocks: 10 }], &limits).is_ok()
        );
    }

    /// C2: the end of a range is never computed by a sum that wraps.
    #[test]
    fn a_range_that_wraps_around_is_outside() {
        let map = ExtentMap::new(&[Extent { lba: 0, blocks: 8 }], &limits(8)).unwrap();
        assert!(map.contains(0, 8) && map.contains(8, 0));
        assert!(!map.contains(u64::MAX, 2) && !map.contains(4, u64::MAX) && !map.contains(9, 0));
    }

    #[test]
    fn growing_at_the_end_extends_and_moving_does_not() {
        let limits = limits(100);
        let map = |runs: &[(u64, u64)]| {
            let extents: Vec<_> = runs.iter().map(|&(lba, blocks)| Extent { lba, blocks }).collect();
            ExtentMap::new(&extents, &limits).unwrap()
        };
        let old = map(&[(10, 10)]);
        assert!(map(&[(10, 20)]).extends(&old));
        assert!(map(&[(10, 5), (15, 5), (40, 10)]).extends(&old));
        assert!(!map(&[(10, 9)]).extends(&old));
        assert!(!map(&[(11, 10)]).extends(&old));
    }

    proptest! {
        /// C2: every block of the channel lies in one of its extents, at the place that a list of all blocks says.
        #[test]
        fn a_map_places_blocks_as_a_plain_list_does(
            gaps in proptest::collection::vec((0u64..5, 1u64..9), 1..12), reversed: bool
        ) {
            let mut lba = 0;
            let mut extents = Vec::new();
            for (gap, blocks) in gaps {
                extents.push(Extent { lba: lba + gap, blocks });
                lba += gap + blocks;
            }
            if reversed { extents.reverse(); }
            let list: Vec<u64> = extents.iter().flat_map(|e| e.lba..e.lba + e.blocks).collect();
            let map = ExtentMap::new(&extents, &limits(lba)).unwrap();
            prop_assert_eq!(map.blocks(), list.len() as u64);
            for (block, lba) in list.iter().enumerate() {
                let place = map.place(block as u64).unwrap();
                prop_assert_eq!(place.lba, *lba);
                for step in 0..place.run_blocks {
                    prop_assert_eq!(list[block + step as usize], lba + step);
                }
            }
            prop_assert_eq!(map.place(list.len() as u64), None);
        }
    }
}
