//! The device's blocks, carved into cells that channels own, with a canary on every block that nobody owns (C2).
//!
//! ```text
//!   gap │ cell 0 │ gap │ cell 1 │ gap │ …          gaps, and cells without an owner, hold canaries
//! ```

use vfiomux_channel::Extent;
use vfiomux_sim::SimNvme;

use super::content::{Content, NOBODY};
use super::random::Random;

/// Bytes of a cell, and of the gap before it.
const CELL_BYTES: u64 = 64 << 10;
const GAP_BYTES: u64 = 16 << 10;
const CELLS: u64 = 40;
/// Bytes of the namespace.
pub(super) const DISK_BYTES: u64 = CELLS * (CELL_BYTES + GAP_BYTES) + GAP_BYTES;
/// The only namespace.
pub(super) const NSID: u32 = 1;

/// The device's blocks as the world gives them out.
pub(super) struct Disk {
    sim: SimNvme,
    pub(super) block_bytes: u64,
    taken: Vec<bool>,
}

impl Disk {
    /// A disk that nobody owns anything of.
    pub(super) fn new(sim: &SimNvme, block_bytes: u64) -> Result<Self, String> {
        let disk = Self { sim: sim.clone(), block_bytes, taken: vec![false; CELLS as usize] };
        disk.put_canaries(0, DISK_BYTES / block_bytes)?;
        Ok(disk)
    }

    /// Blocks of a cell.
    pub(super) fn cell_blocks(&self) -> u64 {
        CELL_BYTES / self.block_bytes
    }

    /// Where cells lie.
    pub(super) fn extents(&self, cells: &[usize]) -> Vec<Extent> {
        cells.iter().map(|&cell| Extent { lba: self.lba(cell), blocks: self.cell_blocks() }).collect()
    }

    fn lba(&self, cell: usize) -> u64 {
        (cell as u64 * (CELL_BYTES + GAP_BYTES) + GAP_BYTES) / self.block_bytes
    }

    /// Takes so many cells at random, or as many as there are.
    pub(super) fn take(&mut self, count: u64, random: &mut Random) -> Vec<usize> {
        let mut cells = Vec::new();
        for _ in 0..count {
            let free: Vec<usize> = (0..self.taken.len()).filter(|&cell| !self.taken[cell]).collect();
            if free.is_empty() {
                break;
            }
            let cell = random.pick(&free);
            self.taken[cell] = true;
            cells.push(cell);
        }
        cells
    }

    /// Cells have no owner any more. What still writes to them is caught by their canaries.
    pub(super) fn give_back(&mut self, cells: &[usize]) -> Result<(), String> {
        for &cell in cells {
            self.taken[cell] = false;
            self.put_canaries(self.lba(cell), self.cell_blocks())?;
        }
        Ok(())
    }

    fn put_canaries(&self, first: u64, count: u64) -> Result<(), String> {
        let block_bytes = self.block_bytes as usize;
        let mut bytes = vec![0; count as usize * block_bytes];
        for (lba, block) in (first..).zip(bytes.chunks_exact_mut(block_bytes)) {
            canary(lba).fill(block);
        }
        self.sim.write_blocks(NSID, first, &bytes).map_err(|error| error.to_string())
    }

    /// What the medium holds from a block on, behind the driver's back.
    pub(super) fn read(&self, lba: u64, blocks: u64) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; (blocks * self.block_bytes) as usize];
        self.sim.read_blocks(NSID, lba, &mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Hands every block of some cells, by its number in the channel, to `check`.
    pub(super) fn each_block(
        &self,
        cells: &[usize],
        mut check: impl FnMut(usize, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut at = 0;
        for &cell in cells {
            for block in
                self.read(self.lba(cell), self.cell_blocks())?.chunks_exact(self.block_bytes as usize)
            {
                check(at, block)?;
                at += 1;
            }
        }
        Ok(())
    }

    /// C2: blocks that nobody owns hold their canaries.
    pub(super) fn check_canaries(&self) -> Result<(), String> {
        let gap_blocks = GAP_BYTES / self.block_bytes;
        let mut runs: Vec<(u64, u64)> = vec![(DISK_BYTES / self.block_bytes - gap_blocks, gap_blocks)];
        for (cell, &taken) in self.taken.iter().enumerate() {
            let more = if taken { 0 } else { self.cell_blocks() };
            runs.push((self.lba(cell) - gap_blocks, gap_blocks + more));
        }
        for (first, count) in runs {
            let bytes = self.read(first, count)?;
            for (lba, block) in (first..).zip(bytes.chunks_exact(self.block_bytes as usize)) {
                let found = Content::of(block);
                if found != canary(lba) {
                    return Err(format!(
                        "C2: block {lba} of the device belongs to nobody and holds {found:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn canary(lba: u64) -> Content {
    Content::Written { owner: NOBODY, block: lba as u32, version: 1 }
}
