//! The whole program in its shortest form: our daemon and, where it is installed, qemu-storage-daemon.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

/// A run of one short round. No timing is judged.
fn run(only: &str, output: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vfiomux-side-by-side"))
        .args(["--rounds", "1", "--seconds", "0.1", "--only", only, "--output"])
        .arg(output)
        .output()
        .unwrap()
}

#[test]
fn every_installed_server_answers_requests_and_the_report_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let output = run("guest/randread-4k-qd8/+-null", directory.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let report: Value =
        serde_json::from_str(&fs::read_to_string(directory.path().join("report.json")).unwrap()).unwrap();
    let iops = |contender: &str| {
        let measurements = report["measurements"].as_array().unwrap();
        measurements.iter().find(|run| run["contender"] == contender).and_then(|run| run["iops"].as_f64())
    };
    for contender in ["vfiomux-null", "vfiomux-null-poll"] {
        assert!(iops(contender).is_some_and(|iops| iops > 0.0), "{contender}: {report:#}");
    }
    match iops("qsd-null") {
        Some(iops) => assert!(iops > 0.0),
        None => {
            let failures = report["failures"].as_array().unwrap();
            let why = failures.iter().find(|failure| failure["contender"] == "qsd-null").unwrap();
            assert!(why["why"].as_str().unwrap().contains("not installed"), "{why}");
        }
    }
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("randread-4k-qd8") && table.contains("Targets"), "{table}");
    assert!(directory.path().join("randread-4k-iops.svg").exists());
}

#[test]
fn a_selection_of_nothing_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let output = run("nonsense", directory.path());
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--list"));
}
