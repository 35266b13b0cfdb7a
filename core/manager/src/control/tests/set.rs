//! Changing what a channel is called and what its guest sees of it; and what this version refuses.

use vfiomux_rpc::{Change, ErrorCode, EventKind, Labels, call};

use super::guest::{Guest, OK, pattern};
use super::world::{World, assert_refused};
use crate::lifecycle::Oper;

const SPEC: &str = "sim:nvme,size=64M";

fn of(name: &str) -> call::ChannelSet {
    call::ChannelSet { name: name.to_owned(), ..call::ChannelSet::default() }
}

/// Under another name it is the same channel, with its guest at work; and so after a restart.
#[test]
fn a_channel_is_renamed_and_labelled_while_its_guest_works() {
    let mut world = World::new(SPEC);
    let created = world.create("disk", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    let labels = Labels([("tier".to_owned(), "gold".to_owned())].into());
    let wanted =
        call::ChannelSet { new_name: Some("data".to_owned()), labels: Some(labels.clone()), ..of("disk") };
    let set = world.call(&wanted).unwrap();
    assert_eq!((set.id.as_str(), set.generation), (created.id.as_str(), created.generation + 1));
    assert_eq!((set.name.as_str(), &set.labels), ("data", &labels));
    assert_eq!(guest.write(0, &pattern(1, 4096)), OK);
    assert_refused(world.call(&call::ChannelShow { name: "disk".to_owned() }), ErrorCode::NotFound, "list");
    assert_eq!(world.devices[0].label().channels[0].name, "data");
    session.hang_up();
    world.restart();
    assert_eq!(world.show("data").labels, labels);
    world.assert_journal_tells_the_same();
}

/// L1: what is recorded of a channel goes on under its new name, whoever had that before.
#[test]
fn a_channel_renamed_to_what_another_was_called_goes_on_with_its_life() {
    let world = World::new(SPEC);
    world.create("gone", 8);
    world.destroy("gone", false).unwrap();
    world.create("disk", 8);
    world.call(&call::ChannelSet { new_name: Some("gone".to_owned()), ..of("disk") }).unwrap();
    let told = world.wait_event("its new name", |event| event.kind == EventKind::Setting);
    assert_eq!((told.from.as_deref(), told.to.as_deref()), (Some("disk"), Some("gone")));
    let session = Guest::new().connect(&world.endpoint("disk").path);
    world.wait_oper("gone", Oper::Active);
    session.hang_up();
    world.assert_lives_by_the_table();
}

#[test]
fn what_a_guest_looks_at_once_changes_while_nobody_can_be_connected() {
    let mut world = World::new(SPEC);
    world.create("disk", 8);
    let wanted = call::ChannelSet {
        serial: Some("VOL-0042".to_owned()),
        queues: Some(4),
        read_only: Some(true),
        ..of("disk")
    };
    assert_refused(world.call(&wanted), ErrorCode::Busy, "channel detach disk");
    world.detach("disk").unwrap();
    let set = world.call(&wanted).unwrap();
    assert_eq!((set.queues, set.read_only, set.serial.as_deref()), (4, true, Some("VOL-0042")));
    world.attach("disk").unwrap();
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    assert_ne!(guest.write(0, &pattern(1, 4096)), OK, "it is read only");
    session.hang_up();
    world.restart();
    let shown = world.show("disk");
    assert_eq!((shown.queues, shown.read_only, shown.serial), (4, true, set.serial));
    let label = world.devices[0].label();
    assert_eq!((label.channels[0].queues, label.channels[0].read_only), (4, true));
}

#[test]
fn what_cannot_be_set_and_what_is_only_tried_change_nothing() {
    let world = World::new(SPEC);
    let created = world.create("disk", 8);
    world.create("other", 8);
    let renamed = |name: &str| call::ChannelSet { new_name: Some(name.to_owned()), ..of("disk") };
    assert_refused(world.call(&renamed("other")), ErrorCode::Exists, "another name");
    let long = call::ChannelSet { serial: Some("x".repeat(21)), ..of("disk") };
    assert_refused(world.call(&long), ErrorCode::InvalidArgument, "1 to 20");
    let many = call::ChannelSet { queues: Some(1000), ..of("disk") };
    assert_refused(world.call(&many), ErrorCode::InvalidArgument, "1 to 64");
    let dry = Change { dry_run: true, ..Change::default() };
    world.call_with(&renamed("new"), &dry).unwrap();
    world.call(&renamed("disk")).unwrap();
    world.call(&of("disk")).unwrap();
    let stale = Change { expected_generation: Some(99), ..Change::default() };
    assert_refused(world.call_with(&renamed("new"), &stale), ErrorCode::Conflict, "generation");
    assert_eq!(world.show("disk").generation, created.generation);
}

#[test]
fn what_is_not_in_this_version_says_so_and_what_to_do_instead() {
    let world = World::new(SPEC);
    world.create("disk", 8);
    let name = || "disk".to_owned();
    let migrate = call::ChannelMigrate { name: name(), to: "there".to_owned(), check: true };
    assert_refused(world.call(&migrate), ErrorCode::Unsupported, "channel move");
    let snapshot = call::ChannelSnapshot { name: name(), snapshot: "before".to_owned() };
    assert_refused(world.call(&snapshot), ErrorCode::Unsupported, "channel suspend");
    let clone = call::ChannelClone { name: name(), new_name: "copy".to_owned() };
    assert_refused(world.call(&clone), ErrorCode::Unsupported, "channel create");
    let nobody = call::ChannelClone { name: "nobody".to_owned(), new_name: "copy".to_owned() };
    assert_refused(world.call(&nobody), ErrorCode::NotFound, "channel list");
}
