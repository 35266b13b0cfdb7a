//! The whole path: guest, ring, channel, device and back, breath by breath.

use std::sync::Arc;

use vfiomux_block::{BlockQueue, Limits as DeviceLimits, LocalLane, NullQueue, RamDisk, RamQueue};
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart};
use vfiomux_hw::DmaDomain;
use vfiomux_nvme::Queue;
use vfiomux_qos::{CostModel, Group, Guarantees, Limits, Program, Rate};
use vfiomux_sidecore::{Answer, Budgets, DeviceSlot, Handle, Order, Report, Sidecore};
use vfiomux_spec::virtio::blk::RequestType;

use crate::guest::Guest;
use crate::{OPERATIONS, Simulated, counted};

/// The only device of a world's sidecore.
const DEVICE: DeviceSlot = DeviceSlot(0);
/// Breaths in which a request must be done: one submits, the next completes.
const BREATHS_MAX: u32 = 4;

/// What guests ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Channels, a guest each.
    pub channels: u16,
    /// How many of them have requests; the others idle.
    pub busy: u16,
    /// Requests of a busy guest that are under way at a time.
    pub depth: u16,
    /// Reads or writes, of 4 KiB.
    pub kind: RequestType,
    /// What each of them is promised.
    pub promise: Promise,
}

/// What a channel is promised, and held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Nothing: there is no schedule.
    Nothing,
    /// A share, and no more.
    Share,
    /// Limits of operations and of bytes, wide enough.
    Limits,
    /// Those, its tenant's too.
    TenantLimits,
    /// A reservation.
    Reservation,
}

impl Promise {
    fn program(self) -> Program {
        let limits = match self {
            Self::Limits | Self::TenantLimits => Self::limits(),
            _ => Limits::default(),
        };
        let reservation = if self == Self::Reservation { 1 << 30 } else { 0 };
        let share = if self == Self::Nothing { Guarantees::SHARE_DEFAULT } else { 200 };
        Program::compile(&Guarantees { limits, reservation, share }, CostModel::default()).expect("in range")
    }

    fn group(self) -> Option<Arc<Group>> {
        (self == Self::TenantLimits).then(|| Arc::new(Group::new(&Self::limits(), 0).expect("in range")))
    }

    /// Ten million operations of 4 KiB a second.
    fn limits() -> Limits {
        let rate = |per_second| Some(Rate { per_second, burst: per_second / 10 });
        Limits { ops: rate(10_000_000), bytes: rate(40_960_000_000), ..Limits::default() }
    }
}

/// A sidecore with its channels, their guests, and the device behind.
#[derive(Debug)]
pub struct Breath<Q: BlockQueue> {
    sidecore: Sidecore<Q>,
    handle: Handle<Q>,
    guests: Vec<Guest>,
    device: Option<Simulated>,
    group: Option<Arc<Group>>,
    load: Load,
    now_ns: u64,
}

/// Over a device that does nothing, at once.
#[must_use]
pub fn null_breath(load: Load) -> Breath<NullQueue> {
    let limits = RamDisk::new(1 << 15, 512).expect("a disk").limits();
    let mut world = Breath::new(load, NullQueue::new(), None);
    for index in 0..load.channels {
        world.add_channel(index, LocalLane { depth: load.depth }, limits, None);
    }
    world.settled()
}

/// Over a disk in memory: as many copies of 4 KiB as requests.
#[must_use]
pub fn ram_breath(load: Load) -> Breath<RamQueue> {
    let disk = RamDisk::new(1 << 15, 512).expect("a disk");
    let mut world = Breath::new(load, RamQueue::new(disk.clone()), None);
    for index in 0..load.channels {
        world.add_channel(index, LocalLane { depth: load.depth }, disk.limits(), None);
    }
    world.settled()
}

/// Over a simulated NVMe controller, whose own work is not counted; each channel has a lane.
#[must_use]
pub fn nvme_breath(load: Load) -> Breath<Queue> {
    let mut device = Simulated::new(true);
    let queue = device.queue();
    let limits = device.controller.namespaces().first().expect("a namespace").limits;
    let lanes: Vec<_> = (0..load.channels).map(|_| device.lane(&queue, load.depth)).collect();
    let domain = device.domain().clone();
    device.stand_still();
    let mut world = Breath::new(load, queue, Some(device));
    for (index, lane) in (0..).zip(lanes) {
        world.add_channel(index, lane, limits, Some(&domain));
    }
    world.settled()
}

