//! Orders, mostly while requests are in flight.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::EventfdFlags;
use vfiomux_block::{BlockQueue, Command, FaultPlan, Operation, Status};
use vfiomux_channel::{ChannelId, Extent, ExtentMap, RingStart};
use vfiomux_guest::Call;
use vfiomux_guest::driver::Arena;
use vfiomux_guest::memory::{FileRegion, MapRegion, MemoryMap};
use vfiomux_guest::ring::{RingSetup, SplitRing};
use vfiomux_sidecore::{Answer, DeviceSlot, Order, Refusal, Report};
use vfiomux_spec::virtio::blk::{RequestType, STATUS_IOERR, STATUS_OK};

use crate::data;
use crate::world::{DEVICE, Plan, Queue, World, call, range_of};

const SLOW: FaultPlan =
    FaultPlan { seed: 5, delay_polls_max: 8, error_per_mille: 0, duplicate_per_mille: 200 };

fn slow(plan: Plan) -> World {
    World::new(Plan { faults: SLOW, ..plan })
}

fn refusal(answer: Answer<Queue>) -> Refusal {
    match answer {
        Answer::Refused { why, .. } => why,
        other => panic!("{other:?} is no refusal"),
    }
}

/// I2: stopping waits for what is in flight, and the next start goes on where it ended.
#[test]
fn rings_stop_and_start_under_load_without_losing_a_request() {
    let mut world = slow(Plan { rings: 2, limits: Plan::narrow, ..Plan::default() });
    let mut stops = 0;
    data::run(&mut world, 11, 600, |world, breath| {
        if breath % 23 == 7 && breath < 600 {
            let (guest, index) = ((breath % 2) as usize, (breath / 2 % 2) as u16);
            let channel = world.guests[guest].id;
            let Answer::RingStopped { ring } = world.ask(Order::StopRing { channel, index }) else {
                panic!()
            };
            assert_eq!(ring.index, index);
            world.start_ring(guest, index, ring.base);
            stops += 1;
        }
    });
    assert!(stops > 20);
}

/// C1, D2: commands in flight keep their memory until they end, and the old map comes back only then.
#[test]
fn memory_is_replaced_under_load() {
    let mut world = slow(Plan { limits: Plan::narrow, ..Plan::default() });
    let mut replaced = 0;
    data::run(&mut world, 12, 600, |world, breath| {
        if breath % 31 != 9 || breath >= 600 {
            return;
        }
        let guest = &world.guests[0];
        let (channel, old) = (guest.id, guest.lent.clone());
        // The same file mapped anew: no address of the old map is good in the new one.
        let file = guest.arena.file().unwrap().as_fd().try_clone_to_owned().unwrap();
        let region = Arc::new(FileRegion::map(file, 0, guest.arena.size_bytes()).unwrap());
        let lent = range_of(&*region);
        let (guest_addr, user_addr) = (guest.arena.guest_addr(), guest.arena.user_addr());
        let map =
            MemoryMap::new(vec![MapRegion { guest_addr, user_addr, file: region, grant: None }]).unwrap();
        let ticket = world.send(Order::SetMemory { channel, map: Arc::new(map) });
        let mut waited = 0;
        let answer = loop {
            match world.answer(ticket, 0) {
                Some(answer) => break answer,
                None => waited += 1,
            }
            assert!(waited < 200, "the old memory was never let go of");
            // Nothing new is taken meanwhile, so whatever is at the device still names the old mapping.
        };
        assert!(matches!(answer, Answer::MemoryReplaced { old: Some(_) }), "{answer:?}");
        world.queue(|queue| {
            for (_, data) in queue.commands() {
                assert!(data.iter().all(|segment| !old.contains(&(segment.host().as_ptr() as usize))));
            }
        });
        world.guests[0].lent = lent;
        replaced += 1;
    });
    assert!(replaced > 10);
}

#[test]
fn a_map_that_only_grows_is_taken_at_once() {
    let mut world = slow(Plan::default());
    world.queue(|queue| queue.stuck = true);
    world.guests[0].request(RequestType::In, 0, 0, 4096);
    world.breath();
    let more = Arena::new(1 << 20, 0x8000_0000).unwrap();
    let region = |arena: &Arena| MapRegion {
        guest_addr: arena.guest_addr(),
        user_addr: arena.user_addr(),
        file: arena.region().clone(),
        grant: None,
    };
    let map = MemoryMap::new(vec![region(&world.guests[0].arena), region(&more)]).unwrap();
    let order = Order::SetMemory { channel: world.guests[0].id, map: Arc::new(map) };
    let ticket = world.send(order);
    assert!(matches!(world.answer(ticket, 1), Some(Answer::MemoryReplaced { old: Some(_) })));
    world.queue(|queue| queue.stuck = false);
    world.breathe(20);
    assert_eq!(world.guests[0].returned().len(), 1);
}

