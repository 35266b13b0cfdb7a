//! Clocks that are set back, and clocks that come to the end of 64 bits.

use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::guarantees::{READ, keeps_limits, keeps_reservation, reader};
use super::world::{Client, Clock, Habit, MS, Ours, Trace, World};
use crate::{Limits, Rate};

/// A limited client, one with a reservation, and one with neither; always asking.
fn clients(per_second: u64, burst: u64) -> Vec<Client> {
    let mut limited = reader(0, 500, Habit::backlogged(16));
    limited.guarantees.limits = Limits { ops: Some(Rate { per_second, burst }), ..Limits::default() };
    vec![limited, reader(1_000 * READ, 1, Habit::backlogged(16)), reader(0, 100, Habit::backlogged(16))]
}

/// V4: nobody who always has requests is without any for longer than this.
fn longest_gap_ns(trace: &Trace, client: usize) -> u64 {
    let mut times: Vec<u64> =
        trace.sent.iter().filter(|sent| sent.client == client).map(|sent| sent.at_ns).collect();
    times.insert(0, 0);
    times.push(trace.until_ns);
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX)
}

fn reserved_of_one(trace: &Trace) -> Result<(), String> {
    keeps_reservation(trace, 1, |until_ns| u128::from(1_000 * READ) * u128::from(until_ns))
}

/// What is sent for so long by a clock of 64 bits that is about to end.
fn near_the_end(clients: Vec<Client>, before_the_end_ms: u64, for_ms: u64) -> (World, Trace) {
    let mut world = World::new(clients);
    let epoch_ns = u64::MAX - before_the_end_ms * MS;
    world.clock = Clock { epoch_ns, set_back: Vec::new() };
    let mut ours = Ours::new(&world.clients, 4);
    ours.start_at(epoch_ns);
    let trace = world.run(for_ms * MS, &mut ours);
    (world, trace)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Q1, V4: a clock that is set back at any times gives nobody more than its limit, keeps the device at work, and shuts nobody out
    /// who is not limited.
    #[test]
    fn a_clock_that_is_set_back_is_no_gift_and_no_gap(
        steps in prop::collection::vec((100u64..1_900, 0u64..50), 0..8),
        per_second in 1u64..3_000,
        burst in 1u64..64,
    ) {
        let mut world = World::new(clients(per_second, burst));
        let mut steps: Vec<(u64, u64)> = steps.iter().map(|&(at_ms, by_ms)| (at_ms * MS, by_ms * MS)).collect();
        steps.sort_unstable();
        // No more than has passed: a clock does not go back to before its beginning.
        let mut lost_ns = 0;
        steps.retain(|&(at_ns, by_ns)| {
            let fits = lost_ns + by_ns <= at_ns;
            lost_ns += if fits { by_ns } else { 0 };
            fits
        });
        world.clock = Clock { epoch_ns: 1_000_000 * MS, set_back: steps };
        let trace = world.run(2_000 * MS, &mut Ours::new(&world.clients, 4));
        prop_assert_eq!(keeps_limits(&trace, 0, &world.clients[0].guarantees.limits), Ok(()));
        prop_assert_eq!(trace.idle_ns, 0);
        // One that has no reservation has its share; one whose reservation waits for the clock has that too.
        prop_assert!(longest_gap_ns(&trace, 2) <= 50 * MS, "{}", longest_gap_ns(&trace, 2));
    }

    /// Q1, Q2: in the last seconds of a clock of 64 bits all holds as ever.
    #[test]
    fn the_end_of_the_clock_is_like_any_other_time(
        before_the_end_ms in 2_001u64..4_000,
        per_second in 1u64..3_000,
        burst in 1u64..64,
    ) {
        let (world, trace) = near_the_end(clients(per_second, burst), before_the_end_ms, 2_000);
        prop_assert_eq!(keeps_limits(&trace, 0, &world.clients[0].guarantees.limits), Ok(()));
        prop_assert_eq!(reserved_of_one(&trace), Ok(()));
        prop_assert_eq!(trace.idle_ns, 0);
    }

    /// Q1, V4: when a clock of 64 bits has come to its end and stands still, whoever is limited waits, and the others go on.
    #[test]
    fn a_clock_at_its_end_holds_up_nobody_who_is_not_limited(
        before_the_end_ms in 0u64..1_000,
        per_second in 1u64..3_000,
        burst in 1u64..64,
    ) {
        let (world, trace) = near_the_end(clients(per_second, burst), before_the_end_ms, 1_000);
        prop_assert_eq!(keeps_limits(&trace, 0, &world.clients[0].guarantees.limits), Ok(()));
        prop_assert_eq!(reserved_of_one(&trace), Ok(()));
        prop_assert_eq!(trace.idle_ns, 0);
        // A reservation that is always due takes a run of 256 reads, and what a forced turn was larger than its part.
        prop_assert!(longest_gap_ns(&trace, 2) <= 150 * MS, "{}", longest_gap_ns(&trace, 2));
    }
}
