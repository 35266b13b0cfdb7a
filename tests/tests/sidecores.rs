//! Channels that go from one sidecore to another, or from one device to another, while verified I/O runs on them: moved by hand and
//! by load.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use vfiomux_tests::check::{Load, Options, Outcome};
use vfiomux_tests::daemon::Vfiomuxd;

/// Times that each channel goes there and back.
const ROUNDS: u32 = 100;
/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon with two sidecores on a simulated controller and a RAM disk, each with a channel.
fn daemon(directory: &Path, balance: &str) -> Vfiomuxd {
    let config = format!("[sidecores]\ncpus = [0, 1]\n\n[sidecores.balance]\n{balance}\n");
    let devices = ["sim:nvme,size=256M", "ram:size=256M"];
    let daemon = Vfiomuxd::start_with_config(directory, &devices, &config);
    daemon.create_channel("flash", "sim0", "acme", 64, 2);
    daemon.create_channel("memory", "ram0", "acme", 64, 2);
    daemon
}

/// Verified I/O on a channel, session after session.
fn load(daemon: &Vfiomuxd, name: &str) -> Load {
    Load::begin(Options {
        rings: 2,
        operations: 1_000,
        max_bytes: 64 << 10,
        span_bytes: 4 << 20,
        ..Options::new(daemon.endpoint(name))
    })
}

/// Moves a channel. While its session ends, or its commands do not end in time, it stays where it is, and the daemon is asked
/// again.
#[track_caller]
fn move_to(daemon: &Vfiomuxd, name: &str, sidecore: &str) {
    let said = moved(daemon, &["channel", "move", name, "--sidecore", sidecore]);
    assert!(said.contains(&format!("is served by sidecore {sidecore}")), "{said}");
}

/// Has a move done, and gives what was said of it.
#[track_caller]
fn moved(daemon: &Vfiomuxd, arguments: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = daemon.try_ctl(arguments);
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains("stays where it is"), "{complaint}\n{}", daemon.log());
        assert!(Instant::now() < deadline, "{complaint}");
    }
}

fn sidecore_of(channel: &Value) -> u64 {
    channel["sidecore"].as_u64().expect("it is served")
}

/// What the daemon has counted as done is what the front-end has seen done. What it refused are the requests beyond the disk's end
/// that every run tries.
#[track_caller]
fn assert_counted(channel: &Value, seen: &Outcome) {
    let count = |name: &str| channel["counters"][name].as_u64().expect("a count");
    let requests = ["read_ops", "write_ops", "flush_ops", "discard_ops", "write_zeroes_ops"].map(count);
    let Outcome { reads, writes, flushes, discards, write_zeroes, .. } = seen;
    let done = requests.iter().sum::<u64>() - count("error_ops");
    assert_eq!(done, reads + writes + flushes + discards + write_zeroes, "{channel:#}");
    assert_eq!(count("stale_completions"), 0, "{channel:#}");
}

/// I1, I2, D2: hundreds of moves of channels at work, and every block is right, no request failed, and the counters add up.
#[test]
fn channels_are_moved_by_hand_while_their_guests_work() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = daemon(directory.path(), "enabled = false");
    let names = ["flash", "memory"];
    let loads = names.map(|name| load(&daemon, name));
    for _ in 0..ROUNDS {
        for name in names {
            move_to(&daemon, name, "1");
            move_to(&daemon, name, "0");
        }
    }
    let seen = loads.map(Load::end);
    for (name, seen) in names.iter().zip(&seen) {
        let channel = daemon.ctl_json(&["channel", "show", name]);
        assert_counted(&channel, seen);
        assert!(daemon.ctl(&["channel", "path", name]).contains("sidecore 0"));
    }
    let shown = daemon.ctl(&["sidecore", "show", "0"]);
    assert!(shown.contains("flash") && shown.contains("memory"), "{shown}");
    daemon.terminate();
}

/// C1, I2, T3: a channel goes from a controller to memory and back, though the two are not of a kind, and its guest, which verifies
/// all that it reads, notices nothing; what it had on either is scrubbed and free.
#[test]
fn a_channel_goes_from_a_controller_to_memory_and_back_while_its_guest_works() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let devices = ["sim:nvme,size=64M", "ram:size=64M"];
    let daemon = Vfiomuxd::start(directory.path(), &devices);
    let free = || {
        ["sim0", "ram0"].map(|device| {
            let shown = daemon.ctl_json(&["device", "show", device]);
            shown["namespaces"][0]["free_bytes"].as_u64().expect("a size")
        })
    };
    daemon.create_channel("disk", "sim0", "acme", 16, 2);
    let before = free();
    let load = load(&daemon, "disk");
    for _ in 0..3 {
        for device in ["ram0", "sim0"] {
            moved(&daemon, &["channel", "move", "disk", "--device", device]);
            assert_eq!(daemon.ctl_json(&["channel", "show", "disk"])["device"], device);
        }
    }
    let seen = load.end();
    assert_counted(&daemon.ctl_json(&["channel", "show", "disk"]), &seen);
    assert_eq!(free(), before);
    daemon.terminate();
}

/// Channels with a light load come together on one sidecore by themselves, and the daemon says why.
#[test]
fn channels_are_gathered_while_their_guests_work() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // However little this machine gives the sidecores, their load is under such a low water.
    let balance = "high_water_percent = 100\nlow_water_percent = 90\ninterval_ms = 100";
    let daemon = daemon(directory.path(), balance);
    let at = |name: &str| sidecore_of(&daemon.ctl_json(&["channel", "show", name]));
    let deadline = Instant::now() + PATIENCE;
    // A few requests at a time: enough to be seen, too few to fill a sidecore.
    let loads = ["flash", "memory"].map(|name| {
        Load::begin(Options {
            operations: 20,
            depth: 1,
            max_bytes: 4096,
            span_bytes: 1 << 20,
            sweep: false,
            ..Options::new(daemon.endpoint(name))
        })
    });
    while at("flash") != at("memory") {
        assert!(Instant::now() < deadline, "not gathered: {}", daemon.ctl(&["sidecore", "list"]));
    }
    for load in loads {
        load.end();
    }
    let events = daemon.ctl_json(&["events"]);
    let moved = |event: &&Value| event["kind"] == "moved";
    let told = events["events"].as_array().and_then(|all| all.iter().find(moved)).expect("an event");
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("can sleep")), "{told}");
    daemon.terminate();
}
