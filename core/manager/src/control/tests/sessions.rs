//! Front-ends: what they lend, what they hold up, and what is left of them.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;

use vfiomux_rpc::{Endpoint, EndpointMode, ErrorCode, EventKind, call};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo};

use super::guest::{Guest, OK, Session, pattern};
use super::world::{Device, PATIENCE, World, assert_refused, wait};
use crate::lifecycle::Oper;
use crate::seeded::Bug;

const SPEC: &str = "sim:nvme,size=64M";

/// A world with an attached channel, and how many mappings it has of its own.
fn attached(bug: Option<Bug>) -> (World, usize) {
    let mut world = World::idle(&[SPEC]);
    world.bug = bug;
    world.start();
    world.create("disk", 8);
    let own = world.devices[0].mappings();
    (world, own)
}

#[track_caller]
fn assert_only_ours(world: &World, own: usize) {
    wait("no session is left", || world.show("disk").session.is_none().then_some(()));
    assert_eq!(world.devices[0].mappings(), own, "what a front-end lent is still mapped (D1)");
}

/// The second region of a table cannot be mapped, for one reason or another.
fn a_failed_table_leaks_nothing(bug: Option<Bug>) {
    let (_, own) = attached(None);
    let mut device = Device::spec(SPEC);
    device.iommu.mappings_max = own + 1;
    let mut world = World::with_devices(vec![Device::made("sim0", device)]);
    world.bug = bug;
    world.start();
    world.create("disk", 8);
    let (guest, other) = (Guest::new(), Guest::new());
    let apart = VhostUserMemoryRegionInfo { guest_phys_addr: 0x9_0000_0000, ..other.region() };
    let beyond_its_file = VhostUserMemoryRegionInfo { memory_size: apart.memory_size * 2, ..apart };
    let overlapping = VhostUserMemoryRegionInfo { guest_phys_addr: 0x1_0000_1000, ..apart };
    for second in [beyond_its_file, overlapping, apart] {
        let session = Session::connect(&world.endpoint("disk").path).unwrap();
        assert!(session.frontend.set_mem_table(&[guest.region(), second]).is_err());
        session.hang_up();
        assert_only_ours(&world, own);
    }
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(1, 512)), OK);
}

#[test]
fn a_memory_table_that_cannot_be_mapped_leaks_nothing() {
    a_failed_table_leaks_nothing(None);
}

/// D1's seeded bug.
#[test]
#[should_panic(expected = "still mapped (D1)")]
fn a_leak_on_a_failed_handshake_is_caught() {
    a_failed_table_leaks_nothing(Some(Bug::LeakOnFailedHandshake));
}

/// D1: wherever a front-end goes away, nothing of its memory stays mapped.
#[test]
fn a_front_end_that_goes_away_at_any_message_leaves_nothing() {
    let (world, own) = attached(None);
    let path = world.endpoint("disk").path;
    for bytes in (0..600).step_by(7) {
        Guest::new().connect_and_die_after(&path, bytes);
    }
    wait("the channel listens", || (world.show("disk").oper == Oper::Listening).then_some(()));
    wait("nothing is left", || (world.devices[0].mappings() == own).then_some(()));
    let mut guest = Guest::new();
    let _session = guest.connect(&path);
    assert_eq!(guest.write(0, &pattern(1, 512)), OK);
    world.assert_lives_by_the_table();
}

#[test]
fn a_replacement_connection_is_taken_at_once_and_finishes_what_was_in_flight() {
    let (world, _) = attached(None);
    let path = world.endpoint("disk").path;
    let mut guest = Guest::new();
    let old = guest.connect(&path);
    for sector in 0..8 {
        guest.submit_write(sector * 8, &pattern(2, 4096));
    }
    let _new = guest.connect(&path);
    assert!(guest.finish().iter().all(|(status, _)| *status == OK));
    assert_eq!(guest.read(8, 4096), pattern(2, 4096));
    drop(old);
    world.assert_lives_by_the_table();
}

#[test]
fn an_orderly_stop_gives_the_ring_back_and_the_next_start_goes_on() {
    let (world, _) = attached(None);
    let mut guest = Guest::new();
    let mut session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(2, 4096)), OK);
    assert_eq!(session.frontend.get_vring_base(0).unwrap(), 1);
    world.wait_oper("disk", Oper::Listening);
    guest.begin(&mut session).unwrap();
    assert_eq!(guest.read(0, 4096), pattern(2, 4096));
    world.wait_oper("disk", Oper::Active);
    world.assert_lives_by_the_table();
}

