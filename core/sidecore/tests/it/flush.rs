//! Flushes of several channels on one namespace.

use vfiomux_spec::virtio::blk::{RequestType, STATUS_OK};

use crate::world::{Plan, World};

fn flushes(world: &mut World) -> u64 {
    world.queue(|queue| queue.flushes())
}

#[test]
fn flushes_of_one_breath_share_one_device_flush() {
    let mut world = World::new(Plan { guests: 4, ..Plan::default() });
    for guest in &mut world.guests {
        guest.request(RequestType::Flush, 0, 0, 0);
        guest.request(RequestType::Flush, 0, 1, 0);
    }
    world.breathe(5);
    for guest in &mut world.guests {
        assert_eq!(guest.returned().iter().map(|done| done.1).collect::<Vec<_>>(), [STATUS_OK; 2]);
    }
    assert_eq!(flushes(&mut world), 1);
    let merged: u64 = world.guests.iter().map(|guest| guest.counters.flushes_merged.get()).sum();
    assert_eq!(merged, 7);
}

/// A flush at the device does not cover writes that completed after it was submitted: who comes later waits for the next.
#[test]
fn a_flush_that_comes_while_one_is_at_the_device_waits_for_the_next() {
    let mut world = World::new(Plan { guests: 3, ..Plan::default() });
    world.queue(|queue| queue.stuck = true);
    world.guests[0].request(RequestType::Flush, 0, 0, 0);
    world.breathe(2);
    world.guests[0].request(RequestType::Flush, 0, 1, 0);
    world.guests[1].request(RequestType::Flush, 0, 0, 0);
    world.guests[2].request(RequestType::Flush, 0, 0, 0);
    world.breathe(2);
    assert_eq!(world.queue(|queue| queue.commands().count()), 1);
    world.queue(|queue| queue.stuck = false);
    world.breath();
    assert_eq!(world.guests[0].returned().len(), 1, "only the first is answered by the first");
    assert_eq!(world.guests[1].returned(), []);
    world.breathe(4);
    assert_eq!((world.guests[0].returned().len(), world.guests[1].returned().len()), (1, 1));
    assert_eq!(flushes(&mut world), 2);
}

#[test]
fn without_a_volatile_cache_a_flush_costs_the_device_nothing() {
    let mut world = World::new(Plan { limits: |limits| limits.volatile_cache = false, ..Plan::default() });
    world.guests[0].request(RequestType::Flush, 0, 0, 0);
    world.breath();
    assert_eq!(world.guests[0].returned()[0].1, STATUS_OK);
    assert_eq!(flushes(&mut world), 0);
}

#[test]
fn a_flush_that_fails_is_an_error_for_all_who_share_it() {
    let mut world = World::new(Plan::default());
    world.queue(|queue| queue.plan.error_per_mille = 1000);
    for guest in &mut world.guests {
        guest.request(RequestType::Flush, 0, 0, 0);
    }
    world.breathe(5);
    for guest in &mut world.guests {
        assert_eq!(guest.returned()[0].1, vfiomux_spec::virtio::blk::STATUS_IOERR);
    }
}
