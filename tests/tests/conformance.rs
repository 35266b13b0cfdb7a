//! The back-end's side of vhost-user, judged by a front-end that others wrote: the crate `virtio-driver`, driven by
//! [`vfiomux_tests::check`].

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vfiomux_tests::backend::{Backend, QemuStorageDaemon};
use vfiomux_tests::check::{self, CheckError, Initial, Options, Segments};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::frontend::{Driver, Request, STATUS_OK};
use vfiomux_tests::lab::Lab;

/// A disk that QEMU's own daemon serves: the checker is held against it before it judges anything of ours.
fn reference_disk() -> Option<(TempDir, QemuStorageDaemon, Options)> {
    Lab::find_or_skip()?;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut backend = QemuStorageDaemon::new(directory.path());
    let socket = backend.create_disk("disk", 64, 2);
    Some((directory, backend, Options { rings: 2, ..Options::new(socket) }))
}

#[test]
fn the_checker_finds_nothing_wrong_with_qemu_s_storage_daemon() {
    let Some((directory, _backend, options)) = reference_disk() else { return };
    let remember = Some(directory.path().join("content"));
    let first = Options { initial: Initial::Zero, remember: remember.clone(), ..options.clone() };
    let outcome = check::run(&first).expect("a right back-end passes");
    assert_eq!(outcome.capacity_bytes, 64 << 20);
    assert!(outcome.reads > 0 && outcome.writes > 0 && outcome.discards > 0 && outcome.write_zeroes > 0);

    let second = Options {
        initial: remember.map(Initial::Remembered).expect("set above"),
        segments: Segments::Odd,
        seed: 2,
        ..options
    };
    check::run(&second).expect("what the first run left is there");
}

#[test]
fn the_checker_notices_that_somebody_else_wrote_to_its_disk() {
    let Some((directory, _backend, options)) = reference_disk() else { return };
    let content = directory.path().join("content");
    let mine = Options { remember: Some(content.clone()), ..options.clone() };
    check::run(&mine).expect("a right back-end passes");
    let somebody_else = Options { identity: 2, seed: 3, operations: 50, ..options.clone() };
    check::run(&somebody_else).expect("a right back-end passes");

    let outcome = check::run(&Options { initial: Initial::Remembered(content), ..options });
    assert!(matches!(outcome, Err(CheckError::Mismatch(_))), "{outcome:?}");
}

#[test]
fn the_checker_demands_zeros_of_a_new_disk() {
    let Some((_directory, _backend, options)) = reference_disk() else { return };
    check::run(&Options { operations: 50, ..options.clone() }).expect("a right back-end passes");
    let outcome = check::run(&Options { initial: Initial::Zero, ..options });
    assert!(matches!(outcome, Err(CheckError::Mismatch(_))), "{outcome:?}");
}

/// The load of one tenant, told from the others' by its identity.
fn load(directory: &Path, socket: PathBuf, identity: u32, rings: u16) -> Options {
    Options {
        identity,
        rings,
        seed: u64::from(identity),
        initial: Initial::Zero,
        remember: Some(directory.join(format!("content-{identity}"))),
        ..Options::new(socket)
    }
}

/// What follows a load on the same disk: it must hold what the load left.
fn next(load: &Options) -> Options {
    let remembered = load.remember.clone().expect("every load remembers");
    Options { initial: Initial::Remembered(remembered), seed: load.seed + 100, ..load.clone() }
}

/// Runs loads at the same time, each on a thread.
#[track_caller]
fn run_together(loads: &[Options]) {
    let failures: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = loads.iter().map(|load| scope.spawn(|| check::run(load))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().expect("a check does not panic").err())
            .collect()
    });
    assert!(failures.is_empty(), "{failures:?}");
}

/// Two tenants at work on one device without hardware, twice, with buffers cut in every way.
#[track_caller]
fn two_tenants_on(spec: &str, queues: u16) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &[spec]);
    let device = format!("{}0", spec.split(':').next().expect("a spec has a kind"));
    let first = load(directory.path(), daemon.create_channel("a", &device, "alice", 48, queues), 1, queues);
    let second = load(directory.path(), daemon.create_channel("b", &device, "bob", 48, queues), 2, queues);
    run_together(&[first.clone(), second.clone()]);
    let odd = |load: &Options| Options { segments: Segments::Odd, ..next(load) };
    run_together(&[odd(&first), odd(&second)]);
    daemon.terminate();
}

#[test]
fn two_tenants_on_512_byte_blocks() {
    two_tenants_on("sim:nvme,size=256M,lba=512", 2);
}

#[test]
fn two_tenants_on_4096_byte_blocks_without_sgl() {
    two_tenants_on("sim:nvme,size=256M,lba=4096,sgl=off", 2);
}

#[test]
fn two_tenants_on_a_single_queue_pair_with_small_transfers() {
    two_tenants_on("sim:nvme,size=256M,queues=1,mdts=1,entries=32", 1);
}

