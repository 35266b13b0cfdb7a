//! Guarantees through rings, channels and sidecores, on a device whose service time is known to the nanosecond.
//!
//! The device works off one command after the other, and keeps a log. Several sidecores may have a queue to it. Time is stepped:
//! guests ask, each sidecore breathes once, and so on.

mod device;
mod fluid;
mod groups;
mod guests;
mod kept;
mod order;
mod storm;

use std::sync::{Arc, Mutex};

use vfiomux_channel::{
    BlockChannel, ChannelCounters, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart,
};
use vfiomux_qos::{CostModel, Group, Guarantees, Io, Program};
use vfiomux_sidecore::{Answer, Budgets, DeviceSlot, Handle, Order, Pace, Report, Sidecore};

use device::{DeviceLog, PacedQueue, Sent, Server};
use guests::{Guest, Habit};

const DEVICE: DeviceSlot = DeviceSlot(0);
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Between two breaths.
const STEP_NS: u64 = 10_000;
/// What a unit of cost takes the device: a read of 4 KiB is 50 us.
const NS_PER_UNIT: u64 = 49;
/// Cost of a read of 4 KiB.
const READ: u64 = 1024;
/// Cost units a second that the device does.
const CAPACITY: u64 = SECOND / NS_PER_UNIT;
/// Blocks of each channel.
const BLOCKS: u64 = 1 << 12;

/// What a guest asks for, and what its channel is promised.
#[derive(Debug, Clone, Copy)]
struct Client {
    guarantees: Guarantees,
    io: Io,
    habit: Habit,
    /// Which sidecore serves it.
    sidecore: usize,
}

impl Client {
    fn reader(reservation: u64, share: u32, depth: u16) -> Self {
        let guarantees = Guarantees { reservation, share, ..Guarantees::default() };
        Self { guarantees, io: Io::read(4096), habit: Habit::backlogged(depth), sidecore: 0 }
    }
}

struct Bench {
    sidecores: Vec<(Sidecore<PacedQueue>, Handle<PacedQueue>)>,
    guests: Vec<Guest>,
    ids: Vec<(usize, ChannelId)>,
    counters: Vec<Arc<ChannelCounters>>,
    server: Arc<Mutex<Server>>,
    now_ns: u64,
}

impl Bench {
    /// As many sidecores, each of which may have four commands at the device and gives turns of two reads.
    fn new(sidecores: usize, clients: &[Client]) -> Self {
        let pace = Pace { window_commands: 4, slice_cost: 2 * READ, ..Pace::default() };
        Self::on(Server::new(NS_PER_UNIT, 1), pace, sidecores, clients)
    }

    /// The same on another device.
    fn on(server: Server, pace: Pace, sidecores: usize, clients: &[Client]) -> Self {
        let server = Arc::new(Mutex::new(server));
        let sidecores = (0..sidecores).map(|_| Sidecore::new(Budgets::default(), 64).unwrap()).collect();
        let (guests, ids, counters) = Default::default();
        let mut bench = Self { sidecores, guests, ids, counters, server, now_ns: 0 };
        for sidecore in 0..bench.sidecores.len() {
            let queue = Box::new(PacedQueue::new(bench.server.clone()));
            bench.ask(sidecore, Order::AddDevice { device: DEVICE, queue });
            bench.ask(sidecore, Order::SetPace { device: DEVICE, pace });
        }
        clients.iter().for_each(|client| bench.add(client));
        bench
    }

    fn add(&mut self, client: &Client) {
        let index = u16::try_from(self.guests.len()).unwrap();
        let limits = vfiomux_block::NullQueue::limits(1 << 20, 512);
        let id = ChannelId { index, incarnation: 1 };
        let extent = Extent { lba: BLOCKS * u64::from(index), blocks: BLOCKS };
        let settings = ChannelSettings {
            id,
            namespace: 1,
            limits,
            extents: ExtentMap::new(&[extent], &limits).unwrap(),
            serial: [0; 20],
            read_only: false,
            rings: 1,
            requests: 256,
            segments_max: 62,
            bounce_blocks: 1,
        };
        let channel = Box::new(BlockChannel::new(settings, None).unwrap());
        self.counters.push(channel.counters().clone());
        self.ids.push((client.sidecore, id));
        let lane = self.attach(client.sidecore);
        self.ask(client.sidecore, Order::AddChannel { channel, device: DEVICE, lane });
        let guest = Guest::new(client.io, client.habit);
        let map = guest.map();
        let start = Box::new(RingStart { ring: guest.ring(&map), call: None, kick: None });
        self.ask(client.sidecore, Order::SetMemory { channel: id, map });
        self.ask(client.sidecore, Order::StartRing { channel: id, index: 0, start });
        self.guests.push(guest);
        self.promise(usize::from(index), &client.guarantees);
    }

