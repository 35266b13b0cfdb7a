//! What is fetched ahead decides nothing.

use vfiomux_spec::virtio::split::{DESC_F_INDIRECT, DESC_F_WRITE};

use super::*;

const SIZE: u16 = 16;

/// A ring on which all the heads are offered, each a read of its own place.
fn full() -> Bench {
    let bench = Bench::new(SIZE, ALL);
    for head in 0..SIZE {
        bench.raw(head, DATA + u64::from(head) * 64, 16, 0, 0);
        bench.offer(head, head);
    }
    bench
}

/// I3: every request but the first has been looked at when the guest changes its mind, and is what the guest made of it.
#[test]
fn what_the_guest_changes_after_a_look_ahead_is_what_counts() {
    let mut bench = full();
    let mut out = vec![bench.popped()];
    for head in 1..SIZE {
        let table = Descriptor {
            addr: (DATA + 0x8000 + u64::from(head) * 64).into(),
            len: 32.into(),
            flags: DESC_F_WRITE.into(),
            next: 0.into(),
        };
        let table_addr = TABLES + u64::from(head) * 256;
        bench.arena.write(table_addr, table.as_bytes()).unwrap();
        bench.raw(head, table_addr, 16, DESC_F_INDIRECT, 0);
    }
    for head in 1..SIZE {
        out.push(bench.popped());
        assert_eq!(bench.buffers(), [writes(DATA + 0x8000 + u64::from(head) * 64, 32)]);
    }
    assert_eq!(bench.pop(), Ok(None));
    out.into_iter().for_each(|head| bench.ring.push_used(head, 0));
}

/// ISO2: a fault further back is found when its turn comes, and what is before it is served.
#[test]
fn a_fault_that_lies_ahead_waits_for_its_turn() {
    type Spoil = fn(&Bench, u16);
    let spoils: [(Spoil, RingFault); 5] = [
        (|bench, nth| bench.offer_entry(nth, 0xffff), RingFault::DescriptorIndex),
        (|bench, nth| bench.raw(nth, u64::MAX - 8, 16, 0, 0), RingFault::OutsideMemory),
        (|bench, nth| bench.raw(nth, u64::MAX - 8, 16, DESC_F_INDIRECT, 0), RingFault::OutsideMemory),
        // A table that begins in the last bytes of memory, and one that is not aligned and names nothing.
        (
            |bench, nth| bench.raw(nth, RING_ADDR + ARENA_BYTES - 8, 16, DESC_F_INDIRECT, 0),
            RingFault::OutsideMemory,
        ),
        (|bench, nth| bench.raw(nth, TABLES + 3, 16, DESC_F_INDIRECT, 0), RingFault::OutsideMemory),
    ];
    for (spoil, fault) in spoils {
        for nth in 1..SIZE {
            let mut bench = full();
            bench.arena.write(TABLES, &[0xff; 64]).unwrap();
            spoil(&bench, nth);
            let out: Vec<Head> = (0..nth).map(|_| bench.popped()).collect();
            match bench.pop() {
                // The unaligned table is all ones: with INDIRECT set again.
                Err(found) => assert!(found == fault || found == RingFault::BadIndirect, "{found:?}"),
                other => panic!("{other:?}"),
            }
            out.into_iter().for_each(|head| bench.ring.push_used(head, 0));
        }
    }
}

/// A head whose last request lay in memory that is gone: nothing is followed, and nothing happens.
#[test]
fn places_outlive_the_memory_that_they_name() {
    let mut bench = full();
    let out: Vec<Head> = (0..SIZE).map(|_| bench.popped()).collect();
    out.into_iter().for_each(|head| bench.ring.push_used(head, 0));
    bench.ring.publish();
    // The same ring in other memory, which the front-end has where the first was; that one goes away here.
    let Bench { mut ring, arena, .. } = bench;
    let mut bench = Bench::new(SIZE, ALL);
    let moved = crate::memory::MapRegion {
        guest_addr: RING_ADDR,
        user_addr: arena.user_addr(),
        file: bench.arena.region().clone(),
        grant: None,
    };
    let map = MemoryMap::new(vec![moved]).unwrap();
    ring.relocate(&map).unwrap();
    drop(arena);
    for head in 0..SIZE {
        bench.raw(head, DATA + u64::from(head) * 64, 16, 0, 0);
        bench.offer(SIZE + head, head);
    }
    for head in 0..SIZE {
        let popped = ring.pop(&map, &mut bench.chain).unwrap().expect("a chain is available");
        assert_eq!(buffers_of(&bench.chain, &map), [reads(DATA + u64::from(head) * 64, 16)]);
        ring.push_used(popped, 0);
    }
}
