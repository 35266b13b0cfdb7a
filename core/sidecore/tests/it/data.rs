//! Data against an oracle, under delays, reordering, errors and duplicates.

use vfiomux_block::FaultPlan;
use vfiomux_channel::driver::Done;
use vfiomux_guest::driver::Buffer;
use vfiomux_spec::virtio::blk::{RANGE_F_UNMAP, RangeSegment, RequestType, STATUS_IOERR, STATUS_OK};
use zerocopy::IntoBytes;

use crate::world::{CHANNEL_BLOCKS, Guest, Plan, Random, World};

/// What a sector of a channel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// What version so many wrote there; 0 is zeroes.
    Version(u64),
    /// A write failed, or the sector was discarded.
    Unknown,
}

/// A request under way.
#[derive(Debug, Clone)]
struct Op {
    kind: RequestType,
    sector: u64,
    sectors: u64,
    version: u64,
    buffers: Vec<Buffer>,
}

/// One guest's load, and its oracle.
pub(crate) struct Load {
    guest: usize,
    model: Vec<Content>,
    ops: Vec<Vec<Option<Op>>>,
    version: u64,
    unit_sectors: u64,
    pub(crate) done: u64,
    pub(crate) errors: u64,
}

impl Load {
    pub(crate) fn new(world: &World, guest: usize) -> Self {
        let unit_sectors = u64::from(world.plan.block_bytes) / 512;
        let ring = vec![None; usize::from(world.plan.ring_size)];
        Self {
            guest,
            model: vec![Content::Version(0); (CHANNEL_BLOCKS * unit_sectors) as usize],
            ops: vec![ring; usize::from(world.plan.rings)],
            version: 0,
            unit_sectors,
            done: 0,
            errors: 0,
        }
    }

    fn pattern(&self, sector: u64, version: u64) -> Vec<u8> {
        if version == 0 {
            return vec![0; 512];
        }
        let mut random = Random((self.guest as u64) << 56 ^ sector << 32 ^ version);
        (0..64).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect()
    }

    fn is_free(&self, sector: u64, sectors: u64) -> bool {
        let mut ops = self.ops.iter().flatten().flatten();
        ops.all(|op| op.sector + op.sectors <= sector || sector + sectors <= op.sector)
    }

    /// Submits a random request, if it does not touch sectors of one under way.
    pub(crate) fn submit(&mut self, guest: &mut Guest, random: &mut Random) {
        let units = random.below(24) + 1;
        let sector = random.below(CHANNEL_BLOCKS - units + 1) * self.unit_sectors;
        let sectors = units * self.unit_sectors;
        if !self.is_free(sector, sectors) {
            return;
        }
        let ring = random.below(self.ops.len() as u64) as usize;
        let kind = match random.below(10) {
            0..4 => RequestType::In,
            4..8 => RequestType::Out,
            8 => RequestType::WriteZeroes,
            _ => RequestType::Discard,
        };
        let Some(token) = guest.drivers[ring].next_token() else { return };
        let base = guest.data_addr(ring, token);
        self.version += 1;
        let buffers = match kind {
            RequestType::In | RequestType::Out => {
                scattered(base, sectors * 512, kind == RequestType::In, random)
            }
            _ => {
                let flags =
                    if kind == RequestType::WriteZeroes { random.below(2) as u32 * RANGE_F_UNMAP } else { 0 };
                // In two ranges where it can be.
                let first = (sectors / 2).next_multiple_of(self.unit_sectors).min(sectors);
                let range = |sector: u64, sectors: u64| RangeSegment {
                    sector: sector.into(),
                    num_sectors: (sectors as u32).into(),
                    flags: flags.into(),
                };
                let list = [range(sector, first), range(sector + first, sectors - first)];
                guest.arena.write(base, list.as_bytes()).unwrap();
                vec![Buffer { guest_addr: base, len: 32, writable: false }]
            }
        };
        if kind == RequestType::Out {
            let bytes: Vec<u8> =
                (sector..sector + sectors).flat_map(|at| self.pattern(at, self.version)).collect();
            let mut at = 0;
            for buffer in &buffers {
                let end = at + buffer.len as usize;
                guest.arena.write(buffer.guest_addr, &bytes[at..end]).unwrap();
                at = end;
            }
        }
        let op = Op { kind, sector, sectors, version: self.version, buffers };
        if guest.drivers[ring].submit(&guest.arena, kind, sector_of(&op), &op.buffers).is_none() {
            return;
        }
        self.ops[ring][usize::from(token)] = Some(op);
        let _ = guest.drivers[ring].publish();
    }

    /// Takes what was returned, and checks it.
    pub(crate) fn collect(&mut self, guest: &mut Guest) {
        for ring in 0..self.ops.len() {
            while let Some(done) = guest.drivers[ring].poll(&guest.arena).unwrap() {
                let op = self.ops[ring][usize::from(done.token)].take().expect("returned twice");
                self.check(guest, &op, done);
            }
        }
    }

