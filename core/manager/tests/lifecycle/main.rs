//! The lifecycle, explored by a model checker: two channels, two operators that race, a plugin that lies, a daemon that crashes,
//! devices that come back one at a time.
//!
//! ```text
//!   Lifecycle (model) ── actions ──► World: what is durable, the daemon's memory, what somebody who sees all remembers
//!        │                             │
//!        │                             └── properties: L1 L5 ISO1 C2 C3 I1 P1 V1 T1 T3 W1, in every state that can be reached
//!        └── runs what the daemon runs: lifecycle::TABLE and advance, the procedures of operations, the changes of a Label,
//!            recovery, verdict_holds, Settings::apply, ExtentPool, admission::Book, and the Chain that policies are asked through
//! ```
//!
//! What the daemon's control thread does between two waits is one action; the waits (a verdict, a label, a place on a sidecore, a
//! drain, a scrub) are where others come in, and where things fail. A crash comes between any two actions, and within one after
//! each record and label that it makes durable. Not explored here: a label whose writing is said to have failed and has not, and
//! time: a deadline passes at any moment of the state that has it.
//!
//! Each property has a bug that is put in on purpose, and the exploration has to find it.

mod bug;
mod model;
mod plugin;
mod procedure;
mod properties;
mod world;

use std::collections::BTreeSet;

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

use bug::Bug;
use model::{Lifecycle, Order};
use world::Left;

const LIVES: &[Order] = &[Order::Attach, Order::Detach, Order::Suspend, Order::Resume];
const SIZES: &[Order] = &[Order::Attach, Order::Resize(1), Order::Resize(3), Order::Suspend];
const MOVES: &[Order] = &[Order::Move, Order::Shift];

/// What each exploration allows to happen, small enough together for every run of the tests: two channels that are made, meet, and are
/// made again where another was; more requests without faults; a second crash, in the recovery from the first; channels that are
/// resized; and channels that are moved.
const EXPLORED: [Lifecycle; 6] = [
    Lifecycle { left: left(4, 1, 1, 2), devices: 1, orders: LIVES, bug: None },
    Lifecycle { left: left(5, 0, 0, 3), devices: 1, orders: LIVES, bug: None },
    Lifecycle { left: left(3, 2, 1, 2), devices: 1, orders: LIVES, bug: None },
    Lifecycle { left: left(3, 1, 1, 1), devices: 1, orders: SIZES, bug: None },
    Lifecycle { left: left(4, 1, 1, 1), devices: 2, orders: MOVES, bug: None },
    Lifecycle { left: left(3, 2, 0, 1), devices: 2, orders: MOVES, bug: None },
];

const fn left(requests: u8, crashes: u8, faults: u8, created: u8) -> Left {
    Left { requests, crashes, faults, created }
}

/// As many as the tests may use.
const THREADS: usize = 2;

/// L1, L5, ISO1, C2, C3, I1, P1, V1, T1, T3, W1: every state that two channels, racing operators, a lying plugin and crashes can lead to.
#[test]
fn no_race_lie_or_crash_breaks_a_property() {
    let mut happened = BTreeSet::new();
    for explored in EXPLORED {
        let (left, devices) = (explored.left, explored.devices);
        let checker = explored.checker().threads(THREADS).spawn_bfs().join();
        let (reached, different) = (checker.state_count(), checker.unique_state_count());
        println!(
            "{left:?}, {devices} devices: {different} states, reached in {reached} ways, by {} actions at most",
            checker.max_depth()
        );
        for property in checker.model().properties() {
            let found = checker.discovery(property.name).map(|path| path.into_actions());
            match property.expectation {
                Expectation::Sometimes => _ = found.map(|_| happened.insert(property.name)),
                _ => assert_eq!(found, None, "{} is broken", property.name),
            }
        }
    }
    for property in properties::all() {
        let has_to_happen = property.expectation == Expectation::Sometimes;
        assert!(
            !has_to_happen || happened.contains(property.name),
            "it never happens that {}",
            property.name
        );
    }
}

/// L1, L5, ISO1, C2, C3, I1, P1, V1, T1, T3, W1: with its bug put in, each of them is found to be broken.
#[test]
fn the_exploration_catches_each_seeded_bug() {
    for (bug, property) in Bug::ALL {
        let explored = match bug {
            Bug::GrowServesFirst | Bug::ShrinkLabelsFirst | Bug::GrownUnserved => &EXPLORED[3],
            Bug::ArriveUnnoted
            | Bug::RelocateBeforeEnter
            | Bug::GiveBackUnscrubbed
            | Bug::MoveOntoLeftover
            | Bug::PlaceBeforeTaken => &EXPLORED[4],
            _ => &EXPLORED[0],
        };
        let checker = Lifecycle { bug: Some(bug), ..explored.clone() }
            .checker()
            .threads(THREADS)
            .finish_when(HasDiscoveries::AllOf(BTreeSet::from([property])))
            .spawn_bfs()
            .join();
        let path = checker.discovery(property);
        let path = path.unwrap_or_else(|| panic!("{bug:?} breaks {property}, and nobody noticed"));
        println!("{bug:?}: {property} is broken after {:?}", path.into_actions());
    }
}
