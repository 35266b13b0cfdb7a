//! V1: whoever waits for commands that do not end is not left waiting, and only as many others feel it as must.

use std::time::Duration;

use vfiomux_guest::driver::Arena;
use vfiomux_rpc::FunctionState;
use vfiomux_sim::{Action, Fault, Match, QueueMatch};
use vfiomux_spec::nvme::Status;
use vhost::vhost_user::VhostUserFrontend as _;

use super::guest::{Guest, OK, pattern, region_of};
use super::world::{IMPATIENT, RELENTLESS, World, insist, wait};
use crate::control::Deadlines;
use crate::lifecycle::Oper;

const WRITE: u8 = 0x01;
const ABORT: u8 = 0x08;

fn fault(world: &World, queue: QueueMatch, opcode: u8, times: u32, action: Action) {
    world
        .sim()
        .inject(Fault { when: Match { queue, opcode: Some(opcode), times, ..Match::default() }, action });
}

/// The next writes stay in the controller.
fn hang_writes(world: &World, times: u32) {
    fault(world, QueueMatch::Io, WRITE, times, Action::Hang);
}

fn stuck(world: &World, guest: &mut Guest) {
    let before = world.sim().outstanding();
    guest.submit_write(0, &pattern(1, 4096));
    wait("the write is stuck", || (world.sim().outstanding() > before).then_some(()));
}

