//! A guest against a disk in the same process, with a clock that is stepped by hand.

use vfiomux_frontend::{Loopback, Operation, Shape};
use vfiomux_guest::{Chain, Hint, SplitRing};
use vfiomux_spec::virtio::blk::{RequestHeader, STATUS_IOERR, STATUS_OK};
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC};
use zerocopy::FromBytes;

use super::*;
use crate::report::Verify;
use crate::workload::{Region, Workload};
use crate::{Arrivals, Pattern};

const REGION: Region = Region { offset_bytes: 0, blocks: 16, block_bytes: 4096 };
const DEPTH: u16 = 4;

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
struct Stepped(u64);

impl Clock for Stepped {
    fn now_ns(&mut self) -> u64 {
        self.0
    }
}

/// How a disk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// Every so many writes is answered and dropped.
    DropsWrites(u64),
    /// Every so many writes lands a block further on.
    MisplacesWrites(u64),
    /// Every so many writes stops in the middle of a sector.
    TearsWrites(u64),
    /// Reads bring the block after the one asked for.
    ReadsElsewhere,
    /// Says that nothing works.
    Refuses,
}

/// A disk with its content in memory, which answers when it is told to.
struct Disk {
    ring: SplitRing,
    chain: Chain,
    content: Vec<u8>,
    lie: Lie,
    writes: u64,
}

struct Bench {
    guest: Guest,
    disk: Disk,
    clock: Stepped,
    arena: std::sync::Arc<vfiomux_guest::driver::Arena>,
}

impl Bench {
    fn new(pattern: Pattern, due: Option<Due>, verify: bool, lie: Lie) -> Self {
        let shape = Shape { queues: 1, requests: DEPTH, request_bytes: REGION.block_bytes };
        let mut loopback = Loopback::new(&shape, RING_INDIRECT_DESC | RING_EVENT_IDX).unwrap();
        let arena = loopback.arena().clone();
        let ring = SplitRing::new(arena.map(), &loopback.queues()[0].setup(), None).unwrap();
        let workload = Workload::new(pattern, 50, REGION, None, 3);
        let oracle = verify.then(|| Oracle::new(REGION, 1));
        let guest = Guest::new(Link::Test(loopback), Job::new(REGION, workload, due, oracle).unwrap(), DEPTH)
            .unwrap();
        let content = vec![0; REGION.size_bytes() as usize];
        let disk = Disk { ring, chain: Chain::new(), content, lie, writes: 0 };
        Self { guest, disk, clock: Stepped::default(), arena }
    }

    /// Answers up to `count` requests. Returns how many there were.
    fn serve(&mut self, count: usize) -> usize {
        let map = self.arena.map();
        let disk = &mut self.disk;
        let mut served = 0;
        while served < count {
            let Some(head) = disk.ring.pop(map, &mut disk.chain).unwrap() else { break };
            let mut readable = vec![0; disk.chain.readable_bytes() as usize];
            disk.chain.take_readable(map, &mut readable).unwrap();
            let (header, data) = RequestHeader::read_from_prefix(&readable).unwrap();
            let last = disk.chain.take_last_byte().unwrap();
            let at = header.sector.get() as usize * 512;
            match header.request_type.get() {
                0 => {
                    let from = if disk.lie == Lie::ReadsElsewhere { disk.next_block(at) } else { at };
                    let content = &disk.content[from..from + 4096];
                    let target = disk.chain.writable().first().copied().unwrap();
                    map.copy_to(&target, content, &mut Hint::default()).unwrap();
                }
                1 => disk.write(at, data),
                _ => {}
            }
            let status = if disk.lie == Lie::Refuses { STATUS_IOERR } else { STATUS_OK };
            map.copy_to(&last, &[status], &mut Hint::default()).unwrap();
            disk.ring.push_used(head, 1);
            served += 1;
        }
        disk.ring.publish();
        served
    }

    /// Lets the guest do this phase to its end, with a disk that answers at once.
    fn finish(&mut self, phase: Phase) {
        self.guest.begin(phase, self.clock.0);
        self.guest.fill(&mut self.clock).unwrap();
        while !self.guest.is_idle() {
            self.serve(usize::MAX);
            self.guest.turn(&mut self.clock).unwrap();
        }
    }