impl<Q: BlockQueue> Breath<Q> {
    fn new(load: Load, queue: Q, device: Option<Simulated>) -> Self {
        let budgets = Budgets { requests: 256, completions: 1024, ..Budgets::default() };
        let (sidecore, handle) = Sidecore::new(budgets, 16).expect("a sidecore");
        let mut world = Self {
            sidecore,
            handle,
            guests: Vec::new(),
            device,
            group: load.promise.group(),
            load,
            now_ns: 0,
        };
        world.ask(Order::AddDevice { device: DEVICE, queue: Box::new(queue) });
        world
    }

    fn add_channel(
        &mut self,
        index: u16,
        lane: Q::Lane,
        limits: DeviceLimits,
        domain: Option<&Arc<DmaDomain>>,
    ) {
        let Answer::LaneAttached { lane } = self.ask(Order::AttachLane { device: DEVICE, lane }) else {
            panic!("no lane")
        };
        let id = ChannelId { index, incarnation: 1 };
        // Each has blocks of its own, as channels do.
        let blocks = limits.blocks / u64::from(self.load.channels);
        let extent = Extent { lba: blocks * u64::from(index), blocks };
        let settings = ChannelSettings {
            id,
            namespace: 1,
            limits,
            extents: ExtentMap::new(&[extent], &limits).expect("an extent map"),
            serial: *b"instructions\0\0\0\0\0\0\0\0",
            read_only: false,
            rings: 1,
            requests: self.load.depth,
            segments_max: 126,
            bounce_blocks: 1,
        };
        let own = domain.filter(|_| settings.own_memory_bytes() > 0);
        let own = own.map(|domain| domain.allocate(settings.own_memory_bytes()).expect("memory of its own"));
        let channel = Box::new(BlockChannel::new(settings, own).expect("a channel"));
        self.ask(Order::AddChannel { channel, device: DEVICE, lane });
        let guest = Guest::new(self.load.depth, blocks * u64::from(limits.block_bytes) / 512);
        let map = guest.map(domain);
        let ring = guest.ring(&map);
        self.ask(Order::SetMemory { channel: id, map });
        let start = Box::new(RingStart { ring, call: None, kick: None });
        self.ask(Order::StartRing { channel: id, index: 0, start });
        if self.load.promise != Promise::Nothing {
            let program = Box::new(self.load.promise.program());
            self.ask(Order::SetProgram { channel: id, program });
            self.ask(Order::SetGroup { channel: id, group: self.group.clone() });
        }
        self.guests.push(guest);
    }

    fn ask(&mut self, order: Order<Q>) -> Answer<Q> {
        assert!(self.handle.send(order).is_ok(), "no room for an order");
        self.sidecore.breath(self.now_ns);
        match self.handle.try_recv() {
            Some(Report::Answer { answer: Answer::Refused { why, .. }, .. }) => panic!("refused: {why}"),
            Some(Report::Answer { answer, .. }) => answer,
            _ => panic!("an order without an answer"),
        }
    }

    /// After a first round of requests: every page has been touched, and every buffer has the size that it will keep.
    fn settled(mut self) -> Self {
        self.requests(u32::from(self.load.busy) * u32::from(self.load.depth), |sidecore, now_ns| {
            sidecore.breath(now_ns);
        });
        self
    }

    /// Counts the breaths that carry requests to their end.
    pub fn run(&mut self) {
        self.requests(OPERATIONS, |sidecore, now_ns| {
            counted(&mut || {
                sidecore.breath(now_ns);
            });
        });
    }

    /// Counts breaths in which nobody wants anything.
    pub fn run_idle(&mut self) {
        let Self { sidecore, now_ns, .. } = self;
        for _ in 0..OPERATIONS {
            *now_ns += 1000;
            counted(&mut || {
                assert!(sidecore.breath(*now_ns).is_idle());
            });
        }
    }

    /// Sends `left` requests, as many at a time as the load says, and has them done.
    fn requests(&mut self, mut left: u32, mut breath: impl FnMut(&mut Sidecore<Q>, u64)) {
        let Load { busy, depth, kind, .. } = self.load;
        while left > 0 {
            let mut sent = 0;
            for guest in self.guests.iter_mut().take(usize::from(busy)) {
                let batch = u32::from(depth).min(left - sent);
                guest.send(kind, batch);
                sent += batch;
            }
            let (mut done, mut breaths) = (0, 0);
            while done < sent {
                assert!(breaths < BREATHS_MAX, "requests that do not end");
                breaths += 1;
                self.now_ns += 1000;
                breath(&mut self.sidecore, self.now_ns);
                if let Some(device) = &self.device {
                    device.step();
                }
                done += self.guests.iter_mut().map(Guest::take_back).sum::<u32>();
            }
            left -= sent;
        }
    }
}
