//! Properties of a channel by itself, each with the bug that its check catches.

use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use vfiomux_block::{
    Addressing, BlockQueue, Completion, FaultPlan, FaultyQueue, LocalLane, RamDisk, RamQueue, Status,
};
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_hw::{DmaDomain, Iommu, Iova, Rights};
use vfiomux_spec::virtio::blk::{self, RequestType, STATUS_IOERR, STATUS_OK};
use vfiomux_spec::virtio::features::VERSION_1;

use crate::driver::BlkDriver;
use crate::seeded::{self, Bug};
use crate::{
    BlockChannel, ChannelId, ChannelSettings, Ending, Extent, ExtentMap, Portion, RingStart, SetMemory, Turn,
};

/// An IOMMU that believes everything.
struct Trusting;

impl Iommu for Trusting {
    fn apertures(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=(1 << 40)]
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

const BLOCKS: u64 = 64;
const TURN: Turn = Turn { now_ns: 0, looked_ns: 0, portion: Portion::whole(64) };
/// The channel has the second half of the disk.
const FIRST_LBA: u64 = BLOCKS / 2;

fn settings(disk: &RamDisk) -> ChannelSettings {
    let mut limits = disk.limits();
    limits.addressing = Addressing::Prp { page_bytes: 4096 };
    let extent = Extent { lba: FIRST_LBA, blocks: BLOCKS - FIRST_LBA };
    ChannelSettings {
        id: ChannelId { index: 0, incarnation: 1 },
        namespace: 1,
        limits,
        extents: ExtentMap::new(&[extent], &limits).unwrap(),
        serial: *b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        read_only: false,
        rings: 1,
        requests: 16,
        segments_max: 14,
        bounce_blocks: 2,
    }
}

/// A channel with a guest on one side and a disk on the other.
struct Stand {
    channel: BlockChannel,
    queue: FaultyQueue<RamQueue>,
    disk: Arc<RamDisk>,
    arena: Arena,
    driver: BlkDriver,
    /// Every completion is delivered again in the next step.
    repeat: Vec<Completion>,
}

impl Stand {
    fn new(change: impl FnOnce(&mut ChannelSettings)) -> Self {
        let disk = RamDisk::new(BLOCKS, 512).unwrap();
        let mut settings = settings(&disk);
        change(&mut settings);
        let domain = DmaDomain::new(Box::new(Trusting));
        let own = domain.allocate(settings.own_memory_bytes()).unwrap();
        let mut channel = BlockChannel::new(settings, Some(own)).unwrap();
        let mut queue = FaultyQueue::new(RamQueue::new(disk.clone()), FaultPlan::default());
        let lane = queue.attach(LocalLane { depth: 16 });
        channel.join(lane, 0);
        let arena = Arena::new(4 << 20, 1 << 32).unwrap();
        let driver = BlkDriver::new(&arena, 1 << 32, 64, VERSION_1).unwrap();
        let (guest_addr, user_addr) = (arena.guest_addr(), arena.user_addr());
        let region = MapRegion { guest_addr, user_addr, file: arena.region().clone(), grant: None };
        let map = Arc::new(MemoryMap::new(vec![region]).unwrap());
        let ring = SplitRing::new(&map, &driver.setup(), None).unwrap();
        assert!(matches!(channel.set_memory(map), SetMemory::Replaced(None)));
        channel.start_ring(0, Box::new(RingStart { ring, call: None, kick: None })).unwrap();
        Self { channel, queue, disk, arena, driver, repeat: Vec::new() }
    }

    fn data_addr(&self, at: u64) -> u64 {
        self.arena.guest_addr() + (1 << 20) + (at << 16)
    }

    fn request(&mut self, kind: RequestType, sector: u64, data: &[Buffer]) -> u16 {
        let token = self.driver.submit(&self.arena, kind, sector, data).unwrap();
        let _ = self.driver.publish();
        token
    }

    /// Polls, serves and publishes once, as a sidecore does.
    fn step(&mut self) {
        let mut ended = std::mem::take(&mut self.repeat);
        self.queue.poll(64, &mut |completion| ended.push(completion));
        for completion in ended {
            self.channel.complete(completion.tag.into(), Ending::Completed(completion.status), 0);
        }
        self.channel.serve(TURN, &mut self.queue);
        self.channel.publish();
    }

