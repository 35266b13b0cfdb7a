//! Look-ups: a guest's address in its memory, a channel's block on its device, a latency's bucket.

use std::hint::black_box;

use vfiomux_block::RamDisk;
use vfiomux_channel::{Extent, ExtentMap, Histogram};
use vfiomux_guest::driver::Arena;
use vfiomux_guest::memory::{Hint, MapRegion, MemoryMap};

use crate::{OPERATIONS, counted};

const REGION_BYTES: u64 = 64 << 10;
/// Distance of two regions, as a guest sees them: there are holes in between.
const STRIDE: u64 = 1 << 30;

/// A guest's memory table.
#[derive(Debug)]
pub struct Regions {
    map: MemoryMap,
    count: u64,
}

impl Regions {
    /// `count` regions with holes in between.
    #[must_use]
    pub fn new(count: u64) -> Self {
        let region = |index| {
            let guest_addr = index * STRIDE;
            let arena = Arena::new(REGION_BYTES, guest_addr).expect("memory for a guest");
            MapRegion { guest_addr, user_addr: arena.user_addr(), file: arena.region().clone(), grant: None }
        };
        Self { map: MemoryMap::new((0..count).map(region).collect()).expect("a map"), count }
    }

    /// Translates 4 KiB at a time in one region: the hint is always right.
    pub fn hit(&self) {
        self.translate(|_| STRIDE);
    }

    /// Translates 4 KiB at a time in a region that is never the one before: the hint is always wrong.
    pub fn miss(&self) {
        self.translate(|number| number % self.count * STRIDE);
    }

    fn translate(&self, addr: impl Fn(u64) -> u64) {
        let mut hint = Hint::default();
        let mut found = 0u32;
        let _ = self.map.segment(addr(u64::from(OPERATIONS) - 1), 1, &mut hint);
        counted(&mut || {
            for number in 0..u64::from(OPERATIONS) {
                let guest_addr = black_box(addr(number) + 4096);
                let translated = self.map.translate(guest_addr, black_box(4096), &mut hint, |segment| {
                    black_box(segment);
                    found += 1;
                });
                black_box(translated.is_ok());
            }
        });
        assert_eq!(found, OPERATIONS);
    }
}

/// A channel's extents.
#[derive(Debug)]
pub struct Extents {
    map: ExtentMap,
}

impl Extents {
    /// `count` extents of 64 blocks, the last first on the device.
    #[must_use]
    pub fn new(count: u64) -> Self {
        let limits = RamDisk::new(count * 64, 512).expect("a disk").limits();
        let extents: Vec<_> = (0..count).rev().map(|index| Extent { lba: index * 64, blocks: 64 }).collect();
        Self { map: ExtentMap::new(&extents, &limits).expect("an extent map") }
    }

    /// Looks up blocks all over the channel.
    pub fn look_up(&self) {
        let blocks = self.map.blocks();
        let mut found = 0;
        counted(&mut || {
            for number in 0..u64::from(OPERATIONS) {
                let block = black_box(number * 97 % blocks);
                found += u32::from(black_box(self.map.place(block)).is_some());
            }
        });
        assert_eq!(found, OPERATIONS);
    }
}

/// A channel's latencies.
#[derive(Debug, Default)]
pub struct Latencies {
    histogram: Histogram,
}

impl Latencies {
    /// Records durations from nothing to seconds.
    pub fn record(&self) {
        counted(&mut || {
            for number in 0..u64::from(OPERATIONS) {
                self.histogram.record(black_box(number * number * number));
            }
        });
        assert_eq!(self.histogram.snapshot().count(), u64::from(OPERATIONS));
    }
}
