//! What may be on the disk, block by block, while several requests for a block may be in flight at once.
//!
//! Each write of a block has a generation, one higher than the one submitted before. A read may bring what any write left that can
//! have been the last one when the disk did the read. The oracle keeps the lowest such generation, the *floor*, as it was when the
//! read was submitted; the highest is the last one that was submitted before the answer came:
//!
//! ```text
//!   write 1 ├────┤ answered: floor 1
//!   write 2          ├───────────────┤            2 and 3 overlap: a disk may do them in either order,
//!   write 3                ├─────┤ floor 2        so that from then on 2 or 3 is there, but 1 no more
//!   read                             ├────┤       2 or 3 is right, 1 is stale
//! ```
//!
//! Writes that overlap, one with the next, are a *busy time* of the block. Once any of them has been answered, all that was
//! answered before the busy time is overwritten, so that the floor rises to its first write; no further, since which of them came
//! last is the disk's business. A write that failed may or may not have happened and raises nothing.

use vfiomux_spec::virtio::blk::SECTOR_SIZE_BYTES;

use crate::random::mix;
use crate::report::Verify;
use crate::stamp::{self, Content};
use crate::workload::Region;

/// One block of the region.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// Generation of the last write that was submitted; 0 before the first.
    issued: u32,
    /// The lowest generation that may be there when nothing more is done. 0: also what was there before the run.
    floor: u32,
    /// The first write of the present busy time.
    busy_from: u32,
    /// Writes in flight.
    writes: u32,
}

/// The oracle of one guest.
#[derive(Debug)]
pub(crate) struct Oracle {
    region: Region,
    run: u64,
    blocks: Box<[Block]>,
    scratch: Box<[u8]>,
    verdict: Verify,
}

impl Oracle {
    /// Knows of nothing that was written. `run` is a number that no other run and no other guest has.
    pub(crate) fn new(region: Region, run: u64) -> Self {
        Self {
            region,
            run: mix(run),
            blocks: vec![Block::default(); usize::try_from(region.blocks).unwrap_or(usize::MAX)].into(),
            scratch: vec![0; region.block_bytes as usize].into(),
            verdict: Verify::default(),
        }
    }

    /// A write is about to be submitted: this is what it has to carry.
    pub(crate) fn write(&mut self, sector: u64) -> &[u8] {
        let at = self.region.block(sector) as usize;
        if let Some(block) = self.blocks.get_mut(at) {
            block.issued += 1;
            if block.writes == 0 {
                block.busy_from = block.issued;
            }
            block.writes += 1;
            stamp::fill(&mut self.scratch, self.run, sector, block.issued);
        }
        &self.scratch
    }

    /// A write was answered.
    pub(crate) fn written(&mut self, sector: u64, done: bool) {
        let at = self.region.block(sector) as usize;
        if let Some(block) = self.blocks.get_mut(at) {
            block.writes -= 1;
            if done {
                block.floor = block.floor.max(block.busy_from);
            }
        }
    }

    /// A read is about to be submitted: this is to be kept with it, for [`judge`](Self::judge).
    pub(crate) fn read(&self, sector: u64) -> u32 {
        self.blocks.get(self.region.block(sector) as usize).map_or(0, |block| block.floor)
    }

    /// Where what a read brought is to be put, to be judged.
    pub(crate) fn scratch(&mut self) -> &mut [u8] {
        &mut self.scratch
    }

    /// Judges what a read of the block at `sector` brought, which was submitted when its floor was this.
    pub(crate) fn judge(&mut self, sector: u64, floor: u32) {
        let issued = self.blocks.get(self.region.block(sector) as usize).map_or(0, |block| block.issued);
        let sectors = self.scratch.as_chunks::<{ SECTOR_SIZE_BYTES as usize }>().0;
        let wrong = (sector..).zip(sectors).find_map(|(sector, bytes)| {
            let content = stamp::inspect(bytes, self.run, sector);
            Some(sector).zip(Wrong::of(content, floor, issued))
        });
        // A block that was never written by this run was only looked at for stray writes.
        self.verdict.blocks_checked += u64::from(floor != 0);
        let Some((sector, wrong)) = wrong else {
            return;
        };
        let (count, what) = match wrong {
            Wrong::Stale(generation) => (
                &mut self.verdict.stale,
                format!("holds writing {generation}, but {floor} had been answered before it was read"),
            ),
            Wrong::Misplaced(other) => {
                (&mut self.verdict.misplaced, format!("holds what was written to sector {other}"))
            }
            Wrong::Torn => (&mut self.verdict.torn, "holds parts of several writings".to_owned()),
            Wrong::Foreign => (&mut self.verdict.foreign, "holds what this run never wrote".to_owned()),
        };
        *count += 1;
        self.verdict.first.get_or_insert_with(|| format!("sector {sector} {what}"));
    }

    /// Whether the run wrote this block, so that it can be judged.
    pub(crate) fn was_written(&self, block: u64) -> bool {
        self.blocks.get(block as usize).is_some_and(|block| block.floor != 0)
    }

    /// What was found.
    pub(crate) fn verdict(&self) -> Verify {
        let blocks_written = self.blocks.iter().filter(|block| block.floor != 0).count() as u64;
        Verify { blocks_written, ..self.verdict.clone() }
    }
}

/// What can be wrong with a sector.
enum Wrong {
    Stale(u32),
    Misplaced(u64),
    Torn,
    Foreign,
}

impl Wrong {
    fn of(content: Content, floor: u32, issued: u32) -> Option<Self> {
        match content {
            Content::Generation(generation) if generation < floor => Some(Self::Stale(generation)),
            Content::Generation(generation) if generation > issued => Some(Self::Foreign),
            Content::Generation(_) => None,
            Content::Elsewhere(sector) => Some(Self::Misplaced(sector)),
            Content::Torn => Some(Self::Torn),
            // What was there before the run may be there until a write has been answered.
            Content::Foreign => (floor != 0).then_some(Self::Foreign),
        }
    }
}

#[cfg(test)]
mod tests;
