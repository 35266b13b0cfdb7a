//! What a request costs on its way through a sidecore: ring, channel, a device that ends commands at once, used ring.
//!
//! Prints nanoseconds a request of 4 KiB: reads and writes, with and without indirect descriptors, at several depths, on a
//! device that does nothing and on a disk in memory; then with many channels on the one sidecore, all busy or all but one idle.
//! Only the breaths are timed, not the drivers that play the guests.
//!
//! ```sh
//! cargo run --release -p vfiomux-sidecore --example request_cost [requests [depth [channels [busy]]]]
//! ```
//!
//! With a depth only four lines are made, for that depth and the device that does nothing, as is good for counting
//! instructions (in all, and 5 % of the requests are a warm-up):
//!
//! ```sh
//! valgrind --tool=callgrind --toggle-collect='vfiomux_sidecore::sidecore::Sidecore<Q>::breath' \
//!     target/release/examples/request_cost 20000 32
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use vfiomux_block::{BlockQueue, Limits, LocalLane, NullQueue, RamDisk, RamQueue};
use vfiomux_channel::driver::BlkDriver;
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart};
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_sidecore::{Answer, Budgets, DeviceSlot, Handle, Order, Report, Sidecore};
use vfiomux_spec::virtio::blk::RequestType;
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1};

const REQUEST_BYTES: u32 = 4096;
const RING_SIZE: u16 = 512;
/// Of the whole disk; each channel has an equal part.
const DISK_BLOCKS: u64 = 1 << 19;
const DEVICE: DeviceSlot = DeviceSlot(0);

type Error = Box<dyn std::error::Error>;

/// What is asked of a sidecore.
#[derive(Debug, Clone, Copy)]
struct Load {
    kind: RequestType,
    features: u64,
    depth: u16,
    channels: u16,
    /// The first so many channels have requests, the others none.
    busy: u16,
}

fn main() -> Result<(), Error> {
    let arguments: Vec<u32> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let requests = arguments.first().copied().unwrap_or(2_000_000);
    println!(
        "{:<7} {:<6} {:<9} {:>8} {:>6} {:>6} {:>11}",
        "device", "", "chain", "channels", "busy", "depth", "ns/request"
    );
    let one = |index: usize| arguments.get(index).map_or(Ok(1), |&count| u16::try_from(count));
    let (channels, busy) = (one(2)?, one(3)?);
    let depths = if arguments.len() > 1 { vec![one(1)?] } else { vec![1, 32, 128] };
    for kind in [RequestType::In, RequestType::Out] {
        for features in [0, RING_INDIRECT_DESC] {
            for &depth in &depths {
                let load = Load { kind, features, depth, channels, busy };
                null(load, requests)?;
                if arguments.len() < 2 {
                    ram(load, requests / 4)?;
                }
            }
        }
    }
    if arguments.len() < 2 {
        for (channels, busy) in [(1, 1), (16, 1), (200, 1), (16, 16), (200, 200)] {
            for depth in [1, 32] {
                let (kind, features) = (RequestType::In, RING_INDIRECT_DESC);
                null(Load { kind, features, depth, channels, busy }, requests)?;
            }
        }
    }
    Ok(())
}

fn null(load: Load, requests: u32) -> Result<(), Error> {
    let limits = NullQueue::limits(DISK_BLOCKS, 512);
    Bench::new(NullQueue::new(), limits, load)?.report("null", requests)
}

fn ram(load: Load, requests: u32) -> Result<(), Error> {
    let disk = RamDisk::new(DISK_BLOCKS, 512)?;
    let limits = disk.limits();
    Bench::new(RamQueue::new(disk), limits, load)?.report("ram", requests)
}

/// A channel's guest.
struct Guest {
    arena: Arena,
    driver: BlkDriver,
    submitted: u64,
}

/// One sidecore, one device, and guests with a channel each.
struct Bench<Q: BlockQueue> {
    sidecore: Sidecore<Q>,
    handle: Handle<Q>,
    guests: Vec<Guest>,
    load: Load,
    now_ns: u64,
}

impl<Q: BlockQueue<Lane = LocalLane>> Bench<Q> {
    fn new(queue: Q, limits: Limits, load: Load) -> Result<Self, Error> {
        let (sidecore, handle) = Sidecore::new(Budgets::default(), 16)?;
        let mut bench = Self { sidecore, handle, guests: Vec::new(), load, now_ns: 0 };
        bench.ask(Order::AddDevice { device: DEVICE, queue: Box::new(queue) })?;
        for index in 0..load.channels {
            bench.add_guest(index, limits)?;
        }
        Ok(bench)
    }