#[test]
fn two_tenants_on_a_controller_that_completes_out_of_order() {
    two_tenants_on("sim:nvme,size=256M,seed=7", 4);
}

#[test]
fn two_tenants_on_a_disk_in_memory() {
    two_tenants_on("ram:size=256M", 2);
}

#[test]
fn two_tenants_on_a_disk_in_memory_with_4096_byte_blocks() {
    two_tenants_on("ram:size=256M,lba=4096", 1);
}

#[test]
fn a_device_that_does_nothing_and_a_disk_in_memory_stand_side_by_side() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon =
        Vfiomuxd::start(directory.path(), &["null:size=1G", "ram:size=64M", "null:size=2G,lba=4096"]);
    let list = daemon.ctl_json(&["device", "list"]);
    let seen = |name: &str, key: &str| {
        let device = list.as_array().and_then(|all| all.iter().find(|device| device["name"] == name));
        device.map(|device| device[key].clone()).unwrap_or_default()
    };
    assert_eq!((seen("null0", "class"), seen("null0", "state")), ("null".into(), "ready".into()));
    assert_eq!((seen("null1", "model"), seen("ram0", "class")), ("null device".into(), "ram".into()));
    let socket = daemon.create_channel("a", "null1", "alice", 512, 1);
    let mut driver = Driver::connect(&socket, 1).expect("a session");
    driver.start_ring(0).expect("the ring starts");
    let mut data = vec![0xa5; 8192];
    assert_eq!(driver.request(0, Request::Write, 8, &mut data, false), Some(STATUS_OK));
    assert_eq!(driver.request(0, Request::Read, 16, &mut data, true), Some(STATUS_OK));
    drop(driver);
    daemon.ctl(&["channel", "destroy", "a", "--force"]);
    daemon.terminate();
}

/// C3
#[test]
fn the_next_owner_of_a_place_on_a_disk_in_memory_finds_zeros() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["ram:size=128M"]);
    for owner in 1..4 {
        let socket = daemon.create_channel("a", "ram0", &format!("tenant-{owner}"), 64, 1);
        run_together(&[Options { span_bytes: 64 << 20, ..load(directory.path(), socket, owner, 1) }]);
        daemon.ctl(&["channel", "destroy", "a", "--force"]);
    }
}

#[test]
fn data_outlives_a_restart_and_a_crash_of_the_daemon() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = format!("sim:nvme,size=256M,file={}", directory.path().join("image").display());
    let daemon = Vfiomuxd::start(directory.path(), &[&spec]);
    let first = load(directory.path(), daemon.create_channel("a", "sim0", "alice", 48, 1), 1, 1);
    let second = load(directory.path(), daemon.create_channel("b", "sim0", "bob", 48, 1), 2, 1);
    run_together(&[first.clone(), second.clone()]);
    daemon.terminate();

    let daemon = Vfiomuxd::start(directory.path(), &[&spec]);
    run_together(&[next(&first), next(&second)]);
    daemon.kill();

    let _daemon = Vfiomuxd::start(directory.path(), &[&spec]);
    run_together(&[next(&first), next(&second)]);
}

#[test]
fn a_front_end_that_dies_with_requests_in_flight_can_be_replaced_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M,service-ns=200000"]);
    let first = load(directory.path(), daemon.create_channel("a", "sim0", "alice", 48, 2), 1, 2);
    check::run(&first).expect("the first front-end ends well");
    for round in 0..10 {
        let dies = Options { abandon_after: Some(100), seed: 1_000 + round, ..next(&first) };
        check::run(&dies).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    run_together(&[next(&first)]);
}

#[test]
fn a_channel_that_is_suspended_and_resumed_under_load_loses_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M"]);
    let long = Options {
        operations: 20_000,
        ..load(directory.path(), daemon.create_channel("a", "sim0", "alice", 48, 2), 1, 2)
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| check::run(&long));
        for _ in 0..5 {
            daemon.ctl(&["channel", "suspend", "a"]);
            assert_eq!(daemon.ctl_json(&["channel", "show", "a"])["oper"], "suspended");
            daemon.ctl(&["channel", "resume", "a"]);
        }
        let outcome = load.join().expect("a check does not panic");
        outcome.unwrap_or_else(|error| panic!("{error}"));
    });
}

/// C3
#[test]
fn the_next_owner_of_a_channel_s_place_finds_zeros() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=128M,zeroes=off,sanitize=off"]);
    for owner in 1..6 {
        let socket = daemon.create_channel("a", "sim0", &format!("tenant-{owner}"), 64, 1);
        // The whole of the channel is used, so that whatever part of it the next owner gets was written to.
        let whole = Options { span_bytes: 64 << 20, ..load(directory.path(), socket, owner, 1) };
        run_together(&[whole]);
        // By force: the daemon need not have noticed yet that the front-end is gone.
        daemon.ctl(&["channel", "destroy", "a", "--force"]);
    }
}
