//! How long a sidecore that may sleep takes from a guest's kick to the device, and what resting costs it.
//!
//! One guest after another puts a request on its ring, kicks if it is asked to, waits for the answer, and then does nothing
//! for a while. The device, which does nothing either, notes when it was given the command. Other channels are there and have
//! nothing to do.
//!
//! ```sh
//! cargo run --release -p vfiomux-sidecore --example wake [gap in us [channels [requests [mode]]]]
//! ```
//!
//! Two processors are used, 0 for the guest and 1 for the sidecore. With `strace -fc` or `-f` it shows the system calls of a
//! sleep.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::CpuSet;
use vfiomux_block::{
    BlockQueue, Command, Completion, LaneId, LocalLane, NullQueue, Segment, SubmitError, Tag,
};
use vfiomux_channel::driver::BlkDriver;
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart};
use vfiomux_guest::Kick;
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_sidecore::{Answer, DeviceSlot, Handle, Mode, Order, Report, SidecoreThread, ThreadSettings};
use vfiomux_spec::virtio::blk::RequestType;
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, VERSION_1};

const DISK_BLOCKS: u64 = 1 << 20;
const GUEST_ADDR: u64 = 1 << 32;
/// Of the memory, for each guest: its ring and its data.
const GUEST_BYTES: u64 = 1 << 16;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let argument = |place| std::env::args().nth(place).map(|text| text.parse::<u32>()).transpose();
    let gap = Duration::from_micros(argument(1)?.unwrap_or(1000).into());
    let channels = u16::try_from(argument(2)?.unwrap_or(1))?;
    let requests = argument(3)?.unwrap_or(2000);
    let mut cpu = CpuSet::new();
    cpu.set(0);
    rustix::thread::sched_setaffinity(None, &cpu)?;
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    println!("{channels} channels, a request every {} us", gap.as_micros());
    println!(
        "{:<9} {:>27} {:>27} {:>8} {:>8} {:>10}",
        "mode", "to device p50/p90/p99 us", "to answer p50/p90/p99 us", "sleeps", "kicks", "spun"
    );
    let modes =
        [("event", Mode::Event), ("adaptive", Mode::Adaptive { spin_ns: 50_000 }), ("poll", Mode::Poll)];
    let only = std::env::args().nth(4);
    for (name, mode) in modes.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let mut machine = Machine::new(mode, channels)?;
        machine.run(requests / 10, gap)?;
        let before = machine.rest();
        let mut run = machine.run(requests, gap)?;
        let (sleeps, spun_ns) = machine.rest();
        println!(
            "{name:<9} {:>27} {:>27} {:>8} {:>8} {:>9.1}%",
            percentiles(&mut run.to_device_ns),
            percentiles(&mut run.to_answer_ns),
            sleeps - before.0,
            run.kicks,
            (spun_ns - before.1) as f64 * 100.0 / run.took.as_nanos() as f64,
        );
        machine.end()?;
    }
    Ok(())
}

fn percentiles(times_ns: &mut [u64]) -> String {
    times_ns.sort_unstable();
    let at =
        |percent: usize| times_ns.get(times_ns.len() * percent / 100).map_or(0.0, |&ns| ns as f64 / 1000.0);
    format!("{:.1}/{:.1}/{:.1}", at(50), at(90), at(99))
}

/// What was measured.
#[derive(Default)]
struct Run {
    to_device_ns: Vec<u64>,
    to_answer_ns: Vec<u64>,
    kicks: u32,
    took: Duration,
}

struct Guest {
    driver: BlkDriver,
    kick: OwnedFd,
    data_addr: u64,
}

struct Machine {
    thread: SidecoreThread<Noting>,
    arena: Arena,
    guests: Vec<Guest>,
    origin: Instant,
    given_at_ns: Arc<AtomicU64>,
}

impl Machine {
    fn new(mode: Mode, channels: u16) -> Result<Self, Error> {
        let settings =
            ThreadSettings { name: "sidecore".into(), cpu: Some(1), mode, ..ThreadSettings::default() };
        let thread = SidecoreThread::spawn(settings)?;
        let origin = Instant::now();
        let given_at_ns = Arc::new(AtomicU64::new(0));
        let queue = Noting { inner: NullQueue::new(), origin, given_at_ns: given_at_ns.clone() };
        let device = DeviceSlot(0);
        ask(thread.handle(), Order::AddDevice { device, queue: Box::new(queue) })?;
        let arena = Arena::new(u64::from(channels) * GUEST_BYTES, GUEST_ADDR)?;
        let region = MapRegion {
            guest_addr: arena.guest_addr(),
            user_addr: arena.user_addr(),
            file: arena.region().clone(),
            grant: None,
        };
        let map = Arc::new(MemoryMap::new(vec![region])?);
        let mut machine = Self { thread, arena, guests: Vec::new(), origin, given_at_ns };
        for index in 0..channels {
            machine.add_guest(index, device, &map)?;
        }
        Ok(machine)
    }

