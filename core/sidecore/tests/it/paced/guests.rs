//! Those who ask.

use std::sync::Arc;

use vfiomux_channel::driver::BlkDriver;
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::{RingSetup, SplitRing};
use vfiomux_qos::{Direction, Io};
use vfiomux_spec::virtio::blk::RequestType;

use crate::world::FEATURES;

const GUEST_ADDR: u64 = 1 << 32;

/// When a guest asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    /// Requests that it has with us at a time.
    pub(super) depth: u16,
    /// It asks for so long, is silent for so long, and begins again; never silent when the second is 0.
    pub(super) on_ns: u64,
    pub(super) off_ns: u64,
}

impl Habit {
    pub(super) const fn backlogged(depth: u16) -> Self {
        Self { depth, on_ns: 1, off_ns: 0 }
    }

    pub(super) fn asks(&self, now_ns: u64) -> bool {
        now_ns % (self.on_ns + self.off_ns) < self.on_ns
    }
}

pub(super) struct Guest {
    arena: Arena,
    driver: BlkDriver,
    io: Io,
    pub(super) habit: Habit,
    pub(super) done: u64,
}

impl Guest {
    pub(super) fn new(io: Io, habit: Habit) -> Self {
        let arena = Arena::new(4 << 20, GUEST_ADDR).unwrap();
        let driver = BlkDriver::new(&arena, GUEST_ADDR, 128, FEATURES).unwrap();
        Self { arena, driver, io, habit, done: 0 }
    }

    pub(super) fn map(&self) -> Arc<MemoryMap> {
        let (user_addr, file) = (self.arena.user_addr(), self.arena.region().clone());
        let region = MapRegion { guest_addr: GUEST_ADDR, user_addr, file, grant: None };
        Arc::new(MemoryMap::new(vec![region]).unwrap())
    }

    pub(super) fn ring(&self, map: &MemoryMap) -> SplitRing {
        SplitRing::new(map, &self.driver.setup(), None).unwrap()
    }

    /// The ring again, from the entry on that it was stopped at.
    pub(super) fn ring_from(&self, base: u16) -> SplitRing {
        let setup = RingSetup { base, ..self.driver.setup() };
        SplitRing::new(&self.map(), &setup, None).unwrap()
    }

    /// Takes back what is done, and asks again where its habit says so.
    pub(super) fn ask(&mut self, now_ns: u64) {
        while self.driver.poll(&self.arena).unwrap().is_some() {
            self.done += 1;
        }
        if !self.habit.asks(now_ns) {
            return;
        }
        let writable = self.io.direction == Direction::Read;
        let kind = if writable { RequestType::In } else { RequestType::Out };
        let data = [Buffer { guest_addr: GUEST_ADDR + (1 << 20), len: self.io.bytes, writable }];
        while self.driver.in_flight() < usize::from(self.habit.depth) {
            self.driver.submit(&self.arena, kind, 0, &data).unwrap();
        }
        let _ = self.driver.publish();
    }
}
