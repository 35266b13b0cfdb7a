//! The demonstration, run as a person runs it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::Parser as _;
use rustix::process::{Pid, Signal, kill_process};

fn demonstration(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfiomux-demo"));
    command.env("TMPDIR", directory).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn it_verifies_shows_says_how_to_go_on_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = demonstration(directory.path()).args(["--seconds", "1"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        "CHANNEL      IOPS",
        "alpha",
        "beta",
        "every one held what its tenant last wrote",
        "65 536 blocks read back",
        "ended on SIGTERM, exit code 0",
        "vfiomuxd --device sim:nvme,size=4G",
        "channel create disk0",
        "-device vhost-user-blk-pci",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    let daemon = text.lines().find(|line| line.contains("vfiomuxd --device")).unwrap();
    let words = daemon.trim_end_matches('&').split_whitespace();
    vfiomux_daemon::Arguments::try_parse_from(words).expect("what is to be typed is a command of vfiomuxd");
    assert!(is_empty(directory.path()), "something is left in {directory:?}");
}

#[test]
fn ctrl_c_ends_it_early_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut child =
        demonstration(directory.path()).args(["--seconds", "3600"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("beta") && line.ends_with(" s")), "no line of the table");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("exit code 0")), "{rest:#?}");
    assert!(is_empty(directory.path()), "something is left in {directory:?}");
}

#[test]
fn help_says_what_it_does_and_hides_what_is_not_for_people() {
    let output = Command::new(env!("CARGO_BIN_EXE_vfiomux-demo")).arg("--help").output().unwrap();
    let text = text(&output);
    assert!(output.status.success());
    assert!(text.contains("--seconds <SECONDS>") && text.contains("Ctrl-C"), "{text}");
    assert!(!text.contains("daemon   "), "{text}");
}
