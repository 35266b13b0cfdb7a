use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::world::{Client, Habit, MS, Ours, Trace, World};
use crate::seeded::{Bug, with};
use crate::{Guarantees, Io, Limits, Rate};

/// Cost of a read of 4 KiB.
pub(super) const READ: u64 = 1024;
/// What may be on the way at any moment: the turns of all, and what the device has.
const SLACK: u64 = 24 * READ;

pub(super) fn reader(reservation: u64, share: u32, habit: Habit) -> Client {
    let guarantees = Guarantees { reservation, share, ..Guarantees::default() };
    Client { guarantees, io: Io::read(4096), habit }
}

/// Q2 and Q3: a client that always has requests gets at least what its reservation, as it was at each moment, comes to: in any
/// stretch of time between two marks, less [`SLACK`].
pub(super) fn keeps_reservation(
    trace: &Trace,
    client: usize,
    reserved_until: impl Fn(u64) -> u128,
) -> Result<(), String> {
    let marks: Vec<u64> = (0..=trace.until_ns / (10 * MS)).map(|step| step * 10 * MS).collect();
    // What was given minus what was due: it may rise, and falls from its highest point by the slack at most.
    let mut highest = i128::MIN;
    let (mut given, mut sent) = (0i128, trace.sent.iter().filter(|sent| sent.client == client).peekable());
    for mark_ns in marks {
        while let Some(one) = sent.next_if(|sent| sent.at_ns < mark_ns) {
            given += i128::from(one.cost);
        }
        let due = i128::try_from(reserved_until(mark_ns) / 1_000_000_000).unwrap();
        let ahead = given - due;
        if highest - ahead > i128::from(SLACK) {
            let short = highest - ahead;
            return Err(std::format!("{short} units short of the reservation at {mark_ns} ns"));
        }
        // Service beyond the reservation is nobody's debt: only a fall below what is due since any earlier mark counts.
        highest = highest.max(ahead);
    }
    Ok(())
}

/// A client with a fifth of the device reserved, always asking, beside one that sleeps for seconds and has more reserved.
fn sleeper_beside_victim() -> World {
    let capacity = 4_000 * READ;
    let sleeps = Habit { depth: 64, on_ns: 1_500 * MS, off_ns: 2_500 * MS, from_ns: 2_500 * MS };
    let bully = reader(0, 10_000, Habit::backlogged(64));
    World::new(vec![
        reader(capacity / 5, 1, Habit::backlogged(16)),
        reader(capacity * 7 / 10, 100, sleeps),
        bully,
    ])
}

fn q2_of_the_victim() -> Result<(), String> {
    let world = sleeper_beside_victim();
    let reserved = u128::from(world.clients[0].guarantees.reservation);
    let trace = world.run(10_000 * MS, &mut Ours::new(&world.clients, 4));
    keeps_reservation(&trace, 0, |until_ns| reserved * u128::from(until_ns))
}

/// Q2: whoever wakes has no claim on the time that it slept.
#[test]
fn a_backlogged_channel_has_its_reservation_also_when_others_wake() {
    assert_eq!(q2_of_the_victim(), Ok(()));
}

/// Q2: with a tag that stands still while its channel is idle, the sleeper claims its sleep, and the check says so.
#[test]
fn the_check_catches_tag_drift_after_idle() {
    with(Bug::TagDriftAfterIdle, || assert!(q2_of_the_victim().is_err()));
}

/// V4: how much goes to others, at most, between two turns of a channel that always has requests.
fn longest_wait(world: &World, client: usize, turn_max: u32) -> u64 {
    let trace = world.run(3_000 * MS, &mut Ours::new(&world.clients, turn_max));
    let (mut longest, mut since) = (0, 0);
    for sent in &trace.sent {
        since = if sent.client == client { 0 } else { since + sent.cost };
        longest = longest.max(since);
    }
    longest
}

fn v4_of_equals() -> Result<(), String> {
    let world = World::new((0..5).map(|_| reader(0, 100, Habit::backlogged(64))).collect());
    let bound = 4 * 4 * READ;
    (0..5).try_for_each(|client| match longest_wait(&world, client, 4) {
        longest if longest <= bound => Ok(()),
        longest => Err(std::format!("client {client} waited for {longest} units, {bound} at most were due")),
    })
}

/// V4: among equals, each waits for one budget of each of the others at most.
#[test]
fn a_backlogged_channel_waits_for_one_budget_of_each_equal() {
    assert_eq!(v4_of_equals(), Ok(()));
}

/// V4: with strict priority the last of them never has its turn, and the check says so.
#[test]
fn the_check_catches_strict_priority() {
    with(Bug::StrictPriority, || assert!(v4_of_equals().is_err()));
}

/// V4: of unequal ones, each gets as much more as its share is larger before the turn comes round, and a budget.
#[test]
fn a_backlogged_channel_waits_for_the_others_shares_and_budgets_at_most() {
    let shares = [1u32, 10, 50, 100];
    let clients = shares.iter().map(|&share| reader(0, share, Habit::backlogged(64))).collect();
    let world = World::new(clients);
    for (client, &share) in shares.iter().enumerate() {
        let others = shares.iter().enumerate().filter(|&(other, _)| other != client);
        let turn = 4 * READ;
        let bound: u64 =
            others.map(|(_, &other)| (turn * u64::from(other)).div_ceil(u64::from(share)) + turn).sum();
        let longest = longest_wait(&world, client, 4);
        assert!(longest <= bound, "client {client} waited for {longest} units of {bound}");
    }
}