    fn attach(&mut self, sidecore: usize) -> vfiomux_block::LaneId {
        match self.ask(sidecore, Order::AttachLane { device: DEVICE, lane: 256 }) {
            Answer::LaneAttached { lane } => lane,
            other => panic!("{other:?}"),
        }
    }

    fn promise(&mut self, client: usize, guarantees: &Guarantees) {
        let program = Box::new(Program::compile(guarantees, CostModel::default()).unwrap());
        let (sidecore, channel) = self.ids[client];
        self.ask(sidecore, Order::SetProgram { channel, program });
    }

    fn join(&mut self, client: usize, group: Option<&Arc<Group>>) {
        let (sidecore, channel) = self.ids[client];
        self.ask(sidecore, Order::SetGroup { channel, group: group.cloned() });
    }

    /// Has a channel served by another sidecore.
    fn shift(&mut self, client: usize, to: usize) {
        let (from, id) = self.ids[client];
        let answer = self.ask(from, Order::TakeChannel { channel: id });
        let Answer::ChannelTaken { mut channel } = answer else { panic!("{answer:?}") };
        let id = ChannelId { incarnation: id.incarnation + 1, ..id };
        channel.rename(id);
        channel.release();
        let lane = self.attach(to);
        self.ask(to, Order::AddChannel { channel, device: DEVICE, lane });
        self.ids[client] = (to, id);
    }

    /// Gives an order, and goes on until it is answered.
    fn ask(&mut self, sidecore: usize, order: Order<PacedQueue>) -> Answer<PacedQueue> {
        self.sidecores[sidecore].1.send(order).unwrap();
        for _ in 0..1000 {
            self.step(STEP_NS);
            match self.sidecores[sidecore].1.try_recv() {
                Some(Report::Answer { answer: Answer::Refused { why, .. }, .. }) => panic!("{why}"),
                Some(Report::Answer { answer, .. }) => return answer,
                Some(report) => panic!("{report:?}"),
                None => {}
            }
        }
        panic!("an order is not answered");
    }

    fn step(&mut self, step_ns: u64) {
        self.now_ns += step_ns;
        self.breathe(self.now_ns);
    }

    /// A breath of each, with guests and device at another reading of the clock.
    fn breathe(&mut self, reading_ns: u64) {
        self.server.lock().unwrap().now_ns = self.now_ns;
        for guest in &mut self.guests {
            guest.ask(self.now_ns);
        }
        for (sidecore, _) in &mut self.sidecores {
            sidecore.breath(reading_ns);
        }
    }

    fn run_until(&mut self, until_ns: u64) {
        while self.now_ns < until_ns {
            self.step(STEP_NS);
        }
    }

    fn start_ring(&mut self, client: usize, base: u16) {
        let (sidecore, channel) = self.ids[client];
        let ring = self.guests[client].ring_from(base);
        let start = Box::new(RingStart { ring, call: None, kick: None });
        self.ask(sidecore, Order::StartRing { channel, index: 0, start });
    }

    /// Q2 and Q3: how many cost units a client that always has requests fell short of what its reservation, as it was at each
    /// moment, came to, in the worst of all stretches of time between two marks 10 ms apart. What is got beyond it is nobody's
    /// debt: only a fall from what was ahead at an earlier mark counts.
    fn shortfall(&self, client: usize, from_ns: u64, reserved_at: impl Fn(u64) -> u64) -> i128 {
        let log = self.log();
        let mut sent = log.of(client).skip_while(|sent| sent.at_ns < from_ns).peekable();
        let (mut ahead, mut highest, mut worst) = (0i128, 0i128, 0i128);
        let (mut due, mut at_ns) = (0u128, from_ns);
        while at_ns + 10 * MS <= self.now_ns {
            for _ in 0..10 {
                due += u128::from(reserved_at(at_ns)) * u128::from(MS);
                at_ns += MS;
            }
            while let Some(sent) = sent.next_if(|sent| sent.at_ns < at_ns) {
                ahead += i128::from(sent.cost);
            }
            let present = ahead - i128::try_from(due / u128::from(SECOND)).unwrap();
            worst = worst.max(highest - present);
            highest = highest.max(present);
        }
        worst
    }

    fn log(&self) -> DeviceLog {
        self.server.lock().unwrap().log.clone()
    }
}
