//! On the busy path the daemon makes no system call per request.
//!
//! Only the sidecore's are counted: what control does by the clock is no matter of requests, and on a slow machine it is more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use vfiomux_tests::check::{self, Options};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::lab::Lab;

/// Eventfd signals are how a guest is told of completions, one a ring and breath at most; and a simulated device gives discarded memory
/// back to the system, which is the device's doing and not the daemon's.
const EXPECTED: [&str; 2] = ["write", "madvise"];

#[test]
fn a_busy_sidecore_makes_no_system_call_per_request() {
    // strace comes with the lab.
    if Lab::find_or_skip().is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = "[sidecores]\nmode = \"poll\"\n";
    let daemon = Vfiomuxd::start_with_config(directory.path(), &["sim:nvme,size=256M,run=inline"], config);
    let socket = daemon.create_channel("a", "sim0", "alice", 64, 1);
    let load =
        Options { operations: 20_000, depth: 32, sweep: false, max_bytes: 4096, ..Options::new(socket) };

    let counts = directory.path().join("system-calls");
    let calls = counted_while(&daemon, &counts, || {
        check::run(&load).unwrap_or_else(|error| panic!("{error}"));
    });
    let others: u64 =
        calls.iter().filter(|(name, _)| !EXPECTED.contains(&name.as_str())).map(|call| call.1).sum();
    // What there is belongs to the session's beginning and end.
    assert!(
        others < load.operations / 50,
        "{others} system calls for {} requests: {calls:?}",
        load.operations
    );
}

/// The daemon's only sidecore, as the kernel numbers threads.
fn sidecore(daemon: &Vfiomuxd) -> String {
    let tasks = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    let mut threads =
        fs::read_dir(tasks).expect("the daemon runs").map(|entry| entry.expect("a thread").path());
    let named =
        |thread: &PathBuf| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "sidecore-0\n");
    let found = threads.find(named).expect("it has a sidecore");
    found.file_name().expect("a number").to_string_lossy().into_owned()
}

/// Counts the system calls of the daemon's sidecore while `work` is done.
fn counted_while(daemon: &Vfiomuxd, counts: &Path, work: impl FnOnce()) -> Vec<(String, u64)> {
    let complaints = counts.with_extension("log");
    let mut strace = Command::new("strace")
        .args(["-c", "-o"])
        .arg(counts)
        .args(["-p", &sidecore(daemon)])
        .stdin(Stdio::null())
        .stderr(fs::File::create(&complaints).expect("a file of our own"))
        .spawn()
        .expect("strace is installed");
    let said = || fs::read_to_string(&complaints).unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !said().contains("attached") {
        assert!(Instant::now() < deadline, "strace does not attach: {}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
    work();
    rustix::process::kill_process(Pid::from_child(&strace), Signal::INT).expect("strace runs");
    strace.wait().expect("strace ends");

    // "% time  seconds  usecs/call  calls  [errors]  syscall", between two rules.
    let table = fs::read_to_string(counts).expect("strace wrote its table");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| Some(((*row.last()?).to_owned(), row.get(3)?.parse().ok()?)))
        .filter(|(name, _)| name != "total")
        .collect()
}
