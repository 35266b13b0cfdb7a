//! What operators ask of channels, and what they are refused.

use vfiomux_rpc::{Change, ErrorCode, JobState, call};
use vfiomux_sim::{Action, Fault, Match, QueueMatch};
use vfiomux_spec::nvme::Status;

use super::guest::{Guest, OK, pattern};
use super::world::{MIB, World, assert_refused, extents_of, insist, wait};
use crate::lifecycle::Oper;
use crate::seeded::Bug;

const SPEC: &str = "sim:nvme,size=64M";
/// Opcodes: Create I/O Submission Queue, Write.
const CREATE_SQ: u8 = 0x01;
const WRITE: u8 = 0x01;

/// T1: after it is destroyed nothing of a channel is left.
#[test]
fn a_channel_is_created_used_and_destroyed_without_a_trace() {
    create_use_destroy(None);
}

/// T1's seeded bug.
#[test]
#[should_panic(expected = "queue pairs in use (T1)")]
fn a_queue_pair_that_outlives_its_channel_is_caught() {
    create_use_destroy(Some(Bug::KeepQueuePair));
}

fn create_use_destroy(bug: Option<Bug>) {
    let mut world = World::idle(&[SPEC]);
    world.bug = bug;
    world.start();
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
    assert_eq!(world.lanes_used(), lanes, "queue pairs in use (T1)");
    assert_eq!(world.devices[0].mappings(), mappings);
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

fn change_if(generation: u64) -> Change {
    Change { expected_generation: Some(generation), ..Change::default() }
}

#[test]
fn a_change_of_what_has_changed_meanwhile_is_refused() {
    let world = World::new(SPEC);
    let made = world.create("disk", 8);
    let resize = call::ChannelResize { name: "disk".to_owned(), size_bytes: 16 * MIB };
    assert_refused(
        world.call_with(&resize, &change_if(made.generation + 1)),
        ErrorCode::Conflict,
        "look at it again",
    );
    let resized = world.call_with(&resize, &change_if(made.generation)).unwrap();
    assert!(resized.generation > made.generation);
    let destroy = call::ChannelDestroy { name: "disk".to_owned(), force: false };
    assert_refused(
        world.call_with(&destroy, &change_if(made.generation)),
        ErrorCode::Conflict,
        "look at it again",
    );
    world.call_with(&destroy, &change_if(resized.generation)).unwrap();
}

#[test]
fn a_request_that_is_repeated_gets_the_first_answer_and_does_nothing_more() {
    let world = World::new(SPEC);
    let once = Change { request_id: Some("once".to_owned()), ..Change::default() };
    let first = world.call_with(&world.creation("disk", 8), &once).unwrap();
    let again = world.call_with(&world.creation("disk", 8), &once).unwrap();
    assert_eq!(first.id, again.id);
    assert_refused(world.call(&world.creation("disk", 8)), ErrorCode::Exists, "choose another name");
}

#[test]
fn a_name_is_free_again_after_destroy_and_the_id_is_not() {
    let world = World::new(SPEC);
    let first = world.create("disk", 8);
    world.destroy("disk", false).unwrap();
    let second = world.create("disk", 8);
    assert_ne!(first.id, second.id);
    world.assert_lives_by_the_table();
}

/// Creations that race for more than there is, each from a connection of its own.
fn race(bug: Option<Bug>) {
    let mut world = World::idle(&[SPEC]);
    world.bug = bug;
    world.start();
    let made: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|racer| {
                let world = &world;
                scope.spawn(move || world.call(&world.creation(&format!("disk-{racer}"), 24)))
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let mut used: Vec<_> = made.iter().flatten().flat_map(extents_of).collect();
    used.sort();
    assert!(
        used.windows(2).all(|pair| pair[0].end().unwrap() <= pair[1].start),
        "two channels share blocks (ISO1)"
    );
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 2);
    for refused in made.into_iter().filter(Result::is_err) {
        assert_refused(refused, ErrorCode::NoSpace, "ask for less");
    }
    world.assert_whole();
}

/// ISO1: of two creations that together exceed the pool, one is refused.
#[test]
fn creations_that_race_never_share_a_block() {
    race(None);
}

/// ISO1's seeded bug.
#[test]
#[should_panic(expected = "two channels share blocks (ISO1)")]
fn room_that_is_looked_for_and_not_taken_is_caught() {
    race(Some(Bug::CheckThenAct));
}

#[test]
fn what_a_state_does_not_allow_is_refused_with_what_to_do() {
    let world = World::new(SPEC);
    world.create("disk", 8);
    assert_refused(world.attach("disk"), ErrorCode::Conflict, "detach");
    assert_refused(world.resume("disk"), ErrorCode::Conflict, "detach, suspend or destroy");
    world.suspend("disk").unwrap();
    assert_refused(world.detach("disk"), ErrorCode::Conflict, "resume");
    assert_refused(world.suspend("disk"), ErrorCode::Conflict, "resume");
    world.destroy("disk", false).unwrap();
    assert_refused(world.suspend("disk"), ErrorCode::NotFound, "channel list");
    assert_refused(
        world.call(&call::DeviceClaim { device: "disk".to_owned() }),
        ErrorCode::InvalidArgument,
        "device list",
    );
    assert_refused(
        world.call(&call::DeviceClaim { device: "0000:3f:00.0".to_owned() }),
        ErrorCode::NotFound,
        "device list",
    );
    world.assert_lives_by_the_table();
}

#[test]
fn detached_and_attached_again_elsewhere_it_is_the_same_channel() {
    let world = World::new(SPEC);
    let made = world.create("disk", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(1, 4096)), OK);
    let detached = world.detach("disk").unwrap();
    assert_eq!((detached.oper, detached.endpoint), (Oper::Provisioned, None));
    assert!(!world.endpoint("disk").path.exists());
    let elsewhere = call::ChannelAttach { name: "disk".to_owned(), endpoint: world.endpoint("elsewhere") };
    assert_eq!(world.call(&elsewhere).unwrap().id, made.id);
    let mut other = Guest::new();
    let _session = other.connect(&world.endpoint("elsewhere").path);
    assert_eq!(other.read(0, 4096), pattern(1, 4096));
    world.assert_lives_by_the_table();
}

