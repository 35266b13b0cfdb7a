use serde_json::json;
use vfiomux_tests::check::{self, Options};
use vfiomux_tests::scenario::Scenario;

/// Hardware that is unlike: all that can be wished for, large blocks without SGLs, a single queue pair, no bus at all.
const DEVICES: [&str; 4] = [
    "sim:nvme,size=128M",
    "sim:nvme,size=128M,lba=4096,sgl=off,mdts=1,sanitize=off,format=off,zeroes=off",
    "sim:nvme,size=128M,queues=2,vectors=2",
    "ram:size=128M",
];

/// S11: the same request on other hardware means the same by another mechanism, or is refused with what is missing named.
#[test]
fn s11_the_same_request_on_unlike_hardware() {
    let scenario = Scenario::begin("S11", &DEVICES);
    let mut operator = scenario.operator();
    let mut plans = Vec::new();
    for (name, device) in
        [("a", "sim0"), ("b", "sim1"), ("c", "sim2"), ("d", "sim2"), ("e", "sim2"), ("f", "ram0")]
    {
        let made = operator.call("channel.create", scenario.channel(name, device, 16));
        assert_eq!(made.get("size_bytes").number(), 16 << 20, "{device}");
        let plan = made.get("plan");
        assert!(plan.get("data").is("zero_copy"));
        let notes: Vec<_> = plan.get("notes").items().iter().map(|note| note.text()).collect();
        plans.push((device, plan.get("lane").text(), notes));
        let options = Options {
            operations: 300,
            span_bytes: 4 << 20,
            max_bytes: 64 << 10,
            ..Options::new(scenario.socket(name))
        };
        check::run(&options).unwrap_or_else(|error| panic!("{device}: {error}"));
    }
    // Another mechanism is told: where memory is named in pages, and where a queue is shared.
    assert_eq!((plans[0].1.as_str(), plans[0].2.len()), ("own", 0), "{plans:?}");
    assert!(plans[1].2.iter().any(|note| note.contains("pages of")), "{plans:?}");
    let shared = plans.iter().filter(|(_, lane, _)| lane == "shared").count();
    assert!(shared > 0, "two queue pairs do not make three lanes of their own: {plans:?}");
    let device = operator.call("device.show", json!({ "device": "sim1" }));
    assert!(device.get("nvme").get("addressing").is("prp"));
    assert_eq!(device.get("namespaces").items()[0].get("block_bytes").number(), 4096);

    // What this hardware cannot do is refused, and said.
    let mut wanted = scenario.channel("g", "sim1", 16);
    wanted["block_bytes"] = json!(512);
    let refusal = operator.refused("channel.create", wanted, "blocks of 4096 bytes");
    assert!(refusal.get("what").is("block_bytes"));
    operator.refused("channel.create", scenario.channel("h", "ram0", 1024), "ask for less");
    let mut wanted = scenario.channel("i", "sim0", 16);
    wanted["namespace"] = json!(9);
    operator.refused("channel.create", wanted, "no such namespace");
    // And what no hardware makes up for in this version, too.
    for (method, params) in [
        ("channel.migrate", json!({ "name": "a", "to": "elsewhere" })),
        ("channel.snapshot", json!({ "name": "a", "snapshot": "monday" })),
        ("channel.clone", json!({ "name": "a", "new_name": "copy" })),
    ] {
        operator.refused(method, params, "this version of vfiomuxd cannot");
    }
    scenario.held();
}
