use super::*;
use crate::ring::tests::{ALL, Bench, DATA, TABLES, block_read, reads};

#[test]
fn a_full_ring_takes_no_more_and_an_emptied_one_does() {
    let mut bench = Bench::new(4, 0);
    assert!(bench.driver.add(&block_read(DATA, 512)).is_some());
    assert!(bench.driver.add(&block_read(DATA, 512)).is_none());
    assert!(bench.driver.add(&[reads(DATA, 1)]).is_some());
    assert!(bench.driver.add(&[reads(DATA, 1)]).is_none());
    let _ = bench.driver.publish();
    let head = bench.popped();
    bench.ring.push_used(head, 0);
    bench.ring.publish();
    assert!(bench.driver.poll().unwrap().is_some());
    assert!(bench.driver.add(&block_read(DATA, 512)).is_some());
}

#[test]
fn what_cannot_be_sent_is_not_taken() {
    let mut bench = Bench::new(4, 0);
    assert_eq!(bench.driver.add(&[]), None);
    assert_eq!(bench.driver.add_indirect(&bench.arena, TABLES, &[reads(DATA, 1)]), None, "not negotiated");
    let mut bench = Bench::new(4, ALL);
    assert_eq!(bench.driver.add_indirect(&bench.arena, 0, &[reads(DATA, 1)]), None, "outside the arena");
    assert_eq!(bench.driver.in_flight(), 0);
}

/// I2, as the driver sees it.
#[test]
fn a_device_that_returns_what_it_does_not_have_is_found_out() {
    let mut bench = Bench::new(4, 0);
    let used = RING + desc_table_size_bytes(4) + avail_ring_size_bytes(4).next_multiple_of(4);
    let publish = |bench: &Bench, nth: u16, id: u32| {
        bench.arena.write(used + 4 + 8 * u64::from(nth % 4), &id.to_le_bytes()).unwrap();
        bench.arena.write(used + 2, &(nth + 1).to_le_bytes()).unwrap();
    };
    let id = bench.driver.add(&[reads(DATA, 1)]).unwrap();
    publish(&bench, 0, id.into());
    assert_eq!(bench.driver.poll(), Ok(Some(Used { head: id, len: 0 })));
    for (nth, id) in [(1, id.into()), (2, 3), (3, 4), (4, u32::MAX)] {
        publish(&bench, nth, id);
        assert_eq!(bench.driver.poll(), Err(DeviceFault::NotInFlight(id)));
    }
    publish(&bench, 9, 0);
    assert_eq!(bench.driver.poll(), Err(DeviceFault::UsedIndex(5)));
}

const RING: u64 = 0x10_0000;

#[test]
fn an_arena_holds_what_was_written_and_nothing_beyond() {
    let arena = Arena::new(8192, 0x4000).unwrap();
    arena.write(0x4ffe, b"abcd").unwrap();
    let mut back = [0; 4];
    arena.read(0x4ffe, &mut back).unwrap();
    assert_eq!(&back, b"abcd");
    assert!(arena.write(0x5ffd, b"abcd").is_err() && arena.read(0x3fff, &mut back).is_err());
}

#[test]
fn a_chain_gets_the_same_descriptors_again() {
    let mut bench = Bench::new(8, 0);
    let first = bench.driver.add(&block_read(DATA, 512)).unwrap();
    let _ = bench.driver.publish();
    let head = bench.popped();
    bench.ring.push_used(head, 0);
    bench.ring.publish();
    bench.driver.poll().unwrap().unwrap();
    // The last descriptor freed is the first taken, so that a lone requester's stay in its cache.
    let mut heads = vec![bench.driver.add(&block_read(DATA, 512)).unwrap()];
    heads.push(bench.driver.add(&block_read(DATA, 512)).unwrap());
    assert_eq!(heads[0], first);
    assert_ne!(heads[1], first);
}
