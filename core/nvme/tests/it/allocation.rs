//! The busy path allocates nothing.
#![expect(unsafe_code, reason = "an allocator is unsafe by its interface; this one counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crate::support::{Rig, flush, read, spec, write};
use vfiomux_block::{BlockQueue, LaneId, Tag};
use vfiomux_sim::DeviceSpec;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn submitting_ringing_and_polling_allocate_nothing() {
    let mut rig = Rig::new(DeviceSpec { sgl: true, ..spec() });
    let mut queue = rig.controller.create_queue(64, None).unwrap();
    let lanes: Vec<LaneId> = (0..4).map(|_| rig.lane(&mut queue, 16)).collect();
    let buffer = rig.buffer(64 * 4096);
    let by_pages = [buffer.segment(512, 8 * 4096)];
    let by_list = [buffer.segment(4, 512), buffer.segment(8192 + 8, 1024)];
    let (mut taken, mut counted) = (0, 0);
    for round in 0..100u64 {
        counted += allocations(|| {
            for &lane in &lanes {
                for _ in 0..5 {
                    queue.submit(lane, Tag(round), &write(round, 64), &by_pages).unwrap();
                    queue.submit(lane, Tag(round), &read(round, 3), &by_list).unwrap();
                    queue.submit(lane, Tag(round), &flush(), &[]).unwrap();
                }
            }
            queue.ring();
        });
        // The device is simulated on this very thread, and may.
        rig.sim.run_until_idle();
        counted += allocations(|| {
            taken += queue.poll(1000, &mut |completion| assert_eq!(completion.tag, Tag(round)));
        });
    }
    assert_eq!((taken, counted), (100 * 4 * 15, 0));
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) > 0, "the allocator does not count");
}
