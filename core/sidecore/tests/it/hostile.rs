//! Guests that break the rules, and their neighbours.

use vfiomux_channel::Fault;
use vfiomux_guest::RingFault;
use vfiomux_guest::driver::Buffer;
use vfiomux_sidecore::{Answer, Order, Refusal, Report};
use vfiomux_spec::virtio::blk::{
    RangeSegment, RequestHeader, RequestType, STATUS_IOERR, STATUS_OK, STATUS_UNSUPP,
};
use zerocopy::IntoBytes;

use crate::data;
use crate::world::{CHANNEL_BLOCKS, Plan, World};

fn faults(world: &World) -> Vec<Fault> {
    let fault = |report: &Report<_>| match report {
        Report::Quarantined { fault, .. } => Some(*fault),
        _ => None,
    };
    world.reports.iter().filter_map(fault).collect()
}

/// ISO2
#[test]
fn a_ring_that_breaks_the_rules_costs_its_own_channel_only() {
    let mut world = World::new(Plan { guests: 3, limits: Plan::narrow, ..Plan::default() });
    let outside = [Buffer { guest_addr: 0x10, len: 512, writable: true }];
    let loads = data::run_on(&mut world, &[0, 1], 21, 300, |world, breath| {
        let hostile = &mut world.guests[2];
        if breath == 10 {
            // One good request first, so that something is in flight when the bad one is found.
            hostile.request(RequestType::In, 0, 0, 8192);
            let _ = hostile.drivers[0].ring().add(&outside);
            let _ = hostile.drivers[0].publish();
        }
    });
    assert!(loads.iter().all(|load| load.done > 50 && load.errors == 0));
    world.breathe(1);
    assert_eq!(faults(&world), [Fault::Ring { index: 0, fault: RingFault::OutsideMemory }]);
}

#[test]
fn a_quarantined_channel_takes_no_orders_but_its_removal() {
    let mut world = World::new(Plan::default());
    let channel = world.guests[0].id;
    world.guests[0].request(RequestType::In, 0, 0, 512);
    let _ = world.guests[0].drivers[0].ring().add(&[Buffer { guest_addr: 0, len: 1, writable: true }]);
    let _ = world.guests[0].drivers[0].publish();
    world.breathe(5);
    assert_eq!(faults(&world).len(), 1);
    assert_eq!(world.guests[0].returned(), [], "the memory of a quarantined channel is touched no more");
    let map = world.guests[0].map();
    let answer = world.ask(Order::SetMemory { channel, map });
    assert!(matches!(answer, Answer::Refused { why: Refusal::Quarantined, .. }), "{answer:?}");
    let answer = world.ask(Order::RemoveChannel { channel });
    assert!(matches!(answer, Answer::ChannelRemoved { memory: Some(_), .. }), "{answer:?}");
    let lane = world.guests[0].lane;
    world.add_guest(0, 2, lane);
    world.guests[0].request(RequestType::In, 0, 0, 512);
    world.breathe(5);
    assert_eq!(world.guests[0].returned()[0].1, STATUS_OK);
}

/// T1: whatever a channel had under way when it was quarantined, it can be removed.
#[test]
fn a_channel_quarantined_with_flushes_and_pieces_under_way_can_be_removed() {
    let mut world = World::new(Plan { limits: Plan::narrow, lane_depth: 3, ..Plan::default() });
    world.queue(|queue| queue.stuck = true);
    let channel = world.guests[0].id;
    // A flush at the device, one that waits for the next, and a request of which only a part fits the lane.
    world.guests[0].request(RequestType::Flush, 0, 0, 0);
    world.breathe(1);
    world.guests[0].request(RequestType::Flush, 0, 1, 0);
    world.breathe(1);
    world.guests[0].request(RequestType::Out, 0, 2, 32 << 10);
    world.breathe(2);
    world.sidecore.with_channel(channel, |channel| channel.quarantine(Fault::MemoryLost));
    world.breathe(2);
    assert_eq!(faults(&world), [Fault::MemoryLost]);
    let removal = world.send(Order::RemoveChannel { channel });
    assert!(world.answer(removal, 5).is_none(), "removed with commands at the device");
    world.queue(|queue| queue.stuck = false);
    let removed = world.answer(removal, 20);
    assert!(matches!(removed, Some(Answer::ChannelRemoved { memory: Some(_), .. })), "{removed:?}");
    assert_eq!(world.guests[0].returned(), []);
}

