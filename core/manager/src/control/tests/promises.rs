//! What devices are calibrated to do, what of that is reserved, and what tenants are held to.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use vfiomux_rpc::{
    Change, ErrorCode, EventKind, FunctionState, Guarantees, Limits, RateLimit, RpcError, SlowCause, call,
};
use vfiomux_spec::nvme::log::CriticalWarning;

use super::guest::{Guest, OK, pattern};
use super::world::{MIB, World, assert_refused, refusal, wait};

const SPEC: &str = "sim:nvme,size=64M";

fn calibrate(force: bool) -> call::DeviceCalibrate {
    call::DeviceCalibrate { device: "sim0".to_owned(), force, duration_ms: Some(20) }
}

/// A daemon whose device was calibrated, and what can be reserved on it.
fn calibrated() -> (World, u64) {
    let world = World::new(SPEC);
    let device = world.call(&calibrate(false)).unwrap();
    let capacity_ops = device.reservations.capacity_ops;
    assert!(capacity_ops > 0, "{:?}", device.calibration);
    (world, capacity_ops)
}

fn reserving(ops: u64) -> Guarantees {
    Guarantees { reservation_ops: Some(ops), ..Guarantees::default() }
}

fn creation(world: &World, name: &str, ops: u64) -> call::ChannelCreate {
    call::ChannelCreate { guarantees: reserving(ops), endpoint: None, ..world.creation(name, 4) }
}

fn tune(name: &str, ops: u64) -> call::ChannelTune {
    call::ChannelTune { name: name.to_owned(), guarantees: reserving(ops) }
}

fn tenant(name: &str, ops: u64, burst: u64) -> call::TenantTune {
    let ops = Some(RateLimit { per_second: ops, burst: Some(burst) });
    call::TenantTune { name: name.to_owned(), limits: Limits { ops, ..Limits::default() } }
}

/// C3: what a device was measured on is clean again before anybody can have it.
#[test]
fn calibrating_measures_the_device_and_leaves_its_blocks_as_they_were() {
    let mut world = World::new(SPEC);
    let created = world.create("disk", 8);
    let free_bytes = world.free_bytes();
    let device = world.call(&calibrate(false)).unwrap();
    let calibration = device.calibration.unwrap();
    assert!(calibration.read_ops > 0 && calibration.write_ops > 0 && calibration.read_latency_ns > 0);
    assert_eq!(calibration.capacity_units, calibration.read_ops * 1024);
    assert_eq!(calibration.cost.read_op + 4 * calibration.cost.read_kib, 1024);
    assert_eq!(device.reservations.capacity_ops, calibration.read_ops * 31 / 32);
    assert_eq!(world.free_bytes(), free_bytes);
    let label = world.devices[0].label();
    assert!(label.unscrubbed.is_empty(), "{label:?}");
    let used: Vec<_> = created.extents.iter().map(|extent| extent.first_block).collect();
    assert_eq!(used.len(), 1);
    let whole = world.creation("whole", free_bytes / MIB);
    for extent in world.call(&whole).unwrap().extents {
        let extent = crate::extent::Extent { start: extent.first_block, blocks: extent.blocks };
        assert!(world.devices[0].is_zero(extent), "{extent:?} was not scrubbed");
    }
    // Kept over a restart, and of no use to another device under the name.
    world.restart();
    assert_eq!(world.device("sim0").unwrap().calibration, Some(calibration));
    world.assert_journal_tells_the_same();
}

#[test]
fn a_device_at_work_is_calibrated_only_when_insisted_on() {
    let world = World::new(SPEC);
    world.create("disk", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(7, 4096)), OK);
    assert_refused(world.call(&calibrate(false)), ErrorCode::Busy, "such as disk");
    let dry = Change { dry_run: true, ..Change::default() };
    assert_eq!(world.call_with(&calibrate(true), &dry).unwrap().calibration, None);
    assert!(world.call(&calibrate(true)).unwrap().calibration.is_some());
    // What the guest has written is what it reads.
    assert_eq!(guest.read(0, 4096), pattern(7, 4096));
}

#[test]
fn a_device_without_room_is_not_calibrated() {
    let world = World::new(SPEC);
    let all = world.free_bytes() / MIB;
    world.create("disk", all);
    assert_refused(world.call(&calibrate(false)), ErrorCode::NoSpace, "no free blocks");
}

