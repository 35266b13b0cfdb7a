//! Channels between devices: with their guests at work, and with a crash at every step.

use vfiomux_guest::driver::Arena;
use vfiomux_rpc::{Change, ChannelInfo, ErrorCode, Guarantees, JobState, RpcError, call};
use vfiomux_sim::{Action, Fault, Match, QueueMatch};
use vhost::vhost_user::VhostUserFrontend as _;

use super::guest::{Guest, OK, Session, pattern, region_of};
use super::world::{Device, MIB, World, assert_refused, extents_of, insist, wait};
use crate::extent::Extent;
use crate::label::DATA_START_BYTES;
use crate::lifecycle::Oper;

const SPEC: &str = "sim:nvme,size=64M";

fn to(name: &str, device: &str) -> call::ChannelMove {
    call::ChannelMove { name: name.to_owned(), sidecore: None, device: Some(device.to_owned()) }
}

fn two_devices() -> World {
    let mut world = World::idle(&[SPEC, SPEC]);
    world.start();
    world
}

/// Two devices, and a channel on the first whose guest is connected.
fn two_devices_and_a_guest(mib: u64) -> (World, Guest, Session) {
    let world = two_devices();
    world.create("disk", mib);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    (world, guest, session)
}

/// Nothing lies on a device but what the channels that are shown there have, and the rest of it reads as zeroes (C3, T3).
#[track_caller]
fn assert_holds_only(device: &Device, channels: &[ChannelInfo]) {
    let label = device.label();
    assert_eq!(label.unscrubbed, [], "everything was scrubbed");
    let mut used: Vec<Extent> = Vec::new();
    let mut labelled: Vec<&str> = label.channels.iter().map(|channel| channel.id.as_str()).collect();
    let mut shown: Vec<&str> = channels.iter().map(|channel| channel.id.as_str()).collect();
    labelled.sort_unstable();
    shown.sort_unstable();
    assert_eq!(labelled, shown, "the label names what is shown");
    for channel in channels {
        let entry = label.channels.iter().find(|entry| entry.id == channel.id).unwrap();
        assert_eq!(entry.extents, extents_of(channel));
        used.extend(extents_of(channel));
    }
    used.sort();
    let mut at = DATA_START_BYTES / u64::from(label.block_bytes);
    for extent in used.into_iter().chain([Extent { start: label.blocks, blocks: 0 }]) {
        let free = Extent { start: at, blocks: extent.start - at };
        assert!(device.is_zero(free), "{free:?} is free and was not scrubbed (C3)");
        at = extent.end().unwrap();
    }
}

#[track_caller]
fn assert_in_order(world: &World) {
    let all = world.call(&call::ChannelList { tenant: None }).unwrap();
    for (index, device) in world.devices.iter().enumerate() {
        let name = format!("sim{index}");
        let here: Vec<ChannelInfo> = all.iter().filter(|channel| channel.device == name).cloned().collect();
        assert_holds_only(device, &here);
    }
}

/// Writes blocks that tell where and when, and remembers what was written last.
struct Writer {
    guest: Guest,
    /// The seed of each of its places.
    written: Vec<Option<u8>>,
    round: u8,
}

/// A place every quarter of a mebibyte.
const STEP_SECTORS: u64 = 512;

impl Writer {
    fn new(guest: Guest, mib: u64) -> Self {
        Self { guest, written: vec![None; (mib * 4) as usize], round: 0 }
    }

    fn write_some(&mut self) {
        for turn in 0..8u8 {
            let place = (usize::from(self.round) * 7 + usize::from(turn) * 5) % self.written.len();
            let seed = self.round.wrapping_mul(8).wrapping_add(turn);
            // Two writes of one place at a time would have no order.
            if turn > 0 && self.written.len() < 40 {
                continue;
            }
            self.guest.submit_write(place as u64 * STEP_SECTORS, &pattern(seed, 4096));
            self.written[place] = Some(seed);
        }
        self.round = self.round.wrapping_add(1);
        assert!(self.guest.finish().iter().all(|(status, _)| *status == OK));
    }

