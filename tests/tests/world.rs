//! Seeded worlds: guests, sidecore, driver and device, where everything happens by chance and nothing may be wrong.
//!
//! `VFIOMUX_WORLD_SEED=n` runs that world alone; `VFIOMUX_WORLDS=n` so many fresh ones instead of the usual number;
//! `VFIOMUX_WORLD_STEPS=n` makes each so long.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use vfiomux_tests::world::{self, Failure, Sabotage, Settings, Summary};

/// Steps of a world.
const STEPS: u64 = 4_000;
/// The worlds that are always tried.
const FIXED: u64 = 120;
/// Worlds in which something was wrong once. The first: three channels go in one breath, and the one that stays is passed over.
const ONCE_WRONG: [u64; 1] = [17_836_245_508_064_697_028];
/// How many fresh ones are tried besides.
const FRESH: u64 = 160;
/// Worlds in which a broken rule must be noticed, in one of them at least.
const SABOTAGED: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, and is {text}")))
}

/// The one world that the environment asks for, if it does.
fn asked_for() -> Option<u64> {
    number("VFIOMUX_WORLD_SEED")
}

fn settings(seed: u64) -> Settings {
    Settings { seed, steps: number("VFIOMUX_WORLD_STEPS").unwrap_or(STEPS), sabotage: None }
}

#[track_caller]
fn live(seed: u64) -> Summary {
    println!("world {seed}");
    world::run(&settings(seed)).unwrap_or_else(|failure| panic!("\n{failure}"))
}

fn add(total: &mut Summary, one: &Summary) {
    let Summary { returned, failed, reconnects, memory_changes, suspends, resizes, replacements, .. } = one;
    let Summary { quarantines, faults, lanes_replaced, resets, crashes, strays, .. } = one;
    for (total, one) in [
        (&mut total.returned, returned),
        (&mut total.failed, failed),
        (&mut total.reconnects, reconnects),
        (&mut total.memory_changes, memory_changes),
        (&mut total.suspends, suspends),
        (&mut total.resizes, resizes),
        (&mut total.replacements, replacements),
        (&mut total.quarantines, quarantines),
        (&mut total.faults, faults),
        (&mut total.lanes_replaced, lanes_replaced),
        (&mut total.resets, resets),
        (&mut total.crashes, crashes),
        (&mut total.strays, strays),
    ] {
        *total += one;
    }
}

/// C1, C2, C3, I1, I2, ISO2, D1, D2, D3, T1, V1 in worlds that are the same every time, and that nothing is missing from.
#[test]
fn fixed_worlds() {
    if let Some(seed) = asked_for() {
        println!("{:#?}", live(seed));
        return;
    }
    let mut total = Summary::default();
    (0..FIXED).chain(ONCE_WRONG).for_each(|seed| add(&mut total, &live(seed)));
    println!("{total:#?}");
    let Summary { returned, failed, reconnects, memory_changes, suspends, resizes, replacements, .. } = total;
    let Summary { quarantines, faults, lanes_replaced, resets, crashes, strays, .. } = total;
    let all = [returned, failed, reconnects, memory_changes, suspends, resizes, replacements, quarantines];
    let calamities = [faults, lanes_replaced, resets, crashes, strays];
    assert!(all.iter().chain(&calamities).all(|&count| count > 10), "a world without something: {total:#?}");
}

/// The same in worlds that nobody has seen.
#[test]
fn fresh_worlds() {
    if asked_for().is_some() {
        return;
    }
    // The only chance in the whole: which seeds are drawn. Each is printed before its world begins.
    let chance = RandomState::new();
    (0..number("VFIOMUX_WORLDS").unwrap_or(FRESH)).for_each(|at| _ = live(chance.hash_one(at)));
}

#[test]
fn a_seed_names_a_world() {
    for seed in 0..8 {
        assert_eq!(live(seed), live(seed), "seed {seed} is two worlds");
    }
    assert_ne!(live(1).fingerprint, live(2).fingerprint);
}

/// A rule that control breaks is noticed in one of the worlds, and named: `for_what` are the words for it.
#[track_caller]
fn caught(sabotage: Sabotage, for_what: &[&str]) {
    let seeds = asked_for().map_or(0..SABOTAGED, |seed| seed..seed + 1);
    let is_named = |failure: &Failure| {
        println!("world {}: {}", failure.seed, failure.wrong);
        for_what.iter().any(|what| failure.wrong.contains(what))
    };
    let sabotaged = |seed| Settings { sabotage: Some(sabotage), ..settings(seed) };
    let named = seeds.filter_map(|seed| world::run(&sabotaged(seed)).err()).any(|failure| is_named(&failure));
    assert!(named, "{sabotage:?} went unnoticed, or for other reasons than {for_what:?}");
}

/// D2.
#[test]
fn memory_unmapped_when_a_session_is_lost_is_caught() {
    caught(Sabotage::UnmapOnSessionLoss, &["C1, D2 or I1"]);
}

/// D2.
#[test]
fn a_lane_given_up_without_its_barrier_is_caught() {
    caught(Sabotage::AbandonWithoutBarrier, &["C1, D2 or I1", "of owner", "D2"]);
}

/// D1.
#[test]
fn grants_that_stay_mapped_are_caught() {
    caught(Sabotage::LeakGrants, &["D1"]);
}

/// I2.
#[test]
fn a_ring_started_before_its_base_is_caught() {
    caught(Sabotage::RestartEarlier, &["I2"]);
}

/// I2.
#[test]
fn a_ring_started_behind_its_base_is_caught() {
    caught(Sabotage::RestartLater, &["I2", "progress", "ISO2"]);
}

/// I2.
#[test]
fn forgetting_what_was_in_flight_at_a_crash_is_caught() {
    caught(Sabotage::ForgetInFlight, &["I2", "progress"]);
}

/// C2, ISO1.
#[test]
fn extents_that_overlap_are_caught() {
    caught(Sabotage::OverlappingExtents, &["of owner"]);
}

/// C3.
#[test]
fn blocks_that_were_not_scrubbed_are_caught() {
    caught(Sabotage::SkipScrub, &["of owner"]);
}

/// V1.
#[test]
fn a_channel_that_is_never_resumed_is_caught() {
    caught(Sabotage::ForgetResume, &["progress", "suspended"]);
}