/// L5: what is reserved is held against what was calibrated, and a refusal says what is left.
#[test]
fn no_more_is_reserved_than_the_device_was_calibrated_to_do() {
    let (world, capacity) = calibrated();
    world.call(&creation(&world, "a", capacity - 10)).unwrap();
    let refused = world.call(&creation(&world, "b", 11)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoSpace);
    let said = format!("10 of {capacity} can: a has {}", capacity - 10);
    assert!(refused.message.contains(&said), "{}", refused.message);
    // Of another tenant's channel only the amount is told (C5).
    let stranger = call::ChannelCreate { tenant: "other".to_owned(), ..creation(&world, "c", 11) };
    let refused = world.call(&stranger).unwrap_err();
    assert!(refused.message.contains("other tenants have"), "{}", refused.message);
    assert!(!refused.message.contains("a has"), "{}", refused.message);
    world.call(&creation(&world, "b", 10)).unwrap();
    assert_refused(world.call(&tune("b", 11)), ErrorCode::NoSpace, "10 of");
    // What one gives up another can have; what a dry run would take stays free.
    world.call(&tune("a", 0)).unwrap();
    let dry = Change { dry_run: true, ..Change::default() };
    world.call_with(&tune("a", capacity - 10), &dry).unwrap();
    world.call(&tune("b", capacity)).unwrap();
    let reservations = world.device("sim0").unwrap().reservations;
    assert_eq!((reservations.reserved_ops, reservations.free_ops()), (capacity, 0));
    assert_eq!(reservations.holders.len(), 1);
    world.destroy("b", false).unwrap();
    assert_eq!(world.device("sim0").unwrap().reservations.reserved_ops, 0);
}

/// L5: the same after a restart, when what is reserved comes from the journal.
#[test]
fn reservations_are_held_against_the_device_after_a_restart() {
    let (mut world, capacity) = calibrated();
    world.call(&creation(&world, "a", capacity)).unwrap();
    world.restart();
    assert_eq!(world.device("sim0").unwrap().reservations.reserved_ops, capacity);
    assert_refused(world.call(&creation(&world, "b", 1)), ErrorCode::NoSpace, "0 of");
}

/// L5: nobody knows what a device that is not well can do, so nothing more is promised of it.
#[test]
fn a_degraded_device_keeps_what_it_has_promised_and_promises_nothing_more() {
    let (world, capacity) = calibrated();
    world.call(&creation(&world, "a", capacity / 2)).unwrap();
    world.sim().warn(CriticalWarning::new().with_temperature(true));
    wait("the device is degraded", || {
        (world.device("sim0").unwrap().state == FunctionState::Degraded).then_some(())
    });
    assert_refused(world.call(&creation(&world, "b", 1)), ErrorCode::Conflict, "less than it was calibrated");
    assert_refused(world.call(&tune("a", capacity / 2 + 1)), ErrorCode::Conflict, "less than");
    let reservations = world.device("sim0").unwrap().reservations;
    assert_eq!((reservations.capacity_ops, reservations.reserved_ops), (0, capacity / 2));
    assert!(reservations.reason.unwrap().contains("less than it was calibrated"));
    world.call(&creation(&world, "b", 0)).unwrap();
    world.call(&tune("a", 1)).unwrap();
}

/// Asks for two reservations of three quarters each at the same time.
fn race(world: &World, capacity: u64) -> Vec<Result<(), RpcError>> {
    let (say, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let (say, creation, mut client) =
                (say.clone(), creation(world, name, capacity / 4 * 3), world.client());
            scope.spawn(move || {
                say.send(refusal(client.call(&creation)).map(drop)).unwrap();
            });
        }
    });
    drop(say);
    hear.iter().collect()
}

/// L5: of two creations that race for the same room one gets it.
#[test]
fn racing_creations_do_not_get_the_same_room() {
    let (world, capacity) = calibrated();
    let results = race(&world, capacity);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let reservations = world.device("sim0").unwrap().reservations;
    assert!(reservations.reserved_ops <= reservations.capacity_ops, "{reservations:?}");
}

#[test]
fn a_device_that_was_not_calibrated_promises_nothing() {
    let world = World::new(SPEC);
    assert_refused(world.call(&creation(&world, "a", 1)), ErrorCode::Conflict, "was not calibrated");
    world.call(&creation(&world, "a", 0)).unwrap();
    let explained = world.call(&call::ChannelExplain { name: "b".to_owned() });
    assert_refused(explained, ErrorCode::NotFound, "channel b does not exist");
    assert!(world.device("sim0").unwrap().reservations.reason.unwrap().contains("device calibrate sim0"));
}