    #[track_caller]
    fn verify(&mut self) {
        for place in 0..self.written.len() {
            let read = self.guest.read(place as u64 * STEP_SECTORS, 4096);
            let expected = self.written[place].map_or_else(|| vec![0; 4096], |seed| pattern(seed, 4096));
            assert!(read == expected, "place {place} holds something else");
        }
    }
}

/// A guest that writes all the while finds what it wrote, on the other device and back again; its session, its counters and
/// what it is held to stay, and nothing is left behind.
#[test]
fn a_channel_goes_to_another_device_and_back_while_its_guest_writes() {
    let world = two_devices();
    let guarantees = Guarantees { share: Some(300), ..Guarantees::default() };
    world.call(&call::ChannelCreate { guarantees, ..world.creation("disk", 16) }).unwrap();
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    let mut writer = Writer::new(guest, 16);
    let lanes = world.lanes_used();
    let mut generation = world.show("disk").generation;
    for target in ["sim1", "sim0", "sim1"] {
        let job = world.begin(&to("disk", target)).unwrap().id;
        wait("it has come", || {
            writer.write_some();
            world.job(job).state.is_over().then_some(())
        });
        assert_eq!(world.job(job).state, JobState::Done, "{:?}", world.job(job).error);
        let channel = world.show("disk");
        assert_eq!((channel.device.as_str(), channel.generation), (target, generation + 1));
        generation = channel.generation;
        assert_eq!((channel.oper, channel.session.is_some()), (Oper::Active, true));
        assert_eq!(channel.guarantees.share, Some(300));
        assert_eq!((channel.counters.error_ops, channel.counters.stale_completions), (0, 0));
        writer.write_some();
        writer.verify();
        assert_in_order(&world);
    }
    assert_eq!(world.lanes_used(), lanes - 1, "its submission queue there was deleted");
    world.assert_lives_by_the_table();
}

#[test]
fn a_detached_and_a_suspended_channel_are_moved_and_stay_so() {
    let mut world = two_devices();
    world.call(&call::ChannelCreate { endpoint: None, ..world.creation("bare", 4) }).unwrap();
    assert_eq!(world.call(&to("bare", "sim1")).unwrap().oper, Oper::Provisioned);
    world.create("disk", 4);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(5, 4096)), OK);
    world.suspend("disk").unwrap();
    guest.submit_write(64, &pattern(6, 4096));
    assert_eq!(world.call(&to("disk", "sim1")).unwrap().oper, Oper::Suspended);
    assert_eq!(guest.in_flight(), 1);
    world.resume("disk").unwrap();
    assert_eq!(guest.finish()[0].0, OK);
    assert_eq!((guest.read(0, 4096), guest.read(64, 4096)), (pattern(5, 4096), pattern(6, 4096)));
    assert_in_order(&world);
    session.hang_up();
    world.restart();
    assert_eq!((world.show("disk").device.as_str(), world.show("bare").device.as_str()), ("sim1", "sim1"));
    assert_in_order(&world);
    world.assert_journal_tells_the_same();
}

#[test]
fn a_move_that_cannot_be_says_why_and_changes_nothing() {
    let mut world = World::idle(&[SPEC, "sim:nvme,size=64M,lba=4096", "sim:nvme,size=16M"]);
    world.start();
    let created = world.create("disk", 16);
    assert_refused(world.call(&to("disk", "sim1")), ErrorCode::Unsupported, "same block size");
    assert_refused(world.call(&to("disk", "sim2")), ErrorCode::NoSpace, "no room");
    assert_refused(world.call(&to("disk", "sim9")), ErrorCode::NotFound, "device list");
    assert_refused(world.call(&to("nobody", "sim1")), ErrorCode::NotFound, "channel list");
    let both = call::ChannelMove { sidecore: Some(0), ..to("disk", "sim2") };
    assert_refused(world.call(&both), ErrorCode::InvalidArgument, "then to the sidecore");
    let there = world.call(&to("disk", "sim0")).unwrap();
    assert_eq!(there.generation, created.generation, "it is there already");
    let dry = Change { dry_run: true, ..Change::default() };
    world.create("small", 4);
    assert_eq!(world.call_with(&to("small", "sim2"), &dry).unwrap().device, "sim0");
    assert_in_order(&world);
}

