//! What a chain costs: taken, returned and published, by our ring and by `virtio-queue` over the same guest.
//!
//! `cargo bench -p vfiomux-guest` prints nanoseconds a chain, the fastest of many batches: the cost of the code, with rings
//! and descriptors in the cache and nobody else on the core.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use vfiomux_guest::driver::{Arena, Buffer, DriverRing};
use vfiomux_guest::{Chain, Hint, Inflight, MapRegion, MemoryMap, SplitRing};
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

const GUEST_ADDR: u64 = 1 << 32;
const SIZE: u16 = 256;
const BATCH: u64 = 64;
const ROUNDS: u32 = 20_000;
const DATA: u64 = GUEST_ADDR + 0x10_0000;
const TABLES: u64 = GUEST_ADDR + 0x8_0000;
const FEATURES: u64 = RING_EVENT_IDX | RING_INDIRECT_DESC;

struct Guest {
    arena: Arena,
    driver: DriverRing,
    indirect: bool,
}

impl Guest {
    fn new(indirect: bool) -> Self {
        let arena = Arena::new(8 << 20, GUEST_ADDR).expect("an arena");
        let driver = DriverRing::new(&arena, GUEST_ADDR, SIZE, FEATURES).expect("a ring");
        Self { arena, driver, indirect }
    }

    /// Makes a batch of block reads available: header, 4 KiB, status.
    fn send(&mut self) {
        for n in 0..BATCH {
            let at = DATA + n * 8192;
            let buffers = [
                Buffer { guest_addr: at, len: 16, writable: false },
                Buffer { guest_addr: at + 4096, len: 4096, writable: true },
                Buffer { guest_addr: at + 16, len: 1, writable: true },
            ];
            let sent = if self.indirect {
                self.driver.add_indirect(&self.arena, TABLES + n * 64, &buffers)
            } else {
                self.driver.add(&buffers)
            };
            assert!(sent.is_some(), "the ring is full");
        }
        let _ = self.driver.publish();
    }

    fn receive(&mut self) {
        for _ in 0..BATCH {
            assert!(matches!(self.driver.poll(), Ok(Some(_))), "a chain did not come back");
        }
    }

    /// The fastest batch, in nanoseconds a chain: with the guest on this core, then on another, whose cache then holds
    /// the ring and the descriptors.
    fn time(&mut self, name: &str, mut device: impl FnMut()) {
        let kind = if self.indirect { "indirect" } else { "direct" };
        let mut batch = || {
            let start = Instant::now();
            device();
            start.elapsed()
        };
        let near = (0..ROUNDS).map(|_| {
            self.send();
            let took = batch();
            self.receive();
            took
        });
        let near = near.min().unwrap_or_default();
        // Even: the guest's turn; odd: the device's.
        let turn = AtomicU32::new(0);
        let wait = |until: u32| {
            while turn.load(Ordering::Acquire) != until {
                std::hint::spin_loop()
            }
        };
        let far = std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in (0..2 * ROUNDS).step_by(2) {
                    wait(round);
                    self.send();
                    turn.store(round + 1, Ordering::Release);
                    wait(round + 2);
                    self.receive();
                }
            });
            let far = (0..2 * ROUNDS).step_by(2).map(|round| {
                wait(round + 1);
                let took = batch();
                turn.store(round + 2, Ordering::Release);
                took
            });
            far.min().unwrap_or_default()
        });
        let each = |took: Duration| took.as_nanos() as f64 / BATCH as f64;
        println!("{name:<28} {kind:<9} {:6.1} ns {:6.1} ns", each(near), each(far));
    }
}

fn ours(indirect: bool, regions: u64, tracked: bool, block: bool) {
    let mut guest = Guest::new(indirect);
    let spare = Arena::new(4096, 0).expect("an arena");
    let place = |guest_addr, arena: &Arena| MapRegion {
        guest_addr,
        user_addr: if guest_addr == GUEST_ADDR { arena.user_addr() } else { guest_addr },
        file: arena.region().clone(),
        grant: None,
    };
    let mut all: Vec<MapRegion> = (1..regions).map(|n| place(n << 13, &spare)).collect();
    all.push(place(GUEST_ADDR, &guest.arena));
    let map = MemoryMap::new(all).expect("a map");
    let inflight = tracked.then(|| Inflight::create(1, SIZE).expect("an in-flight region"));
    let inflight = inflight.and_then(|inflight| inflight.queue(0));
    let mut ring = SplitRing::new(&map, &guest.driver.setup(), inflight).expect("a ring");
    let mut chain = Chain::new();
    let name = match (tracked, block) {
        (false, false) => format!("ring, {regions} regions"),
        (true, false) => "ring, in-flight region".into(),
        _ => "ring, header and status".into(),
    };
    guest.time(&name, || {
        let (mut header, mut hint) = ([0; 16], Hint::default());
        while let Some(head) = ring.pop(&map, &mut chain).expect("a good guest") {
            if block {
                chain.take_readable(&map, &mut header).expect("a header");
                let status = chain.take_last_byte().expect("a status");
                map.copy_to(&status, &[0], &mut hint).expect("a status");
            }
            black_box((chain.readable(), chain.writable(), &header));
            ring.push_used(head, 4097);
        }
        ring.publish();
        black_box(ring.should_call());
    });
}

fn peers(indirect: bool) {
    let mut guest = Guest::new(indirect);
    let file = guest.arena.file().and_then(|file| file.try_clone_to_owned().ok()).expect("a file");
    let range = (GuestAddress(GUEST_ADDR), 8 << 20, Some(FileOffset::new(file.into(), 0)));
    let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges_with_files([range]).expect("memory");
    let setup = guest.driver.setup();
    let at = |user_addr: u64| GuestAddress(user_addr - guest.arena.user_addr() + GUEST_ADDR);
    let mut queue = Queue::new(SIZE).expect("a queue");
    queue.set_size(SIZE);
    queue.try_set_desc_table_address(at(setup.desc_user_addr)).expect("aligned");
    queue.try_set_avail_ring_address(at(setup.avail_user_addr)).expect("aligned");
    queue.try_set_used_ring_address(at(setup.used_user_addr)).expect("aligned");
    queue.set_event_idx(true);
    queue.set_ready(true);
    guest.time("virtio-queue 0.18", || {
        while let Some(chain) = queue.pop_descriptor_chain(&memory) {
            let head = chain.head_index();
            chain.for_each(|descriptor| {
                black_box(descriptor);
            });
            queue.add_used(&memory, head, 4097).expect("a used entry");
        }
        black_box(queue.needs_notification(&memory).expect("an answer"));
    });
}

fn main() {
    for indirect in [false, true] {
        ours(indirect, 1, false, false);
        ours(indirect, 509, false, false);
        ours(indirect, 1, true, false);
        ours(indirect, 1, false, true);
        peers(indirect);
    }
}