#[test]
fn a_shrunk_channel_gives_its_blocks_back_scrubbed() {
    let world = World::new(SPEC);
    let made = world.create("disk", 16);
    for extent in extents_of(&made) {
        world.sim().write_blocks(1, extent.end().unwrap() - 1, &pattern(9, 512)).unwrap();
    }
    let free = world.free_bytes();
    let shrunk = world.resize("disk", 4).unwrap();
    assert_eq!((shrunk.size_bytes, world.free_bytes()), (4 * MIB, free + 12 * MIB));
    assert_refused(world.resize("disk", 500), ErrorCode::NoSpace, "ask for less");
    world.assert_whole();
    world.assert_lives_by_the_table();
}

/// Quarantines a channel while the label on which it is larger is being written; `busy` with a write of its own at the device, so that
/// it still has its place when the label is there.
fn quarantined_while_it_grows(busy: bool) {
    let mut world = World::new(SPEC);
    world.create("disk", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    let hang_next_write = || {
        let when = Match { queue: QueueMatch::Io, opcode: Some(WRITE), ..Match::default() };
        world.sim().inject(Fault { when, action: Action::Hang });
    };
    if busy {
        let before = world.sim().outstanding();
        hang_next_write();
        guest.submit_write(0, &pattern(1, 4096));
        wait("its write is on its way", || (world.sim().outstanding() > before).then_some(()));
    }
    let (labels, before) = (world.devices[0].label().generation, world.sim().outstanding());
    hang_next_write();
    let job = world.begin(&call::ChannelResize { name: "disk".to_owned(), size_bytes: 16 * MIB }).unwrap().id;
    wait("the label is being written", || (world.sim().outstanding() > before).then_some(()));
    guest.break_the_ring();
    world.wait_oper("disk", Oper::Quarantined);
    assert!(world.sim().release_hung(), "the label is written at last");
    let resized = world.finish(job);
    assert_eq!(world.sim().release_hung(), busy, "its own write was at the device until then");
    assert!(world.devices[0].label().generation > labels, "the label was written");
    assert_eq!(resized.state, JobState::Failed, "nobody serves what was added");
    let complaint = resized.error.unwrap();
    assert!(
        complaint.message.contains("is quarantined, and has its new size when it is resumed"),
        "{complaint}"
    );
    drop(session);
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        let disk = world.show("disk");
        assert_eq!((disk.oper, disk.size_bytes), (Oper::Quarantined, 16 * MIB));
    }
    assert_eq!(insist(|| world.resume("disk")).oper, Oper::Listening);
    let mut guest = Guest::new();
    let mut session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(session.capacity_bytes(), 16 * MIB);
    assert_eq!(guest.write(16 * MIB / 512 - 8, &pattern(2, 4096)), OK);
    session.hang_up();
    world.assert_lives_by_the_table();
}

