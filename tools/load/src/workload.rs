use vfiomux_frontend::Operation;
use vfiomux_spec::virtio::blk::SECTOR_SHIFT;

use crate::Pattern;
use crate::random::Random;

/// A part of a disk, in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// Where it begins.
    pub(crate) offset_bytes: u64,
    /// How many requests side by side fill it; at least one.
    pub(crate) blocks: u64,
    /// Data of a request: a multiple of 512.
    pub(crate) block_bytes: u32,
}

impl Region {
    /// The first sector of a block.
    #[inline]
    pub(crate) const fn sector(&self, block: u64) -> u64 {
        (self.offset_bytes + block * self.block_bytes as u64) >> SECTOR_SHIFT
    }

    /// The block that begins with a sector.
    pub(crate) const fn block(&self, sector: u64) -> u64 {
        ((sector << SECTOR_SHIFT) - self.offset_bytes) / self.block_bytes as u64
    }

    /// How long it is.
    pub(crate) const fn size_bytes(&self) -> u64 {
        self.blocks * self.block_bytes as u64
    }
}

/// What to ask for next.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    region: Region,
    random_places: bool,
    /// Requests among 2³² that are reads.
    reads: u64,
    /// The next block of an ordered pattern.
    next: u64,
    flush_every: u64,
    until_flush: u64,
    random: Random,
}

impl Workload {
    /// `read_percent` counts for mixed patterns only.
    pub(crate) fn new(
        pattern: Pattern,
        read_percent: u8,
        region: Region,
        flush_every: Option<u64>,
        seed: u64,
    ) -> Self {
        let flush_every = flush_every.unwrap_or(u64::MAX);
        Self {
            region,
            random_places: pattern.is_random(),
            reads: (u64::from(pattern.read_percent(read_percent)) << 32) / 100,
            next: 0,
            flush_every,
            until_flush: flush_every,
            random: Random::new(seed),
        }
    }

    /// The next request.
    #[inline]
    pub(crate) fn next(&mut self) -> Operation {
        if self.until_flush == 0 {
            self.until_flush = self.flush_every;
            return Operation::Flush;
        }
        self.until_flush -= 1;
        let block = if self.random_places {
            self.random.below(self.region.blocks)
        } else {
            let block = self.next;
            self.next = if block + 1 == self.region.blocks { 0 } else { block + 1 };
            block
        };
        let (sector, len) = (self.region.sector(block), self.region.block_bytes);
        let is_read = match self.reads {
            0 => false,
            ALWAYS => true,
            reads => self.random.bits() >> 32 < reads,
        };
        if is_read { Operation::Read { sector, len } } else { Operation::Write { sector, len } }
    }
}

/// Of 2³² requests all are reads.
const ALWAYS: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: Region = Region { offset_bytes: 1 << 20, blocks: 3, block_bytes: 8192 };

    fn taken(pattern: Pattern, read_percent: u8, flush_every: Option<u64>, count: usize) -> Vec<Operation> {
        let mut workload = Workload::new(pattern, read_percent, REGION, flush_every, 7);
        (0..count).map(|_| workload.next()).collect()
    }

    #[test]
    fn an_ordered_pattern_goes_through_the_region_and_begins_again() {
        let write = |sector| Operation::Write { sector, len: 8192 };
        assert_eq!(taken(Pattern::Write, 0, None, 4), [write(2048), write(2064), write(2080), write(2048)]);
    }

    #[test]
    fn a_random_pattern_stays_in_the_region_on_whole_blocks() {
        for operation in taken(Pattern::RandRead, 0, None, 100) {
            let Operation::Read { sector, len: 8192 } = operation else { panic!("{operation:?}") };
            assert!([2048, 2064, 2080].contains(&sector));
            assert!(REGION.block(sector) < 3);
        }
    }

    #[test]
    fn a_mix_has_the_share_of_reads_that_was_asked_for() {
        let reads = taken(Pattern::RandRw, 70, None, 10_000)
            .iter()
            .filter(|operation| matches!(operation, Operation::Read { .. }))
            .count();
        assert!((6800..7200).contains(&reads), "{reads}");
        assert!(taken(Pattern::Rw, 100, None, 50).iter().all(|o| matches!(o, Operation::Read { .. })));
        assert!(taken(Pattern::Rw, 0, None, 50).iter().all(|o| matches!(o, Operation::Write { .. })));
    }

    #[test]
    fn a_flush_comes_after_every_so_many_requests() {
        let flushes: Vec<usize> = taken(Pattern::RandWrite, 0, Some(3), 9)
            .iter()
            .enumerate()
            .filter_map(|(at, operation)| (*operation == Operation::Flush).then_some(at))
            .collect();
        assert_eq!(flushes, [3, 7]);
    }
}
