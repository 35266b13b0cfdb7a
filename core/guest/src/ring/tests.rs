//! A ring between our device side and our driver side, in one arena.

mod ahead;
mod faults;
mod hostile;
mod notify;
mod once;
mod peer;
mod service;
mod still;

use std::sync::Arc;

use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC};
use vfiomux_spec::virtio::split::{Descriptor, desc_offset};
use zerocopy::IntoBytes;

use crate::driver::{Arena, Buffer, DriverRing};
use crate::memory::{Hint, MemoryMap};
use crate::{Chain, Head, RingFault, SplitRing};

pub(crate) const ALL: u64 = RING_EVENT_IDX | RING_INDIRECT_DESC;
const RING_ADDR: u64 = 0x10_0000;
/// Where tests put the data of requests, and indirect tables: 1 MiB and 256 KiB after the rings.
pub(crate) const DATA: u64 = RING_ADDR + 0x10_0000;
pub(crate) const TABLES: u64 = DATA + 0x10_0000;
const ARENA_BYTES: u64 = 0x24_0000;

pub(crate) struct Bench {
    pub(crate) arena: Arc<Arena>,
    pub(crate) driver: DriverRing,
    pub(crate) ring: SplitRing,
    pub(crate) chain: Chain,
}

impl Bench {
    pub(crate) fn new(size: u16, features: u64) -> Self {
        let arena = Arc::new(Arena::new(ARENA_BYTES, RING_ADDR).unwrap());
        let driver = DriverRing::new(&arena, RING_ADDR, size, features).unwrap();
        let ring = SplitRing::new(arena.map(), &driver.setup(), None).unwrap();
        Self { arena, driver, ring, chain: Chain::new() }
    }

    pub(crate) fn pop(&mut self) -> Result<Option<Head>, RingFault> {
        self.ring.pop(self.arena.map(), &mut self.chain)
    }

    /// Pops a chain that must be there.
    pub(crate) fn popped(&mut self) -> Head {
        self.pop().unwrap().expect("a chain is available")
    }

    /// Writes a descriptor as only a broken driver would.
    pub(crate) fn raw(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let descriptor =
            Descriptor { addr: addr.into(), len: len.into(), flags: flags.into(), next: next.into() };
        self.arena.write(RING_ADDR + desc_offset(index), descriptor.as_bytes()).unwrap();
    }

    /// Makes a head available, whatever hangs from it: the `nth` since the ring began.
    pub(crate) fn offer(&self, nth: u16, head: u16) {
        self.offer_entry(nth, head);
        let avail = RING_ADDR + desc_offset(self.ring.size());
        self.arena.write(avail + 2, &nth.wrapping_add(1).to_le_bytes()).unwrap();
    }

    /// Writes the `nth` available entry, and leaves the index.
    pub(crate) fn offer_entry(&self, nth: u16, head: u16) {
        let size = self.ring.size();
        let entry = RING_ADDR + desc_offset(size) + 4 + 2 * u64::from(nth % size);
        self.arena.write(entry, &head.to_le_bytes()).unwrap();
    }

    /// The chain's buffers as the guest named them.
    pub(crate) fn buffers(&self) -> Vec<Buffer> {
        buffers_of(&self.chain, self.arena.map())
    }
}

pub(crate) fn buffers_of(chain: &Chain, map: &MemoryMap) -> Vec<Buffer> {
    let region = &map.regions()[0];
    let buffer = |writable| {
        move |segment: &vfiomux_hw::Segment| Buffer {
            guest_addr: region.guest_addr
                + (segment.host().as_ptr() as u64 - region.file.host().as_ptr() as u64),
            len: segment.len(),
            writable,
        }
    };
    chain.readable().iter().map(buffer(false)).chain(chain.writable().iter().map(buffer(true))).collect()
}

pub(crate) fn reads(guest_addr: u64, len: u32) -> Buffer {
    Buffer { guest_addr, len, writable: false }
}

pub(crate) fn writes(guest_addr: u64, len: u32) -> Buffer {
    Buffer { guest_addr, len, writable: true }
}

/// The buffers of a block read of `len` bytes: header, data, status.
pub(crate) fn block_read(at: u64, len: u32) -> [Buffer; 3] {
    [reads(at, 16), writes(at + 4096, len), writes(at + 16, 1)]
}

/// What a test wrote at a guest address.
pub(crate) fn bytes<const N: usize>(map: &MemoryMap, addr: u64) -> [u8; N] {
    let mut bytes = [0; N];
    map.read(addr, &mut bytes, &mut Hint::default()).unwrap();
    bytes
}
