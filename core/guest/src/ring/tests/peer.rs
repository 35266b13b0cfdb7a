//! Against an independent implementation: `virtio-queue` pops the same chains and writes the same used ring.

use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// A chain of so many readable and writable buffers of such lengths, in a table or not.
    Send { readable: usize, writable: usize, len: u32, indirect: bool },
    /// Both devices take a chain.
    Pop,
    /// Both devices return one of theirs, with a length, and let the driver see it.
    Return(usize, u32),
    /// Both ask whether to call.
    Call,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send =
        (0usize..6, 0usize..6, 1u32..9000, any::<bool>()).prop_map(|(readable, writable, len, indirect)| {
            Step::Send { readable: readable.max(usize::from(writable == 0)), writable, len, indirect }
        });
    let step = prop_oneof![
        3 => send,
        3 => Just(Step::Pop),
        3 => (any::<usize>(), any::<u32>()).prop_map(|(which, len)| Step::Return(which, len)),
        1 => Just(Step::Call),
    ];
    proptest::collection::vec(step, 0..120)
}

/// The peer's view of the same file.
fn peer_memory(arena: &Arena) -> GuestMemoryMmap {
    let file = std::fs::File::from(arena.file().unwrap().try_clone_to_owned().unwrap());
    let range = (GuestAddress(RING_ADDR), ARENA_BYTES as usize, Some(FileOffset::new(file, 0)));
    GuestMemoryMmap::from_ranges_with_files([range]).unwrap()
}

fn peer_queue(size: u16, event_idx: bool, bench: &Bench) -> Queue {
    let setup = bench.driver.setup();
    let guest = |user_addr: u64| GuestAddress(user_addr - bench.arena.user_addr() + RING_ADDR);
    let mut queue = Queue::new(size).unwrap();
    queue.set_size(size);
    queue.try_set_desc_table_address(guest(setup.desc_user_addr)).unwrap();
    queue.try_set_avail_ring_address(guest(setup.avail_user_addr)).unwrap();
    queue.try_set_used_ring_address(guest(setup.used_user_addr)).unwrap();
    queue.set_event_idx(event_idx);
    queue.set_ready(true);
    queue
}

fn send(bench: &mut Bench, step: &Step, nth: u64) {
    let &Step::Send { readable, writable, len, indirect } = step else { return };
    let at = DATA + (nth % 64) * 0x4000;
    let mut buffers = vec![reads(at, len); readable];
    buffers.resize(readable + writable, writes(at, len));
    if indirect {
        bench.driver.add_indirect(&bench.arena, TABLES + (nth % 64) * 0x400, &buffers);
    } else {
        bench.driver.add(&buffers);
    }
    let _ = bench.driver.publish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_devices_pop_the_same_chains_and_write_the_same_used_ring(
        steps in steps(),
        event_idx in any::<bool>(),
        size in prop_oneof![Just(1u16), Just(4), Just(16), Just(64)],
    ) {
        let features = RING_INDIRECT_DESC | if event_idx { RING_EVENT_IDX } else { 0 };
        // The same guest twice, one for each device.
        let (mut ours, mut theirs) = (Bench::new(size, features), Bench::new(size, features));
        let memory = peer_memory(&theirs.arena);
        let mut queue = peer_queue(size, event_idx, &theirs);
        let mut out = Vec::new();
        for (nth, step) in (0..).zip(&steps) {
            match step {
                Step::Send { .. } => {
                    send(&mut ours, step, nth);
                    send(&mut theirs, step, nth);
                }
                Step::Pop => {
                    let (head, chain) = (ours.pop().unwrap(), queue.pop_descriptor_chain(&memory));
                    prop_assert_eq!(head.as_ref().map(Head::index), chain.as_ref().map(|chain| chain.head_index()));
                    let Some((head, chain)) = head.zip(chain) else { continue };
                    let peers: Vec<Buffer> = chain
                        .map(|descriptor| Buffer {
                            guest_addr: descriptor.addr().0,
                            len: descriptor.len(),
                            writable: descriptor.is_write_only(),
                        })
                        .collect();
                    prop_assert_eq!(ours.buffers(), peers);
                    out.push(head);
                }
                Step::Return(..) if out.is_empty() => {}
                &Step::Return(which, len) => {
                    let head = out.swap_remove(which % out.len());
                    queue.add_used(&memory, head.index(), len).unwrap();
                    ours.ring.push_used(head, len);
                    ours.ring.publish();
                    prop_assert_eq!(ours.driver.poll(), theirs.driver.poll());
                    prop_assert_eq!(ours.driver.poll(), Ok(None));
                }
                Step::Call => {
                    let call = ours.ring.should_call();
                    let peers = queue.needs_notification(&memory).unwrap();
                    // Without event indices the peer always says yes, also when nothing was published.
                    prop_assert!(call == peers || !event_idx, "{} {}", call, peers);
                }
            }
            prop_assert_eq!(ours.ring.next_avail(), queue.next_avail());
        }
        let all = |bench: &Bench| {
            let mut all = vec![0; ARENA_BYTES as usize];
            bench.arena.read(RING_ADDR, &mut all).unwrap();
            all
        };
        prop_assert!(all(&ours) == all(&theirs), "the two guests' memories differ");
    }
}
