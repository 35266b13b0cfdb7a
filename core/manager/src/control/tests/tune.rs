//! Guarantees, from an operator's words to a guest's requests.

use std::time::{Duration, Instant};

use vfiomux_rpc::{Change, ErrorCode, Guarantees, RateLimit, call};

use super::guest::{Guest, OK, pattern};
use super::world::{World, assert_refused};

const SPEC: &str = "sim:nvme,size=64M";

fn ops(per_second: u64, burst: u64) -> Guarantees {
    Guarantees { ops: Some(RateLimit { per_second, burst: Some(burst) }), ..Guarantees::default() }
}

fn tune(guarantees: Guarantees) -> call::ChannelTune {
    call::ChannelTune { name: "disk".to_owned(), guarantees }
}

/// Q1: twelve requests at a hundred a second, two at once, take a tenth of a second at least. Nothing is said of at most.
#[test]
fn a_guest_has_what_its_channel_was_created_with_and_then_tuned_to() {
    let world = World::new(SPEC);
    world.call(&call::ChannelCreate { guarantees: ops(100, 2), ..world.creation("disk", 8) }).unwrap();
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    // All of them wait when the first is looked at: one by one, they could come as slowly as the limit lets them.
    world.suspend("disk").unwrap();
    (0..12).for_each(|_| guest.submit_write(0, &pattern(1, 4096)));
    let start = Instant::now();
    world.resume("disk").unwrap();
    assert!(guest.finish().iter().all(|(status, _)| *status == OK));
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    let limited = world.show("disk");
    assert_eq!(limited.guarantees, ops(100, 2));
    assert!(limited.counters.limited > 0 && limited.counters.limited_ns > 0, "{:?}", limited.counters);
    let tuned = world.call(&tune(Guarantees { share: Some(300), ..Guarantees::default() })).unwrap();
    assert_eq!((tuned.generation, tuned.guarantees.share), (limited.generation + 1, Some(300)));
    for _ in 0..100 {
        assert_eq!(guest.write(0, &pattern(1, 4096)), OK);
    }
    assert_eq!(world.show("disk").counters.limited, limited.counters.limited, "the limit is gone");
    world.assert_lives_by_the_table();
}

/// W1: what was tuned is journalled, and in force after a restart.
#[test]
fn guarantees_come_back_with_the_daemon() {
    let mut world = World::new(SPEC);
    world.create("disk", 8);
    world.call(&tune(ops(50, 1))).unwrap();
    world.restart();
    assert_eq!(world.show("disk").guarantees, ops(50, 1));
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(guest.write(0, &pattern(1, 512)), OK);
    }
    assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
    world.assert_journal_tells_the_same();
}

#[test]
fn what_cannot_be_and_what_is_only_tried_change_nothing() {
    let world = World::new(SPEC);
    let created = world.create("disk", 8);
    assert_refused(world.call(&tune(ops(0, 1))), ErrorCode::InvalidArgument, "the limit of operations");
    let dry = Change { dry_run: true, ..Change::default() };
    world.call_with(&tune(ops(5, 5)), &dry).unwrap();
    let stale = Change { expected_generation: Some(99), ..Change::default() };
    assert_refused(world.call_with(&tune(ops(5, 5)), &stale), ErrorCode::Conflict, "generation");
    // The same again is no change either.
    world.call(&tune(Guarantees::default())).unwrap();
    let shown = world.show("disk");
    assert_eq!((shown.generation, shown.guarantees), (created.generation, Guarantees::default()));
    let wrong = Guarantees { share: Some(0), ..Guarantees::default() };
    let refused = world.call(&call::ChannelCreate { guarantees: wrong, ..world.creation("other", 8) });
    assert_refused(refused, ErrorCode::InvalidArgument, "the share cannot be 0");
}

#[test]
fn labels_and_an_objective_outlive_a_restart_and_bad_ones_are_refused() {
    use vfiomux_rpc::{Labels, Objective};

    let mut world = World::new(SPEC);
    let labels = Labels([("tier".to_owned(), "gold".to_owned())].into());
    let objective = Some(Objective { permille: 990, latency_ns: 500_000 });
    let guarantees = Guarantees { objective, ..Guarantees::default() };
    let asked = call::ChannelCreate { guarantees, labels: labels.clone(), ..world.creation("disk", 8) };
    world.call(&asked).unwrap();
    world.restart();
    let restored = world.show("disk");
    assert_eq!((restored.labels, restored.guarantees), (labels, guarantees));

    let labels = Labels([("Tier".to_owned(), String::new())].into());
    assert_refused(
        world.call(&call::ChannelCreate { labels, ..world.creation("other", 8) }),
        ErrorCode::InvalidArgument,
        "small letters",
    );
    let objective = Some(Objective { permille: 1000, latency_ns: 500_000 });
    assert_refused(
        world.call(&tune(Guarantees { objective, ..Guarantees::default() })),
        ErrorCode::InvalidArgument,
        "1 to 999",
    );
}
