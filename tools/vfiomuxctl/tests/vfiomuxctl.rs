//! The tool, run as an operator runs it, against a daemon that only answers.

mod apply;
mod daemon;

use std::io::{BufRead, BufReader};
use std::path::Path;

use assert_cmd::Command;
use daemon::{Daemon, channel, claimed_device, held_device};
use serde_json::{Value, json};
use vfiomux_rpc::{
    Bucket, Change, ChannelPath, Distribution, Endpoint, EndpointMode, ErrorCode, Event, EventCounts,
    EventKind, EventList, Gap, HopKind, Lane, Method, Object, ObjectKind, Outcome, RpcError, SidecoreChannel,
    SidecoreInfo, SidecoreMode, SidecoreRest, Status, Subscription, call,
};

/// What the tool printed, and its exit code.
struct Done {
    out: String,
    err: String,
    code: i32,
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn run(control: &Path, arguments: &[&str]) -> Done {
    let mut command = Command::cargo_bin("vfiomuxctl").unwrap();
    let output = command.env("VFIOMUX_CONTROL", control).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { out: text(output.stdout), err: text(output.stderr), code: output.status.code().unwrap() }
}

/// Runs the tool against the manager below.
fn ask(arguments: &[&str]) -> Done {
    run(&Daemon::start(manager, vec![event(1), event(2)]).control(), arguments)
}

fn manager(method: &Method, _: &Change) -> Result<Outcome, RpcError> {
    Ok(match method {
        Method::StatusShow(_) => status().into(),
        Method::DeviceList(_) => vec![claimed_device(), held_device()].into(),
        Method::DeviceShow(_)
        | Method::DeviceClaim(_)
        | Method::DeviceRelease(_)
        | Method::DeviceFormat(_) => claimed_device().into(),
        Method::ChannelList(_) => vec![channel()].into(),
        Method::ChannelPath(_) => path().into(),
        Method::EventsList(_) => {
            let gap = Some(Gap { first_seq: 3, last_seq: 6 });
            EventList { events: vec![event(7)], gap, last_seq: 7 }.into()
        }
        Method::SidecoreList(_) => vec![sidecore()].into(),
        Method::SidecoreShow(_) | Method::SidecoreSet(_) => sidecore().into(),
        Method::EventsSubscribe(_) => Subscription { gap: None, last_seq: 0 }.into(),
        _ => channel().into(),
    })
}

fn sidecore() -> SidecoreInfo {
    SidecoreInfo {
        index: 0,
        cpu: Some(3),
        mode: SidecoreMode::Adaptive,
        busy_permille: 125,
        channels: 2,
        breath_time: vec![
            Bucket { up_to_ns: 127, count: 9_000 },
            Bucket { up_to_ns: 2_303, count: 990 },
            Bucket { up_to_ns: 40_959, count: 10 },
        ],
        rest: SidecoreRest {
            asleep: true,
            spin_max_us: 50,
            sleep_cost_ns: 6500,
            busy_ns: 1_000_000,
            spun_ns: 500_000,
            asleep_ns: 8_500_000,
            naps: 20,
            short_naps: 3,
            woken_by_kicks: 12,
            woken_by_devices: 7,
            woken_by_orders: 1,
            wake_to_submit: Distribution {
                count: 19,
                mean_ns: 2100,
                p50_ns: 2000,
                p99_ns: 4500,
                p999_ns: 4500,
            },
        },
        serves: vec![
            SidecoreChannel {
                name: "disk-a".into(),
                tenant: "acme".into(),
                load_permille: 20,
                lane: Lane::Shared,
            },
            SidecoreChannel {
                name: "disk-b".into(),
                tenant: "acme".into(),
                load_permille: 105,
                lane: Lane::Own,
            },
        ],
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 77,
        uptime_ms: 3_723_000,
        sidecores: vec![sidecore()],
        devices: 1,
        channels: 2,
        sessions: 1,
        events: EventCounts { oldest_seq: 5, next_seq: 9, dropped: 4 },
    }
}

fn path() -> ChannelPath {
    let mut path = ChannelPath::new("disk-a");
    let vmm = path.push(&[], HopKind::Vmm, "process 4711", None);
    let channel = path.push(&[vmm], HopKind::Channel, "disk-a", None);
    let rings = [0, 1].map(|ring| path.push(&[channel], HopKind::Virtqueue, ring.to_string(), None));
    path.push(&rings, HopKind::QueuePair, "3", Some("shared".into()));
    path
}

fn event(seq: u64) -> Event {
    Event {
        seq,
        time_unix_ns: 1_709_251_200_000_000_000,
        kind: EventKind::Oper,
        object: Object { kind: ObjectKind::Channel, name: "disk-a".into() },
        tenant: Some("acme".into()),
        from: Some("listening".into()),
        to: Some("active".into()),
        reason: Some("ring 0 enabled".into()),
        uid: None,
        generation: None,
    }
}

#[test]
fn devices_are_listed_with_whoever_holds_them() {
    let done = ask(&["device", "list"]);
    let expected = "\
DEVICE        STATE       DRIVER    GROUP  NUMA  SIZE  FREE  MODEL
0000:03:00.0  ready       vfio-pci     12     0    4G    3G  QEMU NVMe Ctrl
              shares its group with 0000:03:00.1
0000:04:00.0  discovered  nvme         13     -     -     -  A model whose name…
              held: nvme0n1p2 mounted on /home
";
    assert_eq!((done.out.as_str(), done.code), (expected, 0));
}

#[test]
fn json_is_what_the_daemon_gave() {
    assert_eq!(ask(&["device", "list", "--json"]).json(), json!([claimed_device(), held_device()]));
    assert_eq!(ask(&["--json", "channel", "show", "disk-a"]).json(), json!(channel()));
    assert_eq!(ask(&["status", "--json"]).json(), json!(status()));
    assert_eq!(ask(&["channel", "path", "disk-a", "--json"]).json(), json!(path()));
}

#[test]
fn every_table_fits_into_80_columns() {
    for arguments in [
        &["device", "list"][..],
        &["device", "show", "sim0"],
        &["channel", "list"],
        &["channel", "show", "disk-a"],
        &["channel", "path", "disk-a"],
        &["status"],
    ] {
        let done = ask(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
        for line in done.out.lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
            assert!(!line.contains('\u{1b}'), "colour without a terminal: {line}");
        }
    }
}

#[test]
fn a_device_is_shown_with_what_is_left_of_it() {
    let out = ask(&["device", "show", "0000:03:00.0"]).out;
    for line in [
        "IOMMU group  12, shared with 0000:03:00.1",
        "space        3G free of 4G",
        "queue pairs  2 used of 63",
        "has          volatile cache, write zeroes",
    ] {
        assert!(out.contains(line), "{line} is missing in:\n{out}");
    }
}

#[test]
fn a_channel_is_shown_with_state_reasons_and_times() {
    let out = ask(&["channel", "show", "disk-a"]).out;
    for line in [
        "carved      256M of sim0, namespace 1, 512-byte blocks",
        "endpoint    /run/a.sock",
        "health      degraded",
        "because     copies every request",
        "plan        own submission queue, zero copy",
        "session     process 4711, 1G of memory in 1 regions, 1 rings",
        "in device         9us  8us  20us  1.5ms",
        "waiting in ring     -    -     -      -",
    ] {
        assert!(out.contains(line), "{line} is missing in:\n{out}");
    }
}

#[test]
fn a_path_is_shown_both_ways() {
    let expected = "\
HOP  TO VM  TO DEVICE  WHAT        NAME          DETAIL
  0  -      1          vmm         process 4711
  1  0      2,3        channel     disk-a
  2  1      4          virtqueue   0
  3  1      4          virtqueue   1
  4  2,3    -          queue pair  3             shared
";
    assert_eq!(ask(&["channel", "path", "disk-a"]).out, expected);
}

#[test]
fn the_daemon_is_shown_in_short() {
    let expected = "\
vfiomuxd  0.1.0, process 77, up 1h 2m
serves    1 devices, 2 channels, 1 sessions
events    4 kept, 4 dropped, last number 8

SIDECORE  CPU  MODE       BUSY  CHANNELS  NOW     WAKES IN
       0    3  adaptive  12.5%         2  asleep       2us
";
    assert_eq!(ask(&["status"]).out, expected);
    let (_, sidecores) = expected.split_once("\n\n").unwrap();
    assert_eq!(ask(&["sidecore", "list"]).out, sidecores);
}

#[test]
fn a_sidecore_is_shown_with_how_it_rests() {
    let expected = "\
sidecore        0
processor       3
mode            adaptive: spins up to 50us, then sleeps
now             asleep
channels        2
busy            12.5% of late
time            10.0% serving, 5.0% looking in vain, 85.0% asleep
rounds          half within 127ns, 99.9% within 2.3us, none above 40us
sleeps          20, 3 of them too short to pay
a sleep costs   6.5us
woken by        kicks 12, devices 7, control 1
wake to submit  half within 2us, 99% within 4.5us, mean 2.1us

CHANNEL   LOAD  SUBMISSION QUEUE
disk-b   10.5%  own
disk-a    2.0%  shared
";
    assert_eq!(ask(&["sidecore", "show", "0"]).out, expected);
}

#[test]
fn a_sidecore_is_given_another_mode() {
    let daemon = Daemon::start(manager, vec![]);
    let done = run(&daemon.control(), &["sidecore", "set", "0", "--mode", "poll"]);
    assert!(done.out.starts_with("sidecore 0: adaptive: "), "{}", done.out);
    let set = call::SidecoreSet { index: 0, mode: SidecoreMode::Poll };
    assert_eq!(daemon.asked(), [(Method::SidecoreSet(set), Change::default())]);
    let done = run(&daemon.control(), &["sidecore", "set", "0", "--mode", "fast"]);
    assert!(done.code == 2 && done.err.contains("poll, adaptive, event"), "{}", done.err);
}

#[test]
fn a_channel_is_moved_to_where_it_is_typed() {
    let daemon = Daemon::start(manager, vec![]);
    let done = run(&daemon.control(), &["channel", "move", "disk-a", "--sidecore", "1", "--dry-run"]);
    assert!(done.out.contains("channel disk-a lies on sim0 and is served by"), "{}", done.out);
    let asked = call::ChannelMove { name: "disk-a".into(), sidecore: Some(1), device: None };
    assert_eq!(daemon.asked(), [(Method::ChannelMove(asked), Change { dry_run: true, ..Change::default() })]);
    let done = run(&daemon.control(), &["channel", "move", "disk-a"]);
    assert!(done.code == 2 && done.err.contains("--sidecore <N>"), "{}", done.err);
}

#[test]
fn a_channel_is_created_as_typed() {
    let daemon = Daemon::start(manager, vec![]);
    let endpoint = daemon.directory().join("a.sock");
    let typed = format!(
        "channel create disk-a --device sim0 --tenant acme --size 256M --queues 2 --dry-run --endpoint {}",
        endpoint.display()
    );
    let done = run(&daemon.control(), &typed.split(' ').collect::<Vec<_>>());
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with("dry run, nothing changed: channel disk-a created: 256M of sim0 for acme"));
    assert!(done.out.contains("next: vfiomuxctl channel show disk-a --qemu"), "{}", done.out);
    let create = call::ChannelCreate {
        name: "disk-a".into(),
        device: "sim0".into(),
        tenant: "acme".into(),
        size_bytes: 256 << 20,
        queues: 2,
        endpoint: Some(Endpoint { path: endpoint, mode: EndpointMode::Server }),
        namespace: None,
        block_bytes: None,
        read_only: false,
        guarantees: vfiomux_rpc::Guarantees::default(),
        labels: vfiomux_rpc::Labels::default(),
    };
    let change = Change { dry_run: true, ..Change::default() };
    assert_eq!(daemon.asked(), [(Method::ChannelCreate(create), change)]);
}

