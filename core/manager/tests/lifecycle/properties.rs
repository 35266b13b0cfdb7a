//! What has to hold in every state, and what has to happen in some, for the exploration to mean anything.

use stateright::Property;

use vfiomux_manager::lifecycle::{Life as _, Oper, Step};

use crate::model::Lifecycle;
use crate::world::{CAPACITY_OPS, Daemon, World, blocks, pool, reserved};

pub(crate) fn all() -> Vec<Property<Lifecycle>> {
    vec![
        Property::always("L1", |_, world: &World| !world.seen.broken.contains("L1")),
        Property::always("L5", |_, world: &World| reservations_fit(world)),
        Property::always("ISO1", |_, world: &World| extents_are_disjoint(world)),
        Property::always("P1", |_, world: &World| !world.seen.broken.contains("P1")),
        Property::always("V1", |_, world: &World| transient_states_end(world)),
        Property::always("T1", |_, world: &World| nothing_refers_to_the_destroyed(world)),
        Property::always("T3", |_, world: &World| at_rest_there_is_what_is_live(world)),
        Property::always("W1", |_, world: &World| journal_is_the_present(world)),
        Property::always("C3", |_, world: &World| what_is_free_is_clean(world)),
        Property::always("what serves has a place", |_, world: &World| what_serves_has_a_place(world)),
        Property::sometimes("both channels are active", |_, world: &World| {
            daemon(world).is_some_and(|daemon| {
                daemon.channels.values().filter(|channel| channel.setting.oper == Oper::Active).count() == 2
            })
        }),
        Property::sometimes("a verdict comes too late", |_, world: &World| world.seen.outdated),
        Property::sometimes("blocks have a second owner", |_, world: &World| world.seen.reused),
        Property::sometimes("a channel comes back to be destroyed further", |_, world: &World| {
            daemon(world).is_some_and(|daemon| {
                world.left.crashes == 0
                    && daemon.channels.values().any(|channel| channel.setting.oper == Oper::Scrubbing)
            })
        }),
        Property::sometimes("both operators wait for verdicts", |_, world: &World| {
            daemon(world).is_some_and(|daemon| daemon.asked.iter().all(Option::is_some))
        }),
    ]
}

fn daemon(world: &World) -> Option<&Daemon> {
    world.daemon.as_ref()
}

/// L5: what sidecores hold themselves to never adds up to more than there is.
fn reservations_fit(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    daemon.seats.values().sum::<u64>() <= CAPACITY_OPS
}

/// ISO1: no block has two owners, in memory or on the label.
fn extents_are_disjoint(world: &World) -> bool {
    let alone = |mut owned: Vec<u64>| {
        let all = owned.len();
        owned.sort_unstable();
        owned.dedup();
        owned.len() == all
    };
    let on_label: Vec<u64> = world
        .disk
        .labelled
        .values()
        .flat_map(|extents| blocks(extents))
        .chain(blocks(&world.disk.unscrubbed))
        .collect();
    let in_memory: Vec<u64> = daemon(world)
        .iter()
        .flat_map(|daemon| daemon.channels.values())
        .flat_map(|channel| blocks(&channel.extents))
        .collect();
    alone(on_label) && alone(in_memory)
}

/// V1: whatever is transient has an operation that goes on, a deadline, and a successor when that passes.
fn transient_states_end(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    daemon.channels.values().filter(|channel| channel.setting.oper.deadline().is_some()).all(|channel| {
        channel.flow.is_some() && channel.armed && channel.setting.oper.after(Step::Overdue).is_some()
    })
}

/// T1: nothing that lasts names a channel that is gone.
fn nothing_refers_to_the_destroyed(world: &World) -> bool {
    let gone = |id: &String| {
        let held = daemon(world).is_some_and(|daemon| {
            daemon.channels.contains_key(id)
                || daemon.seats.contains_key(id)
                || aligned(daemon).book.holders().iter().any(|entry| entry.holder.id == *id)
        });
        !held && !world.disk.labelled.contains_key(id)
    };
    world.seen.destroyed.iter().all(gone)
}

/// The daemon, its book made equal to what is.
fn aligned(daemon: &Daemon) -> Daemon {
    let mut aligned = daemon.clone();
    aligned.align();
    aligned
}

/// T3: when nothing is under way, label, pool, book and journal are what the live channels come to, after any crash and recovery.
fn at_rest_there_is_what_is_live(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    let at_rest = daemon.channels.values().all(|channel| channel.flow.is_none())
        && daemon.leftovers.is_empty()
        && daemon.asked.iter().all(Option::is_none);
    if !at_rest {
        return true;
    }
    let on_label = || daemon.channels.iter().filter(|(_, channel)| !channel.extents.is_empty());
    let labelled = on_label().count() == world.disk.labelled.len()
        && on_label().all(|(id, channel)| world.disk.labelled.get(id) == Some(&channel.extents));
    let mut rebuilt = pool();
    let taken = world.disk.labelled.values().chain([&world.disk.unscrubbed]);
    let carved =
        taken.into_iter().all(|extents| rebuilt.take_exactly(extents).is_ok()) && rebuilt == daemon.pool;
    let reservations = daemon.channels.values().map(|channel| reserved(&channel.setting)).sum::<u64>();
    let promised = daemon.channels.iter().all(|(id, channel)| {
        world.seen.promised.get(id) == Some(&reserved(&channel.setting))
            && daemon.seats.get(id).is_none_or(|in_force| *in_force == reserved(&channel.setting))
    });
    // The end of a channel is remembered only while its blocks wait to be scrubbed.
    let journalled = world.disk.journal.channels.values().all(|setting| {
        daemon.channels.contains_key(&setting.id)
            || setting.oper == Oper::Destroyed && !world.disk.unscrubbed.is_empty()
    });
    labelled && carved && promised && journalled && aligned(daemon).book.held_ops() == reservations
}

/// W1: what a replay gives is what is, for every channel that is.
fn journal_is_the_present(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    daemon.channels.iter().all(|(id, channel)| world.disk.journal.channels.get(id) == Some(&channel.setting))
}

/// C3: blocks that may be given to somebody hold nobody's data.
fn what_is_free_is_clean(world: &World) -> bool {
    !world.seen.broken.contains("C3")
}

/// A channel that is said to serve, or to be able to, has a place on a sidecore.
fn what_serves_has_a_place(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    daemon.channels.values().all(|channel| {
        let serves = matches!(channel.setting.oper, Oper::Provisioned | Oper::Listening | Oper::Active);
        !serves || channel.flow.is_some() || daemon.seats.contains_key(&channel.setting.id)
    })
}
