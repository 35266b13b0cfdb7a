//! A ring in good hands: what goes in comes out, and back.

use super::*;
use crate::driver::Used;
use crate::fixture::placed;
use crate::{GuestError, MapRegion};

#[test]
fn a_chain_arrives_as_it_was_sent_and_goes_back() {
    let mut bench = Bench::new(8, ALL);
    let sent = block_read(DATA, 512);
    let id = bench.driver.add(&sent).unwrap();
    assert!(bench.pop().unwrap().is_none());
    assert!(bench.driver.publish());
    assert_eq!(bench.ring.pending(), 1);
    let head = bench.popped();
    assert_eq!((head.index(), bench.buffers()), (id, sent.to_vec()));
    assert_eq!((bench.chain.readable_bytes(), bench.chain.writable_bytes()), (16, 513));
    assert_eq!((bench.ring.pending(), bench.ring.out()), (0, 1));
    bench.ring.push_used(head, 513);
    assert_eq!(bench.driver.poll(), Ok(None));
    bench.ring.publish();
    assert_eq!(bench.driver.poll(), Ok(Some(Used { head: id, len: 513 })));
    assert_eq!((bench.ring.out(), bench.driver.in_flight()), (0, 0));
}

#[test]
fn chains_may_go_back_in_any_order() {
    let mut bench = Bench::new(16, 0);
    let ids: Vec<u16> =
        (0..4).map(|n| bench.driver.add(&block_read(DATA + n * 0x4000, 512)).unwrap()).collect();
    let _ = bench.driver.publish();
    let heads: Vec<Head> = (0..4).map(|_| bench.popped()).collect();
    for head in heads.into_iter().rev() {
        bench.ring.push_used(head, 0);
    }
    bench.ring.publish();
    let back: Vec<u16> = std::iter::from_fn(|| bench.driver.poll().unwrap()).map(|used| used.head).collect();
    assert_eq!(back, ids.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn an_indirect_chain_arrives_whole() {
    let mut bench = Bench::new(4, ALL);
    let sent = block_read(DATA, 4096);
    // At an address that is no multiple of eight the table is read in another way.
    for table in [TABLES, TABLES + 2] {
        bench.driver.add_indirect(&bench.arena, table, &sent).unwrap();
        let _ = bench.driver.publish();
        let head = bench.popped();
        assert_eq!(bench.buffers(), sent);
        bench.ring.push_used(head, 0);
        bench.ring.publish();
        bench.driver.poll().unwrap().unwrap();
    }
}

#[test]
fn direct_descriptors_may_end_in_an_indirect_one() {
    let mut bench = Bench::new(4, ALL);
    let sent = block_read(DATA, 4096);
    let mut rest = DriverRing::new(&bench.arena, RING_ADDR + 0x8_0000, 4, ALL).unwrap();
    rest.add_indirect(&bench.arena, TABLES, &sent[1..]).unwrap();
    bench.raw(0, DATA, 16, 1, 1);
    bench.raw(1, TABLES, 32, 4, 0);
    bench.offer(0, 0);
    let head = bench.popped();
    assert_eq!((head.index(), bench.buffers()), (0, sent.to_vec()));
}

#[test]
fn a_table_across_two_regions_is_read() {
    let map = MemoryMap::new(vec![placed(0, 0x8000), placed(0x8000, 0x8000)]).unwrap();
    let arena = Arena::new(0x1000, 0x10_0000).unwrap();
    let ring_region = MapRegion {
        guest_addr: 0x10_0000,
        user_addr: arena.user_addr(),
        file: arena.region().clone(),
        grant: None,
    };
    let mut all = map.regions().to_vec();
    all.push(ring_region);
    let map = MemoryMap::new(all).unwrap();
    let driver = DriverRing::new(&arena, 0x10_0000, 4, ALL).unwrap();
    let mut ring = SplitRing::new(&map, &driver.setup(), None).unwrap();
    let table: Vec<Descriptor> = (1..=4)
        .map(|next: u16| Descriptor {
            addr: (u64::from(next) << 8).into(),
            len: 64.into(),
            flags: u16::from(next < 4).into(),
            next: next.into(),
        })
        .collect();
    map.write(0x8000 - 24, table.as_bytes(), &mut Hint::default()).unwrap();
    let whole = Descriptor { addr: (0x8000 - 24).into(), len: 64.into(), flags: 4.into(), next: 0.into() };
    arena.write(0x10_0000, whole.as_bytes()).unwrap();
    arena.write(0x10_0000 + 64 + 2, &1u16.to_le_bytes()).unwrap();
    let mut chain = Chain::new();
    let head = ring.pop(&map, &mut chain).unwrap().unwrap();
    assert_eq!((head.index(), chain.readable().len(), chain.readable_bytes()), (0, 4, 256));
}

#[test]
fn a_buffer_across_two_regions_becomes_two_segments() {
    let arena = Arena::new(0x1000, 0x10_0000).unwrap();
    let ring_region = MapRegion {
        guest_addr: 0x10_0000,
        user_addr: arena.user_addr(),
        file: arena.region().clone(),
        grant: None,
    };
    let map = MemoryMap::new(vec![placed(0, 0x1000), placed(0x1000, 0x1000), ring_region]).unwrap();
    let mut driver = DriverRing::new(&arena, 0x10_0000, 4, 0).unwrap();
    driver.add(&[reads(0xf00, 0x200)]).unwrap();
    let _ = driver.publish();
    let (mut ring, mut chain) = (SplitRing::new(&map, &driver.setup(), None).unwrap(), Chain::new());
    let head = ring.pop(&map, &mut chain).unwrap().unwrap();
    assert_eq!(head.index(), 0);
    assert_eq!(chain.readable().iter().map(|segment| segment.len()).collect::<Vec<_>>(), [0x100, 0x100]);
}

#[test]
fn chains_as_long_as_windows_sends_them_are_taken() {
    let data: Vec<Buffer> = (0..515).map(|n| reads(DATA + n * 512, 512)).collect();
    let mut direct = Bench::new(1024, 0);
    direct.driver.add(&data).unwrap();
    let _ = direct.driver.publish();
    let _head = direct.popped();
    assert_eq!(direct.buffers(), data);
    let mut indirect = Bench::new(128, ALL);
    indirect.driver.add_indirect(&indirect.arena, TABLES, &data).unwrap();
    let _ = indirect.driver.publish();
    let _head = indirect.popped();
    assert_eq!(indirect.buffers(), data);
}

#[test]
fn buffers_of_no_bytes_are_left_out() {
    let mut bench = Bench::new(8, 0);
    let sent = [reads(DATA, 16), reads(u64::MAX, 0), writes(DATA, 0), writes(DATA + 64, 1)];
    bench.driver.add(&sent).unwrap();
    let _ = bench.driver.publish();
    let _head = bench.popped();
    assert_eq!(bench.buffers(), [sent[0], sent[3]]);
}

#[test]
fn indices_run_through_all_of_sixteen_bits() {
    let mut bench = Bench::new(4, ALL);
    for round in 0..70_000u32 {
        let id = bench.driver.add(&[reads(DATA, 16), writes(DATA + 16, 1)]).unwrap();
        assert!(bench.driver.publish() == (round == 0), "round {round}");
        bench.ring.disarm();
        let head = bench.popped();
        bench.ring.push_used(head, round);
        bench.ring.publish();
        assert_eq!(bench.driver.poll(), Ok(Some(Used { head: id, len: round })));
    }
    assert_eq!(bench.ring.stop(), (70_000u32 & 0xffff) as u16);
}

#[test]
fn a_ring_goes_on_at_its_base() {
    let mut bench = Bench::new(8, ALL);
    for _ in 0..3 {
        bench.driver.add(&block_read(DATA, 512)).unwrap();
        let _ = bench.driver.publish();
        if bench.ring.out() == 0 && bench.ring.next_avail() < 2 {
            let head = bench.popped();
            bench.ring.push_used(head, 0);
            bench.ring.publish();
            bench.driver.poll().unwrap().unwrap();
        }
    }
    let Bench { arena, mut driver, ring, mut chain } = bench;
    let base = ring.stop();
    assert_eq!(base, 2);
    let setup = crate::RingSetup { base, ..driver.setup() };
    let mut ring = SplitRing::new(arena.map(), &setup, None).unwrap();
    let head = ring.pop(arena.map(), &mut chain).unwrap().unwrap();
    ring.push_used(head, 1);
    ring.publish();
    assert_eq!(driver.poll().unwrap().map(|used| used.len), Some(1));
    assert!(ring.pop(arena.map(), &mut chain).unwrap().is_none());
}

#[test]
fn a_ring_that_is_set_up_wrongly_is_refused() {
    let bench = Bench::new(8, ALL);
    let (map, good) = (bench.arena.map(), bench.driver.setup());
    let refused = |setup| SplitRing::new(map, &setup, None).expect_err("a wrong ring was taken");
    for size in [0, 3, 32769, 65536, u32::MAX] {
        assert!(matches!(refused(crate::RingSetup { size, ..good }), GuestError::QueueSize { .. }));
    }
    let end = bench.arena.user_addr() + bench.arena.size_bytes();
    for addr in [end - 16, end, 0, u64::MAX, u64::MAX - 15] {
        let outside = |setup| assert!(matches!(refused(setup), GuestError::RingOutside { .. }));
        outside(crate::RingSetup { desc_user_addr: addr, ..good });
        outside(crate::RingSetup { avail_user_addr: addr, ..good });
        outside(crate::RingSetup { used_user_addr: addr, ..good });
    }
    let misaligned = |setup| assert!(matches!(refused(setup), GuestError::RingMisaligned { .. }));
    misaligned(crate::RingSetup { desc_user_addr: good.desc_user_addr + 8, ..good });
    misaligned(crate::RingSetup { avail_user_addr: good.avail_user_addr + 1, ..good });
    misaligned(crate::RingSetup { used_user_addr: good.used_user_addr + 2, ..good });
}

#[test]
fn a_chain_that_was_put_back_comes_again_before_anything_new() {
    let mut bench = Bench::new(8, ALL);
    let ids: Vec<u16> = (0..3).map(|n| bench.driver.add(&[reads(DATA + n * 64, 64)]).unwrap()).collect();
    let _ = bench.driver.publish();
    let (first, second) = (bench.popped(), bench.popped());
    bench.ring.put_back(first);
    assert_eq!((bench.ring.out(), bench.ring.resubmits(), bench.ring.pending()), (1, 1, 2));
    assert!(bench.ring.arm(), "what was put back is work");
    let again = bench.popped();
    assert_eq!((again.index(), bench.buffers()), (ids[0], vec![reads(DATA, 64)]));
    let third = bench.popped();
    assert_eq!((third.index(), bench.ring.next_avail()), (ids[2], 3));
    [third, again, second].into_iter().for_each(|head| bench.ring.push_used(head, 0));
    bench.ring.publish();
    assert_eq!(std::iter::from_fn(|| bench.driver.poll().unwrap()).count(), 3);
}

/// I2: a chain that is left on the ring is the guest's again, and is popped once more, as it then is.
#[test]
fn a_chain_that_is_left_on_the_ring_is_the_next_to_be_popped() {
    let mut bench = Bench::new(8, ALL);
    let ids: Vec<u16> = (0..2).map(|n| bench.driver.add(&[reads(DATA + n * 64, 64)]).unwrap()).collect();
    let _ = bench.driver.publish();
    for _ in 0..3 {
        let first = bench.popped();
        bench.ring.leave(first);
        assert_eq!((bench.ring.out(), bench.ring.resubmits()), (0, 0));
        assert_eq!((bench.ring.pending(), bench.ring.next_avail()), (2, 0));
    }
    assert!(bench.ring.arm(), "what was left is work");
    let heads = [bench.popped(), bench.popped()];
    assert_eq!(heads.each_ref().map(Head::index), [ids[0], ids[1]]);
    heads.into_iter().for_each(|head| bench.ring.push_used(head, 0));
    bench.ring.publish();
    assert_eq!(std::iter::from_fn(|| bench.driver.poll().unwrap()).count(), 2);
    assert_eq!(bench.ring.strays(), 0);
}

#[test]
fn a_ring_is_found_again_in_another_map() {
    let mut bench = Bench::new(8, ALL);
    let same = bench.arena.map().regions()[0].clone();
    let mapped_again = crate::FileRegion::map(
        bench.arena.file().unwrap().try_clone_to_owned().unwrap(),
        0,
        bench.arena.size_bytes(),
    );
    let other = MapRegion { file: Arc::new(mapped_again.unwrap()), ..same };
    let map = MemoryMap::new(vec![other]).unwrap();
    bench.ring.relocate(&map).unwrap();
    assert!(matches!(bench.ring.relocate(&crate::fixture::map_of(&[])), Err(GuestError::RingOutside { .. })));
    bench.driver.add(&[reads(DATA, 64)]).unwrap();
    let _ = bench.driver.publish();
    let head = bench.ring.pop(&map, &mut bench.chain).unwrap().unwrap();
    bench.ring.push_used(head, 0);
    bench.ring.publish();
    assert!(bench.driver.poll().unwrap().is_some());
}