#[test]
fn a_relative_endpoint_is_made_absolute() {
    let daemon = Daemon::start(manager, vec![]);
    let typed =
        ["channel", "attach", "disk-a", "--endpoint", "a.sock", "--client", "--expected-generation", "4"];
    assert_eq!(run(&daemon.control(), &typed).code, 0);
    let asked = daemon.asked();
    let [(Method::ChannelAttach(attach), change)] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(attach.endpoint.path.is_absolute() && attach.endpoint.path.ends_with("a.sock"));
    assert_eq!((attach.endpoint.mode, change.expected_generation), (EndpointMode::Client, Some(4)));
}

#[test]
fn every_verb_makes_its_call() {
    for (typed, method) in [
        ("device claim 0000:03:00.0", "device.claim"),
        ("device release 0000:03:00.0", "device.release"),
        ("device format sim0 --erase", "device.format"),
        ("channel list --tenant acme", "channel.list"),
        ("channel detach disk-a", "channel.detach"),
        ("channel suspend disk-a", "channel.suspend"),
        ("channel resume disk-a", "channel.resume"),
        ("channel resize disk-a --size 1G", "channel.resize"),
        ("channel destroy disk-a --force --request-id r1", "channel.destroy"),
    ] {
        let daemon = Daemon::start(manager, vec![]);
        let done = run(&daemon.control(), &typed.split(' ').collect::<Vec<_>>());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{typed}");
        assert_eq!(daemon.asked()[0].0.name(), method);
    }
}

