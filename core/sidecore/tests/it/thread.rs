//! The thread around a sidecore: it sleeps when it may, and wakes when it must.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vfiomux_block::{LocalLane, RamDisk, RamQueue};
use vfiomux_channel::driver::BlkDriver;
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart};
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_guest::{Call, Kick};
use vfiomux_qos::{CostModel, Guarantees, Limits, Program, Rate};
use vfiomux_sidecore::{
    Answer, DeviceSlot, Handle, Mode, Order, Report, SidecoreError, SidecoreThread, ThreadSettings,
};
use vfiomux_spec::virtio::blk::RequestType;

use crate::world::FEATURES;

/// Nothing here takes this long unless a wake-up was lost.
const LONG: Duration = Duration::from_secs(20);
const ID: ChannelId = ChannelId { index: 0, incarnation: 1 };

fn readable(fd: impl AsFd) -> bool {
    let timeout = Timespec { tv_sec: LONG.as_secs() as i64, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

fn ask(handle: &Handle<RamQueue>, order: Order<RamQueue>) -> Answer<RamQueue> {
    let mine = handle.send(order).unwrap();
    match next(handle) {
        Report::Answer { ticket, answer } if ticket == mine => answer,
        other => panic!("{other:?}"),
    }
}

fn next(handle: &Handle<RamQueue>) -> Report<RamQueue> {
    loop {
        match handle.try_recv() {
            Some(report) => return report,
            None => assert!(readable(handle.report_fd()), "an order was slept through"),
        }
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what} never came");
        std::thread::yield_now();
    }
}

struct Guest {
    thread: SidecoreThread<RamQueue>,
    arena: Arena,
    driver: BlkDriver,
    kick: OwnedFd,
    call: OwnedFd,
}

impl Guest {
    fn new(mode: Mode, kick: OwnedFd) -> Self {
        let settings = ThreadSettings { name: "sidecore-test".into(), mode, ..ThreadSettings::default() };
        let thread = SidecoreThread::spawn(settings).unwrap();
        let handle = thread.handle();
        let disk = RamDisk::new(1 << 10, 512).unwrap();
        let limits = disk.limits();
        let device = DeviceSlot(0);
        ask(handle, Order::AddDevice { device, queue: Box::new(RamQueue::new(disk)) });
        let Answer::LaneAttached { lane } =
            ask(handle, Order::AttachLane { device, lane: LocalLane { depth: 8 } })
        else {
            panic!()
        };
        let settings = ChannelSettings {
            id: ID,
            namespace: 1,
            limits,
            extents: ExtentMap::new(&[Extent { lba: 0, blocks: 1 << 10 }], &limits).unwrap(),
            serial: [0; 20],
            read_only: false,
            rings: 1,
            requests: 8,
            segments_max: 6,
            bounce_blocks: 1,
        };
        let channel = Box::new(BlockChannel::new(settings, None).unwrap());
        ask(handle, Order::AddChannel { channel, device, lane });
        let arena = Arena::new(1 << 20, 1 << 32).unwrap();
        let driver = BlkDriver::new(&arena, 1 << 32, 16, FEATURES).unwrap();
        let (guest_addr, user_addr) = (arena.guest_addr(), arena.user_addr());
        let region = MapRegion { guest_addr, user_addr, file: arena.region().clone(), grant: None };
        let map = Arc::new(MemoryMap::new(vec![region]).unwrap());
        let ring = SplitRing::new(&map, &driver.setup(), None).unwrap();
        ask(handle, Order::SetMemory { channel: ID, map });
        let call = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let start = RingStart {
            ring,
            call: Some(Call::new(call.try_clone().unwrap()).unwrap()),
            kick: Some(Kick::new(kick.try_clone().unwrap()).unwrap()),
        };
        ask(handle, Order::StartRing { channel: ID, index: 0, start: Box::new(start) });
        Self { thread, arena, driver, kick, call }
    }

    /// One request, as a guest that sleeps until it is called.
    fn round_trip(&mut self) {
        let data = Buffer { guest_addr: (1 << 32) + (1 << 19), len: 512, writable: true };
        let _ = self.driver.ring().arm();
        self.driver.submit(&self.arena, RequestType::In, 0, &[data]).unwrap();
        if self.driver.publish() {
            rustix::io::write(&self.kick, &1u64.to_ne_bytes()).unwrap();
        }
        assert!(readable(&self.call), "a kick was slept through");
        rustix::io::read(&self.call, &mut [0; 8]).unwrap();
        assert_eq!(self.driver.poll(&self.arena).unwrap().unwrap().status, 0);
    }

    fn end(self) {
        let removed = ask(self.thread.handle(), Order::RemoveChannel { channel: ID });
        assert!(matches!(removed, Answer::ChannelRemoved { .. }), "{removed:?}");
        assert!(matches!(ask(self.thread.handle(), Order::Shutdown), Answer::Done));
        self.thread.join().unwrap();
    }
}

fn kick() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK).unwrap()
}

/// V3, on the real thing.
#[test]
fn a_sleeping_sidecore_is_woken_by_every_kick_and_order() {
    let mut guest = Guest::new(Mode::Event, kick());
    for _ in 0..500 {
        guest.round_trip();
        ask(guest.thread.handle(), Order::ListInFlight { channel: ID });
    }
    // It counts as asleep from the moment that it lies down, before it has looked for the last time.
    wait_until("a nap", || guest.thread.handle().counters().naps.get() > 0);
    guest.end();
}