#[test]
fn a_suspended_channel_takes_nothing_and_goes_on_when_resumed() {
    let mut world = slow(Plan::default());
    let channel = world.guests[0].id;
    world.guests[0].request(RequestType::Out, 0, 0, 512);
    world.breath();
    assert!(matches!(world.ask(Order::Suspend { channel }), Answer::Done));
    assert_eq!(world.guests[0].returned().len(), 1, "what was in flight has ended");
    world.guests[0].request(RequestType::In, 0, 1, 512);
    world.breathe(30);
    assert_eq!(world.guests[0].returned(), []);
    assert!(matches!(world.ask(Order::Resume { channel }), Answer::Done));
    world.breathe(30);
    assert_eq!(world.guests[0].returned().len(), 1);
}

/// I1, I2: what a barrier ended is done again on another lane, once for the guest.
#[test]
fn requests_survive_the_loss_of_their_lane() {
    let mut world = slow(Plan { limits: Plan::narrow, rings: 2, ..Plan::default() });
    let mut lost = 0;
    data::run(&mut world, 13, 600, |world, breath| {
        if breath % 37 != 5 || breath >= 600 {
            return;
        }
        let guest = (breath % 2) as usize;
        let (channel, lane) = (world.guests[guest].id, world.guests[guest].lane);
        assert!(matches!(world.ask(Order::Abandon { device: DEVICE, lane }), Answer::Done));
        assert!(matches!(world.ask(Order::DetachLane { device: DEVICE, lane }), Answer::LaneDetached { .. }));
        world.breathe(3);
        let lane = world.attach_lane();
        assert!(matches!(world.ask(Order::SetLane { channel, lane }), Answer::Done));
        world.guests[guest].lane = lane;
        lost += 1;
    });
    assert!(lost > 10);
    assert!(world.guests.iter().all(|guest| guest.counters.retries.get() > 0));
}

#[test]
fn flushes_survive_the_loss_of_their_lane() {
    let mut world = slow(Plan::default());
    world.queue(|queue| queue.stuck = true);
    world.guests[0].request(RequestType::Flush, 0, 0, 0);
    world.guests[1].request(RequestType::Flush, 0, 0, 0);
    world.breathe(2);
    for guest in 0..2 {
        let lane = world.guests[guest].lane;
        world.ask(Order::Abandon { device: DEVICE, lane });
    }
    world.queue(|queue| queue.stuck = false);
    world.breathe(10);
    assert_eq!(world.guests[0].returned(), []);
    for guest in 0..2 {
        let lane = world.attach_lane();
        let channel = world.guests[guest].id;
        world.ask(Order::SetLane { channel, lane });
    }
    world.breathe(30);
    assert_eq!((world.guests[0].returned()[0].1, world.guests[1].returned()[0].1), (STATUS_OK, STATUS_OK));
}

/// The way out of a stuck device: barrier, then removal, each answered; the guest sees an error, nobody waits for ever.
#[test]
fn a_channel_on_a_stuck_lane_is_removed_after_a_barrier() {
    let mut world = slow(Plan::default());
    world.queue(|queue| queue.stuck = true);
    let (channel, lane) = (world.guests[0].id, world.guests[0].lane);
    world.guests[0].request(RequestType::In, 0, 0, 4096);
    world.guests[0].request(RequestType::Flush, 0, 1, 0);
    world.breathe(2);
    let removal = world.send(Order::RemoveChannel { channel });
    assert!(world.answer(removal, 20).is_none(), "removed with commands at the device");
    let Answer::InFlight { ids } = world.ask(Order::ListInFlight { channel }) else { panic!() };
    assert_eq!(ids.len(), 2);
    world.ask(Order::Abandon { device: DEVICE, lane });
    let removed = world.answer(removal, 10);
    let Some(Answer::ChannelRemoved { memory, rings, .. }) = removed else { panic!("{removed:?}") };
    assert!(memory.is_some());
    assert_eq!((rings.len(), rings[0].base), (1, 2));
    let statuses: Vec<u8> = world.guests[0].returned().into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, [STATUS_IOERR, STATUS_IOERR]);
    assert!(matches!(world.ask(Order::DetachLane { device: DEVICE, lane }), Answer::LaneDetached { .. }));
}