    fn add_guest(&mut self, index: u16, device: DeviceSlot, map: &Arc<MemoryMap>) -> Result<(), Error> {
        let handle = self.thread.handle();
        let Answer::LaneAttached { lane } =
            ask(handle, Order::AttachLane { device, lane: LocalLane { depth: 16 } })?
        else {
            return Err("no lane".into());
        };
        let limits = NullQueue::limits(DISK_BLOCKS, 512);
        let id = ChannelId { index, incarnation: 1 };
        let settings = ChannelSettings {
            id,
            namespace: 1,
            limits,
            extents: ExtentMap::new(&[Extent { lba: 0, blocks: DISK_BLOCKS }], &limits)?,
            serial: [0; 20],
            read_only: false,
            rings: 1,
            requests: 16,
            segments_max: 6,
            bounce_blocks: 1,
        };
        let channel = Box::new(BlockChannel::new(settings, None)?);
        ask(handle, Order::AddChannel { channel, device, lane })?;
        let guest_addr = GUEST_ADDR + u64::from(index) * GUEST_BYTES;
        let driver = BlkDriver::new(&self.arena, guest_addr, 16, VERSION_1 | RING_EVENT_IDX)?;
        let ring = SplitRing::new(map, &driver.setup(), None)?;
        ask(handle, Order::SetMemory { channel: id, map: map.clone() })?;
        let kick = eventfd(0, EventfdFlags::CLOEXEC)?;
        let start = Box::new(RingStart { ring, call: None, kick: Some(Kick::new(kick.try_clone()?)?) });
        ask(handle, Order::StartRing { channel: id, index: 0, start })?;
        self.guests.push(Guest { driver, kick, data_addr: guest_addr + GUEST_BYTES / 2 });
        Ok(())
    }

    /// One request of the first guest after the other.
    fn run(&mut self, requests: u32, gap: Duration) -> Result<Run, Error> {
        let mut run = Run::default();
        let Self { arena, guests, origin, given_at_ns, .. } = self;
        let Guest { driver, kick, data_addr } = guests.first_mut().ok_or("no guest")?;
        let now_ns = || u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let begun = Instant::now();
        for _ in 0..requests {
            std::thread::sleep(gap);
            let data = [Buffer { guest_addr: *data_addr, len: 4096, writable: true }];
            driver.submit(arena, RequestType::In, 0, &data).ok_or("the ring is full")?;
            let published_ns = now_ns();
            if driver.publish() {
                run.kicks += 1;
                rustix::io::write(&*kick, &1u64.to_ne_bytes())?;
            }
            while driver.poll(arena)?.is_none() {
                std::hint::spin_loop();
            }
            run.to_answer_ns.push(now_ns() - published_ns);
            run.to_device_ns.push(given_at_ns.load(Ordering::Acquire).saturating_sub(published_ns));
        }
        run.took = begun.elapsed();
        Ok(run)
    }

    /// Sleeps so far, and time spun.
    fn rest(&self) -> (u64, u64) {
        let counters = self.thread.handle().counters();
        (counters.naps.get(), counters.spun_ns.get())
    }

    fn end(self) -> Result<(), Error> {
        for index in 0..u16::try_from(self.guests.len())? {
            let channel = ChannelId { index, incarnation: 1 };
            ask(self.thread.handle(), Order::RemoveChannel { channel })?;
        }
        ask(self.thread.handle(), Order::Shutdown)?;
        self.thread.join().map_err(|_| "the sidecore panicked")?;
        Ok(())
    }
}

fn ask(handle: &Handle<Noting>, order: Order<Noting>) -> Result<Answer<Noting>, Error> {
    handle.send(order).map_err(|order| format!("no room for {order:?}"))?;
    loop {
        match handle.try_recv() {
            Some(Report::Answer { answer: Answer::Refused { why, .. }, .. }) => return Err(why.into()),
            Some(Report::Answer { answer, .. }) => return Ok(answer),
            Some(other) => return Err(format!("unexpected {other:?}").into()),
            None => std::thread::yield_now(),
        }
    }
}

/// A device that does nothing, and notes when it was last asked to.
#[derive(Debug)]
struct Noting {
    inner: NullQueue,
    origin: Instant,
    given_at_ns: Arc<AtomicU64>,
}

impl BlockQueue for Noting {
    type Lane = LocalLane;

    fn attach(&mut self, lane: LocalLane) -> LaneId {
        self.inner.attach(lane)
    }

    fn detach(&mut self, lane: LaneId) -> Option<LocalLane> {
        self.inner.detach(lane)
    }

    fn room(&self, lane: LaneId) -> usize {
        self.inner.room(lane)
    }

    fn in_flight(&self, lane: LaneId) -> usize {
        self.inner.in_flight(lane)
    }

    fn in_flight_total(&self) -> usize {
        self.inner.in_flight_total()
    }

    fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        command: &Command,
        data: &[Segment],
    ) -> Result<(), SubmitError> {
        let now_ns = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.given_at_ns.store(now_ns, Ordering::Release);
        self.inner.submit(lane, tag, command, data)
    }

    fn ring(&mut self) {
        self.inner.ring();
    }

    fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize {
        self.inner.poll(budget, sink)
    }

    fn ends_at_once(&self) -> bool {
        self.inner.ends_at_once()
    }

    fn has_ended(&self) -> bool {
        self.inner.has_ended()
    }

    fn abandon(&mut self, lane: LaneId, sink: &mut impl FnMut(Completion)) {
        self.inner.abandon(lane, sink);
    }

    fn device_ids(&self, lane: LaneId, into: &mut Vec<(u16, u16)>) {
        self.inner.device_ids(lane, into);
    }

    fn stray_completions(&self) -> u64 {
        self.inner.stray_completions()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self) -> bool {
        self.inner.arm()
    }

    fn disarm(&mut self) {
        self.inner.disarm();
    }
}
