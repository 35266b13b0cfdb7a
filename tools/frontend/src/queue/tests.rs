//! A queue against the device's side of a ring, in one arena.

use vfiomux_guest::{Chain, SplitRing};
use vfiomux_spec::virtio::blk::{RequestHeader, STATUS_IOERR, STATUS_OK};
use vfiomux_spec::virtio::features::RING_EVENT_IDX;
use zerocopy::FromBytes;

use super::*;
use crate::Loopback;

const SHAPE: Shape = Shape { queues: 1, requests: 4, request_bytes: 8192 };

struct Bench {
    queue: Queue,
    device: SplitRing,
    chain: Chain,
}

/// What the device found in a request.
#[derive(Debug, PartialEq)]
struct Seen {
    request_type: u32,
    sector: u64,
    data: Vec<u8>,
    writable_bytes: u32,
}

impl Bench {
    fn new(features: u64) -> Self {
        let mut loopback = Loopback::new(&SHAPE, features).unwrap();
        let queue = loopback.take_queues().remove(0);
        let device = SplitRing::new(loopback.arena().map(), &queue.setup(), None).unwrap();
        Self { queue, device, chain: Chain::new() }
    }

    /// Takes a request as a device does and answers it, whichever slot it is in.
    fn serve(&mut self, status: u8) -> Option<Seen> {
        let map = self.queue.arena.map();
        let head = self.device.pop(map, &mut self.chain).unwrap()?;
        let mut readable = vec![0; self.chain.readable_bytes() as usize];
        let writable_bytes = self.chain.writable_bytes();
        self.chain.take_readable(map, &mut readable).unwrap();
        let (header, data) = RequestHeader::read_from_prefix(&readable).unwrap();
        let last = self.chain.take_last_byte().unwrap();
        map.copy_to(&last, &[status], &mut vfiomux_guest::Hint::default()).unwrap();
        self.device.push_used(head, 1);
        self.device.publish();
        let (request_type, sector) = (header.request_type.get(), header.sector.get());
        Some(Seen { request_type, sector, data: data.to_vec(), writable_bytes })
    }
}

#[test]
fn a_device_finds_what_was_asked_for_with_and_without_indirect_tables() {
    for features in [0, RING_INDIRECT_DESC, RING_INDIRECT_DESC | RING_EVENT_IDX] {
        let mut bench = Bench::new(features);
        let slot = bench.queue.take().unwrap();
        bench.queue.write_data(&slot, &[7; 1024]).unwrap();
        bench.queue.submit(slot, Operation::Write { sector: 5, len: 1024 }).unwrap();
        for operation in [Operation::Read { sector: 9, len: 512 }, Operation::Flush] {
            let slot = bench.queue.take().unwrap();
            bench.queue.submit(slot, operation).unwrap();
        }
        assert_eq!(bench.serve(STATUS_OK), None, "nothing is seen before it is published");
        bench.queue.publish().unwrap();
        let seen = |request_type, sector, data: &[u8], writable_bytes| {
            Some(Seen { request_type, sector, data: data.to_vec(), writable_bytes })
        };
        assert_eq!(bench.serve(STATUS_OK), seen(1, 5, &[7; 1024], 1));
        assert_eq!(bench.serve(STATUS_OK), seen(0, 9, &[], 513));
        assert_eq!(bench.serve(STATUS_OK), seen(4, 0, &[], 1));
    }
}

#[test]
fn a_completion_brings_its_own_slot_and_status_back() {
    let mut bench = Bench::new(RING_INDIRECT_DESC);
    let indices: Vec<usize> = (0..2)
        .map(|sector| {
            let slot = bench.queue.take().unwrap();
            let index = slot.index();
            bench.queue.submit(slot, Operation::Read { sector, len: 512 }).unwrap();
            index
        })
        .collect();
    bench.queue.publish().unwrap();
    bench.serve(STATUS_OK);
    bench.serve(STATUS_IOERR);
    let first = bench.queue.poll().unwrap().unwrap();
    let second = bench.queue.poll().unwrap().unwrap();
    assert_eq!([first.slot.index(), second.slot.index()], indices[..]);
    assert!(first.is_ok() && !second.is_ok());
    assert_eq!(bench.queue.poll().unwrap(), None);
}

#[test]
fn as_many_requests_fit_as_there_are_slots_and_no_more() {
    let mut bench = Bench::new(0);
    for _ in 0..SHAPE.requests {
        let slot = bench.queue.take().unwrap();
        bench.queue.submit(slot, Operation::Read { sector: 0, len: 512 }).unwrap();
    }
    assert_eq!(bench.queue.take(), None);
    assert_eq!(bench.queue.in_flight(), usize::from(SHAPE.requests));
    bench.queue.publish().unwrap();
    bench.serve(STATUS_OK);
    let done = bench.queue.poll().unwrap().unwrap();
    bench.queue.give_back(done.slot);
    assert!(bench.queue.take().is_some());
}

#[test]
fn what_is_too_long_for_a_slot_is_refused_and_the_slot_is_free_again() {
    let mut bench = Bench::new(0);
    let slot = bench.queue.take().unwrap();
    let index = slot.index();
    assert!(matches!(bench.queue.write_data(&slot, &[0; 8193]), Err(FrontendError::TooLong)));
    let refused = bench.queue.submit(slot, Operation::Read { sector: 0, len: 8704 });
    assert!(matches!(refused, Err(FrontendError::TooLong)));
    assert_eq!(bench.queue.take().unwrap().index(), index);
}

#[test]
fn only_a_device_that_sleeps_is_kicked() {
    let mut bench = Bench::new(0);
    let submit = |bench: &mut Bench| {
        let slot = bench.queue.take().unwrap();
        bench.queue.submit(slot, Operation::Flush).unwrap();
        bench.queue.publish().unwrap();
    };
    bench.device.disarm();
    submit(&mut bench);
    assert_eq!(bench.queue.kicks(), 0);
    assert!(bench.device.arm(), "a device about to sleep sees the request");
    submit(&mut bench);
    assert_eq!(bench.queue.kicks(), 1);
}

/// I2, as the front-end sees it.
#[test]
fn a_device_that_returns_what_it_does_not_have_is_found_out() {
    for features in [0, RING_INDIRECT_DESC] {
        let faults = |heads: &[u16]| {
            let mut bench = Bench::new(features);
            let slot = bench.queue.take().unwrap();
            bench.queue.submit(slot, Operation::Flush).unwrap();
            bench.queue.publish().unwrap();
            bench.device.pop(bench.queue.arena.map(), &mut bench.chain).unwrap();
            let used = bench.queue.layout.used();
            for (at, head) in (0..).zip(heads) {
                bench.queue.arena.write(used + 4 + 8 * at, &u32::from(*head).to_le_bytes()).unwrap();
            }
            bench.queue.arena.write(used + 2, &(heads.len() as u16).to_le_bytes()).unwrap();
            bench.queue.poll().is_err()
        };
        assert!(!faults(&[0]), "the right one");
        assert!(faults(&[0, 0]), "more than it has");
        assert!(faults(&[3]), "another slot's");
        assert!(faults(&[1]), "not with it, or no chain's head");
        assert!(faults(&[u16::MAX]), "out of range");
    }
}