/// The same when the barrier came first, and what it ended waits to be done again.
#[test]
fn a_ring_without_a_lane_stops() {
    let mut world = slow(Plan::default());
    world.queue(|queue| queue.stuck = true);
    let (channel, lane) = (world.guests[0].id, world.guests[0].lane);
    world.guests[0].request(RequestType::In, 0, 0, 4096);
    world.guests[0].request(RequestType::Flush, 0, 1, 0);
    world.breathe(2);
    world.ask(Order::Abandon { device: DEVICE, lane });
    world.guests[0].request(RequestType::In, 0, 2, 4096);
    world.breathe(5);
    assert_eq!(world.guests[0].returned(), []);
    let answer = world.ask(Order::StopRing { channel, index: 0 });
    let Answer::RingStopped { ring } = answer else { panic!("{answer:?}") };
    let statuses: Vec<u8> = world.guests[0].returned().into_iter().map(|(_, status)| status).collect();
    assert_eq!((ring.base, statuses), (2, vec![STATUS_IOERR; 2]), "the third was never taken");
}

/// I1: completions that come after a channel is gone reach neither nobody's memory nor its successor's requests.
#[test]
fn a_successor_on_the_same_index_hears_nothing_of_its_predecessor() {
    let faults = FaultPlan { seed: 1, delay_polls_max: 6, error_per_mille: 0, duplicate_per_mille: 900 };
    let mut world = World::new(Plan { faults, ..Plan::default() });
    for incarnation in 2..12 {
        let (channel, lane) = (world.guests[0].id, world.guests[0].lane);
        for at in 0..8 {
            world.guests[0].request(RequestType::Out, u64::from(at) * 8, at, 4096);
        }
        world.breathe(3);
        let answer = world.ask(Order::RemoveChannel { channel });
        assert!(matches!(answer, Answer::ChannelRemoved { .. }), "{answer:?}");
        world.add_guest(0, incarnation, lane);
        let loads = data::run(&mut world, u64::from(incarnation), 30, |_, _| {});
        assert!(loads.iter().all(|load| load.errors == 0));
    }
    assert!(world.sidecore.counters().strays.get() > 0);
}

#[test]
fn an_index_is_used_again_but_an_incarnation_never() {
    let mut world = World::new(Plan::default());
    let (channel, lane) = (world.guests[0].id, world.guests[0].lane);
    let Answer::ChannelRemoved { channel: removed, .. } = world.ask(Order::RemoveChannel { channel }) else {
        panic!()
    };
    let answer = world.ask(Order::AddChannel { channel: removed, device: DEVICE, lane });
    assert_eq!(refusal(answer), Refusal::Taken);
    world.add_guest(0, 2, lane);
}

#[test]
fn orders_that_name_what_is_not_there_come_back_whole() {
    let mut world = World::new(Plan::default());
    let stale = ChannelId { index: 0, incarnation: 0 };
    let far = ChannelId { index: 999, incarnation: 1 };
    let (channel, lane) = (world.guests[0].id, world.guests[0].lane);
    for gone in [stale, far] {
        assert_eq!(refusal(world.ask(Order::RemoveChannel { channel: gone })), Refusal::NoChannel);
        assert_eq!(refusal(world.ask(Order::StopRing { channel: gone, index: 0 })), Refusal::NoChannel);
        assert_eq!(refusal(world.ask(Order::Suspend { channel: gone })), Refusal::NoChannel);
        assert_eq!(
            refusal(world.ask(Order::SetCall { channel: gone, index: 0, call: None })),
            Refusal::NoChannel
        );
        let map = world.guests[0].map();
        let answer = world.ask(Order::SetMemory { channel: gone, map });
        assert!(
            matches!(&answer, Answer::Refused { order, .. } if matches!(**order, Order::SetMemory { .. }))
        );
    }
    assert_eq!(refusal(world.ask(Order::StopRing { channel, index: 7 })), Refusal::NoRing);
    assert_eq!(refusal(world.ask(Order::RemoveDevice { device: DeviceSlot(9) })), Refusal::NoDevice);
    assert_eq!(refusal(world.ask(Order::RemoveDevice { device: DEVICE })), Refusal::InUse);
    assert_eq!(refusal(world.ask(Order::DetachLane { device: DEVICE, lane })), Refusal::InUse);
}

