//! T3, W1: a crash at any step of an operation, then recovery, leaves exactly the live channels' resources.

use vfiomux_rpc::{RpcError, call};
use vfiomux_sim::{Action, Fault, Match, QueueMatch};

use super::guest::pattern;
use super::world::{World, extents_of, wait};
use crate::lifecycle::Oper;
use crate::seeded::Bug;

/// What is going on when the daemon dies.
type Operation = fn(&World) -> Result<(), RpcError>;

/// A world with a channel `keep` that has data, and `disk`, all written.
fn prepared(bug: Option<Bug>) -> World {
    let mut world = World::idle(&["sim:nvme,size=32M"]);
    world.bug = bug;
    world.start();
    for name in ["keep", "disk"] {
        for extent in extents_of(&world.call(&unattached(&world, name, 4)).unwrap()) {
            let bytes = usize::try_from(extent.blocks).unwrap() * 512;
            world.sim().write_blocks(1, extent.start, &pattern(11, bytes)).unwrap();
        }
    }
    world
}

/// Without an endpoint: that would lie in the directory of the daemon that died.
fn unattached(world: &World, name: &str, mib: u64) -> call::ChannelCreate {
    call::ChannelCreate { endpoint: None, ..world.creation(name, mib) }
}

/// Crashes in front of or behind each I/O command of an operation, recovers, and has `check` look at what is there.
fn crash_at_every_step(bug: Option<Bug>, operation: Operation, check: fn(&World, answered: bool)) {
    let mut steps = 0;
    for action in [Action::Hang, Action::Drop] {
        for skip in 0.. {
            let world = prepared(bug);
            let when = Match { queue: QueueMatch::Io, skip, ..Match::default() };
            let before = world.sim().counters().faults;
            world.sim().inject(Fault { when, action });
            let (answered, over, mut wreck) = std::thread::scope(|scope| {
                let asked = scope.spawn(|| operation(&world));
                wait("it is over or stuck", || {
                    (asked.is_finished() || world.sim().counters().faults > before).then_some(())
                });
                let (over, wreck) = (world.sim().counters().faults == before, world.wreck());
                let answered = asked.is_finished();
                world.sim().remove();
                let _ = asked.join().unwrap();
                (answered, over, wreck)
            });
            world.pull_and_stop();
            wreck.start();
            wreck.wait_scrubbed();
            wreck.assert_whole();
            wreck.assert_lives_by_the_table();
            for extent in extents_of(&wreck.show("keep")) {
                let bytes = usize::try_from(extent.blocks).unwrap() * 512;
                assert!(wreck.devices[0].read(extent) == pattern(11, bytes), "what is kept is untouched");
            }
            check(&wreck, answered);
            wreck.assert_journal_tells_the_same();
            if over {
                break;
            }
            steps += 1;
        }
    }
    assert!(steps > 0);
}

fn exists(world: &World, name: &str) -> bool {
    world.call(&call::ChannelList { tenant: None }).unwrap().iter().any(|channel| channel.name == name)
}

fn create(world: &World) -> Result<(), RpcError> {
    world.call(&unattached(world, "new", 8)).map(drop)
}

fn is_there_when_answered(world: &World, answered: bool) {
    assert!(exists(world, "new") || !answered, "a creation that was answered is lost");
    if exists(world, "new") {
        assert_eq!(world.show("new").oper, Oper::Provisioned);
    }
}

#[test]
fn a_crash_while_a_channel_is_created_leaves_all_or_nothing_of_it() {
    crash_at_every_step(None, create, is_there_when_answered);
}

fn destroy(world: &World) -> Result<(), RpcError> {
    world.destroy("disk", false).map(drop)
}

#[test]
fn a_crash_while_a_channel_is_destroyed_ends_in_its_destruction() {
    crash_at_every_step(None, destroy, |world, _| assert!(!exists(world, "disk")));
}

/// T3's seeded bug.
#[test]
#[should_panic(expected = "is free and was not scrubbed (C3)")]
fn blocks_that_are_forgotten_before_they_are_scrubbed_are_caught() {
    crash_at_every_step(Some(Bug::ForgetUnscrubbed), destroy, |_, _| {});
}

#[test]
fn a_crash_while_a_channel_grows_leaves_it_small_or_large() {
    let grow = |world: &World| world.resize("disk", 8).map(drop);
    crash_at_every_step(None, grow, |world, answered| {
        let mib = world.show("disk").size_bytes >> 20;
        assert!(mib == 8 || mib == 4 && !answered);
    });
}

#[test]
fn a_crash_while_a_channel_shrinks_leaves_it_large_or_small() {
    let shrink = |world: &World| world.resize("disk", 2).map(drop);
    crash_at_every_step(None, shrink, |world, answered| {
        let mib = world.show("disk").size_bytes >> 20;
        assert!(mib == 2 || mib == 4 && !answered);
    });
}