    fn returned(&mut self) -> Vec<(u16, u8)> {
        let mut all = Vec::new();
        while let Some(done) = self.driver.poll(&self.arena).unwrap() {
            all.push((done.token, done.status));
        }
        all
    }

    fn buffer(&self, at: u64, offset: u64, len: u32, writable: bool) -> Buffer {
        Buffer { guest_addr: self.data_addr(at) + offset, len, writable }
    }

    fn read_data(&self, at: u64, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.arena.read(self.data_addr(at) + offset, &mut bytes).unwrap();
        bytes
    }
}

/// Whether `check` fails.
fn caught(check: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(check)).is_err()
}

/// Writes and trims at every edge, and sees to it that no command leaves the extent.
fn no_request_leaves_its_extent() {
    let edges = [0, 31, 32, 33, u64::MAX, u64::MAX - 1, u64::MAX - 31, (1 << 63) - 1, 1 << 55];
    for sector in edges {
        for sectors in [1u32, 2, 33] {
            let mut stand = Stand::new(|_| {});
            let data = [stand.buffer(0, 0, sectors * 512, false)];
            stand.request(RequestType::Out, sector, &data);
            let range = [sector.to_le_bytes(), u64::from(sectors).to_le_bytes()].concat();
            stand.arena.write(stand.data_addr(1), &range).unwrap();
            let list = [stand.buffer(1, 0, 16, false)];
            stand.request(RequestType::Discard, 0, &list);
            stand.channel.serve(TURN, &mut stand.queue);
            for (command, _) in stand.queue.commands() {
                let end = command.lba.checked_add(u64::from(command.blocks));
                assert!(command.lba >= FIRST_LBA && end.is_some_and(|end| end <= BLOCKS), "{command:?}");
            }
            stand.step();
            stand.channel.publish();
            let inside = sector < 32 && u64::from(sectors) <= 32 - sector;
            let expected = if inside { STATUS_OK } else { STATUS_IOERR };
            assert!(stand.returned().iter().all(|&(_, status)| status == expected), "{sector} + {sectors}");
        }
    }
}

/// C2
#[test]
fn a_part_of_what_waits_is_shown_before_the_rest_is_taken() {
    let mut stand = Stand::new(|settings| settings.limits.volatile_cache = false);
    for _ in 0..10 {
        stand.request(RequestType::Flush, 0, &[]);
    }
    let mut part = |budget, part| {
        let turn = Turn { portion: Portion { part, ..Portion::whole(budget) }, ..TURN };
        let served = stand.channel.serve(turn, &mut stand.queue);
        stand.channel.show();
        let mut shown = 0;
        while stand.driver.poll(&stand.arena).unwrap().is_some() {
            shown += 1;
        }
        (served.requests, served.more, shown)
    };
    // Flushes of a disk without a cache end where they are taken.
    assert_eq!(part(64, 4), (4, true, 4));
    assert_eq!(part(60, 4), (4, true, 4));
    assert_eq!(part(56, 4), (2, false, 2));
    assert_eq!(stand.channel.counters().snapshot().throttled, 0, "no budget was used up");
}

#[test]
fn more_than_the_budget_is_not_taken_in_parts() {
    let mut stand = Stand::new(|settings| settings.limits.volatile_cache = false);
    for _ in 0..10 {
        stand.request(RequestType::Flush, 0, &[]);
    }
    let turn = Turn { portion: Portion { part: 4, ..Portion::whole(8) }, ..TURN };
    assert_eq!(stand.channel.serve(turn, &mut stand.queue).requests, 8);
    assert_eq!(stand.channel.counters().snapshot().throttled, 1);
}

#[test]
fn a_channel_stays_in_its_extents_and_an_unchecked_end_is_caught() {
    no_request_leaves_its_extent();
    assert!(caught(|| seeded::with(Bug::UncheckedEnd, no_request_leaves_its_extent)));
}

