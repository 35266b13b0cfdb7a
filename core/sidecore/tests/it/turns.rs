//! Who gets a turn in a breath: whoever has something to do, and nobody is forgotten.

use std::sync::Arc;

use vfiomux_block::{LaneId, LocalLane, RamDisk, RamQueue};
use vfiomux_channel::driver::BlkDriver;
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart};
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_sidecore::{Answer, Budgets, DeviceSlot, Order, Sidecore};
use vfiomux_spec::virtio::blk::{RequestType, STATUS_OK};

use crate::world::{FEATURES, Plan, World};

/// V4: the backlog is taken at several turns, and what came after the look that found it by none of them.
#[test]
fn what_comes_behind_a_backlog_is_found() {
    let budgets = Budgets { requests: 4, ..Budgets::default() };
    for behind in 1..12 {
        let mut world = World::new(Plan { guests: 2, budgets, ..Plan::default() });
        let add = |world: &mut World, count: u16| {
            for _ in 0..count {
                world.guests[0].request(RequestType::In, 0, 0, 512);
            }
        };
        add(&mut world, 6);
        world.breath();
        add(&mut world, behind);
        world.breathe(10);
        assert_eq!(world.guests[0].returned().len(), usize::from(6 + behind));
    }
}

/// V3: a ring that nothing is known of is looked at in every breath, however many others there are and however long it was quiet.
#[test]
fn a_channel_that_was_quiet_is_served_in_the_breath_after_its_request() {
    let mut world = World::new(Plan { guests: 8, ..Plan::default() });
    for round in 0..100 {
        world.breathe(round % 5);
        let who = round as usize * 3 % 8;
        world.guests[who].request(RequestType::In, 0, 0, 512);
        assert_eq!(world.breath().requests, 1, "round {round}");
    }
}

/// V1, V4: whoever stays has its turn in the very breath in which the others go, wherever the round had come to. A ring's move is
/// told once, so a turn that is missed is missed until the guest comes again.
#[test]
fn a_channel_has_its_turn_in_the_breath_in_which_others_go() {
    const GUESTS: usize = 4;
    for (stays, breaths) in (0..GUESTS).flat_map(|stays| (0..4).map(move |breaths| (stays, breaths))) {
        let mut world = World::new(Plan { guests: GUESTS as u16, ..Plan::default() });
        world.breathe(breaths);
        world.guests[stays].request(RequestType::In, 0, 0, 512);
        for other in (0..GUESTS).filter(|&guest| guest != stays) {
            let channel = world.guests[other].id;
            world.send(Order::RemoveChannel { channel });
        }
        assert_eq!(world.breath().requests, 1, "guest {stays}, {breaths} breaths into the round");
    }
}

/// T1, D3: the sidecore's own look at a ring goes with the ring.
#[test]
fn nothing_is_kept_of_a_ring_that_was_stopped() {
    let mut world = World::new(Plan { guests: 2, ..Plan::default() });
    let holders = |world: &World| Arc::strong_count(world.guests[0].arena.region());
    let with_ring = holders(&world);
    let channel = world.guests[0].id;
    let Answer::RingStopped { ring } = world.ask(Order::StopRing { channel, index: 0 }) else {
        panic!("a ring that is not stopped")
    };
    drop(ring);
    let without_ring = holders(&world);
    // Three parts of the ring, and the look at one of them.
    assert_eq!(without_ring + 4, with_ring);
    assert!(matches!(world.ask(Order::RemoveChannel { channel }), Answer::ChannelRemoved { .. }));
    // Its arena's own, the map in the arena, and the three parts of the ring that the driver works.
    assert_eq!(holders(&world), 5);
}

/// T1: a quarantined channel's memory is looked at no more, not even from outside.
#[test]
fn nothing_is_looked_at_of_a_quarantined_channel() {
    let mut world = World::new(Plan { guests: 1, ..Plan::default() });
    let before = Arc::strong_count(world.guests[0].arena.region());
    world.guests[0].drivers[0].ring().disarm();
    let id = world.guests[0].id;
    world.sidecore.with_channel(id, |channel| channel.quarantine(vfiomux_channel::Fault::MemoryLost));
    world.breathe(2);
    assert_eq!(Arc::strong_count(world.guests[0].arena.region()), before - 1);
}

#[test]
fn what_ends_where_it_is_submitted_is_returned_in_the_same_breath() {
    const BLOCKS: u64 = 64;
    let disk = RamDisk::new(BLOCKS, 512).unwrap();
    let (mut sidecore, handle) = Sidecore::new(Budgets::default(), 16).unwrap();
    let device = DeviceSlot(0);
    let ask = |sidecore: &mut Sidecore<RamQueue>, order| {
        handle.send(order).unwrap();
        sidecore.breath(0);
        handle.try_recv().unwrap();
    };
    ask(&mut sidecore, Order::AddDevice { device, queue: Box::new(RamQueue::new(disk.clone())) });
    ask(&mut sidecore, Order::AttachLane { device, lane: LocalLane { depth: 16 } });
    let (id, limits) = (ChannelId { index: 3, incarnation: 1 }, disk.limits());
    let settings = ChannelSettings {
        id,
        namespace: 1,
        limits,
        extents: ExtentMap::new(&[Extent { lba: 0, blocks: BLOCKS }], &limits).unwrap(),
        serial: [0; 20],
        read_only: false,
        rings: 1,
        requests: 32,
        segments_max: 62,
        bounce_blocks: 1,
    };
    let channel = Box::new(BlockChannel::new(settings, None).unwrap());
    ask(&mut sidecore, Order::AddChannel { channel, device, lane: LaneId(0) });
    let arena = Arena::new(8 << 20, 1 << 32).unwrap();
    let mut driver = BlkDriver::new(&arena, 1 << 32, 64, FEATURES).unwrap();
    let (guest_addr, user_addr) = (arena.guest_addr(), arena.user_addr());
    let region = MapRegion { guest_addr, user_addr, file: arena.region().clone(), grant: None };
    let map = Arc::new(MemoryMap::new(vec![region]).unwrap());
    let ring = SplitRing::new(&map, &driver.setup(), None).unwrap();
    ask(&mut sidecore, Order::SetMemory { channel: id, map });
    ask(
        &mut sidecore,
        Order::StartRing {
            channel: id,
            index: 0,
            start: Box::new(RingStart { ring, call: None, kick: None }),
        },
    );

    let buffer = Buffer { guest_addr: guest_addr + (1 << 20), len: 4096, writable: false };
    for sector in 0..8 {
        driver.submit(&arena, RequestType::Out, sector, &[buffer]).unwrap();
    }
    let _ = driver.publish();
    let work = sidecore.breath(1000);
    assert_eq!((work.requests, work.completions), (8, 8));
    for _ in 0..8 {
        assert_eq!(driver.poll(&arena).unwrap().map(|done| done.status), Some(STATUS_OK));
    }
    assert!(sidecore.breath(2000).is_idle());

    // Now that this is known of the device, a turn is taken in parts, all of them in one breath.
    for sector in 0..14 {
        driver.submit(&arena, RequestType::Out, sector, &[buffer]).unwrap();
    }
    let _ = driver.publish();
    let work = sidecore.breath(3000);
    assert_eq!((work.requests, work.completions, work.more), (14, 14, false));
    for _ in 0..14 {
        assert_eq!(driver.poll(&arena).unwrap().map(|done| done.status), Some(STATUS_OK));
    }
    assert!(sidecore.breath(4000).is_idle());
}
