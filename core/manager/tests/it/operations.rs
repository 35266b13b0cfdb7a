//! What operators ask of channels, and what they are refused.

use vfiomux_manager::lifecycle::Oper;
use vfiomux_rpc::{Change, ErrorCode, call};

use crate::guest::{Guest, OK, pattern};
use crate::world::{MIB, World, assert_refused, extents_of};

const SPEC: &str = "sim:nvme,size=64M";

#[test]
fn a_channel_is_created_used_and_destroyed_without_a_trace() {
    let world = World::new(SPEC);
    let (mappings, lanes) = (world.devices[0].mappings(), world.lanes_used());
    let made = world.create("disk", 8);
    assert_eq!((made.oper, made.size_bytes), (Oper::Listening, 8 * MIB));
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(8, &pattern(1, 65536)), OK);
    assert_eq!(guest.read(8, 65536), pattern(1, 65536));
    assert_eq!(world.show("disk").oper, Oper::Active);
    let extent = extents_of(&made)[0];
    assert!(!world.devices[0].is_zero(extent));
    session.hang_up();
    world.wait_oper("disk", Oper::Listening);
    let gone = world.destroy("disk", false).unwrap();
    assert_eq!(gone.oper, Oper::Destroyed);
    // T1: no mapping, no queue, no endpoint, no data.
    assert_eq!((world.devices[0].mappings(), world.lanes_used()), (mappings, lanes));
    assert!(!world.endpoint("disk").path.exists());
    world.assert_whole();
    world.assert_lives_by_the_table();
    assert_refused(world.call(&call::ChannelShow { name: "disk".to_owned() }), ErrorCode::NotFound, "list");
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = World::new(SPEC);
    let dry = Change { dry_run: true, ..Change::default() };
    let free = world.free_bytes();
    let answer = world.call_with(&world.creation("disk", 8), &dry).unwrap();
    assert_eq!((answer.name.as_str(), answer.size_bytes), ("disk", 8 * MIB));
    assert_eq!(world.free_bytes(), free);
    assert!(world.call(&call::ChannelList { tenant: None }).unwrap().is_empty());

    let made = world.create("disk", 8);
    let name = || "disk".to_owned();
    world.call_with(&call::ChannelDetach { name: name() }, &dry).unwrap();
    world.call_with(&call::ChannelSuspend { name: name() }, &dry).unwrap();
    world.call_with(&call::ChannelResize { name: name(), size_bytes: 4 * MIB }, &dry).unwrap();
    world.call_with(&call::ChannelDestroy { name: name(), force: true }, &dry).unwrap();
    world.call_with(&call::DeviceFormat { device: "sim0".to_owned(), erase: true }, &dry).unwrap_err();
    let after = world.show("disk");
    assert_eq!(
        (after.oper, after.generation, after.extents),
        (Oper::Listening, made.generation, made.extents)
    );
}
