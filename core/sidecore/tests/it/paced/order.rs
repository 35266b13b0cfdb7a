//! Whose turn it is: shares, reservations, and how long anybody waits.

use proptest::prelude::*;
use vfiomux_qos::{Guarantees, Io, Limits, Rate};
use vfiomux_sidecore::{Order, Pace};

use super::fluid::due;
use super::{Bench, CAPACITY, Client, DEVICE, Habit, MS, READ, SECOND};

fn client() -> impl Strategy<Value = Client> {
    let io =
        prop_oneof![4 => Just(Io::read(4096)), 2 => Just(Io::write(4096)), 1 => Just(Io::read(16 << 10))];
    let habit = prop_oneof![
        2 => (16u16..64).prop_map(Habit::backlogged),
        1 => (16u16..64, 1u64..3, 1u64..3).prop_map(|(depth, on, off)| Habit {
            depth,
            on_ns: on * SECOND,
            off_ns: off * SECOND,
        }),
    ];
    let reservation = prop_oneof![Just(0u64), 5u64..90];
    let limit = prop_oneof![2 => Just(None), 1 => (200u64..6_000).prop_map(Some)];
    (io, habit, reservation, 20u32..500, limit).prop_map(|(io, habit, percent, share, limit)| {
        let ops = limit.map(|per_second| Rate { per_second, burst: 16 });
        let limits = Limits { ops, ..Limits::default() };
        let guarantees = Guarantees { limits, reservation: percent * CAPACITY / 600, share };
        Client { guarantees, io, habit, sidecore: 0 }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Q2, and shares within 2 % of the device over each second, with limits and either reservations or clients that sleep and
    /// wake: each gets what the fluid reference gives it.
    #[test]
    fn each_client_gets_what_it_is_due(
        mut clients in prop::collection::vec(client(), 2..7),
        reserved in any::<bool>(),
    ) {
        // As in the paper, what a reservation gave beyond the share is held against the share until the others have caught up, also
        // after some have left; the fluid knows no past. So either all are awake, or nobody has a reservation.
        for client in &mut clients {
            if reserved {
                client.habit = Habit::backlogged(client.habit.depth);
            } else {
                client.guarantees.reservation = 0;
            }
        }
        let mut bench = Bench::new(1, &clients);
        bench.run_until(5 * SECOND);
        let log = bench.log();
        for second in 1..5 {
            // Who asks changes at whole seconds only. What was asked for is given a little after.
            let asks: Vec<bool> = clients.iter().map(|client| client.habit.asks(second * SECOND)).collect();
            for (client, due) in due(&clients, &asks).into_iter().enumerate() {
                let got = log.cost(client, second * SECOND, (second + 1) * SECOND) as f64;
                let slack = CAPACITY as f64 / 50.0;
                prop_assert!((got - due).abs() <= slack, "client {client}, second {second}: {got} of {due}\n{clients:#?}");
            }
        }
    }
}

#[test]
fn shares_hold_within_2_percent_over_each_second_and_control_sees_it() {
    let shares = [100, 200, 300, 50, 350];
    let clients = shares.map(|share| Client::reader(0, share, 32));
    let mut bench = Bench::new(1, &clients);
    bench.run_until(3 * SECOND);
    let log = bench.log();
    for (client, &share) in shares.iter().enumerate() {
        let due = CAPACITY * u64::from(share) / 1000;
        for second in 1..3 {
            let got = log.cost(client, second * SECOND, (second + 1) * SECOND);
            assert!(got.abs_diff(due) * 50 <= due, "client {client}, second {second}: {got} of {due}");
        }
        let seen = bench.counters[client].snapshot();
        assert!(seen.share_due_cost > due * 27 / 10, "{seen:?}");
        assert!(seen.contended_cost.abs_diff(seen.share_due_cost) * 50 <= seen.share_due_cost, "{seen:?}");
        assert!(seen.contended_ns > 2_700 * MS && seen.contended_ns <= 3 * SECOND, "{seen:?}");
    }
}

/// V4: between two turns of a channel that always has requests, each other one of the same share has at most a slice and the request
/// that goes beyond it.
#[test]
fn nobody_waits_for_more_than_a_slice_of_each_equal() {
    let mut clients = [Client::reader(0, 200, 64); 5];
    clients[1].io = Io::write(64 << 10);
    clients[4].io = Io::read(32 << 10);
    let mut bench = Bench::new(1, &clients);
    bench.run_until(2 * SECOND);
    let log = bench.log();
    let largest = log.0.iter().map(|sent| sent.cost).max().unwrap();
    for client in 0..5 {
        let (mut longest, mut since) = (0, 0);
        // The first requests find the device with room for them.
        for sent in log.0.iter().skip(100) {
            since = if sent.client == client { 0 } else { since + sent.cost };
            longest = longest.max(since);
        }
        // A large turn is made up for: the others have as much in between.
        let own = log.of(client).map(|sent| sent.cost).max().unwrap();
        let bound = 4 * (2 * READ + largest + own);
        assert!(longest <= bound, "client {client} waited for {longest} of {bound}");
    }
}

/// Q3: a reservation that is changed every few milliseconds, on a device that is driven otherwise now and then, holds as it was at
/// each moment.
#[test]
fn a_reservation_holds_through_retunes() {
    let reserve = |percent: u64| Guarantees {
        reservation: percent * CAPACITY / 100,
        share: 1,
        ..Guarantees::default()
    };
    let mut victim = Client::reader(0, 1, 32);
    victim.guarantees = reserve(20);
    let bully = Client::reader(CAPACITY / 4, 10_000, 64);
    let mut bench = Bench::new(1, &[victim, bully, Client::reader(0, 10_000, 64)]);
    let mut reserved = vec![(0, 20)];
    let from_ns = bench.now_ns;
    for round in 0..400u64 {
        bench.run_until(bench.now_ns + 5 * MS);
        let percent = 1 + round * 37 % 60;
        bench.promise(0, &reserve(percent));
        reserved.push((bench.now_ns, percent));
        if round % 16 == 0 {
            let window_commands = 2 + (round as u32 / 16) % 4;
            let pace = Pace { window_commands, slice_cost: 2 * READ, ..Pace::default() };
            bench.ask(0, Order::SetPace { device: DEVICE, pace });
        }
    }
    let reserved_at = |at_ns: u64| {
        let last = reserved.partition_point(|&(since_ns, _)| since_ns <= at_ns);
        reserved[last - 1].1 * CAPACITY / 100
    };
    let short = bench.shortfall(0, from_ns, reserved_at);
    assert!(short <= i128::from(24 * READ) + i128::from(CAPACITY / 1000), "{short} units short");
    let seen = bench.counters[0].snapshot();
    assert!(seen.contended_cost + 24 * READ >= seen.reserved_due_cost, "{seen:?}");
}

/// A device that runs by other costs orders by them, whichever its channels' programs were compiled for.
#[test]
fn shares_are_of_what_requests_cost_this_device() {
    let mut clients = [Client::reader(0, 200, 32); 2];
    clients[1].io = Io::write(4096);
    let counts = |write_op| {
        let mut bench = Bench::new(1, &clients);
        let mut pace = Pace { window_commands: 4, slice_cost: 2 * READ, ..Pace::default() };
        pace.cost.write_op = write_op;
        pace.cost.write_kib = pace.cost.read_kib;
        bench.ask(0, Order::SetPace { device: DEVICE, pace });
        let before = bench.log().0.len();
        bench.run_until(SECOND / 2);
        let log = bench.log();
        let count = |client| log.0.iter().skip(before).filter(|sent| sent.client == client).count();
        count(0) * 1000 / count(1)
    };
    // As many writes as reads when they cost the same, a quarter as many when they cost four times as much.
    assert!((980..=1020).contains(&counts(512)), "{}", counts(512));
    assert!((3920..=4080).contains(&counts(4 * 1024 - 512)), "{}", counts(4 * 1024 - 512));
}
