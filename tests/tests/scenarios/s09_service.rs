use std::time::{Duration, Instant};

use serde_json::json;
use vfiomux_tests::check::{self, Initial, Load, Options};
use vfiomux_tests::scenario::{Answer, Operator, Scenario};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

const DEVICES: [&str; 2] = ["sim:nvme,size=128M", "sim:nvme,size=128M,file=@DIR@/image"];

/// S9: a device that fails or is serviced: its channels end in a known state, with an event, and come back with it.
#[test]
fn s9_a_device_is_taken_out_and_comes_back() {
    let mut scenario = Scenario::begin("S9", &DEVICES);
    let mut operator = scenario.operator();
    operator.call("channel.create", scenario.channel("stays", "sim0", 16));
    let made = operator.call("channel.create", scenario.channel("serviced", "sim1", 16));
    let memory = scenario.directory().join("memory");
    let socket = scenario.socket("serviced");
    let options = Options {
        operations: 500,
        span_bytes: 8 << 20,
        remember: Some(memory.clone()),
        ..Options::new(&socket)
    };
    check::run(&options).unwrap_or_else(|error| panic!("{error}"));

    // A device that serves is not given away under its channels.
    let refusal = operator.refused("device.release", json!({ "device": "sim1" }), "serves 1 channels");
    assert!(!refusal.get("next").text().is_empty());
    let seen = operator.call("events.list", json!({})).get("last_seq").number();
    scenario.terminate();

    // Started without it: the channel is kept, is known not to be served, and says why.
    scenario.start(&DEVICES[..1], "");
    let mut operator = scenario.operator();
    let waiting = operator.call("channel.show", json!({ "name": "serviced" }));
    assert!(waiting.get("health").is("failed") && waiting.get("sidecore").is_null());
    assert!(waiting.get("reasons").get("health").text().contains("not here"));
    let refusal = operator.refused("channel.destroy", json!({ "name": "serviced" }), "cannot be scrubbed");
    assert!(refusal.get("next").text().contains("bring the device back"));
    let told = operator.call("events.list", json!({ "since": seen })).get("events").items();
    let failed = told
        .iter()
        .find(|event| event.get("object").get("name").is("serviced") && event.get("to").is("failed"))
        .expect("an event tells of it");
    assert!(failed.get("kind").is("health") && !failed.get("reason").text().is_empty());
    scenario.terminate();

    // With the device back, so is the channel, and every byte of it.
    scenario.start(&DEVICES, "");
    let mut operator = scenario.operator();
    let back = operator
        .call_until("channel.show", &json!({ "name": "serviced" }), |channel| channel.get("health").is("ok"));
    assert_eq!(back.get("id").text(), made.get("id").text());
    assert!(back.get("device").is("sim1"));
    let options = Options { initial: Initial::Remembered(memory), seed: 2, ..options };
    check::run(&options).unwrap_or_else(|error| panic!("{error}"));
    scenario.held();
}

/// Moves a channel to another device. While its session ends, or its commands do not end in time, it stays where it is, and the
/// daemon is asked again.
#[track_caller]
fn move_to(operator: &mut Operator, name: &str, device: &str) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let wanted = json!({ "name": name, "device": device });
        if let Some(moved) = operator.call_unless("channel.move", wanted, "stays where it is") {
            return moved;
        }
        assert!(Instant::now() < deadline, "channel {name} is never moved");
    }
}

/// S9: a device that is about to fail says so everywhere, and its channels are taken elsewhere while their guests work: every byte
/// is right, no request fails, and then it can go.
#[test]
fn s9_channels_leave_a_device_that_warns_while_their_guests_work() {
    let devices = ["sim:nvme,size=128M,warn-after=1000", "sim:nvme,size=128M"];
    let scenario = Scenario::begin("S9", &devices);
    let mut operator = scenario.operator();
    let mut watcher = scenario.operator();
    watcher.subscribe(0);
    operator.call("channel.create", scenario.channel("busy", "sim0", 16));
    operator.call("channel.create", scenario.channel("idle", "sim0", 16));
    let mut load = Load::begin(Options {
        rings: 2,
        operations: 500,
        max_bytes: 64 << 10,
        span_bytes: 4 << 20,
        initial: Initial::Zero,
        remember: Some(scenario.directory().join("busy.held")),
        ..Options::new(scenario.socket("busy"))
    });

    let told = watcher.wait_until("sim0", "degraded");
    assert!(told.get("kind").is("function") && told.get("from").is("ready"));
    assert!(told.get("reason").text().contains("reliability_degraded: true"));
    assert!(watcher.wait_for("fault").get("reason").text().contains("its health changed"));
    let device = operator.call("device.show", json!({ "device": "sim0" }));
    assert!(device.get("state").is("degraded") && device.get("reason").text().contains("health is critical"));
    assert_eq!(device.get("channels").raw(), &json!(["busy", "idle"]));
    let plan = operator.call("channel.explain", json!({ "name": "busy" })).get("plan").items();
    let advice = plan.iter().map(Answer::text).find(|line| line.contains("device sim0 is degraded"));
    assert!(advice.expect("it is said why that is no place to stay").contains("channel move"));

    for name in ["busy", "idle"] {
        let before = operator.call("channel.show", json!({ "name": name })).get("generation").number();
        let moved = move_to(&mut operator, name, "sim1");
        assert!(moved.get("device").is("sim1") && moved.get("health").is("ok"));
        assert_eq!(moved.get("generation").number(), before + 1);
    }
    load.wait_for_sessions(2, PATIENCE);
    let left = operator.call("device.show", json!({ "device": "sim0" }));
    assert!(left.get("channels").items().is_empty());
    assert_eq!(left.get("pools").get("bytes").get("used").number(), 0, "it was scrubbed behind them");
    operator.call("device.release", json!({ "device": "sim0" }));
    load.wait_for_sessions(1, PATIENCE);
    let done = load.end();
    assert!(done.reads > 0 && done.writes > 0 && done.failed == 0, "{done:?}");
    let counters = operator.call("channel.show", json!({ "name": "busy" })).get("counters");
    assert_eq!(counters.get("stale_completions").number(), 0);
    scenario.held();
}

