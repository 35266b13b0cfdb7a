//! The data path allocates nothing, on either side.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::*;
use crate::Inflight;

struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

// SAFETY: all is passed to the system's allocator; counting touches a plain thread-local.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn popping_returning_and_publishing_allocate_nothing() {
    let arena = Arena::new(ARENA_BYTES, RING_ADDR).unwrap();
    let mut driver = DriverRing::new(&arena, RING_ADDR, 256, ALL).unwrap();
    let inflight = Inflight::create(1, 256).unwrap();
    let mut ring = SplitRing::new(arena.map(), &driver.setup(), inflight.queue(0)).unwrap();
    let mut chain = Chain::new();
    let mut header = [0; 16];
    let long: Vec<Buffer> = (0..40).map(|n| reads(DATA + n * 4096, 4096)).chain([writes(DATA, 1)]).collect();
    let before = ALLOCATIONS.get();
    assert_ne!(before, 0, "the allocator does not count");
    for round in 0..8 {
        driver.add(&long).unwrap();
        driver.add_indirect(&arena, TABLES, &long).unwrap();
        driver.add(&block_read(DATA, 4096)).unwrap();
        let _ = driver.publish();
        let again = ring.pop(arena.map(), &mut chain).unwrap().unwrap();
        ring.put_back(again);
        let mut taken = 0;
        while let Some(head) = ring.pop(arena.map(), &mut chain).unwrap() {
            chain.take_readable(arena.map(), &mut header).unwrap();
            let status = chain.take_last_byte().unwrap();
            arena.map().copy_to(&status, &[0], &mut Hint::default()).unwrap();
            ring.push_used(head, 1);
            taken += 1;
        }
        ring.publish();
        let _ = (ring.should_call(), ring.arm());
        ring.disarm();
        while driver.poll().unwrap().is_some() {}
        assert_eq!((taken, ALLOCATIONS.get() - before), (3, 0), "round {round}");
    }
}