#[test]
fn an_adaptive_sidecore_sleeps_when_its_spin_is_over() {
    let mut guest = Guest::new(Mode::Adaptive { spin_ns: 20_000 }, kick());
    // A request that comes while it lies down is found without a nap, so it may take more than five.
    wait_until("five naps", || {
        wait_until("sleep", || guest.thread.handle().is_asleep());
        guest.round_trip();
        guest.thread.handle().counters().naps.get() >= 5
    });
    guest.end();
}

/// Q1 on the real thing, and V3: nothing wakes a sidecore for a limit but the time.
#[test]
fn a_sidecore_sleeps_until_a_limit_affords_the_next_request() {
    let mut guest = Guest::new(Mode::Event, kick());
    let limits = Limits { ops: Some(Rate { per_second: 200, burst: 1 }), ..Limits::default() };
    let guarantees = Guarantees { limits, ..Guarantees::default() };
    let program = Box::new(Program::compile(&guarantees, CostModel::default()).unwrap());
    assert!(matches!(ask(guest.thread.handle(), Order::SetProgram { channel: ID, program }), Answer::Done));
    let (start, naps) = (Instant::now(), guest.thread.handle().counters().naps.get());
    for _ in 0..5 {
        guest.round_trip();
    }
    assert!(start.elapsed() >= Duration::from_millis(20), "{:?}", start.elapsed());
    // On a machine that is slow the limit may afford a request by the time that it is looked at.
    wait_until("four naps", || {
        guest.round_trip();
        guest.thread.handle().counters().naps.get() - naps >= 4
    });
    guest.end();
}

#[test]
fn a_mode_can_be_changed_while_it_runs() {
    let mut guest = Guest::new(Mode::Poll, kick());
    guest.round_trip();
    assert_eq!(guest.thread.handle().counters().naps.get(), 0);
    ask(guest.thread.handle(), Order::SetMode { mode: Mode::Event });
    for _ in 0..5 {
        wait_until("sleep", || guest.thread.handle().is_asleep());
        guest.round_trip();
    }
    ask(guest.thread.handle(), Order::SetMode { mode: Mode::Poll });
    let naps = guest.thread.handle().counters().naps.get();
    guest.round_trip();
    assert_eq!(guest.thread.handle().counters().naps.get(), naps);
    guest.end();
}

#[test]
fn what_wakes_it_and_how_fast_is_counted() {
    let mut guest = Guest::new(Mode::Event, kick());
    // A request that comes while it lies down is found without a sleep, and one that comes while it still takes
    // orders is not what it woke for, so it may take more than one. The breath is counted at its end, which
    // the guest does not wait for.
    wait_until("a sleep that a kick ended, timed", || {
        wait_until("sleep", || guest.thread.handle().is_asleep());
        guest.round_trip();
        let counters = guest.thread.handle().counters();
        counters.woken_by_kicks.get() > 0 && counters.wake_to_submit.snapshot().count() > 0
    });
    let counters = guest.thread.handle().counters();
    assert!(counters.sleep_cost_ns.get() > 0 && counters.asleep_ns.get() > 0);
    guest.end();
}

/// P2: what would delay a breath shows, since each is counted, busy or not.
#[test]
fn how_long_each_breath_took_is_counted() {
    let mut guest = Guest::new(Mode::Poll, kick());
    guest.round_trip();
    let counters = guest.thread.handle().counters();
    let before = counters.breaths.get();
    let counted = counters.breath_time.snapshot();
    guest.round_trip();
    let counters = guest.thread.handle().counters();
    let mut since = 0;
    // The breath that answered may be under way still.
    wait_until("a breath counted", || {
        since = counters.breath_time.snapshot().since(&counted).count();
        since > 0
    });
    // One may be under way at either look.
    assert!(since <= counters.breaths.get() - before + 1, "{since}");
    guest.end();
}

#[test]
fn a_polling_sidecore_never_sleeps_and_needs_no_kicks() {
    let mut guest = Guest::new(Mode::Poll, kick());
    for _ in 0..20 {
        guest.round_trip();
    }
    assert_eq!(guest.thread.handle().counters().naps.get(), 0);
    assert!(!readable_now(&guest.kick), "a polled ring asks for no kicks");
    guest.end();
}

fn readable_now(fd: impl AsFd) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

#[test]
fn a_cpu_that_is_not_there_is_refused() {
    let settings = ThreadSettings { cpu: Some(1000), ..ThreadSettings::default() };
    let error = SidecoreThread::<RamQueue>::spawn(settings).unwrap_err();
    assert!(matches!(error, SidecoreError::Pin { cpu: 1000, .. }), "{error}");
}

#[test]
fn a_pinned_sidecore_runs_where_it_was_told() {
    let settings = ThreadSettings { cpu: Some(0), mode: Mode::Event, ..ThreadSettings::default() };
    let thread = SidecoreThread::<RamQueue>::spawn(settings).unwrap();
    assert!(matches!(ask(thread.handle(), Order::Shutdown), Answer::Done));
    thread.join().unwrap();
}
