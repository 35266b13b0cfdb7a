//! A volatile write cache, told backwards: what each block held before, until it is known to be on the medium.
//!
//! Writes go to the medium at once and what they replaced is kept. A flush forgets; a loss of power puts some of it back, block by
//! block and by chance, which is all that a real cache promises. When the cache is full its oldest block counts as written.

use std::collections::{HashMap, VecDeque};
use std::io;

use super::Medium;
use crate::host_memory::HostMemory;
use crate::rng::Rng;

pub(crate) struct VolatileCache {
    block_bytes: usize,
    blocks_max: usize,
    before: HashMap<u64, Box<[u8]>>,
    /// Blocks by age. May name blocks that have left `before` meanwhile.
    order: VecDeque<u64>,
}

impl VolatileCache {
    pub(crate) fn new(block_bytes: usize, capacity_bytes: usize) -> Self {
        let blocks_max = (capacity_bytes / block_bytes).max(1);
        Self { block_bytes, blocks_max, before: HashMap::new(), order: VecDeque::new() }
    }

    /// Remembers what `count` blocks hold, before they are written. A range larger than the cache goes straight through.
    pub(crate) fn remember(&mut self, medium: &impl Medium, first: u64, count: u64) -> io::Result<()> {
        if count > self.blocks_max as u64 {
            self.settle(first, count);
            return Ok(());
        }
        for block in first..first + count {
            if self.before.contains_key(&block) {
                continue;
            }
            let mut old = vec![0; self.block_bytes].into_boxed_slice();
            medium.read(block * self.block_bytes as u64, HostMemory::of_mut(&mut old))?;
            self.before.insert(block, old);
            self.order.push_back(block);
            while self.before.len() > self.blocks_max {
                let Some(oldest) = self.order.pop_front() else { break };
                self.before.remove(&oldest);
            }
        }
        Ok(())
    }

    /// A range is on the medium for certain.
    pub(crate) fn settle(&mut self, first: u64, count: u64) {
        if count > self.before.len() as u64 {
            self.before.retain(|&block, _| block.wrapping_sub(first) >= count);
        } else {
            for block in first..first + count {
                self.before.remove(&block);
            }
        }
        let before = &self.before;
        self.order.retain(|block| before.contains_key(block));
    }

    /// Everything is on the medium.
    pub(crate) fn flush(&mut self) {
        self.before.clear();
        self.order.clear();
    }

    /// Power is lost: each block in the cache is on the medium or is not, by chance. Returns how many were lost.
    pub(crate) fn lose(&mut self, medium: &mut impl Medium, rng: &mut Rng) -> io::Result<u64> {
        let mut lost = 0;
        while let Some(block) = self.order.pop_front() {
            if let Some(old) = self.before.remove(&block)
                && rng.coin()
            {
                medium.write(block * self.block_bytes as u64, HostMemory::of(&old))?;
                lost += 1;
            }
        }
        Ok(lost)
    }
}