#[test]
fn a_refusal_says_what_to_do_next_and_has_an_exit_code() {
    macro_rules! refuse {
        ($code:ident, $exit:literal) => {
            let daemon = Daemon::start(
                |_, _| Err(RpcError::new(ErrorCode::$code, "it is so").about("channel x").next("do this")),
                vec![],
            );
            let done = run(&daemon.control(), &["channel", "destroy", "x"]);
            assert_eq!(done.err, "vfiomuxctl: it is so\n  next: do this\n");
            assert_eq!((done.out.as_str(), done.code), ("", $exit));
            let done = run(&daemon.control(), &["channel", "destroy", "x", "--json"]);
            let error: Value = serde_json::from_str(&done.err).unwrap();
            assert_eq!(error["error"]["code"], ErrorCode::$code.number());
            assert_eq!(error["error"]["data"], json!({ "what": "channel x", "next": "do this" }));
            assert_eq!(done.code, $exit);
        };
    }
    refuse!(InvalidArgument, 1);
    refuse!(NotFound, 4);
    refuse!(Denied, 5);
    refuse!(Permission, 6);
    refuse!(Exists, 7);
    refuse!(Busy, 7);
    refuse!(Conflict, 7);
    refuse!(NoSpace, 8);
    refuse!(DeviceFault, 9);
}