#[test]
fn a_second_order_on_what_an_earlier_one_waits_for_is_refused() {
    let mut world = slow(Plan::default());
    world.queue(|queue| queue.stuck = true);
    let channel = world.guests[0].id;
    world.guests[0].request(RequestType::In, 0, 0, 512);
    world.breathe(2);
    let first = world.send(Order::StopRing { channel, index: 0 });
    assert_eq!(refusal(world.ask(Order::StopRing { channel, index: 0 })), Refusal::Busy);
    world.queue(|queue| queue.stuck = false);
    assert!(matches!(world.answer(first, 50), Some(Answer::RingStopped { .. })));
}

/// Each order has one answer, whatever it is and however many there are.
#[test]
fn every_order_is_answered_exactly_once() {
    let mut world = slow(Plan::default());
    let channel = world.guests[0].id;
    for at in 0..16 {
        world.guests[0].request(RequestType::In, 0, at, 512);
    }
    let mut tickets = Vec::new();
    for round in 0..12 {
        tickets.push(world.send(Order::Suspend { channel }));
        tickets.push(world.send(Order::ListInFlight { channel }));
        tickets.push(world.send(Order::Resume { channel }));
        tickets.push(world.send(Order::StopRing { channel, index: round % 2 }));
        tickets.push(world.send(Order::SetMemory { channel, map: world.guests[0].map() }));
        world.breath();
    }
    world.breathe(100);
    let mut answered: Vec<_> = world
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Answer { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, tickets);
}

#[test]
fn control_reads_and_writes_the_device_through_the_sidecore() {
    let mut world = slow(Plan::default());
    let lane = world.attach_lane();
    world.control = 0..8;
    let mut buffer = world.domain.allocate(4096).unwrap();
    buffer.write(0, &[0x5a; 1024]);
    let write = Command { operation: Operation::Write, namespace: 1, lba: 2, blocks: 2 };
    let order =
        Order::Service { device: DEVICE, lane, command: write, buffer: Some(buffer), data_bytes: 1024 };
    let Answer::Served { status: Status::Success, buffer: Some(mut buffer) } = world.ask(order) else {
        panic!()
    };
    buffer.write(0, &[0; 1024]);
    let read = Command { operation: Operation::Read, ..write };
    let order =
        Order::Service { device: DEVICE, lane, command: read, buffer: Some(buffer), data_bytes: 1024 };
    let Answer::Served { status: Status::Success, buffer: Some(buffer) } = world.ask(order) else { panic!() };
    let mut back = [0; 1024];
    buffer.read(0, &mut back);
    assert_eq!(back, [0x5a; 1024]);
    // More data than the buffer has is refused, and the buffer comes back.
    let order =
        Order::Service { device: DEVICE, lane, command: read, buffer: Some(buffer), data_bytes: 8192 };
    assert_eq!(refusal(world.ask(order)), Refusal::NotTaken);
}

/// V3, across a crash: a guest that sleeps for what a sidecore that is gone returned without calling for it is called by the
/// next, although that one has nothing to return.
#[test]
fn a_successor_calls_for_what_its_predecessor_returned() {
    let mut world = World::new(Plan { guests: 1, ..Plan::default() });
    let channel = world.guests[0].id;
    world.guests[0].request(RequestType::In, 0, 0, 512);
    world.breathe(5);
    world.ask(Order::StopRing { channel, index: 0 });
    let eventfd = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
    let guest = &world.guests[0];
    let setup = RingSetup { base: 1, ..guest.drivers[0].setup() };
    let ring = SplitRing::new(guest.arena.map(), &setup, None).unwrap();
    let call = Some(Call::new(eventfd.try_clone().unwrap()).unwrap());
    world.ask(Order::StartRing { channel, index: 0, start: Box::new(RingStart { ring, call, kick: None }) });
    world.breathe(1);
    assert!(rustix::io::read(&eventfd, &mut [0; 8]).is_ok(), "the guest sleeps for ever");
}

