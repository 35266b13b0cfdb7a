//! A busy breath allocates nothing.
#![expect(unsafe_code, reason = "an allocator that counts has to be an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use vfiomux_block::{LocalLane, RamDisk, RamQueue};
use vfiomux_channel::driver::BlkDriver;
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart};
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_sidecore::{Budgets, DeviceSlot, Order, Sidecore};
use vfiomux_spec::virtio::blk::RequestType;

use crate::world::{FEATURES, Random, call};

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

/// The system's allocator, counting what each thread asks it for.
struct Counting;

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) };
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_busy_breath_allocates_nothing() {
    let disk = RamDisk::new(1 << 12, 512).unwrap();
    let mut limits = disk.limits();
    // Splits, bounces, written zeroes and merged flushes included.
    crate::world::Plan::narrow(&mut limits);
    let (mut sidecore, handle) = Sidecore::new(Budgets::default(), 16).unwrap();
    let domain = vfiomux_hw::DmaDomain::new(Box::new(crate::world::Trusting));
    let device = DeviceSlot(0);
    let ask = |sidecore: &mut Sidecore<RamQueue>, order| {
        handle.send(order).unwrap();
        sidecore.breath(0);
        handle.try_recv().unwrap();
    };
    ask(&mut sidecore, Order::AddDevice { device, queue: Box::new(RamQueue::new(disk.clone())) });
    let mut guests = Vec::new();
    for index in 0..3u16 {
        ask(&mut sidecore, Order::AttachLane { device, lane: LocalLane { depth: 16 } });
        let id = ChannelId { index, incarnation: 1 };
        let extent = Extent { lba: u64::from(index) << 10, blocks: 1 << 10 };
        let settings = ChannelSettings {
            id,
            namespace: 1,
            limits,
            extents: ExtentMap::new(&[extent], &limits).unwrap(),
            serial: [0; 20],
            read_only: false,
            rings: 1,
            requests: 32,
            segments_max: 62,
            bounce_blocks: 4,
        };
        let own = domain.allocate(settings.own_memory_bytes()).unwrap();
        let channel = Box::new(BlockChannel::new(settings, Some(own)).unwrap());
        ask(&mut sidecore, Order::AddChannel { channel, device, lane: vfiomux_block::LaneId(index) });
        let arena = Arena::new(8 << 20, 1 << 32).unwrap();
        let driver = BlkDriver::new(&arena, 1 << 32, 64, FEATURES).unwrap();
        let (guest_addr, user_addr) = (arena.guest_addr(), arena.user_addr());
        let region = MapRegion { guest_addr, user_addr, file: arena.region().clone(), grant: None };
        let map = Arc::new(MemoryMap::new(vec![region]).unwrap());
        let ring = SplitRing::new(&map, &driver.setup(), None).unwrap();
        ask(&mut sidecore, Order::SetMemory { channel: id, map });
        let start = Box::new(RingStart { ring, call: Some(call()), kick: None });
        ask(&mut sidecore, Order::StartRing { channel: id, index: 0, start });
        guests.push((arena, driver));
    }
    let mut random = Random(4);
    let (mut allocated, mut done, mut now_ns) = (0, 0, 0);
    for _ in 0..2000 {
        for (arena, driver) in &mut guests {
            while driver.in_flight() < 20 {
                let token = u64::from(driver.next_token().unwrap());
                let base = arena.guest_addr() + (1 << 20) + (token << 16) + random.below(2) * 4;
                let sector = random.below(1 << 10);
                let kind = match random.below(8) {
                    0 => RequestType::Flush,
                    1 => RequestType::GetId,
                    2 => RequestType::WriteZeroes,
                    3..5 => RequestType::Out,
                    _ => RequestType::In,
                };
                let range = [sector.to_le_bytes(), random.below(16).to_le_bytes()].concat();
                let whole = u32::try_from((random.below(16) + 1) * 512).unwrap();
                let buffer = |guest_addr, len, writable| Buffer { guest_addr, len, writable };
                let data = match kind {
                    RequestType::Flush => vec![],
                    RequestType::GetId => vec![buffer(base, 20, true)],
                    RequestType::WriteZeroes => {
                        arena.write(base, &range).unwrap();
                        vec![buffer(base, 16, false)]
                    }
                    // Two odd parts: bounced where they meet.
                    _ => {
                        let writable = kind == RequestType::In;
                        vec![buffer(base, 100, writable), buffer(base + 4096, whole - 100, writable)]
                    }
                };
                driver.submit(arena, kind, sector, &data).unwrap();
            }
            let _ = driver.publish();
        }
        let before = ALLOCATIONS.get();
        now_ns += 1000;
        sidecore.breath(now_ns);
        allocated += ALLOCATIONS.get() - before;
        for (arena, driver) in &mut guests {
            while driver.poll(arena).unwrap().is_some() {
                done += 1;
            }
        }
    }
    assert!(done > 5000, "only {done} requests");
    assert_eq!(allocated, 0);
}