/// Q1, over two channels: sixteen requests at two hundred a second, four at once, take sixty milliseconds at least.
#[test]
fn a_tenants_limit_holds_over_all_its_channels_and_is_gone_when_it_is_taken_away() {
    let world = World::new(SPEC);
    let (a, b) = (world.create("a", 8), world.create("b", 8));
    let (mut first, mut second) = (Guest::new(), Guest::new());
    let _sessions = [first.connect(&world.endpoint("a").path), second.connect(&world.endpoint("b").path)];
    let tuned = world.call(&tenant("acme", 200, 4)).unwrap();
    assert_eq!((tuned.generation, tuned.channels), (1, vec![a.name, b.name]));
    // All of them wait when the first is looked at: one by one, they could come as slowly as the limit lets them.
    for (name, guest) in [("a", &mut first), ("b", &mut second)] {
        world.suspend(name).unwrap();
        (0..8).for_each(|_| guest.submit_write(0, &pattern(1, 512)));
    }
    let start = Instant::now();
    world.resume("a").unwrap();
    world.resume("b").unwrap();
    for guest in [&mut first, &mut second] {
        assert!(guest.finish().iter().all(|(status, _)| *status == OK));
    }
    assert!(start.elapsed() >= Duration::from_millis(55), "{:?}", start.elapsed());
    let limited = world.call(&call::TenantShow { name: "acme".to_owned() }).unwrap();
    assert!(limited.counters.tenant_limited_ns > 0 && limited.counters.limited_ns == 0, "{limited:?}");
    assert_eq!(limited.counters.write_ops, 16);
    // Answered when it is in force: nothing that comes after it waits.
    let none = call::TenantTune { name: "acme".to_owned(), limits: Limits::default() };
    let before = world.call(&none).unwrap().counters.tenant_limited_ns;
    for _ in 0..100 {
        assert_eq!(first.write(0, &pattern(1, 512)), OK);
    }
    let after = world.call(&call::TenantShow { name: "acme".to_owned() }).unwrap();
    assert_eq!(after.counters.tenant_limited_ns, before);
}

/// W1: what a tenant is held to is journalled, in force after a restart, and for channels that come later.
#[test]
fn a_tenants_limits_come_back_with_the_daemon() {
    let mut world = World::new(SPEC);
    world.call(&tenant("acme", 100, 1)).unwrap();
    world.restart();
    world.create("late", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("late").path);
    let start = Instant::now();
    for _ in 0..5 {
        assert_eq!(guest.write(0, &pattern(1, 512)), OK);
    }
    assert!(start.elapsed() >= Duration::from_millis(35), "{:?}", start.elapsed());
    world.assert_journal_tells_the_same();
}

#[test]
fn a_tenants_tune_can_be_tried_depends_on_what_was_seen_and_is_an_event() {
    let world = World::new(SPEC);
    let dry = Change { dry_run: true, ..Change::default() };
    world.call_with(&tenant("acme", 500, 50), &dry).unwrap();
    assert_refused(
        world.call(&call::TenantShow { name: "acme".to_owned() }),
        ErrorCode::NotFound,
        "tenant acme",
    );
    world.call(&tenant("acme", 500, 50)).unwrap();
    // The same again is no change.
    assert_eq!(world.call(&tenant("acme", 500, 50)).unwrap().generation, 1);
    let stale = Change { expected_generation: Some(0), ..Change::default() };
    assert_refused(world.call_with(&tenant("acme", 5, 5), &stale), ErrorCode::Conflict, "has generation 1");
    assert_refused(world.call(&tenant("acme", 0, 5)), ErrorCode::InvalidArgument, "cannot be 0");
    assert_refused(world.call(&tenant("", 5, 5)), ErrorCode::InvalidArgument, "1 to 63");
    let listed = world.call(&call::TenantList {}).unwrap();
    assert_eq!(listed.len(), 1);
    let told =
        world.wait_event("the tune", |event| event.kind == EventKind::Setting && event.object.name == "acme");
    assert_eq!(told.generation, Some(1));
}

#[test]
fn what_was_refused_is_explained_also_of_a_channel_that_does_not_exist() {
    let world = World::new(SPEC);
    assert_refused(world.call(&world.creation("big", 4096)), ErrorCode::NoSpace, "no room");
    let explained = world.call(&call::ChannelExplain { name: "big".to_owned() }).unwrap();
    let refused = explained.refused.unwrap();
    assert_eq!(refused.method, "channel.create");
    assert!(refused.reason.contains("no room") && refused.next.contains("ask for less"), "{refused:?}");
    assert_eq!((explained.plan.len(), explained.pace), (0, None));
}

#[test]
fn a_channel_is_told_why_it_is_served_as_it_is_and_what_it_waits_for() {
    let world = World::new(SPEC);
    let ops = Some(RateLimit { per_second: 50, burst: Some(1) });
    let guarantees = Guarantees { ops, ..Guarantees::default() };
    world.call(&call::ChannelCreate { guarantees, ..world.creation("disk", 8) }).unwrap();
    let explain = || world.call(&call::ChannelExplain { name: "disk".to_owned() }).unwrap();
    let idle = explain();
    assert_eq!(idle.pace.unwrap().cause, SlowCause::Idle);
    assert!(idle.plan.iter().any(|line| line.contains("submission queue of their own")), "{:?}", idle.plan);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    // There is always one that waits, however slow the guest is.
    let until = Instant::now() + Duration::from_millis(400);
    while Instant::now() < until || guest.in_flight() > 0 {
        while Instant::now() < until && guest.in_flight() < 8 {
            guest.submit_write(0, &pattern(1, 512));
        }
        assert!(guest.take_returned().iter().all(|(status, _)| *status == OK));
        std::thread::yield_now();
    }
    let pace = explain().pace.unwrap();
    assert_eq!(pace.cause, SlowCause::OwnLimit, "{pace:?}");
    assert!(pace.next.contains("channel tune disk"), "{pace:?}");
}