/// The same when the bad ring is found while a flush waits.
#[test]
fn a_ring_fault_found_while_a_flush_waits_leaves_nothing_behind() {
    let mut world = World::new(Plan::default());
    world.queue(|queue| queue.stuck = true);
    let channel = world.guests[0].id;
    world.guests[0].request(RequestType::Flush, 0, 0, 0);
    world.breathe(1);
    world.guests[0].request(RequestType::Flush, 0, 1, 0);
    let _ = world.guests[0].drivers[0].ring().add(&[Buffer { guest_addr: 0, len: 1, writable: true }]);
    let _ = world.guests[0].drivers[0].publish();
    world.breathe(2);
    assert_eq!(faults(&world).len(), 1);
    world.queue(|queue| queue.stuck = false);
    let removed = world.ask(Order::RemoveChannel { channel });
    assert!(matches!(removed, Answer::ChannelRemoved { memory: Some(_), .. }), "{removed:?}");
}

/// Requests that make no sense, each with its answer; the channel goes on.
#[test]
fn a_request_that_makes_no_sense_is_answered_with_an_error() {
    let sectors = CHANNEL_BLOCKS * 8;
    let mut world = World::new(Plan { block_bytes: 4096, ..Plan::default() });
    let cases = [
        ("beyond the end", RequestType::In, sectors, 4096, STATUS_IOERR),
        ("across the end", RequestType::Out, sectors - 8, 8192, STATUS_IOERR),
        ("an end that wraps around", RequestType::Out, u64::MAX - 7, 8192, STATUS_IOERR),
        ("a sector inside a block", RequestType::In, 1, 4096, STATUS_IOERR),
        ("a part of a block", RequestType::In, 0, 512, STATUS_IOERR),
        ("no whole sectors", RequestType::Out, 0, 4097, STATUS_IOERR),
        ("a discard without ranges", RequestType::Discard, 0, 0, STATUS_IOERR),
        ("half a range", RequestType::WriteZeroes, 0, 24, STATUS_IOERR),
        ("too many ranges", RequestType::WriteZeroes, 0, 33 * 16, STATUS_IOERR),
        ("a secure erase", RequestType::SecureErase, 0, 16, STATUS_UNSUPP),
        ("its lifetime", RequestType::GetLifetime, 0, 0, STATUS_UNSUPP),
        ("no data at all", RequestType::In, 0, 0, STATUS_OK),
    ];
    for (what, kind, sector, bytes, status) in cases {
        world.guests[0].request(kind, sector, 0, bytes);
        world.breathe(3);
        assert_eq!(
            world.guests[0].returned().iter().map(|done| done.1).collect::<Vec<_>>(),
            [status],
            "{what}"
        );
    }
    let guest = &mut world.guests[0];
    let _ = guest.drivers[0].submit_raw(&guest.arena, 0x7777, 0, &[]);
    let _ = guest.drivers[0].publish();
    world.breathe(3);
    assert_eq!(world.guests[0].returned()[0].1, STATUS_UNSUPP);
    assert_eq!(faults(&world), []);
    world.check_guard();
}

