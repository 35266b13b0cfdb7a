//! Everything at once: reservations as large as may be promised, limits, shares, and clients that sleep and wake.

use std::vec::Vec;

use proptest::prelude::*;

use super::guarantees::{READ, keeps_limits, keeps_reservation};
use super::world::{Client, Habit, MS, Ours, World};
use crate::{Guarantees, Io, Limits, Rate, Scheduler};

/// A client that reads: how it asks, the weight of its reservation among all, its share, and its limit.
fn client() -> impl Strategy<Value = (Habit, u64, u32, Option<(u64, u64)>)> {
    let habit = prop_oneof![
        2 => (12u32..48).prop_map(Habit::backlogged),
        1 => (12u32..48, 100u64..900, 100u64..900, 0u64..500).prop_map(|(depth, on, off, from)| Habit {
            depth,
            on_ns: on * MS,
            off_ns: off * MS,
            from_ns: from * MS,
        }),
    ];
    // Whoever may have no more than a request or two at a time loses the turns in between, whatever was reserved for it.
    let limit = prop_oneof![2 => Just(None), 1 => (100u64..4_000, 16u64..64).prop_map(Some)];
    (habit, 0u64..100, 1u32..1_000, limit)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Q1, Q2: reservations that add up to all that may be promised are all met, whoever else sleeps, wakes, or waits for its limit;
    /// limits hold; and the device rests only when nobody may go on.
    #[test]
    fn whatever_may_be_promised_is_kept_beside_anybody(
        mix in prop::collection::vec(client(), 2..7),
        turn_max in 1u32..5,
    ) {
        let promised = 4_000 * READ * u64::from(Scheduler::SHARED_PART - 1) / u64::from(Scheduler::SHARED_PART);
        let weights: u64 = mix.iter().map(|(_, weight, ..)| weight).sum();
        let clients = mix.iter().map(|&(habit, weight, share, limit)| {
            let reservation = promised * weight / weights.max(1);
            // A limit is stronger than a reservation: what is reserved beyond it nobody can have.
            let ops = limit.map(|(per_second, burst)| Rate { per_second: per_second.max(reservation / READ + 1), burst });
            let limits = Limits { ops, ..Limits::default() };
            Client { guarantees: Guarantees { limits, reservation, share }, io: Io::read(4096), habit }
        });
        let world = World::new(clients.collect());
        let trace = world.run(3_000 * MS, &mut Ours::new(&world.clients, turn_max));
        for (number, client) in world.clients.iter().enumerate() {
            prop_assert_eq!(keeps_limits(&trace, number, &client.guarantees.limits), Ok(()));
            if client.habit.off_ns == 0 {
                let reserved = u128::from(client.guarantees.reservation);
                let kept = keeps_reservation(&trace, number, |until_ns| reserved * u128::from(until_ns));
                prop_assert_eq!(kept, Ok(()), "client {} of {:#?}", number, world.clients);
            }
        }
        let unlimited = |client: &Client| client.habit.off_ns == 0 && client.guarantees.limits == Limits::default();
        if world.clients.iter().any(unlimited) {
            prop_assert_eq!(trace.idle_ns, 0);
        }
    }

    /// Shares within 2 % over each second: of what limited clients leave, however they come and go, the others have their parts.
    #[test]
    fn what_limits_leave_is_shared_by_weight(
        shares in prop::collection::vec(20u32..500, 2..5),
        limit in 50u64..900,
        on_ms in 50u64..400,
        off_ms in 50u64..400,
    ) {
        let backlogged = shares.iter().map(|&share| {
            let guarantees = Guarantees { share, ..Guarantees::default() };
            Client { guarantees, io: Io::read(4096), habit: Habit::backlogged(32) }
        });
        let limits = Limits { ops: Some(Rate { per_second: limit, burst: 8 }), ..Limits::default() };
        let comes_and_goes = Client {
            guarantees: Guarantees { limits, share: 10_000, ..Guarantees::default() },
            io: Io::read(4096),
            habit: Habit { depth: 32, on_ns: on_ms * MS, off_ns: off_ms * MS, from_ns: 0 },
        };
        let world = World::new(backlogged.chain([comes_and_goes]).collect());
        let trace = world.run(3_000 * MS, &mut Ours::new(&world.clients, 2));
        let weight: u64 = shares.iter().map(|&share| u64::from(share)).sum();
        for second in 0..3 {
            let had = |client| trace.cost(client, second * 1_000 * MS, (second + 1) * 1_000 * MS);
            let left: u64 = (0..shares.len()).map(had).sum();
            for (client, &share) in shares.iter().enumerate() {
                let due = left * u64::from(share) / weight;
                prop_assert!(
                    had(client).abs_diff(due) <= world.capacity() / 50,
                    "client {client}, second {second}: {} of {due}", had(client)
                );
            }
        }
        prop_assert_eq!(trace.idle_ns, 0);
    }
}

/// Q3, of shares: a retune is in force with the next turn, also for what is already waiting.
#[test]
fn a_share_that_is_retuned_is_in_force_within_10_ms() {
    let reader = |share| Client {
        guarantees: Guarantees { share, ..Guarantees::default() },
        io: Io::read(4096),
        habit: Habit::backlogged(32),
    };
    let mut world = World::new(Vec::from([reader(100), reader(100)]));
    world.retunes = Vec::from([(500 * MS, 0, Guarantees { share: 900, ..Guarantees::default() })]);
    let trace = world.run(1_000 * MS, &mut Ours::new(&world.clients, 2));
    let part = |from_ms: u64, to_ms: u64| {
        let had = [0, 1].map(|client| trace.cost(client, from_ms * MS, to_ms * MS));
        had[0] * 1000 / (had[0] + had[1])
    };
    assert!((490..=510).contains(&part(0, 500)), "{}", part(0, 500));
    assert!((880..=920).contains(&part(510, 610)), "{}", part(510, 610));
    assert!((890..=910).contains(&part(510, 1_000)), "{}", part(510, 1_000));
}
