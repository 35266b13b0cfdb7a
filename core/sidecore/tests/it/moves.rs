//! Channels that go from one sidecore to another, both stepped by hand.

use vfiomux_block::{FaultPlan, FaultyQueue, LaneId, RamQueue};
use vfiomux_channel::ChannelId;
use vfiomux_sidecore::{Answer, Handle, Order, Refusal, Sidecore};
use vfiomux_spec::virtio::blk::RequestType;

use crate::data;
use crate::world::{DEVICE, Plan, Queue, World};

const SLOW: FaultPlan =
    FaultPlan { seed: 8, delay_polls_max: 8, error_per_mille: 0, duplicate_per_mille: 200 };

fn slow() -> World {
    World::new(Plan { faults: SLOW, limits: Plan::narrow, rings: 2, ..Plan::default() })
}

/// A second sidecore on the same disk, and its end of the mailbox.
fn second(world: &World) -> (Sidecore<Queue>, Handle<Queue>) {
    let (sidecore, handle) = Sidecore::new(world.plan.budgets, 64).unwrap();
    let queue = Box::new(FaultyQueue::new(RamQueue::new(world.disk.clone()), world.plan.faults));
    handle.send(Order::AddDevice { device: DEVICE, queue }).unwrap();
    (sidecore, handle)
}

/// Has every guest served by the other sidecore, which is the world's from then on.
fn swap(world: &mut World, other: &mut (Sidecore<Queue>, Handle<Queue>), incarnation: u32) {
    let mut taken = Vec::new();
    for guest in 0..world.guests.len() {
        let channel = world.guests[guest].id;
        match world.ask(Order::TakeChannel { channel }) {
            Answer::ChannelTaken { channel } => taken.push(channel),
            answer => panic!("{answer:?}"),
        }
    }
    std::mem::swap(&mut world.sidecore, &mut other.0);
    std::mem::swap(&mut world.handle, &mut other.1);
    for mut channel in taken {
        let index = channel.id().index;
        let id = ChannelId { index, incarnation };
        channel.rename(id);
        channel.release();
        let lane = world.attach_lane();
        assert!(matches!(world.ask(Order::AddChannel { channel, device: DEVICE, lane }), Answer::Done));
        let guest = &mut world.guests[usize::from(index)];
        (guest.id, guest.lane) = (id, lane);
    }
}

/// I1, I2: what is in flight ends before a channel goes, and what comes after is served where it went.
#[test]
fn channels_go_to_and_fro_under_load_without_losing_a_request() {
    let mut world = slow();
    let mut other = second(&world);
    let mut swaps = 0;
    data::run(&mut world, 21, 900, |world, breath| {
        if breath % 29 == 7 && breath < 900 {
            swaps += 1;
            swap(world, &mut other, 1 + swaps);
        }
    });
    assert!(swaps > 20);
    // A device that repeats itself did so to the sidecore that had asked: nothing came to the wrong one's channels.
    world.check_guard();
}

#[test]
fn a_channel_is_not_given_up_with_commands_at_its_device_and_can_be_kept() {
    let mut world = slow();
    let channel = world.guests[0].id;
    world.queue(|queue| queue.stuck = true);
    world.guests[0].request(RequestType::In, 0, 0, 4096);
    world.breath();
    let take = world.send(Order::TakeChannel { channel });
    assert!(world.answer(take, 50).is_none(), "taken with a command at the device");
    // Held: what comes now stays on the ring.
    world.guests[0].request(RequestType::In, 0, 1, 4096);
    world.breathe(5);
    assert_eq!(world.guests[0].counters.reads.get(), 0);
    assert!(matches!(world.ask(Order::KeepChannel { channel }), Answer::Done));
    let answer = world.answer(take, 0);
    assert!(matches!(answer, Some(Answer::Refused { why: Refusal::Recalled, .. })), "{answer:?}");
    world.queue(|queue| queue.stuck = false);
    world.breathe(40);
    assert_eq!(world.guests[0].returned().len(), 2, "it goes on where it is");
}

/// An order that came before is about the channel here, and is answered here.
#[test]
fn earlier_orders_are_carried_out_before_a_channel_is_given_up() {
    let mut world = slow();
    let channel = world.guests[0].id;
    world.guests[0].request(RequestType::In, 0, 0, 4096);
    world.breath();
    let stop = world.send(Order::StopRing { channel, index: 0 });
    let suspend = world.send(Order::Suspend { channel });
    let take = world.send(Order::TakeChannel { channel });
    let answer = world.answer(take, 100);
    assert!(matches!(answer, Some(Answer::ChannelTaken { .. })), "{answer:?}");
    assert!(matches!(world.answer(stop, 0), Some(Answer::RingStopped { .. })));
    assert!(matches!(world.answer(suspend, 0), Some(Answer::Done)));
}

#[test]
fn orders_about_a_channel_that_went_away_come_back_whole() {
    let mut world = slow();
    let channel = world.guests[0].id;
    let Answer::ChannelTaken { channel: taken } = world.ask(Order::TakeChannel { channel }) else { panic!() };
    for order in [Order::TakeChannel { channel }, Order::KeepChannel { channel }, Order::Resume { channel }] {
        let answer = world.ask(order);
        assert!(matches!(answer, Answer::Refused { why: Refusal::NoChannel, .. }), "{answer:?}");
    }
    // Where the lane is not known it comes back as well, with all that it carries.
    let refused = world.ask(Order::AddChannel { channel: taken, device: DEVICE, lane: LaneId(99) });
    let Answer::Refused { why: Refusal::NoLane, order } = refused else { panic!("{refused:?}") };
    let Order::AddChannel { mut channel, .. } = *order else { panic!() };
    channel.rename(ChannelId { incarnation: 2, ..channel.id() });
    channel.release();
    let id = channel.id();
    let lane = world.guests[0].lane;
    assert!(matches!(world.ask(Order::AddChannel { channel, device: DEVICE, lane }), Answer::Done));
    world.guests[0].id = id;
    world.guests[0].request(RequestType::In, 0, 0, 512);
    world.breathe(40);
    assert_eq!(world.guests[0].returned().len(), 1);
}
