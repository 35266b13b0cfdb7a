//! C3: what a channel wrote, no other channel reads; and a destroyed channel does not come back.

use vfiomux_rpc::{ErrorCode, EventKind, call};
use vfiomux_sim::{Action, Fault, Match, QueueMatch};
use vfiomux_spec::nvme::Status;

use super::guest::{Guest, OK, pattern};
use super::world::{World, assert_refused, extents_of, wait};
use crate::lifecycle::Oper;
use crate::seeded::Bug;

const WRITE: u8 = 0x01;
const WRITE_ZEROES: u8 = 0x08;

/// Fills the first and the last block of every extent behind the daemon's back.
fn dirty(world: &World, name: &str) {
    for extent in extents_of(&world.show(name)) {
        for lba in [extent.start, extent.start + extent.blocks - 1] {
            world.sim().write_blocks(1, lba, &pattern(7, 512)).unwrap();
        }
    }
}

fn fail_write_zeroes(world: &World, skip: u32) {
    let when = Match { queue: QueueMatch::Io, opcode: Some(WRITE_ZEROES), skip, ..Match::default() };
    world.sim().inject(Fault { when, action: Action::Fail(Status::INTERNAL_ERROR.field()) });
}

fn destroy_under_load(bug: Option<Bug>) {
    let mut world = World::idle(&["sim:nvme,size=64M,service-ns=200000"]);
    world.bug = bug;
    world.start();
    world.create("disk", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(3, 65536)), OK);
    for sector in 0..12 {
        guest.submit_write(sector * 256, &pattern(3, 65536));
    }
    assert_refused(world.destroy("disk", false), ErrorCode::Busy, "--force");
    world.destroy("disk", true).unwrap();
    world.assert_whole();
    world.assert_lives_by_the_table();
    session.hang_up();
}

/// C3, also on forced destroy: a guest that writes while its channel is being destroyed leaves nothing behind.
#[test]
fn a_channel_destroyed_under_load_is_scrubbed() {
    destroy_under_load(None);
}

/// C3's seeded bug.
#[test]
#[should_panic(expected = "is free and was not scrubbed (C3)")]
fn a_forced_destroy_that_skips_the_scrub_is_caught() {
    destroy_under_load(Some(Bug::SkipScrub));
}

/// A command of one scrub that ends late is not taken for one of the next.
#[test]
fn a_scrub_that_failed_does_not_vouch_for_the_next() {
    let mut world = World::new("sim:nvme,size=1G");
    for name in ["a", "b"] {
        world.create(name, 320);
        dirty(&world, name);
    }
    fail_write_zeroes(&world, 0);
    assert_refused(world.destroy("a", false), ErrorCode::DeviceFault, "kept back");
    fail_write_zeroes(&world, 4);
    assert_refused(world.destroy("b", false), ErrorCode::DeviceFault, "kept back");
    // What was kept back is not given to anybody, and scrubbed at the next start.
    assert_refused(world.call(&world.creation("c", 600)), ErrorCode::NoSpace, "free");
    world.restart();
    world.wait_scrubbed();
    world.assert_whole();
}

/// L1, with the check before it left out: what the table refuses to destroy is not, whoever let that through. Its first end goes on
/// alone.
#[test]
fn a_destruction_that_the_table_refuses_ends_nothing() {
    let mut world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    dirty(&world, "disk");
    let fault = |opcode, action| {
        let when = Match { queue: QueueMatch::Io, opcode: Some(opcode), ..Match::default() };
        world.sim().inject(Fault { when, action });
    };
    fault(WRITE, Action::Fail(Status::INTERNAL_ERROR.field()));
    assert_refused(world.destroy("disk", false), ErrorCode::DeviceFault, "kept back");
    // Its label names it still: the next daemon goes on with its end.
    fault(WRITE_ZEROES, Action::Hang);
    world.bug = Some(Bug::DestroyUnchecked);
    world.restart();
    assert_eq!(world.show("disk").oper, Oper::Scrubbing);
    assert_refused(world.destroy("disk", true), ErrorCode::Conflict, "it is on its way");
    wait("its scrub goes on", || world.sim().release_hung().then_some(()));
    world.wait_scrubbed();
    wait("it is gone", || world.call(&call::ChannelList { tenant: None }).unwrap().is_empty().then_some(()));
    let complaints: Vec<_> =
        world.events().into_iter().filter(|event| event.kind == EventKind::Fault).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    world.assert_whole();
    world.assert_lives_by_the_table();
}