/// S9, ISO2: a controller that stops takes its own channels out of service, in a state that is known and told, and nobody else's;
/// with the device serviced they come back, and all that was answered is there.
#[test]
fn s9_a_device_that_fails_takes_nobody_else_with_it() {
    let broken =
        ["sim:nvme,size=128M,file=@DIR@/image,fail-after=2000", "sim:nvme,size=128M,file=@DIR@/other"];
    let mut scenario = Scenario::begin("S9", &broken);
    let mut operator = scenario.operator();
    let mut watcher = scenario.operator();
    watcher.subscribe(0);
    operator.call("channel.create", scenario.channel("hit", "sim0", 16));
    operator.call("channel.create", scenario.channel("beside", "sim1", 16));
    let small = |name: &str| Options {
        operations: 300,
        max_bytes: 4096,
        span_bytes: 1 << 20,
        ..Options::new(scenario.socket(name))
    };
    let mut beside = Load::begin(small("beside"));
    let held = scenario.directory().join("hit.held");
    let begun = Options { remember: Some(held.clone()), initial: Initial::Zero, ..small("hit") };
    check::run(&begun).unwrap_or_else(|error| panic!("{error}"));
    let hit = Options {
        initial: Initial::Remembered(held.clone()),
        operations: 1_000_000,
        seed: 2,
        until_error: true,
        ..begun
    };
    let seen = check::run(&hit).unwrap_or_else(|error| panic!("{error}"));
    assert!(seen.failed > 0);

    let told = watcher.wait_until("sim0", "lost");
    assert!(told.get("kind").is("function") && told.get("reason").text().contains("its controller failed"));
    let told = watcher.wait_until("hit", "quarantined");
    assert!(told.get("kind").is("oper") && told.get("reason").text().contains("device sim0 left"));
    let device = operator.call("device.show", json!({ "device": "sim0" }));
    assert!(device.get("state").is("lost") && device.get("reason").text().contains("its controller failed"));
    let channel = operator.call("channel.show", json!({ "name": "hit" }));
    assert!(channel.get("oper").is("quarantined") && channel.get("health").is("failed"));
    let pace = operator.call("channel.explain", json!({ "name": "hit" })).get("pace");
    assert!(pace.get("cause").is("not_served") && pace.get("summary").text().contains("quarantined"));
    operator.refused("channel.resume", json!({ "name": "hit" }), "sim0");
    operator.refused("channel.move", json!({ "name": "hit", "device": "sim1" }), "stays where it is");

    // Nobody else has noticed.
    beside.wait_for_sessions(2, PATIENCE);
    let neighbour = operator.call("channel.show", json!({ "name": "beside" }));
    assert!(neighbour.get("health").is("ok") && neighbour.get("epoch").number() == 1);
    assert_eq!(beside.end().failed, 0);
    scenario.terminate();

    let serviced = broken.map(|device| device.replace(",fail-after=2000", ""));
    scenario.start(&serviced.each_ref().map(String::as_str), "");
    let mut operator = scenario.operator();
    let kept = operator.call("channel.show", json!({ "name": "hit" }));
    assert!(kept.get("oper").is("quarantined"), "it waits for an operator's word");
    let resumed = operator.call("channel.resume", json!({ "name": "hit" }));
    assert!(resumed.get("oper").is("listening") && resumed.get("health").is("ok"));
    let whole = Options { operations: 300, until_error: false, seed: 3, ..hit };
    check::run(&whole).unwrap_or_else(|error| panic!("{error}"));
    scenario.held();
}
