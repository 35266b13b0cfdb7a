//! Channels between sidecores: moved by hand and by load, while everything else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use vfiomux_guest::driver::Arena;
use vfiomux_rpc::{
    Change, ChannelInfo, Client, ErrorCode, Event, EventKind, FunctionState, Lane, RpcError, SidecoreMode,
    call,
};
use vfiomux_sim::{Action, Fault, Match, QueueMatch};
use vfiomux_spec::nvme::Status;
use vhost::VhostBackend as _;

use super::guest::{Guest, OK, Session, pattern, region_of};
use super::world::{IMPATIENT, PATIENCE, RELENTLESS, World, assert_refused, insist, refusal, wait};
use crate::config::Balance;
use crate::control::Deadlines;
use crate::lifecycle::Oper;
use crate::seeded::Bug;

const WRITE: u8 = 0x01;

/// A daemon with two sidecores.
fn two_sidecores(spec: &str) -> World {
    two_sidecores_in_time(spec, None)
}

/// As above, on a device that is going to keep commands.
fn two_sidecores_in_time(spec: &str, deadlines: Option<Deadlines>) -> World {
    let mut world = World::idle(&[spec]);
    world.deadlines = deadlines.unwrap_or(world.deadlines);
    world.cpus = vec![0, 1];
    world.start();
    world
}

fn to(name: &str, sidecore: u32) -> call::ChannelMove {
    call::ChannelMove { name: name.to_owned(), sidecore: Some(sidecore), device: None }
}

fn move_to(world: &World, name: &str, sidecore: u32) -> Result<ChannelInfo, RpcError> {
    world.call(&to(name, sidecore))
}

fn moves_told(world: &World) -> usize {
    world.events().iter().filter(|event| event.kind == EventKind::Moved).count()
}

/// Moves a channel to and fro until it is told to stop, for as long as somebody listens.
struct Mover {
    stop: Arc<AtomicBool>,
    moved: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Mover {
    fn start(world: &World, name: &str) -> Self {
        let (stop, moved) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (control, name) = (world.control(), name.to_owned());
        let (stopped, counted) = (stop.clone(), moved.clone());
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(&control).unwrap();
            client.set_timeout(Some(PATIENCE)).unwrap();
            let mut turn = 0;
            while !stopped.load(Ordering::Relaxed) {
                turn = 1 - turn;
                match refusal(client.call_with(&to(&name, turn), &Change::default())) {
                    Ok(_) => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    // Whatever else goes on with the channel comes first, and says so.
                    Err(error) => {
                        let expected = [
                            ErrorCode::Busy,
                            ErrorCode::Conflict,
                            ErrorCode::NotFound,
                            ErrorCode::DeviceFault,
                        ];
                        assert!(expected.contains(&error.code), "{error}");
                        std::thread::yield_now();
                    }
                }
            }
        });
        Self { stop, moved, thread }
    }

    fn moved(&self) -> usize {
        self.moved.load(Ordering::Relaxed)
    }

    /// Lets so many more moves happen, and has the caller do `work` again and again meanwhile.
    #[track_caller]
    fn while_moving(&self, moves: usize, mut work: impl FnMut(usize)) {
        let end = self.moved() + moves;
        let mut round = 0;
        wait("the channel is moved", || {
            work(round);
            round += 1;
            (self.moved() >= end).then_some(())
        });
    }

    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.moved.load(Ordering::Relaxed)
    }
}

/// Eight writes at once, then each is read: every block is what was written last.
fn write_and_verify(guest: &mut Guest, round: usize) {
    let seed = |at: u64| (round as u8).wrapping_mul(16).wrapping_add(at as u8);
    for at in 0..8 {
        guest.submit_write(at * 64, &pattern(seed(at), 4096));
    }
    assert!(guest.finish().iter().all(|(status, _)| *status == OK));
    for at in 0..8 {
        assert_eq!(guest.read(at * 64, 4096), pattern(seed(at), 4096), "round {round}");
    }
}