#[test]
fn a_suspended_channel_keeps_its_front_end_waiting_and_serves_it_when_resumed() {
    let (world, _) = attached(None);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(2, 4096)), OK);
    world.suspend("disk").unwrap();
    guest.submit_write(8, &pattern(3, 4096));
    assert_eq!(world.sim().outstanding(), 0);
    assert!(guest.take_returned().is_empty());
    assert_eq!(world.resume("disk").unwrap().oper, Oper::Active);
    assert_eq!(guest.finish()[0].0, OK);
    world.assert_lives_by_the_table();
}

#[test]
fn a_resize_is_seen_by_the_front_end_that_is_connected() {
    let (world, _) = attached(None);
    let mut guest = Guest::new();
    let mut session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(session.capacity_bytes(), 8 << 20);
    world.resize("disk", 16).unwrap();
    assert_eq!(session.capacity_bytes(), 16 << 20);
    assert_eq!(guest.write(15 << 11, &pattern(4, 4096)), OK);
    world.resize("disk", 4).unwrap();
    assert_ne!(guest.write(15 << 11, &pattern(5, 4096)), OK);
    world.assert_whole();
    world.assert_lives_by_the_table();
}

/// Client mode: the daemon knocks until somebody listens, and again after the front-end went.
#[test]
fn a_front_end_that_listens_itself_is_called_on() {
    let world = World::new(SPEC);
    let endpoint = Endpoint { path: world.directory.path().join("vmm.sock"), mode: EndpointMode::Client };
    let made = call::ChannelCreate { endpoint: Some(endpoint.clone()), ..world.creation("disk", 8) };
    world.call(&made).unwrap();
    let listener = UnixListener::bind(&endpoint.path).unwrap();
    let mut guest = Guest::new();
    for round in 1..3 {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut session = Session::over(stream).unwrap();
        guest.begin(&mut session).unwrap();
        assert_eq!(guest.write(0, &pattern(round, 4096)), OK);
        session.hang_up();
    }
    world.detach("disk").unwrap();
    world.assert_lives_by_the_table();
}

#[test]
fn endpoints_that_cannot_be_are_refused_before_anything_is_made() {
    let world = World::new(SPEC);
    let free = world.free_bytes();
    let at = |path: &str| Some(Endpoint { path: path.into(), mode: EndpointMode::Server });
    let file = world.directory.path().join("file");
    std::fs::write(&file, "not a socket").unwrap();
    let taken = world.directory.path().join("taken");
    let _listener = UnixListener::bind(&taken).unwrap();
    let long = format!("/tmp/{}", "x".repeat(200));
    for (path, code) in [
        ("/nonexistent/disk.sock", ErrorCode::InvalidArgument),
        (file.to_str().unwrap(), ErrorCode::InvalidArgument),
        (long.as_str(), ErrorCode::InvalidArgument),
        (taken.to_str().unwrap(), ErrorCode::Busy),
    ] {
        let wanted = call::ChannelCreate { endpoint: at(path), ..world.creation("disk", 8) };
        assert_refused(world.call(&wanted), code, "");
    }
    assert_eq!(world.free_bytes(), free);
    assert!(world.call(&call::ChannelList { tenant: None }).unwrap().is_empty());
}

/// One VM's memory, lent over two sockets, is mapped once, and stays while either has it.
#[test]
fn memory_lent_twice_is_mapped_once() {
    let (world, _) = attached(None);
    world.create("second", 8);
    let own = world.devices[0].mappings();
    let guest = Guest::new();
    let first = Session::connect(&world.endpoint("disk").path).unwrap();
    let second = Session::connect(&world.endpoint("second").path).unwrap();
    for session in [&first, &second] {
        session.frontend.set_mem_table(&[guest.region()]).unwrap();
        assert_eq!(world.devices[0].mappings(), own + 1);
    }
    first.hang_up();
    assert_only_ours(&world, own + 1);
    second.hang_up();
    wait("nothing is left", || (world.devices[0].mappings() == own).then_some(()));
}

/// A front-end that speaks nonsense loses its session; others do not notice.
#[test]
fn nonsense_ends_its_own_session_only() {
    let (world, _) = attached(None);
    world.create("neighbour", 8);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("neighbour").path);
    let mut bad = Session::connect(&world.endpoint("disk").path).unwrap();
    bad.say(&[0xff; 64]);
    world.wait_event("the session ended", |event| {
        event.kind == EventKind::Session && event.object.name == "disk" && event.to.as_deref() == Some("gone")
    });
    assert!(bad.frontend.as_raw_fd() >= 0);
    assert_eq!(guest.write(0, &pattern(1, 512)), OK);
    assert_eq!(world.show("disk").oper, Oper::Listening);
}
