//! What a request costs on its way through a sidecore: ring, channel, null device, used ring.
//!
//! Prints nanoseconds a request of 4 KiB, at several depths, reads and writes, with and without indirect descriptors. Only the
//! breaths are timed, not the driver that plays the guest.
//!
//! ```sh
//! cargo run --release -p vfiomux-sidecore --example request_cost [requests [depth]]
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use vfiomux_block::{LocalLane, NullQueue, RamDisk};
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
const DISK_BLOCKS: u64 = 1 << 20;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let requests = std::env::args().nth(1).map_or(Ok(2_000_000), |text| text.parse())?;
    let only: Option<u16> = std::env::args().nth(2).map(|text| text.parse()).transpose()?;
    println!(
        "{:<10} {:<9} {:>6} {:>12} {:>14}",
        "request", "chain", "depth", "ns/request", "requests/breath"
    );
    for (name, kind) in [("read 4K", RequestType::In), ("write 4K", RequestType::Out)] {
        for (chain, features) in [("direct", 0), ("indirect", RING_INDIRECT_DESC)] {
            for depth in only.map_or(vec![1, 32, 128], |depth| vec![depth]) {
                let mut bench = Bench::new(VERSION_1 | RING_EVENT_IDX | features)?;
                bench.run(kind, depth, requests / 20)?;
                let (spent, breaths) = bench.run(kind, depth, requests)?;
                let each_ns = spent.as_nanos() as f64 / f64::from(requests);
                let batch = f64::from(requests) / f64::from(breaths);
                println!("{name:<10} {chain:<9} {depth:>6} {each_ns:>12.1} {batch:>14.1}");
            }
        }
    }
    Ok(())
}

/// One guest, one channel, one null device.
struct Bench {
    sidecore: Sidecore<NullQueue>,
    handle: Handle<NullQueue>,
    arena: Arena,
    driver: BlkDriver,
}

impl Bench {
    fn new(features: u64) -> Result<Self, Error> {
        let arena = Arena::new(16 << 20, 0x1_0000_0000)?;
        let driver = BlkDriver::new(&arena, arena.guest_addr(), RING_SIZE, features)?;
        let budgets = Budgets { requests: 256, completions: 256, ..Budgets::default() };
        let (sidecore, handle) = Sidecore::new(budgets, 16)?;
        let mut bench = Self { sidecore, handle, arena, driver };

        let limits = RamDisk::new(DISK_BLOCKS, 512)?.limits();
        let id = ChannelId { index: 0, incarnation: 1 };
        let settings = ChannelSettings {
            id,
            namespace: 1,
            limits,
            extents: ExtentMap::new(&[Extent { lba: 0, blocks: DISK_BLOCKS }], &limits)?,
            serial: *b"bench\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            read_only: false,
            rings: 1,
            requests: 256,
            segments_max: 126,
            bounce_blocks: 1,
        };
        let device = DeviceSlot(0);
        bench.ask(Order::AddDevice { device, queue: Box::new(NullQueue::new()) })?;
        let Answer::LaneAttached { lane } =
            bench.ask(Order::AttachLane { device, lane: LocalLane { depth: 256 } })?
        else {
            return Err("no lane".into());
        };
        let channel = Box::new(BlockChannel::new(settings, None)?);
        bench.ask(Order::AddChannel { channel, device, lane })?;
        let region = MapRegion {
            guest_addr: bench.arena.guest_addr(),
            user_addr: bench.arena.user_addr(),
            file: bench.arena.region().clone(),
            grant: None,
        };
        let map = Arc::new(MemoryMap::new(vec![region])?);
        let ring = SplitRing::new(&map, &bench.driver.setup(), None)?;
        bench.ask(Order::SetMemory { channel: id, map })?;
        let start = Box::new(RingStart { ring, call: None, kick: None });
        bench.ask(Order::StartRing { channel: id, index: 0, start })?;
        Ok(bench)
    }

    fn ask(&mut self, order: Order<NullQueue>) -> Result<Answer<NullQueue>, Error> {
        self.handle.send(order).map_err(|order| format!("no room for {order:?}"))?;
        self.sidecore.breath(0);
        match self.handle.try_recv() {
            Some(Report::Answer { answer: Answer::Refused { why, .. }, .. }) => Err(why.into()),
            Some(Report::Answer { answer, .. }) => Ok(answer),
            other => Err(format!("unexpected {other:?}").into()),
        }
    }

    /// Keeps `depth` requests under way until `requests` are done. Gives the time spent in breaths, and how many there were.
    fn run(&mut self, kind: RequestType, depth: u16, requests: u32) -> Result<(Duration, u32), Error> {
        let Self { sidecore, arena, driver, .. } = self;
        let (mut spent, mut breaths, mut submitted, mut done) = (Duration::ZERO, 0, 0, 0);
        let mut now_ns = 0;
        while done < requests {
            while driver.in_flight() < usize::from(depth) && submitted < requests {
                let token = driver.next_token().ok_or("the ring is full")?;
                let guest_addr = arena.guest_addr() + (1 << 20) + u64::from(token) * u64::from(REQUEST_BYTES);
                let writable = kind == RequestType::In;
                let data = [Buffer { guest_addr, len: REQUEST_BYTES, writable }];
                let sector = u64::from(submitted) * 8 % (DISK_BLOCKS - 8);
                driver.submit(arena, kind, sector, &data).ok_or("the ring is full")?;
                submitted += 1;
            }
            let _ = driver.publish();
            // Two breaths: one submits, the next completes.
            let start = Instant::now();
            for _ in 0..2 {
                now_ns += 1000;
                sidecore.breath(now_ns);
                breaths += 1;
            }
            spent += start.elapsed();
            while let Some(returned) = driver.poll(arena)? {
                if returned.status != 0 {
                    return Err(format!("status {}", returned.status).into());
                }
                done += 1;
            }
        }
        Ok((spent, breaths))
    }
}
