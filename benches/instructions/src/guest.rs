use std::sync::Arc;

use vfiomux_channel::driver::BlkDriver;
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_hw::{DmaDomain, Rights};
use vfiomux_spec::virtio::blk::RequestType;
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1};

/// Where a guest sees its memory.
pub(crate) const GUEST_ADDR: u64 = 1 << 32;
/// Bytes of data of a request.
pub(crate) const REQUEST_BYTES: u32 = 4096;
/// Blocks of 512 bytes of such a request.
const REQUEST_SECTORS: u64 = REQUEST_BYTES as u64 / 512;

/// A guest with one block device of one queue: memory, driver, and how far it has come.
#[derive(Debug)]
pub struct Guest {
    arena: Arena,
    driver: BlkDriver,
    data_addr: u64,
    sectors: u64,
    next_sector: u64,
}

impl Guest {
    /// A guest that can have `depth` requests of 4 KiB under way, each a chain in an indirect table, as Linux sends them.
    #[must_use]
    pub fn new(depth: u16, sectors: u64) -> Self {
        // Chains of three descriptors may lie in the ring itself too.
        let size = (depth * 4).next_power_of_two();
        let data_offset = BlkDriver::size_bytes(size).next_multiple_of(u64::from(REQUEST_BYTES));
        let size_bytes = data_offset + u64::from(size) * u64::from(REQUEST_BYTES);
        let arena = Arena::new(size_bytes, GUEST_ADDR).expect("memory for a guest");
        let features = VERSION_1 | RING_EVENT_IDX | RING_INDIRECT_DESC;
        let driver = BlkDriver::new(&arena, GUEST_ADDR, size, features).expect("a driver");
        Self { data_addr: GUEST_ADDR + data_offset, arena, driver, sectors, next_sector: 0 }
    }

    /// The guest's memory as a back-end has it: mapped into `domain`, if the device needs that.
    pub(crate) fn map(&self, domain: Option<&Arc<DmaDomain>>) -> Arc<MemoryMap> {
        let file = self.arena.region().clone();
        let grant = domain.map(|domain| domain.map(file.clone(), Rights::READ_WRITE).expect("a mapping"));
        let user_addr = self.arena.user_addr();
        Arc::new(
            MemoryMap::new(vec![MapRegion { guest_addr: GUEST_ADDR, user_addr, file, grant }])
                .expect("a map"),
        )
    }

    pub(crate) fn ring(&self, map: &MemoryMap) -> SplitRing {
        SplitRing::new(map, &self.driver.setup(), None).expect("a ring")
    }

    /// Makes `count` requests available, each on blocks of its own.
    pub(crate) fn send(&mut self, kind: RequestType, count: u32) {
        for _ in 0..count {
            let token = self.driver.next_token().expect("a free place");
            let guest_addr = self.data_addr + u64::from(token) * u64::from(REQUEST_BYTES);
            let data = [Buffer { guest_addr, len: REQUEST_BYTES, writable: kind == RequestType::In }];
            self.driver.submit(&self.arena, kind, self.next_sector, &data).expect("room in the ring");
            self.next_sector += REQUEST_SECTORS;
            if self.next_sector + REQUEST_SECTORS > self.sectors {
                self.next_sector = 0;
            }
        }
        let _ = self.driver.publish();
    }

    /// Takes back what the device has returned, all of it well done, and gives how many there were.
    pub(crate) fn take_back(&mut self) -> u32 {
        let mut count = 0;
        while let Some(done) = self.driver.poll(&self.arena).expect("a device that keeps the rules") {
            assert_eq!(done.status, 0, "a request failed");
            count += 1;
        }
        count
    }
}
