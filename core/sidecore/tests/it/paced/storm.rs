//! What neighbours do to somebody who was promised something.

use std::sync::Arc;

use vfiomux_qos::{Group, Guarantees, Limits, Rate};
use vfiomux_sidecore::{Answer, Order};

use super::{Bench, CAPACITY, Client, MS, READ, SECOND};
use crate::world::Random;

/// What a sidecore that asked a plugin would wait for the answer.
const PLUGIN_NS: u64 = 5 * MS;

/// A victim with a third of the device reserved, beside a bully and one whose front-end and operator never rest. Gives how many
/// units the victim fell short at most.
fn storm(asks_plugins: bool) -> i128 {
    let reservation = CAPACITY / 3;
    let victim = Client::reader(reservation, 1, 32);
    let bully = Client::reader(0, 10_000, 64);
    let mut bench = Bench::new(1, &[victim, bully, Client::reader(CAPACITY / 5, 100, 32)]);
    bench.run_until(50 * MS);
    let (restless, from_ns) = (2, bench.now_ns);
    let mut random = Random(7);
    let limits = Limits { ops: Some(Rate { per_second: 2_000, burst: 10 }), ..Limits::default() };
    let group = Arc::new(Group::new(&limits, bench.now_ns).unwrap());
    for _ in 0..400 {
        let (_, channel) = bench.ids[restless];
        match random.below(6) {
            0 => {
                let answer = bench.ask(0, Order::StopRing { channel, index: 0 });
                let Answer::RingStopped { ring } = answer else { panic!("{answer:?}") };
                bench.start_ring(restless, ring.base);
            }
            1 => {
                let map = bench.guests[restless].map();
                bench.ask(0, Order::SetMemory { channel, map });
            }
            2 => {
                bench.ask(0, Order::Suspend { channel });
                bench.ask(0, Order::Resume { channel });
            }
            3 => {
                let (reservation, share) =
                    (CAPACITY / 100 * random.below(40), 1 + random.below(9_999) as u32);
                bench.promise(restless, &Guarantees { reservation, share, ..Guarantees::default() });
            }
            4 => bench.join(restless, (random.below(2) == 0).then_some(&group)),
            _ => bench.shift(restless, 0),
        }
        if asks_plugins {
            bench.now_ns += PLUGIN_NS;
        }
        bench.run_until(bench.now_ns + random.below(3) * MS);
    }
    assert!(bench.now_ns - from_ns > SECOND / 4);
    bench.shortfall(0, from_ns, |_| reservation)
}

/// ISO2, Q2: rings that stop, memory that is replaced, tunes and moves of a neighbour leave a reservation whole.
#[test]
fn a_reservation_holds_whatever_neighbours_do() {
    let short = storm(false);
    assert!(short <= i128::from(24 * READ), "{short} units short");
}

/// ISO2, seeded bug: a sidecore that asks a plugin, and waits, breaks a reservation, and the check sees it.
#[test]
fn a_plugin_call_on_the_sidecore_is_caught() {
    let short = storm(true);
    assert!(short > i128::from(24 * READ), "{short} units short");
}
