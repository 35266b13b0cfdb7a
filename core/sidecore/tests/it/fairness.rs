//! Nobody waits for longer than the others' budgets.

use vfiomux_sidecore::Budgets;
use vfiomux_spec::virtio::blk::RequestType;

use crate::world::{Plan, World};

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
