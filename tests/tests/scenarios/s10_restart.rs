use serde_json::json;
use vfiomux_tests::check::{self, Initial, Options};
use vfiomux_tests::frontend::{Driver, Request};
use vfiomux_tests::scenario::{Operator, Scenario};

const DEVICES: [&str; 1] = ["sim:nvme,size=256M,file=@DIR@/image"];

/// What of a channel must be the same before and after.
const KEPT: [&str; 9] =
    ["name", "id", "tenant", "size_bytes", "queues", "generation", "guarantees", "labels", "extents"];

/// S10, W1: the rebuilt view equals reality; no channel and no I/O lost, whether the daemon ends in order or not.
#[test]
fn s10_the_daemon_restarts_and_crashes() {
    let mut scenario = Scenario::begin("S10", &DEVICES);
    let mut operator = scenario.operator();
    let mut wanted = scenario.channel("data", "sim0", 32);
    wanted["labels"] = json!({ "tier": "gold" });
    operator.call("channel.create", wanted);
    operator.call("channel.create", scenario.channel("idle", "sim0", 16));
    operator.call("channel.tune", json!({ "name": "idle", "guarantees": { "share": 5 } }));
    operator.call("channel.create", scenario.channel("torn", "sim0", 16));

    let memory = scenario.directory().join("memory");
    let mut seed = 1;
    let mut initial = Initial::Zero;
    for crash in [true, false, true] {
        let before = view(&mut operator);
        let last = operator.call("events.list", json!({})).get("last_seq").number();
        // What has been answered is kept, and written down for the check after the restart.
        let options = Options {
            operations: 400,
            span_bytes: 16 << 20,
            seed,
            initial: initial.clone(),
            remember: Some(memory.clone()),
            ..Options::new(scenario.socket("data"))
        };
        check::run(&options).unwrap_or_else(|error| panic!("{error}"));
        seed += 1;
        initial = Initial::Remembered(memory.clone());
        if crash {
            // Another guest is in the middle of something.
            let mut vm = Driver::connect(&scenario.socket("torn"), 1).expect("the endpoint listens");
            vm.start_ring(0).expect("the ring starts");
            scenario.assert_trace();
            vm.request(0, Request::Write, 0, &mut [1; 65536], false);
            vm.publish(0, 0);
            scenario.kill();
        } else {
            scenario.terminate();
        }
        scenario.start(&DEVICES, "");
        operator = scenario.operator();
        assert_eq!(view(&mut operator), before);
        // What happened before is not told any more, and that is said.
        let gap = operator.call("events.list", json!({ "since": 1 })).get("gap");
        assert!(gap.get("first_seq").number() == 2 && gap.get("last_seq").number() >= last);
        // Numbers of events go on, and the new daemon says that it is there.
        let events = operator.call("events.list", json!({ "since": last }));
        let events = events.get("events").items();
        let started = events.iter().find(|event| event.get("object").get("kind").is("daemon"));
        assert!(started.expect("it tells of its start").get("seq").number() > last);
    }
    let options = Options {
        operations: 400,
        span_bytes: 16 << 20,
        seed,
        initial,
        ..Options::new(scenario.socket("data"))
    };
    check::run(&options).unwrap_or_else(|error| panic!("{error}"));
    // Changes from before the crash are still on record.
    let audit = operator.call("audit.list", json!({ "since": 2, "limit": 1 })).get("entries").items();
    assert!(audit[0].get("method").is("channel.tune") && audit[0].get("object").is("channel idle"));
    scenario.held();
}

/// All channels, as far as it is kept.
fn view(operator: &mut Operator) -> Vec<Vec<serde_json::Value>> {
    let channels = operator.call("channel.list", json!({})).items();
    channels.iter().map(|channel| KEPT.map(|field| channel.get(field).raw().clone()).to_vec()).collect()
}
