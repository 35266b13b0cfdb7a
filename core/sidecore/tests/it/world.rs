//! A sidecore, its devices and its guests in one thread.

use std::io;
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::Arc;

use vfiomux_block::{Addressing, FaultPlan, FaultyQueue, LaneId, Limits, LocalLane, RamDisk, RamQueue};
use vfiomux_channel::driver::BlkDriver;
use vfiomux_channel::{
    BlockChannel, ChannelCounters, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart,
};
use vfiomux_guest::Call;
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_hw::{Backing, DmaDomain, Iommu, Iova, Rights};
use vfiomux_sidecore::{Answer, Budgets, DeviceSlot, Handle, Order, Report, Sidecore, Ticket, Work};
use vfiomux_spec::virtio::blk::RequestType;
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1};

pub(crate) type Queue = FaultyQueue<RamQueue>;
pub(crate) const DEVICE: DeviceSlot = DeviceSlot(0);
pub(crate) const FEATURES: u64 = VERSION_1 | RING_EVENT_IDX | RING_INDIRECT_DESC;
/// What lies on the disk between the channels' extents, and must stay there.
const GUARD: u8 = 0xee;

/// Random numbers (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// An IOMMU that believes everything.
pub(crate) struct Trusting;

impl Iommu for Trusting {
    fn apertures(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=(1 << 46)]
    }
    fn page_sizes(&self) -> u64 {
        0x1000
    }
    fn map(&self, _: Iova, _: NonNull<u8>, _: u64, _: Rights) -> io::Result<()> {
        Ok(())
    }
    fn unmap(&self, _: Iova, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// What to build.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) guests: u16,
    pub(crate) rings: u16,
    pub(crate) ring_size: u16,
    pub(crate) requests: u16,
    pub(crate) lane_depth: u16,
    /// All channels on one lane.
    pub(crate) one_lane: bool,
    pub(crate) faults: FaultPlan,
    pub(crate) budgets: Budgets,
    pub(crate) block_bytes: u32,
    /// What the device takes, beside its size.
    pub(crate) limits: fn(&mut Limits),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            guests: 2,
            rings: 1,
            ring_size: 64,
            requests: 64,
            lane_depth: 32,
            one_lane: false,
            faults: FaultPlan::default(),
            budgets: Budgets::default(),
            block_bytes: 512,
            limits: |_| {},
        }
    }
}

impl Plan {
    pub(crate) fn is_narrow(&self) -> bool {
        std::ptr::fn_addr_eq(self.limits, Plan::narrow as fn(&mut Limits))
    }

    /// Features of the device that make requests be cut, bounced and split.
    pub(crate) fn narrow(limits: &mut Limits) {
        limits.addressing = Addressing::Prp { page_bytes: 4096 };
        limits.transfer_bytes_max = 8192;
        limits.segments_max = 3;
        limits.boundary_blocks = 8;
        limits.write_zeroes_blocks_max = 0;
        limits.deallocate_blocks_max = 16;
    }
}

/// Extents of each channel, in blocks: two runs in the wrong order, with gaps around.
const RUN_BLOCKS: u64 = 96;
const GAP_BLOCKS: u64 = 32;
pub(crate) const CHANNEL_BLOCKS: u64 = 2 * RUN_BLOCKS;

fn extents_of(guest: u16) -> [Extent; 2] {
    let base = GAP_BLOCKS + u64::from(guest) * 2 * (RUN_BLOCKS + GAP_BLOCKS);
    [
        Extent { lba: base + RUN_BLOCKS + GAP_BLOCKS, blocks: RUN_BLOCKS },
        Extent { lba: base, blocks: RUN_BLOCKS },
    ]
}

/// A guest with one channel.
pub(crate) struct Guest {
    pub(crate) arena: Arc<Arena>,
    pub(crate) drivers: Vec<BlkDriver>,
    pub(crate) id: ChannelId,
    pub(crate) lane: LaneId,
    pub(crate) counters: Arc<ChannelCounters>,
    /// The memory that it lends, as we see it.
    pub(crate) lent: std::ops::Range<usize>,
    /// The channel's own device memory.
    own: Option<std::ops::Range<usize>>,
}