/// Bounces another's secret, then a read that fails, and looks at what the guest was shown.
fn a_failed_bounce_shows_nothing() {
    let mut stand = Stand::new(|_| {});
    let secret = [0x5e; 512];
    stand.disk.write(FIRST_LBA * 512, &secret);
    // Odd addresses: nothing that PRPs can name.
    let good = [stand.buffer(0, 1, 512, true)];
    stand.request(RequestType::In, 0, &good);
    stand.step();
    stand.step();
    assert_eq!((stand.returned().len(), stand.read_data(0, 1, 512)), (1, secret.to_vec()));
    assert_eq!(stand.channel.counters().bounced.get(), 1);
    stand.queue.plan.error_per_mille = 1000;
    let bad = [stand.buffer(1, 1, 512, true)];
    stand.request(RequestType::In, 1, &bad);
    stand.step();
    stand.step();
    assert_eq!(stand.returned()[0].1, STATUS_IOERR);
    assert_eq!(stand.read_data(1, 0, 1024), [0; 1024], "a read that failed left bytes of another");
}

/// C4
#[test]
fn a_bounce_buffer_carries_nothing_over_and_an_uncleared_one_is_caught() {
    a_failed_bounce_shows_nothing();
    assert!(caught(|| seeded::with(Bug::UnclearedBounce, a_failed_bounce_shows_nothing)));
}

/// Keeps reads of different sectors in flight while each completion comes twice, and checks what each brings.
fn repeated_completions_reach_nobody() {
    let mut stand = Stand::new(|_| {});
    for sector in 0..32 {
        stand.disk.write((FIRST_LBA + sector) * 512, &[sector as u8 + 1; 512]);
    }
    for round in 0..8 {
        let sector = round % 32;
        let data = [stand.buffer(round, 0, 512, true)];
        stand.request(RequestType::In, sector, &data);
        stand.channel.serve(TURN, &mut stand.queue);
        let mut ended = Vec::new();
        stand.queue.poll(64, &mut |completion| ended.push(completion));
        for &completion in &ended {
            assert!(stand.channel.complete(completion.tag.into(), Ending::Completed(completion.status), 0));
        }
        stand.channel.publish();
        assert_eq!(stand.returned().len(), 1);
        // The next request takes the slot; the repeated completion comes before its own.
        let next = [stand.buffer(round + 8, 0, 512, true)];
        stand.request(RequestType::In, sector + 8, &next);
        stand.channel.serve(TURN, &mut stand.queue);
        stand.repeat = ended;
        stand.queue.stuck = true;
        stand.step();
        assert_eq!(stand.returned(), [], "a request was returned before its command had ended");
        stand.queue.stuck = false;
        stand.step();
        assert_eq!(stand.returned().len(), 1);
        assert_eq!(stand.read_data(round + 8, 0, 512), [sector as u8 + 9; 512]);
    }
    assert_eq!(stand.channel.counters().strays.get(), 8);
}

/// I1
#[test]
fn a_completion_that_comes_twice_is_dropped_and_a_stamp_used_twice_is_caught() {
    repeated_completions_reach_nobody();
    assert!(caught(|| seeded::with(Bug::StampReused, repeated_completions_reach_nobody)));
}

/// Gives the channel to another sidecore as soon as it can be moved, and waits for what was in flight.
fn a_channel_that_goes_leaves_nothing_behind() {
    let mut stand = Stand::new(|_| {});
    stand.queue.stuck = true;
    let data = [stand.buffer(0, 0, 4096, true)];
    stand.request(RequestType::In, 0, &data);
    stand.step();
    stand.channel.hold();
    let waited = (0..20).find(|&steps| {
        stand.queue.stuck = steps < 5;
        stand.step();
        stand.channel.is_movable()
    });
    assert!(waited.is_some(), "it can never be moved");
    // The other sidecore has a queue of its own; what the old one still has reaches nobody any more.
    stand.queue = FaultyQueue::new(RamQueue::new(stand.disk.clone()), FaultPlan::default());
    let lane = stand.queue.attach(LocalLane { depth: 16 });
    stand.channel.rename(ChannelId { index: 3, incarnation: 2 });
    stand.channel.join(lane, 0);
    stand.channel.release();
    let data = [stand.buffer(1, 0, 512, true)];
    stand.request(RequestType::In, 1, &data);
    (0..5).for_each(|_| stand.step());
    assert_eq!(stand.returned().len(), 2, "a request was lost on the way");
}