/// Whoever cancels a move has the channel where it was, with nothing left on the other device.
#[test]
fn a_move_that_is_cancelled_leaves_the_channel_where_it_was() {
    let (world, guest, _session) = two_devices_and_a_guest(16);
    let mut writer = Writer::new(guest, 16);
    writer.write_some();
    // The copy takes its time, so that there is some to change one's mind.
    let when = Match { queue: QueueMatch::Io, opcode: Some(0x01), times: u32::MAX, ..Match::default() };
    world.devices[1].sim.inject(Fault { when, action: Action::DelayNs(50_000_000) });
    let job = world.begin(&to("disk", "sim1")).unwrap().id;
    wait("it copies", || (world.job(job).doing == "copying").then_some(()));
    let format = call::DeviceFormat { device: "sim1".to_owned(), erase: true };
    assert_refused(world.call(&format), ErrorCode::Busy, "on its way");
    assert_eq!(world.call(&call::JobCancel { job }).unwrap().state, JobState::Cancelling);
    assert_eq!(world.finish(job).state, JobState::Cancelled);
    world.devices[1].sim.clear_faults();
    assert_eq!(world.show("disk").device, "sim0");
    writer.write_some();
    writer.verify();
    assert_in_order(&world);
    assert_eq!(world.call(&to("disk", "sim1")).unwrap().device, "sim1");
    writer.verify();
}

/// A target that fails while it is copied to costs the move, and the guest nothing.
#[test]
fn a_target_that_fails_leaves_the_channel_where_it_was() {
    let (world, guest, _session) = two_devices_and_a_guest(8);
    let mut writer = Writer::new(guest, 8);
    writer.write_some();
    let status = vfiomux_spec::nvme::Status::INTERNAL_ERROR.field();
    let when = Match { queue: QueueMatch::Io, opcode: Some(0x01), skip: 6, times: 1, ..Match::default() };
    world.devices[1].sim.inject(Fault { when, action: Action::Fail(status) });
    assert_refused(world.call(&to("disk", "sim1")), ErrorCode::DeviceFault, "stays where it is");
    writer.write_some();
    writer.verify();
    assert_in_order(&world);
}

/// C2, T3: a channel does not go back to a device that could not let go of it: whatever clears it there would take its new entry
/// off the label too.
#[test]
fn a_channel_does_not_go_back_to_where_it_was_not_cleared_away() {
    let mut world = two_devices();
    world.call(&call::ChannelCreate { endpoint: None, ..world.creation("disk", 4) }).unwrap();
    let status = vfiomux_spec::nvme::Status::INTERNAL_ERROR.field();
    let when = Match { queue: QueueMatch::Io, opcode: Some(0x01), times: 1, ..Match::default() };
    world.sim().inject(Fault { when, action: Action::Fail(status) });
    assert_eq!(world.call(&to("disk", "sim1")).unwrap().device, "sim1");
    assert_eq!(world.devices[0].label().channels.len(), 1, "its label could not be written");
    assert_refused(world.call(&to("disk", "sim0")), ErrorCode::Busy, "not scrubbed yet");
    world.restart();
    wait("it was cleared away", || world.devices[0].label().channels.is_empty().then_some(()));
    world.wait_scrubbed();
    assert_eq!(world.call(&to("disk", "sim0")).unwrap().device, "sim0");
    assert_in_order(&world);
}