pub(crate) struct World {
    pub(crate) sidecore: Sidecore<Queue>,
    pub(crate) handle: Handle<Queue>,
    pub(crate) guests: Vec<Guest>,
    pub(crate) disk: Arc<RamDisk>,
    pub(crate) domain: Arc<DmaDomain>,
    pub(crate) plan: Plan,
    pub(crate) limits: Limits,
    pub(crate) now_ns: u64,
    /// Blocks that control itself reads and writes.
    pub(crate) control: std::ops::Range<u64>,
    /// What was reported and not asked for.
    pub(crate) reports: Vec<Report<Queue>>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let blocks = GAP_BLOCKS + u64::from(plan.guests) * 2 * (RUN_BLOCKS + GAP_BLOCKS);
        let disk = RamDisk::new(blocks, plan.block_bytes).unwrap();
        disk.write(0, &vec![GUARD; (blocks * u64::from(plan.block_bytes)) as usize]);
        let mut limits = disk.limits();
        (plan.limits)(&mut limits);
        let (sidecore, handle) = Sidecore::new(plan.budgets, 64).unwrap();
        let domain = DmaDomain::new(Box::new(Trusting));
        let mut world = Self {
            sidecore,
            handle,
            guests: Vec::new(),
            disk,
            domain,
            limits,
            now_ns: 0,
            control: 0..0,
            reports: Vec::new(),
            plan,
        };
        let queue = Box::new(FaultyQueue::new(RamQueue::new(world.disk.clone()), world.plan.faults));
        assert!(matches!(world.ask(Order::AddDevice { device: DEVICE, queue }), Answer::Done));
        let shared = world.plan.one_lane.then(|| world.attach_lane());
        for index in 0..world.plan.guests {
            let lane = shared.unwrap_or_else(|| world.attach_lane());
            world.add_guest(index, 1, lane);
        }
        world
    }

    pub(crate) fn attach_lane(&mut self) -> LaneId {
        let lane = LocalLane { depth: self.plan.lane_depth };
        match self.ask(Order::AttachLane { device: DEVICE, lane }) {
            Answer::LaneAttached { lane } => lane,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn settings(&self, index: u16, incarnation: u32) -> ChannelSettings {
        let mut serial = [0; 20];
        serial[..5].copy_from_slice(b"guest");
        serial[5] = b'0' + index as u8;
        ChannelSettings {
            id: ChannelId { index, incarnation },
            namespace: self.disk.namespace(),
            limits: self.limits,
            extents: ExtentMap::new(&extents_of(index), &self.limits).unwrap(),
            serial,
            read_only: false,
            rings: self.plan.rings,
            requests: self.plan.requests,
            segments_max: 62,
            bounce_blocks: 4,
        }
    }

    /// A channel over the guest's extents, which are zeroed first, with memory and rings.
    pub(crate) fn add_guest(&mut self, index: u16, incarnation: u32, lane: LaneId) {
        let settings = self.settings(index, incarnation);
        self.zero(index);
        let own_bytes = settings.own_memory_bytes();
        let own = (own_bytes > 0).then(|| self.domain.allocate(own_bytes).unwrap());
        let own_range = own.as_ref().map(|own| {
            let base = own.base().as_ptr() as usize;
            base..base + own.len()
        });
        let id = settings.id;
        let channel = Box::new(BlockChannel::new(settings, own).unwrap());
        let counters = channel.counters().clone();
        let arena = Arc::new(Arena::new(32 << 20, 0x4000_0000 + (u64::from(index) << 32)).unwrap());
        let drivers = (0..self.plan.rings)
            .map(|ring| {
                let at = arena.guest_addr() + u64::from(ring) * (64 << 10);
                BlkDriver::new(&arena, at, self.plan.ring_size, FEATURES).unwrap()
            })
            .collect();
        let lent = range_of(&**arena.region());
        let guest = Guest { arena, drivers, id, lane, counters, lent, own: own_range };
        let map = guest.map();
        assert!(matches!(self.ask(Order::AddChannel { channel, device: DEVICE, lane }), Answer::Done));
        assert!(matches!(
            self.ask(Order::SetMemory { channel: id, map }),
            Answer::MemoryReplaced { old: None }
        ));
        let place = usize::from(index);
        if place < self.guests.len() {
            self.guests[place] = guest
        } else {
            self.guests.push(guest)
        }
        for ring in 0..self.plan.rings {
            self.start_ring(place, ring, 0);
        }
    }

    /// Zeroes a guest's extents.
    pub(crate) fn zero(&mut self, index: u16) {
        let block = u64::from(self.limits.block_bytes);
        for extent in extents_of(index) {
            self.disk.write(extent.lba * block, &vec![0; (extent.blocks * block) as usize]);
        }
    }

    pub(crate) fn start_ring(&mut self, guest: usize, ring: u16, base: u16) {
        let Guest { drivers, id, arena, .. } = &self.guests[guest];
        let setup = vfiomux_guest::ring::RingSetup { base, ..drivers[usize::from(ring)].setup() };
        let ring_memory = SplitRing::new(arena.map(), &setup, None).unwrap();
        let start = Box::new(RingStart { ring: ring_memory, call: Some(call()), kick: None });
        let order = Order::StartRing { channel: *id, index: ring, start };
        let answer = self.ask(order);
        assert!(matches!(answer, Answer::Done), "{answer:?}");
    }

    pub(crate) fn breath(&mut self) -> Work {
        self.now_ns += 1000;
        let work = self.sidecore.breath(self.now_ns);
        self.check_commands();
        work
    }

    /// C1, C2: what is at the device names memory and blocks of one and the same channel.
    fn check_commands(&mut self) {
        let (guests, control) = (&self.guests, self.control.clone());
        self.sidecore.with_queue(DEVICE, |queue| {
            for (command, data) in queue.commands().filter(|(command, _)| command.blocks > 0) {
                let end = command.lba + u64::from(command.blocks);
                if control.contains(&command.lba) && end <= control.end {
                    continue;
                }
                let owner = guests.iter().find(|guest| {
                    extents_of(guest.id.index)
                        .iter()
                        .any(|extent| extent.lba <= command.lba && end <= extent.lba + extent.blocks)
                });
                let owner = owner.unwrap_or_else(|| panic!("{command:?} leaves every extent"));
                for segment in data {
                    let start = segment.host().as_ptr() as usize;
                    let last = start + segment.len() as usize - 1;
                    let inside =
                        |range: &std::ops::Range<usize>| range.contains(&start) && range.contains(&last);
                    assert!(
                        inside(&owner.lent) || owner.own.as_ref().is_some_and(inside),
                        "{command:?} names {segment:?}"
                    );
                }
            }
        });
    }

    pub(crate) fn breathe(&mut self, breaths: u32) {
        for _ in 0..breaths {
            self.breath();
        }
        while let Some(report) = self.handle.try_recv() {
            self.reports.push(report);
        }
    }

    pub(crate) fn queue<T>(&mut self, look: impl FnOnce(&mut Queue) -> T) -> T {
        self.sidecore.with_queue(DEVICE, look).unwrap()
    }

    /// Sends an order and breathes until it is answered.
    pub(crate) fn ask(&mut self, order: Order<Queue>) -> Answer<Queue> {
        let ticket = self.send(order);
        self.answer(ticket, 500).expect("an order is answered in time")
    }

    pub(crate) fn send(&mut self, order: Order<Queue>) -> Ticket {
        self.handle.send(order).unwrap_or_else(|order| panic!("no room for {order:?}"))
    }

    /// Breathes until an order is answered, so many times at most.
    pub(crate) fn answer(&mut self, ticket: Ticket, breaths: u32) -> Option<Answer<Queue>> {
        for _ in 0..=breaths {
            while let Some(report) = self.handle.try_recv() {
                self.reports.push(report);
            }
            let mine =
                |report: &Report<Queue>| matches!(report, Report::Answer { ticket: t, .. } if *t == ticket);
            if let Some(at) = self.reports.iter().position(mine) {
                match self.reports.swap_remove(at) {
                    Report::Answer { answer, .. } => return Some(answer),
                    _ => unreachable!(),
                }
            }
            self.breath();
        }
        None
    }

    /// The guard between the extents is whole: nobody wrote where nobody may (C2).
    pub(crate) fn check_guard(&self) {
        let block = u64::from(self.limits.block_bytes);
        let owned: Vec<Extent> = (0..self.plan.guests).flat_map(extents_of).collect();
        let mut bytes = vec![0; block as usize];
        for lba in 0..self.limits.blocks {
            if !owned.iter().any(|extent| (extent.lba..extent.lba + extent.blocks).contains(&lba)) {
                self.disk.read(lba * block, &mut bytes);
                assert!(
                    bytes.iter().all(|&byte| byte == GUARD),
                    "block {lba} belongs to nobody and was written"
                );
            }
        }
    }
}

impl Guest {
    pub(crate) fn map(&self) -> Arc<MemoryMap> {
        let region = MapRegion {
            guest_addr: self.arena.guest_addr(),
            user_addr: self.arena.user_addr(),
            file: self.arena.region().clone(),
            grant: None,
        };
        Arc::new(MemoryMap::new(vec![region]).unwrap())
    }

    /// Where the data of a request lies: 128 KiB for each token of each ring.
    pub(crate) fn data_addr(&self, ring: usize, token: u16) -> u64 {
        self.arena.guest_addr() + (1 << 20) + (((ring as u64) << 6) + u64::from(token)) * (128 << 10)
    }

    /// A plain request on ring 0, with `bytes` bytes of data at the place of token `at`.
    pub(crate) fn request(&mut self, kind: RequestType, sector: u64, at: u16, bytes: u32) -> u16 {
        let writable = matches!(kind, RequestType::In | RequestType::GetId);
        let buffer = Buffer { guest_addr: self.data_addr(0, at), len: bytes, writable };
        let data = if bytes > 0 { std::slice::from_ref(&buffer) } else { &[] };
        let token = self.drivers[0].submit(&self.arena, kind, sector, data).unwrap();
        let _ = self.drivers[0].publish();
        token
    }

    /// What ring 0 has returned: token and status.
    pub(crate) fn returned(&mut self) -> Vec<(u16, u8)> {
        let mut all = Vec::new();
        while let Some(done) = self.drivers[0].poll(&self.arena).unwrap() {
            all.push((done.token, done.status));
        }
        all
    }
}

/// Where memory lies in this process.
pub(crate) fn range_of(memory: &dyn Backing) -> std::ops::Range<usize> {
    let base = memory.base().as_ptr() as usize;
    base..base + memory.len()
}

pub(crate) fn call() -> Call {
    Call::new(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()).unwrap()
}
