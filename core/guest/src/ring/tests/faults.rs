//! Every rule that a guest can break, broken by hand.

use super::*;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// What pops when `broken` has set up the chain of descriptor 0.
fn fault(features: u64, broken: impl FnOnce(&Bench)) -> RingFault {
    let mut bench = Bench::new(8, features);
    broken(&bench);
    bench.offer(0, 0);
    let fault = bench.pop().expect_err("a broken chain was taken");
    assert_eq!(bench.pop(), Err(fault), "a ring at fault went on");
    assert_eq!((bench.ring.next_avail(), bench.ring.out()), (0, 0));
    fault
}

#[test]
fn an_available_index_that_jumps() {
    let mut bench = Bench::new(8, 0);
    bench.offer(8, 0);
    assert_eq!(bench.pop(), Err(RingFault::AvailIndex));
    assert_eq!(bench.pop(), Err(RingFault::AvailIndex));
}

#[test]
fn a_head_outside_the_table() {
    let mut bench = Bench::new(8, 0);
    bench.offer(0, 8);
    assert_eq!(bench.pop(), Err(RingFault::DescriptorIndex));
}

#[test]
fn a_next_outside_the_table() {
    assert_eq!(fault(0, |bench| bench.raw(0, DATA, 16, NEXT, 8)), RingFault::DescriptorIndex);
    let far = |bench: &Bench| bench.raw(0, DATA, 16, NEXT, u16::MAX);
    assert_eq!(fault(0, far), RingFault::DescriptorIndex);
}

#[test]
fn a_loop() {
    assert_eq!(fault(0, |bench| bench.raw(0, DATA, 16, NEXT, 0)), RingFault::TooLong);
    let pair = |bench: &Bench| {
        bench.raw(0, DATA, 16, NEXT, 1);
        bench.raw(1, DATA, 0, NEXT, 0);
    };
    assert_eq!(fault(0, pair), RingFault::TooLong);
}

#[test]
fn a_chain_that_is_available_while_in_flight() {
    let mut bench = Bench::new(8, 0);
    bench.raw(0, DATA, 16, 0, 0);
    bench.offer(0, 0);
    let _head = bench.popped();
    bench.offer(1, 0);
    assert_eq!(bench.pop(), Err(RingFault::HeadInFlight));
    assert_eq!(bench.ring.out(), 1);
}

/// C1.
#[test]
fn a_buffer_outside_memory() {
    let end = RING_ADDR + ARENA_BYTES;
    for (addr, len) in [(0, 1), (end, 1), (end - 8, 9), (u64::MAX, 2), (u64::MAX - 8, 8), (DATA, u32::MAX)] {
        assert_eq!(
            fault(0, |bench| bench.raw(0, addr, len, 0, 0)),
            RingFault::OutsideMemory,
            "{addr:#x}+{len:#x}"
        );
    }
}

#[test]
fn a_readable_buffer_after_a_writable_one() {
    let broken = |bench: &Bench| {
        bench.raw(0, DATA, 16, NEXT | WRITE, 1);
        bench.raw(1, DATA, 16, 0, 0);
    };
    assert_eq!(fault(0, broken), RingFault::ReadableAfterWritable);
}

#[test]
fn an_indirect_table_that_the_standard_forbids() {
    let table = |features, len, flags, next| {
        fault(features, |bench| bench.raw(0, TABLES, len, flags, next));
        fault(features, |bench| bench.raw(0, TABLES, len, flags, next))
    };
    assert_eq!(table(0, 16, INDIRECT, 0), RingFault::BadIndirect, "not negotiated");
    assert_eq!(table(ALL, 16, INDIRECT | NEXT, 1), RingFault::BadIndirect, "goes on");
    assert_eq!(table(ALL, 0, INDIRECT, 0), RingFault::BadIndirect, "empty");
    assert_eq!(table(ALL, 24, INDIRECT, 0), RingFault::BadIndirect, "half a descriptor");
}