/// Moves a channel to and fro under load, between sidecores that rest in this way.
fn moved_under_load(mode: SidecoreMode) {
    let world = two_sidecores("sim:nvme,size=64M");
    for index in 0..2 {
        world.call(&call::SidecoreSet { index, mode }).unwrap();
    }
    world.create("disk", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    let (lanes, epoch) = (world.lanes_used(), world.show("disk").epoch);
    let mover = Mover::start(&world, "disk");
    let mut rounds = 0;
    mover.while_moving(40, |round| {
        write_and_verify(&mut guest, round);
        rounds = round as u64 + 1;
    });
    let moved = mover.stop();
    write_and_verify(&mut guest, 77);
    let channel = world.show("disk");
    assert_eq!((channel.counters.write_ops, channel.counters.read_ops), (8 * (rounds + 1), 8 * (rounds + 1)));
    assert_eq!((channel.counters.error_ops, channel.counters.stale_completions), (0, 0));
    assert_eq!((channel.oper, channel.session.is_some()), (Oper::Active, true));
    assert_eq!(channel.epoch, epoch + moved as u64);
    assert_eq!(moves_told(&world), moved);
    assert_eq!(world.lanes_used(), lanes, "each old submission queue was deleted");
    world.assert_lives_by_the_table();
}

/// I1, I2, D2: a channel that is moved to and fro under load loses nothing and gets nothing twice, its front-end keeps its
/// session, and its counters go on.
#[test]
fn a_channel_is_moved_under_load_and_no_block_is_wrong() {
    moved_under_load(SidecoreMode::Adaptive);
}

/// V3: a kick that comes while a channel is between two sidecores that sleep at once is heard by the one that it comes to.
#[test]
fn no_kick_is_lost_between_two_sidecores() {
    moved_under_load(SidecoreMode::Event);
}

/// What is asked of a channel between two sidecores waits, and is done where it comes to.
#[test]
fn operations_take_turns_with_moves() {
    let world = two_sidecores("sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let mut session = guest.connect(&world.endpoint("disk").path);
    let mover = Mover::start(&world, "disk");
    mover.while_moving(30, |round| {
        write_and_verify(&mut guest, round);
        match round % 3 {
            0 => {
                insist(|| world.suspend("disk"));
                guest.submit_write(0, &pattern(1, 512));
                assert_eq!(guest.in_flight(), 1);
                insist(|| world.resume("disk"));
                assert_eq!(guest.finish()[0].0, OK);
            }
            1 => {
                let mib = 8 + 2 * (round as u64 % 2);
                insist(|| world.resize("disk", mib));
                assert_eq!(session.capacity_bytes(), mib << 20);
            }
            _ => {
                insist(|| world.detach("disk"));
                insist(|| world.attach("disk"));
                session = guest.connect(&world.endpoint("disk").path);
            }
        }
    });
    mover.stop();
    write_and_verify(&mut guest, 99);
    insist(|| world.destroy("disk", true));
    assert_eq!(world.lanes_used(), 2, "one for each sidecore");
    world.assert_lives_by_the_table();
    world.assert_whole();
}

/// D1, D3, I2: a front-end that stops its ring, lends other memory, or hangs up and comes again, is served all the same.
#[test]
fn front_ends_come_and_go_and_change_their_memory_during_moves() {
    let world = two_sidecores("sim:nvme,size=64M");
    world.create("disk", 8);
    let own = world.devices[0].mappings();
    let mut guest = Guest::new();
    let mut session = guest.connect(&world.endpoint("disk").path);
    let mover = Mover::start(&world, "disk");
    let more = Arena::new(1 << 20, 0x9_0000_0000).unwrap();
    mover.while_moving(30, |round| {
        write_and_verify(&mut guest, round);
        match round % 4 {
            0 => {
                let regions = [guest.region(), region_of(&more)];
                let count = if round % 8 == 0 { 2 } else { 1 };
                session.frontend.set_mem_table(&regions[..count]).unwrap();
            }
            1 => {
                let base = session.frontend.get_vring_base(0).unwrap();
                assert_eq!(u16::try_from(base).unwrap(), guest.returned());
                guest.begin(&mut session).unwrap();
            }
            2 => {
                guest.submit_write(0, &pattern(3, 4096));
                std::mem::replace(&mut session, guest.connect(&world.endpoint("disk").path)).hang_up();
                assert!(guest.finish().iter().all(|(status, _)| *status == OK));
            }
            _ => {}
        }
    });
    mover.stop();
    session.hang_up();
    wait("no session is left", || world.show("disk").session.is_none().then_some(()));
    assert_eq!(world.devices[0].mappings(), own, "nothing that was lent stays mapped");
}

/// V1: commands that do not end keep a channel where it is, and its guest waits no longer than they take.
#[test]
fn a_channel_whose_commands_do_not_end_stays_where_it_is() {
    let world = two_sidecores_in_time("sim:nvme,size=64M", Some(IMPATIENT));
    world.create("disk", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    let (here, lanes) = (world.show("disk").sidecore.unwrap(), world.lanes_used());
    let when = Match { queue: QueueMatch::Io, opcode: Some(WRITE), times: 1, ..Match::default() };
    world.sim().inject(Fault { when, action: Action::Hang });
    guest.submit_write(0, &pattern(1, 4096));
    wait("the write is stuck", || (world.sim().outstanding() > 0).then_some(()));
    assert_refused(move_to(&world, "disk", 1 - here), ErrorCode::Busy, "stays where it is");
    let channel = world.show("disk");
    assert_eq!((channel.sidecore, channel.oper), (Some(here), Oper::Active));
    assert_eq!(world.lanes_used(), lanes);
    // It takes requests again.
    guest.submit_write(64, &pattern(2, 4096));
    wait("the other write is done", || guest.take_returned().pop());
    assert_eq!(world.suspend("disk").unwrap().oper, Oper::Suspended);
    world.resume("disk").unwrap();
    guest.finish();
    assert_eq!(move_to(&world, "disk", 1 - here).unwrap().sidecore, Some(1 - here));
    write_and_verify(&mut guest, 5);
}

/// A controller that is reset while a channel is on its way brings it back with all others.
#[test]
fn a_reset_during_moves_ends_in_service() {
    let world = two_sidecores_in_time("sim:nvme,size=64M,queues=2", Some(RELENTLESS));
    world.create("disk", 8);
    world.create("stuck", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    let mut other = Guest::new();
    let _other_session = other.connect(&world.endpoint("stuck").path);
    let mover = Mover::start(&world, "disk");
    mover.while_moving(5, |round| write_and_verify(&mut guest, round));
    let when = Match { queue: QueueMatch::Io, opcode: Some(WRITE), times: u32::MAX, ..Match::default() };
    let resets = world.sim().counters().resets;
    world.sim().inject(Fault { when, action: Action::Hang });
    other.submit_write(0, &pattern(1, 4096));
    // What its sidecore has not taken yet is held back by the suspend, and nothing is stuck.
    wait("the write is stuck", || (world.sim().outstanding() > 0).then_some(()));
    let abort = Match { queue: QueueMatch::Admin, opcode: Some(0x08), times: u32::MAX, ..Match::default() };
    let failed = Action::Fail(Status::INTERNAL_ERROR.field());
    world.sim().inject(Fault { when: abort, action: failed });
    // Two channels share each queue, so a reset is what ends this.
    let _ = world.suspend("stuck");
    wait("the controller was reset", || (world.sim().counters().resets > resets).then_some(()));
    world.sim().clear_faults();
    wait("the device is back", || {
        (world.device("sim0").unwrap().state == FunctionState::Ready).then_some(())
    });
    world.wait_oper("disk", Oper::Listening);
    session.hang_up();
    let _session = guest.connect(&world.endpoint("disk").path);
    mover.while_moving(5, |round| write_and_verify(&mut guest, round));
    mover.stop();
    world.assert_lives_by_the_table();
}

/// A function that leaves the bus while a channel is on its way leaves it quarantined, and nothing of it mapped or held.
#[test]
fn a_device_that_leaves_during_moves_leaves_nothing_behind() {
    let world = two_sidecores("sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    let mover = Mover::start(&world, "disk");
    mover.while_moving(3, |round| write_and_verify(&mut guest, round));
    world.sim().remove();
    world.wait_oper("disk", Oper::Quarantined);
    wait("it is on no sidecore", || world.show("disk").sidecore.is_none().then_some(()));
    mover.stop();
    wait("the device was given up", || (world.sim().iommu().mappings().is_empty()).then_some(()));
    world.assert_lives_by_the_table();
    world.pull_and_stop();
}

/// A guest that breaks the rules while it is moved is quarantined like any other.
#[test]
fn a_fault_during_moves_is_a_fault() {
    let world = two_sidecores("sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    let mover = Mover::start(&world, "disk");
    mover.while_moving(3, |round| write_and_verify(&mut guest, round));
    guest.break_the_ring();
    world.wait_oper("disk", Oper::Quarantined);
    mover.stop();
    // Its submission queue is deleted after it was taken from its sidecore, and it is refused until then.
    insist(|| world.resume("disk"));
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    write_and_verify(&mut guest, 1);
    world.assert_lives_by_the_table();
}

/// Where a controller grants too few submission queues, a channel shares one after a move, and has its own again when one is
/// free.
#[test]
fn a_move_without_a_free_submission_queue_shares_one() {
    let world = two_sidecores("sim:nvme,size=64M,queues=3");
    let lane = |name: &str| world.show(name).plan.unwrap().lane;
    world.create("first", 8);
    world.create("second", 8);
    assert_eq!((lane("first"), lane("second")), (Lane::Own, Lane::Shared));
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("first").path);
    let here = world.show("first").sidecore.unwrap();
    assert_eq!(move_to(&world, "first", 1 - here).unwrap().plan.unwrap().lane, Lane::Shared);
    write_and_verify(&mut guest, 1);
    let there = world.show("second").sidecore.unwrap();
    assert_eq!(move_to(&world, "second", 1 - there).unwrap().plan.unwrap().lane, Lane::Own);
    assert_eq!(move_to(&world, "first", here).unwrap().plan.unwrap().lane, Lane::Shared);
    write_and_verify(&mut guest, 2);
    assert_eq!(world.lanes_used(), 3);
}

/// W1: where a channel is served is no setting. A crash after any number of moves leaves what one without any leaves.
#[test]
fn a_move_leaves_no_trace_in_the_journal() {
    let mut world = two_sidecores("sim:nvme,size=64M");
    world.call(&call::ChannelCreate { endpoint: None, ..world.creation("disk", 8) }).unwrap();
    let generation = world.show("disk").generation;
    let journal = world.state_dir().join("journal");
    let before = std::fs::read(&journal).unwrap();
    for turn in 0..4 {
        move_to(&world, "disk", turn % 2).unwrap();
    }
    assert_eq!(std::fs::read(&journal).unwrap(), before);
    assert_eq!(world.show("disk").generation, generation);
    let mut wreck = world.wreck();
    wreck.cpus = vec![0];
    wreck.start();
    wreck.wait_oper("disk", Oper::Provisioned);
    world.assert_journal_tells_the_same();
}

#[test]
fn a_move_that_cannot_be_says_why() {
    let world = two_sidecores("sim:nvme,size=64M,queues=1");
    world.create("disk", 8);
    let here = world.show("disk").sidecore.unwrap();
    assert_refused(move_to(&world, "disk", 7), ErrorCode::NotFound, "numbered from 0 to 1");
    assert_refused(move_to(&world, "nobody", 0), ErrorCode::NotFound, "channel list");
    let nowhere = call::ChannelMove { name: "disk".to_owned(), sidecore: None, device: None };
    assert_refused(world.call(&nowhere), ErrorCode::InvalidArgument, "sidecore list");
    assert_refused(move_to(&world, "disk", 1 - here), ErrorCode::Busy, "has no queue on sidecore");
    assert_eq!(move_to(&world, "disk", here).unwrap().sidecore, Some(here), "it is there already");
    let stale = Change { expected_generation: Some(99), ..Change::default() };
    assert_refused(world.call_with(&to("disk", here), &stale), ErrorCode::Conflict, "has generation");
    assert_eq!(moves_told(&world), 0);
}

#[test]
fn a_dry_run_moves_nothing() {
    let world = two_sidecores("sim:nvme,size=64M");
    world.create("disk", 8);
    let here = world.show("disk").sidecore.unwrap();
    let dry = Change { dry_run: true, ..Change::default() };
    assert_eq!(world.call_with(&to("disk", 1 - here), &dry).unwrap().sidecore, Some(here));
    assert_eq!(moves_told(&world), 0);
}

#[test]
fn a_suspended_channel_is_moved_and_stays_suspended() {
    let world = two_sidecores("sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    world.suspend("disk").unwrap();
    guest.submit_write(0, &pattern(1, 512));
    let here = world.show("disk").sidecore.unwrap();
    let moved = move_to(&world, "disk", 1 - here).unwrap();
    assert_eq!((moved.sidecore, moved.oper), (Some(1 - here), Oper::Suspended));
    assert_eq!(guest.in_flight(), 1);
    world.resume("disk").unwrap();
    assert_eq!(guest.finish()[0].0, OK);
}

/// Two channels with little to do come together, so that a sidecore sleeps.
#[test]
fn channels_with_little_to_do_are_gathered() {
    let mut world = World::idle(&["sim:nvme,size=64M"]);
    world.cpus = vec![0, 1];
    // A machine that is slow is busy with less.
    world.balance =
        Balance { enabled: true, high_water_percent: 100, low_water_percent: 100, interval_ms: 100 };
    world.start();
    world.create("one", 8);
    world.create("two", 8);
    assert_ne!(world.show("one").sidecore, world.show("two").sidecore);
    let mut guests = [Guest::new(), Guest::new()];
    let _sessions: Vec<Session> = guests
        .iter_mut()
        .zip(["one", "two"])
        .map(|(guest, name)| guest.connect(&world.endpoint(name).path))
        .collect();
    wait("they are together", || {
        guests.iter_mut().for_each(|guest| assert_eq!(guest.write(0, &pattern(1, 512)), OK));
        (world.show("one").sidecore == world.show("two").sidecore).then_some(())
    });
    let told = world.wait_event("the move", |event| event.kind == EventKind::Moved);
    assert!(told.reason.unwrap().contains("can sleep"));
    assert_eq!(told.uid, None);
}

/// A sidecore that has too much gives a channel to one that has room.
#[test]
fn a_load_that_is_too_much_is_spread() {
    let mut world = World::idle(&["sim:nvme,size=64M"]);
    world.cpus = vec![0, 1];
    // On any machine this is too much, and nothing is little enough to be gathered: also where guests get so little of a
    // processor that they ask for little.
    world.bug = Some(Bug::SlowSubmissions);
    world.balance = Balance { enabled: true, high_water_percent: 1, low_water_percent: 0, interval_ms: 100 };
    world.start();
    world.create("one", 8);
    world.create("two", 8);
    insist(|| move_to(&world, "one", 0));
    insist(|| move_to(&world, "two", 0));
    let mut guests = [Guest::new(), Guest::new()];
    let _sessions: Vec<Session> = guests
        .iter_mut()
        .zip(["one", "two"])
        .map(|(guest, name)| guest.connect(&world.endpoint(name).path))
        .collect();
    let told = wait("a channel is moved away", || {
        guests.iter_mut().for_each(|guest| write_and_verify(guest, 1));
        let moved = |event: &Event| event.kind == EventKind::Moved && event.uid.is_none();
        world.events().into_iter().find(moved)
    });
    assert!(told.reason.unwrap().starts_with("sidecore 0 is"));
    assert_eq!((told.from.as_deref(), told.to.as_deref()), (Some("sidecore 0"), Some("sidecore 1")));
    let shown = world.call(&call::SidecoreShow { index: 1 }).unwrap();
    assert_eq!((shown.channels, shown.serves.len()), (1, 1));
}