/// L1: as above with the device away, which forgives that nothing could be scrubbed, and nothing else.
#[test]
fn a_destruction_that_the_table_refuses_is_not_said_to_be_done_without_the_device() {
    let world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    let when = Match { queue: QueueMatch::Io, opcode: Some(WRITE_ZEROES), ..Match::default() };
    world.sim().inject(Fault { when, action: Action::Hang });
    let destroy = call::ChannelDestroy { name: "disk".to_owned(), force: false };
    let job = world.begin(&destroy).unwrap().id;
    world.wait_oper("disk", Oper::Scrubbing);
    let mut wreck = world.wreck();
    wait("its scrub goes on", || world.sim().release_hung().then_some(()));
    world.finish(job);

    wreck.bug = Some(Bug::DestroyUnchecked);
    wreck.start_on(Vec::new());
    assert_eq!(wreck.show("disk").oper, Oper::Scrubbing);
    assert_refused(wreck.destroy("disk", true), ErrorCode::Conflict, "it is on its way");
    assert_eq!(wreck.show("disk").oper, Oper::Scrubbing);
    wreck.restart();
    wait("it is gone", || wreck.call(&call::ChannelList { tenant: None }).unwrap().is_empty().then_some(()));
    wreck.wait_scrubbed();
    wreck.assert_whole();
    wreck.assert_lives_by_the_table();
}

#[test]
fn a_channel_destroyed_without_its_device_is_scrubbed_when_that_comes_back() {
    let mut world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(9, 4096)), OK);
    session.hang_up();
    world.stop();
    world.start_on(Vec::new());
    assert_refused(world.destroy("disk", false), ErrorCode::DeviceFault, "--force");
    world.destroy("disk", true).unwrap();
    world.restart();
    wait("it is gone", || world.call(&call::ChannelList { tenant: None }).unwrap().is_empty().then_some(()));
    world.assert_whole();
    world.assert_lives_by_the_table();
}

/// C3: a label that could not be written leaves a channel all the blocks that it was to lose, and they are scrubbed with the rest.
#[test]
fn what_a_failed_shrink_did_not_take_is_scrubbed_with_the_channel() {
    let mut world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    dirty(&world, "disk");
    let all = extents_of(&world.show("disk"));
    let when = Match { queue: QueueMatch::Io, opcode: Some(WRITE), ..Match::default() };
    world.sim().inject(Fault { when, action: Action::Fail(Status::INTERNAL_ERROR.field()) });
    assert_refused(world.resize("disk", 4), ErrorCode::DeviceFault, "the resize failed");
    let disk = world.show("disk");
    assert_eq!((disk.size_bytes, extents_of(&disk)), (8 << 20, all));
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write((8 << 11) - 8, &pattern(5, 4096)), OK);
    session.hang_up();
    world.destroy("disk", true).unwrap();
    world.assert_whole();
    world.restart();
    world.assert_whole();
}

/// W1: what is gone leaves no line in the journal.
#[test]
fn destroyed_channels_are_not_kept_in_the_journal() {
    let mut world = World::new("sim:nvme,size=64M");
    for _ in 0..3 {
        world.create("disk", 4);
        world.destroy("disk", false).unwrap();
    }
    world.restart();
    world.stop();
    let journal = std::fs::read_to_string(world.state_dir().join("journal")).unwrap();
    assert!(!journal.contains("disk"), "{journal}");
}

/// Whoever formats a device that held channels gives none of their data to the next ones.
#[test]
fn what_a_formatted_device_held_is_scrubbed() {
    let world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    dirty(&world, "disk");
    world.call(&call::ChannelDetach { name: "disk".to_owned() }).unwrap();
    let format = call::DeviceFormat { device: "sim0".to_owned(), erase: true };
    assert_refused(world.call(&format), ErrorCode::Busy, "destroy them first");
    fail_write_zeroes(&world, 0);
    world.destroy("disk", false).unwrap_err();
    world.call(&format).unwrap();
    world.assert_whole();
}
