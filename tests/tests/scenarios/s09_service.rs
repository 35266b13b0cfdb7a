use serde_json::json;
use vfiomux_tests::check::{self, Initial, Options};
use vfiomux_tests::scenario::Scenario;

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
