//! `vfiomux-load`, run as a user runs it, against our daemon and against QEMU's.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use vfiomux_tests::backend::{Backend, QemuStorageDaemon};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::lab::workspace_program;

fn load(arguments: &[&str]) -> Output {
    Command::new(workspace_program("vfiomux-load")).args(arguments).output().expect("vfiomux-load runs")
}

/// The report of a run that went well.
#[track_caller]
fn report(arguments: &[&str]) -> Value {
    let output = load(&[arguments, &["--json"]].concat());
    let complaint = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {complaint}{said}", output.status);
    serde_json::from_slice(&output.stdout).expect("a report is JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the test's own directory has a plain name")
}

#[track_caller]
fn assert_verified(report: &Value) {
    let verify = &report["verify"];
    for wrong in ["stale", "misplaced", "torn", "foreign"] {
        assert_eq!(verify[wrong], 0, "{verify}");
    }
    assert!(verify["blocks_checked"].as_u64() > Some(0), "{verify}");
}

#[test]
fn it_verifies_a_disk_of_qemu_s_storage_daemon_on_two_queues() {
    if Command::new("qemu-storage-daemon").arg("--version").output().is_err() {
        println!("SKIPPED: qemu-storage-daemon is not installed");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut backend = QemuStorageDaemon::new(directory.path());
    let socket = backend.create_disk("disk", 64, 2);
    let words = "--pattern randrw --verify --size 8M --requests 4k --depth 16 --queues 2 --flush-every 100";
    let arguments: Vec<&str> = [text(&socket)].into_iter().chain(words.split(' ')).collect();
    let report = report(&arguments);
    assert_verified(&report);
    assert_eq!(report["total"]["requests"], 4000);
    assert_eq!(report["total"]["failed"]["io_error"], 0);
    assert!(report["total"]["flushes"].as_u64() > Some(30));
    assert!(report["total"]["latency"]["p50_ns"].as_u64() > Some(0));
}

#[test]
fn guests_of_our_daemon_are_verified_each_and_served_alike() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M"]);
    daemon.create_channel("g0", "sim0", "alice", 64, 1);
    daemon.create_channel("g1", "sim0", "bob", 64, 1);
    let pattern = daemon.endpoint("g{}");
    let words = "--guests 2 --pattern randrw --read-percent 70 --verify --size 4M --requests 2k --depth 8";
    let arguments: Vec<&str> = [text(&pattern)].into_iter().chain(words.split(' ')).collect();
    let report = report(&arguments);
    assert_verified(&report);
    let guests = report["guests"].as_array().expect("a list of guests");
    for (guest, name) in guests.iter().zip(["g0", "g1"]) {
        assert_eq!(guest["socket"], text(&daemon.endpoint(name)));
        assert_eq!(guest["disk_bytes"], 64 << 20);
        assert_eq!(guest["tally"]["requests"], 2000);
    }
    assert!(report["fairness"]["jain"].as_f64() > Some(0.5));
}

#[test]
fn a_rate_is_kept_asleep_and_every_arrival_is_accounted_for() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M"]);
    let socket = daemon.create_channel("a", "sim0", "alice", 64, 1);
    let words = "--rate 2000 --arrivals poisson --wait sleep --duration 500ms --ramp 100ms";
    let arguments: Vec<&str> = [text(&socket)].into_iter().chain(words.split(' ')).collect();
    let report = report(&arguments);
    let open = &report["open_loop"];
    let count = |name: &str| open[name].as_u64().unwrap_or_else(|| panic!("{name} in {open}"));
    assert!(count("due") > 500, "{open}");
    assert_eq!(count("due"), count("submitted") + count("backlog_end"));
    assert_eq!(report["total"]["requests"], open["submitted"]);
    assert!(report["total"]["calls"].as_u64() > Some(0), "it slept, so it was called");
}

#[test]
fn a_disk_that_keeps_nothing_is_found_out() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["null:size=256M"]);
    let socket = daemon.create_channel("a", "null0", "alice", 64, 1);
    let output =
        load(&[text(&socket), "--pattern", "randwrite", "--verify", "--size", "1M", "--requests", "500"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("WRONG DATA"), "{said}");
}

#[test]
fn what_it_prints_for_people_and_draws_is_whole() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M"]);
    let socket = daemon.create_channel("a", "sim0", "alice", 64, 1);
    let svg = directory.path().join("latency.svg");
    let output = load(&[text(&socket), "--requests", "500", "--svg", text(&svg)]);
    let said = String::from_utf8_lossy(&output.stdout);
    for part in ["IOPS", "P99.9", "LATENCY", "p50", "signals", "this client"] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "no colours where nobody sees them");
    assert!(std::fs::read_to_string(svg).expect("a plot").starts_with("<svg"));
}

#[test]
fn a_socket_without_a_server_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let nobody = directory.path().join("nobody.sock");
    let output = load(&[text(&nobody)]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("nobody.sock") && complaint.contains("is its server running?"), "{complaint}");
}