    /// Drives, reads back and judges.
    fn verified(pattern: Pattern, lie: Lie) -> Verify {
        let mut bench = Self::new(pattern, None, true, lie);
        bench.finish(Phase::Fill { next: 0 });
        bench.finish(Phase::Drive { left: 200 });
        bench.finish(Phase::Sweep { next: 0 });
        bench.guest.oracle().unwrap().verdict()
    }
}

impl Disk {
    fn next_block(&self, at: usize) -> usize {
        (at + 4096) % self.content.len()
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        self.writes += 1;
        let every = |times: u64| self.writes.is_multiple_of(times);
        let (at, len) = match self.lie {
            Lie::DropsWrites(times) if every(times) => return,
            Lie::MisplacesWrites(times) if every(times) => (self.next_block(at), data.len()),
            Lie::TearsWrites(times) if every(times) => (at, 100),
            _ => (at, data.len()),
        };
        self.content[at..at + len].copy_from_slice(&data[..len]);
    }
}

#[test]
fn a_closed_loop_keeps_its_depth_in_flight_and_ends_with_its_number() {
    let mut bench = Bench::new(Pattern::RandRead, None, false, Lie::None);
    bench.guest.measure(0).unwrap();
    bench.guest.begin(Phase::Drive { left: 10 }, 0);
    bench.guest.fill(&mut bench.clock).unwrap();
    assert_eq!(bench.guest.in_flight(), 4);
    let mut served = 0;
    while !bench.guest.is_idle() {
        served += bench.serve(3);
        bench.guest.turn(&mut bench.clock).unwrap();
    }
    bench.guest.stop_measuring();
    assert_eq!((served, bench.guest.recorder().requests()), (10, 10));
}

#[test]
fn latency_is_counted_from_the_batch_a_request_was_submitted_in() {
    let mut bench = Bench::new(Pattern::RandRead, None, false, Lie::None);
    bench.guest.measure(0).unwrap();
    bench.guest.begin(Phase::Drive { left: 5 }, 0);
    bench.guest.fill(&mut bench.clock).unwrap();
    bench.clock.0 = 100;
    bench.serve(1);
    bench.guest.turn(&mut bench.clock).unwrap();
    bench.clock.0 = 150;
    bench.serve(4);
    bench.guest.turn(&mut bench.clock).unwrap();
    bench.guest.stop_measuring();
    let reads = &bench.guest.recorder().reads;
    assert_eq!([50, 100, 150].map(|ns| reads.count_at(ns)), [1, 1, 3]);
}

#[test]
fn what_was_submitted_before_the_measurement_is_not_in_it() {
    let mut bench = Bench::new(Pattern::RandRead, None, false, Lie::None);
    bench.guest.begin(Phase::Drive { left: 1000 }, 0);
    bench.guest.fill(&mut bench.clock).unwrap();
    bench.guest.measure(0).unwrap();
    bench.guest.limit(2);
    while !bench.guest.is_idle() {
        bench.serve(1);
        bench.guest.turn(&mut bench.clock).unwrap();
    }
    bench.guest.stop_measuring();
    assert_eq!(bench.guest.recorder().requests(), 2);
}

/// A million requests a second, from time 0 on.
fn due() -> Due {
    Due::new(Arrivals::Constant, 1e6, 0.0, 1)
}

#[test]
fn in_an_open_loop_latency_counts_from_when_a_request_was_due() {
    let mut bench = Bench::new(Pattern::RandRead, Some(due()), false, Lie::None);
    bench.guest.measure(0).unwrap();
    bench.guest.begin(Phase::Drive { left: u64::MAX }, 0);
    bench.guest.fill(&mut bench.clock).unwrap();
    assert_eq!(bench.guest.in_flight(), 0, "nothing is due yet");
    // The client comes 500 ns late, and the disk answers at 3 us: requests were due at 0, 1 and 2 us.
    bench.guest.arrive(2_500).unwrap();
    assert_eq!(bench.guest.in_flight(), 3);
    bench.clock.0 = 3_000;
    bench.serve(usize::MAX);
    bench.guest.turn(&mut bench.clock).unwrap();
    assert_eq!(bench.guest.in_flight(), 0, "an answer is no reason to send");
    bench.guest.stop_measuring();
    let reads = &bench.guest.recorder().reads;
    assert_eq!([1_000, 2_000, 3_000].map(|ns| reads.count_at(ns)), [1, 1, 1]);
}