#[test]
fn wrong_usage_is_told_without_a_daemon() {
    for (typed, hint) in [
        ("channel create a --device d --tenant t --size 1X", "such as 256M"),
        ("channel create a --device d --tenant t --size 1M --client", "--endpoint"),
        ("channel show a --qemu --libvirt", "cannot be used with"),
        ("channel resize a", "--size"),
        ("chanel list", "channel"),
        ("events --follow --limit 3", "cannot be used with"),
    ] {
        let done = run(Path::new("/nonexistent"), &typed.split(' ').collect::<Vec<_>>());
        assert_eq!(done.code, 2, "{typed}");
        assert!(done.err.contains(hint), "{typed}: {}", done.err);
    }
}

#[test]
fn a_daemon_that_is_not_there_is_named_with_what_to_do() {
    let done = run(Path::new("/nonexistent/control.sock"), &["status"]);
    assert_eq!(done.code, 3);
    assert!(
        done.err.starts_with("vfiomuxctl: cannot reach vfiomuxd at /nonexistent/control.sock"),
        "{}",
        done.err
    );
    assert!(done.err.contains("next: start vfiomuxd"), "{}", done.err);
}

#[test]
fn a_vmm_is_told_how_to_attach() {
    let qemu = ask(&["channel", "show", "disk-a", "--qemu"]);
    assert!(qemu.out.contains("path=/run/a.sock,reconnect=1"), "{}", qemu.out);
    assert!(ask(&["channel", "show", "disk-a", "--libvirt"]).out.contains("<disk type='vhostuser'"));
    assert!(ask(&["channel", "show", "disk-a", "--cloud-hypervisor"]).out.contains("vhost_user=true"));
    let firecracker = ask(&["channel", "show", "disk-a", "--firecracker"]).json();
    assert_eq!(firecracker["drives"][0]["socket"], "/run/a.sock");
    let arguments = ask(&["channel", "show", "disk-a", "--qemu", "--json"]).json();
    assert_eq!(arguments[0], "-object");
}