#[test]
fn a_table_in_a_table_or_outside_memory_or_with_a_loop() {
    let with_entry = |addr: u64, flags: u16, next: u16| {
        move |bench: &Bench| {
            let entry =
                Descriptor { addr: addr.into(), len: 16.into(), flags: flags.into(), next: next.into() };
            bench.arena.write(TABLES, entry.as_bytes()).unwrap();
            bench.raw(0, TABLES, 16, INDIRECT, 0);
        }
    };
    assert_eq!(fault(ALL, with_entry(DATA, INDIRECT, 0)), RingFault::BadIndirect);
    assert_eq!(fault(ALL, with_entry(DATA, NEXT, 0)), RingFault::TooLong);
    let next_outside = |bench: &Bench| {
        with_entry(DATA, NEXT, 2)(bench);
        bench.raw(0, TABLES, 32, INDIRECT, 0);
    };
    assert_eq!(fault(ALL, next_outside), RingFault::DescriptorIndex);
    assert_eq!(fault(ALL, with_entry(0, 0, 0)), RingFault::OutsideMemory);
    let end = RING_ADDR + ARENA_BYTES;
    let outside = |bench: &Bench| bench.raw(0, end, 16, INDIRECT, 0);
    assert_eq!(fault(ALL, outside), RingFault::OutsideMemory);
}

#[test]
fn more_segments_than_are_taken() {
    let mut bench = Bench::new(8, ALL);
    bench.chain = Chain::with_room_for(4);
    let buffers = |count| (0..count).map(|n| reads(DATA + n * 64, 64)).collect::<Vec<_>>();
    bench.driver.add_indirect(&bench.arena, TABLES, &buffers(4)).unwrap();
    bench.driver.add_indirect(&bench.arena, TABLES + 0x1000, &buffers(5)).unwrap();
    let _ = bench.driver.publish();
    let _head = bench.popped();
    assert_eq!(bench.pop(), Err(RingFault::TooLong));
}

/// ISO2: however long a table claims to be, its chain is followed only as far as there is room.
#[test]
fn buffers_of_no_bytes_without_end() {
    let mut bench = Bench::new(1024, ALL);
    let nothing = Descriptor { addr: 0.into(), len: 0.into(), flags: NEXT.into(), next: 0.into() };
    bench.arena.write(TABLES, nothing.as_bytes()).unwrap();
    let whole = (ARENA_BYTES - (TABLES - RING_ADDR)) as u32;
    bench.raw(0, TABLES, whole, INDIRECT, 0);
    (1..1024).for_each(|index| bench.raw(index, 0, 0, NEXT, (index + 1) % 1024));
    bench.chain = Chain::with_room_for(64);
    for head in [0, 1] {
        bench.offer(0, head);
        let (popped, reads) = crate::memory::watch::reads_of(|| bench.pop());
        assert_eq!(popped, Err(RingFault::TooLong));
        assert!(reads.len() < 3 * 64, "{} reads for a chain with room for 64", reads.len());
    }
}

/// C1: the sum of a chain's lengths.
#[test]
fn more_bytes_than_a_chain_may_have() {
    let file = crate::fixture::region(1 << 31);
    let place = |guest_addr, file| crate::MapRegion { guest_addr, user_addr: guest_addr, file, grant: None };
    let arena = Arena::new(0x1000, 0x10_0000).unwrap();
    let ring_region =
        crate::MapRegion { user_addr: arena.user_addr(), ..place(0x10_0000, arena.region().clone()) };
    let map = MemoryMap::new(vec![ring_region, place(1 << 32, file)]).unwrap();
    let mut driver = DriverRing::new(&arena, 0x10_0000, 4, 0).unwrap();
    let half = reads(1 << 32, 1 << 31);
    driver.add(&[half, Buffer { len: (1 << 31) - 1, ..half }]).unwrap();
    driver.add(&[half, half]).unwrap();
    let _ = driver.publish();
    let (mut ring, mut chain) = (SplitRing::new(&map, &driver.setup(), None).unwrap(), Chain::new());
    let _head = ring.pop(&map, &mut chain).unwrap().unwrap();
    assert_eq!(chain.readable_bytes(), u32::MAX);
    assert_eq!(ring.pop(&map, &mut chain), Err(RingFault::TooLong));
}