#[test]
fn a_disk_that_stands_still_is_charged_for_all_that_should_have_been_sent_meanwhile() {
    let mut bench = Bench::new(Pattern::RandRead, Some(due()), false, Lie::None);
    bench.guest.measure(0).unwrap();
    bench.guest.begin(Phase::Drive { left: u64::MAX }, 0);
    // Ten microseconds without an answer: eleven requests are due, and only as many as the depth are in flight.
    for now_ns in (0..=10_000).step_by(1_000) {
        bench.guest.arrive(now_ns).unwrap();
    }
    assert_eq!(bench.guest.in_flight(), usize::from(DEPTH));
    let (tally, backlog) = bench.guest.arrivals().unwrap();
    assert_eq!((tally.due, tally.sent, tally.backlog_max, backlog), (11, 4, 7, 7));
    // Now it answers at once, without time passing; the last was due only just.
    bench.clock.0 = 10_000;
    while bench.guest.in_flight() > 0 {
        bench.serve(usize::MAX);
        bench.guest.turn(&mut bench.clock).unwrap();
        bench.guest.arrive(10_000).unwrap();
    }
    bench.guest.stop_measuring();
    let reads = &bench.guest.recorder().reads;
    assert_eq!(reads.len(), 11);
    assert_eq!((reads.max() / 1_000, reads.value_at_quantile(0.5) / 1_000), (10, 5));
}

#[test]
fn a_right_disk_passes_however_requests_overlap() {
    for pattern in [Pattern::RandRw, Pattern::RandWrite, Pattern::Rw, Pattern::RandRead] {
        let verdict = Bench::verified(pattern, Lie::None);
        assert_eq!(verdict.wrong(), 0, "{pattern:?}: {:?}", verdict.first);
        assert_eq!(verdict.blocks_written, REGION.blocks);
        assert!(verdict.blocks_checked >= REGION.blocks);
    }
}

#[test]
fn a_disk_that_drops_a_write_is_found_out() {
    let verdict = Bench::verified(Pattern::RandRw, Lie::DropsWrites(7));
    assert!(verdict.stale > 0, "{verdict:?}");
}

#[test]
fn a_disk_that_puts_a_write_elsewhere_is_found_out() {
    let verdict = Bench::verified(Pattern::RandRw, Lie::MisplacesWrites(50));
    assert!(verdict.misplaced > 0, "{verdict:?}");
}

#[test]
fn a_disk_that_stops_within_a_sector_is_found_out() {
    let verdict = Bench::verified(Pattern::RandRw, Lie::TearsWrites(50));
    assert!(verdict.torn > 0, "{verdict:?}");
}

#[test]
fn a_disk_that_reads_elsewhere_is_found_out() {
    let verdict = Bench::verified(Pattern::RandRead, Lie::ReadsElsewhere);
    assert_eq!(verdict.misplaced, verdict.blocks_checked);
    assert!(verdict.first.unwrap().contains("holds what was written to sector"));
}

#[test]
fn refusals_are_counted_and_the_data_of_a_refused_read_is_not_judged() {
    let mut bench = Bench::new(Pattern::RandRead, None, true, Lie::Refuses);
    bench.finish(Phase::Drive { left: 20 });
    assert_eq!(bench.guest.recorder().failed.io_error, 20);
    assert_eq!(bench.guest.oracle().unwrap().verdict().blocks_checked, 0);
}

/// The arrivals of an open loop and the order of a closed one follow from the seed alone.
#[test]
fn the_same_seed_makes_the_same_requests() {
    let taken = || -> Vec<Operation> {
        let mut workload = Workload::new(Pattern::RandRw, 50, REGION, Some(5), 11);
        (0..50).map(|_| workload.next()).collect()
    };
    assert_eq!(taken(), taken());
}