/// I2, across a crash: what a sidecore that is gone had taken is done again by the next, from the in-flight region.
#[test]
fn a_successor_finishes_what_its_predecessor_had_taken() {
    let inflight = vfiomux_guest::Inflight::create(1, 64).unwrap();
    let mut world = slow(Plan { guests: 1, ..Plan::default() });
    let channel = world.guests[0].id;
    // A ring with an in-flight region in place of the one without.
    world.ask(Order::StopRing { channel, index: 0 });
    let start = |world: &World| {
        let guest = &world.guests[0];
        let ring = SplitRing::new(guest.arena.map(), &guest.drivers[0].setup(), inflight.queue(0)).unwrap();
        Box::new(RingStart { ring, call: Some(call()), kick: None })
    };
    let first = start(&world);
    assert!(matches!(world.ask(Order::StartRing { channel, index: 0, start: first }), Answer::Done));
    world.queue(|queue| queue.stuck = true);
    let tokens: Vec<u16> =
        (0..6).map(|at| world.guests[0].request(RequestType::Out, u64::from(at), at, 512)).collect();
    world.breathe(3);
    assert_eq!(world.queue(|queue| queue.commands().count()), 6);
    // The sidecore dies with all six at the device; a new one takes over the guest's memory and region.
    let mut next = slow(Plan { guests: 1, ..Plan::default() });
    next.guests[0].arena = world.guests[0].arena.clone();
    next.guests[0].drivers = std::mem::take(&mut world.guests[0].drivers);
    next.guests[0].lent = world.guests[0].lent.clone();
    drop(world);
    next.ask(Order::StopRing { channel, index: 0 });
    let map = next.guests[0].map();
    next.ask(Order::SetMemory { channel, map });
    let second = start(&next);
    assert!(matches!(next.ask(Order::StartRing { channel, index: 0, start: second }), Answer::Done));
    let new = next.guests[0].request(RequestType::In, 0, 7, 512);
    next.breathe(40);
    let mut returned = next.guests[0].returned();
    returned.sort_unstable();
    let mut expected: Vec<(u16, u8)> =
        tokens.into_iter().chain([new]).map(|token| (token, STATUS_OK)).collect();
    expected.sort_unstable();
    assert_eq!(returned, expected);
}

#[test]
fn what_waits_when_a_sidecore_ends_is_refused() {
    let mut world = slow(Plan::default());
    world.queue(|queue| queue.stuck = true);
    let channel = world.guests[0].id;
    world.guests[0].request(RequestType::In, 0, 0, 512);
    world.breathe(2);
    let waiting = world.send(Order::StopRing { channel, index: 0 });
    world.breath();
    assert!(matches!(world.ask(Order::Shutdown), Answer::Done));
    assert!(world.answer(waiting, 1).is_some_and(|answer| refusal(answer) == Refusal::ShuttingDown));
    assert!(world.sidecore.is_shut_down());
}

/// C2, C3: blocks that are taken away are let go of only when no command names them.
#[test]
fn a_channel_grows_at_once_and_shrinks_when_drained() {
    let mut world = slow(Plan { guests: 1, ..Plan::default() });
    let channel = world.guests[0].id;
    let extents = |runs: &[Extent], world: &World| ExtentMap::new(runs, &world.limits).unwrap();
    let old: Vec<Extent> = world.settings(0, 1).extents.extents().collect();
    world.queue(|queue| queue.stuck = true);
    world.guests[0].request(RequestType::In, 0, 0, 512);
    world.breathe(2);
    let mut grown = old.clone();
    grown.push(Extent { lba: 0, blocks: 8 });
    let order = Order::Resize { channel, extents: extents(&grown, &world) };
    let ticket = world.send(order);
    assert!(matches!(world.answer(ticket, 1), Some(Answer::Resized { .. })));
    let order = Order::Resize { channel, extents: extents(&old[1..], &world) };
    let ticket = world.send(order);
    assert!(world.answer(ticket, 10).is_none());
    world.queue(|queue| queue.stuck = false);
    assert!(matches!(world.answer(ticket, 50), Some(Answer::Resized { .. })));
    // Beyond the new end.
    world.guests[0].returned();
    world.guests[0].request(RequestType::In, old[1].blocks, 0, 512);
    world.breathe(20);
    assert_eq!(world.guests[0].returned()[0].1, STATUS_IOERR);
}

#[test]
fn a_device_that_is_gone_is_reported_once() {
    let mut world = World::new(Plan::default());
    world.queue(|queue| queue.gone = true);
    for at in 0..3 {
        world.guests[0].request(RequestType::In, 0, at, 512);
        world.breathe(10);
    }
    let gone =
        world.reports.iter().filter(|report| matches!(report, Report::DeviceGone { device: DEVICE })).count();
    assert_eq!(gone, 1);
    assert!(world.guests[0].returned().iter().all(|&(_, status)| status == STATUS_IOERR));
    let lane = world.guests[0].lane;
    assert_eq!(world.queue(|queue| queue.in_flight(lane)), 0);
}