/// C2
#[test]
fn ranges_outside_the_channel_or_with_unknown_flags_are_refused() {
    let mut world = World::new(Plan::default());
    let cases = [
        (RequestType::Discard, CHANNEL_BLOCKS, 1, 0, STATUS_IOERR),
        (RequestType::WriteZeroes, u64::MAX, 2, 0, STATUS_IOERR),
        (RequestType::WriteZeroes, 0, u32::MAX, 0, STATUS_IOERR),
        (RequestType::Discard, 0, 1, 1, STATUS_UNSUPP),
        (RequestType::WriteZeroes, 0, 1, 2, STATUS_UNSUPP),
        (RequestType::WriteZeroes, 0, 1, 1, STATUS_OK),
        (RequestType::WriteZeroes, 0, 0, 0, STATUS_OK),
    ];
    for (kind, sector, sectors, flags, status) in cases {
        let range = RangeSegment { sector: sector.into(), num_sectors: sectors.into(), flags: flags.into() };
        let guest = &mut world.guests[0];
        guest.arena.write(guest.data_addr(0, 0), range.as_bytes()).unwrap();
        guest.request(kind, 0, 0, 16);
        world.breathe(3);
        assert_eq!(world.guests[0].returned()[0].1, status, "{kind:?} {sector} {sectors} {flags}");
    }
    world.check_guard();
}

/// Virtio 1.3 2.7.4.1: no assumption about how a request is cut into descriptors.
#[test]
fn a_header_and_a_status_may_lie_anywhere() {
    let mut world = World::new(Plan::default());
    let guest = &mut world.guests[0];
    let base = guest.data_addr(0, 0);
    let header = RequestHeader { request_type: 1.into(), reserved: 0.into(), sector: 3.into() };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([0x77; 512]);
    guest.arena.write(base, &bytes).unwrap();
    // A byte, then the rest of the header with the first data byte, then the rest; the status behind three spare bytes.
    let buffers = [(0, 1, false), (1, 16, false), (17, 511, false), (1000, 4, true)];
    let buffers = buffers.map(|(at, len, writable)| Buffer { guest_addr: base + at, len, writable });
    guest.arena.write(base + 1000, &[0xff; 4]).unwrap();
    let _ = guest.drivers[0].ring().add(&buffers).unwrap();
    let _ = guest.drivers[0].publish();
    world.breathe(3);
    let guest = &mut world.guests[0];
    assert!(guest.drivers[0].ring().poll().unwrap().is_some());
    let mut status = [0; 4];
    guest.arena.read(base + 1000, &mut status).unwrap();
    assert_eq!(status, [0xff, 0xff, 0xff, STATUS_OK], "the status is the last writable byte");
    let mut data = [0; 512];
    let extent = world.settings(0, 1).extents.place(3).unwrap();
    world.disk.read(extent.lba * 512, &mut data);
    assert_eq!(data, [0x77; 512]);
}

/// I2: even these come back, once.
#[test]
fn a_chain_without_room_for_a_status_or_header_comes_back() {
    let mut world = World::new(Plan::default());
    let guest = &mut world.guests[0];
    let base = guest.data_addr(0, 0);
    let readable = Buffer { guest_addr: base, len: 16, writable: false };
    let writable = Buffer { guest_addr: base + 64, len: 1, writable: true };
    let no_status = guest.drivers[0].ring().add(&[readable]).unwrap();
    let no_header = guest.drivers[0].ring().add(&[writable]).unwrap();
    let short = guest.drivers[0].ring().add(&[Buffer { len: 15, ..readable }, writable]).unwrap();
    let _ = guest.drivers[0].publish();
    world.breathe(3);
    let mut heads = Vec::new();
    while let Some(used) = world.guests[0].drivers[0].ring().poll().unwrap() {
        heads.push((used.head, used.len));
    }
    assert_eq!(heads, [(no_status, 0), (no_header, 1), (short, 1)]);
    assert_eq!(faults(&world), []);
}

#[test]
fn a_guest_is_told_its_channels_serial() {
    let mut world = World::new(Plan::default());
    world.guests[1].request(RequestType::GetId, 0, 0, 20);
    world.breathe(2);
    assert_eq!(world.guests[1].returned()[0].1, STATUS_OK);
    let guest = &world.guests[1];
    let mut serial = [0; 20];
    guest.arena.read(guest.data_addr(0, 0), &mut serial).unwrap();
    assert_eq!(&serial[..7], b"guest1\0");
}
