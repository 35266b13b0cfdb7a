//! What an operator may get wrong: each is refused with a complaint that says what to do, and everything else goes on.

use std::fs;
use std::os::unix::net::UnixListener;

use vfiomux_tests::check::{self, Options};
use vfiomux_tests::daemon::Vfiomuxd;

#[track_caller]
fn assert_says(complaint: &str, wanted: &[&str]) {
    for word in wanted {
        assert!(
            complaint.to_lowercase().contains(&word.to_lowercase()),
            "does not say {word:?}: {complaint}"
        );
    }
}

#[test]
fn a_device_that_is_not_there_is_told_of_and_keeps_nobody_from_the_others() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["0000:fe:1f.7", "sim:nvme,size=64M"]);
    let device = daemon.ctl_json(&["device", "show", "0000:fe:1f.7"]);
    assert_eq!(device["state"], "failed");
    assert_says(
        device["reason"].as_str().unwrap_or_default(),
        &["no PCI function 0000:fe:1f.7", "device list"],
    );
    let create = ["channel", "create", "a", "--device", "0000:fe:1f.7", "--tenant", "alice", "--size", "16M"];
    assert_says(&daemon.ctl_refused(&create), &["0000:fe:1f.7"]);
    daemon.create_channel("a", "sim0", "alice", 16, 1);
}

#[test]
fn a_daemon_on_something_that_is_no_device_at_all() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for nonsense in ["sim:floppy", "sim:nvme,size=12Q", "sim:nvme,sise=1G", "/dev/nvme0n1", ""] {
        let (status, complaint) = Vfiomuxd::refused(directory.path(), &[nonsense]);
        assert!(!status.success(), "{nonsense:?}");
        assert!(!complaint.contains("panicked"), "{nonsense:?}: {complaint}");
    }
}

#[test]
fn a_configuration_that_is_no_toml_or_has_a_misspelt_key() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("vfiomux.toml");
    fs::write(&config, "sidecores = = 1").expect("a file of our own");
    let (status, complaint) = Vfiomuxd::refused_with_config(directory.path(), &config);
    assert!(!status.success());
    assert_says(&complaint, &["vfiomux.toml"]);

    fs::write(&config, "[sidecore]\ncpus = [1]\n").expect("a file of our own");
    let (status, complaint) = Vfiomuxd::refused_with_config(directory.path(), &config);
    assert!(!status.success());
    assert_says(&complaint, &["vfiomux.toml", "sidecore", "sidecores"]);

    let (status, complaint) =
        Vfiomuxd::refused_with_config(directory.path(), &directory.path().join("absent.toml"));
    assert!(!status.success());
    assert_says(&complaint, &["absent.toml"]);
}

#[test]
fn a_second_daemon_in_the_place_of_a_running_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let first = Vfiomuxd::start(directory.path(), &["sim:nvme,size=64M"]);
    let (status, complaint) = Vfiomuxd::refused(directory.path(), &["sim:nvme,size=64M"]);
    assert!(!status.success());
    assert!(!complaint.is_empty());
    first.ctl(&["status"]);
}

#[test]
fn a_disk_whose_label_cannot_be_read_is_not_carved_and_not_overwritten_unasked() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = directory.path().join("image");
    let spec = format!("sim:nvme,size=64M,file={}", image.display());
    let daemon = Vfiomuxd::start(directory.path(), &[&spec]);
    daemon.create_channel("a", "sim0", "alice", 16, 1);
    daemon.terminate();

    // Both copies of the label lie in the first megabytes.
    let mut bytes = fs::read(&image).expect("the simulated disk's file");
    for byte in &mut bytes[..4 << 20] {
        *byte ^= 0xa5;
    }
    fs::write(&image, bytes).expect("the simulated disk's file");

    let daemon = Vfiomuxd::start(directory.path(), &[&spec]);
    let complaint = daemon.ctl_refused(&["device", "format", "sim0"]);
    assert_says(&complaint, &["--erase"]);
    let complaint = daemon
        .ctl_refused(&["channel", "create", "b", "--device", "sim0", "--tenant", "bob", "--size", "16M"]);
    assert_says(&complaint, &["format"]);
    daemon.ctl(&["status"]);
}

#[test]
fn channels_that_cannot_be() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M"]);
    let socket = daemon.create_channel("a", "sim0", "alice", 32, 1);
    let create = |name: &str, device: &str, size: &str, endpoint: &str| {
        let arguments = ["channel", "create", name, "--device", device, "--tenant", "bob", "--size", size];
        if endpoint.is_empty() {
            daemon.ctl_refused(&arguments)
        } else {
            daemon.ctl_refused(&[&arguments[..], &["--endpoint", endpoint]].concat())
        }
    };

    assert_says(&create("b", "sim0", "1T", ""), &["sim0"]);
    assert_says(&create("b", "sim7", "16M", ""), &["sim7"]);
    assert_says(&create("a", "sim0", "16M", ""), &["a"]);
    create("Not A Name", "sim0", "16M", "");
    create("b", "sim0", "0", "");
    create("b", "sim0", "much", "");
    let nowhere = directory.path().join("no/such/directory/b.sock");
    assert_says(&create("b", "sim0", "16M", &nowhere.to_string_lossy()), &["b.sock"]);
    assert_says(&create("b", "sim0", "16M", &socket.to_string_lossy()), &["a.sock"]);
    let taken = directory.path().join("taken.sock");
    let _listener = UnixListener::bind(&taken).expect("a socket of our own");
    assert_says(&create("b", "sim0", "16M", &taken.to_string_lossy()), &["taken.sock"]);
    let long = directory.path().join("x".repeat(200));
    create("b", "sim0", "16M", &long.to_string_lossy());

    // None of them left anything behind.
    let channels = daemon.ctl_json(&["channel", "list"]);
    assert_eq!(channels.as_array().map(Vec::len), Some(1), "{channels}");
    check::run(&Options::new(socket)).expect("the first channel works as before");
    daemon.create_channel("b", "sim0", "bob", 32, 1);
}

#[test]
fn what_is_not_there_cannot_be_shown_or_ended() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=64M"]);
    for verb in ["show", "destroy", "suspend", "resume", "detach", "path"] {
        assert_says(&daemon.ctl_refused(&["channel", verb, "ghost"]), &["ghost"]);
    }
    for verb in ["show", "claim", "release", "format"] {
        assert_says(&daemon.ctl_refused(&["device", verb, "0000:fe:1f.7"]), &["0000:fe:1f.7"]);
    }
}