    fn check(&mut self, guest: &Guest, op: &Op, done: Done) {
        self.done += 1;
        let range = op.sector as usize..(op.sector + op.sectors) as usize;
        if done.status != STATUS_OK {
            assert_eq!(done.status, STATUS_IOERR);
            self.errors += 1;
            if op.kind != RequestType::In {
                self.model[range].fill(Content::Unknown);
            }
            return;
        }
        match op.kind {
            RequestType::In => {
                assert_eq!(u64::from(done.len), op.sectors * 512 + 1);
                let mut bytes = Vec::new();
                for buffer in &op.buffers {
                    let mut part = vec![0; buffer.len as usize];
                    guest.arena.read(buffer.guest_addr, &mut part).unwrap();
                    bytes.extend(part);
                }
                for (sector, read) in (op.sector..).zip(bytes.chunks(512)) {
                    if let Content::Version(version) = self.model[sector as usize] {
                        assert!(
                            read == self.pattern(sector, version),
                            "guest {} sector {sector} v{version}",
                            self.guest
                        );
                    }
                }
            }
            RequestType::Out => self.model[range].fill(Content::Version(op.version)),
            RequestType::WriteZeroes => self.model[range].fill(Content::Version(0)),
            _ => self.model[range].fill(Content::Unknown),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.ops.iter().flatten().all(Option::is_none)
    }
}

fn sector_of(op: &Op) -> u64 {
    if matches!(op.kind, RequestType::In | RequestType::Out) { op.sector } else { 0 }
}

/// Cuts `bytes` bytes into a few buffers at odd places and with odd gaps, inside 128 KiB.
fn scattered(base: u64, bytes: u64, writable: bool, random: &mut Random) -> Vec<Buffer> {
    let mut buffers = Vec::new();
    let (mut at, mut left) = (base + random.below(3) * 508, bytes);
    let odd = random.below(2) == 0;
    while left > 0 {
        let most = if buffers.len() >= 5 { left } else { random.below(left) + 1 };
        let take = if odd { most } else { most.next_multiple_of(512).min(left) };
        buffers.push(Buffer { guest_addr: at, len: take as u32, writable });
        at += take + if odd { random.below(7) } else { 0 };
        left -= take;
    }
    buffers
}

/// Runs a load on every guest, so many breaths, then waits until all has been returned.
pub(crate) fn run(
    world: &mut World,
    seed: u64,
    breaths: u64,
    meanwhile: impl FnMut(&mut World, u64),
) -> Vec<Load> {
    let everybody: Vec<usize> = (0..world.guests.len()).collect();
    run_on(world, &everybody, seed, breaths, meanwhile)
}

/// The same on some of the guests.
pub(crate) fn run_on(
    world: &mut World,
    guests: &[usize],
    seed: u64,
    breaths: u64,
    mut meanwhile: impl FnMut(&mut World, u64),
) -> Vec<Load> {
    let mut random = Random(seed);
    let mut loads: Vec<Load> = guests.iter().map(|&guest| Load::new(world, guest)).collect();
    for &guest in guests {
        world.zero(guest as u16);
    }
    let mut breath = 0;
    loop {
        for load in &mut loads {
            let guest = &mut world.guests[load.guest];
            load.collect(guest);
            if breath < breaths {
                for _ in 0..random.below(4) {
                    load.submit(guest, &mut random);
                }
            }
        }
        if breath >= breaths && loads.iter().all(Load::is_idle) {
            break;
        }
        assert!(breath < breaths + 5000, "requests were lost");
        world.breath();
        meanwhile(world, breath);
        breath += 1;
    }
    world.check_guard();
    loads
}

fn plans() -> Vec<Plan> {
    let faults = FaultPlan { seed: 3, delay_polls_max: 6, error_per_mille: 0, duplicate_per_mille: 0 };
    vec![
        Plan::default(),
        Plan { rings: 3, faults, ..Plan::default() },
        Plan { faults, limits: Plan::narrow, rings: 2, ..Plan::default() },
        Plan { faults, limits: Plan::narrow, block_bytes: 4096, ring_size: 16, ..Plan::default() },
        Plan { faults, limits: Plan::narrow, lane_depth: 2, requests: 3, ..Plan::default() },
        Plan { faults, limits: Plan::narrow, lane_depth: 3, one_lane: true, guests: 3, ..Plan::default() },
    ]
}

#[test]
fn every_guest_reads_what_it_wrote() {
    for (number, plan) in plans().into_iter().enumerate() {
        for seed in 0..4 {
            let mut world = World::new(plan.clone());
            let loads = run(&mut world, seed, 400, |_, _| {});
            for load in loads {
                assert!(
                    load.done > 50 && load.errors == 0,
                    "plan {number}: {} done, {} errors",
                    load.done,
                    load.errors
                );
            }
            if plan.is_narrow() {
                let counters = &world.guests[0].counters;
                assert!(counters.splits.get() > 0 && counters.bounced.get() > 0, "plan {number} cut nothing");
            }
        }
    }
}

/// I1, I2: each request is returned once, whatever completions come late, out of order, failed or twice.
#[test]
fn a_device_that_errs_and_repeats_itself_loses_and_doubles_nothing() {
    for plan in plans() {
        let faults = FaultPlan { seed: 9, delay_polls_max: 5, error_per_mille: 50, duplicate_per_mille: 300 };
        let mut world = World::new(Plan { faults, ..plan });
        let loads = run(&mut world, 77, 400, |_, _| {});
        assert!(loads.iter().map(|load| load.errors).sum::<u64>() > 0);
        let strays: u64 = world.guests.iter().map(|guest| guest.counters.strays.get()).sum();
        assert!(strays > 0, "the duplicates were not noticed");
    }
}