#[test]
fn a_detached_channel_cannot_be_shown_to_a_vmm() {
    let daemon = Daemon::start(
        |_, _| {
            let mut detached = channel();
            detached.endpoint = None;
            Ok(detached.into())
        },
        vec![],
    );
    let done = run(&daemon.control(), &["channel", "show", "disk-a", "--qemu"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("run vfiomuxctl channel attach disk-a"), "{}", done.err);
}

#[test]
fn events_are_listed_with_what_is_missing() {
    let expected = "     -  events 3 to 6 are missing
     7  2024-03-01 00:00:00.000  channel disk-a: oper listening -> active (ring 0 enabled)
";
    assert_eq!(ask(&["events", "--since", "2"]).out, expected);
}

#[test]
fn events_are_followed_until_the_daemon_ends() {
    let done = ask(&["events", "--follow", "--since", "0", "--json"]);
    let events: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events, [json!(event(1)), json!(event(2))]);
    assert_eq!(done.code, 3, "{}", done.err);
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let daemon = Daemon::start(manager, vec![]);
    let mut tool = std::process::Command::new(assert_cmd::cargo::cargo_bin("vfiomuxctl"))
        .args(["--control", daemon.control().to_str().unwrap(), "device", "list", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(tool.stdout.take());
    let output = tool.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[test]
fn channels_are_watched_with_their_rates() {
    let daemon = Daemon::start(manager, vec![]);
    let mut tool = std::process::Command::new(assert_cmd::cargo::cargo_bin("vfiomuxctl"))
        .args(["--control", daemon.control().to_str().unwrap(), "status", "--watch"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(tool.stdout.take().unwrap()).lines().map(Result::unwrap);
    let frames: Vec<String> = lines.filter(|line| line.starts_with("disk-a")).take(2).collect();
    tool.kill().unwrap();
    tool.wait().unwrap();
    assert!(frames[0].contains("active     -        -"), "there is no rate yet: {}", frames[0]);
    assert!(frames[1].contains("active     0        0"), "nothing was done since: {}", frames[1]);
}

#[test]
fn completions_and_manual_are_generated() {
    let nowhere = Path::new("/nonexistent");
    let bash = run(nowhere, &["completions", "bash"]);
    assert!(bash.out.contains("cloud-hypervisor"), "{}", bash.out);
    let manual = run(nowhere, &["man"]);
    assert!(manual.out.contains("Exit codes") && manual.out.contains("VFIOMUX_CONTROL"), "{}", manual.out);
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    assert_eq!(run(nowhere, &["man", pages.to_str().unwrap()]).code, 0);
    assert!(pages.join("vfiomuxctl-channel-create.1").exists());
}