/// I1, I2: a channel goes to another sidecore only when all its commands have ended. One that goes earlier is caught.
#[test]
fn a_channel_is_moved_drained_and_one_moved_undrained_is_caught() {
    a_channel_that_goes_leaves_nothing_behind();
    assert!(caught(|| seeded::with(Bug::MovedUndrained, a_channel_that_goes_leaves_nothing_behind)));
}

/// I2: a request of many pieces comes back once, after the last of them, with the worst that befell any.
#[test]
fn a_split_request_comes_back_once_with_its_worst_piece() {
    let mut stand = Stand::new(|settings| settings.limits.transfer_bytes_max = 512);
    let data = [stand.buffer(0, 0, 8 * 512, false)];
    stand.request(RequestType::Out, 0, &data);
    stand.channel.serve(TURN, &mut stand.queue);
    assert_eq!(stand.queue.commands().count(), 8);
    let mut ended = Vec::new();
    stand.queue.poll(64, &mut |completion| ended.push(completion));
    for (index, completion) in ended.into_iter().enumerate() {
        stand.channel.publish();
        assert_eq!(stand.returned(), []);
        let status = if index == 3 { Status::Media { code: 0x80 } } else { completion.status };
        assert!(stand.channel.complete(completion.tag.into(), Ending::Completed(status), 0));
    }
    stand.channel.publish();
    assert_eq!(stand.returned().iter().map(|done| done.1).collect::<Vec<_>>(), [STATUS_IOERR]);
    assert_eq!(stand.channel.counters().splits.get(), 7);
    assert!(stand.channel.is_drained());
}

#[test]
fn a_read_only_channel_refuses_to_be_changed() {
    let mut stand = Stand::new(|settings| settings.read_only = true);
    let data = [stand.buffer(0, 0, 512, false)];
    stand.request(RequestType::Out, 0, &data);
    let range = [0u64.to_le_bytes(), 1u64.to_le_bytes()].concat();
    stand.arena.write(stand.data_addr(1), &range).unwrap();
    let list = [stand.buffer(1, 0, 16, false)];
    stand.request(RequestType::WriteZeroes, 0, &list);
    stand.request(RequestType::Discard, 0, &list);
    let read = [stand.buffer(2, 0, 512, true)];
    stand.request(RequestType::In, 0, &read);
    stand.step();
    stand.step();
    let statuses: Vec<u8> = stand.returned().into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, [STATUS_IOERR, STATUS_IOERR, STATUS_IOERR, STATUS_OK]);
}

#[test]
fn a_channel_offers_what_its_device_can_do() {
    let disk = RamDisk::new(BLOCKS, 4096).unwrap();
    let mut settings = settings(&disk);
    let features = settings.features();
    let config = settings.config();
    assert!(
        features & (blk::F_DISCARD | blk::F_WRITE_ZEROES | blk::F_FLUSH)
            == blk::F_DISCARD | blk::F_WRITE_ZEROES | blk::F_FLUSH
    );
    assert_eq!((config.capacity.get(), config.blk_size.get(), config.seg_max.get()), (32 * 8, 4096, 14));
    assert_eq!((config.discard_sector_alignment.get(), config.num_queues.get()), (8, 1));
    assert!(config.max_write_zeroes_sectors.get().is_multiple_of(8));
    assert_eq!(settings.config_bytes().len(), 60);

    settings.limits.deallocate_blocks_max = 0;
    assert_eq!(settings.features() & blk::F_DISCARD, 0);
    assert_eq!(settings.config().max_discard_seg.get(), 0);
    settings.read_only = true;
    assert_eq!(settings.features() & (blk::F_RO | blk::F_WRITE_ZEROES), blk::F_RO);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let disk = RamDisk::new(BLOCKS, 512).unwrap();
    let refused = |change: fn(&mut ChannelSettings)| {
        let mut settings = settings(&disk);
        change(&mut settings);
        BlockChannel::new(settings, None).unwrap_err().to_string()
    };
    assert!(refused(|_| {}).contains("bounce buffers"));
    assert!(refused(|settings| settings.rings = 0).contains("number of queues"));
    assert!(refused(|settings| settings.requests = u16::MAX).contains("in flight"));
    assert!(refused(|settings| settings.limits.block_bytes = 100).contains("block size"));
    assert!(refused(|settings| settings.limits.transfer_bytes_max = 700).contains("transfer size"));
}
