//! What has to hold in every state, and what has to happen in some, for the exploration to mean anything.

use stateright::Property;

use vfiomux_manager::extent::{Extent, minus};
use vfiomux_manager::label::Label;
use vfiomux_manager::lifecycle::{Life as _, Oper, Step};

use crate::model::Lifecycle;
use crate::world::{CAPACITY_OPS, CHANNEL_BLOCKS, Daemon, World, blocks, pool, reserved};

/// Who asked for a larger channel and is not refused has one.
pub(crate) const GROWN_IS_SERVED: &str = "what is said to be larger is served";

pub(crate) fn all() -> Vec<Property<Lifecycle>> {
    vec![
        Property::always("L1", |_, world: &World| !world.seen.broken.contains("L1")),
        Property::always("L5", |_, world: &World| reservations_fit(world)),
        Property::always("ISO1", |_, world: &World| extents_are_disjoint(world)),
        Property::always("C2", |_, world: &World| what_is_served_is_its_own(world)),
        Property::always("I1", |_, world: &World| one_place_each(world)),
        Property::always("P1", |_, world: &World| !world.seen.broken.contains("P1")),
        Property::always("V1", |_, world: &World| transient_states_end(world)),
        Property::always("T1", |_, world: &World| nothing_refers_to_the_destroyed(world)),
        Property::always("T3", |_, world: &World| at_rest_there_is_what_is_live(world)),
        Property::always("W1", |_, world: &World| journal_is_the_present(world)),
        Property::always("C3", |_, world: &World| what_is_free_is_clean(world)),
        Property::always("what serves has a place", |_, world: &World| what_serves_has_a_place(world)),
        Property::always(GROWN_IS_SERVED, |_, world: &World| !world.seen.broken.contains(GROWN_IS_SERVED)),
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
        Property::sometimes("a channel is larger", |_, world: &World| has_size(world, CHANNEL_BLOCKS + 1)),
        Property::sometimes("a channel is smaller", |_, world: &World| has_size(world, CHANNEL_BLOCKS - 1)),
        Property::sometimes("a channel serves on the other device", |_, world: &World| {
            daemon(world).is_some_and(|daemon| daemon.seats.values().flatten().any(|seat| seat.device == 1))
        }),
        Property::sometimes("a channel serves on the other sidecore", |_, world: &World| {
            daemon(world).is_some_and(|daemon| daemon.seats.values().flatten().any(|seat| seat.line == 1))
        }),
        Property::sometimes("only the device that a channel has left is here", |_, world: &World| {
            daemon(world).is_some_and(|daemon| {
                daemon.pools[0].is_some()
                    && daemon.channels.values().any(|c| c.device.is_none() && c.setting.pool == "p1")
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

/// Whether a channel that is here has so many blocks, and nothing is under way with it.
fn has_size(world: &World, wanted: u64) -> bool {
    daemon(world)
        .into_iter()
        .flat_map(|daemon| daemon.channels.values())
        .any(|channel| channel.flow.is_none() && blocks(&channel.extents).count() as u64 == wanted)
}

/// L5: what sidecores hold themselves to never adds up to more than a device can do.
fn reservations_fit(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    (0..daemon.pools.len()).all(|device| {
        let seats = daemon.seats.values().flatten().filter(|seat| seat.device == device);
        seats.map(|seat| seat.ops).sum::<u64>() <= CAPACITY_OPS
    })
}

/// ISO1: no block has two owners, in memory or on a label.
fn extents_are_disjoint(world: &World) -> bool {
    let alone = |mut owned: Vec<u64>| {
        let all = owned.len();
        owned.sort_unstable();
        owned.dedup();
        owned.len() == all
    };
    world.disk.labels.iter().enumerate().all(|(device, label)| {
        let on_label = label.channels.iter().flat_map(|entry| blocks(&entry.extents));
        let here = daemon(world).into_iter().flat_map(|daemon| daemon.channels.values());
        let here = here.filter(|channel| channel.device == Some(device));
        let in_memory = here.flat_map(|channel| blocks(&channel.extents));
        alone(on_label.chain(blocks(&label.unscrubbed)).collect()) && alone(in_memory.collect())
    })
}

/// C2: what a channel serves is its own, and its device's label says so.
fn what_is_served_is_its_own(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    daemon.seats.iter().flat_map(|(id, seats)| seats.iter().map(move |seat| (id, seat))).all(|(id, seat)| {
        let own = world.disk.labels[seat.device].extents_of(id);
        minus(&seat.extents, &own).is_empty()
    })
}

/// I1: a channel and its rings are on one sidecore at a time.
fn one_place_each(world: &World) -> bool {
    daemon(world).is_none_or(|daemon| daemon.seats.values().all(|seats| seats.len() <= 1))
}

/// V1: whatever is transient has an operation that goes on, a deadline, and a successor when that passes.
fn transient_states_end(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    let here = daemon.channels.values().filter(|channel| channel.device.is_some());
    here.filter(|channel| channel.setting.oper.deadline().is_some()).all(|channel| {
        channel.flow.is_some() && channel.armed && channel.setting.oper.after(Step::Overdue).is_some()
    })
}

/// T1: nothing that lasts names a channel that is gone.
fn nothing_refers_to_the_destroyed(world: &World) -> bool {
    let gone = |id: &String| {
        let held = daemon(world).is_some_and(|daemon| {
            daemon.channels.contains_key(id)
                || daemon.seats.contains_key(id)
                || aligned(daemon)
                    .books
                    .iter()
                    .any(|book| book.holders().iter().any(|entry| entry.holder.id == *id))
        });
        // A device that could not let go of a channel that has moved is remembered, until it is next taken up.
        let stale = |pool: &String| world.disk.journal.elsewhere.contains(&(pool.clone(), id.clone()));
        let named = |label: &Label| !label.extents_of(id).is_empty() && !stale(&label.pool);
        !held && !world.disk.labels.iter().any(named)
    };
    world.seen.destroyed.iter().all(gone)
}

/// The daemon, its books made equal to what is.
fn aligned(daemon: &Daemon) -> Daemon {
    let mut aligned = daemon.clone();
    aligned.align();
    aligned
}

/// T3: when nothing is under way, labels, pools, books and journal are what the live channels come to, after any crash and
/// recovery; and none was lost on the way.
fn at_rest_there_is_what_is_live(world: &World) -> bool {
    if world.seen.broken.contains("T3") {
        return false;
    }
    let Some(daemon) = daemon(world) else { return true };
    let at_rest = daemon.channels.values().all(|channel| channel.flow.is_none())
        && daemon.leftovers.is_empty()
        && daemon.asked.iter().all(Option::is_none);
    if !at_rest {
        return true;
    }
    let journal = &world.disk.journal;
    let promised = daemon.channels.iter().all(|(id, channel)| {
        let reserved = reserved(&channel.setting);
        let in_force = daemon.seats.get(id).into_iter().flatten().all(|seat| seat.ops == reserved);
        world.seen.promised.get(id) == Some(&reserved) && in_force && serves_what_it_has(world, id)
    });
    // The end of a channel is remembered only while its blocks wait to be scrubbed, or its device to come back.
    let journalled = journal.channels.values().all(|setting| {
        let label = world.disk.labels.iter().position(|label| label.pool == setting.pool);
        let waits = label.is_some_and(|device| {
            let label = &world.disk.labels[device];
            let named = !label.unscrubbed.is_empty() || !label.extents_of(&setting.id).is_empty();
            named || daemon.pools[device].is_none()
        });
        daemon.channels.contains_key(&setting.id) || setting.oper == Oper::Destroyed && waits
    });
    let aligned = aligned(daemon);
    let devices = || (0..daemon.pools.len()).filter(|&device| daemon.pools[device].is_some());
    promised && journalled && devices().all(|device| is_what_is_live(world, &aligned, device))
}

/// Whether a channel that has a place serves there what it has.
pub(crate) fn serves_what_it_has(world: &World, id: &str) -> bool {
    let Some(channel) = world.channel(id) else { return true };
    let seats = daemon(world).and_then(|daemon| daemon.seats.get(id));
    seats.into_iter().flatten().all(|seat| seat.extents == channel.extents)
}

/// The same, of one device that is here.
fn is_what_is_live(world: &World, daemon: &Daemon, device: usize) -> bool {
    let (label, journal) = (&world.disk.labels[device], &world.disk.journal);
    let here = || daemon.channels.iter().filter(|(_, channel)| channel.device == Some(device));
    let live = here().all(|(id, channel)| label.extents_of(id) == channel.extents);
    // What else the label names could not be taken off it, and the journal knows.
    let stale = |id: &String| journal.elsewhere.contains(&(label.pool.clone(), id.clone()));
    let ended = |id: &String| journal.channels.get(id).is_some_and(|setting| setting.oper == Oper::Destroyed);
    let named = label
        .channels
        .iter()
        .all(|entry| here().any(|(id, _)| *id == entry.id) || stale(&entry.id) || ended(&entry.id));
    let mut forgotten = journal.elsewhere.iter().filter(|(pool, _)| *pool == label.pool);
    let cleared = forgotten.all(|(_, id)| !label.extents_of(id).is_empty() || !label.unscrubbed.is_empty());
    let mut rebuilt = pool();
    let taken = label.channels.iter().map(|entry| &entry.extents).chain([&label.unscrubbed]);
    let carved = taken.into_iter().all(|extents| rebuilt.take_exactly(extents).is_ok())
        && Some(&rebuilt) == daemon.pools[device].as_ref();
    let reservations = here().map(|(_, channel)| reserved(&channel.setting)).sum::<u64>();
    live && named && cleared && carved && daemon.books[device].held_ops() == reservations
}

/// W1: what a replay gives is what is, for every channel that is.
fn journal_is_the_present(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    daemon.channels.iter().all(|(id, channel)| world.disk.journal.channels.get(id) == Some(&channel.setting))
}

/// C3: blocks that may be given to somebody hold nobody's data.
fn what_is_free_is_clean(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    world.disk.data.keys().all(|&(device, block)| {
        let dirty = [Extent { start: block, blocks: 1 }];
        // What is free can be taken.
        daemon.pools[device].as_ref().is_none_or(|pool| pool.clone().take_exactly(&dirty).is_err())
    })
}

/// A channel that is said to serve, or to be able to, has a place on a sidecore.
fn what_serves_has_a_place(world: &World) -> bool {
    let Some(daemon) = daemon(world) else { return true };
    daemon.channels.values().all(|channel| {
        let serves = matches!(channel.setting.oper, Oper::Provisioned | Oper::Listening | Oper::Active);
        !serves
            || channel.device.is_none()
            || channel.flow.is_some()
            || daemon.seats.contains_key(&channel.setting.id)
    })
}