/// A channel that nobody serves any more when its label has grown is not said to have been resized, and is when it is resumed.
#[test]
fn a_channel_that_is_quarantined_while_it_grows_has_its_new_size_when_it_is_resumed() {
    quarantined_while_it_grows(false);
}

/// As above, with its sidecore still asked, and refusing.
#[test]
fn a_channel_that_is_quarantined_at_work_while_it_grows_has_its_new_size_when_it_is_resumed() {
    quarantined_while_it_grows(true);
}

/// A creation whose queue cannot be made fails, holds what its label names until it is destroyed, and leaks nothing.
#[test]
fn a_creation_that_fails_half_way_can_be_cleared_away() {
    let mut world = World::new(SPEC);
    let (free, lanes) = (world.free_bytes(), world.lanes_used());
    let when = Match { queue: QueueMatch::Admin, opcode: Some(CREATE_SQ), ..Match::default() };
    world.sim().inject(Fault { when, action: Action::Fail(Status::INTERNAL_ERROR.field()) });
    assert_refused(world.call(&world.creation("disk", 8)), ErrorCode::DeviceFault, "destroy the channel");
    assert_eq!(world.show("disk").oper, Oper::Failed);
    assert!(!world.endpoint("disk").path.exists());
    assert_eq!(world.lanes_used(), lanes);
    world.restart();
    assert_eq!(world.show("disk").oper, Oper::Failed);
    world.assert_whole();
    world.destroy("disk", false).unwrap();
    assert_eq!((world.free_bytes(), world.lanes_used()), (free, lanes));
    world.create("disk", 8);
    world.assert_whole();
    world.assert_lives_by_the_table();
}

/// A label that could not be written leaves no trace, and the next goes where it would have gone.
#[test]
fn a_label_that_cannot_be_written_leaves_everything_as_it_was() {
    let mut world = World::new(SPEC);
    world.create("keep", 4);
    let (free, label) = (world.free_bytes(), world.devices[0].label());
    for _ in 0..2 {
        let when = Match { queue: QueueMatch::Io, opcode: Some(WRITE), ..Match::default() };
        world.sim().inject(Fault { when, action: Action::Fail(Status::INTERNAL_ERROR.field()) });
        assert_refused(world.call(&world.creation("disk", 8)), ErrorCode::DeviceFault, "label");
        assert_eq!((world.free_bytes(), world.devices[0].label()), (free, label.clone()));
        world.destroy("disk", false).unwrap();
    }
    world.create("disk", 8);
    assert_eq!(world.devices[0].label().generation, label.generation + 1);
    world.restart();
    world.assert_whole();
}

#[test]
fn channels_are_spread_over_the_sidecores() {
    let mut world = World::idle(&[SPEC, SPEC]);
    world.cpus = vec![0, 1];
    world.start();
    let names = ["a", "b", "c", "d"];
    let mut guests: Vec<_> = names.iter().map(|_| Guest::new()).collect();
    let mut sessions = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let device = format!("sim{}", index % 2);
        world.call(&call::ChannelCreate { device, ..world.creation(name, 8) }).unwrap();
        sessions.push(guests[index].connect(&world.endpoint(name).path));
    }
    let mut sidecores: Vec<_> = names.iter().map(|name| world.show(name).sidecore.unwrap()).collect();
    sidecores.sort_unstable();
    assert_eq!(sidecores, [0, 0, 1, 1]);
    for (index, guest) in guests.iter_mut().enumerate() {
        assert_eq!(guest.write(0, &pattern(u8::try_from(index).unwrap() * 8, 4096)), OK);
    }
    for (index, guest) in guests.iter_mut().enumerate() {
        assert_eq!(guest.read(0, 4096), pattern(u8::try_from(index).unwrap() * 8, 4096));
    }
    world.assert_lives_by_the_table();
}
