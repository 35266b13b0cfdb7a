use serde_json::json;
use vfiomux_tests::frontend::Driver;
use vfiomux_tests::scenario::{Answer, Scenario};

/// S12: VM, channel, virtqueue, queue pair, function, namespace can be followed both ways.
#[test]
fn s12_a_channel_is_one_hop_of_a_path() {
    let scenario = Scenario::begin("S12", &["sim:nvme,size=256M"]);
    let mut operator = scenario.operator();
    operator.call("channel.create", scenario.channel("disk", "sim0", 16));
    let mut vm = Driver::connect(&scenario.socket("disk"), 2).expect("the endpoint listens");
    for ring in 0..2 {
        vm.start_ring(ring).expect("the ring starts");
    }
    let path = operator.call("channel.path", json!({ "name": "disk" }));
    assert!(path.get("channel").is("disk"));
    let hops = path.get("hops").items();
    let kind = |hop: &Answer| hop.get("kind").text();
    let next = |hop: &Answer, way: &str| -> Vec<usize> {
        hop.get(way).items().iter().map(|index| usize::try_from(index.number()).expect("an index")).collect()
    };

    let from_vm = follow(&hops, "vmm", |hop| next(hop, "to_device"), kind);
    assert_eq!(from_vm, ["vmm", "endpoint", "virtqueue", "channel", "queue_pair", "function", "namespace"]);
    let mut from_device = follow(&hops, "namespace", |hop| next(hop, "to_vm"), kind);
    from_device.reverse();
    assert_eq!(from_device, from_vm);
    for (index, hop) in hops.iter().enumerate() {
        for to in next(hop, "to_device") {
            assert!(next(&hops[to], "to_vm").contains(&index), "what leads there leads back");
        }
    }
    let function = hops.iter().find(|hop| hop.get("kind").is("function")).expect("it ends in one");
    assert!(function.get("name").is("sim0") && function.get("detail").is_null());
    assert_eq!(hops.iter().filter(|hop| hop.get("kind").is("virtqueue")).count(), 2);
    // The device tells of the channel too.
    let device = operator.call("device.show", json!({ "device": "sim0" }));
    assert_eq!(device.get("channels").raw(), &json!(["disk"]));
    drop(vm);
    scenario.held();
}

/// The kinds of hops on the way from the one of kind `from`, each as near as can be.
fn follow(
    hops: &[Answer],
    from: &str,
    next: impl Fn(&Answer) -> Vec<usize>,
    kind: impl Fn(&Answer) -> String,
) -> Vec<String> {
    let mut at = hops.iter().position(|hop| kind(hop) == from).expect("it is on the path");
    let mut way = vec![kind(&hops[at])];
    while let Some(&to) = next(&hops[at]).first() {
        at = to;
        way.push(kind(&hops[at]));
    }
    way
}