/// Begins a move that stands at its switch-over: a write takes its time at the source, and the channel's sidecore waits for it.
fn to_the_switch_over(world: &World, guest: &mut Guest) -> u64 {
    let when = Match { queue: QueueMatch::Io, opcode: Some(0x01), times: 1, ..Match::default() };
    world.sim().inject(Fault { when, action: Action::DelayNs(1_000_000_000) });
    guest.submit_write(64, &pattern(6, 4096));
    let job = world.begin(&to("disk", "sim1")).unwrap().id;
    wait("it stands at the switch-over", || (world.job(job).doing == "switching over").then_some(()));
    job
}

/// D1, D3: memory that is lent while the channel changes devices is mapped for the one that it comes to, and for no other.
#[test]
fn memory_lent_during_the_switch_over_is_mapped_where_the_channel_comes_to() {
    let world = two_devices();
    world.create("disk", 8);
    let idle = world.devices.iter().map(Device::mappings).collect::<Vec<_>>();
    let mut guest = Guest::new();
    let mut session = guest.connect(&world.endpoint("disk").path);
    let served = world.devices[0].mappings();
    let more = Arena::new(1 << 20, 0x9_0000_0000).unwrap();
    let job = to_the_switch_over(&world, &mut guest);
    std::thread::scope(|scope| {
        scope.spawn(|| session.frontend.add_mem_region(&region_of(&more)).unwrap());
        wait("it is mapped for the source", || (world.devices[0].mappings() > served).then_some(()));
        assert_eq!(world.finish(job).state, JobState::Done);
    });
    assert_eq!(guest.finish()[0].0, OK);
    assert_eq!(guest.read(64, 4096), pattern(6, 4096));
    let lent = world.devices[1].mappings();
    wait("nothing of the guest is mapped for the source", || {
        (world.devices[0].mappings() <= idle[0]).then_some(())
    });
    session.frontend.remove_mem_region(&region_of(&more)).unwrap();
    assert_eq!(world.devices[1].mappings(), lent - 1);
    session.hang_up();
    assert_in_order(&world);
}

/// C3, T3, S9: a target that is pulled out during the switch-over costs the move, and the guest nothing; another daemon finds it back
/// on the bus, scrubs what was copied to it, and the channel can go there.
#[test]
fn a_target_that_goes_during_the_switch_over_leaves_the_channel_where_it_was() {
    let (mut world, mut guest, session) = two_devices_and_a_guest(8);
    assert_eq!(guest.write(0, &pattern(5, 4096)), OK);
    let job = to_the_switch_over(&world, &mut guest);
    world.devices[1].sim.remove();
    assert_eq!(world.finish(job).state, JobState::Failed);
    assert_eq!(guest.finish()[0].0, OK);
    let channel = world.show("disk");
    assert_eq!((channel.device.as_str(), channel.oper), ("sim0", Oper::Active));
    assert_eq!((guest.read(0, 4096), guest.read(64, 4096)), (pattern(5, 4096), pattern(6, 4096)));
    world.assert_lives_by_the_table();
    session.hang_up();
    world.stop();
    let copied = world.devices[1].label().unscrubbed;
    assert!(
        copied.iter().any(|&extent| !world.devices[1].is_zero(extent)),
        "something was copied: {copied:?}"
    );
    world.devices[1].sim.reinsert();
    world.start();
    world.wait_scrubbed();
    assert_in_order(&world);
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(insist(|| world.call(&to("disk", "sim1"))).device, "sim1");
    assert_eq!((guest.read(0, 4096), guest.read(64, 4096)), (pattern(5, 4096), pattern(6, 4096)));
    assert_in_order(&world);
    world.assert_lives_by_the_table();
    world.assert_journal_tells_the_same();
}

