//! The ring alone: chains taken, returned and published.

use std::hint::black_box;
use std::sync::Arc;

use vfiomux_guest::driver::{Arena, Buffer, DriverRing};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::{Chain, Head, SplitRing};
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC};

use crate::guest::GUEST_ADDR;
use crate::{OPERATIONS, counted};

const SIZE: u16 = 512;
const ARENA_BYTES: u64 = 4 << 20;
const TABLES_ADDR: u64 = GUEST_ADDR + 0x8_0000;
const DATA_ADDR: u64 = GUEST_ADDR + 0x10_0000;

/// How chains lie in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingKind {
    /// Three descriptors in the table.
    Direct,
    /// One descriptor in the table, which names three in a table of their own.
    Indirect,
}

/// A ring, its driver, and as many chains in flight all along as was asked for.
#[derive(Debug)]
pub struct RingWorld {
    arena: Arena,
    driver: DriverRing,
    kind: RingKind,
    map: Arc<MemoryMap>,
    ring: SplitRing,
    chain: Chain,
    in_flight: Vec<Head>,
    batch: u32,
}

impl RingWorld {
    /// A ring of 512 entries whose chains are taken `batch` at a time, while `in_flight` others stay taken.
    #[must_use]
    pub fn new(kind: RingKind, in_flight: u32, batch: u32) -> Self {
        let arena = Arena::new(ARENA_BYTES, GUEST_ADDR).expect("memory for a guest");
        let features = RING_EVENT_IDX | RING_INDIRECT_DESC;
        let driver = DriverRing::new(&arena, GUEST_ADDR, SIZE, features).expect("a driver");
        let region = MapRegion {
            guest_addr: GUEST_ADDR,
            user_addr: arena.user_addr(),
            file: arena.region().clone(),
            grant: None,
        };
        let map = Arc::new(MemoryMap::new(vec![region]).expect("a map"));
        let ring = SplitRing::new(&map, &driver.setup(), None).expect("a ring");
        let chain = Chain::new();
        let mut world = Self { arena, driver, kind, map, ring, chain, in_flight: Vec::new(), batch };
        world.send(in_flight);
        while let Some(head) = world.ring.pop(&world.map, &mut world.chain).expect("a good guest") {
            world.in_flight.push(head);
        }
        assert_eq!(world.in_flight.len(), in_flight as usize);
        world.in_flight.reserve(batch as usize);
        world
    }

    /// Makes chains available: header, 4 KiB, status.
    fn send(&mut self, count: u32) {
        for n in 0..u64::from(count) {
            let at = DATA_ADDR + n * 8192;
            let buffers = [
                Buffer { guest_addr: at, len: 16, writable: false },
                Buffer { guest_addr: at + 4096, len: 4096, writable: true },
                Buffer { guest_addr: at + 16, len: 1, writable: true },
            ];
            let sent = match self.kind {
                RingKind::Direct => self.driver.add(&buffers),
                RingKind::Indirect => self.driver.add_indirect(&self.arena, TABLES_ADDR + n * 64, &buffers),
            };
            sent.expect("room in the ring");
        }
        let _ = self.driver.publish();
    }

    fn take_back(&mut self) -> u32 {
        let mut count = 0;
        while self.driver.poll().expect("a device that keeps the rules").is_some() {
            count += 1;
        }
        count
    }

    /// Takes every chain and returns it, the oldest in flight first.
    pub fn run(&mut self) {
        let mut left = OPERATIONS;
        while left > 0 {
            let batch = self.batch.min(left);
            self.send(batch);
            let Self { map, ring, chain, in_flight, .. } = self;
            let mut oldest = 0;
            counted(&mut || {
                while let Ok(Some(head)) = ring.pop(map, chain) {
                    black_box((chain.readable(), chain.writable()));
                    in_flight.push(head);
                }
                for head in in_flight.drain(..batch as usize) {
                    oldest += black_box(1);
                    ring.push_used(head, 4097);
                }
                ring.publish();
                black_box(ring.should_call());
            });
            assert_eq!((oldest, self.take_back()), (batch, batch));
            left -= batch;
        }
    }
}
