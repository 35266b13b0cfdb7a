//! One request at a time beside a crowd, on a device that works on several commands at once.

use vfiomux_qos::{Limits, Rate};
use vfiomux_sidecore::Pace;

use super::device::Server;
use super::{Bench, Client, MS, READ, SECOND};

/// Commands that the device works on at once, each for a millisecond.
const HANDS: u64 = 16;
/// What is at it when it is just full, and an eighth more.
const WINDOW: u32 = 18;

/// A client with one request at a time and so much reserved, beside bullies.
fn beside_bullies(bullies: usize, reserved_per_second: u64, limits: Limits) -> Bench {
    let mut client = Client::reader(reserved_per_second * READ, 1_000, 1);
    client.guarantees.limits = limits;
    beside(client, bullies, 0)
}

/// A client beside bullies, each of which has so much reserved. Runs for three seconds.
fn beside(client: Client, bullies: usize, reserved_per_second: u64) -> Bench {
    let mut clients = vec![client];
    clients.resize(bullies + 1, Client::reader(reserved_per_second * READ, 100, 32));
    let pace = Pace { window_commands: WINDOW, slice_cost: 4 * READ, ..Pace::default() };
    let server = Server::new(MS / READ, usize::try_from(HANDS).unwrap());
    let mut bench = Bench::on(server, pace, 1, &clients);
    bench.run_until(3 * SECOND);
    bench
}

/// From one request of the first client to the next, in the slowest of all but so many of a hundred, nanoseconds.
fn between(bench: &Bench, percent: usize) -> u64 {
    let log = bench.log();
    let at_ns: Vec<u64> = log.of(0).map(|sent| sent.at_ns).filter(|&at_ns| at_ns > SECOND).collect();
    let mut between: Vec<u64> = at_ns.windows(2).map(|two| two[1] - two[0]).collect();
    between.sort_unstable();
    between[between.len() * percent / 100]
}

/// Requests a second of all.
fn done(bench: &Bench) -> u64 {
    bench.log().0.iter().filter(|sent| (SECOND..3 * SECOND).contains(&sent.at_ns)).count() as u64 / 2
}

#[test]
fn who_has_a_reservation_finds_a_place_when_it_comes_back() {
    for bullies in [1, 4, 16] {
        let bench = beside_bullies(bullies, 1_500, Limits::default());
        // Its request takes a millisecond; what it waits beyond is for commands that were there before.
        assert!(between(&bench, 99) <= 11 * MS / 10, "{bullies} bullies: {} ns", between(&bench, 99));
        assert!(done(&bench) >= HANDS * 1_000 * 99 / 100, "{bullies} bullies: {} a second", done(&bench));
    }
}

/// Without a reservation its place is gone, and it waits for a whole command of another: what the test above would see if no place were kept.
#[test]
fn who_has_none_waits_for_others() {
    let bench = beside_bullies(4, 0, Limits::default());
    assert!(between(&bench, 99) >= 3 * MS / 2, "{} ns", between(&bench, 99));
}

/// Bullies who were promised something too do not take that from it, though the places that are kept are theirs as well while they are behind.
#[test]
fn whose_neighbours_have_reservations_finds_a_place_too() {
    for bullies in [1, 4] {
        let bench = beside(Client::reader(1_500 * READ, 1_000, 1), bullies, 8_000 / bullies as u64);
        assert!(between(&bench, 99) <= 7 * MS / 5, "{bullies} bullies: {} ns", between(&bench, 99));
        assert!(done(&bench) >= HANDS * 1_000 * 98 / 100, "{bullies} bullies: {} a second", done(&bench));
    }
}

/// Places that are kept for somebody who does not come are not lost: here its limit lets it come too late each time.
#[test]
fn who_comes_late_costs_the_others_nothing() {
    for per_second in [20, 600] {
        let late = Limits { ops: Some(Rate { per_second, burst: 1 }), ..Limits::default() };
        let bench = beside_bullies(4, 1_500, late);
        assert!(done(&bench) >= HANDS * 1_000 * 99 / 100, "{per_second}: {} a second", done(&bench));
    }
}