/// V4: reservations that add up to more than the device do not shut out a channel that has none.
#[test]
fn a_channel_without_a_reservation_keeps_a_part_of_an_overcommitted_device() {
    let capacity = 4_000 * READ;
    let greedy = reader(capacity, 1, Habit::backlogged(64));
    let world = World::new(vec![greedy, greedy, reader(0, 10_000, Habit::backlogged(4))]);
    let trace = world.run(4_000 * MS, &mut Ours::new(&world.clients, 4));
    let part = trace.cost(2, 1_000 * MS, 4_000 * MS) * 32;
    assert!(part >= world.capacity() * 3 * 98 / 100, "{part} in three seconds");
}

#[test]
fn shares_hold_within_2_percent_over_each_second() {
    let shares = [100u32, 200, 300, 50, 350];
    let clients = shares.iter().map(|&share| reader(0, share, Habit::backlogged(32))).collect();
    let world = World::new(clients);
    let trace = world.run(5_000 * MS, &mut Ours::new(&world.clients, 4));
    for second in 0..5 {
        for (client, &share) in shares.iter().enumerate() {
            let had = trace.cost(client, second * 1_000 * MS, (second + 1) * 1_000 * MS);
            let due = world.capacity() * u64::from(share) / 1000;
            assert!(had.abs_diff(due) * 50 <= due, "client {client}, second {second}: {had} of {due}");
        }
    }
}

#[test]
fn what_a_limited_channel_leaves_goes_to_the_others() {
    let limits = Limits { ops: Some(Rate { per_second: 500, burst: 20 }), ..Limits::default() };
    let mut limited = reader(0, 10_000, Habit::backlogged(64));
    limited.guarantees.limits = limits;
    let world = World::new(vec![limited, reader(0, 1, Habit::backlogged(64))]);
    let trace = world.run(2_000 * MS, &mut Ours::new(&world.clients, 4));
    let limited = trace.cost(0, 0, 2_000 * MS) / READ;
    assert!((1000..=1020).contains(&limited), "{limited}");
    assert_eq!(trace.idle_ns, 0);
}

/// Q1: no window of time has more of a client than its limits and their bursts come to. The clients read.
pub(super) fn keeps_limits(trace: &Trace, client: usize, limits: &Limits) -> Result<(), String> {
    for (rate, per_op, per_byte) in [(limits.ops, 1, 0), (limits.read_ops, 1, 0), (limits.bytes, 0, 1)] {
        let Some(rate) = rate else { continue };
        // The sum over a window is a difference of levels: largest after least before.
        let (mut least, mut level) = (i128::MAX, 0i128);
        for one in trace.sent.iter().filter(|sent| sent.client == client) {
            let tokens = per_op + per_byte * i128::from(one.bytes);
            let earned = i128::from(rate.per_second) * i128::from(one.at_ns);
            least = least.min(level * 1_000_000_000 - earned);
            level += tokens;
            let over = level * 1_000_000_000 - earned - least;
            let allowed = tokens.max(i128::from(rate.burst));
            if over > allowed * 1_000_000_000 {
                return Err(std::format!("client {client}: {over} of {rate:?} at {} ns", one.at_ns));
            }
        }
    }
    Ok(())
}

fn limits() -> impl Strategy<Value = Limits> {
    let rate = |most: u64| {
        prop::option::of((1..most, 1..most).prop_map(|(per_second, burst)| Rate { per_second, burst }))
    };
    (rate(6_000), rate(20_000_000), rate(4_000)).prop_map(|(ops, bytes, read_ops)| Limits {
        ops,
        bytes,
        read_ops,
        ..Limits::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Q1, of whole clients on a device that others use too.
    #[test]
    fn no_client_gets_more_than_its_limits_in_any_window(
        limits in prop::collection::vec(limits(), 2..5),
        turn_max in 1u32..8,
    ) {
        let clients = limits.iter().map(|&limits| {
            let mut client = reader(0, 100, Habit::backlogged(32));
            client.guarantees.limits = limits;
            client
        });
        let world = World::new(clients.collect());
        let trace = world.run(1_000 * MS, &mut Ours::new(&world.clients, turn_max));
        for (client, limits) in limits.iter().enumerate() {
            prop_assert_eq!(keeps_limits(&trace, client, limits), Ok(()));
        }
    }

    /// Q3, of reservations: retunes at random times leave no instant without the one or the other.
    #[test]
    fn a_reservation_holds_through_retunes_at_any_time(
        changes in prop::collection::vec((1u64..2_900, 1u64..60, 1u32..10_000), 0..40),
        first in 1u64..60,
    ) {
        let capacity = 4_000 * READ;
        let mut changes = changes;
        changes.sort_unstable();
        let mut world = World::new(vec![
            reader(first * capacity / 100, 1, Habit::backlogged(32)),
            reader(capacity / 4, 10_000, Habit::backlogged(64)),
            reader(0, 10_000, Habit::backlogged(64)),
        ]);
        world.retunes = changes
            .iter()
            .map(|&(at_ms, percent, share)| {
                let reservation = percent * capacity / 100;
                (at_ms * MS, 0, Guarantees { reservation, share, ..Guarantees::default() })
            })
            .collect();
        let trace = world.run(3_000 * MS, &mut Ours::new(&world.clients, 4));
        let reserved_until = |until_ns: u64| {
            let (mut sum, mut since_ns, mut rate) = (0u128, 0, first * capacity / 100);
            for &(at_ns, _, guarantees) in world.retunes.iter().filter(|change| change.0 < until_ns) {
                sum += u128::from(rate) * u128::from(at_ns - since_ns);
                (since_ns, rate) = (at_ns, guarantees.reservation);
            }
            sum + u128::from(rate) * u128::from(until_ns - since_ns)
        };
        prop_assert_eq!(keeps_reservation(&trace, 0, reserved_until), Ok(()));
    }
}