/// T3, S9: a source that is pulled out during the switch-over keeps the channel, and all that was written by then: so another daemon
/// finds it.
#[test]
fn a_source_that_goes_during_the_switch_over_has_the_channel_when_it_is_back() {
    let (world, mut guest, session) = two_devices_and_a_guest(8);
    assert_eq!(guest.write(0, &pattern(5, 4096)), OK);
    let job = to_the_switch_over(&world, &mut guest);
    world.sim().remove();
    assert_eq!(world.finish(job).state, JobState::Failed);
    world.wait_oper("disk", Oper::Quarantined);
    world.assert_lives_by_the_table();
    drop(session);
    let mut wreck = world.wreck();
    world.pull_and_stop();
    wreck.start();
    wreck.wait_scrubbed();
    let channel = wreck.show("disk");
    assert_eq!((channel.device.as_str(), channel.oper), ("sim0", Oper::Quarantined));
    let first = Extent { start: extents_of(&channel)[0].start, blocks: 8 };
    assert!(wreck.devices[0].read(first) == pattern(5, 4096));
    assert_in_order(&wreck);
    wreck.assert_journal_tells_the_same();
}

/// Where the crash is: a device, and whether its command is lost before it is carried out or after.
#[derive(Clone, Copy, Debug)]
struct Crash {
    device: usize,
    action: Action,
    skip: u32,
}

/// Crashes in a move; true when the move was over before the crash could be.
fn crash(at: Crash) -> bool {
    let mut world = World::idle(&["sim:nvme,size=32M", "sim:nvme,size=32M"]);
    world.start();
    let creation = call::ChannelCreate { endpoint: None, ..world.creation("disk", 6) };
    let content = |extent: Extent| pattern(11, usize::try_from(extent.blocks).unwrap() * 512);
    for extent in extents_of(&world.call(&creation).unwrap()) {
        world.sim().write_blocks(1, extent.start, &content(extent)).unwrap();
    }
    let faulty = &world.devices[at.device].sim;
    let before = faulty.counters().faults;
    let when = Match { queue: QueueMatch::Io, skip: at.skip, ..Match::default() };
    faulty.inject(Fault { when, action: at.action });
    let (answered, over, mut wreck) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| -> Result<ChannelInfo, RpcError> { world.call(&to("disk", "sim1")) });
        wait("it is over or stuck", || {
            (asked.is_finished() || faulty.counters().faults > before).then_some(())
        });
        let (over, wreck) = (faulty.counters().faults == before, world.wreck());
        let answered = asked.is_finished();
        world.devices.iter().for_each(|device| device.sim.remove());
        let _ = asked.join().unwrap();
        (answered, over, wreck)
    });
    world.pull_and_stop();
    wreck.start();
    wait("everything is scrubbed", || {
        let named: usize = wreck.devices.iter().map(|device| device.label().channels.len()).sum();
        let clean = wreck.devices.iter().all(|device| device.label().unscrubbed.is_empty());
        (named == 1 && clean).then_some(())
    });
    let channel = wreck.show("disk");
    assert_eq!((channel.oper, channel.size_bytes), (Oper::Provisioned, 6 * MIB));
    assert!(channel.device == "sim1" || !answered, "a move that was answered is undone");
    let device = &wreck.devices[usize::from(channel.device == "sim1")];
    let mut whole = Vec::new();
    extents_of(&channel).into_iter().for_each(|extent| whole.extend(device.read(extent)));
    assert!(whole == pattern(11, whole.len()), "{at:?}: its content is whole");
    assert_in_order(&wreck);
    wreck.assert_lives_by_the_table();
    wreck.assert_journal_tells_the_same();
    over
}

fn crash_at_every_step(device: usize) {
    for action in [Action::Hang, Action::Drop] {
        let mut steps = 0;
        while !crash(Crash { device, action, skip: steps }) {
            steps += 1;
        }
        assert!(steps > 0);
    }
}

/// T3: wherever in a move the daemon dies, one of the two devices has the channel, whole, and the other nothing of it.
#[test]
fn a_crash_at_any_command_of_the_source_leaves_the_channel_in_one_place() {
    crash_at_every_step(0);
}

/// T3, as above.
#[test]
fn a_crash_at_any_command_of_the_target_leaves_the_channel_in_one_place() {
    crash_at_every_step(1);
}
