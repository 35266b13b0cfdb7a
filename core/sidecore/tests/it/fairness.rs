//! Nobody waits for longer than the others' budgets.

use vfiomux_block::{Command, Operation, Status};
use vfiomux_sidecore::{Answer, Budgets, Order};
use vfiomux_spec::virtio::blk::{RequestType, STATUS_OK};

use crate::world::{DEVICE, Plan, World};

/// Requests that others got submitted between a guest's one request and its service, when all have a backlog.
fn served_before(plan: Plan, who: usize) -> u64 {
    // At either of the two phases that a load which comes back as a whole can have.
    (4..6).map(|warm_up| served_before_after(plan.clone(), who, warm_up)).max().unwrap_or(0)
}

fn served_before_after(plan: Plan, who: usize, warm_up: u32) -> u64 {
    let mut world = World::new(plan);
    let requests = |world: &World, who: usize| world.guests[who].counters.ring_wait.snapshot().count();
    let others = |world: &World| {
        (0..world.guests.len()).filter(|&i| i != who).map(|i| requests(world, i)).sum::<u64>()
    };
    let fill = |world: &mut World| {
        for (index, guest) in world.guests.iter_mut().enumerate() {
            guest.returned();
            while index != who && guest.drivers[0].in_flight() < 48 {
                guest.request(RequestType::In, 0, 0, 512);
            }
        }
    };
    for _ in 0..warm_up {
        fill(&mut world);
        world.breath();
    }
    world.guests[who].request(RequestType::In, 0, 0, 512);
    let before = others(&world);
    for _ in 0..50 {
        if requests(&world, who) > 0 {
            break;
        }
        fill(&mut world);
        world.breath();
    }
    assert_eq!(requests(&world, who), 1, "never served");
    others(&world) - before
}

/// V4
#[test]
fn a_backlogged_channel_is_served_within_the_sum_of_the_others_budgets() {
    let budgets = Budgets { requests: 8, ..Budgets::default() };
    for one_lane in [false, true] {
        for who in 0..5 {
            let plan = Plan { guests: 5, budgets, one_lane, lane_depth: 64, ..Plan::default() };
            let before = served_before(plan, who);
            assert!(
                before <= 4 * u64::from(budgets.requests),
                "guest {who} waited for {before} requests of others"
            );
        }
    }
}

/// V4, seeded bug: without budgets everybody's whole backlog comes first, and the check sees it.
#[test]
fn without_budgets_the_wait_is_longer() {
    let budgets = Budgets { requests: u32::MAX, ..Budgets::default() };
    let plan = Plan { guests: 5, budgets, requests: 512, lane_depth: 512, ..Plan::default() };
    let worst = (0..5).map(|who| served_before(plan.clone(), who)).max();
    assert!(worst > Some(4 * 8), "{worst:?}");
}

/// Also when the lane that they share is smaller than a budget: its room goes round.
#[test]
fn a_small_shared_lane_goes_round() {
    let budgets = Budgets { requests: 8, ..Budgets::default() };
    for who in 0..4 {
        let plan = Plan { guests: 4, budgets, one_lane: true, lane_depth: 3, ..Plan::default() };
        let before = served_before(plan, who);
        assert!(
            before <= 3 * u64::from(budgets.requests),
            "guest {who} waited for {before} requests of others"
        );
    }
}

/// Breathes with a guest whose reads fill its lane at every turn until `done` says so. Gives whether it did.
fn on_a_full_lane(world: &mut World, mut done: impl FnMut(&mut World) -> bool) -> bool {
    for _ in 0..100 {
        while world.guests[0].drivers[0].in_flight() < 40 {
            world.guests[0].request(RequestType::In, 0, 0, 512);
        }
        world.breathe(1);
        if done(world) {
            return true;
        }
    }
    false
}

/// V4: control's own commands have their turn too, on a lane that a guest keeps full.
#[test]
fn a_command_of_control_s_own_finds_room_on_a_full_lane() {
    let mut world = World::new(Plan { guests: 1, lane_depth: 2, one_lane: true, ..Plan::default() });
    world.control = 0..8;
    let lane = world.guests[0].lane;
    let mut ticket = None;
    let served = on_a_full_lane(&mut world, |world| {
        world.guests[0].returned();
        let buffer = Some(world.domain.allocate(4096).unwrap());
        let command = Command { operation: Operation::Read, namespace: 1, lba: 0, blocks: 1 };
        let order = Order::Service { device: DEVICE, lane, command, buffer, data_bytes: 512 };
        let ticket = *ticket.get_or_insert_with(|| world.send(order));
        matches!(world.answer(ticket, 0), Some(Answer::Served { status: Status::Success, .. }))
    });
    assert!(served, "control waits for as long as the guest has requests");
}

/// V4: so has a flush, which is not submitted in the turn of the channel that asked for it.
#[test]
fn a_flush_finds_room_on_a_full_lane() {
    let mut world = World::new(Plan { guests: 1, lane_depth: 1, one_lane: true, ..Plan::default() });
    let mut flush = None;
    let served = on_a_full_lane(&mut world, |world| {
        let guest = &mut world.guests[0];
        let flush = *flush.get_or_insert_with(|| guest.request(RequestType::Flush, 0, 1, 0));
        guest.returned().contains(&(flush, STATUS_OK))
    });
    assert!(served, "a flush waits for as long as the guest has other requests");
}