#[test]
fn a_suspend_ends_by_abort() {
    let world = World::with_deadlines(IMPATIENT, "sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    hang_writes(&world, 1);
    stuck(&world, &mut guest);
    assert_eq!(world.suspend("disk").unwrap().oper, Oper::Suspended);
    assert_ne!(guest.finish()[0].0, OK, "an aborted write is told as failed");
    world.resume("disk").unwrap();
    assert_eq!(guest.write(0, &pattern(2, 4096)), OK);
    world.assert_lives_by_the_table();
}

/// Deleting the channel's own submission queue ends its commands; it goes on on another, and no neighbour notices.
#[test]
fn a_suspend_ends_by_deleting_the_submission_queue() {
    // Between the abort and the deletion, and again for what comes of that: a controller that takes longer is reset.
    let deadlines = Deadlines { step: Duration::from_secs(3), ..IMPATIENT };
    let world = World::with_deadlines(deadlines, "sim:nvme,size=64M");
    world.create("disk", 8);
    world.create("neighbour", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    let mut other = Guest::new();
    let _other_session = other.connect(&world.endpoint("neighbour").path);
    let (lanes, resets) = (world.lanes_used(), world.sim().counters().resets);
    hang_writes(&world, 1);
    fault(&world, QueueMatch::Admin, ABORT, u32::MAX, Action::Fail(Status::INTERNAL_ERROR.field()));
    stuck(&world, &mut guest);
    assert_eq!(world.suspend("disk").unwrap().oper, Oper::Suspended);
    assert_eq!(other.write(0, &pattern(4, 4096)), OK);
    world.resume("disk").unwrap();
    assert_eq!(guest.finish().len(), 1);
    assert_eq!(guest.write(8, &pattern(2, 4096)), OK);
    assert_eq!(guest.read(8, 4096), pattern(2, 4096));
    assert_eq!(world.lanes_used(), lanes);
    assert_eq!(world.device("sim0").unwrap().state, FunctionState::Ready);
    assert_eq!(world.sim().counters().resets, resets);
    world.assert_lives_by_the_table();
}

/// Nothing but a reset ends a lost completion on a shared queue. Front-ends connect again and finish what was in flight.
#[test]
fn a_suspend_ends_by_a_reset_where_channels_share_a_queue() {
    let world = World::with_deadlines(RELENTLESS, "sim:nvme,size=64M,queues=1");
    world.create("disk", 8);
    world.create("neighbour", 8);
    let plan = world.show("disk").plan.unwrap();
    assert!(plan.notes[0].contains("too few submission queues"), "{plan:?}");
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    let mut other = Guest::new();
    let other_session = other.connect(&world.endpoint("neighbour").path);
    assert_eq!(other.write(0, &pattern(4, 4096)), OK);
    fault(&world, QueueMatch::Io, WRITE, 1, Action::Drop);
    guest.submit_write(0, &pattern(3, 4096));
    wait("the write is done and not told", || (world.sim().counters().faults > 0).then_some(()));
    let _ = world.suspend("disk");
    // The suspend is answered as soon as the reset has ended its commands. Only when the device is back have all sessions been
    // ended: a front-end that went before that would find the channel listening at the door that is about to be closed.
    world.wait_event("the device is back", |event| {
        event.from.as_deref() == Some("resetting") && event.to.as_deref() == Some("ready")
    });
    session.hang_up();
    other_session.hang_up();
    world.wait_oper("neighbour", Oper::Listening);
    let _other_session = other.connect(&world.endpoint("neighbour").path);
    assert_eq!(other.read(0, 4096), pattern(4, 4096));
    assert_eq!(world.show("disk").oper, Oper::Suspended);
    // Channels are brought back in no order.
    let disk = insist(|| world.resume("disk"));
    assert!(disk.plan.is_some());
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.in_flight(), 0, "what the reset cut short was answered");
    assert_eq!(guest.read(0, 4096), pattern(3, 4096));
    world.assert_lives_by_the_table();
}

/// A front-end that asked for a ring back, and went without waiting, does not keep the next one out.
#[test]
fn a_front_end_that_leaves_while_its_ring_is_being_stopped_makes_room() {
    let world = World::with_deadlines(IMPATIENT, "sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let mut session = guest.connect(&world.endpoint("disk").path);
    hang_writes(&world, 1);
    stuck(&world, &mut guest);
    session.begin_stop();
    world.call(&vfiomux_rpc::call::StatusShow {}).unwrap();
    session.hang_up();
    let mut next = Guest::new();
    let _session = next.connect(&world.endpoint("disk").path);
    assert_eq!(next.write(8, &pattern(6, 4096)), OK);
}

/// REM_MEM_REG is answered when nothing names the memory any more, also when the device has to be made to let go of it.
#[test]
fn memory_is_given_back_although_a_command_on_it_is_stuck() {
    let world = World::with_deadlines(IMPATIENT, "sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let mut session = guest.connect(&world.endpoint("disk").path);
    let before = world.devices[0].mappings();
    let more = Arena::new(1 << 20, 0x2_0000_0000).unwrap();
    session.frontend.add_mem_region(&region_of(&more)).unwrap();
    assert_eq!(world.devices[0].mappings(), before + 1);
    hang_writes(&world, 1);
    stuck(&world, &mut guest);
    session.frontend.remove_mem_region(&region_of(&more)).unwrap();
    assert_eq!(world.devices[0].mappings(), before, "D3: the answer came after the unmap");
    assert_eq!(guest.finish().len(), 1);
}

#[test]
fn a_destroy_ends_whatever_it_takes() {
    for (queues, action) in [(8, Action::Hang), (1, Action::Hang), (8, Action::Drop), (1, Action::Drop)] {
        let world = World::with_deadlines(RELENTLESS, &format!("sim:nvme,size=64M,queues={queues}"));
        world.create("disk", 8);
        let mut guest = Guest::new();
        let session = guest.connect(&world.endpoint("disk").path);
        fault(&world, QueueMatch::Io, WRITE, 1, action);
        guest.submit_write(0, &pattern(1, 4096));
        wait("the write is stuck", || (world.sim().counters().faults > 0).then_some(()));
        world.destroy("disk", true).unwrap();
        wait("the device is ready", || {
            (world.device("sim0").unwrap().state == FunctionState::Ready).then_some(())
        });
        world.assert_whole();
        world.create("next", 8);
        world.assert_lives_by_the_table();
        drop(session);
    }
}

/// A command of our own that hangs does not hold the device up.
#[test]
fn a_scrub_that_hangs_ends_by_a_reset_and_is_taken_up_again() {
    let world = World::with_deadlines(IMPATIENT, "sim:nvme,size=64M");
    world.create("disk", 8);
    world.create("neighbour", 8);
    let resets = world.sim().counters().resets;
    fault(&world, QueueMatch::Io, 0x08, 1, Action::Hang);
    world.destroy("disk", false).unwrap();
    assert!(world.sim().counters().resets > resets);
    world.wait_oper("neighbour", Oper::Listening);
    world.assert_whole();
    world.assert_lives_by_the_table();
}

/// A front-end that has hung up stands in nobody's way, also while a command of its is still being ended.
#[test]
fn a_channel_ends_while_what_its_front_end_left_is_drained() {
    let world = World::with_deadlines(IMPATIENT, "sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    hang_writes(&world, 1);
    stuck(&world, &mut guest);
    drop(session);
    assert_eq!(world.destroy("disk", false).unwrap().oper, Oper::Destroyed);
    world.assert_lives_by_the_table();
}
