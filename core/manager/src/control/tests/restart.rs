//! S10: what a daemon finds of its predecessor's.

use vfiomux_rpc::{Admin, ErrorCode, call};

use super::guest::{Guest, OK, Session, pattern};
use super::world::{MIB, World, assert_refused};
use crate::label::COPY_BYTES;
use crate::lifecycle::Oper;
use crate::seeded::Bug;

const SPEC: &str = "sim:nvme,size=64M";

#[test]
fn channels_come_back_with_endpoints_and_data_and_the_suspended_stay_so() {
    let mut world = World::new(SPEC);
    world.create("disk", 8);
    world.create("still", 8);
    world.call(&call::ChannelCreate { endpoint: None, ..world.creation("bare", 4) }).unwrap();
    world.suspend("still").unwrap();
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(3, 4096)), OK);
    let before = world.show("disk");
    world.restart();
    let after = world.show("disk");
    assert_eq!(
        (after.id, after.extents, after.generation, after.oper),
        (before.id, before.extents, before.generation, Oper::Listening)
    );
    assert_eq!(world.show("bare").oper, Oper::Provisioned);
    let still = world.wait_oper("still", Oper::Suspended);
    assert_eq!(still.admin, Admin::Suspended);
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.read(0, 4096), pattern(3, 4096));
    assert_eq!(world.resume("still").unwrap().oper, Oper::Listening);
    world.assert_whole();
    world.assert_lives_by_the_table();
    world.assert_journal_tells_the_same();
}

fn quarantined_by_its_guest(bug: Option<Bug>) -> World {
    let mut world = World::idle(&[SPEC]);
    world.bug = bug;
    world.start();
    world.create("disk", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    guest.break_the_ring();
    world.wait_oper("disk", Oper::Quarantined);
    drop(session);
    world
}

fn stays_quarantined(bug: Option<Bug>) {
    let mut world = quarantined_by_its_guest(bug);
    world.restart();
    assert_eq!(world.show("disk").oper, Oper::Quarantined, "a quarantined channel has come back by itself");
    assert!(!world.endpoint("disk").path.exists());
    assert_eq!(world.resume("disk").unwrap().oper, Oper::Listening);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(1, 512)), OK);
    world.assert_lives_by_the_table();
}

#[test]
fn a_channel_whose_guest_broke_the_rules_stays_quarantined_until_it_is_resumed() {
    stays_quarantined(None);
}

/// W1's seeded bug.
#[test]
#[should_panic(expected = "has come back by itself")]
fn a_transition_that_is_not_journalled_is_caught() {
    stays_quarantined(Some(Bug::UnloggedTransition));
}

#[test]
fn without_a_journal_channels_come_from_the_label() {
    let mut world = World::new(SPEC);
    let before = world.create("disk", 8);
    world.stop();
    std::fs::remove_dir_all(world.state_dir()).unwrap();
    world.start();
    let after = world.show("disk");
    assert_eq!((after.id, after.size_bytes, after.tenant), (before.id, 8 * MIB, "acme".to_owned()));
    assert_eq!((after.oper, after.endpoint), (Oper::Provisioned, None));
    world.attach("disk").unwrap();
    Session::connect(&world.endpoint("disk").path).unwrap();
    world.assert_whole();
}

#[test]
fn one_copy_of_the_label_is_enough() {
    for copy in [0, 1] {
        let mut world = World::new(SPEC);
        world.create("disk", 8);
        world.stop();
        let blocks = COPY_BYTES as u64 / 512;
        world.sim().write_blocks(1, copy * blocks, &vec![0xff; 4096]).unwrap();
        world.start();
        // The older copy may know nothing of the channel yet; the journal then says that it was being made.
        let names = world.call(&call::ChannelList { tenant: None }).unwrap();
        assert!(names.len() <= 1);
        assert!(world.device("sim0").unwrap().namespaces[0].formatted);
    }
}

#[test]
fn a_device_whose_label_is_damaged_is_kept_as_it_is_until_somebody_insists() {
    let mut world = World::new(SPEC);
    world.create("disk", 8);
    world.stop();
    for copy in [0, COPY_BYTES as u64 / 512] {
        world.sim().write_blocks(1, copy + 8, &vec![0xff; 4096]).unwrap();
    }
    world.start();
    let shown = world.show("disk");
    assert_eq!((shown.device.as_str(), shown.sidecore), ("", None));
    assert_refused(world.call(&world.creation("other", 4)), ErrorCode::DeviceFault, "damaged");
    let format = |erase| call::DeviceFormat { device: "sim0".to_owned(), erase };
    assert_refused(world.call(&format(false)), ErrorCode::Busy, "--erase");
    world.call(&format(true)).unwrap();
    world.create("other", 4);
    world.destroy("disk", true).unwrap();
    world.assert_whole();
}

#[test]
fn what_a_device_holds_is_named_before_it_is_erased() {
    let mut world = World::idle(&[SPEC]);
    let mut ext4 = vec![0; 4096];
    ext4[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    world.sim().write_blocks(1, 0, &ext4).unwrap();
    world.format_if_blank = false;
    world.start();
    let format = |erase| call::DeviceFormat { device: "sim0".to_owned(), erase };
    assert_refused(world.call(&world.creation("disk", 4)), ErrorCode::DeviceFault, "ext");
    assert_refused(world.call(&format(false)), ErrorCode::Busy, "ext");
    world.call(&format(true)).unwrap();
    world.create("disk", 4);
    world.assert_whole();
}