    fn add_guest(&mut self, index: u16, limits: Limits) -> Result<(), Error> {
        let arena = Arena::new(4 << 20, 0x1_0000_0000)?;
        let features = VERSION_1 | RING_EVENT_IDX | self.load.features;
        let driver = BlkDriver::new(&arena, arena.guest_addr(), RING_SIZE, features)?;
        let id = ChannelId { index, incarnation: 1 };
        let blocks = self.blocks();
        let extent = Extent { lba: u64::from(index) * blocks, blocks };
        let settings = ChannelSettings {
            id,
            namespace: 1,
            limits,
            extents: ExtentMap::new(&[extent], &limits)?,
            serial: *b"bench\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            read_only: false,
            rings: 1,
            requests: 256,
            segments_max: 126,
            bounce_blocks: 1,
        };
        let lane = LocalLane { depth: 256 };
        let Answer::LaneAttached { lane } = self.ask(Order::AttachLane { device: DEVICE, lane })? else {
            return Err("no lane".into());
        };
        let channel = Box::new(BlockChannel::new(settings, None)?);
        self.ask(Order::AddChannel { channel, device: DEVICE, lane })?;
        let region = MapRegion {
            guest_addr: arena.guest_addr(),
            user_addr: arena.user_addr(),
            file: arena.region().clone(),
            grant: None,
        };
        let map = Arc::new(MemoryMap::new(vec![region])?);
        let ring = SplitRing::new(&map, &driver.setup(), None)?;
        self.ask(Order::SetMemory { channel: id, map })?;
        let start = Box::new(RingStart { ring, call: None, kick: None });
        self.ask(Order::StartRing { channel: id, index: 0, start })?;
        self.guests.push(Guest { arena, driver, submitted: 0 });
        Ok(())
    }

    /// Of a channel.
    fn blocks(&self) -> u64 {
        (DISK_BLOCKS / u64::from(self.load.channels)) & !7
    }

    fn ask(&mut self, order: Order<Q>) -> Result<Answer<Q>, Error> {
        self.handle.send(order).map_err(|_| "the mailbox is full")?;
        self.sidecore.breath(0);
        match self.handle.try_recv() {
            Some(Report::Answer { answer: Answer::Refused { why, .. }, .. }) => Err(why.into()),
            Some(Report::Answer { answer, .. }) => Ok(answer),
            _ => Err("an order is answered in the breath that takes it".into()),
        }
    }

    /// Prints a line of the table, after a warm-up.
    fn report(mut self, device: &str, requests: u32) -> Result<(), Error> {
        self.run(requests / 20)?;
        let each_ns = self.run(requests)?.as_nanos() as f64 / f64::from(requests);
        let Load { kind, features, depth, channels, busy } = self.load;
        let kind = if kind == RequestType::In { "read" } else { "write" };
        let chain = if features & RING_INDIRECT_DESC == 0 { "direct" } else { "indirect" };
        println!("{device:<7} {kind:<6} {chain:<9} {channels:>8} {busy:>6} {depth:>6} {each_ns:>11.1}");
        Ok(())
    }

    /// Keeps every busy channel's requests under way until so many are done in all. Gives the time spent in breaths.
    fn run(&mut self, requests: u32) -> Result<Duration, Error> {
        let (mut spent, mut done) = (Duration::ZERO, 0);
        let blocks = self.blocks();
        while done < requests {
            for guest in self.guests.iter_mut().take(usize::from(self.load.busy)) {
                guest.submit(self.load, blocks)?;
            }
            self.now_ns += 1000;
            let start = Instant::now();
            self.sidecore.breath(self.now_ns);
            spent += start.elapsed();
            for guest in self.guests.iter_mut().take(usize::from(self.load.busy)) {
                done += guest.returned()?;
            }
        }
        Ok(spent)
    }
}

impl Guest {
    /// Fills the ring up to the depth.
    fn submit(&mut self, load: Load, blocks: u64) -> Result<(), Error> {
        let Self { arena, driver, submitted } = self;
        while driver.in_flight() < usize::from(load.depth) {
            let token = driver.next_token().ok_or("the ring is full")?;
            let guest_addr = arena.guest_addr() + (1 << 20) + u64::from(token) * u64::from(REQUEST_BYTES);
            let data = [Buffer { guest_addr, len: REQUEST_BYTES, writable: load.kind == RequestType::In }];
            // Here and there, as random requests are, but the same each time.
            let sector = (submitted.wrapping_mul(8 * 7919) % blocks) & !7;
            driver.submit(arena, load.kind, sector, &data).ok_or("the ring is full")?;
            *submitted += 1;
        }
        let _ = driver.publish();
        Ok(())
    }

    /// Takes what has come back.
    fn returned(&mut self) -> Result<u32, Error> {
        let mut count = 0;
        while let Some(returned) = self.driver.poll(&self.arena)? {
            if returned.status != 0 {
                return Err(format!("status {}", returned.status).into());
            }
            count += 1;
        }
        Ok(count)
    }
}
